"""What a PCI device is known by when its address changes: its way through the bridges, its ids, and its twins.

Bus numbers, and IOMMU group numbers, are given out anew at every start (kernel, drivers/pci/probe.c); a card that is
put in or taken out changes those of others. Device and function numbers along the way stay, as long as the card stays
in its slot.
"""

from __future__ import annotations

import msgspec

from clienthv.model.host import Address, Host, PciFunction
from clienthv.model.values import PciAddress


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """One function as it was when a VM last started.

    ``path`` is device and function number of every bridge on the way and of the function itself, from the root, after
    the PCI domain; None where the way is unknown. ``twins`` counts the others of the same ids that the PC had then.
    """

    address: Address
    path: str | None
    vendor_id: str | None
    device_id: str | None
    subsystem_vendor_id: str | None
    subsystem_device_id: str | None
    iommu_group: int | None
    label: str
    twins: int = 0


def identity_of(function: PciFunction, host: Host) -> Identity:
    """What a function of a host is known by."""
    return Identity(
        address=function.address,
        path=_path(function),
        vendor_id=function.vendor_id,
        device_id=function.device_id,
        subsystem_vendor_id=function.subsystem_vendor_id,
        subsystem_device_id=function.subsystem_device_id,
        iommu_group=function.iommu_group,
        label=function.label,
        twins=sum(_ids(f) == _ids(function) for f in host.pci) - 1,
    )


def find(known: Identity, host: Host) -> PciFunction | None:
    """The same device on this host as it is now; None when it is gone, or cannot be told from a twin.

    The same ids at the same place are the same device. So are they at another place when there was and is no other
    with these ids: then the card was moved to another slot.
    """
    if known.vendor_id is None or known.device_id is None:
        return None
    alike = [f for f in host.pci if _ids(f) == _ids(known)]
    there = [f for f in alike if known.path is not None and _path(f) == known.path]
    if there:
        return there[0]
    if known.path is None:
        return next((f for f in alike if f.address == known.address), None)
    return alike[0] if len(alike) == 1 and known.twins == 0 else None


def _ids(thing: PciFunction | Identity) -> tuple[str | None, ...]:
    return thing.vendor_id, thing.device_id, thing.subsystem_vendor_id, thing.subsystem_device_id


def _path(function: PciFunction) -> str | None:
    if function.hops is None:
        return None
    root, *_ = (*(function.bridge_path or ()), function.address)
    return "/".join([f"{PciAddress.parse(root).domain:04x}", *function.hops])
