"""Take out of a host document what tells whose PC it is: names, serial numbers, addresses of network cards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

from clienthv.inspect.cmdline import key_of
from clienthv.inspect.interface_names import each_text, plain_names
from clienthv.inspect.mounts import MOUNTS
from clienthv.model.host import Host, PciFunction, Role, Stack
from clienthv.model.input import BY_ID, EventDevice
from clienthv.model.network import VirtualNetwork
from clienthv.model.usb import UsbRole

_AnyRole = TypeVar("_AnyRole", Role, UsbRole)
SCRUBBED: Final = "<scrubbed>"
ANY_MOUNT: Final = "a mounted filesystem"
NAME: Final = "this PC"
ANY_PROGRAM: Final = "a program"

# As the kernel cuts them, after 15 characters.
_DESKTOP: Final = frozenset(
    {
        "Xorg", "Xwayland", "gnome-shell", "kwin_wayland", "kwin_x11", "plasmashell", "sway", "Hyprland", "weston",
        "mutter-x11-fram", "sddm", "sddm-greeter", "gdm", "lightdm", "lightdm-gtk-gre", "cosmic-comp", "labwc",
        "systemd-logind", "plymouthd", "nvidia-persiste", "pipewire", "wireplumber", "pulseaudio",
    }
)  # fmt: skip

SYSTEM_MOUNTS: Final = frozenset(
    {
        "/", "/boot", "/boot/efi", "/efi", "/home", "/usr", "/var", "/opt", "/srv", "/root", "/nix",
        "/tmp",  # noqa: S108 - a name to compare with
        "/nix/store", "swap",
    }
)  # fmt: skip

# Parameters whose values speak of hardware and the kernel only (Documentation/admin-guide/kernel-parameters.txt).
# All others lose their value: parameters that carry names, keys and addresses cannot be listed completely.
_KEPT: Final = re.compile(
    r"^(?:(?:intel|amd)_iommu(?:_intr)?|iommu(?:\..*)?|intremap|pcie?_.*|pcie?|vfio.*|kvm.*|(?:default_)?hugepages(?:z)?"
    r"|default_hugepagesz|isolcpus|nohz_full|rcu_nocbs|irqaffinity|cpuidle.*|processor\..*|intel_idle\..*|amd_pstate.*"
    r"|intel_pstate|mitigations|spectre.*|mem|memmap|maxcpus|nr_cpus|numa.*|transparent_hugepage|video|nomodeset"
    r"|(?:i915|xe|amdgpu|radeon|nouveau|nvidia.*|drm.*|snd.*|xhci.*|usbcore|nvme.*|mem_sleep_default|swiotlb)(?:\..*)?"
    r"|module_blacklist|modprobe\.blacklist|rd\.driver\..*|initcall_blacklist|console|consoleblank|loglevel|acpi.*"
    r"|efi|clocksource|tsc|idle|apparmor|selinux|security|lsm|lockdown|audit|panic|reboot|net\.ifnames|biosdevname"
    r"|random\..*|systemd\.unified_cgroup_hierarchy|cgroup.*|psi|zswap\..*|fbcon|vga|vt\..*|splash|preempt)$"
)
_PLAIN_VALUE: Final = re.compile(r"^(?:on|off|auto|force|yes|no|[yn]|pt|[0-9]{1,4})$", re.IGNORECASE)

_HEX: Final = "[0-9a-fA-F]"
_UUID: Final = re.compile(rf"(?<!{_HEX}){_HEX}{{8}}-?(?:{_HEX}{{4}}-?){{3}}{_HEX}{{12}}(?!{_HEX})")
_MAC: Final = re.compile(rf"(?<![0-9a-fA-F:-]){_HEX}{{2}}(?:[:-]{_HEX}{{2}}){{5}}(?![0-9a-fA-F])")
_MAC_NAME: Final = re.compile(rf"\b(\w{{1,8}}?x){_HEX}{{12}}(?!{_HEX})")
_OWNER: Final = re.compile(r"(/home/|/run/user/|/media/|/run/media/)[^/\s]+")
_AUTHORITY: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s?#]+")
_MOUNTED: Final = re.compile(rf"^({re.escape(MOUNTS)}: )(.*)( is on .*)$", re.DOTALL)


def anonymise(host: Host) -> Host:
    """The same PC without host name, MAC addresses, UUIDs, volume labels, user names and private mount points.

    Every text in the document is looked at, so that what a later version adds is covered too. Pure; doing it twice
    changes nothing more.
    """
    events = host.events and tuple(_by_path(host.events))
    host = msgspec.structs.replace(host, events=events)
    plain = each_text(plain_names(host, msgspec.to_builtins(host)), scrub_text)
    cleaned = msgspec.convert(plain, Host)
    cmdline = host.kernel.cmdline
    kernel = msgspec.structs.replace(cleaned.kernel, cmdline=None if cmdline is None else scrub_cmdline(cmdline))
    usb = cleaned.usb and tuple(msgspec.structs.replace(d, roles=_without_mounts(d.roles)) for d in cleaned.usb)
    roles = _without_mounts(cleaned.roles)
    stack = cleaned.stack and _without_names(cleaned.stack)
    pci = tuple(map(_without_programs, cleaned.pci))
    return msgspec.structs.replace(cleaned, name=NAME, kernel=kernel, pci=pci, roles=roles, usb=usb, stack=stack)


def _without_names(stack: Stack) -> Stack:
    """VMs and networks by number: people name them as they like."""
    stack = msgspec.structs.replace(stack, networks=_unnamed(stack.networks))
    if not isinstance(stack.vms, tuple):
        return stack
    named = (msgspec.structs.replace(vm, name=f"vm{number}") for number, vm in enumerate(stack.vms, 1))
    return msgspec.structs.replace(stack, vms=tuple(named))


def _by_path(events: tuple[EventDevice, ...]) -> Iterator[EventDevice]:
    """Event devices without their names by id, which hold serial numbers; those that have no other are left out."""
    for event in events:
        if links := tuple(link for link in event.links if not link.startswith(BY_ID)):
            yield msgspec.structs.replace(event, links=links)


def _unnamed(
    networks: tuple[VirtualNetwork, ...] | msgspec.UnsetType,
) -> tuple[VirtualNetwork, ...] | msgspec.UnsetType:
    """The networks without the names that people gave them; "default" is libvirt's own."""
    return networks and tuple(
        network if network.name == "default" else msgspec.structs.replace(network, name=f"network-{number}")
        for number, network in enumerate(networks)
    )


def scrub_cmdline(parameters: tuple[str, ...]) -> tuple[str, ...]:
    """The command line with the values of all parameters taken out that are not about hardware or the kernel."""
    kept: list[str] = []
    for parameter in parameters:
        if parameter == "--":
            return (*kept, "--", SCRUBBED)
        kept.append(_parameter(parameter))
    return tuple(kept)


def scrub_text(text: str) -> str:
    """A text without MAC addresses, UUIDs, the names of users, and the hosts of URIs."""
    text = _UUID.sub(SCRUBBED, text)
    text = _MAC.sub(SCRUBBED, text)
    text = _MAC_NAME.sub(rf"\g<1>{SCRUBBED}", text)
    text = _OWNER.sub(rf"\g<1>{SCRUBBED}", text)
    return _AUTHORITY.sub(rf"\g<1>{SCRUBBED}", text)


def _parameter(parameter: str) -> str:
    key, equals, value = parameter.partition("=")
    if not equals:
        return scrub_text(parameter)
    is_kept = _KEPT.match(key_of(parameter)) or _PLAIN_VALUE.match(value)
    return f"{scrub_text(key)}={scrub_text(value) if is_kept else SCRUBBED}"


def _without_mounts(roles: tuple[_AnyRole, ...]) -> tuple[_AnyRole, ...]:
    return tuple(
        msgspec.structs.replace(role, evidence=tuple(dict.fromkeys(map(_without_mount, role.evidence))))
        for role in roles
    )


def _without_mount(evidence: str) -> str:
    match = _MOUNTED.match(evidence)
    if match is None or match.group(2) in SYSTEM_MOUNTS:
        return evidence
    return f"{match.group(1)}{ANY_MOUNT}{match.group(3)}"


def _without_programs(function: PciFunction) -> PciFunction:
    """What somebody runs is theirs: of the programs that have a device open the desktop's own keep their names."""
    holders = function.known.holders
    if not holders:
        return function
    kept = tuple(dict.fromkeys(name if name in _DESKTOP else ANY_PROGRAM for name in holders))
    known = msgspec.structs.replace(function.known, holders=kept)
    return msgspec.structs.replace(function, particulars=known)
