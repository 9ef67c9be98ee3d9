"""``attach`` and ``detach``: a device of the host for a VM that runs, by the same rules and with the same way back.

It is the VM's until it stops: the next start is planned from the profile.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
from lxml import etree

from clienthv import guests, inspect, journal, process, render
from clienthv.errors import ClienthvError, GuestError, PlanError, UsageError
from clienthv.hypervisor import Connection, Domain
from clienthv.hypervisor.domain import host_functions
from clienthv.lifecycle import attempts, live, looking, preparing, remembered, returning
from clienthv.lifecycle.keeping import Asked
from clienthv.lifecycle.returning import Site
from clienthv.model import profile as profile_model
from clienthv.model import values
from clienthv.model.host import Host
from clienthv.model.plan import HOST_DEVICES, STRATEGIES, Decision, Kind, Rejected, Strategy
from clienthv.model.profile import Device, Profile
from clienthv.model.roles import RoleName
from clienthv.model.tables import Devices, SizeOf
from clienthv.model.usb import UsbName
from clienthv.model.vm import Vm
from clienthv.planner import NoRungError
from clienthv.strategies import selecting

KINDS: Final = tuple(k for k in STRATEGIES if set(HOST_DEVICES) & set(STRATEGIES[k]) and selecting.class_of(k))
"""The kinds that can be attached: those with PCI functions of the host."""


_SAY: Final = "for example gpu, 0000:01:00.0 or 046d:c52b@1-2; clienthv devices and inspect list what there is"


class Plugged(NamedTuple):
    """What is attached: in ``kind`` any device of it, or one by its ``address``, or a ``usb`` device."""

    kind: Kind | None = None
    address: str | None = None
    usb: UsbName | None = None

    @classmethod
    def parse(cls, text: str) -> Plugged:
        """Read ``gpu``, ``0000:01:00.0`` or ``046d:c52b@1-2``. Raises UsageError."""
        if text in {kind.value for kind in KINDS}:
            return cls(kind=Kind(text))
        try:
            return cls(address=str(values.PciAddress.parse(text)))
        except ValueError:
            pass
        try:
            return cls(usb=UsbName.parse(text))
        except ValueError:
            kinds = ", ".join(KINDS)
            msg = f"{text!r} is neither a kind of device ({kinds}), nor a PCI address, nor a USB device"
            raise UsageError(msg, hint=_SAY) from None


def attach(connection: Connection, name: str, what: Plugged, allow: tuple[RoleName, ...], say: live.Say) -> Decision:
    """Give a running VM a device of the host; what it got. Raises every kind of ClienthvError, with nothing changed.

    ``allow`` are the roles that the host gives up with a device that is named.
    """
    ours = _ours(connection, name)
    site = Site(connection, name)
    with journal.held(returning.where(), f"clienthv attach {name}", say) as held:
        returning.settle_before(site, held, say)
        profile = _profile(what, ours, allow, live.read_host(connection))
        wish = Asked(profile, guest=guests.read(profile.guest.os), beside=True)
        for left in reversed(range(attempts.MOST)):
            plug = _Plug(site, held, what)
            try:
                return plug.carry_out(wish, say)
            except BaseException as e:
                plug.take_back(say)
                if not isinstance(e, ClienthvError) or not left:
                    raise
                wish = attempts.without(wish, e, plug.ready, say)
        raise AssertionError  # the last round returns or raises


class _Plug:
    """One try to attach, and what must be known to take it back."""

    def __init__(self, site: Site, held: journal.Journal, what: Plugged) -> None:
        self.site, self.held, self.what = site, held, what
        self.ready: preparing.Ready | None = None
        self._attached: list[str] = []

    def carry_out(self, wish: Asked, say: live.Say) -> Decision:
        """Prepare the host and attach; what the VM got. Raises every kind of ClienthvError."""
        domain = self.site.connection.domain(self.site.name)
        looking.must_run(domain)
        try:
            self.ready = preparing.make_ready(self.site, wish, self.held, say)
        except NoRungError as e:
            raise _cannot(self.site.name, self.what, e.rejected) from e
        plan = self.ready.plan
        decision = _wanted(self.site.name, self.what, plan.decisions)
        for warning in plan.warnings:
            if warning.detail.startswith(f"{decision.name}:"):
                say(f"warning: {warning.detail} [{warning.code}]")
        preparing.hand_over(plan, self.site, self.held)
        xml = render.render(Vm(name=self.site.name, plan=plan, profile=()), self.ready.host)
        for element in _elements(xml):
            domain.attach(element)
            self._attached.append(element)
        _note(domain, (*remembered.attached(domain.xml()), decision))
        self.held.started(self.site.owner)
        return decision

    def take_back(self, say: live.Say) -> None:
        """Undo what this try has made, and leave alone what the VM has had before."""
        with attempts.undoing(say):
            self.site.connection.revive()
            for element in reversed(self._attached):
                with suppress(ClienthvError):  # a guest that ended, or does not let go: what it has stays its own
                    self.site.connection.domain(self.site.name).detach(element)
            for sentence in returning.take_back(self.site, self.held, begun=True):
                say(sentence)


def _ours(connection: Connection, name: str) -> remembered.Remembered:
    """What a running VM of clienthv's remembers. Raises GuestError, UsageError."""
    if not values.is_vm_name(name):
        msg = f"{name!r} cannot be the name of a VM of clienthv's"
        raise UsageError(msg, hint="virsh attach-device takes any domain")
    domain = connection.domain(name)
    looking.must_run(domain)
    known = remembered.read(domain.xml(), name)
    if known is None:
        msg = f"VM {name} was not made by clienthv"
        raise GuestError(msg, hint=f"virsh attach-device {name} FILE")
    return known


def _profile(what: Plugged, ours: remembered.Remembered, allow: tuple[RoleName, ...], host: Host) -> Profile:
    """A profile of nothing but what is attached, with what the VM's own says of that kind. Raises PlanError."""
    whole = profile_model.parse(ours.profile) if ours.profile else Profile()
    tables = {kind.value: Device(prefer=(STRATEGIES[kind][-1],)) for kind in STRATEGIES if kind is not Kind.CPU}
    if what.usb is not None:
        tables["usb"] = Device(prefer=(Strategy.EMULATED,), devices=(str(what.usb),), allow=allow)
    else:
        kind = what.kind or _kind_at(what.address or "", host)
        own = whole.device(kind)
        ladder = tuple(s for s in own.prefer or () if s in HOST_DEVICES) or tuple(
            s for s in STRATEGIES[kind] if s in HOST_DEVICES
        )
        if what.address is not None:
            ladder = tuple(s for s in STRATEGIES[kind] if s in HOST_DEVICES)
        tables[kind.value] = msgspec.structs.replace(
            own, prefer=ladder, require=(), model=None,
            select=(what.address,) if what.address is not None else own.select,
            allow=allow if what.address is not None else own.allow,
        )  # fmt: skip
    size = SizeOf(vcpus=1, memory="1 MiB")  # the VM has its memory already
    return Profile(name=whole.name, guest=whole.guest, size=size, devices=Devices(**tables))


def _kind_at(address: str, host: Host) -> Kind:
    function = host.by_address.get(address)
    if function is None:
        msg = f"there is no PCI function {address} on this PC"
        raise PlanError(msg, hint="clienthv devices lists them")
    kind = next((k for k in KINDS if function.base_class.startswith(selecting.class_of(k))), None)
    if kind is None:
        msg = f"{address} ({function.label}) is no device that can be attached: class {function.class_code}"
        raise PlanError(msg, hint=f"attached are: {', '.join(KINDS)}, and USB devices")
    return kind


def _wanted(name: str, what: Plugged, decisions: tuple[Decision, ...]) -> Decision:
    """The decision for what is attached. Raises PlanError, with all that speaks against a USB device."""
    if what.usb is None:
        return next(d for d in decisions if d.strategy in HOST_DEVICES)
    decision = next(d for d in decisions if d.kind is Kind.USB_DEVICE)
    if decision.device is None:
        raise _cannot(name, what, decision.rejected)
    return decision


def _cannot(name: str, what: Plugged, rejected: Sequence[Rejected]) -> PlanError:
    """The error for what cannot be attached, with what speaks against that device, or against every one of its kind."""
    about = [r for r in rejected if what.address in (None, r.device)] or rejected
    reasons = dict.fromkeys(f"not {r.strategy}: {r.detail} [{r.reason}]" for r in about)
    msg = "\n  ".join([f"{what.usb or what.address or what.kind} cannot be attached", *reasons])
    # Of a kind the first device is told; which roles are given up is of one device alone.
    device = next((r.device for r in about if r.fix), None)
    its = [r.fix or "" for r in about if r.device == device]
    roles = [re.findall(r'allow = \["([a-z-]+)"\]', fix) for fix in its]
    if its and all(roles):
        allow = " ".join(f"--allow {role}" for role in dict.fromkeys(role for found in roles for role in found))
        return PlanError(msg, hint=f"if you mean it: clienthv attach {name} {what.usb or device} {allow}")
    # What no --allow lifts comes first: to give up a role alone would not help.
    return PlanError(msg, hint=next((fix for fix, role in zip(its, roles, strict=True) if fix and not role), None))


def _elements(xml: str) -> Iterator[str]:
    """The devices of the host in a domain, each as it is attached: a running guest has booted already."""
    devices = remembered.parse(xml).find("devices")
    for element in _of_the_host(devices):
        for boot in element.iterfind("boot"):
            element.remove(boot)
        yield _text(element)


def _note(domain: Domain, decisions: tuple[Decision, ...]) -> None:
    element = etree.Element("attached")
    element.text = msgspec.json.encode(decisions).decode()
    domain.note(remembered.ATTACHED, str(etree.tostring(element, encoding="unicode")), running=True)


def detach(connection: Connection, name: str, what: Plugged, seconds: float, say: live.Say) -> list[str]:
    """Take a device of the host from a running VM, and give it back; what was done, in sentences.

    Others may change the host while the guest is waited for. Raises GuestError where the VM has no such device, or its
    guest does not let go of it.
    """
    _ours(connection, name)
    site, domain = Site(connection, name), connection.domain(name)
    found = _matching(domain, what)
    if not found:
        msg = f"VM {name} has no such device of the host: {what.usb or what.address or what.kind}"
        raise GuestError(msg, hint=f"clienthv status {name} shows what it has")
    functions = {f for element in found for f in _functions(element)}
    of_cards = [(f, card := inspect.physfn_of(f), inspect.virtfn_index(card, f) if card else None) for f in functions]
    for element in found:
        domain.detach(element)
    deadline = time.monotonic() + seconds
    while domain.is_active() and _has_still(domain, what, functions):
        if time.monotonic() > deadline:
            msg = f"the guest of VM {name} has not let go of the device within {seconds:.0f} s"
            raise GuestError(msg, hint="let the guest eject it, or wait until it has started: it may do so yet")
        time.sleep(0.2)
    with journal.held(returning.where(), f"clienthv detach {name}", say) as held, process.undisturbed():
        if not domain.is_active():
            return [f"VM {name} stopped meanwhile", *returning.finish_or_undo(site, held)]
        _note(domain, tuple(d for d in remembered.attached(domain.xml()) if not _is(d, what, functions)))
        given = [f"VM {name} has given back {f}" for f in sorted(functions) or [str(what.usb)]]
        return given + returning.give_back(site, held, of_cards)


def _has_still(domain: Domain, what: Plugged, functions: set[str]) -> bool:
    """Whether a guest has not let go yet; of a kind it may have others."""
    return bool(functions & set(domain.claims().functions)) if functions else bool(_matching(domain, what))


def _is(decision: Decision, what: Plugged, functions: set[str]) -> bool:
    """Whether a decision is for what was detached."""
    if what.usb is None or decision.kind is not Kind.USB_DEVICE or decision.device is None:
        return bool(functions & set(decision.functions))
    named = UsbName.parse(decision.device)
    return named.ids == what.usb.ids and (None in (named.port, what.usb.port) or named.port == what.usb.port)


def _matching(domain: Domain, what: Plugged) -> list[str]:
    """The devices of a running VM that are meant, as libvirt has them; of a kind the one attached last."""
    xml = domain.xml()
    known = remembered.read(xml, domain.name)
    decisions = (*(known.plan.decisions if known is not None else ()), *remembered.attached(xml))
    there = [(e, _text(e)) for e in _of_the_host(remembered.parse(xml).find("devices"))]
    has = {f for _, text in there for f in _functions(text)}
    of_kind = [d for d in decisions if d.kind is what.kind and has & set(d.functions)]
    meant = {what.address} if what.address is not None else set(of_kind[-1].functions) if of_kind else set()
    if what.address is not None:  # with what came along
        meant |= {f for d in decisions if what.address in d.functions for f in d.functions}
    usb = what.usb
    return [text for e, text in there if meant & set(_functions(text)) or (usb is not None and _is_usb(e, usb))]


def _of_the_host(devices: Any) -> tuple[Any, ...]:
    return (*devices.iterfind("hostdev"), *devices.iterfind("interface[@type='hostdev']"))


def _text(element: Any) -> str:
    return str(etree.tostring(element, encoding="unicode"))


def _functions(element: str) -> tuple[str, ...]:
    """The PCI functions that a device's element names."""
    return host_functions(f"<domain><devices>{element}</devices></domain>")


def _is_usb(element: Any, name: UsbName) -> bool:
    """Whether a device's element is a USB device of these ids, and, where a port is named, what is plugged in there."""
    vendor, product, place = (element.find(f"source/{tag}") for tag in ("vendor", "product", "address"))
    if vendor is None or product is None:
        return False
    ids = f"{int(vendor.get('id', '0'), 0):04x}:{int(product.get('id', '0'), 0):04x}"
    if ids != name.ids or name.port is None:
        return ids == name.ids
    numbers = (int(place.get("bus", "0")), int(place.get("device", "0"))) if place is not None else None
    return numbers is not None and numbers == inspect.usb_place(name.port)
