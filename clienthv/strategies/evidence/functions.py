"""Where the facts of PCI functions stand: their groups, what the host uses them for, virtual and mediated devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from clienthv.model.advice import Evidence
from clienthv.model.host import Host, PciFunction, RoleName
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.model.values import PciAddress
from clienthv.strategies import pci, screens
from clienthv.strategies.evidence.facts import (
    LIVE,
    About,
    Facts,
    all_of,
    fact,
    group_of,
    listed,
    of,
    stated,
)

_MEMBERS: Final = 16
_LINKS: Final = 4
_VIRTIO: Final = "1af4"
_DISPLAY: Final = "03"
_MAX_DOMAIN: Final = 0xFFFF
_UNREAD: Final = {
    Reason.MOUNTED_DISK_UNKNOWN: "/proc/self/mountinfo",
    Reason.NETWORK_UNKNOWN: "/proc/net/route",
    Reason.HOST_INPUT_UNKNOWN: "/proc/bus/input/devices",
}
_CLASSES: Final = {Kind.GPU: "03", Kind.NIC: "02", Kind.DISK: "0108", Kind.AUDIO: "0403", Kind.USB: "0c03"}
"""The classes that a kind of device is looked for in (PCI Code and ID Assignment Specification)."""


def identity(function: PciFunction) -> Facts:
    """What it is: its ids and its class."""
    yield of(function.address, "vendor", function.vendor_id)
    yield of(function.address, "device", function.device_id)
    yield of(function.address, "class", function.class_code)


def device_changed(about: About) -> Facts:
    """What is at the address now."""
    if about.function is not None:
        yield from identity(about.function)


def group_stays(about: About) -> Facts:
    """The card's group, and the driver of each member that would stay and work.

    Source: kernel, Documentation/driver-api/vfio.rst, "Groups, Devices, and IOMMUs".
    """
    host, moving = about.host, {f.address for f in about.card}
    for function in about.card:
        if function.iommu_group is not None:
            yield group_of(function, host)
    left = pci.staying(moving, moving, host) or _bridges(about)
    for member in left[:_MEMBERS]:
        yield group_of(member, host)
        yield of(member.address, "driver", member.driver)
    if len(left) > _MEMBERS:
        for group in about.groups:
            count = len(host.by_group[group])
            yield fact(f"/sys/kernel/iommu_groups/{group}/devices", f"{count} functions")


def _bridges(about: About) -> tuple[PciFunction, ...]:
    return tuple(f for group in about.groups for f in about.host.by_group[group] if f.is_bridge)


def reserved_memory(about: About) -> Facts:
    """The memory that firmware wants mapped one to one, of the card and the members of its groups."""
    yield from about.first(reserved)


def reserved(function: PciFunction) -> Facts:
    """The lines of the type direct (kernel, Documentation/ABI/testing/sysfs-kernel-iommu_groups)."""
    for span in (function.known.reserved_memory or ())[:_LINKS]:
        file = f"/sys/kernel/iommu_groups/{function.iommu_group}/reserved_regions"
        yield fact(file, f"{span.replace('-', ' ')} direct")


def ids_unknown(about: About) -> Facts:
    """No vendor id, of the GPU or of the card whose virtual function it is."""
    yield from (of(f.address, "vendor", f.vendor_id) for f in about.card if f.vendor_id is None)


def guest_driver(about: About) -> Facts:
    """The vendor, by which the driver is named; what the guest has is no fact of the host."""
    if about.function is not None:
        yield of(about.function.address, "vendor", about.function.vendor_id)


def behind_vmd(about: About) -> Facts:
    """The domain, and the controller that makes it where its way is known (kernel, drivers/pci/controller/vmd.c)."""

    def domain(function: PciFunction) -> Facts:
        if function.place.domain <= _MAX_DOMAIN:
            return
        yield of(function.address, "class", function.class_code)
        for bridge in function.bridge_path or ():
            controller = about.host.by_address.get(bridge)
            if controller is not None and PciAddress.parse(bridge).domain <= _MAX_DOMAIN:
                yield of(bridge, "driver", controller.driver)

    yield from about.first(domain)


def used_by_vm(about: About) -> Facts:
    """The definitions of the running VMs that name the device."""
    host, device = about.host, about.device
    moving = {f.address for f in about.card}
    for vm in host.vms:
        had = sorted(moving & set(vm.functions)) if moving else [*vm.usb] if device else ["tpm"] * vm.tpm
        if vm.running and had:
            yield fact(f"virsh dumpxml {vm.name}", listed(had))
    named = {a for vm in host.vms if vm.running for a in vm.functions}
    for address in sorted((moving & set((host.stack.guest_functions if host.stack else None) or ())) - named):
        yield fact("virsh list", f"a VM that runs has {address}")


def bypasses_iommu(about: About) -> Facts:
    """Bit 33 of a virtio device's features (virtio specification, VIRTIO_F_ACCESS_PLATFORM)."""

    def features(function: PciFunction) -> Facts:
        if function.vendor_id == _VIRTIO and not function.access_platform:
            said = None if function.access_platform is None else "bit 33 is 0"
            yield of(function.address, "virtio*/features", said)

    yield from about.first(features)


def used_as(role: RoleName) -> Callable[[About], Facts]:
    """What shows that the host uses the device so."""

    def facts(about: About) -> Facts:
        screen = role is RoleName.BOOT_DISPLAY
        shown = screens.boot_displays(about.host) if screen else {}

        def uses(function: PciFunction) -> Facts:
            if screen and shown.get(function.address, screens.NOT_A_SCREEN).drives:
                yield from boot_display(function, about.host)
            for use in about.host.roles_by_address.get(function.address, ()):
                if use.role is role:
                    yield from stated(use.evidence or ("yes",), f"host document, roles of {function.address}, {role}")

        yield from about.first(uses)

    return facts


def boot_display(function: PciFunction, host: Host) -> Facts:
    """What the kernel calls it, and what it is taken for where the kernel was not asked."""
    yield of(function.address, "boot_vga", function.boot_vga)
    if function.boot_vga is None:
        yield from outputs(function)
        for role in host.roles_by_address.get(function.address, ()):
            if role.role is RoleName.CONNECTED_DISPLAY and not function.connectors:
                yield from stated(role.evidence, f"host document, roles of {function.address}, {role.role}")
        judged = screens.boot_displays(host)[function.address]
        if judged.drives:
            yield fact("host document, display controllers", judged.evidence)


def outputs(function: PciFunction) -> Facts:
    """Its outputs, as DRM's connectors tell (kernel, drivers/gpu/drm/drm_sysfs.c)."""
    for connector in (function.connectors or ())[:_MEMBERS]:
        status = {True: "connected", False: "disconnected", None: None}[connector.connected]
        yield fact(f"/sys/class/drm/{function.drm_card or 'card*'}-{connector.name}/status", status)


def boot_display_unknown(about: About) -> Facts:
    """All display controllers, none of which says that it is the one; or the device itself, which may be none."""
    for gpu in screens.gpus_of(about.host)[:_MEMBERS] or about.card:
        if not screens.is_gpu(gpu):
            yield of(gpu.address, "class", gpu.class_code)
        yield of(gpu.address, "boot_vga", gpu.boot_vga)
        yield from outputs(gpu)


def unread(about: About) -> Facts:
    """Where a use would show that nobody looked for."""
    if about.reason is not None:
        yield fact(_UNREAD[about.reason], None)


def physical_function(about: About) -> Facts:
    """The virtual functions that a card has."""
    host = about.host

    def functions_of(card: PciFunction) -> Facts:
        sriov = card.sriov
        links = sriov.virtfns if sriov is not None else ()
        if sriov is not None and (links or sriov.numvfs or card.address in host.virtual_functions):
            yield of(card.address, "sriov_numvfs", sriov.numvfs)
        yield from (of(card.address, f"virtfn{n}", link) for n, link in enumerate(links[:_LINKS]))
        if not links and card.address in host.virtual_functions:
            naming = [f.address for f in host.pci if f.physfn == card.address]
            yield from (of(address, "physfn", card.address) for address in naming[:_LINKS])

    yield from about.first(functions_of)


def in_use(about: About) -> Facts:
    """The programs that have it open, and the mediated devices that there are of it."""

    def users(function: PciFunction) -> Facts:
        if function.known.holders:
            yield fact(f"/proc/*/fd, open on {function.address}", listed(function.known.holders))
        for mdev in (function.known.mdevs or ())[:_LINKS]:
            yield of(function.address, f"mdev_supported_types/{mdev.type}/devices", "a mediated device")

    yield from about.first(users)


def no_such_device(about: About) -> Facts:
    """The functions of the class that a kind is looked for in, with what each of them is instead."""
    host, wanted = about.host, _CLASSES.get(about.kind) if about.kind is not None else None
    found = [f for f in host.pci if wanted is not None and f.base_class.startswith(wanted)]
    if not found or any(f.class_code is None for f in host.pci):
        yield _none_of_class(wanted, host)
    if about.strategy is Strategy.VF:
        for function in found[:_MEMBERS]:
            unread = "" if host.source == LIVE else None
            yield of(function.address, "sriov_totalvfs", function.sriov.totalvfs if function.sriov else unread)
        return
    for function in found[:_MEMBERS]:
        if function.physfn is not None:
            yield of(function.address, "physfn", function.physfn)
        elif pci.belongs_to_gpu(host, function):
            yield of(function.address, "class", f"{function.class_code}, of a graphics card")


def _none_of_class(wanted: str | None, host: Host) -> Evidence:
    if not host.pci or any(f.class_code is None for f in host.pci):
        return all_of("class", None)
    return all_of("class", f"none begins with {wanted}" if wanted else f"{len(host.pci)} functions, none that would do")


def no_sriov(about: About) -> Facts:
    """How many virtual functions the card can have."""
    if about.function is not None and about.function.sriov is not None:
        yield of(about.function.address, "sriov_totalvfs", about.function.sriov.totalvfs)


def no_vf_created(about: About) -> Facts:
    """How many the card can have and has, and its driver, which alone makes them (kernel, drivers/pci/iov.c)."""
    function = about.function
    if function is None or function.sriov is None:
        return
    yield of(function.address, "sriov_totalvfs", function.sriov.totalvfs)
    yield of(function.address, "sriov_numvfs", function.sriov.numvfs)
    yield of(function.address, "driver", function.driver)


def vf_address_unknown(about: About) -> Facts:
    """What places a virtual function (PCIe Base Specification, "First VF Offset", "VF Stride")."""
    function = about.function
    if function is not None and function.sriov is not None:
        yield of(function.address, "sriov_offset", function.sriov.offset)
        yield of(function.address, "sriov_stride", function.sriov.stride)


def no_interface(about: About) -> Facts:
    """The network interfaces of the physical function."""
    for card in about.card:
        if card.interfaces == ():
            yield of(card.address, "net", "")
            yield of(card.address, "driver", card.driver)


def mediated(about: About) -> Facts:
    """The types that a GPU, or each of them, can be shared as, with how many there can be."""
    gpus = (about.function,) if about.function is not None else screens.gpus_of(about.host)
    for gpu in gpus[:_MEMBERS]:
        types = gpu.known.mdev_types
        if not types:
            yield of(gpu.address, "mdev_supported_types", None if types is None else "")
        for kind in types or ():
            yield of(gpu.address, f"mdev_supported_types/{kind.id}/available_instances", kind.available)
    if not gpus:
        yield _none_of_class(_DISPLAY, about.host)


def render_nodes(about: About) -> Facts:
    """The DRM devices of each GPU."""
    gpus = screens.gpus_of(about.host)
    for gpu in gpus[:_MEMBERS]:
        known = about.reason is Reason.NO_RENDER_NODE
        yield of(gpu.address, "drm", f"{gpu.drm_card or 'no card'}, no renderD*" if known else None)
    if not gpus:
        yield _none_of_class(_DISPLAY, about.host)
