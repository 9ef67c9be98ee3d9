"""The PC around the devices: DMI names, kernel and TPM."""

from __future__ import annotations

from typing import Final

from clienthv.inspect.files import Tree
from clienthv.model.host import Kernel, Machine

DMI: Final = "/sys/class/dmi/id"
RELEASE: Final = "/proc/sys/kernel/osrelease"
HOSTNAME: Final = "/proc/sys/kernel/hostname"
TPMS: Final = ("/dev/tpmrm0", "/dev/tpm0")

# SMBIOS specification 3.x, table 17, "System Enclosure or Chassis Types".
_DESKTOP: Final = frozenset({3, 4, 5, 6, 7, 13, 15, 16, 24, 34, 35, 36})
_LAPTOP: Final = frozenset({8, 9, 10, 11, 12, 14, 30, 31, 32})
_SERVER: Final = frozenset({17, 23, 25, 28, 29})
_PLACEHOLDERS: Final = frozenset(
    {
        "",
        "to be filled by o.e.m.",
        "system manufacturer",
        "system product name",
        "default string",
        "unknown",
        "none",
    }
)


def read_machine(tree: Tree, *, hypervisor: bool | None) -> Machine:
    """The PC as DMI names it. A PC under a hypervisor is virtual, whatever enclosure its firmware claims."""
    return Machine(
        vendor=_stated(tree.attribute(f"{DMI}/sys_vendor")),
        product=_stated(tree.attribute(f"{DMI}/product_name")),
        chassis="virtual" if hypervisor else _chassis(tree.number(f"{DMI}/chassis_type")),
    )


def read_kernel(tree: Tree, cmdline: tuple[str, ...] | None) -> Kernel:
    """The running kernel's release, as uname gives it, and its command line as it is."""
    return Kernel(release=tree.attribute(RELEASE) or None, cmdline=cmdline)


def read_tpm(tree: Tree) -> bool | None:
    """Whether there is a TPM device: with the kernel's resource manager (2.0) or without."""
    if not tree.exists("/dev"):
        return None
    found = [tree.exists(device) for device in TPMS]
    return True if True in found else None if None in found else False


def read_hostname(tree: Tree) -> str | None:
    """The name the PC goes by on its network."""
    return tree.attribute(HOSTNAME) or None


def _stated(text: str | None) -> str | None:
    return None if text is None or text.lower() in _PLACEHOLDERS else text


def _chassis(number: int | None) -> str | None:
    if number is None:
        return None
    named = {"desktop": _DESKTOP, "laptop": _LAPTOP, "server": _SERVER}
    return next((name for name, numbers in named.items() if number in numbers), None)
