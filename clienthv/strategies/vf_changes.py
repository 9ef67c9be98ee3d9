"""What ``up`` sets on the device of a virtual function, in the order it is set."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.model.change import What
from clienthv.model.host import Host, PciFunction, SrIov
from clienthv.model.plan import Decision, HostChange, Kind
from clienthv.model.profile import Profile
from clienthv.strategies.sriov import number


def changes(decision: Decision, host: Host, profile: Profile) -> Iterator[HostChange]:
    """The changes that a decision's virtual function needs; none for what rests on no such function.

    A network card's link first, since libvirt sets nothing through an interface that is down (virNetDevSaveNetConfig);
    an NVMe controller's queues and interrupts, which it must let go of before it can have functions with any; then
    that no driver of the host takes the new functions; then how many there are; then what needs the function itself.
    """
    of = decision.virtual_function
    card = host.by_address.get(of.physfn) if of is not None else None
    if of is None or card is None:
        return
    interface = card.interfaces[0] if card.interfaces and decision.kind is Kind.NIC else None
    port = interface or f"the interface of {card.address}"
    if decision.kind is Kind.NIC and card.sriov is not None and card.sriov.link_up is False:
        yield HostChange(
            action=What.LINK_UP,
            device=card.address,
            detail=f"bring {port} up; where a router offers addresses, IPv6 takes them",
            undo="clienthv down brings it down again once no VM needs it",
            value="up",
            interface=interface,
        )
    if of.created and decision.kind is Kind.DISK:
        yield _release(card)
    if of.created:
        yield from _creation(card)
    if decision.kind is Kind.NIC and profile.device(Kind.NIC).trust and of.index is not None:
        yield HostChange(
            action=What.VF_TRUST,
            device=card.address,
            detail=f"set trust on for virtual function {of.index} of {port}",
            undo="clienthv down sets what it was before",
            value="on",
            interface=interface,
            index=of.index,
        )
    if decision.kind is Kind.DISK and of.index is not None:
        yield HostChange(
            action=What.NVME_ONLINE,
            device=card.address,
            detail=f"give the secondary controller of virtual function {of.index} of {card.address} its share of "
            "queues and interrupts, and bring it online",
            undo="clienthv down takes it offline again",
            value="on",
            index=of.index,
        )


def _release(card: PciFunction) -> HostChange:
    """Flexible resources are the primary controller's until it lets them go and is reset.

    Source: NVM Express Base Specification, "Virtualization Management command"; QEMU, docs/system/devices/nvme.rst.
    """
    return HostChange(
        action=What.NVME_FLEXIBLE,
        device=card.address,
        detail=f"let {card.address} let go of its flexible queues and interrupts, and reset it",
        undo="clienthv down gives them back and resets it once no VM needs them",
        value="0/0",
    )


def _creation(card: PciFunction) -> Iterator[HostChange]:
    """The changes that create a device's virtual functions."""
    sriov = card.sriov or SrIov()
    count = number(sriov)
    if sriov.drivers_autoprobe:
        yield HostChange(
            action=What.VF_AUTOPROBE,
            device=card.address,
            detail=f"write 0 to sriov_drivers_autoprobe of {card.address}, so that no driver takes what is created",
            undo="clienthv down writes 1 again once no VM needs it",
            value="0",
        )
    yield HostChange(
        action=What.CREATE_VFS,
        device=card.address,
        detail=f"create {count} virtual function{'s' * (count > 1)} on {card.address} ({card.label})",
        undo="clienthv down removes them once no VM needs them",
        value=str(count),
    )
