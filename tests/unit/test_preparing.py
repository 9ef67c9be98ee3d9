"""Preparing the host for a VM and giving it back: a card that behaves as the kernel's do, and a libvirt of strings."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from clienthv import hostchanges, journal, places, planner
from clienthv.errors import DocumentError, GuestError, HostError, PlanError
from clienthv.hypervisor import DomainState
from clienthv.hypervisor.domain import host_functions
from clienthv.lifecycle import live, looking, recovering, remembered, returning, stopping
from clienthv.lifecycle.keeping import Asked
from clienthv.lifecycle.preparing import Ready
from clienthv.lifecycle.returning import Site
from clienthv.model.change import Change, Setting, What
from clienthv.model.host import Cpu, DomainCapabilities, GuestClaims, Host, Iommu, Kvm, Stack
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.model.profile import Profile, ProfileText, parse
from clienthv.model.vm import Seen, Vm
from clienthv.render import render

CARD = "0000:01:00.0"
FIRST, SECOND = "0000:02:10.0", "0000:02:10.2"
UNTOUCHED = ("0", "1", False, set())
PREPARED = ("7", "0", True, set())
OFFERED = DomainCapabilities(
    domain_type="kvm", firmware=("efi",), video_models=("virtio", "vga"), graphics=("spice", "vnc"),
    pci_backends=("vfio",), cpu_modes=("host-model",),
)  # fmt: skip


class FakeDomain:
    def __init__(self, name: str, functions: tuple[str, ...]) -> None:
        self.name = name
        self.functions = functions
        self.running = True

    def is_active(self) -> bool:
        return self.running

    def state(self) -> tuple[DomainState, str]:
        return (DomainState.RUNNING if self.running else DomainState.SHUTOFF), ""

    def destroy(self) -> None:
        self.running = False

    def xml(self, *, inactive: bool = False) -> str:
        return f"<domain><name>{self.name}</name></domain>"


class FakeConnection:
    """A libvirt with running VMs."""

    def __init__(self, uri: str = "qemu:///system") -> None:
        self.uri = uri
        self.vms: dict[str, FakeDomain] = {}

    def revive(self) -> bool:
        return False

    def run(self, name: str, *functions: str) -> FakeDomain:
        self.vms[name] = FakeDomain(name, functions)
        return self.vms[name]

    def domains(self) -> list[FakeDomain]:
        return list(self.vms.values())

    def find(self, name: str) -> FakeDomain | None:
        return self.vms.get(name)

    def domain(self, name: str) -> FakeDomain:
        if name not in self.vms:
            raise GuestError(f"there is no VM {name!r}")
        return self.vms[name]

    def claims(self) -> list[GuestClaims]:
        return [GuestClaims(name=v.name, running=v.running, functions=v.functions) for v in self.vms.values()]

    def stack(self, **_: Any) -> Stack:
        held = tuple(a for vm in self.vms.values() if vm.running for a in vm.functions)
        return Stack(uri=self.uri, privileged=True, capabilities=OFFERED, guest_functions=held)


class Pc:
    """A PC with a card, a libvirt, and the VMs that are started on it."""

    def __init__(self, card: Any, prepared: Callable[..., Any]) -> None:
        self.card = card
        self.prepared = prepared
        self.connection = FakeConnection()
        self.said: list[str] = []

    def site(self, name: str) -> Site:
        return Site(self.connection, name, self.card.root)  # type: ignore[arg-type]

    def start(self, name: str, profile: Profile, fail: BaseException | None = None) -> Ready:
        """Start a VM, or fail to."""

        def begin(ready: Ready) -> None:
            if fail is not None:
                raise fail
            functions = ready.plan.of(Kind.NIC).functions
            for address in functions:
                self.card.bind(address, "vfio-pci")
            self.connection.run(name, *functions)

        ready: Ready = self.prepared(self.site(name), Asked(profile), self.said.append, begin)
        return ready

    def end(self, name: str) -> None:
        """The guest ends, and libvirt gives its functions back: to nobody, since the kernel probes no driver."""
        vm = self.connection.vms[name]
        vm.running = False
        for address in vm.functions:
            self.card.bind(address, "")

    def take_back(self, name: str) -> list[str]:
        return returning.settle(self.site(name), self.said.append)

    def entries(self) -> list[tuple[str, list[str]]]:
        found = journal.read(returning.where(self.card.root))
        return [(e.change.setting.what.value, [o.vm for o in e.owners]) for e in found]


@pytest.fixture
def pc(card: Any, prepared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Pc:
    def read(root: str) -> Host:
        found = real(root)
        return msgspec.structs.replace(
            found,
            iommu=Iommu(enabled=True, interrupt_remapping=True, groups=9, acs_override=False),
            kvm=Kvm(usable=True),
            cpu=Cpu(virtualization="vmx", threads=8),
        )

    real = live.inspect.read
    monkeypatch.setattr(live.inspect, "read", read)
    return Pc(card, prepared)


def wish(*ladder: str, **nic: Any) -> Profile:
    lines = ["[guest]", 'drivers = ["virtio"]', "[devices.nic]", f"prefer = {json.dumps(ladder or ['vf', 'emulated'])}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in nic.items()]
    return parse((ProfileText("test", "test.toml", "\n".join(lines)),))


def nic(ready: Ready) -> tuple[Strategy, str | None]:
    decision = ready.plan.of(Kind.NIC)
    return decision.strategy, decision.device


# --- one VM


def test_the_link_comes_first_then_no_probing_then_the_functions(pc: Pc) -> None:
    ready = pc.start("a", wish())
    assert pc.card.log == ["link up", "sriov_drivers_autoprobe=0", "sriov_numvfs=7"]
    assert pc.card.state == PREPARED
    assert nic(ready) == (Strategy.VF, FIRST)


def test_the_plan_that_is_started_is_made_for_the_functions_that_are_there_and_tells_what_was_changed(pc: Pc) -> None:
    plan = pc.start("a", wish()).plan
    of = plan.of(Kind.NIC).virtual_function
    assert (of and of.physfn, of and of.index, of and of.created) == (CARD, 0, False)
    assert [c.action for c in plan.host_changes] == ["link-up", "vf-autoprobe", "create-vfs", "bind-vfio"]


def test_the_real_address_is_used_where_the_kernel_put_the_function_elsewhere(pc: Pc) -> None:
    (pc.card.folder / "sriov_offset").write_text("128\n")
    assert planner.plan(live.read_host(pc.connection, pc.card.root), wish()).of(Kind.NIC).device == "0000:01:10.0"  # type: ignore[arg-type]
    ready = pc.start("a", wish())
    xml = render(Vm(name="a", plan=ready.plan, profile=()), ready.host)
    assert host_functions(xml) == (FIRST,)


def test_after_down_the_host_is_what_it_was(pc: Pc) -> None:
    pc.start("a", wish(trust=True))
    assert pc.card.trusted == {0}
    pc.end("a")
    said = pc.take_back("a")
    assert pc.card.state == UNTOUCHED
    assert pc.card.log[4:] == ["trust 0 off", "sriov_numvfs=0", "sriov_drivers_autoprobe=1", "link down"]
    assert len(said) == 4
    assert pc.entries() == []
    assert pc.take_back("a") == []


def test_everything_is_written_down_before_it_is_done(pc: Pc, monkeypatch: Any) -> None:
    seen: list[tuple[list[str], tuple[Any, ...]]] = []
    make = hostchanges.make

    def watched(change: Any, root: str) -> None:
        seen.append(([what for what, _ in pc.entries()], pc.card.state))
        make(change, root)

    monkeypatch.setattr(hostchanges, "make", watched)
    pc.start("a", wish(trust=True))
    assert [what[-1] for what, _ in seen] == ["link-up", "vf-autoprobe", "create-vfs", "vf-trust"]
    assert [state[0] for _, state in seen] == ["0", "0", "0", "7"]


@pytest.mark.parametrize("failure", [GuestError("QEMU ended"), KeyboardInterrupt(), SystemExit(143)])
def test_a_start_that_fails_or_is_interrupted_leaves_the_host_as_it_was(pc: Pc, failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        pc.start("a", wish(trust=True), fail=failure)
    assert pc.card.state == UNTOUCHED
    assert pc.entries() == []


def breaking(what: str, after: bool, error: type[BaseException]) -> Callable[[Any, str], None]:
    """Makes changes as ever, until one of a kind: that ends in an error, before or after it is made."""
    make = hostchanges.make

    def broken(change: Any, root: str) -> None:
        if change.setting.what != what:
            make(change, root)
            return
        if after:
            make(change, root)
        raise error

    return broken


@pytest.mark.parametrize("what", ["link-up", "vf-autoprobe", "create-vfs", "vf-trust"])
@pytest.mark.parametrize("after", [False, True], ids=["before it is made", "after it is made"])
def test_an_interrupt_in_the_middle_leaves_the_host_as_it_was(pc: Pc, what: str, after: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(hostchanges, "make", breaking(what, after, KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pc.start("a", wish(trust=True))
    assert pc.card.state == UNTOUCHED
    assert pc.entries() == []


class Crash(BaseException):
    """The PC loses its power: nothing is taken back."""


@pytest.mark.parametrize("what", ["link-up", "vf-autoprobe", "create-vfs", "vf-trust"])
@pytest.mark.parametrize("after", [False, True], ids=["before it is made", "after it is made"])
def test_after_a_crash_in_the_middle_down_sets_back_what_was_made(
    pc: Pc, what: str, after: bool, monkeypatch: Any
) -> None:
    make = hostchanges.make
    monkeypatch.setattr(hostchanges, "make", breaking(what, after, Crash))
    with pytest.raises(Crash):
        pc.start("a", wish(trust=True))
    assert pc.entries()[-1] == (what, ["a"])
    assert returning.left_behind(pc.connection, pc.card.root).keys() == {"a"}  # type: ignore[arg-type]
    pc.take_back("a")
    assert pc.card.state == UNTOUCHED
    assert pc.entries() == []
    monkeypatch.setattr(hostchanges, "make", make)
    assert nic(pc.start("a", wish()))[0] is Strategy.VF


def test_a_start_after_a_crash_goes_on_from_what_is_there_and_down_sets_all_of_it_back(
    pc: Pc, monkeypatch: Any
) -> None:
    with pytest.raises(Crash):
        pc.start("a", wish(), fail=Crash())
    assert pc.card.state == PREPARED
    assert nic(pc.start("b", wish())) == (Strategy.VF, FIRST)
    assert pc.card.log.count("sriov_numvfs=7") == 1
    pc.end("b")
    pc.take_back("b")
    assert pc.card.state == UNTOUCHED, "a does not run, and needs nothing"
    assert pc.entries() == []


def test_after_a_restart_of_the_pc_nothing_is_left_to_undo(pc: Pc) -> None:
    pc.start("a", wish())
    pc.end("a")
    pc.card.boot("99999999-2222-3333-4444-555555555555")
    log = list(pc.card.log)
    assert pc.take_back("a") == []
    assert pc.card.log == log


# --- two VMs on one card


def test_two_vms_share_a_card_and_the_last_one_gives_it_back(pc: Pc) -> None:
    pc.start("a", wish())
    assert nic(pc.start("b", wish())) == (Strategy.VF, SECOND)
    assert pc.entries() == [(what, ["a", "b"]) for what in ("link-up", "vf-autoprobe", "create-vfs")]
    pc.end("a")
    said = pc.take_back("a")
    assert pc.card.state == PREPARED
    assert all("for VM b, and stays" in sentence for sentence in said)
    assert pc.entries() == [(what, ["b"]) for what in ("link-up", "vf-autoprobe", "create-vfs")]
    pc.end("b")
    pc.take_back("b")
    assert pc.card.state == UNTOUCHED


def test_a_start_that_fails_leaves_the_other_vm_its_functions(pc: Pc) -> None:
    pc.start("a", wish())
    with pytest.raises(GuestError):
        pc.start("b", wish(trust=True), fail=GuestError("QEMU ended"))
    assert pc.card.state == PREPARED
    assert pc.entries() == [(what, ["a"]) for what in ("link-up", "vf-autoprobe", "create-vfs")]


def test_a_vm_that_stopped_by_itself_does_not_hold_what_the_last_one_gives_back(pc: Pc) -> None:
    pc.start("a", wish())
    pc.start("b", wish())
    pc.end("a")
    pc.end("b")
    pc.take_back("b")
    assert pc.card.state == UNTOUCHED
    assert pc.entries() == []


def test_a_vm_of_another_connection_counts_as_running(pc: Pc) -> None:
    pc.start("a", wish())
    with journal.held(returning.where(pc.card.root), "the test") as held:
        held.join([e.change.setting for e in held.entries], journal.Owner("a", "qemu:///embed?root=/x"))
    pc.end("a")
    pc.take_back("a")
    assert pc.card.state == PREPARED


def test_a_trust_that_a_stopped_vm_left_is_not_inherited_by_the_next_guest(pc: Pc) -> None:
    pc.start("a", wish(trust=True))
    pc.end("a")
    assert nic(pc.start("b", wish())) == (Strategy.VF, FIRST)
    assert pc.card.trusted == set()


def test_the_trust_of_a_running_vm_stays_when_another_starts_and_stops(pc: Pc) -> None:
    pc.start("a", wish(trust=True))
    pc.start("b", wish(trust=True))
    assert pc.card.trusted == {0, 1}
    pc.end("b")
    pc.take_back("b")
    assert pc.card.trusted == {0}


def test_a_function_that_somebody_elses_vm_has_keeps_the_card_as_it_is(pc: Pc) -> None:
    pc.start("a", wish())
    pc.card.bind(SECOND, "vfio-pci")
    pc.end("a")
    said = pc.take_back("a")
    assert pc.card.state == PREPARED
    assert any(f"{SECOND} is in use by vfio-pci" in sentence for sentence in said)
    assert any("clienthv recover" in sentence for sentence in said)
    pc.card.bind(SECOND, "")
    pc.take_back("a")
    assert pc.card.state == UNTOUCHED


def test_what_somebody_else_changed_since_is_left_with_the_link_it_needs(pc: Pc) -> None:
    pc.start("a", wish())
    pc.end("a")
    (pc.card.folder / "sriov_numvfs").write_text("4\n")
    said = pc.take_back("a")
    assert pc.card.read("sriov_numvfs") == "4"
    assert pc.card.up
    assert any("is 4, which clienthv did not set" in sentence for sentence in said)
    assert pc.entries() == []


# --- when the host does not do what was hoped


def test_a_card_that_refuses_is_left_as_it_was_and_the_plan_made_without_it(pc: Pc) -> None:
    pc.card.refusal = OSError(12, "Cannot allocate memory")
    ready = pc.start("a", wish())
    assert nic(ready) == (Strategy.EMULATED, None)
    objection = ready.plan.of(Kind.NIC).rejected[0]
    assert objection.reason is Reason.NO_VF_CREATED
    assert "Cannot allocate memory" in objection.detail
    assert pc.card.state == UNTOUCHED
    assert pc.entries() == []
    assert any("planning without" in sentence for sentence in pc.said)


def test_a_card_that_refuses_ends_the_start_of_a_vm_that_needs_it(pc: Pc) -> None:
    pc.card.refusal = OSError(5, "Input/output error")
    with pytest.raises(PlanError, match="Input/output error"):
        pc.start("a", wish("vf"))
    assert pc.card.state == UNTOUCHED


def test_functions_that_cannot_be_handed_over_are_removed_and_the_reasons_kept(pc: Pc) -> None:
    pc.card.group_of_functions = None
    ready = pc.start("a", wish())
    assert nic(ready) == (Strategy.EMULATED, None)
    assert {r.reason for r in ready.plan.of(Kind.NIC).rejected} == {Reason.NO_IOMMU_GROUP}
    assert pc.card.state == UNTOUCHED
    assert pc.entries() == []


def test_a_driver_that_knows_no_trust_ends_the_start_and_nothing_stays_changed(pc: Pc, monkeypatch: Any) -> None:
    monkeypatch.setattr(hostchanges.process, "vf_trust", lambda *_: None)
    with pytest.raises(HostError, match="trust") as raised:
        pc.start("a", wish(trust=True))
    assert "leave out trust" in (raised.value.hint or "")
    assert pc.card.state == UNTOUCHED


def test_a_pc_without_ip_ends_the_start_with_what_to_install(pc: Pc, monkeypatch: Any) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise HostError("ip is not installed", hint="install iproute2")

    monkeypatch.setattr(hostchanges.process, "set_link", missing)
    with pytest.raises(HostError, match="ip is not installed"):
        pc.start("a", wish())
    assert pc.card.state == UNTOUCHED
    assert pc.entries() == []


def test_what_cannot_be_set_back_after_a_failure_is_told_and_the_failure_stays_the_error(
    pc: Pc, monkeypatch: Any
) -> None:
    def stuck(*_: Any) -> None:
        raise HostError("cannot write 0")

    monkeypatch.setattr(hostchanges, "take_back", stuck)
    with pytest.raises(GuestError, match="QEMU ended"):
        pc.start("a", wish(), fail=GuestError("QEMU ended"))
    assert any("cannot write 0" in sentence and "clienthv recover" in sentence for sentence in pc.said)
    assert len(pc.entries()) == 3


def test_a_full_disk_keeps_no_setting_from_being_set_back(pc: Pc, monkeypatch: Any) -> None:
    pc.start("a", wish(trust=True))
    pc.end("a")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "fsync", full)
        with pytest.raises(HostError, match="No space left"):
            pc.take_back("a")
    assert pc.card.state == UNTOUCHED
    assert len(pc.entries()) == 4, "what could not be struck out is looked at again"
    assert pc.take_back("a") == ["the trust of virtual function 0 of enp1s0 (0000:01:00.0) is not there any more"]
    assert pc.entries() == []


def test_a_file_that_cannot_be_read_keeps_no_other_device_from_being_set_back(pc: Pc, monkeypatch: Any) -> None:
    other = Change(setting=Setting(what=What.LOAD_MODULE, device="vfio_pci"), before="absent", after="loaded")
    pc.start("a", wish())
    with journal.held(returning.where(pc.card.root), "the test") as held:
        held.record(other, pc.site("a").owner)
        held.started(pc.site("a").owner)
    pc.end("a")
    take_back = hostchanges.take_back

    def broken(change: Any, root: str) -> Any:
        if change == other:
            raise OSError(5, "Input/output error")
        return take_back(change, root)

    monkeypatch.setattr(hostchanges, "take_back", broken)
    with pytest.raises(HostError, match="the module vfio_pci cannot be set back: Input/output error"):
        pc.take_back("a")
    assert pc.card.state == UNTOUCHED
    assert pc.entries() == [("load-module", ["a"])]


def test_a_trust_that_cannot_be_withdrawn_is_not_forgotten(pc: Pc, monkeypatch: Any) -> None:
    pc.start("a", wish(trust=True))
    pc.end("a")
    monkeypatch.setattr(hostchanges.process, "set_vf_trust", lambda *_, **__: None)
    pc.start("b", wish())
    assert ("vf-trust", ["a"]) in pc.entries()


# --- down, list and status


HOW = stopping.How(force=True, undefine=False, seconds=1)


@pytest.fixture
def at_root(pc: Pc, monkeypatch: Any) -> Pc:
    """A PC whose root every command takes for its own."""
    monkeypatch.setattr(stopping, "Site", lambda connection, name: Site(connection, name, pc.card.root))
    left = returning.left_behind
    monkeypatch.setattr(returning, "left_behind", lambda connection: left(connection, pc.card.root))
    return pc


def test_down_on_a_stopped_vm_undoes_what_it_left_and_says_so(at_root: Pc) -> None:
    at_root.start("a", wish())
    at_root.end("a")
    done = stopping.down(at_root.connection, "a", HOW, at_root.said.append)  # type: ignore[arg-type]
    assert done[0] == "VM a was not running"
    assert any("the number of virtual functions of 0000:01:00.0 is 0 again" in sentence for sentence in done)
    assert at_root.card.state == UNTOUCHED


def test_an_interrupt_while_down_gives_back_is_heard_when_that_is_done(at_root: Pc, monkeypatch: Any) -> None:
    at_root.start("a", wish())
    at_root.end("a")
    take_back = hostchanges.take_back

    def interrupted(change: Any, root: str) -> Any:
        signal.raise_signal(signal.SIGINT)
        return take_back(change, root)

    monkeypatch.setattr(hostchanges, "take_back", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopping.down(at_root.connection, "a", HOW, at_root.said.append)  # type: ignore[arg-type]
    assert at_root.card.state == UNTOUCHED
    assert at_root.entries() == []


def test_down_on_a_vm_that_never_came_to_be_undoes_what_it_left(at_root: Pc, monkeypatch: Any) -> None:
    with pytest.raises(Crash):
        at_root.start("a", wish(), fail=Crash())
    assert stopping.down(at_root.connection, "a", HOW, at_root.said.append)  # type: ignore[arg-type]
    assert at_root.card.state == UNTOUCHED
    with pytest.raises(GuestError):
        stopping.down(at_root.connection, "a", HOW, at_root.said.append)  # type: ignore[arg-type]


def test_a_stopped_vm_is_listed_with_what_it_left_and_a_running_one_without(at_root: Pc, monkeypatch: Any) -> None:
    at_root.start("a", wish())
    rows = list(looking.rows(at_root.connection, at_root.said.append))  # type: ignore[arg-type]
    assert [r.left_behind for r in rows] == [()]
    at_root.end("a")
    (row,) = looking.rows(at_root.connection, at_root.said.append)  # type: ignore[arg-type]
    assert len(row.left_behind) == 3
    assert looking.row(at_root.connection, "a", at_root.said.append) == row  # type: ignore[arg-type]
    del at_root.connection.vms["a"]
    (gone,) = looking.rows(at_root.connection, at_root.said.append)  # type: ignore[arg-type]
    assert (gone.name, gone.state, gone.left_behind) == ("a", None, row.left_behind)


def test_a_damaged_journal_hides_no_vm_and_keeps_none_running(at_root: Pc) -> None:
    at_root.start("a", wish())
    journal_file = returning.where(at_root.card.root).path
    journal_file.write_text("{\n")
    (row,) = looking.rows(at_root.connection, at_root.said.append)  # type: ignore[arg-type]
    assert row.name == "a"
    assert str(journal_file) in at_root.said[-1]
    with pytest.raises(DocumentError, match=r"VM a was stopped .*; but the journal") as raised:
        stopping.down(at_root.connection, "a", HOW, at_root.said.append)  # type: ignore[arg-type]
    assert raised.value.hint
    assert not at_root.connection.vms["a"].running


def test_a_user_who_did_not_start_the_vm_is_told_who_undoes_its_changes(at_root: Pc, monkeypatch: Any) -> None:
    plan = at_root.start("a", wish()).plan
    returning.where(at_root.card.root).path.unlink()
    known = remembered.Remembered(
        name="a", profile=(), options=Vm(name="a", plan=plan, profile=()).options, plan=plan, seen=Seen()
    )
    monkeypatch.setattr(remembered, "read", lambda *_: known)
    monkeypatch.setattr(places, "is_root", lambda: False)
    done = stopping.down(at_root.connection, "a", HOW, at_root.said.append)  # type: ignore[arg-type]
    assert "clienthv down a as root undoes it" in done[-1]


# --- recover


@pytest.fixture
def recovered(pc: Pc, monkeypatch: Any) -> Callable[..., list[str]]:
    """``recover`` on that PC: its connections are its one."""
    here = returning.where(pc.card.root)
    monkeypatch.setattr(returning, "where", lambda *_: here)
    monkeypatch.setattr(recovering, "Site", lambda connection, name: Site(connection, name, pc.card.root))
    monkeypatch.setattr(recovering, "Connection", lambda *_, **__: contextlib.nullcontext(pc.connection))
    return lambda **how: recovering.recover(pc.said.append, **how)


@pytest.mark.parametrize("before", [True, False], ids=["before each line", "after each line"])
def test_a_crash_at_any_line_of_a_start_that_fails_and_is_undone_is_undone_by_recover(
    pc: Pc, recovered: Callable[..., list[str]], before: bool, monkeypatch: Any
) -> None:
    append = journal.Journal._append
    for number in itertools.count(1):
        lines = itertools.count(1)

        def crashing(self: journal.Journal, line: Any, last: int = number, lines: Any = lines) -> None:
            this = next(lines)
            if this == last and before:
                raise Crash
            append(self, line)
            if this == last:
                raise Crash

        with monkeypatch.context() as patched:
            patched.setattr(journal.Journal, "_append", crashing)
            with pytest.raises((Crash, GuestError)) as raised:
                pc.start("a", wish(trust=True), fail=GuestError("QEMU ended"))
        recovered()
        assert pc.card.state == UNTOUCHED, f"line {number}"
        assert pc.entries() == []
        if raised.type is GuestError:
            break
    assert number == 9, "four are announced and struck out, and then there is no such line"


def test_a_timer_says_nothing_of_what_is_still_in_use_and_tells_once_when_it_is_undone(
    pc: Pc, recovered: Callable[..., list[str]]
) -> None:
    pc.start("a", wish())
    pc.card.bind(SECOND, "vfio-pci")
    pc.end("a")
    assert recovered(quiet=True) == []
    assert recovered(quiet=True) == []
    with pytest.raises(HostError, match="is in use by vfio-pci"):
        recovered()
    pc.card.bind(SECOND, "")
    assert any("is 0 again" in sentence for sentence in recovered(quiet=True))
    assert pc.card.state == UNTOUCHED
    assert recovered(quiet=True) == []


# --- the MAC address


def test_the_mac_address_that_a_guest_has_seen_stays_with_its_virtual_function(pc: Pc) -> None:
    ready = pc.start("a", wish())
    vm = Vm(name="a", plan=ready.plan, profile=(), seen=Seen(mac="52:54:00:12:34:56"))
    xml = render(vm, ready.host)
    assert '<mac address="52:54:00:12:34:56"/>' in xml
    known = remembered.read(xml, "a")
    assert known is not None
    assert known.seen.mac == "52:54:00:12:34:56"


def test_the_functions_in_a_domain_are_found_in_both_forms() -> None:
    address = '<source><address type="pci" domain="0x0000" bus="0x02" slot="0x10" function="0x2"/></source>'
    xml = (
        f'<domain><devices><interface type="hostdev">{address}</interface><interface type="user"/>'
        f'<hostdev mode="subsystem" type="pci">{address.replace("0x02", "0x0a")}</hostdev>'
        '<hostdev mode="subsystem" type="usb"><source><address bus="1" device="2"/></source></hostdev>'
        "</devices></domain>"
    )
    assert host_functions(xml) == ("0000:0a:10.2", "0000:02:10.2")


def test_the_journal_lies_in_the_state_folder_and_is_one_for_each_host() -> None:
    here, there = places.host_changes("a" * 32), places.host_changes("b" * 32)
    assert here.parent == there.parent == places.state_root()
    assert here != there
    assert "a" * 32 not in here.name, "a machine id stays where it is (man 5 machine-id)"
