r"""What an installed Windows can start from: services whose Start is 0, with their files.

Microsoft, "CM_SERVICE_LOAD_TYPES" and "HKLM\SYSTEM\CurrentControlSet\Services Registry Tree": 0 is
SERVICE_BOOT_START. Since Windows 8 a key StartOverride counts before it.
"""

from __future__ import annotations

from typing import Final

from clienthv.images.seen import Service, Windows
from clienthv.model.contents import Answer, BootDriver, DriverName

_BOOT_START: Final = 0
_DISABLED: Final = 4
_STORAGE: Final[dict[DriverName, tuple[str, ...]]] = {
    "virtio-blk": ("viostor",),
    "virtio-scsi": ("vioscsi",),
    "ahci": ("storahci", "msahci"),
    "ide": ("intelide",),
    "nvme": ("stornvme",),
}
_NETWORK: Final = {
    "virtio-net": ("netkvm",),
    "e1000": ("e1g60",),
    "e1000e": ("e1iexpress", "e1i65x64"),
    "rtl8139": ("rtl8139", "rtl8023xp"),
}
_GPUS: Final = {
    "amd": ("amdkmdag", "amdkmdap", "amdwddmg"),
    "intel": ("igfx", "igfxn", "igfxnd"),
    "nvidia": ("nvlddmkm",),
}


def boot_drivers(windows: Windows) -> tuple[BootDriver, ...]:
    """For each kind of disk, whether Windows loads its driver before it looks for its disk."""
    return tuple(_boot_driver(driver, names, windows) for driver, names in _STORAGE.items())


def _boot_driver(driver: DriverName, names: tuple[str, ...], windows: Windows) -> BootDriver:
    told = [_one(name, windows.services.get(name)) for name in names]
    answers = [answer for answer, _ in told]
    bootable: Answer = True if True in answers else None if None in answers else False
    where = f"ControlSet{windows.current or 1:03d}"
    return BootDriver(driver=driver, bootable=bootable, evidence=f"{where}: " + "; ".join(why for _, why in told))


def _one(name: str, service: Service | None) -> tuple[Answer, str]:
    if service is None:
        return False, f"there is no service {name}"
    start = service.start if service.override is None else service.override
    if start is None:
        return None, f"{name} does not say when it starts"
    if start != _BOOT_START:
        key = "Start" if service.override is None else "StartOverride"
        return False, f"{name} does not start at boot ({key} is {start})"
    if not service.present:
        return False, f"{name} starts at boot, but {service.file} is not there"
    return True, f"{name} starts at boot, and {service.file} is there"


def network_drivers(windows: Windows) -> tuple[str, ...]:
    """The network cards that a service is there for."""
    return tuple(driver for driver, names in _NETWORK.items() if any(_installed(windows, n) for n in names))


def gpu_drivers(windows: Windows) -> tuple[str, ...]:
    """The vendors whose GPU driver is installed."""
    return tuple(vendor for vendor, names in _GPUS.items() if any(_installed(windows, n) for n in names))


def runs(windows: Windows, service: str) -> bool:
    """Whether a service is there and not disabled."""
    found = windows.services.get(service)
    return found is not None and found.start != _DISABLED


def _installed(windows: Windows, name: str) -> bool:
    found = windows.services.get(name)
    return found is not None and found.present and found.start != _DISABLED
