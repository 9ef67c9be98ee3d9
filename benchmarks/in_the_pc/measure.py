"""Measures VMs one after the other, again and again, and prints each figure as a line of JSON.

``measure.py PASSES SECONDS``. Runs in the lab PC as root. All VMs are started first and wait while one is measured.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import prepare
from vms import Vm, give_address, ok, started

TOGETHER = {
    "quickemu": ("user", True),
    "emulated": ("network", True),
    "paravirtual": ("network", True),
    "usermode": ("user", False),
    "vf": ("cable", True),
    "nic": ("cable", False),
    "virt-install": ("network", True),
}
"""The VMs that can run at the same time: where their card is plugged in, and whether their disk is measured."""
ALONE = {"nvme": ("", True)}
"""A VM that takes away what the others stand on."""
NETWORK = {"stream": "stream {peer} {s}", "receive": "receive {peer} {s}", "round_trips": "round_trips {peer} {s}"}
EXITS = Path("/sys/kernel/tracing/events/kvm/kvm_exit")
MEMORY = {"AuthenticAMD": {1024}, "GenuineIntel": {48, 49}}
"""Exits of a processor's make for a memory access that KVM or QEMU must carry out: a device's register (AMD, APM volume
2, appendix C: nested page fault; Intel, SDM volume 3, appendix C: EPT violation and misconfiguration)."""
RAW = {"vf", "nvme"}
"""VMs whose disk is the controller: they measure behind the file system that carries the others' images."""
TICK = os.sysconf("SC_CLK_TCK")
MAKE = re.findall(r"vendor_id\s*: (\w+)", Path("/proc/cpuinfo").read_text())[0]


def disk_measures(vm: str, disk: str) -> dict[str, str]:
    """Requests of one size and kind on a disk, past the guest's page cache."""
    first = prepare.REGION_MIB if vm in RAW else 0
    where = f"-o {first}m -S {prepare.IMAGE_MIB}m {disk}"
    return {
        "read_4k": f"requests {{s}} -s 4k {where}",
        "write_4k": f"requests {{s}} -WWW -s 4k {where}",
        "read_256k": f"requests {{s}} -L -s 256k {where}",
        "write_256k": f"requests {{s}} -WWW -L -s 256k {where}",
    }


def processor() -> tuple[float, float]:
    """Seconds that the PC's processor has worked, and of these, for guests (kernel, filesystems/proc, /proc/stat)."""
    user, nice, system, _idle, _wait, irq, softirq, _steal, guest, _gn = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICK, guest / TICK


def exits() -> dict[int, int]:
    """How often guests came back to the host since that is counted, by why (kernel, trace/histogram)."""
    lines = re.findall(r"exit_reason: +(\d+) \} hitcount: +(\d+)", (EXITS / "hist").read_text())
    return {int(reason): int(count) for reason, count in lines}


def figure(vm: Vm, command: str, asked: int) -> dict[str, Any]:
    """What the guest says of one measurement, and what it took of the host meanwhile."""
    before, (busy, guest), began = exits(), processor(), time.monotonic()
    said = {key: float(value) for key, value in vm.serial.ask(command, 120).items()}
    seconds, (busy_after, guest_after), after = time.monotonic() - began, processor(), exits()
    if command.startswith("requests"):
        said = {key: float(value) for key, value in vm.serial.ask("summary", 120).items()}
    return {
        **said,
        "asked": asked,
        "seconds": seconds,
        "busy": busy_after - busy,
        "guest": guest_after - guest,
        "exits": sum(after.values()) - sum(before.values()),
        "traps": sum(after.get(reason, 0) - before.get(reason, 0) for reason in MEMORY[MAKE]),
        "reasons": {reason: count - before.get(reason, 0) for reason, count in after.items()},
    }


def drop_caches() -> None:
    """Empty the PC's page cache: a desktop's image is many times larger than what its memory keeps."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def tell(vm: Vm, what: str, number: int, figures: dict[str, Any]) -> None:
    """Print one measurement."""
    print(json.dumps({"vm": vm.name, "what": what, "pass": number, **figures}), flush=True)


def measure(vm: Vm, disk: bool, number: int, seconds: int) -> None:
    """All measurements of one VM, once."""
    vm.go_on()
    time.sleep(0.5)
    commands = {what: c.format(peer=vm.peer, s=seconds) for what, c in NETWORK.items()} if vm.peer else {}
    if disk:
        commands |= {what: c.format(s=seconds) for what, c in disk_measures(vm.name, vm.disk).items()}
    for what, command in commands.items():
        if what.startswith("read"):
            drop_caches()
        tell(vm, what, number, figure(vm, command, seconds))
    if disk and vm.name not in RAW:
        ok("dd", f"if={prepare.IMAGES / vm.name}.qcow2", "of=/dev/null", "bs=1M", "status=none")
        tell(vm, "warm_4k", number, figure(vm, commands["read_4k"], seconds))
    vm.wait()


def bring(name: str, number: int, where: str) -> Vm:
    """Start a VM; it waits."""
    began = time.monotonic()
    vm = started(name, prepare.IMAGES)
    give_address(vm, number, where)
    vm.wait()
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return vm


def main(passes: int, seconds: int) -> None:
    """Measure, and take all away again."""
    prepare.everything()
    (EXITS / "trigger").write_text("hist:keys=exit_reason\n")
    for places in (TOGETHER, ALONE):
        if places is ALONE:
            prepare.free_the_controller()
        vms: list[Vm] = []
        try:
            for number, (name, (where, _)) in enumerate(places.items(), 10):
                vms.append(bring(name, number, where))
            for number in range(passes):
                for vm in vms:
                    measure(vm, places[vm.name][1], number, seconds)
        finally:
            for vm in vms:
                vm.end()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
