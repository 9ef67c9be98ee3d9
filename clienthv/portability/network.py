"""What virtual network cards are plugged into, by name, against what the target has."""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.model.domain import NicFacts
from clienthv.model.network import NETWORK, Plug, PlugType
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.model.portability import Code
from clienthv.model.profile import Profile
from clienthv.portability.subject import Findings, Subject, Target, changes, unknown, warns
from clienthv.strategies import Option, Question, networks

_TYPES: Final[dict[str, PlugType]] = {
    "bridge": "bridge",
    "network": "network",
    "direct": "macvtap",
}
_CODES: Final = {"bridge": Code.BRIDGE, "network": Code.NETWORK, "macvtap": Code.INTERFACE, "passt": Code.NETWORK}
_IGB_QEMU: Final = (8, 0)


def plug_of(nic: NicFacts) -> Plug | None:
    """What a card is plugged into, in clienthv's words; None for what it has no word for."""
    if nic.type == "user":
        return Plug(type="passt" if nic.backend == "passt" else "user")
    if nic.type not in _TYPES:
        return None
    try:
        return msgspec.convert({"type": _TYPES[nic.type], "source": nic.source}, Plug)
    except msgspec.ValidationError:
        return None


def findings(subject: Subject, target: Target) -> Findings:
    """What speaks against the networks of a definition."""
    if subject.domain is None:
        return
    question = Question(target.host, Profile())
    for nic in subject.domain.nics:
        plug = plug_of(nic)
        yield from _model(nic, target)
        if nic.filter is not None:
            yield warns(
                Code.NETWORK,
                f"network filter {nic.filter}",
                f"libvirt on {target.called} must have one of that name, or a start fails",
                "virsh nwfilter-list there; or leave <filterref> out",
                Kind.NIC,
            )
        if plug is None:
            yield from _strange(nic, target)
        elif plug.type != "user":
            yield from _against(plug, question, target)


def _strange(nic: NicFacts, target: Target) -> Findings:
    named = f"{nic.type} {nic.source or ''}".strip()
    yield warns(
        Code.NETWORK,
        named,
        f"a network that clienthv has no word for: {target.called} must have it by that name"
        if nic.type in ("ethernet", "vhostuser", "vdpa", "udp", "mcast", "server", "client", "internal")
        else f"a name that cannot be one of a network or bridge ({NETWORK})",
        "look whether it is there; <interface type='user'> works everywhere",
    )


def _model(nic: NicFacts, target: Target) -> Findings:
    """The one model of x86 PCs that came late (QEMU 8.0 release notes: igb)."""
    if nic.model == "igb" and target.qemu is not None and target.qemu < _IGB_QEMU:
        version = ".".join(map(str, target.qemu))
        yield changes(
            Code.NIC_MODEL,
            nic.model,
            f"QEMU {version} there does not know it (8.0 does)",
            "update QEMU there; or e1000e, or virtio",
            Kind.NIC,
        )


def _against(plug: Plug, question: Question, target: Target) -> Findings:
    card = Option(strategy=Strategy.PARAVIRTUAL, model="virtio", backing="", why="", network=plug)
    for rejected in networks.objections(card, question):
        if rejected.reason is Reason.NETWORKS_UNKNOWN:
            yield unknown(
                Code.NETWORK_UNKNOWN, str(plug), f"{target.called}: {rejected.detail}", rejected.fix, Kind.NIC
            )
        else:
            yield changes(_CODES[plug.type], str(plug), f"{target.called}: {rejected.detail}", rejected.fix, Kind.NIC)
