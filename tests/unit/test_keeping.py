"""A VM that is there: it keeps its rungs, finds its devices again, and its guest sees them where they were."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from lxml import etree

from clienthv import planner
from clienthv.lifecycle import keeping, slots
from clienthv.lifecycle.remembered import Remembered
from clienthv.model.host import Cpu, Host, Iommu, Kvm, Memory, PciFunction, RoleName, SrIov
from clienthv.model.plan import Decision, Kind, Plan, Reason, Strategy
from clienthv.model.profile import Profile, ProfileText, parse
from clienthv.model.vm import Options, Seen

S = Strategy
PORT = PciFunction(address="0000:00:01.0", class_code="060400", driver="pcieport", iommu_group=1, bridge_path=())
CARD = PciFunction(
    address="0000:01:00.0", class_code="020000", vendor_id="8086", device_id="1521", driver="igb", iommu_group=14,
    bridge_path=("0000:00:01.0",), vendor="Intel", device="I350",
)  # fmt: skip
LADDER = "[devices.nic]\nprefer = ['passthrough', 'paravirtual', 'emulated']\n"
GUEST = "[guest]\ndrivers = ['virtio']\n"


def but(thing: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(thing, **changes)


def pc(*functions: PciFunction) -> Host:
    return Host(
        name="pc", cpu=Cpu(architecture="x86_64", threads=8), memory=Memory(total_mib=16384), pci=functions,
        kvm=Kvm(usable=True), roles_read=tuple(RoleName),
        iommu=Iommu(enabled=True, interrupt_remapping=True, groups=20, acs_override=False),
    )  # fmt: skip


def text(more: str = LADDER) -> ProfileText:
    return ProfileText("desk", "desk.toml", GUEST + more)


def profile(more: str = LADDER) -> Profile:
    return parse((text(more),))


def started(host: Host, more: str = LADDER) -> Remembered:
    """What a VM of a profile remembers after it started on a host."""
    plan = planner.plan(host, profile(more))
    return Remembered(
        name="desk", profile=(text(more),), options=Options(), plan=plan, seen=Seen(),
        hardware=keeping.hardware(plan, profile(more), None, host),
    )  # fmt: skip


def again(before: Remembered, host: Host, *upgrade: Kind, more: str = LADDER) -> Plan:
    wish = keeping.asked(profile(more), before, host, upgrade)
    return planner.plan(host, wish.profile, kept=wish.kept)


def nic(plan: Plan) -> Decision:
    return plan.of(Kind.NIC)


def test_a_better_rung_that_became_possible_is_offered_and_not_taken() -> None:
    plan = again(started(pc()), pc(CARD))
    assert nic(plan).strategy is S.PARAVIRTUAL
    (offered,) = [r for r in nic(plan).rejected if r.reason is Reason.KEPT]
    assert (offered.strategy, offered.device) == (S.PASSTHROUGH, CARD.address)
    (warning,) = [w for w in plan.warnings if w.code == "better-possible"]
    assert "--upgrade nic" in warning.detail


def test_upgrade_takes_it() -> None:
    assert nic(again(started(pc()), pc(CARD), Kind.NIC)).strategy is S.PASSTHROUGH


def test_a_rung_with_other_objections_is_not_offered() -> None:
    plan = again(started(pc()), pc(but(CARD, iommu_group=None)))
    assert [r.reason for r in nic(plan).rejected] == [Reason.NO_IOMMU_GROUP]
    assert not [w for w in plan.warnings if w.code == "better-possible"]


def test_another_ladder_is_a_new_choice() -> None:
    before = started(pc(CARD), "[devices.nic]\nprefer = ['paravirtual']\n")
    assert nic(again(before, pc(CARD))).strategy is S.PASSTHROUGH


def test_a_rung_that_is_gone_falls() -> None:
    before = started(pc(CARD))
    assert nic(before.plan).strategy is S.PASSTHROUGH
    plan = again(before, pc())
    assert nic(plan).strategy is S.PARAVIRTUAL
    (sentence,) = keeping.changes(before, plan, pc())
    assert "is gone: nic is paravirtual now" in sentence


def test_a_virtual_device_keeps_the_model_it_had() -> None:
    before = started(pc())
    old = tuple(but(d, model="virtio-transitional") if d.kind is Kind.NIC else d for d in before.plan.decisions)
    assert nic(again(but(before, plan=but(before.plan, decisions=old)), pc())).model == "virtio-transitional"


def test_a_tablet_does_not_stay_where_its_usb_is_gone() -> None:
    plan = again(started(pc()), pc(), more=LADDER + "[devices.usb]\nprefer = ['omit']\n")
    assert started(pc()).plan.of(Kind.INPUT).model == "usb-tablet"
    assert plan.of(Kind.INPUT).model != "usb-tablet"


RENUMBERED = pc(but(CARD, address="0000:03:00.0", iommu_group=16))


def test_a_card_whose_address_changed_is_found_again_and_said_to_be_harmless() -> None:
    select = LADDER + 'select = ["0000:01:00.0"]\n'
    before = started(pc(CARD), select)
    plan = again(before, RENUMBERED, more=select)
    assert nic(plan).functions == ("0000:03:00.0",)
    (sentence,) = keeping.changes(before, plan, RENUMBERED)
    assert "0000:01:00.0 → 0000:03:00.0; IOMMU group 14 → 16: harmless" in sentence


def test_it_is_still_found_at_the_start_after_the_next() -> None:
    select = LADDER + 'select = ["0000:01:00.0"]\n'
    before = started(pc(CARD), select)
    plan = again(before, RENUMBERED, more=select)
    after = but(before, plan=plan, hardware=keeping.hardware(plan, profile(select), before, RENUMBERED))
    other = but(CARD, device_id="10fb", iommu_group=19)  # another card at the address in the profile
    host = pc(other, but(CARD, address="0000:05:00.0", bridge_path=("0000:00:01.1",)))
    assert nic(again(after, host, more=select)).functions == ("0000:05:00.0",)


def test_another_card_at_the_address_in_the_profile_is_not_taken() -> None:
    select = LADDER + 'select = ["0000:01:00.0"]\n'
    plan = again(started(pc(CARD), select), pc(but(CARD, device_id="10fb")), more=select)
    assert nic(plan).strategy is S.PARAVIRTUAL
    assert [r.reason for r in nic(plan).rejected] == [Reason.DEVICE_CHANGED]


def test_no_virtual_function_is_made_on_another_card_at_the_address_in_the_profile() -> None:
    select = "[devices.nic]\nprefer = ['vf', 'paravirtual']\nselect = ['0000:01:00.0']\n"
    sriov = SrIov(totalvfs=7, numvfs=0, offset=128, stride=2, link_up=True, writable=True)
    card = but(CARD, sriov=sriov, interfaces=("enp1s0",))
    before = started(pc(card), select)
    assert nic(before.plan).strategy is S.VF
    plan = again(before, pc(but(card, device_id="10fb")), more=select)
    assert nic(plan).strategy is S.PARAVIRTUAL
    assert [r.reason for r in nic(plan).rejected] == [Reason.DEVICE_CHANGED]


def test_a_twin_in_another_slot_is_not_taken_for_the_card_that_is_gone() -> None:
    select = LADDER + 'select = ["0000:01:00.0"]\n'
    twin = but(CARD, address="0000:02:00.0", bridge_path=("0000:00:02.0",), iommu_group=15)
    plan = again(started(pc(CARD, twin), select), pc(twin), more=select)
    assert nic(plan).strategy is S.PARAVIRTUAL


def test_without_memory_nothing_is_kept() -> None:
    assert keeping.asked(profile(), None, pc(), ()) == keeping.Asked(profile())


OLD = """<domain><os><type machine="pc-q35-10.0">hvm</type></os><devices>
<controller type="pci" index="0" model="pcie-root"/>
<controller type="pci" index="1" model="pcie-root-port"><alias name="pci.1"/>
<address type="pci" domain="0x0000" bus="0x00" slot="0x02" function="0x0"/></controller>
<interface type="user"><model type="virtio"/>
<address type="pci" domain="0x0000" bus="0x01" slot="0x00" function="0x0"/></interface>
<sound model="ich9"><address type="pci" domain="0x0000" bus="0x00" slot="0x1b" function="0x0"/></sound>
</devices></domain>"""


def test_slots_are_carried_over_with_their_controllers() -> None:
    new = (
        '<domain><os><type machine="q35">hvm</type></os><devices><sound model="ich9"/><rng model="virtio"/>'
        '<interface type="user"><model type="virtio"/></interface></devices></domain>'
    )
    root = etree.fromstring(slots.carry_over(OLD, new))
    assert root.find("devices/interface/address").get("bus") == "0x01"
    assert root.find("devices/sound/address").get("slot") == "0x1b"
    assert root.find("devices/rng/address") is None
    assert [c.get("model") for c in root.iterfind("devices/controller")] == ["pcie-root", "pcie-root-port"]
    assert root.find("devices/controller/alias") is None


@pytest.mark.parametrize(
    "new",
    [
        '<domain><os><type machine="pc">hvm</type></os><devices><sound model="ich9"/></devices></domain>',
        '<domain><os><type machine="q35">hvm</type></os><devices><controller type="pci" model="pcie-root"/>'
        '<sound model="ich9"/></devices></domain>',
    ],
    ids=["another machine", "the user's template has its own"],
)
def test_slots_are_left_alone_where_they_mean_something_else(new: str) -> None:
    assert slots.carry_over(OLD, new) == new


@pytest.mark.parametrize(("plug", "stays"), [("bridge", True), ("network", True), ("direct", True), ("hostdev", False)])
def test_a_card_stays_in_its_slot_whatever_it_is_plugged_into(plug: str, *, stays: bool) -> None:
    new = (
        '<domain><os><type machine="q35">hvm</type></os><devices>'
        f'<interface type="{plug}"><model type="virtio"/></interface></devices></domain>'
    )
    address = etree.fromstring(slots.carry_over(OLD, new)).find("devices/interface/address")
    assert (address is not None) is stays


def test_a_disk_hangs_as_the_guest_has_seen_until_its_upgrade_is_asked_for() -> None:
    sata = "[devices.disk]\nprefer = ['emulated']\n"
    virtio = "[devices.disk]\nprefer = ['paravirtual', 'emulated']\n"
    before = but(started(pc(), sata), seen=Seen(uuid="u", disk=S.EMULATED))

    def disk(*upgrade: Kind) -> Strategy:
        pinned = keeping.pinned(profile(virtio), keeping.seen_by(before, upgrade))
        wish = keeping.asked(pinned, before, pc(), upgrade)
        return planner.plan(pc(), wish.profile, kept=wish.kept).of(Kind.DISK).strategy

    assert disk() is disk(Kind.GPU) is S.EMULATED
    assert disk(Kind.DISK) is S.PARAVIRTUAL
    assert keeping.seen_by(before, (Kind.DISK,)).uuid == "u", "all else stays"
    assert keeping.seen_by(None, ()) == Seen()
