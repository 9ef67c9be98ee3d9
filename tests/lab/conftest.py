"""The lab PC, brought up in the variant a test asks for, and looked at through testinfra, never by clienthv alone."""

from __future__ import annotations

import json
import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lab
import pytest
import testinfra
from _pytest.runner import runtestprotocol
from folder import locked
from lxml import etree

SMALL = {kind: {"prefer": ["omit"]} for kind in ("gpu", "nic", "disk", "audio", "usb", "input", "tpm", "display")}
GUEST = "/usr/share/clienthv-lab"
READ_STATE = r"""
for d in /sys/bus/pci/devices/*; do
    a=$(basename $d)
    echo "$a driver $(basename "$(readlink $d/driver)")"
    echo "$a driver_override $(cat $d/driver_override)"
    for f in sriov_numvfs sriov_drivers_autoprobe; do [ -e $d/$f ] && echo "$a $f $(cat $d/$f)"; done
    for n in $d/net/*; do [ -e $n ] && echo "$a $(basename $n) flags $(cat $n/flags)"; done
    for n in $d/net/*; do [ -e $n ] && ip -o link show $(basename $n) | grep -o 'vf [0-9].*'; done
done
true
"""


class SilentGuest(UserWarning):
    """A guest that hung while it started."""


class Report:
    """What the small guest said it sees, once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = [line.removeprefix("guest: ") for line in text.splitlines() if line.startswith("guest: ")]

    def of(self, what: str) -> list[str]:
        """The lines on one subject, without its name."""
        return [line.removeprefix(f"{what} ") for line in self.lines if line.startswith(f"{what} ")]

    @property
    def pci(self) -> dict[str, str]:
        """The driver of each PCI function, by vendor and device id."""
        found = (re.fullmatch(r"(\S+) class \S+ driver (\S+)", line) for line in self.of("pci"))
        return {m[1]: m[2] for m in found if m}


class Pc:
    """The lab PC as root sees it over ssh."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.host = testinfra.get_host(f"ssh://lab?ssh_config={lab.SSH_CONFIG}&sudo=true&timeout=60")

    def run(self, command: str) -> Any:
        """Run a shell command; what testinfra tells of it."""
        return self.host.run(command)

    def ok(self, command: str) -> str:
        """What a command that must succeed prints."""
        done = self.run(command)
        assert done.rc == 0, f"{command}\n{done.stdout}{done.stderr}"
        return str(done.stdout)

    def clienthv(self, *arguments: str) -> Any:
        """Run clienthv."""
        return self.run(shlex.join(["clienthv", *arguments]))

    def profile(self, name: str, **devices: dict[str, Any]) -> str:
        """Write a profile of a guest that is small and has these devices alone; its name."""
        lines = ["schema = 1", "[guest]", 'drivers = ["virtio", "amd"]', "[size]", "vcpus = 1", 'memory = "256 MiB"']
        tables = SMALL | {"firmware": {"prefer": ["bios"]}} | {k.replace("_", "-"): v for k, v in devices.items()}
        for kind, values in tables.items():
            lines += [f"[devices.{kind}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        self.ok("mkdir -p /etc/clienthv/profiles")
        self.put("\n".join(lines) + "\n", f"/etc/clienthv/profiles/{name}.toml")
        return name

    def up(self, profile: str, *more: str, work: str = "") -> str:
        """Start the small guest as a VM of its profile's name, with work to do; what up printed."""
        boot = ["--kernel", f"{GUEST}/vmlinuz", "--initrd", f"{GUEST}/initrd.img"]
        boot += ["--cmdline", f"console=ttyS0 quiet {work}".strip()]
        done = self.clienthv("up", profile, *boot, *more)
        assert done.rc == 0, done.stdout + done.stderr
        return str(done.stdout)

    def down(self, name: str, *more: str) -> str:
        """Stop a VM and forget it; what down printed. A guest that has not reported yet is deaf: it needs --force."""
        done = self.clienthv("down", name, "--undefine", *more)
        assert done.rc == 0, done.stdout + done.stderr
        return str(done.stdout)

    def put(self, text: str, path: str) -> str:
        """Write a file in the PC; its path."""
        self.ok(f"printf %s {shlex.quote(text)} > {path}")
        return path

    def plan(self, profile: str) -> dict[str, Any]:
        """The plan document of a profile: its decisions by the kind of device."""
        plan = json.loads(self.ok(f"clienthv plan {profile} --json"))
        return {decision["kind"]: decision for decision in plan["decisions"]}

    def domain(self, name: str) -> etree._Element:
        """A VM's definition, by virsh."""
        return etree.fromstring(self.ok(f"virsh dumpxml {name}"))

    def guest(self, name: str, seconds: int = 70) -> Report:
        """The next whole report on a VM's serial port.

        In software emulation a guest's first seconds now and then hang, on whatever hardware: a silent guest is reset,
        twice at most, and that is told.
        """
        pty = self.ok(f"virsh ttyconsole {name}").strip()
        script = f"stty -F {pty} raw; timeout {seconds} sed -n '/guest: begin/,/guest: end/p;/guest: end/q' < {pty}"
        for resets in range(3):
            text = self.run(script).stdout.replace("\r", "")
            if "guest: end" in text:
                return Report(text)
            assert self.ok(f"virsh domstate {name}").strip() == "running"
            warnings.warn(SilentGuest(f"{name} said {text!r} within {seconds} s; reset {resets + 1}"), stacklevel=2)
            self.ok(f"virsh reset {name}")
        message = f"{name} is silent after two resets"
        raise AssertionError(message)

    def with_functions(self, name: str, addresses: list[str], domain_type: str = "kvm") -> str:
        """A domain for the small guest with these functions of the PC: written here, without clienthv."""
        given = "".join(
            "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
            "<address domain='0x{}' bus='0x{}' slot='0x{}' function='0x{}'/></source></hostdev>".format(
                *re.split("[:.]", address)
            )
            for address in addresses
        )
        return (
            f"<domain type='{domain_type}'><name>{name}</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
            f"<os><type machine='q35'>hvm</type><kernel>{GUEST}/vmlinuz</kernel>"
            f"<initrd>{GUEST}/initrd.img</initrd><cmdline>console=ttyS0 quiet</cmdline></os>"
            f"<features><acpi/><apic/></features><devices><controller type='usb' model='none'/>"
            f"<memballoon model='none'/><serial type='pty'/><console type='pty'/>{given}</devices></domain>"
        )

    def give(self, name: str, addresses: list[str], domain_type: str = "kvm") -> Any:
        """Start such a domain by virsh; what testinfra tells of it."""
        return self.run(f"virsh create {self.put(self.with_functions(name, addresses, domain_type), '/run/give.xml')}")

    def clear(self) -> list[str]:
        """Stop and forget every VM; the names of those that were left."""
        left: list[str] = self.ok("virsh list --all --name").split()
        for name in left:
            self.clienthv("down", name, "--undefine", "--force")
        return left

    def state(self) -> list[str]:
        """All that a VM could change about the PC's devices: drivers, overrides, virtual functions, links."""
        return self.ok(f"sh -c {shlex.quote(READ_STATE)}").splitlines()

    def function(self, ids: str) -> str:
        """The address of the one function with these ids: addresses differ between set-ups."""
        found = self.ok(f"lspci -D -n -d {ids}").splitlines()
        assert len(found) == 1, found
        return found[0].split()[0]

    def interface(self, ids: str) -> str:
        """The network interface of the one function with these ids."""
        return self.ok(f"ls /sys/bus/pci/devices/{self.function(ids)}/net").strip()

    def first_mib(self, disk: str) -> str:
        """The SHA-256 of a disk's first MiB, read past the cache."""
        return self.ok(f"dd if={disk} bs=64k count=16 iflag=direct status=none | sha256sum").split()[0]

    def driver(self, address: str) -> str:
        """The driver bound to a function, by sysfs; "" for none."""
        link = self.host.file(f"/sys/bus/pci/devices/{address}/driver")
        return link.linked_to.rsplit("/", 1)[-1] if link.exists else ""


LEFT_TO_LAB_TEST = ("iommu-off", "no-intremap", "no-svm")
"""Variants that CI has no time to bring up: what runs on them is marked long."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on such a variant, before what is marked is deselected."""
    for item in items:
        call = getattr(item, "callspec", None)
        if call is not None and call.params.get("pc") in LEFT_TO_LAB_TEST:
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test again, once and on a new PC, when it failed because the emulated PC restarted or stopped.

    Software emulation of nested virtualization does that to a PC now and then. It is told in the summary.
    """
    if "pc" not in getattr(item, "fixturenames", ()):
        return None
    boot = boot_id() if lab.STATE.exists() else ""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if boot and any(r.failed for r in reports) and boot_id() != boot:
        item.config.issue_config_time_warning(UserWarning(f"the PC restarted during {item.name}: run 2, reset 1"), 2)
        lab.down()
        lab.up(item.callspec.params["pc"])  # type: ignore[attr-defined]
        item._initrequest()  # type: ignore[attr-defined] # as pytest-rerunfailures does
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def boot_id() -> str:
    """Which start of the PC this is; "" when it does not answer."""
    return lab.ssh("cat", "/proc/sys/kernel/random/boot_id").stdout.strip()


@pytest.fixture(scope="session")
def _the_lab() -> Iterator[None]:
    with locked("the lab's tests"):
        was_up = lab.STATE.exists()
        yield
        if not (was_up or os.environ.get("LAB_KEEP")):
            lab.down()


@pytest.fixture(scope="session")
def pc(_the_lab: None, request: pytest.FixtureRequest) -> Pc:
    """The lab PC in the variant that the test's parameter names."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        lab.up(request.param)
    return Pc(request.param)


@pytest.fixture
def untouched(pc: Pc) -> Iterator[Callable[[], list[str]]]:
    """Whatever the test does, in the end no VM is left and the PC's devices are what they were."""
    before = pc.state()
    yield lambda: before
    left = pc.clear()
    after = pc.state()
    assert left == []
    assert after == before
