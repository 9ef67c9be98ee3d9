"""The story of one device: every rung of its ladder, what speaks against it where, and what it would fall to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from clienthv import api, planner
from clienthv.errors import UsageError
from clienthv.model.explanation import Explanation, Ladder, Place, Rung
from clienthv.model.host import Cpu, Host, Iommu, Kvm, Memory, PciFunction, RoleName, decode
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.model.profile import Profile
from clienthv.model.usb import UsbDevice
from clienthv.report import explanations as report
from clienthv.strategies import Kept

HOSTS = Path(__file__).parent.parent / "hosts"
NAMES = ("desk-x570-3rdgen-rx580-gt710-b", "lab-full", "is-adl-n-7vfs-i915", "fa-laptop-fw16-7840hs")
KINDS = [kind for kind in Kind if kind is not Kind.USB_DEVICE]
S = Strategy


def recorded(name: str) -> Host:
    return decode((HOSTS / f"{name}.json").read_bytes(), name)


def asking(**devices: Any) -> Profile:
    """The profile performance, with some of its tables otherwise."""
    profile = api.load_profile("performance")
    tables = {k: msgspec.structs.replace(profile.device(Kind(k)), **v) for k, v in devices.items()}
    return msgspec.structs.replace(profile, devices=msgspec.structs.replace(profile.devices, **tables))


def card(address: str, **more: Any) -> PciFunction:
    return PciFunction(address=f"0000:{address}", class_code="020000", iommu_group=int(address[:2]), **more)


CARDS = (card("01:00.0", driver="e1000e", device="One"), card("02:00.0", driver="e1000e", device="Two"))
PC = Host(
    name="desk",
    pci=CARDS,
    roles_read=tuple(RoleName),
    cpu=Cpu(virtualization="svm", threads=16, cores=8, sockets=1),
    kvm=Kvm(usable=True, evidence=("/dev/kvm: opens, and KVM_CREATE_VM succeeds",)),
    memory=Memory(total_mib=32768, available_mib=30000),
    iommu=Iommu(enabled=True, groups=9, interrupt_remapping=True, acs_override=False),
)


def ladder(what: str, host: Host = PC, profile: Profile | None = None, **more: Any) -> Ladder:
    (told,) = api.explain(host, profile or asking(), what, **more).ladders
    return told


def at(told: Ladder, place: Place) -> list[Rung]:
    return [rung for rung in told.rungs if rung.place is place]


# --- on recorded PCs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_the_story_has_the_plans_decision_and_every_reason_of_it(name: str, kind: Kind) -> None:
    host, profile = recorded(name), asking()
    decision = api.plan(host, profile).of(kind)
    told = ladder(kind, host, profile)
    (taken,) = at(told, Place.TAKEN)
    assert [(w.device, w.functions, w.model, w.backing, w.why) for w in taken.possible] == [
        (decision.device, decision.functions, decision.model, decision.backing, decision.why)
    ]
    said = {
        (rung.strategy, way.device, o.reason, o.detail, o.fix)
        for rung in told.rungs
        if rung.place is not Place.BELOW
        for way in rung.refused
        for o in way.objections
    }
    above = profile.ladder(kind)[: profile.ladder(kind).index(decision.strategy) + 1]
    assert said == {(r.strategy, r.device, r.reason, r.detail, r.fix) for r in decision.rejected if r.strategy in above}
    assert [*dict.fromkeys(rung.strategy for rung in told.rungs)] == list(profile.ladder(kind))
    assert all(rung.refused and not rung.possible for rung in at(told, Place.BETTER))


@pytest.mark.parametrize("name", NAMES)
def test_what_it_falls_to_is_what_a_profile_gets_that_forbids_what_is_above(name: str) -> None:
    host = recorded(name)
    for kind in (Kind.GPU, Kind.NIC, Kind.DISK, Kind.CPU):
        told = ladder(kind, host)
        strategies = dict.fromkeys(r.strategy for r in told.rungs if r.possible and r.place is not Place.BETTER)
        gone: tuple[Strategy, ...] = ()
        for strategy in strategies:
            plan = planner.plan(host, asking(**{kind.value: {"forbid": gone}}))
            assert plan.of(kind).strategy is strategy
            gone = (*gone, *(s for s in asking().ladder(kind) if s is strategy))


# --- on a PC made for it


def test_the_other_card_stands_below_the_one_that_was_taken() -> None:
    told = ladder("nic")
    assert told.taken is S.PASSTHROUGH
    (taken,) = at(told, Place.TAKEN)
    assert [w.device for w in taken.possible] == ["0000:01:00.0"]
    falls = [(r.strategy, w.device) for r in at(told, Place.BELOW) for w in r.possible]
    assert falls == [(S.PASSTHROUGH, "0000:02:00.0"), (S.PARAVIRTUAL, None), (S.EMULATED, None)]
    assert not told.cut_short


def test_more_ways_than_are_shown_are_not_passed_over_in_silence() -> None:
    many = tuple(card(f"{n:02d}:00.0", driver="e1000e") for n in range(1, 20))
    told = ladder("nic", msgspec.structs.replace(PC, pci=many))
    assert told.cut_short
    assert "  and more" in list(report.lines(as_document(told)))
    assert told.portable.change == '[devices.nic] prefer = ["paravirtual"]'


def test_a_refused_rung_has_its_files_and_the_change_that_lifts_it() -> None:
    off = msgspec.structs.replace(PC, iommu=Iommu(enabled=False, acpi_table="DMAR", groups=0, parameters=()))
    told = ladder("nic", off)
    assert told.taken is S.PARAVIRTUAL
    passthrough = next(r for r in at(told, Place.BETTER) if r.strategy is S.PASSTHROUGH)
    assert [w.device for w in passthrough.refused] == ["0000:01:00.0", "0000:02:00.0"]
    (objection,) = passthrough.refused[0].objections
    assert objection.reason is Reason.IOMMU_OFF
    assert objection.fix == "add intel_iommu=on to the kernel command line"
    assert {(e.file, e.value) for e in objection.evidence} == {
        ("/sys/firmware/acpi/tables", "DMAR"),
        ("/sys/kernel/iommu_groups", "no group"),
        ("/proc/cmdline", "no IOMMU parameters"),
    }
    text = list(report.lines(as_document(told)))
    assert [line for line in text if "[iommu-off]" in line] == [
        "      - no IOMMU group exists: the kernel has no IOMMU active [iommu-off]"
    ], "what speaks against both is said once"
    assert "          /proc/cmdline → no IOMMU parameters" in text
    assert "          to lift it: add intel_iommu=on to the kernel command line" in text


def as_document(*ladders: Ladder) -> Explanation:
    return Explanation(vm=None, profile="performance", host="desk", ladders=ladders)


def test_what_a_vm_keeps_is_told_with_how_to_change_that() -> None:
    had = api.plan(msgspec.structs.replace(PC, pci=()), asking()).of(Kind.NIC)
    told = ladder("nic", kept=Kept(decisions={Kind.NIC: had}), vm="desk")
    assert told.taken is S.PARAVIRTUAL
    kept = [o for r in at(told, Place.BETTER) for w in r.refused for o in w.objections if o.reason is Reason.KEPT]
    assert [o.fix for o in kept] == ["clienthv up NAME --upgrade nic"] * 2
    assert all(o.evidence == () for o in kept)


def test_a_rung_that_is_the_top_says_so_and_one_that_is_the_last_says_so_too() -> None:
    text = "\n".join(report.lines(as_document(ladder("firmware", profile=asking(firmware={"prefer": (S.BIOS,)})))))
    assert "Nothing better is asked for: bios is the top of the profile's ladder." in text
    assert "nearer to the hardware, and not on that ladder: uefi-secure-boot, uefi" in text
    assert "nothing is left on the ladder" in text


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("nic", ["nic0"]),
        ("nic0", ["nic0"]),
        ("0000:02:00.0", ["nic0"]),
        ("02:00.0", ["nic0"]),
        ("046d:c52b", ["usb-device0"]),
        ("usb-device", ["usb-device0", "usb-device1"]),
        ("usb-device1", ["usb-device1"]),
    ],
)
def test_a_device_is_meant_by_its_kind_its_name_its_address_or_its_ids(what: str, found: list[str]) -> None:
    profile = asking(nic={"select": ("0000:02:00.0",)}, usb={"devices": ("046d:c52b", "1234:5678")})
    stick = UsbDevice(port="1-2", vendor_id="046d", product_id="c52b", busnum=1, devnum=4)
    told = api.explain(msgspec.structs.replace(PC, usb=(stick,)), profile, what)
    assert [one.name for one in told.ladders] == found


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("gup", "'gup' is no kind of device"),
        ("", "'' is no kind of device"),
        ("usb-device", "names no USB device"),
        ("0000:00:00.0", "no ladder of the profile performance comes to 0000:00:00.0"),
        ("046d:c52b", "comes to 046d:c52b"),
    ],
)
def test_what_is_meant_by_nothing_is_refused_with_the_next_step(what: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as e:
        api.explain(PC, asking(), what)
    assert e.value.hint


@pytest.mark.parametrize(
    ("what", "tables", "tie", "change"),
    [
        ("nic", {}, "the guest sees One itself", '[devices.nic] prefer = ["paravirtual"]: fast, the same on every PC'),
        ("nic", {"nic": {"prefer": (S.EMULATED,)}}, "nothing; it is the same", None),
        ("nic", {"nic": {"prefer": (S.PASSTHROUGH,)}}, "the guest sees One", '[devices.nic] prefer = ["paravirtual"]'),
        ("cpu", {"cpu": {"model": "host-passthrough"}}, "moved to one alike", '[devices.cpu] model = "x86-64-v2"'),
        ("cpu", {"cpu": {"model": "host-model"}}, "moved to one with all of that", "clienthv fleet"),
        ("cpu", {"cpu": {"prefer": (S.BINARY_TRANSLATION,)}}, "translated on every PC", None),
        ("tpm", {"tpm": {"prefer": (S.EMULATED,)}}, "another PC needs swtpm", None),
    ],
)
def test_what_ties_a_device_to_this_pc_is_told_with_the_change_that_unties_it(
    what: str, tables: dict[str, Any], tie: str, change: str | None
) -> None:
    portable = ladder(what, profile=asking(**tables)).portable
    assert tie in portable.detail
    assert (change is None) == (portable.change is None)
    assert (change or "") in (portable.change or "")
