"""PCs that lack one thing each: the plan says which and what would lift it, and the VM runs all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from conftest import Pc


class Lack(NamedTuple):
    """What a variant's kernel shows, and what the plan must make of it."""

    proof: str  # a shell command that succeeds on this variant
    cpu: str
    reason: str  # why the GPU is not passed; "" where it is
    fix: str


LACKS = {
    "no-iommu": Lack(
        "! test -e /sys/firmware/acpi/tables/DMAR && ! ls /sys/kernel/iommu_groups/* 2>/dev/null | grep .",
        "hardware-virtualization",
        "iommu-absent",
        'turn on "VT-d" or "IOMMU" in the firmware setup, where the processor and board have it',
    ),
    "iommu-off": Lack(
        "test -e /sys/firmware/acpi/tables/DMAR && ! ls /sys/kernel/iommu_groups/* 2>/dev/null | grep .",
        "hardware-virtualization",
        "iommu-off",
        "remove intel_iommu=off from the kernel command line",
    ),
    "no-intremap": Lack(
        "ls -d /sys/kernel/iommu_groups/1 && ! journalctl -kb -o cat --no-pager | grep 'Enabled IRQ remapping'",
        "hardware-virtualization",
        "no-interrupt-remapping",
        "remove intremap=off from the kernel command line, or turn on x2APIC in the firmware setup",
    ),
    "no-svm": Lack("! grep -qwE 'svm|vmx' /proc/cpuinfo", "binary-translation", "", ""),
}

each = pytest.mark.parametrize("pc", list(LACKS), indirect=True, scope="session")
pytestmark = [pytest.mark.lab, each]


def test_the_pc_lacks_what_its_name_says(pc: Pc) -> None:
    pc.ok(LACKS[pc.variant].proof)


def test_the_plan_steps_down_with_the_reason_and_the_fix(pc: Pc) -> None:
    lack, plan = LACKS[pc.variant], pc.plan("performance")
    assert plan["cpu"]["strategy"] == lack.cpu
    spare = pc.function("1002:5046")
    against = {r["reason"]: r["fix"] for r in plan["gpu"]["rejected"] if r["device"] == spare}
    if lack.reason:
        assert plan["gpu"]["strategy"] in {"paravirtual", "emulated"}
        assert against == {lack.reason: lack.fix}
        assert "amd_iommu=on" not in str(plan)
        assert plan["nic"]["strategy"] == "paravirtual"
        assert lack.reason in {r["reason"] for r in plan["nic"]["rejected"]}
    else:
        assert against == {}
        assert {r["reason"] for r in plan["cpu"]["rejected"]} == {"no-hardware-virtualization"}


def test_the_kernel_agrees_that_nothing_can_be_passed(pc: Pc) -> None:
    card = pc.function("8086:10d3")
    given = pc.give("try", [card], domain_type="qemu")
    pc.run("virsh destroy try")
    assert (given.rc == 0) == (LACKS[pc.variant].reason == ""), given.stderr


def test_up_gives_a_running_vm(pc: Pc, untouched: Callable[[], list[str]]) -> None:
    nic = {"prefer": ["vf", "passthrough", "paravirtual"]}
    gpu = {"prefer": ["passthrough", "vf", "paravirtual-3d", "paravirtual", "emulated"]}
    name = pc.profile("desktop", gpu=gpu, nic=nic, display={"prefer": ["emulated"]})
    pc.up(name, "--wait")
    report = pc.guest(name, seconds=900)  # without AMD-V: emulation within emulation
    if LACKS[pc.variant].reason:
        assert "1002:5046" not in report.pci
        assert [line.split(" driver ")[1] for line in report.of("net")] == ["virtio_net carrier 1"]
    else:
        assert "1002:5046" in report.pci
    pc.down(name)
    assert pc.state() == untouched()
