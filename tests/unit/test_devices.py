"""The verdict for every PCI function, shown on PCs of a few functions each."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clienthv import api
from clienthv.model.devices import Device, Devices, Verdict, encode
from clienthv.model.host import DomainCapabilities, Host, Iommu, PciFunction, Role, RoleName, SrIov, Stack
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.report import devices as report

R = Reason
IOMMU = Iommu(enabled=True, interrupt_remapping=True, acs_override=False, groups=9)
READY = Stack(
    uri="qemu:///system", privileged=True, capabilities=DomainCapabilities(domain_type="kvm", pci_backends=("vfio",))
)


def function(address: str, class_code: str, group: int | None, driver: str = "some", **more: Any) -> PciFunction:
    return PciFunction(address=f"0000:{address}", class_code=class_code, iommu_group=group, driver=driver, **more)


CARD = function("01:00.0", "020000", 1)
DISK = function("02:00.0", "010802", 2)
SMBUS = function("00:1f.4", "0c0500", 3)
LPC = function("00:1f.0", "060100", 3, "lpc_ich")
GPU = function("03:00.0", "030000", 4, boot_vga=False)
GPU_SOUND = function("03:00.1", "040300", 4)
SCREEN = function("00:02.0", "030000", 5, boot_vga=True)


def judged(*functions: PciFunction, uses: dict[str, RoleName] | None = None, **more: Any) -> dict[str, Device]:
    return {d.address: d for d in document(*functions, uses=uses, **more).devices}


def document(*functions: PciFunction, uses: dict[str, RoleName] | None = None, **more: Any) -> Devices:
    roles = tuple(Role(role=name, address=a, evidence=("seen",)) for a, name in (uses or {}).items())
    known = {"iommu": IOMMU, "stack": READY, "roles_read": tuple(RoleName), **more}
    return api.devices(Host(pci=functions, roles=roles, **known))


def refused(*functions: PciFunction, **more: Any) -> list[Reason]:
    """Why the first function cannot be handed over."""
    device = judged(*functions, **more)[functions[0].address]
    assert device.verdict is Verdict.NO
    assert device.along == ()
    assert all(o.detail and o.device == device.address for o in device.objections)
    return [o.reason for o in device.objections]


def changed(thing: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(thing, **changes)


# --- yes


def test_a_function_that_nothing_speaks_against_is_a_yes() -> None:
    device = judged(CARD)[CARD.address]
    assert (device.verdict, device.along, device.objections) == (Verdict.YES, (), ())
    assert (device.iommu_group, device.serves_as) == (1, Kind.NIC)


@pytest.mark.parametrize("class_code", ["0c0500", "070002", "078000", "118000", "0b4000", "ff0000"])
def test_a_class_that_no_plan_kind_covers_gets_the_same_verdict(class_code: str) -> None:
    free = function("05:00.0", class_code, 6)
    assert judged(free)[free.address].verdict is Verdict.YES
    assert judged(free)[free.address].serves_as is None
    assert refused(free, iommu=Iommu(enabled=False)) == [R.IOMMU_OFF]


def test_a_virtual_function_is_a_function_like_others() -> None:
    part = function("01:10.0", "020000", 7, physfn=CARD.address)
    card = changed(CARD, sriov=SrIov(totalvfs=7, numvfs=1, virtfns=(part.address,)))
    assert judged(card, part)[part.address].verdict is Verdict.YES
    assert refused(card, part) == [R.IS_PHYSICAL_FUNCTION]
    held = judged(card, part, uses={part.address: RoleName.NETWORK})[part.address]
    assert [(o.strategy, o.reason) for o in held.objections] == [(Strategy.VF, R.NETWORK_IN_USE)]


# --- yes, with others


def test_a_graphics_card_goes_with_its_sound_and_the_sound_with_its_card() -> None:
    devices = judged(SCREEN, GPU, GPU_SOUND)
    assert (devices[GPU.address].verdict, devices[GPU.address].along) == (Verdict.YES_WITH, (GPU_SOUND.address,))
    assert (devices[GPU_SOUND.address].verdict, devices[GPU_SOUND.address].along) == (Verdict.YES_WITH, (GPU.address,))
    assert {devices[a].serves_as for a in (GPU.address, GPU_SOUND.address)} == {Kind.GPU}


def test_a_free_mate_of_the_group_goes_along() -> None:
    mate = changed(DISK, iommu_group=1)
    devices = judged(CARD, mate)
    assert (devices[CARD.address].verdict, devices[CARD.address].along) == (Verdict.YES_WITH, (mate.address,))
    assert (devices[mate.address].verdict, devices[mate.address].along) == (Verdict.YES_WITH, (CARD.address,))


def test_a_mate_brings_its_card_and_that_cards_group() -> None:
    gpu, sound = changed(GPU, iommu_group=1), changed(GPU_SOUND, iommu_group=8)
    far = function("04:00.0", "070002", 8)
    everything = {CARD.address, gpu.address, sound.address, far.address}
    device = judged(SCREEN, CARD, gpu, sound, far)[CARD.address]
    assert set(device.along) == everything - {CARD.address}
    kept = judged(SCREEN, CARD, gpu, sound, far, uses={far.address: RoleName.INPUT})[CARD.address]
    assert [o.reason for o in kept.objections] == [R.IOMMU_GROUP_STAYS]
    assert far.address in kept.objections[0].detail


@pytest.mark.parametrize(
    "idle",
    [function("00:01.0", "060400", 1, "pcieport"), changed(DISK, iommu_group=1, driver=""),
     changed(DISK, iommu_group=1, driver="vfio-pci")],
    ids=["bridge", "driverless", "held for guests"],
)  # fmt: skip
def test_what_stays_harmlessly_need_not_go_along(idle: PciFunction) -> None:
    assert judged(CARD, idle)[CARD.address].verdict is Verdict.YES


# --- no


def test_a_mate_that_the_host_needs_is_named_and_keeps_the_group() -> None:
    mate = changed(DISK, iommu_group=1)
    devices = judged(CARD, mate, SMBUS, uses={mate.address: RoleName.MOUNTED_DISK})
    assert [o.reason for o in devices[CARD.address].objections] == [R.IOMMU_GROUP_STAYS]
    assert mate.address in devices[CARD.address].objections[0].detail
    assert [o.reason for o in devices[mate.address].objections] == [R.MOUNTED_DISK]


def test_of_two_mates_only_the_one_that_must_stay_is_named() -> None:
    free, used = changed(DISK, iommu_group=1), changed(SMBUS, iommu_group=1)
    (objection,) = judged(CARD, free, used, uses={used.address: RoleName.INPUT})[CARD.address].objections
    assert used.address in objection.detail
    assert free.address not in objection.detail


def test_a_bridge_that_works_in_the_group_keeps_it() -> None:
    assert refused(SMBUS, LPC) == [R.IOMMU_GROUP_STAYS]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"iommu": Iommu(enabled=False, acpi_table="none")}, R.IOMMU_ABSENT),
        ({"iommu": Iommu(enabled=False)}, R.IOMMU_OFF),
        ({"iommu": Iommu()}, R.IOMMU_UNKNOWN),
        ({"iommu": changed(IOMMU, interrupt_remapping=False)}, R.NO_INTERRUPT_REMAPPING),
        ({"stack": changed(READY, privileged=False)}, R.NO_PRIVILEGE),
        ({"stack": changed(READY, capabilities=DomainCapabilities(domain_type="kvm"))}, R.VFIO_UNAVAILABLE),
    ],
)
def test_what_speaks_against_all_devices_is_said_of_each_and_once(facts: dict[str, Any], reason: Reason) -> None:
    mates = [CARD, changed(DISK, iommu_group=1), GPU]
    for device in judged(SCREEN, *mates, **facts).values():
        assert [o.reason for o in device.objections].count(reason) == 1
        assert device.objections[0].fix
    assert refused(*mates, **facts) == [reason]


def test_a_device_in_no_group_is_a_no() -> None:
    assert refused(changed(CARD, iommu_group=None)) == [R.NO_IOMMU_GROUP]


@pytest.mark.parametrize(
    ("device", "use", "reason"),
    [
        (GPU, RoleName.CONNECTED_DISPLAY, R.CONNECTED_DISPLAY),
        (DISK, RoleName.MOUNTED_DISK, R.MOUNTED_DISK),
        (CARD, RoleName.DEFAULT_ROUTE, R.DEFAULT_ROUTE),
        (CARD, RoleName.NETWORK, R.NETWORK_IN_USE),
        (function("00:14.0", "0c0330", 6), RoleName.INPUT, R.HOST_INPUT),
    ],
)
def test_what_the_host_uses_stays_with_the_evidence_and_the_way_out(
    device: PciFunction, use: RoleName, reason: Reason
) -> None:
    assert refused(device, SCREEN, uses={device.address: use}) == [reason]
    (objection,) = judged(device, SCREEN, uses={device.address: use})[device.address].objections
    assert "seen" in objection.detail
    assert f'allow = ["{use}"]' in (objection.fix or "")


def test_the_boot_display_stays_and_its_sound_with_it() -> None:
    boots = changed(GPU, boot_vga=True)
    assert refused(boots, GPU_SOUND) == refused(GPU_SOUND, boots) == [R.BOOT_DISPLAY]


@pytest.mark.parametrize(
    ("device", "reasons"),
    [
        (CARD, [R.NETWORK_UNKNOWN]),
        (DISK, [R.MOUNTED_DISK_UNKNOWN]),
        (SMBUS, [R.HOST_INPUT_UNKNOWN]),
        (function("00:14.0", "0c0330", 6), [R.HOST_INPUT_UNKNOWN, R.MOUNTED_DISK_UNKNOWN]),
        (changed(GPU, boot_vga=None), [R.BOOT_DISPLAY_UNKNOWN]),
    ],
)
def test_what_nobody_looked_for_is_not_taken_for_free(device: PciFunction, reasons: list[Reason]) -> None:
    other = changed(SCREEN, boot_vga=None)
    assert sorted(refused(device, other, roles_read=())) == sorted(reasons)


@pytest.mark.parametrize(("read", "fix"), [(True, "end that use on the host"), (False, "clienthv inspect --save")])
def test_a_use_of_what_no_profile_can_name_is_not_lifted_by_a_profile(read: bool, fix: str) -> None:
    uses = {SMBUS.address: RoleName.INPUT} if read else {}
    (objection,) = judged(SMBUS, uses=uses, roles_read=tuple(RoleName) if read else ())[SMBUS.address].objections
    assert fix in (objection.fix or "")
    assert "select" not in (objection.fix or "")


def test_the_host_keeps_a_screen_when_two_gpus_could_only_go_together() -> None:
    other = changed(GPU, address="0000:06:00.0")
    uses = {GPU.address: RoleName.CONNECTED_DISPLAY, other.address: RoleName.CONNECTED_DISPLAY}
    assert set(refused(GPU, other, uses=uses)) == {R.CONNECTED_DISPLAY}


# --- VMD

VMD = function("00:0e.0", "010400", 7, "vmd")
BEHIND = PciFunction(
    address="10000:e1:00.0", class_code="010802", driver="nvme", iommu_group=7, bridge_path=(VMD.address,)
)


def test_what_is_behind_a_vmd_controller_stays_and_the_controller_may_go() -> None:
    devices = judged(VMD, BEHIND)
    assert devices[BEHIND.address].objections[0].reason is R.BEHIND_VMD
    assert devices[VMD.address].verdict is Verdict.YES


def test_a_vmd_controller_stays_with_the_disks_behind_it() -> None:
    assert refused(VMD, BEHIND, uses={BEHIND.address: RoleName.MOUNTED_DISK}) == [R.MOUNTED_DISK]
    assert refused(VMD, BEHIND, roles_read=()) == [R.MOUNTED_DISK_UNKNOWN] * 2


# --- the document


def test_bridges_have_no_verdict_whatever_their_class() -> None:
    odd = function("00:03.0", "088000", 6)
    below = changed(CARD, bridge_path=(odd.address,))
    assert list(judged(LPC, odd, below)) == [CARD.address]


def test_every_yes_says_what_it_hangs_on() -> None:
    usb_c = function("03:00.2", "0c0330", 4)
    blind = {"iommu": Iommu(enabled=True, acs_override=True), "stack": None, "roles_read": (RoleName.BOOT_DISPLAY,)}
    said = {w.code: w.detail for w in document(SCREEN, GPU, GPU_SOUND, usb_c, **blind).warnings}
    assert set(said) == {"stack-unknown", "interrupt-remapping-unknown", "acs-override", "usb-with-gpu"}
    assert usb_c.address in said["usb-with-gpu"]
    assert document(SCREEN, **blind).warnings[1:] == (), "nothing can be handed over"


def test_a_yes_without_interrupt_remapping_is_said_to_be_unsafe_as_in_a_plan_that_names_the_device() -> None:
    unsafe = changed(IOMMU, interrupt_remapping=False, unsafe_interrupts=True)
    said = document(SCREEN, CARD, iommu=unsafe)
    assert {d.address: d.verdict for d in said.devices}[CARD.address] is Verdict.YES
    assert "unsafe" in next(w.detail for w in said.warnings if w.code == "unsafe-interrupts")
    assert refused(CARD, iommu=changed(unsafe, unsafe_interrupts=False)) == [R.NO_INTERRUPT_REMAPPING]


def test_the_document_reads_back_and_does_not_hang_on_the_order_of_the_functions() -> None:
    devices = document(SCREEN, GPU, GPU_SOUND, CARD)
    assert msgspec.json.decode(encode(devices), type=Devices) == devices
    assert document(CARD, GPU_SOUND, GPU, SCREEN) == devices


def test_the_report_has_a_line_for_each_device_and_its_reasons_below() -> None:
    named = changed(DISK, vendor="A vendor of many words", device="a controller with a name that has no end at all")
    text = list(report.lines(document(CARD, named, uses={DISK.address: RoleName.MOUNTED_DISK})))
    rows = [line for line in text if line.startswith("  0000:")]
    assert text[0].endswith("now: 1 of 2")
    assert [line.split()[-1] for line in rows] == ["yes", "no"]
    assert len({len(line) - len(line.split()[-1]) for line in rows}) == 1, "the verdicts are aligned"
    below = text[text.index(rows[1]) + 1 :]
    assert below[0].endswith("(seen) [mounted-disk]")
    assert below[1].strip().startswith("to change that: ")
    assert next(report.lines(document())).endswith("now: 0 of 0")
