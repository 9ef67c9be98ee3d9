"""Where the facts that speak against a rung stand on the PC: file and value, for each reason.

A file is named as a person finds it, with * where several would be looked through; a command where no file tells.
Values are the host's alone: what nobody read is "unknown", what is not there "absent".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Final

from clienthv.model.advice import Evidence
from clienthv.model.host import Host, PciFunction, RoleName
from clienthv.model.plan import Decision, Kind, Reason, Rejected
from clienthv.strategies import screens
from clienthv.strategies.evidence import decisions, functions, networks, platform, usb
from clienthv.strategies.evidence.facts import About, Facts, fact, group_of, listed, of, stated

__all__ = ["NO_FACT_OF_THE_HOST", "of_decision", "of_function", "of_rejected"]

MOST: Final = 48
"""How many facts stand beside one reason at most: documents come from strangers."""

NO_FACT_OF_THE_HOST: Final = frozenset(
    {
        Reason.FORBIDDEN,
        Reason.NOT_SELECTED,
        Reason.KEPT,
        Reason.START_FAILED,
        Reason.GIVEN_TO_OTHER_VM,
        Reason.NO_USB_CONTROLLER,
        Reason.GUEST_FIRMWARE,
        Reason.VF_NOT_READY,
    }
)
"""Reasons that rest on the profile, the guest, another VM, or what was tried a moment ago. So does no-guest-driver
but for a GPU, whose vendor names the driver."""


def _nothing(_: About) -> Facts:
    return iter(())


_RULES: Final[Mapping[Reason, Callable[[About], Facts]]] = {
    **dict.fromkeys(NO_FACT_OF_THE_HOST, _nothing),
    Reason.NO_HARDWARE_VIRTUALIZATION: platform.no_hardware_virtualization,
    Reason.VIRTUALIZATION_UNKNOWN: platform.virtualization_unknown,
    Reason.CPU_LEVEL_MISSING: platform.cpu_level,
    Reason.CPU_LEVEL_UNKNOWN: platform.cpu_level,
    Reason.KVM_NOT_USABLE: platform.kvm,
    Reason.ARCHITECTURE_DIFFERS: platform.architecture,
    Reason.DEVICE_CHANGED: functions.device_changed,
    Reason.NO_SUCH_DEVICE: functions.no_such_device,
    Reason.IOMMU_ABSENT: platform.iommu,
    Reason.IOMMU_OFF: platform.iommu,
    Reason.IOMMU_UNKNOWN: platform.iommu_unknown,
    Reason.NO_IOMMU_GROUP: platform.without_group,
    Reason.IOMMU_GROUP_UNKNOWN: platform.without_group,
    Reason.IOMMU_GROUP_STAYS: functions.group_stays,
    Reason.NO_INTERRUPT_REMAPPING: platform.interrupt_remapping,
    Reason.ACS_OVERRIDE: platform.acs_override,
    Reason.VFIO_UNAVAILABLE: platform.vfio,
    Reason.NO_PRIVILEGE: platform.no_privilege,
    Reason.IDS_UNKNOWN: functions.ids_unknown,
    Reason.BEHIND_VMD: functions.behind_vmd,
    Reason.USED_BY_VM: functions.used_by_vm,
    Reason.BYPASSES_IOMMU: functions.bypasses_iommu,
    Reason.IOMMU_BYPASS_UNKNOWN: functions.bypasses_iommu,
    Reason.RESERVED_MEMORY: functions.reserved_memory,
    Reason.BOOT_DISPLAY: functions.used_as(RoleName.BOOT_DISPLAY),
    Reason.BOOT_DISPLAY_UNKNOWN: functions.boot_display_unknown,
    Reason.CONNECTED_DISPLAY: functions.used_as(RoleName.CONNECTED_DISPLAY),
    Reason.MOUNTED_DISK: functions.used_as(RoleName.MOUNTED_DISK),
    Reason.MOUNTED_DISK_UNKNOWN: functions.unread,
    Reason.DEFAULT_ROUTE: functions.used_as(RoleName.DEFAULT_ROUTE),
    Reason.NETWORK_IN_USE: functions.used_as(RoleName.NETWORK),
    Reason.NETWORK_UNKNOWN: functions.unread,
    Reason.HOST_INPUT: functions.used_as(RoleName.INPUT),
    Reason.HOST_INPUT_UNKNOWN: functions.unread,
    Reason.IS_PHYSICAL_FUNCTION: functions.physical_function,
    Reason.IN_USE: functions.in_use,
    Reason.USB_UNKNOWN: usb.unknown,
    Reason.NOT_PLUGGED_IN: usb.not_plugged_in,
    Reason.SEVERAL_MATCH: networks.several,
    Reason.IS_HUB: usb.hub,
    Reason.ONLY_KEYBOARD: usb.keyboards,
    Reason.USB_CLASS_UNKNOWN: usb.class_unknown,
    Reason.NETWORKS_UNKNOWN: networks.unknown,
    Reason.NO_BRIDGE: networks.no_bridge,
    Reason.NO_NETWORK: networks.no_network,
    Reason.NETWORK_INACTIVE: networks.inactive,
    Reason.NO_INTERFACE: networks.no_card,
    Reason.LINK_DOWN: networks.link_down,
    Reason.WIRELESS: networks.of_card,
    Reason.NO_PASST: networks.passt,
    Reason.EVENTS_UNKNOWN: usb.events,
    Reason.NO_EVENT_DEVICE: usb.events,
    Reason.NO_SRIOV: functions.no_sriov,
    Reason.NO_VF_CREATED: functions.no_vf_created,
    Reason.VF_ADDRESS_UNKNOWN: functions.vf_address_unknown,
    Reason.NO_PF_INTERFACE: functions.no_interface,
    Reason.NO_MDEV_TYPE: functions.mediated,
    Reason.MDEV_USED_UP: functions.mediated,
    Reason.MDEV_UNKNOWN: functions.mediated,
    Reason.NO_GUEST_DRIVER: functions.guest_driver,
    Reason.NOT_IN_QEMU: platform.not_in_qemu,
    Reason.IS_PROCESSOR_GRAPHICS: functions.device_changed,
    Reason.NO_RENDER_NODE: functions.render_nodes,
    Reason.RENDER_NODE_UNKNOWN: functions.render_nodes,
    Reason.NO_TPM_DEVICE: platform.no_tpm,
    Reason.TPM_UNKNOWN: platform.no_tpm,
}

_OF_USB: Final[Mapping[Reason, Callable[[About], Facts]]] = {
    Reason.SEVERAL_MATCH: usb.several,
    Reason.USED_BY_VM: usb.used_by_vm,
    Reason.MOUNTED_DISK: usb.used,
    Reason.DEFAULT_ROUTE: usb.used,
    Reason.NETWORK_IN_USE: usb.used,
    Reason.HOST_INPUT: usb.used,
}
"""Where a reason that PCI functions have too stands for a single USB device."""


def of_rejected(rejected: Rejected, host: Host, kind: Kind | None = None) -> tuple[Evidence, ...]:
    """What in this host's files shows that a rung cannot be taken; nothing where the reason is no fact of the host.

    ``kind`` is the kind of device whose rung it is: without it what the kind decides is told of each that it may be.
    """
    reason = rejected.reason
    about = About(reason, rejected.strategy, rejected.device, host, kind)
    rule = _RULES[reason]
    if usb.is_usb(about):
        rule = _OF_USB.get(reason, rule)
    elif reason is Reason.NETWORK_IN_USE and networks.plug_of(about) is not None:
        rule = networks.of_card
    return _bounded(rule(about))


def of_decision(decision: Decision, host: Host) -> tuple[Evidence, ...]:
    """What in this host's files a decision rests on; nothing where that is no fact of the host."""
    resting = (e for function in decisions.rests_on(decision, host) for e in _state_of(function, host))
    return _bounded(itertools.chain(resting, decisions.others(decision, host)))


def of_function(function: PciFunction, host: Host) -> tuple[Evidence, ...]:
    """What this host's files say of one PCI function: driver, IOMMU group, reset methods, roles, virtual functions."""
    return _bounded(itertools.chain(functions.identity(function), _state_of(function, host)))


def _state_of(function: PciFunction, host: Host) -> Facts:
    here, known = function.address, function.known
    yield of(here, "driver", function.driver)
    yield group_of(function, host)
    methods = function.reset_methods
    yield of(here, "reset_method", None if methods is None else " ".join(methods))
    if screens.is_gpu(function):
        yield of(here, "boot_vga", function.boot_vga)
        yield from functions.outputs(function)
    for role in host.roles_by_address.get(here, ()):
        yield from stated(role.evidence or ("yes",), f"host document, roles of {here}, {role.role}")
    if function.physfn is not None:
        yield of(here, "physfn", function.physfn)
    if function.sriov is not None:
        yield of(here, "sriov_totalvfs", function.sriov.totalvfs)
        yield of(here, "sriov_numvfs", function.sriov.numvfs)
    yield from functions.reserved(function)
    if known.holders:
        yield fact(f"/proc/*/fd, open on {here}", listed(known.holders))
    if known.framebuffer:
        yield fact("/proc/iomem", f"{known.framebuffer} holds memory of {here}")


def _bounded(facts: Facts) -> tuple[Evidence, ...]:
    found = tuple(dict.fromkeys(facts))
    more = (fact("…", f"{len(found) - MOST} more"),) if len(found) > MOST else ()
    return (*found[:MOST], *more)
