"""Several VMs on one PC: the best sharing, checked against trying out every owner of everything."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clienthv import joint, planner, profiles, sets
from clienthv.errors import PlanError, ProfileError
from clienthv.joint import Wish
from clienthv.model import host as host_model
from clienthv.model.host import Cpu, Host, Iommu, Kvm, Memory, PciFunction, RoleName, SrIov
from clienthv.model.plan import Kind, Plan, Reason, Strategy
from clienthv.model.plans import Plans
from clienthv.model.profile import Profile, ProfileText, parse
from clienthv.strategies.claims import claims

S, K = Strategy, Kind
SCREEN = PciFunction(address="0000:00:02.0", class_code="030000", vendor_id="8086", driver="i915", boot_vga=True)
HOSTS = Path(__file__).resolve().parent.parent / "hosts"


def gpu(bus: int, group: int | None = None) -> PciFunction:
    return PciFunction(
        address=f"0000:{bus:02x}:00.0", class_code="030000", vendor_id="1002", device_id="67df", driver="amdgpu",
        boot_vga=False, iommu_group=bus if group is None else group,
    )  # fmt: skip


def nic(bus: int, vfs: int = 0, group: int | None = None) -> PciFunction:
    sriov = SrIov(totalvfs=vfs, numvfs=0, offset=128, stride=2, link_up=True, writable=True) if vfs else None
    return PciFunction(
        address=f"0000:{bus:02x}:00.0", class_code="020000", vendor_id="8086", device_id="10c9", driver="igb",
        iommu_group=bus if group is None else group, sriov=sriov, interfaces=(f"enp{bus}",),
    )  # fmt: skip


def pc(*functions: PciFunction, mib: int = 64 << 10) -> Host:
    return Host(
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


def check(host: Host, plans: Plans) -> None:
    """No key goes to two VMs, unless both share it."""
    for one, other in itertools.combinations([m.plan for m in plans.vms if m.plan is not None], 2):
        first, second = ([c for d in plan.decisions for c in claims(d, d.kind, host).items()] for plan in (one, other))
        for (key, alone), (same, also) in itertools.product(first, second):
            assert not (key == same and (alone or also)), key


@pytest.mark.parametrize("path", sorted(HOSTS.glob("*.json")), ids=lambda p: p.stem)
def test_on_recorded_pcs_nothing_is_given_twice(path: Path) -> None:
    host = msgspec.structs.replace(host_model.decode(path.read_bytes(), path.name), memory=Memory())
    wanted = profiles.load("performance")[0]
    check(host, joint.plan(host, [Wish(n, wanted) for n in "abc"]))


LADDERS = st.permutations(["passthrough", "paravirtual", "emulated"])
WANTS = st.builds(
    lambda g, n, must, pick: profile(
        gpu={"prefer": g} | ({"require": ["passthrough"]} if must else {}) | ({"select": [pick]} if pick else {}),
        nic={"prefer": ["vf", *n]},
    ),
    LADDERS, LADDERS, st.booleans(), st.sampled_from([None, "0000:01:00.0", "0000:03:00.0"]),
)  # fmt: skip
PCS = st.builds(
    lambda gpus, nics: pc(*gpus, *nics),
    st.lists(st.sampled_from([gpu(1), gpu(3), gpu(4, 3)]), max_size=2, unique_by=lambda f: f.address),
    st.lists(st.sampled_from([nic(5), nic(6, vfs=1), nic(7, vfs=2)]), max_size=1),
)


def exhaustive(host: Host, wishes: Sequence[Wish]) -> Any:
    """The least cost over every way to give each key that any VM could claim to one VM, or to all that share it."""
    search = joint._Search(host, wishes)
    start = [frozenset[str]()] * len(wishes)
    keys: set[str] = set()
    frontier = [frozenset[str]()]
    for number in range(len(wishes)):  # what a VM may come to claim when it has less and less
        frontier = [frozenset()]
        while frontier:
            lacking = frontier.pop()
            new = search.planned(number, lacking).claims.keys() - lacking
            keys |= new
            frontier += [lacking | {key} for key in new if len(lacking) < 4]
    best = None
    for owners in itertools.product(range(-1, len(wishes)), repeat=len(keys)):
        taken = [
            start[n] | {k for k, o in zip(sorted(keys), owners, strict=True) if o not in (n, -1)}
            for n in range(len(wishes))
        ]
        if search.conflict(taken) is None:
            cost = search.cost(taken)
            best = cost if best is None or cost < best else best
    return best


@settings(max_examples=25, deadline=None)
@given(PCS, st.lists(st.tuples(WANTS, st.integers(0, 1)), min_size=2, max_size=2))
def test_no_other_way_to_share_is_better(host: Host, wanted: list[tuple[Profile, int]]) -> None:
    wishes = sorted((Wish(f"vm{n}", p, priority) for n, (p, priority) in enumerate(wanted)), key=lambda w: -w.priority)
    search = joint._Search(host, wishes)
    taken, certain = search.best()
    assert certain
    assert search.cost(taken) == exhaustive(host, wishes)
    check(host, joint.plan(host, wishes))


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
