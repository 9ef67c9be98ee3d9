"""What speaks against handing a PCI function to a guest, whatever kind of device it is."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from clienthv.model.host import HELD_FOR_GUESTS, Host, PciFunction, RoleName
from clienthv.model.plan import Kind, Reason, Rejected, Strategy
from clienthv.model.values import PciAddress
from clienthv.strategies import in_use, iommu, others, screens
from clienthv.strategies.frame import Objections, Option, Question, reject

_HOST_BRIDGE: Final = "0600"
_PCI_BRIDGES: Final = frozenset({"0604", "0609"})
_RAID_CONTROLLER: Final = "0104"
_NON_ESSENTIAL: Final = "13"
_MAX_DOMAIN: Final = 0xFFFF  # PCI has 16 bits; Linux numbers VMD's own domains from 0x10000
CARD_COMPANIONS: Final = frozenset({"0403", "0c03", "0c80"})
_HDMI_AUDIO: Final = "0403"
_USB_CONTROLLER: Final = "0c03"
_SERIAL_BUS: Final = "0c"

ROLE_REASONS: Final = {
    RoleName.BOOT_DISPLAY: (Reason.BOOT_DISPLAY, "drives the host's boot display"),
    RoleName.CONNECTED_DISPLAY: (Reason.CONNECTED_DISPLAY, "has the only connected screen"),
    RoleName.MOUNTED_DISK: (Reason.MOUNTED_DISK, "carries disks the host has mounted"),
    RoleName.DEFAULT_ROUTE: (Reason.DEFAULT_ROUTE, "carries the host's default route"),
    RoleName.NETWORK: (Reason.NETWORK_IN_USE, "carries the host's network"),
    RoleName.INPUT: (Reason.HOST_INPUT, "carries the host's keyboard or mouse"),
}

UNREAD: Final = {
    RoleName.BOOT_DISPLAY: (Reason.BOOT_DISPLAY_UNKNOWN, "whether it drives the boot display"),
    RoleName.MOUNTED_DISK: (Reason.MOUNTED_DISK_UNKNOWN, "whether the host has disks on it mounted"),
    RoleName.NETWORK: (Reason.NETWORK_UNKNOWN, "whether the host's network runs over it"),
    RoleName.INPUT: (Reason.HOST_INPUT_UNKNOWN, "whether the host's keyboard hangs on it"),
}

# By PCI class (PCI Code and ID Assignment Specification). Touchpads hang on I2C controllers of classes 0c80 and 1180
# or on the SMBus (0c05), eMMC and SD cards on 0805, disks on FireWire (0c00) and Fibre Channel (0c04) too.
_COULD_CARRY: Final[dict[str, tuple[RoleName, ...]]] = {
    "01": (RoleName.MOUNTED_DISK,),
    "02": (RoleName.NETWORK,),
    "0805": (RoleName.MOUNTED_DISK,),
    "09": (RoleName.INPUT,),
    "0c00": (RoleName.MOUNTED_DISK,),
    _USB_CONTROLLER: (RoleName.INPUT, RoleName.MOUNTED_DISK),
    "0c04": (RoleName.MOUNTED_DISK,),
    "0c05": (RoleName.INPUT,),
    "0c06": (RoleName.NETWORK,),
    "0c80": (RoleName.INPUT,),
    "1180": (RoleName.INPUT,),
}


def option(strategy: Strategy, function: PciFunction, functions: tuple[str, ...], why: str) -> Option:
    """An option that rests on one PCI function; ``functions`` are all that move with it."""
    return Option(
        strategy=strategy,
        device=function.address,
        functions=functions,
        model=f"{function.vendor_id or '????'}:{function.device_id or '????'}",
        backing=function.label,
        why=why,
    )


def whole(function: PciFunction, question: Question, kind: Kind, why: str) -> Option:
    """Passing a function with all that has to move with it: its card, and group members the profile names."""
    moving = {f.address for f in companions(question.host, function)}
    groups = {question.host.by_address[a].iommu_group for a in moving} - {None}
    for address in question.profile.device(kind).select:
        mate = question.host.by_address.get(address)
        if mate is not None and mate.iommu_group in groups and not mate.is_bridge:
            moving.add(address)
    return option(Strategy.PASSTHROUGH, function, tuple(sorted(moving)), why)


def companions(host: Host, function: PciFunction) -> tuple[PciFunction, ...]:
    """The functions of one card that are useless or unsafe apart: a GPU with its audio, USB-C and serial functions.

    A slot that holds more than those is an on-board complex (an APU's graphics, security processor and USB), whose
    functions are devices of their own; there only the graphics' HDMI audio belongs along. Functions of other cards
    belong together where one IOMMU group holds them (kernel, Documentation/driver-api/vfio.rst, "Groups").
    """
    siblings = [f for f in host.by_slot[function.place.slot] if f.physfn is None and not f.is_bridge]
    if function.physfn is not None or len(siblings) == 1:
        return (function,)
    if screens.is_gpu(function):
        others = [f for f in siblings if f is not function]
        if all(screens.is_gpu(f) or f.base_class in CARD_COMPANIONS for f in others):
            return tuple(siblings)
        return tuple(f for f in siblings if f is function or (f.base_class == _HDMI_AUDIO and f.place.function == 1))
    return tuple(
        f for f in siblings if f is function or (f.iommu_group is not None and f.iommu_group == function.iommu_group)
    )


def belongs_to_gpu(host: Host, function: PciFunction) -> bool:
    """Whether a function is part of a graphics card or of an APU's graphics."""
    gpus = (f for f in host.by_slot[function.place.slot] if screens.is_gpu(f))
    return any(function in companions(host, gpu) for gpu in gpus)


def stays_harmlessly(function: PciFunction) -> bool:
    """Whether a group member may stay on the host while another is in a guest.

    The kernel lets bridges stay, and functions without a driver or held by a stub
    (Documentation/driver-api/vfio.rst, "Groups"; iommu_group_claim_dma_owner). What is unknown does not count.
    """
    if function.base_class in _PCI_BRIDGES:
        return True
    if function.driver is None:
        # Dummy host bridges and non-essential instrumentation have nothing that a driver would bind to.
        return function.base_class == _HOST_BRIDGE or function.base_class.startswith(_NON_ESSENTIAL)
    return function.driver == "" or function.driver in HELD_FOR_GUESTS


def staying(functions: Iterable[str], moving: Container[str], host: Host) -> tuple[PciFunction, ...]:
    """The members of these functions' IOMMU groups that do not move and would work on.

    A virtual function that is not there yet has no group to tear.
    """
    going = [host.by_address[a] for a in functions if a in host.by_address]
    groups = sorted({f.iommu_group for f in going if f.iommu_group is not None})
    gone = {f.address for function in going for f in behind(function, host)}
    members = [f for group in groups for f in host.by_group[group] if f.address not in gone]
    return tuple(f for f in members if f.address not in moving and not stays_harmlessly(f))


def behind(function: PciFunction, host: Host) -> tuple[PciFunction, ...]:
    """The functions that the host loses with this one: those in the PCI domain that a VMD controller makes.

    Source: kernel, drivers/pci/controller/vmd.c. Where their path is unknown, any RAID controller may be theirs.
    """
    made = [f for f in host.pci if f.place.domain > _MAX_DOMAIN and function.place.domain <= _MAX_DOMAIN]
    could = function.base_class == _RAID_CONTROLLER
    return tuple(f for f in made if (could if f.bridge_path is None else function.address in f.bridge_path))


def torn_group(option: Option, moving: Container[str], host: Host) -> Rejected | None:
    """An objection when a member of one of the option's groups would stay with the host, working.

    Source: kernel, Documentation/driver-api/vfio.rst, "Groups, Devices, and IOMMUs".
    """
    left = staying(option.functions, moving, host)
    if not left:
        return None
    groups = sorted({g for a in option.functions if (g := host.by_address[a].iommu_group) is not None})
    names = ", ".join(f"{f.address} {f.label} ({f.driver or 'driver not recorded'})" for f in left[:4]) + (
        f" and {len(left) - 4} more" if len(left) > 4 else ""
    )
    return reject(
        option,
        Reason.IOMMU_GROUP_STAYS,
        f"IOMMU group {', '.join(map(str, groups))} moves whole or not at all, and these stay: {names}",
        "put the card into another slot"
        + ("" if any(f.is_bridge for f in left) else ", or select the whole group for this VM"),
    )


def passthrough(option: Option, question: Question, kind: Kind) -> Objections:
    """Everything that speaks against handing an option's functions to a guest, but the unity of groups."""
    if not is_selected(option, question, kind):
        yield not_selected(option, question, kind)
        return
    yield from against_stranger(option, question)
    yield from against_stack(option, question)
    yield from iommu.objections(option, question, named=is_named(option, question, kind))
    for address in option.functions:
        function = question.host.by_address[address]
        if (running := others.runs_with(option, address, question.host)) is not None:
            yield running
        if shares := [m for m in function.known.mdevs or () if m.uuid != question.kept.mdev]:
            yield reject(
                option,
                Reason.IN_USE,
                f"{address} has {len(shares)} mediated device{'s' * (len(shares) > 1)}, which would vanish with it",
                "stop the VMs that have them; virsh nodedev-list --cap mdev names them",
            )
        if virtual := _virtual_functions(function, question.host):
            yield reject(
                option,
                Reason.IS_PHYSICAL_FUNCTION,
                f"{address} has {virtual} virtual function{'s' * (virtual > 1)}, which would vanish with it",
                f"echo 0 | sudo tee /sys/bus/pci/devices/{address}/sriov_numvfs, when none of them is in use",
            )
        yield from iommu.bypassed(option, function)
        yield from in_use.objections(option, function)
        for lost in (function, *behind(function, question.host)):
            yield from host_needs(option, lost, question, kind)


def against_stranger(option: Option, question: Question) -> Objections:
    """An address in the profile at which another device is now than when the VM last started."""
    of = option.virtual_function
    for address in (option.device, of.physfn if of is not None else None):
        if (stranger := question.kept.strangers.get(address or "")) is not None:
            fix = "name the device that is meant, and give the profile again: clienthv up PROFILE --name NAME"
            yield reject(option, Reason.DEVICE_CHANGED, stranger, fix)
            return


def is_selected(option: Option, question: Question, kind: Kind) -> bool:
    """Whether the profile lets a kind rest on this device. Naming a physical function names its virtual ones."""
    selected = question.profile.device(kind).select
    names = {option.device, option.virtual_function.physfn if option.virtual_function is not None else None}
    return not selected or not names.isdisjoint(selected)


def is_named(option: Option, question: Question, kind: Kind) -> bool:
    """Whether the profile names this very device, and not only leaves the choice open or to a pattern."""
    of = option.virtual_function
    names = {option.device, of.physfn if of is not None else None} & set(question.profile.device(kind).select)
    return bool(names) and (question.exact is None or any((kind, name) in question.exact for name in names if name))


def not_selected(option: Option, question: Question, kind: Kind) -> Rejected:
    """The objection to a device that the profile's ``select`` leaves out."""
    selected = ", ".join(question.profile.device(kind).select)
    return reject(option, Reason.NOT_SELECTED, f"the profile selects {selected} for {kind}")


def against_stack(option: Option, question: Question) -> Objections:
    """What the connection and the device's place keep from being handed over, whatever the IOMMU does."""
    if question.host.stack is not None and question.host.stack.privileged is False:
        yield reject(
            option,
            Reason.NO_PRIVILEGE,
            f"the connection {question.host.stack.uri} may not take devices from the host",
            "use qemu:///system, as a member of the group libvirt",
        )
    if any(PciAddress.parse(a).domain > _MAX_DOMAIN for a in option.functions):
        yield reject(
            option,
            Reason.BEHIND_VMD,
            f"{option.device} sits behind an Intel VMD controller, which alone can be handed over",
            'turn off "VMD" or "RAID mode" in the firmware setup',
        )


def _virtual_functions(function: PciFunction, host: Host) -> int:
    """How many virtual functions a physical function has, by whichever fact says so."""
    counted = host.virtual_functions.get(function.address, 0)
    sriov = function.sriov
    return max(counted, len(sriov.virtfns), sriov.numvfs or 0) if sriov is not None else counted


def unnamed(option: Option, question: Question, kind: Kind) -> Rejected | None:
    """An objection to what nobody should lose unasked, where the profile names nothing: see ``named_passthrough``."""
    if question.profile.device(kind).select:
        return None
    return reject(
        option,
        Reason.NOT_SELECTED,
        f"{option.device} is the host's: {kind} hardware is handed over only when the profile names it",
        f'name it in the profile: [devices.{kind}] select = ["{option.device}"]',
    )


def named_passthrough(option: Option, question: Question, kind: Kind) -> Objections:
    """As ``passthrough``, for what nobody should lose unasked: disks with data on them, USB and sound sockets.

    An unmounted disk still holds somebody's data, and a USB controller somebody's Bluetooth: the profile names it.
    """
    if (nameless := unnamed(option, question, kind)) is not None:
        yield nameless
        return
    yield from passthrough(option, question, kind)


def host_needs(option: Option, function: PciFunction, question: Question, kind: Kind) -> Objections:
    """Roles that keep a function with the host, and roles that nobody looked for."""
    host, wanted = question.host, question.profile.device(kind)
    if function.driver in HELD_FOR_GUESTS:
        return
    named = function.address in wanted.select
    boot = question.boot_displays.get(function.address, screens.NOT_A_SCREEN)
    held = [(role.role, "; ".join(role.evidence)) for role in host.roles_by_address.get(function.address, ())]
    if boot.drives and RoleName.BOOT_DISPLAY not in {role for role, _ in held}:
        held.insert(0, (RoleName.BOOT_DISPLAY, boot.evidence))
    for role, evidence in held:
        if named and role in wanted.allow:
            continue
        if role is RoleName.CONNECTED_DISPLAY and (boot.drives or _another_screen(question, option)):
            continue
        reason, what = ROLE_REASONS[role]
        yield reject(
            option,
            reason,
            f"{function.address} {what}" + (f" ({evidence})" if evidence else ""),
            f'if you mean it: select = ["{function.address}"] and allow = ["{role}"] in the profile',
        )
    for role in _unread_roles(function, question, boot):
        if named and role in wanted.allow:
            continue
        reason, what = UNREAD[role]
        yield reject(
            option,
            reason,
            f"the host document does not say {what} ({function.address})",
            "run clienthv inspect --save on that PC, "
            f'or say so: select = ["{function.address}"] and allow = ["{role}"] in the profile',
        )


def _another_screen(question: Question, option: Option) -> bool:
    """Whether the host keeps a screen when an option's functions move."""
    return not screens.connected(question.host).issubset(option.functions)


def _unread_roles(function: PciFunction, question: Question, boot: screens.BootDisplay) -> tuple[RoleName, ...]:
    """The roles that a function of this class could have and that were not looked for."""
    host = question.host
    if screens.is_gpu(function):
        # No driver means nothing here: the firmware's framebuffer shows the host's screen without one.
        return (RoleName.BOOT_DISPLAY,) if boot.drives is None else ()
    if function.driver == "":
        return ()
    if not function.base_class:
        return tuple(role for role in UNREAD if not host.read(role))
    if function.base_class[:2] == _SERIAL_BUS and belongs_to_gpu(host, function):
        return ()  # a graphics card's USB-C port: the plan warns instead
    could = _COULD_CARRY.get(function.base_class, _COULD_CARRY.get(function.base_class[:2], ()))
    return tuple(role for role in could if not host.read(role))
