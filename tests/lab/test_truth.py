"""Every PCI device of the lab PC: what `clienthv devices` says of it, against what happens when a guest is given it.

Nothing of clienthv takes part in the giving: the domain is written here and started by virsh. A verdict of no that
rests on what the host needs is tested by taking the device away all the same, and looking at what the host loses.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import lab
import pytest

if TYPE_CHECKING:
    from conftest import Pc

pytestmark = [
    pytest.mark.lab,
    pytest.mark.long,
    pytest.mark.parametrize("pc", ["full"], indirect=True, scope="session"),
]

TABLE = Path(__file__).resolve().parents[2] / "docs/reference/lab-truth-table.md"
HEAD = """# The truth table

For every PCI device of the [lab PC](../explanation/lab.md): what `clienthv devices` says, and what happened when virsh
gave the device to a guest. Where the answer is no because the host needs the device, the last column is what the host
lost. Written by the lab's tests (`pytest -m lab tests/lab/test_truth.py --regen`), which fail when anything differs.

| device | ids | can a guest get it? | given to a guest all the same |
|---|---|---|---|
"""

# What the PC has, in the order of the tests: the last takes the PC's disk away.
ENDPOINTS = {
    "8086:10c9": "SR-IOV network card",
    "8086:10d3": "second network card",
    "8086:100e": "network card behind the bridge",
    "8086:2415": "sound card behind the bridge",
    "1002:5046": "spare graphics card",
    "8086:2668": "its audio function",
    "1b36:0010": "NVMe controller",
    "8086:2922": "SATA controller of the chipset",
    "8086:2930": "SMBus controller of the chipset",
    "1af4:1043": "virtio console (Vagrant's agent channel)",
    "8086:10ca": "virtual function of the network card",
    "1b36:0010 VF": "virtual function of the NVMe controller",
    "8086:10c9 PF": "SR-IOV network card that has virtual functions",
    "1234:1111": "boot display",
    "1b36:000d": "USB controller with the only keyboard",
    "1af4:1041": "network card that carries the default route",
    "1af4:1042": "root disk",
}
WITHOUT_VFS = [e for e in ENDPOINTS if not e.endswith((" VF", " PF")) and e != "8086:10ca"]
rows: dict[str, str] = {}


class Device(NamedTuple):
    """One function and what the product says of it."""

    address: str
    verdict: dict[str, Any]

    @property
    def functions(self) -> list[str]:
        return [self.address, *self.verdict["along"]]

    @property
    def reasons(self) -> list[str]:
        return sorted({o["reason"] for o in self.verdict["objections"]})


def judged(pc: Pc) -> dict[str, dict[str, Any]]:
    """The product's verdicts on the PC as it is now."""
    return {d["address"]: d for d in json.loads(pc.ok("clienthv devices --json"))["devices"]}


def ids_of(pc: Pc, address: str) -> str:
    return pc.ok(f"lspci -D -n -s {address}").split()[2]


def find(pc: Pc, endpoint: str) -> Device:
    """The device that a row is about."""
    ids, _, which = endpoint.partition(" ")
    found = [line.split()[0] for line in pc.ok(f"lspci -D -n -d {ids}").splitlines()]
    virtual = {a for a in found if pc.host.file(f"/sys/bus/pci/devices/{a}/physfn").exists}
    wanted = [a for a in found if (a in virtual) == (which == "VF" or ids == "8086:10ca")]
    return Device(wanted[0], judged(pc)[wanted[0]])


def give(pc: Pc, device: Device) -> tuple[bool, str]:
    """Give the functions to a guest: whether it has them, and what was seen."""
    created = pc.give("truth", device.functions)
    if created.rc != 0:
        words = re.sub("^.*(?=vfio [0-9a-f]{4}:)", "", " ".join(created.stderr.split()))
        return False, f"refused: {re.sub('group [0-9]+ is', 'its group is', words)}"
    try:
        report = pc.guest("truth")
        wanted = {ids_of(pc, a) for a in device.functions}
        assert wanted <= set(report.pci), f"started, but the guest sees {report.pci}"
        drivers = ", ".join(f"{ids} ({report.pci[ids]})" for ids in sorted(wanted))
        return True, f"the guest has {drivers.replace('(-)', '(no driver in this guest)')}"
    finally:
        pc.ok("virsh destroy truth")
        pc.ok("udevadm settle")


def record(endpoint: str, device: Device, seen: str) -> None:
    """Keep a row of the table."""
    why = ", ".join(f"`{r}`" for r in device.reasons)
    answer = {"yes": "yes", "yes-with": "yes, with its group or card", "no": f"no: {why}"}[device.verdict["verdict"]]
    rows[endpoint] = f"| {ENDPOINTS[endpoint]} | {endpoint.split()[0]} | {answer} | {seen} |"


def agree(pc: Pc, endpoint: str) -> None:
    """Yes means that the guest has it; no, here, that libvirt, the kernel or QEMU refuses it."""
    device = find(pc, endpoint)
    has_it, seen = give(pc, device)
    record(endpoint, device, seen)
    assert has_it == (device.verdict["verdict"] != "no"), f"{device.verdict} but {seen}"


def test_the_table_has_every_device(pc: Pc) -> None:
    addresses = judged(pc)
    assert {ids_of(pc, address) for address in addresses} == {e.split()[0] for e in WITHOUT_VFS}
    bridges = pc.ok("lspci -D -n -d ::0600; lspci -D -n -d ::0601; lspci -D -n -d ::0604").splitlines()
    assert len(addresses) + len(bridges) == len(pc.ok("lspci -D -n").splitlines())


@pytest.mark.parametrize("endpoint", WITHOUT_VFS[:-4], ids=lambda e: ENDPOINTS[e])
def test_the_verdict_is_what_happens(pc: Pc, untouched: Callable[[], list[str]], endpoint: str) -> None:
    agree(pc, endpoint)


@pytest.fixture
def with_virtual_functions(pc: Pc) -> Iterator[None]:
    """One virtual function on each card that can have some, made by hand and left without a driver."""
    interface = pc.interface("8086:10c9")
    cards = [f"/sys/bus/pci/devices/{pc.function(ids)}" for ids in ("8086:10c9", "1b36:0010")]
    pc.ok(f"ip link set {interface} up")
    for card in cards:
        pc.ok(f"echo 0 > {card}/sriov_drivers_autoprobe && echo 1 > {card}/sriov_numvfs")
    pc.ok("udevadm settle")
    yield
    for card in cards:
        pc.ok(f"echo 0 > {card}/sriov_numvfs; echo 1 > {card}/sriov_drivers_autoprobe")
    pc.ok("udevadm settle")
    interface = pc.interface("8086:10c9")
    pc.ok(f"ip link set {interface} down")


@pytest.mark.usefixtures("untouched", "with_virtual_functions")
@pytest.mark.parametrize("endpoint", ["8086:10ca", "1b36:0010 VF"], ids=lambda e: ENDPOINTS[e])
def test_the_verdict_on_a_virtual_function_is_what_happens(pc: Pc, endpoint: str) -> None:
    agree(pc, endpoint)


@pytest.mark.usefixtures("untouched", "with_virtual_functions")
def test_a_card_that_has_virtual_functions_loses_them(pc: Pc) -> None:
    device = find(pc, "8086:10c9 PF")
    assert "is-physical-function" in device.reasons
    give(pc, device)
    assert pc.ok("lspci -n -d 8086:10ca") == ""
    record("8086:10c9 PF", device, "its virtual functions vanish")


def test_the_boot_display_goes_dark(pc: Pc, untouched: Callable[[], list[str]]) -> None:
    device = find(pc, "1234:1111")
    assert {"boot-display"} <= set(device.reasons)
    pc.ok("test -e /dev/dri/card0 && test -e /dev/fb0")
    assert pc.give("truth", [device.address]).rc == 0
    lost = not pc.host.file("/dev/dri/card0").exists and not pc.host.file("/dev/fb0").exists
    pc.ok("virsh destroy truth && udevadm settle")
    assert lost
    record("1234:1111", device, "the host has no screen left (no /dev/fb0, no DRM card)")


def test_the_only_keyboard_is_gone(pc: Pc, untouched: Callable[[], list[str]]) -> None:
    device = find(pc, "1b36:000d")
    assert {"host-input"} <= set(device.reasons)
    assert "Keyboard" in pc.ok("cat /proc/bus/input/devices")
    assert pc.give("truth", [device.address]).rc == 0
    left = pc.ok("cat /proc/bus/input/devices")
    pc.ok("virsh destroy truth && udevadm settle")
    pc.ok("udevadm wait --timeout=30 /dev/sda")
    assert "Keyboard" not in left
    record("1b36:000d", device, "the host has no keyboard left")


def test_the_default_route_is_gone(pc: Pc, untouched: Callable[[], list[str]]) -> None:
    device = find(pc, "1af4:1041")
    assert {"default-route", "network-in-use"} <= set(device.reasons)
    xml = pc.put(pc.with_functions("truth", [device.address]), "/run/truth.xml")
    # By a unit of its own: the connection that asks for it is cut.
    steps = f"virsh create {xml}; ip route show default > /run/routes; virsh destroy truth; touch /run/truth-over"
    pc.ok("rm -f /run/truth-over && ip route show default | grep -q .")
    pc.ok(f"systemd-run --quiet --collect sh -c {shlex.quote(steps)}")
    wait_for(lambda: lab.ssh("test", "-e", "/run/truth-over").returncode == 0, 120)
    assert pc.ok("cat /run/routes") == ""
    wait_for(lambda: "default" in pc.ok("ip route"), 60)
    record("1af4:1041", device, "the host's default route is gone, and with it every connection")


def test_the_root_disk_is_gone(pc: Pc) -> None:
    """The last: this PC does not survive it."""
    device = find(pc, "1af4:1042")
    assert {"mounted-disk"} <= set(device.reasons)
    xml = pc.put(pc.with_functions("truth", [device.address]), "/run/truth.xml")
    console = lab.PC / "console.log"
    before = console.stat().st_size
    lab.STATE.unlink()  # whoever needs a PC next gets a new one
    lab.ssh("sudo", "systemd-run", "--quiet", "--collect", "virsh", "create", xml)

    def said() -> str:
        with console.open(errors="replace") as f:
            f.seek(before)
            return f.read()

    wait_for(
        lambda: re.search(r"EXT4-fs.*error|I/O error.*vda|Remounting filesystem read-only", said()) is not None, 240
    )
    record("1af4:1042", device, "the host's root file system fails with I/O errors")


def test_the_table_is_complete_and_as_documented(pc: Pc, golden: Callable[[Path, bytes], None]) -> None:
    assert list(ENDPOINTS) == [e for e in ENDPOINTS if e in rows], "run the whole file"
    golden(TABLE, (HEAD + "\n".join(rows[e] for e in ENDPOINTS) + "\n").encode())


def wait_for(met: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition is met; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)
