"""Virtual functions of network cards, GPUs and NVMe controllers: those that are there, and those that could be made."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from clienthv.model.host import HELD_FOR_GUESTS, Host, PciFunction, SrIov
from clienthv.model.plan import Kind, Reason, Rejected, Strategy, VirtualFunction
from clienthv.strategies import iommu, pci
from clienthv.strategies.frame import Objections, Option, Options, Question, reject

MOST: Final = 8
"""How many virtual functions are made at once at most.

The number of a card's functions can only be changed by removing all of them first (kernel,
Documentation/ABI/testing/sysfs-bus-pci, sriov_numvfs), which running VMs would not survive: so several are made with
the first. Each takes queues, interrupt vectors and address space from the card; ixgbe, for one, keeps its smallest
division of the queues up to 15 (drivers/net/ethernet/intel/ixgbe/ixgbe_lib.c).
"""

_PCI_BRIDGE: Final = "0604"
_CLASSES: Final = {Kind.NIC: "02", Kind.GPU: "03", Kind.DISK: "0108"}
_WHY: Final = {
    Kind.NIC: "native speed, and the card stays with the host",
    Kind.GPU: "near native, the host keeps its GPU",
    Kind.DISK: "native speed, on the namespaces that the host sees too",
}
# The drivers of graphics cards that make virtual functions a guest has drivers for (kernel,
# drivers/gpu/drm/xe/xe_pci_sriov.c; i915 in Intel's own kernels and the i915-sriov-dkms project).
_MAKING_GPUS: Final = frozenset({"i915", "xe"})
# Makes its virtual functions when it is loaded, by the module parameter num_vfs: it has no sriov_configure
# (drivers/net/ethernet/mellanox/mlx4/main.c).
_NO_SYSFS: Final = frozenset({"mlx4_core"})


def options(question: Question, kind: Kind) -> Options:
    """The virtual functions that are there, in address order; then one for each device that could have some.

    Of those cards the ones whose link is up come first: a port without a cable gives its virtual functions no
    network either.
    """
    cards = []
    for function in question.host.by_class.get(_CLASSES[kind][:2], ()):
        if not function.base_class.startswith(_CLASSES[kind]):
            continue
        if function.physfn is not None:
            yield _present(function, question.host, kind)
        elif function.sriov is not None and not _has_functions(function, question.host):
            cards.append(function)
    for card in sorted(cards, key=lambda c: c.sriov is None or c.sriov.link_up is not True):
        yield _possible(card, question, kind)


def _has_functions(card: PciFunction, host: Host) -> bool:
    return card.address in host.virtual_functions or bool(card.sriov and card.sriov.virtfns)


def _present(function: PciFunction, host: Host, kind: Kind) -> Option:
    card = host.by_address.get(function.physfn or "")
    there = card.sriov.virtfns if card is not None and card.sriov is not None else ()
    index = there.index(function.address) if function.address in there else None
    made = pci.option(
        Strategy.VF,
        function,
        (function.address,),
        f"a virtual function of {function.physfn}: {_WHY[kind]}",
    )
    return replace(made, virtual_function=VirtualFunction(physfn=function.physfn or "", index=index))


def _possible(card: PciFunction, question: Question, kind: Kind) -> Option:
    """A virtual function that is not there yet, at its place by offset and stride; at the card's own where unknown."""
    sriov = card.sriov or SrIov()
    places = [place_of(card, index) for index in range(number(sriov))]
    selected = question.profile.device(kind).select
    spoilt = question.taken | {f.decision.device for f in question.failed}
    free = [n for n, place in enumerate(places) if place not in spoilt]
    index = next((n for n in free if places[n] in selected), free[0] if free else 0)
    place = places[index] if places else None
    if place is None or place in question.host.by_address:
        place = None
    return Option(
        strategy=Strategy.VF,
        device=place or card.address,
        functions=(place,) if place else (),
        model=f"{card.vendor_id or '????'}:{sriov.vf_device_id or '????'}",
        backing=card.label,
        why=f"virtual function {index} of {card.address}, made at start: {_WHY[kind].replace(', and', ';')}",
        virtual_function=VirtualFunction(physfn=card.address, index=index, created=True),
    )


def number(sriov: SrIov) -> int:
    """How many virtual functions are made on a card: all that it can have, but not more than ``MOST``."""
    return min(sriov.totalvfs or 0, MOST)


def place_of(card: PciFunction, index: int) -> str | None:
    """Where a card's virtual function would be (PCIe Base Specification, "VF Stride"); None when unknown."""
    sriov = card.sriov
    if sriov is None or not sriov.offset or (index and not sriov.stride):
        return None
    place = card.place.further(sriov.offset + index * (sriov.stride or 0))
    return str(place) if place is not None else None


def objections(option: Option, question: Question, kind: Kind) -> Objections:
    """What speaks against a virtual function."""
    of = option.virtual_function
    card = question.host.by_address.get(of.physfn) if of is not None else None
    if kind is Kind.DISK and (unnamed := pci.unnamed(option, question, kind)) is not None:
        yield unnamed
        return
    if of is None or card is None or not of.created:  # it is there already
        yield from pci.passthrough(option, question, kind)
        if card is not None and pci.is_selected(option, question, kind):
            if (words := question.refused.get(card.address)) is not None:
                yield reject(option, Reason.VF_NOT_READY, words, "dmesg says more")
            yield from _against_card(option, card, question, kind)
            if kind is Kind.NIC:
                yield from _against_rights(option, card, question)
        return
    # Nobody knows the function's address yet but by its card: that is what an objection names.
    of_card = replace(option, device=card.address, functions=(card.address,))
    if not pci.is_selected(option, question, kind):
        yield pci.not_selected(of_card, question, kind)
        return
    yield from pci.against_stranger(of_card, question)
    hindered = _hindered(card, question, kind)
    if hindered is not None:
        reason, detail, fix = hindered
        yield reject(of_card, reason, detail, fix)
        return
    if not option.functions:
        yield _without_address(of_card, card)
    yield from pci.against_stack(of_card, question)
    yield from iommu.objections(of_card, question, named=pci.is_named(of_card, question, kind))
    yield from _against_group(of_card, card, question.host)
    yield from _against_card(of_card, card, question, kind)
    if card.sriov is not None and card.sriov.writable is False:
        yield reject(
            of_card,
            Reason.NO_PRIVILEGE,
            f"this user may not create virtual functions on {card.address}",
            f"run clienthv as root, or: echo {number(card.sriov)} | "
            f"sudo tee /sys/bus/pci/devices/{card.address}/sriov_numvfs",
        )


def _against_card(option: Option, card: PciFunction, question: Question, kind: Kind) -> Objections:
    """What the physical function is or has that its virtual functions suffer from.

    An NVMe controller's virtual functions reach the namespaces of the controller itself, unless somebody attached
    others (NVM Express Base Specification, "Virtualization Enhancements"): a disk that the host has mounted must not
    be written by a guest too.
    """
    if kind is Kind.NIC:
        yield from _against_interface(option, card)
    elif kind is Kind.DISK:
        yield from pci.host_needs(option, card, question, kind)


def _hindered(card: PciFunction, question: Question, kind: Kind) -> tuple[Reason, str, str | None] | None:
    """Why no virtual function can be made on a card: reason, detail and fix; None where nothing is known to hinder.

    The kernel leaves the making to the card's own driver (drivers/pci/iov.c, sriov_numvfs_store).
    """
    sriov, here, reason = card.sriov or SrIov(), card.address, Reason.NO_VF_CREATED
    if not sriov.totalvfs:
        return Reason.NO_SRIOV, f"{here} names no number of virtual functions that it can have (sriov_totalvfs)", None
    if (words := question.refused.get(here)) is not None:
        return reason, words, "dmesg says more; the firmware setup may have a switch for SR-IOV"
    if sriov.numvfs:
        detail = f"{here} has {sriov.numvfs} virtual functions, and the host document does not list them"
        return reason, detail, "run clienthv inspect --save on that PC"
    if card.driver in HELD_FOR_GUESTS:
        detail = f"{here} is held by {card.driver}, and its own driver alone creates virtual functions"
        return reason, detail, f"give it back to its driver: virsh nodedev-reattach {_nodedev(card)}"
    if card.driver == "":
        detail = f"{here} has no driver bound, and its own driver alone creates virtual functions"
        return reason, detail, f"load its driver: lspci -k -s {here} names it"
    if kind is Kind.GPU and card.driver is not None and card.driver not in _MAKING_GPUS:
        detail = f"{here}: {card.driver} is not known to create virtual functions that guests have drivers for"
        return reason, detail, "the drivers xe and i915 (of Intel's own kernels, or i915-sriov-dkms) do"
    if card.driver in _NO_SYSFS:
        detail = f"{here}: the driver {card.driver} creates virtual functions only when it is loaded"
        return reason, detail, f"options {card.driver} num_vfs={number(sriov)} in a file in /etc/modprobe.d"
    return None


def _nodedev(card: PciFunction) -> str:
    """The card's name among libvirt's node devices."""
    return "pci_" + card.address.replace(":", "_").replace(".", "_")


def _without_address(of_card: Option, card: PciFunction) -> Rejected:
    known = card.sriov is not None and card.sriov.offset is not None and card.sriov.stride is not None
    return reject(
        of_card,
        Reason.VF_ADDRESS_UNKNOWN,
        f"{card.address}: by sriov_offset and sriov_stride its virtual function would be where none can be"
        if known
        else f"the host document does not say where virtual functions of {card.address} would be",
        "create them by hand, or use another card" if known else "run clienthv inspect --save on that PC",
    )


def _against_group(of_card: Option, card: PciFunction, host: Host) -> Objections:
    """A virtual function joins the group of the bridges above it, where those do not separate what is below them.

    Then the card, which works for the host, is in that group too; otherwise the function has a group of its own,
    since it counts as a device with one function (kernel, drivers/iommu/iommu.c, pci_device_group).
    """
    group = card.iommu_group
    members = host.by_group[group] if group is not None else ()
    bridges = [f.address for f in members if f.base_class == _PCI_BRIDGE]
    if bridges:
        yield reject(
            of_card,
            Reason.IOMMU_GROUP_STAYS,
            f"{card.address} shares IOMMU group {group} with the bridge {bridges[0]}, so its virtual functions would "
            "too; the group moves whole or not at all, and the card stays",
            "put the card into another slot",
        )


def _against_interface(option: Option, card: PciFunction) -> Objections:
    if card.interfaces == ():
        yield reject(
            option,
            Reason.NO_PF_INTERFACE,
            f"{card.address} has no network interface, and libvirt sets a virtual function's MAC address through that",
            f"bind {card.address} to its own driver (lspci -k names it)",
        )


def _against_rights(option: Option, card: PciFunction, question: Question) -> Objections:
    """What has to be set on the card of a function that is there, by a user who may not."""
    if card.sriov is None or card.sriov.writable is not False or not card.interfaces:
        return
    interface, of = card.interfaces[0], option.virtual_function
    if card.sriov.link_up is False:
        yield reject(
            option,
            Reason.NO_PRIVILEGE,
            f"{interface}, the interface of {card.address}, is down, and this user may not bring it up",
            f"run clienthv as root, or: sudo ip link set dev {interface} up",
        )
    if question.profile.device(Kind.NIC).trust:
        yield reject(
            option,
            Reason.NO_PRIVILEGE,
            f"this user may not set the trust of virtual functions of {interface}",
            f"run clienthv as root, or leave out devices.nic.trust and: sudo ip link set dev {interface} "
            f"vf {of.index if of is not None else 0} trust on",
        )
