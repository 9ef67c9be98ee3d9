"""Virtual functions of GPUs and NVMe controllers: which are made, what that takes, and what speaks against it."""

from __future__ import annotations

from typing import Any

import pytest

from clienthv import planner
from clienthv.errors import PlanError
from clienthv.model.host import Host, Iommu, Kvm, PciFunction, Role, RoleName, SrIov
from clienthv.model.plan import Kind, Plan, Reason, Strategy
from clienthv.model.profile import Profile, ProfileText, parse

S, R = Strategy, Reason
CAN = SrIov(totalvfs=7, numvfs=0, offset=1, stride=1, drivers_autoprobe=True, writable=True)
IGPU = PciFunction(
    address="0000:00:02.0", class_code="030000", vendor_id="8086", device_id="7d55", driver="xe", boot_vga=True,
    iommu_group=1, sriov=CAN,
)  # fmt: skip
NVME = PciFunction(
    address="0000:04:00.0", class_code="010802", vendor_id="144d", device_id="a80a", driver="nvme", iommu_group=4,
    sriov=CAN, interfaces=(),
)  # fmt: skip


def but(thing: Any, **changes: Any) -> Any:
    return type(thing)(**{**{f: getattr(thing, f) for f in thing.__struct_fields__}, **changes})


def pc(*functions: PciFunction, **more: Any) -> Host:
    known: dict[str, Any] = {
        "kvm": Kvm(usable=True),
        "iommu": Iommu(enabled=True, interrupt_remapping=True, groups=9, acs_override=False),
        "roles_read": tuple(RoleName),
        "pci": functions,
    }
    return Host(**{**known, **more})


def wants(kind: str, *lines: str) -> Profile:
    text = "\n".join(
        ["schema = 1", "[guest]", 'drivers = ["virtio", "intel", "amd"]', f"[devices.{kind}]",
         'prefer = ["vf", "emulated"]', *lines]
    )  # fmt: skip
    return parse((ProfileText("test", "a test", text),))


def reasons(plan: Plan, kind: Kind) -> set[Reason]:
    return {r.reason for r in plan.of(kind).rejected if r.strategy is S.VF}


def test_a_gpu_that_shows_the_hosts_screen_can_still_make_virtual_functions() -> None:
    plan = planner.plan(pc(IGPU), wants("gpu"))
    gpu = plan.of(Kind.GPU)
    assert (gpu.strategy, gpu.device) == (S.VF, "0000:00:02.1")
    assert [(c.action, c.value) for c in plan.host_changes] == [
        ("vf-autoprobe", "0"), ("create-vfs", "7"), ("bind-vfio", None),
    ]  # fmt: skip
    assert "pf-link-interrupted" not in {w.code for w in plan.warnings}


@pytest.mark.parametrize("driver", ["amdgpu", "nouveau", "nvidia", ""])
def test_other_drivers_of_gpus_are_not_asked_to_make_functions_that_no_guest_can_drive(driver: str) -> None:
    plan = planner.plan(pc(but(IGPU, driver=driver)), wants("gpu"))
    assert plan.of(Kind.GPU).strategy is S.EMULATED
    assert reasons(plan, Kind.GPU) == {R.NO_VF_CREATED}


def test_a_gpu_whose_maker_the_guest_has_no_driver_for_gives_it_no_function_either() -> None:
    plan = planner.plan(pc(but(IGPU, vendor_id="1a03")), wants("gpu"))
    assert reasons(plan, Kind.GPU) == {R.NO_GUEST_DRIVER}


def test_an_nvme_controller_that_is_named_makes_functions_and_brings_one_online() -> None:
    plan = planner.plan(pc(NVME), wants("disk", 'select = ["0000:04:00.0"]'))
    assert plan.of(Kind.DISK).device == "0000:04:00.1"
    assert [(c.action, c.value, c.index) for c in plan.host_changes] == [
        ("nvme-flexible", "0/0", None), ("vf-autoprobe", "0", None), ("create-vfs", "7", None),
        ("nvme-online", "on", 0), ("bind-vfio", None, None),
    ]  # fmt: skip
    assert "shares-namespaces" in {w.code for w in plan.warnings}


def test_an_nvme_controller_that_nobody_named_stays_alone() -> None:
    assert reasons(planner.plan(pc(NVME), wants("disk")), Kind.DISK) == {R.NOT_SELECTED}


@pytest.mark.parametrize("there", [False, True])
def test_the_functions_of_a_controller_with_a_mounted_disk_are_refused(there: bool) -> None:
    function = PciFunction(
        address="0000:04:00.1", class_code="010802", vendor_id="144d", driver="", iommu_group=5, physfn=NVME.address
    )
    card = but(NVME, sriov=but(CAN, numvfs=1, virtfns=(function.address,))) if there else NVME
    roles = (Role(role=RoleName.MOUNTED_DISK, address=NVME.address, evidence=("/ is on nvme0n1",)),)
    host = pc(card, *([function] if there else []), roles=roles)
    plan = planner.plan(host, wants("disk", 'select = ["0000:04:00.0"]'))
    assert reasons(plan, Kind.DISK) == {R.MOUNTED_DISK}
    unread = pc(card, *([function] if there else []), roles_read=())
    plan = planner.plan(unread, wants("disk", 'select = ["0000:04:00.0"]'))
    assert reasons(plan, Kind.DISK) == {R.MOUNTED_DISK_UNKNOWN}


def test_a_function_that_is_there_and_was_refused_a_moment_ago_is_not_taken_again() -> None:
    function = PciFunction(
        address="0000:04:00.1", class_code="010802", vendor_id="144d", driver="", iommu_group=5, physfn=NVME.address
    )
    host = pc(but(NVME, sriov=but(CAN, numvfs=1, virtfns=(function.address,))), function)
    profile = wants("disk", 'select = ["0000:04:00.0"]')
    assert planner.plan(host, profile).of(Kind.DISK).device == function.address
    refused = planner.plan(host, profile, {NVME.address: "nvme said no"})
    assert reasons(refused, Kind.DISK) == {R.VF_NOT_READY}


def test_require_fails_where_no_function_can_be() -> None:
    with pytest.raises(PlanError, match=r"\[not-selected\]"):
        planner.plan(pc(NVME), wants("disk", 'require = ["vf"]'))
