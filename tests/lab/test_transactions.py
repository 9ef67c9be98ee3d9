"""``up`` as a transaction: killed at every step, and started into every fault, on a PC whose state is compared."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from conftest import Pc

pytestmark = [pytest.mark.lab, pytest.mark.parametrize("pc", ["full"], indirect=True, scope="session")]

GPU, GPU_AUDIO, SRIOV_NIC, PLAIN_NIC = "1002:5046", "8086:2668", "8086:10c9", "8086:10d3"
GUEST = "/usr/share/clienthv-lab"
BOOT = ["--kernel", f"{GUEST}/vmlinuz", "--initrd", f"{GUEST}/initrd.img", "--cmdline", "console=ttyS0 quiet"]
MEDDLING = "/run/meddling.py"
PASSED = {"prefer": ["passthrough", "emulated"]}
ROUNDS = 20
VIRTUAL = {"prefer": ["vf", "emulated"]}
# All that a start can change, in one process: the PC's shell needs seconds for it.
STATE = r"""
import glob, os, subprocess

def text(path):
    try:
        return open(path).read().strip()
    except OSError:
        return ""

for function in sorted(glob.glob("/sys/bus/pci/devices/*")):
    driver = os.path.basename(os.path.realpath(f"{function}/driver")) if os.path.exists(f"{function}/driver") else ""
    files = ("driver_override", "sriov_numvfs", "sriov_drivers_autoprobe")
    print(os.path.basename(function), driver, *(text(f"{function}/{file}") for file in files))
    for card in sorted(glob.glob(f"{function}/net/*")):
        print(os.path.basename(function), os.path.basename(card), text(f"{card}/flags"))
ip = subprocess.run(["ip", "-o", "link", "show"], capture_output=True, text=True).stdout
print(*(word for line in ip.splitlines() for word in line.split("\\") if word.strip().startswith("vf ")), sep="\n")
print("vfio_pci", os.path.exists("/sys/module/vfio_pci"))
print("pages", text("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"))
print("vms", subprocess.run(["virsh", "list", "--all", "--name"], capture_output=True, text=True).stdout.split())
print("images", sorted(os.listdir("/var/lib/clienthv/images")) if os.path.exists("/var/lib/clienthv/images") else [])
print("journal", sum(os.path.getsize(f) for f in glob.glob("/var/lib/clienthv/*.jsonl")))
"""
READER = "/run/state.py"


class Before(NamedTuple):
    """What the PC was before a test; what else there is to compare than devices."""

    pc: Pc

    def state(self) -> list[str]:
        """All that a start can change."""
        return self.pc.ok(f"python3 {READER}").splitlines()


@pytest.fixture
def host(pc: Pc) -> Iterator[Before]:
    """The PC; in the end it is what it was, and nothing is left to undo."""
    pc.put((Path(__file__).parent.parent / "meddling.py").read_text(), MEDDLING)
    pc.put(STATE, READER)
    pc.run("modprobe -r vfio_pci")
    before = Before(pc)
    was = before.state()
    yield before
    left = pc.clear()
    now = before.state()
    assert left == []
    assert now == was


def meddled(pc: Pc, what: str, value: str, *arguments: str) -> Any:
    """Run clienthv with something done at one moment."""
    return pc.run(shlex.join(["/opt/clienthv/bin/python", MEDDLING, what, value, *arguments]))


def strategies(pc: Pc, name: str) -> dict[str, str]:
    """What each device of a VM became, by its metadata."""
    (vm,) = json.loads(pc.ok(f"clienthv status {name} --json"))["vms"]
    found: dict[str, str] = vm["strategies"]
    return found


def runs(pc: Pc, name: str) -> bool:
    return pc.run(f"virsh domstate {name}").stdout.strip() == "running"


def gone(pc: Pc, name: str, *more: str) -> None:
    """Stop and forget a VM, and its image."""
    pc.down(name, "--force", *more)
    pc.ok("rm -f /var/lib/clienthv/images/*")


def on_huge_pages(pc: Pc, profile: str) -> None:
    """Let a profile's VMs have their memory on huge pages."""
    pc.ok(f"sed -i 's/^memory = .*/&\\nhugepages = true/' /etc/clienthv/profiles/{profile}.toml")


def tell(capsys: pytest.CaptureFixture[str], words: str) -> None:
    """Say what was seen, also of a test that passes."""
    with capsys.disabled():
        sys.stdout.write(f"\n{words}\n")


# --- killed


@pytest.mark.long
@pytest.mark.parametrize("what", ["kill", "killed-before"])
def test_a_clienthv_that_is_killed_at_any_step_is_undone_by_recover(
    pc: Pc, host: Before, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = pc.profile("killed", gpu=PASSED, nic=VIRTUAL | {"trust": True}, disk={"prefer": ["paravirtual"]})
    on_huge_pages(pc, profile)
    untouched, steps = host.state(), []
    for number in itertools.count(1):
        killed = meddled(pc, what, str(number), "up", profile, "--new-disk", "64 MiB", *BOOT)
        if killed.rc == 0:
            break  # there is no such line: it came to its end
        assert killed.rc in (-9, 137), killed.stdout + killed.stderr
        journal = pc.ok("cat /var/lib/clienthv/*.jsonl").splitlines()
        last = json.loads(journal[-1]) if journal else {}
        steps.append(last.get("change", {}).get("setting", {}).get("what", last.get("event", "")))
        if journal and last["event"] != "started":
            assert "the start of VM killed was cut short; clienthv recover" in pc.ok("clienthv profiles 2>&1")
        recovered = pc.clienthv("recover")
        assert recovered.rc == 0, f"step {number}, {steps[-1]}: {recovered.stdout}{recovered.stderr}"
        if runs(pc, profile):  # killed when all that was left to do was to say so
            gone(pc, profile)
        assert host.state() == untouched, f"step {number}, {steps[-1]}"
    gone(pc, profile)
    tell(capsys, f"{what}: {len(steps)} steps: {' '.join(steps)}")
    wanted = {"link-up", "vf-autoprobe", "create-vfs", "vf-trust", "load-module", "driver", "driver-override", "image",
              "hugepages", "domain"}  # fmt: skip
    assert wanted <= set(steps)


@pytest.mark.long
@pytest.mark.parametrize(("what", "value"), [("kill", "1"), ("killed-before", "2")])
@pytest.mark.parametrize("command", ["recover", "down"])
def test_a_clienthv_that_is_killed_again_and_again_while_it_gives_back_comes_to_the_end(
    pc: Pc, host: Before, command: str, what: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run is killed one line of the journal after the last: at every step of the way back."""
    untouched, devices = host.state(), {"gpu": PASSED, "nic": VIRTUAL | {"trust": True}}
    profile = pc.profile("back", **devices, disk={"prefer": ["paravirtual"]})
    started = [profile, "--new-disk", "64 MiB", *BOOT]
    if command == "down":
        assert pc.clienthv("up", *started).rc == 0
        again = ["down", profile, "--undefine", "--force"]
    else:  # of a start that fails at its end, when all has been made
        assert meddled(pc, "at-define", "kill -9 $PPID; sleep 1", "up", *started).rc in (-9, 137)
        again = ["recover"]
    for number in itertools.count():  # noqa: B007
        done = meddled(pc, what, value, *again)
        if done.rc not in (-9, 137):
            break
    assert done.rc == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    pc.ok("clienthv recover")
    if command == "down":
        pc.ok("rm -f /var/lib/clienthv/images/*")
    assert host.state() == untouched
    tell(capsys, f"{command}, {what}: {number} times")
    assert number >= 5


@pytest.mark.long
def test_the_timer_gives_back_what_a_guest_had_that_ended(pc: Pc, host: Before) -> None:
    untouched = host.state()
    units = Path(__file__).parents[2] / "docs" / "systemd"
    for unit in ("service", "timer"):
        text = (units / f"clienthv-recover.{unit}").read_text()
        pc.put(text.replace("OnBootSec=30s", "OnActiveSec=1s"), f"/run/systemd/system/clienthv-recover.{unit}")
    pc.up(pc.profile("timed", gpu=PASSED, nic=VIRTUAL))
    pc.ok("virsh destroy timed && virsh undefine timed")
    pc.ok("systemctl daemon-reload && systemctl start clienthv-recover.timer")
    try:
        pc.ok("for i in $(seq 120); do [ -s /var/lib/clienthv/*.jsonl ] || exit 0; sleep 1; done; exit 1")
        log = pc.ok("journalctl --no-pager --unit clienthv-recover.service")
    finally:
        pc.ok("systemctl stop clienthv-recover.timer && rm /run/systemd/system/clienthv-recover.*")
        pc.ok("systemctl daemon-reload")
    assert "is 0 again" in log, log
    assert host.state() == untouched


@pytest.mark.long
def test_a_guest_that_ended_or_was_destroyed_by_others_is_cleaned_up_by_status_and_by_recover(
    pc: Pc, host: Before
) -> None:
    untouched = host.state()
    pc.up(pc.profile("ended", gpu=PASSED, nic=VIRTUAL))
    pc.ok("virsh destroy ended")
    said = pc.ok("clienthv status ended 2>&1")
    assert "the number of virtual functions of" in said
    pc.ok("virsh undefine ended")
    assert host.state() == untouched
    pc.up("ended")
    pc.ok("virsh destroy ended")
    pc.ok("virsh undefine ended")
    assert "is 0 again" in pc.ok("clienthv recover")
    assert host.state() == untouched
    assert "nothing to undo" in pc.ok("clienthv recover")
    assert pc.ok("clienthv recover --quiet") == ""


@pytest.mark.parametrize("signal", ["INT", "TERM"])
def test_a_signal_in_the_middle_undoes_everything_before_clienthv_ends(pc: Pc, host: Before, signal: str) -> None:
    untouched = host.state()
    done = meddled(pc, "at-define", f"kill -{signal} $PPID; sleep 1", "up", pc.profile("signalled", nic=VIRTUAL), *BOOT)
    assert done.rc == {"INT": 130, "TERM": 143}[signal], done.stdout + done.stderr
    assert host.state() == untouched


# --- faults


def falls(pc: Pc, command: str, *arguments: str) -> str:
    """Start a VM into a fault, which it survives; what was said."""
    done = meddled(pc, "at-define", command, "up", *arguments, *BOOT)
    assert done.rc == 0, done.stdout + done.stderr
    said = str(done.stderr)
    assert "planning again without that" in said
    return said


def test_a_physical_function_whose_link_goes_down(pc: Pc, host: Before) -> None:
    profile = pc.profile("pf-down", nic=VIRTUAL)
    said = falls(pc, f"ip link set dev {pc.interface(SRIOV_NIC)} down", profile)
    assert "because the PF is not online" in said
    assert "nic0 was to be vf" in said
    assert runs(pc, profile)
    assert strategies(pc, profile)["nic0"] == "emulated"
    pc.down(profile, "--force")


def test_strict_fails_instead_and_leaves_nothing(pc: Pc, host: Before) -> None:
    untouched = host.state()
    profile = pc.profile("strict", nic=VIRTUAL)
    command = f"ip link set dev {pc.interface(SRIOV_NIC)} down"
    done = meddled(pc, "at-define", command, "up", profile, "--strict", *BOOT)
    assert done.rc == 3
    assert "because the PF is not online" in done.stderr
    assert host.state() == untouched


def test_what_is_required_is_not_given_up(pc: Pc, host: Before) -> None:
    untouched = host.state()
    profile = pc.profile("required", nic=VIRTUAL | {"require": ["vf"]})
    done = meddled(pc, "at-define", f"ip link set dev {pc.interface(SRIOV_NIC)} down", "up", profile, *BOOT)
    assert done.rc == 4
    assert "it could not be started with" in done.stderr
    assert host.state() == untouched


@pytest.mark.long
def test_a_virtual_function_that_another_process_takes(pc: Pc, host: Before) -> None:
    profile = pc.profile("vf-taken", nic=VIRTUAL)
    card = f"/sys/bus/pci/devices/{pc.function(SRIOV_NIC)}"
    take = (
        f"v=$(basename $(readlink {card}/virtfn0)); echo vfio-pci > {card}/virtfn0/driver_override; "
        f"echo $v > /sys/bus/pci/drivers_probe; g=$(basename $(readlink {card}/virtfn0/iommu_group)); "
        "exec 9<>/dev/vfio/$g; sleep 600 <&9 >/dev/null 2>&1 & echo $! > /run/taker; sleep 1"
    )
    said = falls(pc, take, profile)
    assert re.search(r"in use|busy", said), said
    assert strategies(pc, profile)["nic0"] == "vf", "the next function of the card is as good"
    pc.ok("kill $(cat /run/taker)")
    pc.down(profile, "--force")
    pc.ok("clienthv recover")


def test_a_member_of_the_group_that_goes_back_to_its_driver_is_taken_again(pc: Pc, host: Before) -> None:
    profile = pc.profile("bound-back", gpu=PASSED)
    audio = pc.function(GPU_AUDIO)
    done = meddled(pc, "at-define", f"echo {audio} > /sys/bus/pci/drivers/snd_hda_intel/bind", "up", profile, *BOOT)
    assert done.rc == 0, done.stdout + done.stderr
    assert strategies(pc, profile)["gpu0"] == "passthrough"
    assert pc.driver(audio) == "vfio-pci"
    assert "reset-unknown" in done.stdout, "a device that the kernel lists no reset for runs, with a warning"
    pc.down(profile, "--force")


def test_a_device_whose_reset_methods_are_taken_away_runs_with_a_warning(pc: Pc, host: Before) -> None:
    untouched = host.state()
    address = pc.function(PLAIN_NIC)
    method = f"/sys/bus/pci/devices/{address}/reset_method"
    assert pc.ok(f"cat {method}").strip(), "there is one to take away"
    profile = pc.profile("no-reset", nic={"prefer": ["passthrough", "emulated"], "select": [address]})
    for command, warned in ((f"echo > {method}", False), ("true", True)):  # between plan and start; before the plan
        done = meddled(pc, "at-define", command, "up", profile, *BOOT)
        assert done.rc == 0, done.stdout + done.stderr
        assert ("reset-unknown" in done.stdout) is warned, done.stdout
        assert strategies(pc, profile)["nic0"] == "passthrough"
        assert pc.driver(address) == "vfio-pci"
        pc.down(profile, "--force")
    pc.ok(f"echo default > {method}")
    assert host.state() == untouched


def test_a_device_that_is_removed_between_plan_and_start(pc: Pc, host: Before) -> None:
    profile = pc.profile("removed", nic={"prefer": ["passthrough", "emulated"], "select": [pc.function(PLAIN_NIC)]})
    address = pc.function(PLAIN_NIC)
    said = falls(pc, f"echo 1 > /sys/bus/pci/devices/{address}/remove", profile)
    assert address in said
    assert strategies(pc, profile)["nic0"] == "emulated"
    pc.down(profile, "--force")
    pc.ok("echo 1 > /sys/bus/pci/rescan; udevadm settle")


def test_libvirtd_that_is_killed_during_the_start(pc: Pc, host: Before) -> None:
    profile = pc.profile("daemon-killed", gpu=PASSED)
    command = "(sleep 2; pkill -9 -x libvirtd) >/dev/null 2>&1 &"
    done = meddled(pc, "at-define", command, "up", profile, *BOOT)
    assert done.rc == 0, done.stdout + done.stderr
    assert "starting again" in done.stderr
    assert strategies(pc, profile)["gpu0"] == "passthrough"
    pc.down(profile, "--force")


def test_qemu_that_is_killed_at_its_start(pc: Pc, host: Before) -> None:
    untouched = host.state()
    profile = pc.profile("qemu-killed", gpu=PASSED)
    pid = "/run/libvirt/qemu/qemu-killed.pid"
    wait = f"until [ -s {pid} ]; do sleep 0.1; done; kill -9 $(cat {pid})"
    done = meddled(pc, "at-define", f"({wait}) >/dev/null 2>&1 &", "up", profile, *BOOT)
    assert done.rc != 0, done.stdout
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert host.state() == untouched


@pytest.mark.long
def test_huge_pages_that_are_gone(pc: Pc, host: Before) -> None:
    profile = pc.profile("no-pages")
    on_huge_pages(pc, profile)
    pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    with_pages = pc.up(profile)
    assert "make 128 huge pages of 2048 KiB" in with_pages
    assert pc.domain(profile).find("memoryBacking/hugepages") is not None
    pc.down(profile, "--force")
    said = falls(pc, f"echo 0 > {pages}", profile)
    assert "huge pages" in said
    assert pc.domain(profile).find("memoryBacking/hugepages") is None
    pc.down(profile, "--force")


@pytest.mark.long
def test_a_daemon_that_may_lock_too_little_memory(pc: Pc, host: Before) -> None:
    profile = pc.profile("memlock", gpu=PASSED)
    folder, again = "/run/systemd/system/libvirtd.service.d", "systemctl daemon-reload; systemctl restart libvirtd"
    limits = "[Service]\\nCapabilityBoundingSet=~CAP_SYS_RESOURCE CAP_IPC_LOCK\\nLimitMEMLOCK=64K\\n"
    pc.ok(f"mkdir -p {folder}; printf '{limits}' > {folder}/lab.conf; {again}")
    try:
        done = pc.clienthv("up", profile, *BOOT)
        assert done.rc == 0, done.stdout + done.stderr
        assert "lock" in done.stderr
        assert "planning again without that" in done.stderr
        assert strategies(pc, profile)["gpu0"] == "emulated"
        pc.down(profile, "--force")
    finally:
        pc.ok(f"rm {folder}/lab.conf; {again}")


def test_a_disk_that_is_full_while_an_image_is_made(pc: Pc, host: Before) -> None:
    untouched = host.state()
    pc.ok("mkdir -p /run/small; mount -t tmpfs -o size=64k none /run/small")
    try:
        profile = pc.profile("full-disk", gpu=PASSED, disk={"prefer": ["paravirtual"]})
        done = pc.clienthv("up", profile, "--disk", "/run/small/x.qcow2", "--new-disk", "64 MiB", *BOOT)
        assert done.rc == 9, done.stdout + done.stderr
        assert "No space left on device" in done.stderr
        assert pc.ok("ls -A /run/small") == ""
    finally:
        pc.ok("umount /run/small")
    assert host.state() == untouched


@pytest.mark.long
def test_a_kvm_that_goes_away(pc: Pc, host: Before) -> None:
    profile = pc.profile("no-kvm")
    try:
        said = falls(pc, "modprobe -r kvm_amd", profile)
    finally:
        pc.ok("modprobe kvm_amd")
    assert "kvm" in said.lower()
    assert strategies(pc, profile)["cpu0"] == "binary-translation"
    pc.down(profile, "--force")


@pytest.mark.long
def test_a_uefi_firmware_that_is_described_and_not_there(pc: Pc, host: Before) -> None:
    described = {
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash", "mode": "split",
            "executable": {"filename": "/usr/share/OVMF/OVMF_CODE.fd", "format": "raw"},
            "nvram-template": {"filename": "/usr/share/OVMF/OVMF_VARS.fd", "format": "raw"},
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": [], "tags": [], "description": "a firmware that is not there",
    }  # fmt: skip
    pc.ok("mkdir -p /etc/qemu/firmware")
    pc.put(json.dumps(described), "/etc/qemu/firmware/50-lab.json")
    pc.ok("systemctl restart libvirtd")
    try:
        profile = pc.profile("no-ovmf", firmware={"prefer": ["uefi", "bios"]})
        done = pc.clienthv("up", profile, *BOOT)
        assert done.rc == 0, done.stdout + done.stderr
        assert "planning again without that" in done.stderr
        assert strategies(pc, profile)["firmware0"] == "bios"
        pc.down(profile, "--force")
    finally:
        pc.ok("rm -r /etc/qemu/firmware; systemctl restart libvirtd")


def test_an_image_that_another_program_has_open(pc: Pc, host: Before) -> None:
    image = "/var/lib/clienthv/locked.qcow2"
    pc.ok(f"mkdir -p /var/lib/clienthv; qemu-img create -q -f qcow2 {image} 64M")
    untouched = host.state()
    pc.ok(f"qemu-io -c 'sleep 120000' {image} > /dev/null 2>&1 & echo $! > /run/holder; sleep 2")
    try:
        profile = pc.profile("locked", gpu=PASSED, disk={"prefer": ["paravirtual"]})
        done = pc.clienthv("up", profile, "--disk", image, *BOOT)
        assert done.rc == 9, done.stdout + done.stderr
        assert "another program or VM has the image open" in done.stderr
        assert host.state() == untouched
    finally:
        pc.ok(f"kill $(cat /run/holder); rm {image}")


@pytest.mark.long
def test_a_driver_that_does_not_let_go_is_told_with_who_holds_it(pc: Pc, host: Before) -> None:
    """snd_card_free waits for the last file on the card (kernel, sound/core/init.c)."""
    untouched = host.state()
    profile = pc.profile("held", gpu=PASSED)
    card = pc.ok(f"ls /sys/bus/pci/devices/{pc.function(GPU_AUDIO)}/sound").strip().removeprefix("card")
    # Opened between the plan and the unbinding: the plan itself refuses what is open.
    hold = f"sleep 600 < /dev/snd/controlC{card} > /dev/null 2>&1 & echo $! > /run/holder; sleep 1"
    try:
        done = meddled(pc, "at-hand-over", hold, "up", profile, *BOOT)
        assert done.rc == 0, done.stdout + done.stderr
        told = r"the kernel did not finish within 20 s; it was held by sleep \(process \d+: /dev/snd/control"
        assert re.search(told, done.stderr), done.stderr
        assert strategies(pc, profile)["gpu0"] == "emulated"
        pc.down(profile, "--force")
        still = pc.clienthv("recover")
        assert still.rc == 3, still.stdout + still.stderr
    finally:
        pc.ok("kill $(cat /run/holder); sleep 1")
    pc.ok("clienthv recover")
    assert host.state() == untouched


# --- several at once


@pytest.mark.long
def test_of_two_starts_at_one_moment_one_has_the_device_and_the_other_runs_without(
    pc: Pc, host: Before, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty rounds: two of root's, who wait for each other; and one of root's and one of a user's, who do not."""
    wants = {"gpu": PASSED}
    for name in ("red", "blue"):
        pc.profile(name, **wants)
    pc.ok("usermod -aG libvirt vagrant")
    owners = {"red": 0, "blue": 0}
    boot = shlex.join(BOOT)
    for number in range(ROUNDS):
        who = "sudo -u vagrant " if number % 2 else ""
        done = pc.run(
            f"clienthv up red {boot} > /run/red 2>&1 & a=$!; {who}clienthv up blue {boot} > /run/blue 2>&1 & b=$!; "
            "wait $a; x=$?; wait $b; echo $x $?"
        )
        said = pc.ok("cat /run/red /run/blue")
        assert done.stdout.split() == ["0", "0"], said
        assert runs(pc, "red"), said
        assert runs(pc, "blue"), said
        given = {name: pc.domain(name).find("devices/hostdev") is not None for name in owners}
        assert sum(given.values()) == 1, f"round {number}: {given}\n{said}"
        owners[next(name for name, has in given.items() if has)] += 1
        for name in ("blue", "red"):
            pc.down(name, "--force")
    tell(capsys, f"of {ROUNDS} rounds: {owners}")


@pytest.mark.long
def test_ten_starts_at_once_on_the_system_connection(pc: Pc, host: Before) -> None:
    profile = pc.profile("crowd")
    pc.ok(f"sed -i 's/256 MiB/96 MiB/' /etc/clienthv/profiles/{profile}.toml")  # the PC has room for ten of these
    boot = shlex.join(BOOT)
    starts = "; ".join(f"clienthv up crowd --name c{n} {boot} > /run/c{n} 2>&1 & p{n}=$!" for n in range(10))
    waits = "; ".join(f"wait $p{n}; echo $?" for n in range(10))
    done = pc.run(f"{starts.replace('; ', chr(10))}\n{waits}")
    assert done.stdout.split() == ["0"] * 10, pc.ok("cat /run/c?")
    assert sorted(pc.ok("virsh list --name").split()) == [f"c{n}" for n in range(10)]
    for n in range(10):
        pc.down(f"c{n}", "--force")


# --- while it runs


def test_devices_are_attached_to_a_running_vm_and_given_back(pc: Pc, host: Before) -> None:
    untouched = host.state()
    profile = pc.profile("hot", usb={"prefer": ["emulated"]})
    pc.up(profile)
    pc.guest(profile)  # it runs, and can let go of a device
    # A guest whose console was read and is not read any more waits for its reader, with all it does.
    pc.ok("timeout 900 cat $(virsh ttyconsole hot) > /dev/null 2>&1 &")
    running = host.state()
    plain = pc.function(PLAIN_NIC)
    assert f"VM hot has {plain}" in pc.ok(f"clienthv attach hot {plain}")
    assert pc.driver(plain) == "vfio-pci"
    assert "82576 Virtual Function" in pc.ok("clienthv attach hot nic")
    assert "46f4:0001" in pc.ok("clienthv attach hot 46f4:0001")
    (vm,) = json.loads(pc.ok("clienthv status hot --json"))["vms"]
    assert [(d["kind"], d["strategy"]) for d in vm["attached"]] == [
        ("nic", "passthrough"), ("nic", "vf"), ("usb-device", "passthrough"),
    ]  # fmt: skip
    taken = pc.clienthv("attach", "hot", plain)
    assert (taken.rc, "[used-by-vm]" in taken.stderr) == (4, True), taken.stderr
    boots = pc.clienthv("attach", "hot", pc.function("1234:1111"))
    assert (boots.rc, "[boot-display]" in boots.stderr) == (4, True), boots.stderr
    assert "[no-guest-driver]" in boots.stderr
    assert "--allow" not in boots.stderr, "it would not help"
    for what in ("nic", plain, "46f4:0001"):
        pc.ok(f"clienthv detach hot {what} --timeout 120")
    pc.ok("udevadm settle")
    after = host.state()
    of_the_vm = ("vfio_pci", "journal")  # the module stays until it stops
    assert [line for line in after if not line.startswith(of_the_vm)] == [
        line for line in running if not line.startswith(of_the_vm)
    ]
    pc.ok("clienthv attach hot nic")
    pc.down("hot", "--force")
    assert host.state() == untouched


@pytest.mark.long
def test_a_clienthv_that_is_killed_while_it_attaches_leaves_nothing_for_recover_to_miss(pc: Pc, host: Before) -> None:
    profile = pc.profile("hot-killed")
    pc.up(profile)
    running = host.state()
    for number in itertools.count(1):
        killed = meddled(pc, "kill", str(number), "attach", profile, "nic")
        if killed.rc == 0 or "started" in pc.ok("tail -n 1 /var/lib/clienthv/*.jsonl"):
            break
        pc.ok("clienthv recover")
        assert host.state() == running, f"step {number}"
    assert number > 4
    pc.down(profile, "--force")
