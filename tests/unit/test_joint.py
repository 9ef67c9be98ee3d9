"""Several VMs on one PC: the best sharing, checked against trying out every owner of everything."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clienthv import joint, planner, profiles, sets
from clienthv.errors import HostError, PlanError, ProfileError
from clienthv.joint import Wish
from clienthv.model import host as host_model
from clienthv.model.host import (
    Connector,
    Core,
    Cpu,
    EventDevice,
    Host,
    HostNetwork,
    Hugepages,
    Iommu,
    Kvm,
    Memory,
    PciFunction,
    Role,
    RoleName,
    SrIov,
)
from clienthv.model.network import Card
from clienthv.model.plan import Extras, Kind, Plan, Reason, Strategy
from clienthv.model.plans import Plans
from clienthv.model.profile import Profile, ProfileText, parse
from clienthv.model.usb import UsbDevice, UsbName
from clienthv.model.values import PciAddress
from clienthv.strategies import RULES, Option, pci, size
from clienthv.strategies.frame import again
from clienthv.strategies.usb_device import meant

S, K = Strategy, Kind
SCREEN = PciFunction(address="0000:00:02.0", class_code="030000", vendor_id="8086", driver="i915", boot_vga=True)
HOSTS = Path(__file__).resolve().parent.parent / "hosts"


def gpu(bus: int, group: int | None = None) -> PciFunction:
    return PciFunction(
        address=f"0000:{bus:02x}:00.0", class_code="030000", vendor_id="1002", device_id="67df", driver="amdgpu",
        boot_vga=False, iommu_group=bus if group is None else group,
    )  # fmt: skip


def screen(bus: int) -> PciFunction:
    return msgspec.structs.replace(gpu(bus), connectors=(Connector(name="DP-1", connected=True),))


def nic(bus: int, vfs: int = 0, group: int | None = None) -> PciFunction:
    sriov = SrIov(totalvfs=vfs, numvfs=0, offset=128, stride=2, link_up=True, writable=True) if vfs else None
    return PciFunction(
        address=f"0000:{bus:02x}:00.0", class_code="020000", vendor_id="8086", device_id="10c9", driver="igb",
        iommu_group=bus if group is None else group, sriov=sriov, interfaces=(f"enp{bus}",),
    )  # fmt: skip


def pc(*functions: PciFunction, mib: int = 64 << 10) -> Host:
    shown = tuple(Role(role=RoleName.CONNECTED_DISPLAY, address=f.address) for f in functions if f.connectors)
    return Host(
        roles=shown,
        name="pc", cpu=Cpu(architecture="x86_64", threads=16), memory=Memory(total_mib=mib, available_mib=mib),
        kvm=Kvm(usable=True), pci=(SCREEN, *functions), roles_read=tuple(RoleName), tpm_device=True,
        iommu=Iommu(enabled=True, interrupt_remapping=True, groups=40, acs_override=False),
    )  # fmt: skip


def profile(name: str = "p", memory: str = "1 GiB", **tables: dict[str, Any]) -> Profile:
    text = [f"[guest]\ndrivers = ['virtio', 'amd']\n[size]\nvcpus = 1\nmemory = '{memory}'"]
    for kind, keys in tables.items():
        text += [f"[devices.{kind}]", *(f"{key} = {value!r}" for key, value in keys.items())]
    return parse((ProfileText(name, f"{name}.toml", "\n".join(text)),))


PASS = {"prefer": ["passthrough", "paravirtual", "emulated"]}
WANTS_GPU = profile(gpu=PASS)
WANTS_VF = profile(nic={"prefer": ["vf", "passthrough", "paravirtual"]})


def of(plans: Plans, number: int) -> Plan:
    plan = plans.vms[number].plan
    assert plan is not None, plans.vms[number].problem
    return plan


def test_of_three_vms_that_want_the_one_gpu_one_gets_it_and_the_others_are_told_who() -> None:
    plans = joint.plan(pc(gpu(1)), [Wish(name, WANTS_GPU) for name in "abc"])
    assert [of(plans, n).of(K.GPU).strategy for n in range(3)] == [S.PASSTHROUGH, S.PARAVIRTUAL, S.PARAVIRTUAL]
    for number in (1, 2):
        (given_away,) = [r for r in of(plans, number).of(K.GPU).rejected if r.reason is Reason.GIVEN_TO_OTHER_VM]
        assert given_away.device == "0000:01:00.0"
        assert "goes to VM a" in given_away.detail


def test_priority_decides_before_the_order_of_the_arguments_and_is_named() -> None:
    plans = joint.plan(pc(gpu(1)), [Wish("a", WANTS_GPU), Wish("b", WANTS_GPU, priority=5)])
    assert of(plans, 1).of(K.GPU).strategy is S.PASSTHROUGH
    (given_away,) = [r for r in of(plans, 0).of(K.GPU).rejected if r.reason is Reason.GIVEN_TO_OTHER_VM]
    assert "its priority is higher (5 over 0)" in given_away.detail


def test_a_device_goes_to_the_vm_that_would_fall_further() -> None:
    falls_far = profile(gpu={"prefer": ["passthrough", "vf", "omit"]})
    plans = joint.plan(pc(gpu(1)), [Wish("near", WANTS_GPU), Wish("far", falls_far)])
    assert of(plans, 1).of(K.GPU).strategy is S.PASSTHROUGH


def test_a_vm_that_requires_the_device_goes_before_one_that_can_do_without() -> None:
    must = profile(gpu=PASS | {"require": ["passthrough"]})
    plans = joint.plan(pc(gpu(1)), [Wish("may", WANTS_GPU), Wish("must", must)])
    assert [m.plan is None for m in plans.vms] == [False, False]
    assert of(plans, 1).of(K.GPU).strategy is S.PASSTHROUGH


def test_the_first_leaves_the_card_that_only_the_second_can_use() -> None:
    picky = profile(gpu=PASS | {"select": ["0000:01:00.0"]})
    plans = joint.plan(pc(gpu(1), gpu(3)), [Wish("any", WANTS_GPU), Wish("picky", picky)])
    assert [of(plans, n).of(K.GPU).device for n in (0, 1)] == ["0000:03:00.0", "0000:01:00.0"]


def test_all_get_a_virtual_function_of_their_own_while_there_are_enough() -> None:
    plans = joint.plan(pc(nic(5, vfs=2)), [Wish(n, WANTS_VF) for n in "abc"])
    decisions = [of(plans, n).of(K.NIC) for n in range(3)]
    assert [d.strategy for d in decisions] == [S.VF, S.VF, S.PARAVIRTUAL]
    assert len({d.device for d in decisions[:2]}) == 2


def test_a_card_and_its_virtual_functions_do_not_go_to_different_vms() -> None:
    whole = profile(nic={"prefer": ["passthrough", "emulated"]})
    plans = joint.plan(pc(nic(5, vfs=7)), [Wish("whole", whole), Wish("vf", WANTS_VF)])
    strategies = {of(plans, 0).of(K.NIC).strategy, of(plans, 1).of(K.NIC).strategy}
    assert strategies != {S.PASSTHROUGH, S.VF}


def test_a_group_goes_to_one_vm() -> None:
    host = pc(*(msgspec.structs.replace(gpu(bus, 7), driver="vfio-pci") for bus in (1, 3)))
    plans = joint.plan(host, [Wish("a", WANTS_GPU), Wish("b", WANTS_GPU)])
    assert [of(plans, n).of(K.GPU).strategy for n in (0, 1)] == [S.PASSTHROUGH, S.PARAVIRTUAL]


def test_the_tpm_goes_to_one_vm() -> None:
    wants = profile(tpm={"prefer": ["passthrough", "emulated", "omit"]})
    plans = joint.plan(pc(), [Wish("a", wants), Wish("b", wants)])
    assert [of(plans, n).of(K.TPM).strategy for n in (0, 1)] == [S.PASSTHROUGH, S.EMULATED]


def test_memory_goes_to_minimums_first_and_then_in_order_of_priority() -> None:
    shrinks = parse((ProfileText("p", "p.toml", "[size]\nmemory = '8 GiB'\nmemory_min = '1 GiB'"),))
    plans = joint.plan(pc(mib=(6 << 10) + 512), [Wish("a", shrinks), Wish("b", shrinks, priority=1)])
    assert [of(plans, n).memory_mib for n in (0, 1)] == [1 << 10, 5 << 10]


def test_a_vm_that_does_not_fit_beside_the_others_is_named_and_the_others_have_plans() -> None:
    plans = joint.plan(pc(mib=2500), [Wish(n, profile()) for n in "abc"])
    assert [m.plan is None for m in plans.vms] == [False, False, True]
    assert "no memory is left" in (plans.vms[2].problem or "")


def test_one_vm_has_the_plan_it_would_have_alone() -> None:
    for path in sorted(HOSTS.glob("*.json")):
        host = host_model.decode(path.read_bytes(), path.name)
        for name in ("performance", "balanced"):
            wanted = profiles.load(name)[0]
            try:
                alone = planner.plan(host, wanted)
            except PlanError:
                continue
            (member,) = joint.plan(host, [Wish("only", wanted)]).vms
            assert member.plan == alone


def taken_by(plan: Plan) -> set[str]:
    return {a for d in plan.decisions if d.strategy in (S.PASSTHROUGH, S.VF) for a in d.functions}


def check(host: Host, plans: Plans) -> None:
    """No function and no IOMMU group goes to two VMs, nor a card to one and its virtual function to another."""
    there = [m.plan for m in plans.vms if m.plan is not None]
    for one, other in itertools.permutations(there, 2):
        mine, theirs = taken_by(one), taken_by(other)
        assert not mine & theirs
        groups = [
            {f.iommu_group for a in taken if (f := host.by_address.get(a)) and f.iommu_group is not None}
            for taken in (mine, theirs)
        ]
        assert not groups[0] & groups[1]
        assert not mine & {d.virtual_function.physfn for d in other.decisions if d.virtual_function is not None}
        ports = [
            {p.port for d in plan.all_of(K.USB_DEVICE) if d.device and (p := meant(UsbName.parse(d.device), host))}
            | {u.port for u in host.usb or () if u.controller in taken_by(plan)}
            for plan in (one, other)
        ]
        assert not ports[0] & ports[1]


@pytest.mark.parametrize("path", sorted(HOSTS.rglob("*.json")), ids=lambda p: p.stem)
def test_on_recorded_pcs_nothing_is_given_twice(path: Path) -> None:
    host = msgspec.structs.replace(host_model.decode(path.read_bytes(), path.name), memory=Memory())
    wanted = profiles.load("performance")[0]
    check(host, joint.plan(host, [Wish(n, wanted) for n in "abc"]))


NICS = ["vf", "passthrough", "paravirtual", "emulated"]
LADDERS = st.permutations(["passthrough", "paravirtual", "emulated"])
WANTS = st.builds(
    lambda g, n, must, pick: profile(
        gpu={"prefer": g} | ({"require": ["passthrough"]} if must else {}) | ({"select": [pick]} if pick else {}),
        nic={"prefer": n},
    ),
    LADDERS, st.permutations(NICS), st.booleans(), st.sampled_from([None, None, "0000:01:00.0", "0000:03:00.0"]),
)  # fmt: skip
PCS = st.builds(
    lambda gpus, nics: pc(*gpus, *nics),
    st.lists(
        st.sampled_from([gpu(1), gpu(3), gpu(4, 3), screen(5), screen(6)]), max_size=3, unique_by=lambda f: f.address
    ),
    st.lists(
        st.sampled_from([nic(0x15), nic(0x16, vfs=1), nic(0x17, vfs=2)]), max_size=2,
        unique_by=lambda f: f.address,
    ),
)  # fmt: skip


class Way(NamedTuple):
    """One way to give a VM its GPU and network card: how far below the top, what moves, whose function is used."""

    rungs: int
    functions: frozenset[str]
    physfns: frozenset[str]


def ways(host: Host, wanted: Profile) -> list[Way]:
    """Every choice of one option for each of the two, of those that the kinds' rules let pass and no group is torn."""
    asked = planner.ask(host, wanted)
    by_kind = []
    for kind in (K.GPU, K.NIC):
        found: dict[Option, int] = {}
        places = [str(PciAddress.parse(f.address).further(128 + 2 * n)) for f in host.pci if f.sriov for n in range(2)]
        for number in range(len(places) + 1):
            for gone in itertools.combinations(places, number):
                question = again(asked, taken=frozenset(gone))
                for rung, strategy in enumerate(asked.profile.ladder(kind)):
                    for option in RULES[kind].options(strategy, question):
                        if not list(RULES[kind].objections(option, question)):
                            found[option] = rung
        by_kind.append(found)
    made = []
    for (one, a), (other, b) in itertools.product(by_kind[0].items(), by_kind[1].items()):
        moving = {f for o in (one, other) if o.strategy in (S.PASSTHROUGH, S.VF) for f in o.functions}
        physfns = frozenset(o.virtual_function.physfn for o in (one, other) if o.virtual_function is not None)
        whole = all(pci.torn_group(o, moving, host) is None for o in (one, other) if o.strategy is S.PASSTHROUGH)
        if whole and not physfns & moving:
            made.append(Way(a + b, frozenset(moving), physfns))
    return made


def stand_together(host: Host, chosen: Sequence[Way | None]) -> bool:
    """Whether several VMs can be so at once, told from the host alone."""
    there = [way for way in chosen if way is not None]
    for one, other in itertools.permutations(there, 2):
        groups = [
            {host.by_address[f].iommu_group for f in way.functions if f in host.by_address} for way in (one, other)
        ]
        if one.functions & other.functions or one.functions & other.physfns or groups[0] & groups[1]:
            return False
    screens = {f.address for f in host.pci if any(r.address == f.address for r in host.roles)}
    taken = screens.intersection(*[{f for way in there for f in way.functions}])
    return not taken or taken != screens


def least_cost(host: Host, wishes: Sequence[Wish]) -> Any:
    """The best there is: fewest VMs without a plan, then rungs priority by priority, then VM by VM."""
    choices = [[None, *ways(host, wish.profile)] for wish in wishes]
    classes = sorted({wish.priority for wish in wishes}, reverse=True)

    def cost(chosen: Sequence[Way | None]) -> Any:
        missing = [sum(w is None for w, v in zip(chosen, wishes, strict=True) if v.priority == c) for c in classes]
        rungs = [sum(w.rungs for w, v in zip(chosen, wishes, strict=True) if w and v.priority == c) for c in classes]
        return sum(missing), missing, rungs, [w.rungs if w else 0 for w in chosen]

    return min(cost(chosen) for chosen in itertools.product(*choices) if stand_together(host, chosen))


def cost_of(plans: Plans, wishes: Sequence[Wish]) -> Any:
    classes = sorted({wish.priority for wish in wishes}, reverse=True)
    rungs = [
        sum(w.profile.ladder(kind).index(m.plan.of(kind).strategy) for kind in (K.GPU, K.NIC)) if m.plan else None
        for m, w in zip(plans.vms, wishes, strict=True)
    ]
    by_class = [[r for r, w in zip(rungs, wishes, strict=True) if w.priority == c] for c in classes]
    missing = [sum(r is None for r in of) for of in by_class]
    return sum(missing), missing, [sum(r or 0 for r in of) for of in by_class], [r or 0 for r in rungs]


@settings(max_examples=60, deadline=None)
@given(PCS, st.lists(st.tuples(WANTS, st.integers(0, 1)), min_size=2, max_size=3))
def test_no_other_way_to_share_is_better(host: Host, wanted: list[tuple[Profile, int]]) -> None:
    wishes = sorted((Wish(f"vm{n}", p, priority) for n, (p, priority) in enumerate(wanted)), key=lambda w: -w.priority)
    plans = joint.plan(host, wishes)
    check(host, plans)
    assert plans.warnings == ()
    assert cost_of(plans, wishes) == least_cost(host, wishes)


@settings(max_examples=40, deadline=None)
@given(PCS, st.lists(WANTS, min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_the_order_of_equals_changes_nothing_of_the_whole(host: Host, wanted: list[Profile], random: Random) -> None:
    wishes = [Wish(f"vm{n}", p) for n, p in enumerate(wanted)]
    shuffled = list(wishes)
    random.shuffle(shuffled)
    assert cost_of(joint.plan(host, wishes), wishes)[:3] == cost_of(joint.plan(host, shuffled), shuffled)[:3]


@settings(max_examples=40, deadline=None)
@given(PCS, st.lists(WANTS, min_size=1, max_size=2), WANTS)
def test_a_vm_of_lower_priority_lets_no_vm_above_it_fall(host: Host, wanted: list[Profile], last: Profile) -> None:
    """Unless it requires what those above can do without: as many VMs as possible have a plan."""
    above = [Wish(f"vm{n}", p, 1) for n, p in enumerate(wanted)]
    wishes = [*above, Wish("last", last)]
    alone, together = joint.plan(host, above), joint.plan(host, wishes)
    if last.device(K.GPU).require and together.vms[-1].plan is not None:
        return
    assert cost_of(alone, above) == cost_of(Plans(host="pc", vms=together.vms[:-1], warnings=()), above)


def test_a_vm_that_loses_the_card_to_a_virtual_function_has_one_itself() -> None:
    """The search once took all virtual functions from who could not have the card alone."""
    whole_first = profile(nic={"prefer": ["passthrough", "vf", "paravirtual"]})
    plans = joint.plan(pc(nic(5, vfs=2)), [Wish("vf", WANTS_VF, 1), Wish("whole", whole_first)])
    assert [of(plans, n).of(K.NIC).strategy for n in (0, 1)] == [S.VF, S.VF]


def test_of_the_hosts_last_two_screens_one_stays_whoever_wants_them() -> None:
    plans = joint.plan(pc(screen(1), screen(3)), [Wish(n, WANTS_GPU) for n in "ab"])
    assert [of(plans, n).of(K.GPU).strategy for n in (0, 1)] == [S.PASSTHROUGH, S.PARAVIRTUAL]
    lost = [r.detail for r in of(plans, 1).of(K.GPU).rejected if r.reason is Reason.GIVEN_TO_OTHER_VM]
    assert any("screens of the host goes to VM a" in detail for detail in lost)
    both = profile(gpu=PASS | {"select": ["0000:03:00.0"], "allow": ["connected-display"]})
    plans = joint.plan(pc(screen(1), screen(3)), [Wish("a", WANTS_GPU), Wish("b", both, 1)])
    assert [of(plans, n).of(K.GPU).strategy for n in (0, 1)] == [S.PARAVIRTUAL, S.PASSTHROUGH]


def usb(port: str, product: str, *, keyboard: bool = False) -> UsbDevice:
    return UsbDevice(
        port=port, vendor_id="046d", product_id=product, keyboard=keyboard, busnum=1, devnum=int(port[-1]),
        device_class="00", interface_classes=("030101",) if keyboard else (), controller=XHCI.address, drivers=(),
    )  # fmt: skip


XHCI = PciFunction(
    address="0000:00:14.0", class_code="0c0330", vendor_id="8086", device_id="a36d", driver="xhci_hcd", iommu_group=20
)


def with_usb(*devices: UsbDevice) -> Host:
    return msgspec.structs.replace(pc(XHCI), usb=devices, other_keyboards=())


def test_of_the_hosts_last_two_keyboards_one_stays() -> None:
    host = with_usb(usb("1-1", "c001", keyboard=True), usb("1-2", "c002", keyboard=True))
    wishes = [Wish(n, profile(usb={"devices": [f"046d:{p}"]})) for n, p in (("a", "c001"), ("b", "c002"))]
    plans = joint.plan(host, wishes)
    assert [d.strategy for n in (0, 1) for d in of(plans, n).all_of(K.USB_DEVICE)] == [S.PASSTHROUGH, S.OMIT]


def test_a_usb_device_goes_to_one_vm_whatever_it_is_called_and_not_beside_its_controller() -> None:
    host = with_usb(usb("1-1", "c077"))
    names = [profile(usb={"devices": [name]}) for name in ("046d:c077", "046d:c077@1-1")]
    plans = joint.plan(host, [Wish("a", names[0]), Wish("b", names[1])])
    assert [d.strategy for n in (0, 1) for d in of(plans, n).all_of(K.USB_DEVICE)] == [S.PASSTHROUGH, S.OMIT]
    whole = profile(usb={"prefer": ["passthrough", "emulated"], "select": [XHCI.address]})
    plans = joint.plan(host, [Wish("whole", whole), Wish("a", names[0])])
    check(host, plans)
    got = (of(plans, 0).of(K.USB).strategy, of(plans, 1).all_of(K.USB_DEVICE)[0].strategy)
    assert got == (S.PASSTHROUGH, S.OMIT)


def test_huge_pages_and_pinned_cores_go_to_one_vm() -> None:
    pages = Hugepages(size_kib=2048, total=700, free=700)
    cores = tuple(Core(threads=(n, n + 4), numa_node=0) for n in range(4))
    host = msgspec.structs.replace(
        pc(), memory=Memory(available_mib=9000, hugepages=(pages,), hugetlbfs=True),
        cpu=Cpu(architecture="x86_64", virtualization="vmx", threads=8, topology=cores),
    )  # fmt: skip
    text = "[size]\nvcpus = 2\nmemory = '1 GiB'\nhugepages = true\n[devices.cpu]\npin = true"
    wanted = parse((ProfileText("p", "p.toml", text),))
    plans = joint.plan(host, [Wish(n, wanted) for n in "abcd"])
    extras = [of(plans, n).extras or Extras() for n in range(4)]
    assert [e.hugepages_kib for e in extras] == [2048, None, None, None]
    assert [e.pins.vcpus if e.pins else None for e in extras] == [(1, 5), (2, 6), (3, 7), None]


def test_3d_does_not_stand_on_a_card_that_another_vm_takes() -> None:
    cards = [msgspec.structs.replace(gpu(bus), render_node=f"renderD{128 + bus}") for bus in (1, 3)]
    draws = profile(gpu={"prefer": ["paravirtual-3d", "paravirtual"]})
    plans = joint.plan(pc(*cards), [Wish("a", WANTS_GPU), Wish("b", draws)])
    assert of(plans, 0).of(K.GPU).device == "0000:01:00.0"
    assert of(plans, 1).of(K.GPU).render_node == "renderD131"
    plans = joint.plan(pc(cards[0]), [Wish("a", WANTS_GPU), Wish("b", draws)])
    assert {of(plans, n).of(K.GPU).strategy for n in (0, 1)} in (
        {S.PASSTHROUGH, S.PARAVIRTUAL},
        {S.PARAVIRTUAL_3D, S.PARAVIRTUAL},
    )


def test_a_shared_keyboard_is_not_unplugged_by_another_vm() -> None:
    keys = EventDevice(links=("by-path/x-event-kbd",), kind="keyboard", port="1-1")
    host = msgspec.structs.replace(
        with_usb(usb("1-1", "c001", keyboard=True), usb("1-2", "c002", keyboard=True)), events=(keys,)
    )
    shares = profile(input={"prefer": ["passthrough", "emulated"], "evdev": ["x-event-kbd"]})
    plans = joint.plan(host, [Wish("a", shares, 1), Wish("b", profile(usb={"devices": ["046d:c001@1-1"]}))])
    assert of(plans, 0).of(K.INPUT).strategy is S.PASSTHROUGH
    (lost,) = of(plans, 1).all_of(K.USB_DEVICE)
    assert lost.strategy is S.OMIT
    assert "goes to VM a" in lost.rejected[0].detail


def test_a_card_under_another_vms_network_does_not_go_whole() -> None:
    host = msgspec.structs.replace(
        pc(nic(5)), network=HostNetwork(cards=(Card(name="enp5", up=True, wireless=False, master=""),), bridges=())
    )
    plugged = profile(nic={"prefer": ["emulated"], "network": ["macvtap", "user"]})
    whole = profile(nic={"prefer": ["passthrough", "emulated"]})
    plans = joint.plan(host, [Wish("a", plugged, 1), Wish("b", whole)])
    assert [of(plans, n).of(K.NIC).strategy for n in (0, 1)] == [S.EMULATED, S.EMULATED]
    assert str(of(plans, 0).of(K.NIC).network) == "macvtap:enp5"


def test_a_vm_that_requires_what_another_has_is_told_who() -> None:
    must = profile(gpu=PASS | {"require": ["passthrough"]})
    plans = joint.plan(pc(gpu(1)), [Wish("first", must), Wish("second", must)])
    assert "goes to VM first" in (plans.vms[1].problem or "")


def test_a_vm_of_low_priority_shifts_nothing_that_it_gains_nothing_from() -> None:
    high = [Wish("x", WANTS_GPU, 2), Wish("y", WANTS_GPU, 1)]
    host = pc(gpu(1), gpu(3))
    before = [m.plan for m in joint.plan(host, high).vms]
    after = joint.plan(host, [*high, Wish("low", WANTS_GPU)])
    assert [m.plan for m in after.vms[:2]] == before
    told = [r.detail for r in of(after, 2).of(K.GPU).rejected if r.reason is Reason.GIVEN_TO_OTHER_VM]
    assert [d.split(" goes to VM ")[1][0] for d in told] == ["x", "y"], "each device names the VM that has it"


def test_a_vm_that_cannot_be_holds_no_memory() -> None:
    must = profile("must", memory="2 GiB", gpu=PASS | {"require": ["passthrough"]})
    plain = profile("plain", memory="2 GiB")
    plans = joint.plan(pc(mib=2600), [Wish("must", must, 1), Wish("plain", plain)])
    assert plans.vms[0].plan is None
    assert of(plans, 1).memory_mib == 2048


@given(st.integers(600, 9000), st.integers(64, 4096), st.integers(0, 4096))
def test_memory_is_the_same_alone_and_in_a_set_of_one(available: int, least: int, more: int) -> None:
    text = f"[size]\nmemory = '{least + more} MiB'\nmemory_min = '{least} MiB'"
    wanted = parse((ProfileText("p", "p.toml", text),))
    host = pc(mib=available)
    try:
        alone = size.memory_mib(host, wanted)
    except HostError:
        assert size.memories_mib(host, [wanted]) == [None]
    else:
        assert size.memories_mib(host, [wanted]) == [alone]


def test_a_search_without_an_end_is_given_up_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "MOST_STATES", 1)
    host = pc(gpu(1), gpu(3))
    plans = joint.plan(host, [Wish(n, WANTS_GPU) for n in "abc"])
    assert [w.code for w in plans.warnings] == ["not-the-best"]
    check(host, plans)
    assert [of(plans, n).of(K.GPU).strategy for n in range(3)] == [S.PASSTHROUGH, S.PASSTHROUGH, S.PARAVIRTUAL]


def test_a_set_gives_names_and_priorities_and_numbers_the_nameless(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("extends = 'balanced'\n")
    path = tmp_path / "set.toml"
    path.write_text(
        "schema = 1\n[[vm]]\nprofile = 'balanced'\n[[vm]]\nprofile = 'balanced'\npriority = 3\n"
        "[[vm]]\nprofile = './own.toml'\nname = 'mine'\n"
    )
    assert [(vm.name, vm.priority) for vm in sets.load(path)] == [("balanced", 0), ("balanced-2", 3), ("mine", 0)]


@pytest.mark.parametrize(
    "text",
    [
        "", "[[vm]]\n", "[[vm]]\nprofile = 'balanced'\ncolour = 1\n", "schema = 2\n[[vm]]\nprofile = 'balanced'\n",
        "[[vm]]\nprofile = 'balanced'\nname = 'a'\n[[vm]]\nprofile = 'balanced'\nname = 'a'\n",
        "[[vm]]\nprofile = 'balanced'\nname = '../a'\n", "[[vm]]\nprofile = 'no-such'\n", "\x00",
        "[[vm]]\nprofile = 'balanced'\npriority = 1e99\n",
    ],
)  # fmt: skip
def test_what_is_no_set_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "set.toml"
    path.write_text(text)
    with pytest.raises(ProfileError):
        sets.load(path)
