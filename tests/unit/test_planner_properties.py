"""What holds for every plan, on PCs and profiles that nobody thought of, and on the recorded ones."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st
from lxml import etree

from clienthv import api, planner, profiles, render
from clienthv.errors import HostError, PlanError
from clienthv.lifecycle import remembered
from clienthv.model import host as host_model
from clienthv.model import plan as plan_model
from clienthv.model.devices import Device, Verdict
from clienthv.model.host import (
    Cpu,
    DomainCapabilities,
    Host,
    Iommu,
    Kvm,
    Memory,
    PciFunction,
    Role,
    RoleName,
    SrIov,
    Stack,
)
from clienthv.model.plan import STRATEGIES, Decision, Kind, Plan, Reason, Strategy
from clienthv.model.profile import Profile, ProfileText, parse
from clienthv.model.values import PciAddress, parse_mib
from clienthv.model.vm import Options, Vm
from clienthv.strategies import evidence

RECORDED = {
    p.stem: host_model.decode(p.read_bytes(), p.name)
    for p in sorted((Path(__file__).resolve().parent.parent / "hosts").glob("*.json"))
}
HELD = {"vfio-pci", "pci-stub"}
MOVES = {Strategy.PASSTHROUGH, Strategy.VF}


UNSHRUNK = settings(max_examples=30, phases=[Phase.explicit, Phase.generate])
"""For what renders: a domain takes long to check, and longest while a failure is being made smaller."""


class Case(NamedTuple):
    """A PC, a profile, and the text the profile was made of."""

    host: Host
    profile: Profile
    text: ProfileText


class Choices:
    """Choices made by bytes, one for each: quick to draw, and Hypothesis makes failures small towards the first."""

    def __init__(self, data: bytes) -> None:
        self._left = iter(data)

    def of(self, options: Sequence[Any]) -> Any:
        return options[next(self._left, 0) % len(options)]

    def once_in(self, times: int) -> bool:
        return next(self._left, 0) % times == times - 1

    def some(self, options: Sequence[Any], most: int) -> list[Any]:
        """A few different ones, in any order."""
        return list(dict.fromkeys(self.of(options) for _ in range(self.of(range(most + 1))))) if options else []


# --- PCs

# The functions of one slot, by class. Whatever is drawn besides (drivers, groups, ids, roles) may be anything.
CARDS = (
    ["020000"],
    ["030000", "040300"],
    ["030000", "040300"],
    ["010802"],
    ["0c0330"],
    ["040300"],
    ["030000", "040300", "0c0330", "0c8000"],
    ["020000", "020000"],
    ["030200"],
    ["030000", "040300", "108000", "0c0330", "0c0330", "040300"],  # an APU
    ["010601"],
    ["028000"],
    ["030000", "038000"],
    ["060100", "040300", "0c0500"],  # a chipset
    ["060400"],
    ["060000"],
    ["130000"],
    ["0200"],
    [None],
    ["020000", "020000", "010601"],
)
DRIVERS = {"03": "amdgpu", "02": "igb", "01": "ahci", "04": "snd_hda_intel"}


def slot(choose: Choices, bus: int) -> list[PciFunction]:
    place = PciAddress(choose.of([0] * 12 + [1, 0x10000]), bus, choose.of([0, 2, 0x1F]), 0)
    together = choose.of([bus, bus, bus, None, None, 1, 2])
    functions = []
    for n, class_code in enumerate(choose.of(CARDS)):
        screen = (class_code or "").startswith("03")
        functions.append(
            PciFunction(
                address=str(msgspec.structs.replace(place, function=n)),
                class_code=class_code,
                vendor_id=choose.of(["10de", "1002", "8086", "10de", "1002", "8086", "1a03", None]),
                device_id=choose.of(["1234", None]),
                driver=choose.of(
                    [DRIVERS.get((class_code or "")[:2], "some")] * 8 + [None, "", "vfio-pci", "pci-stub"]
                ),
                iommu_group=together if together is not None else choose.of([bus * 8 + n + 100] * 5 + [None]),
                boot_vga=choose.of([False, False, False, None, True]) if screen else None,
                render_node=choose.of([None, "renderD128"]) if screen else None,
            )
        )
    if (functions[0].class_code or "")[:2] in {"02", "03"} and choose.once_in(4):
        functions = with_virtual_functions(functions, choose.of([1, 2, 0]), choose.once_in(2))
        if choose.once_in(2):
            functions[0] = with_link(functions[0], choose)
    return functions


def with_link(card: PciFunction, choose: Choices) -> PciFunction:
    """A card of which more is known: where its virtual functions are or would be, and its link."""
    assert card.sriov is not None
    sriov = msgspec.structs.replace(
        card.sriov,
        offset=choose.of([0x80, 0x100, 1, 0, None, 0xFFFF]),
        stride=choose.of([1, 2, 0, None]),
        drivers_autoprobe=choose.of([True, False, None]),
        link_up=choose.of([False, True, None]),
        writable=choose.of([True, True, None, False]),
    )
    return msgspec.structs.replace(card, sriov=sriov, interfaces=choose.of([("eth0",), ("eth0",), (), None]))


def with_virtual_functions(functions: list[PciFunction], count: int, own_groups: bool) -> list[PciFunction]:
    parent = functions[0]
    children = [
        msgspec.structs.replace(
            parent,
            address=str(msgspec.structs.replace(parent.place, device=0x10, function=n)),
            physfn=parent.address,
            boot_vga=None,
            render_node=None,
            iommu_group=parent.place.bus * 8 + n + 900 if own_groups else parent.iommu_group,
        )
        for n in range(count)
    ]
    sriov = SrIov(totalvfs=7, numvfs=count, virtfns=tuple(c.address for c in children))
    return [msgspec.structs.replace(parent, sriov=sriov), *functions[1:], *children]


def iommu(choose: Choices) -> Iommu:
    if not choose.once_in(5):
        return Iommu(kind="vt-d", acpi_table="DMAR", enabled=True, interrupt_remapping=True, groups=20)
    return Iommu(
        acpi_table=choose.of([None, "DMAR", "IVRS", "none"]),
        enabled=choose.of([True, True, False, None]),
        interrupt_remapping=choose.of([True, None, False]),
        acs_override=choose.of([None, False, True]),
        unsafe_interrupts=choose.of([msgspec.UNSET, None, False, True]),
        parameters=choose.of([None, (), ("intel_iommu=off",), ("iommu=pt",)]),
    )


def stack(choose: Choices) -> Stack | None:
    if not choose.once_in(3):
        return None
    whole = not choose.once_in(3)
    return Stack(
        uri="qemu:///system",
        privileged=choose.of([True, None, True, True, True, False]),
        libvirt_version=choose.of([None, "9.0.0", "11.3.0"]),
        capabilities=None if choose.once_in(4) else DomainCapabilities(
            domain_type=choose.of(["kvm", "qemu"]),
            cpu_modes=choose.of([(), ("host-passthrough", "host-model", "maximum")]),
            firmware=("bios", "efi") if whole else choose.of([("bios", "efi"), ("bios",)]),
            secure_boot=choose.of([True, False]),
            video_models=("vga", "virtio", "bochs") if whole else choose.of([("vga", "virtio"), ("vga",), ()]),
            graphics=("spice", "vnc", "egl-headless") if whole else choose.of([("spice", "vnc"), ("vnc",), ()]),
            pci_backends=("vfio",) if whole else choose.of([("vfio",), ()]),
            tpm_backends=("emulator", "passthrough") if whole else choose.of([("emulator",), ()]),
        ),
    )  # fmt: skip


def host(choose: Choices) -> Host:
    functions = [f for bus in range(choose.of([3, 4, 5, 6, 0, 1, 2])) for f in slot(choose, bus)]
    free = [f.address for f in functions if f.driver not in HELD]
    return Host(
        name=choose.of(["this PC", "<&> ]]> 'ü\x00\uffff"]),
        pci=tuple(functions),
        roles=tuple(
            Role(role=choose.of(list(RoleName)), address=a) for a in choose.some(free, choose.of([0, 0, 1, 2]))
        ),
        roles_read=choose.of([tuple(RoleName)] * 6 + [(), tuple(choose.some(list(RoleName), 5))]),
        iommu=iommu(choose),
        stack=stack(choose),
        cpu=Cpu(
            architecture=choose.of(["x86_64"] * 3 + ["aarch64"]),
            vendor=choose.of([None, "GenuineIntel", "AuthenticAMD"]),
            virtualization=choose.of([None, "vmx", "none"]),
            hypervisor=choose.of([None, False, True]),
            threads=choose.of([None] * 8 + [64] * 8 + [2, 0, 1]),
        ),
        memory=Memory(
            total_mib=choose.of([None] * 16 + [16384, 0]), available_mib=choose.of([None] * 16 + [100_000, 3000, 100])
        ),
        kvm=Kvm(usable=choose.of([None, True, True, False])),
        tpm_device=choose.of([None, True, False]),
    )


# --- profiles

NAMED = (Kind.GPU, Kind.NIC, Kind.DISK, Kind.AUDIO, Kind.USB)


def ladder(choose: Choices, kind: Kind) -> list[Strategy]:
    """A valid ladder: mostly in the usual order, which is where devices move most, else any."""
    usual = list(STRATEGIES[kind])
    if not choose.once_in(4):
        return usual
    return choose.some(usual, 4) or usual[-1:]


def profile_text(choose: Choices, pc: Host, *, allow: bool) -> str:
    drivers = choose.of([["virtio", "nvidia", "amd", "intel"]] * 3 + [["virtio"], []])
    lines = [f"[guest]\ndrivers = {json.dumps(drivers)}"]
    lines.append(choose.of(["", '[size]\nvcpus = 8\nvcpus_min = 1\nmemory = "8 GiB"\nmemory_min = "64 MiB"']))
    for kind in STRATEGIES:
        lines.append(f"[devices.{kind}]\nprefer = {json.dumps(ladder(choose, kind))}")
        if kind not in NAMED or not choose.once_in(2):
            continue
        near = [f.address for f in pc.pci if f.base_class[:2] in {"03", "02", "01", "04", "0c"}]
        selected = choose.some([*near, *near, "0000:77:00.0"], 4)
        if selected:
            lines.append(f"select = {json.dumps(selected)}")
            if allow and choose.once_in(3):
                lines.append(f"allow = {json.dumps(choose.some(list(RoleName), 4))}")
    return "\n".join(lines)


def recorded(choose: Choices) -> Host:
    """A recorded PC as it is, or as if its roles had been read, its IOMMU been on, or nothing been bound."""
    pc = choose.of(list(RECORDED.values()))
    changes: dict[str, Any] = {}
    if choose.once_in(2):
        changes["roles_read"] = tuple(RoleName)
    if choose.once_in(2):
        changes["iommu"] = iommu(choose)
    if choose.once_in(6):
        changes["pci"] = tuple(msgspec.structs.replace(f, driver="") for f in pc.pci)
    return msgspec.structs.replace(pc, **changes)


def made_of(data: bytes, *, allow: bool) -> Case:
    choose = Choices(data)
    pc = recorded(choose) if choose.once_in(5) else host(choose)
    text = ProfileText("odd", "odd.toml", profile_text(choose, pc, allow=allow))
    return Case(pc, parse((text,)), text)


def cases(*, allow: bool = True) -> st.SearchStrategy[Case]:
    """A PC, made up or recorded, and a profile for it."""
    return st.binary(min_size=400, max_size=400).map(lambda data: made_of(data, allow=allow))


def case_of(name: str, profile: str) -> Case:
    made, chain = profiles.load(profile)
    return Case(RECORDED[name], made, chain[0])


EVERY_RECORDED = pytest.mark.parametrize(
    "case",
    [case_of(host, profile) for host in RECORDED for profile in ("performance", "balanced", "portable")],
    ids=[f"{host}-{profile}" for host in RECORDED for profile in ("performance", "balanced", "portable")],
)


def planned(case: Case) -> Plan:
    """The plan; a case without one is not looked at."""
    plan = tried(case.host, case.profile)
    assume(isinstance(plan, Plan))
    assert isinstance(plan, Plan)
    return plan


def tried(host: Host, profile: Profile) -> Plan | str:
    """The plan, or what is said where there is none; any other exception is a failure."""
    try:
        return planner.plan(host, profile)
    except (PlanError, HostError) as e:
        assert e.message  # noqa: PT017 - either outcome is right
        assert e.hint  # noqa: PT017 - either outcome is right
        return f"{type(e).__name__}: {e.message}"


def passed(plan: Plan) -> list[Decision]:
    return [d for d in plan.decisions if d.strategy in MOVES]


def moving(plan: Plan | str) -> set[str]:
    return {a for d in passed(plan) for a in d.functions} if isinstance(plan, Plan) else set()


def made(plan: Plan | str) -> set[str]:
    """The virtual functions that are not there before the start."""
    of = plan.of(Kind.NIC) if isinstance(plan, Plan) else None
    return set(of.functions) if of is not None and of.virtual_function and of.virtual_function.created else set()


def there(case: Case, plan: Plan) -> list[PciFunction]:
    """The functions that move and are there before the start."""
    return [case.host.by_address[a] for a in moving(plan) - made(plan)]


def rung(plan: Plan, profile: Profile, kind: Kind) -> int:
    return profile.ladder(kind).index(plan.of(kind).strategy)


# --- every input has an answer


@settings(max_examples=120)
@given(cases())
def test_every_pc_and_profile_give_a_plan_or_an_error_with_a_hint(case: Case) -> None:
    plan = tried(case.host, case.profile)
    if isinstance(plan, Plan):
        assert [d.kind for d in plan.decisions] == list(STRATEGIES)


@EVERY_RECORDED
def test_every_recorded_pc_has_a_plan_for_the_shipped_profiles(case: Case) -> None:
    assert isinstance(tried(case.host, case.profile), Plan)


@settings(max_examples=120)
@given(cases(), st.binary(min_size=40))
def test_a_plan_does_not_hang_on_the_order_of_the_pci_functions(case: Case, order: bytes) -> None:
    shuffled = [f for _, _, f in sorted((order[n % len(order)], n, f) for n, f in enumerate(case.host.pci))]
    other = msgspec.structs.replace(case.host, pci=tuple(shuffled))
    assert tried(other, case.profile) == tried(case.host, case.profile)


@EVERY_RECORDED
def test_a_recorded_pcs_plan_does_not_hang_on_the_order_of_its_pci_functions(case: Case) -> None:
    other = msgspec.structs.replace(case.host, pci=case.host.pci[::-1])
    assert tried(other, case.profile) == tried(case.host, case.profile)


@settings(max_examples=120)
@given(cases())
def test_planning_twice_gives_the_same_bytes(case: Case) -> None:
    plan = planned(case)
    again = host_model.decode(host_model.encode(case.host), "again")
    assert plan_model.encode(planner.plan(again, parse((case.text,)))) == plan_model.encode(plan)


# --- the ladder


@settings(max_examples=120)
@given(cases())
def test_what_is_chosen_was_not_rejected(case: Case) -> None:
    for decision in planned(case).decisions:
        assert (decision.strategy, decision.device) not in {(r.strategy, r.device) for r in decision.rejected}


@settings(max_examples=120)
@given(cases())
def test_every_rung_above_the_chosen_one_was_rejected_with_a_detail(case: Case) -> None:
    plan = planned(case)
    for decision in plan.decisions:
        rungs = case.profile.ladder(decision.kind)
        above = rungs[: rungs.index(decision.strategy)]
        assert set(above) <= {r.strategy for r in decision.rejected}
        assert all(r.detail.strip() for r in decision.rejected)


@settings(max_examples=60)
@given(cases())
def test_every_reason_that_is_a_fact_of_the_host_is_shown_by_its_files(case: Case) -> None:
    for decision in planned(case).decisions:
        for rejected in decision.rejected:
            of_the_guest = rejected.reason is Reason.NO_GUEST_DRIVER and rejected.device is None
            shown = evidence.of_rejected(rejected, case.host, decision.kind)
            assert bool(shown) == (rejected.reason not in evidence.NO_FACT_OF_THE_HOST and not of_the_guest), rejected


@settings(max_examples=120)
@given(cases())
def test_nothing_below_the_chosen_rung_was_looked_at(case: Case) -> None:
    for decision in planned(case).decisions:
        rungs = case.profile.ladder(decision.kind)
        assert {r.strategy for r in decision.rejected} <= set(rungs[: rungs.index(decision.strategy) + 1])


@settings(max_examples=120)
@given(cases())
def test_every_gpu_and_network_card_has_its_own_objection_where_pass_through_was_refused(case: Case) -> None:
    for kind, base in ((Kind.GPU, "03"), (Kind.NIC, "02")):
        decision = planned(case).of(kind)
        rungs = case.profile.ladder(kind)
        if Strategy.PASSTHROUGH not in rungs[: rungs.index(decision.strategy)]:
            continue
        cards = {f.address for f in case.host.pci if (f.class_code or "").startswith(base) and f.physfn is None}
        assert cards == {r.device for r in decision.rejected if r.strategy is Strategy.PASSTHROUGH} - {None}


@settings(max_examples=120)
@given(cases())
def test_a_device_that_is_handed_over_is_among_the_functions_that_move_with_it(case: Case) -> None:
    plan = planned(case)
    for decision in passed(plan):
        if decision.kind is not Kind.TPM:
            assert decision.device in decision.functions
            assert set(decision.functions) - made(plan) <= set(case.host.by_address)


@settings(max_examples=120)
@given(cases())
def test_nothing_moves_with_a_device_that_is_not_handed_over(case: Case) -> None:
    for decision in planned(case).decisions:
        if decision.strategy not in MOVES:
            assert (decision.device, decision.functions) == (None, ())


# --- groups


def may_stay(function: PciFunction) -> bool:
    """A bridge, and what no driver of the host's works with: the kernel lets the group go although it stays."""
    base = (function.class_code or "")[:4]
    nothing_binds = base == "0600" or base.startswith("13")
    return base in {"0604", "0609"} or function.driver in {"", *HELD} or (function.driver is None and nothing_binds)


def torn(case: Case, plan: Plan) -> set[str]:
    gone = moving(plan)
    groups = {f.iommu_group for f in there(case, plan)} - {None}
    return {f.address for f in case.host.pci if f.iommu_group in groups and not may_stay(f)} - gone


@settings(max_examples=120)
@given(cases())
def test_an_iommu_group_moves_whole_or_not_at_all(case: Case) -> None:
    assert torn(case, planned(case)) == set()


@EVERY_RECORDED
def test_an_iommu_group_of_a_recorded_pc_moves_whole_or_not_at_all(case: Case) -> None:
    assert torn(case, planner.plan(case.host, case.profile)) == set()


@settings(max_examples=120)
@given(cases())
def test_nothing_moves_without_an_iommu_that_is_known_to_work(case: Case) -> None:
    plan = planned(case)
    iommu = case.host.iommu
    if iommu.enabled is not True or (iommu.interrupt_remapping is False and iommu.unsafe_interrupts is not True):
        assert moving(plan) == set()
    if iommu.interrupt_remapping is False and moving(plan):
        assert "unsafe-interrupts" in {w.code for w in plan.warnings}
    assert all(f.iommu_group is not None for f in there(case, plan))


@settings(max_examples=120)
@given(cases())
def test_nothing_behind_a_vmd_controller_moves(case: Case) -> None:
    assert all(PciAddress.parse(a).domain <= 0xFFFF for a in moving(planned(case)))


@settings(max_examples=120)
@given(cases())
def test_a_card_never_moves_from_under_its_virtual_functions(case: Case) -> None:
    plan = planned(case)
    of = plan.of(Kind.NIC).virtual_function
    parents = {f.physfn for f in case.host.pci} | {of.physfn if of is not None else None}
    assert moving(plan).isdisjoint(parents)


@settings(max_examples=120)
@given(cases())
def test_a_virtual_function_is_made_only_where_none_is_and_nothing_else_lies(case: Case) -> None:
    plan = planned(case)
    of = plan.of(Kind.NIC).virtual_function
    assert made(plan).isdisjoint(case.host.by_address)
    if of is not None and of.created:
        card = case.host.by_address[of.physfn]
        assert card.sriov is not None
        assert not card.sriov.virtfns
        assert not card.sriov.numvfs
        assert card.driver not in {"", *HELD}
        assert card.sriov.writable is not False


@settings(max_examples=120)
@given(cases())
def test_a_bridge_never_moves(case: Case) -> None:
    assert not any((f.class_code or "").startswith("06") for f in there(case, planned(case)))


# --- what the host needs


def permitted(case: Case, decision: Decision, address: str, role: RoleName) -> bool:
    wanted = case.profile.device(decision.kind)
    return address in wanted.select and role in wanted.allow


def taken_although_needed(case: Case, plan: Plan) -> set[tuple[str, str]]:
    """Uses of the host that the plan ends unasked. A screen may go while another GPU is there to keep one."""
    gpus = {f.address for f in case.host.pci if (f.class_code or "").startswith("03")}
    keeps_another = bool(gpus - moving(plan))
    return {
        (address, role.role)
        for decision in passed(plan)
        for address in decision.functions
        for role in case.host.roles
        if role.address == address
        and not permitted(case, decision, address, role.role)
        and not (role.role is RoleName.CONNECTED_DISPLAY and keeps_another)
    }


@settings(max_examples=120)
@given(cases())
def test_nothing_that_the_host_needs_is_taken_unless_it_is_named_and_allowed(case: Case) -> None:
    assert taken_although_needed(case, planned(case)) == set()


@settings(max_examples=120)
@given(cases(allow=False))
def test_a_gpu_that_the_firmware_started_stays_with_the_host(case: Case) -> None:
    booted = {f.address for f in case.host.pci if f.boot_vga and f.driver not in HELD}
    assert moving(planned(case)).isdisjoint(booted)


@settings(max_examples=120)
@given(cases(), st.booleans())
def test_a_use_that_nobody_looked_for_is_not_taken_for_none(case: Case, forget: bool) -> None:
    if forget:
        case = case._replace(host=msgspec.structs.replace(case.host, roles_read=()))
    plan = planned(case)
    for decision in passed(plan):
        for address in set(decision.functions) - made(plan):
            for role in unseen_uses(case.host, case.host.by_address[address]):
                assert permitted(case, decision, address, role), f"{address} may be used by the host: {role}"


def unseen_uses(host: Host, function: PciFunction) -> set[RoleName]:
    """What a function may be used for, by its class, without anybody having looked. No driver, no use."""
    if function.driver in {"", *HELD}:
        return set()
    base = (function.class_code or "")[:4]
    on_a_graphics_card = any((f.class_code or "").startswith("03") for f in host.by_slot[function.place.slot])
    if base[:2] == "02":
        could = {RoleName.NETWORK}
    elif base[:2] == "01":
        could = {RoleName.MOUNTED_DISK}
    elif base == "0c03" and not on_a_graphics_card:
        could = {RoleName.MOUNTED_DISK, RoleName.INPUT}
    else:
        could = set()
    return could - set(host.roles_read)


@settings(max_examples=120)
@given(cases(allow=False))
def test_of_several_gpus_none_moves_when_nothing_tells_which_is_the_boot_display(case: Case) -> None:
    blind = tuple(msgspec.structs.replace(f, boot_vga=None) for f in case.host.pci)
    host = msgspec.structs.replace(case.host, pci=blind, roles=(), roles_read=())
    shown = {
        f.address for f in blind
        if (f.class_code or "")[:2] == "03" and f.base_class != "0302" and f.physfn is None and f.driver not in HELD
    }  # fmt: skip
    assert moving(planned(case._replace(host=host))).isdisjoint(shown)


@given(cases(allow=False), st.data())
def test_one_more_use_by_the_host_never_makes_that_function_move(case: Case, data: st.DataObject) -> None:
    free = [f.address for f in case.host.pci if f.driver not in HELD]
    assume(free)
    before = planned(case)
    added = Role(role=data.draw(st.sampled_from(RoleName)), address=data.draw(st.sampled_from(free)))
    after = tried(msgspec.structs.replace(case.host, roles=(*case.host.roles, added)), case.profile)
    assert added.address in moving(before) or added.address not in moving(after)


@given(cases(allow=False), st.data())
def test_a_device_that_the_host_comes_to_need_moves_no_further_up_its_ladder(case: Case, data: st.DataObject) -> None:
    before = planned(case)
    assume(passed(before))
    decision = data.draw(st.sampled_from(passed(before)))
    assume(decision.device is not None)
    role = Role(role=data.draw(st.sampled_from(RoleName)), address=str(decision.device))
    after = tried(msgspec.structs.replace(case.host, roles=(*case.host.roles, role)), case.profile)
    assume(isinstance(after, Plan))
    assert isinstance(after, Plan)
    assert rung(after, case.profile, decision.kind) >= rung(before, case.profile, decision.kind)


@settings(max_examples=120)
@given(cases())
def test_turning_the_iommu_off_never_moves_a_decision_up_its_ladder(case: Case) -> None:
    off = msgspec.structs.replace(case.host, iommu=msgspec.structs.replace(case.host.iommu, enabled=False))
    before, after = tried(case.host, case.profile), tried(off, case.profile)
    assume(isinstance(after, Plan))
    assert isinstance(after, Plan)
    assert isinstance(before, Plan), "there was no plan with the IOMMU on"
    for kind in STRATEGIES:
        assert rung(after, case.profile, kind) >= rung(before, case.profile, kind)


@settings(max_examples=120)
@given(cases())
def test_every_function_that_leaves_its_driver_is_told_once_with_the_way_back(case: Case) -> None:
    plan = planned(case)
    changed = [c.device for c in plan.host_changes if c.action == "bind-vfio"]
    assert changed == sorted([*made(plan), *(f.address for f in there(case, plan) if f.driver not in HELD)])
    assert all(c.undo for c in plan.host_changes)


@settings(max_examples=120)
@given(cases())
def test_a_plan_is_never_larger_than_the_pc_or_the_wish(case: Case) -> None:
    plan = planned(case)
    assert 1 <= plan.vcpus <= case.profile.size.vcpus
    assert not case.host.cpu.threads or plan.vcpus <= case.host.cpu.threads
    available = case.host.memory.available_mib
    assert available is None or plan.memory_mib <= available


@settings(max_examples=120)
@given(cases())
def test_a_plan_that_leaves_the_host_little_memory_says_so_and_could_not_be_smaller(case: Case) -> None:
    plan = planned(case)
    available, least = case.host.memory.available_mib, case.profile.size.memory_min or case.profile.size.memory
    little = available is not None and available - plan.memory_mib < 512
    assert not little or plan.memory_mib == parse_mib(least)
    if available is not None:
        assert little == ("little-memory-left" in {w.code for w in plan.warnings})


# --- verdicts


def verdicts(host: Host) -> dict[str, Device]:
    return {d.address: d for d in api.devices(host).devices}


@EVERY_RECORDED
def test_no_verdict_on_a_recorded_pc_is_no_for_what_a_plan_hands_over(case: Case) -> None:
    judged = verdicts(case.host)
    plan = planner.plan(case.host, case.profile)
    # A virtual function that is still to be created has no verdict yet.
    assert [a for a in moving(plan) if a in judged and judged[a].verdict is Verdict.NO] == []


@settings(max_examples=120)
@given(cases())
def test_no_verdict_is_no_for_what_a_plan_hands_over_unnamed(case: Case) -> None:
    plan, judged = tried(case.host, profiles.load("performance")[0]), verdicts(case.host)
    assert [a for a in moving(plan) if a in judged and judged[a].verdict is Verdict.NO] == []


def naming(kind: Kind, *addresses: str) -> Profile:
    # The device itself before its virtual functions: the verdict is on the device.
    ladder = [s for s in (Strategy.PASSTHROUGH, Strategy.VF, Strategy.OMIT) if s in STRATEGIES[kind]]
    lines = ['[guest]\ndrivers = ["virtio", "nvidia", "amd", "intel"]\n[size]\nvcpus = 1\nmemory = "64 MiB"']
    lines.append(f"[devices.{kind}]\nprefer = {json.dumps(ladder)}\nselect = {json.dumps(addresses)}")
    return parse((ProfileText("named", "named.toml", "\n".join(lines)),))


def check_against_plans(pc: Host) -> None:
    """A profile that names what a yes needs gets it, and one that names a no never does."""
    for device in verdicts(pc).values():
        if device.serves_as is None:
            continue
        together = [pc.by_address[a] for a in (device.address, *device.along)]
        plan = tried(pc, naming(device.serves_as, *(f.address for f in together)))
        if device.verdict is Verdict.NO:
            assert device.address not in moving(plan)
        elif isinstance(plan, Plan) and nameable(together) and not lacks_its_card(plan, device.address):
            assert device.address in moving(plan)


def lacks_its_card(plan: Plan, address: str) -> bool:
    """Whether a virtual network card was refused for its card's missing interface: no matter of VFIO's."""
    return any(r.device == address and r.reason is Reason.NO_PF_INTERFACE for d in plan.decisions for r in d.rejected)


def nameable(together: Sequence[PciFunction]) -> bool:
    """Whether a profile can name all of these for one device, and a guest has a driver for it.

    A virtual function takes nobody along in a plan, nor does a group's mate its card from another group.
    """
    first = together[0]
    groups = {f.iommu_group for f in together if f.place.slot == first.place.slot}
    known = all(f.vendor_id in {"10de", "1002", "8086"} for f in together if f.base_class.startswith("03"))
    return known and (first.physfn is None or len(together) == 1) and {f.iommu_group for f in together} <= groups


@pytest.mark.parametrize("name", RECORDED)
def test_a_plan_for_a_recorded_pc_does_with_a_named_device_what_its_verdict_says(name: str) -> None:
    check_against_plans(RECORDED[name])


@given(cases())
def test_a_plan_does_with_a_named_device_what_its_verdict_says(case: Case) -> None:
    check_against_plans(case.host)


# --- documents


@settings(max_examples=120)
@given(cases())
def test_a_host_document_reads_back_as_it_was_written(case: Case) -> None:
    assert host_model.decode(host_model.encode(case.host), "written") == case.host


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_host_document_reads_back_as_it_was_written(name: str) -> None:
    assert host_model.decode(host_model.encode(RECORDED[name]), "written") == RECORDED[name]


@settings(max_examples=120)
@given(cases())
def test_a_plan_document_reads_back_as_it_was_written(case: Case) -> None:
    plan = planned(case)
    assert plan_model.decode(plan_model.encode(plan), "written") == plan


# --- the domain

NAMES = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_letters + string.digits + "_"),
    st.text(string.ascii_letters + string.digits + "_.+-", max_size=63),
)


@UNSHRUNK
@given(cases(), NAMES)
def test_every_plan_renders_to_a_libvirt_domain_of_that_name(case: Case, name: str) -> None:
    xml = rendered(case, name)
    assert render.check(xml), "libvirt's schema is not installed: nothing was checked"
    assert etree.fromstring(xml.encode()).findtext("name") == name


def rendered(case: Case, name: str = "desktop") -> str:
    vm = Vm(name=name, plan=planned(case), profile=(case.text,), options=Options(disk="/d.img", disk_format="raw"))
    return render.render(vm, case.host)


@UNSHRUNK
@given(cases())
def test_every_function_that_moves_is_in_the_domain_once(case: Case) -> None:
    plan = planned(case)
    devices = etree.fromstring(rendered(case).encode()).find("devices")
    found = [
        *devices.iterfind("hostdev/source/address"),
        *devices.iterfind("interface[@type='hostdev']/source/address"),
    ]
    assert sorted(spelled(a) for a in found) == sorted(moving(plan))


def spelled(address: Any) -> str:
    return str(PciAddress(*(int(address.get(part), 16) for part in ("domain", "bus", "slot", "function"))))


@UNSHRUNK
@given(cases())
def test_a_domain_has_nothing_on_a_usb_bus_that_it_lacks_and_one_device_for_each_place_in_the_boot_order(
    case: Case,
) -> None:
    """Rules of libvirt's that its schema does not know, and that it applies when a domain is defined."""
    devices = etree.fromstring(rendered(case).encode()).find("devices")
    if devices.find("controller[@type='usb']").get("model") == "none":
        assert devices.find("input[@bus='usb']") is None
    orders = [boot.get("order") for boot in devices.iter("boot")]
    assert len(set(orders)) == len(orders)


@UNSHRUNK
@given(cases(), st.text(max_size=60))
@example(case_of("gh-desk-ryzen1600", "balanced"), "\x00\x0b\x7f\x85\u2028\ufffe\uffff</a>]]>\r\n")
def test_the_plan_and_any_profile_text_read_back_from_the_domain(case: Case, text: str) -> None:
    odd = ProfileText("odd", text, text)
    plan = planned(case)
    known = remembered.read(render.render(Vm(name="desktop", plan=plan, profile=(odd,)), case.host), "desktop")
    assert known is not None
    assert (known.profile, known.plan) == ((odd,), plan)
