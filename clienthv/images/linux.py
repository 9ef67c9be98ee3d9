"""What an installed Linux can start from: drivers built into every kernel, or in the initial RAM disk of each."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from clienthv.images import initramfs
from clienthv.images.seen import Kernel, Seen
from clienthv.model.contents import Answer, BootDriver, DriverName

_NEEDS: Final[dict[DriverName, frozenset[str]]] = {
    "virtio-blk": frozenset({"virtio_pci", "virtio_blk"}),
    "virtio-scsi": frozenset({"virtio_pci", "virtio_scsi", "sd_mod"}),
    "ahci": frozenset({"ahci", "sd_mod"}),
    "ide": frozenset({"ata_piix", "sd_mod"}),
    "nvme": frozenset({"nvme"}),
}
_NETWORK: Final = {
    "virtio-net": ("virtio_net",),
    "e1000": ("e1000",),
    "e1000e": ("e1000e",),
    "igb": ("igb",),
    "rtl8139": ("8139cp", "8139too"),
}
_VENDORS: Final = {"nvidia": "nvidia", "amdgpu": "amd", "i915": "intel"}


class Early(NamedTuple):
    """What one kernel has before it sees a disk; ``modules`` is None where nobody could tell, and ``why`` says why."""

    kernel: str
    modules: frozenset[str] | None
    why: str


def early(kernel: Kernel, folder: Path) -> Early:
    """The drivers of a kernel and of its initial RAM disk, a copy of which is in ``folder``."""
    name = kernel.version or kernel.path
    if kernel.built_in is None:
        return Early(name, None, f"the modules of kernel {name} are not there")
    built_in = frozenset(_module(path) for path in kernel.built_in)
    if kernel.initrd is None:
        return Early(name, built_in, "it has no initial RAM disk")
    if kernel.copy is None:
        return Early(name, None, f"{kernel.initrd} could not be read")
    try:
        with (folder / kernel.copy).open("rb") as file:
            return Early(name, built_in | initramfs.modules(file), kernel.initrd)
    except (initramfs.UnreadableError, OSError) as e:
        return Early(name, None, f"{kernel.initrd}: {e}")


def boot_drivers(kernels: tuple[Early, ...]) -> tuple[BootDriver, ...]:
    """For each kind of disk, whether every installed kernel finds it."""
    return tuple(_boot_driver(driver, needs, kernels) for driver, needs in _NEEDS.items()) if kernels else ()


def _boot_driver(driver: DriverName, needs: frozenset[str], kernels: tuple[Early, ...]) -> BootDriver:
    without = [k for k in kernels if k.modules is not None and not needs <= k.modules]
    unknown = [k for k in kernels if k.modules is None]
    if without:
        which = "; ".join(
            f"kernel {k.kernel} lacks {', '.join(sorted(needs - (k.modules or frozenset())))} ({k.why})"
            for k in without
        )
        return BootDriver(driver=driver, bootable=False, evidence=which)
    if unknown:
        return BootDriver(driver=driver, bootable=None, evidence="; ".join(k.why for k in unknown))
    names = ", ".join(k.kernel for k in kernels)
    have = f"{', '.join(sorted(needs))} in the kernel or its initial RAM disk: {names}"
    return BootDriver(driver=driver, bootable=True, evidence=have)


def network_drivers(kernels: tuple[Kernel, ...]) -> tuple[str, ...] | None:
    """The network cards that every installed kernel has a driver for; None where nobody could tell."""
    if not kernels or any(k.modules is None or k.built_in is None for k in kernels):
        return None
    sets = [{_module(p) for p in (*(k.modules or ()), *(k.built_in or ()))} for k in kernels]
    return tuple(name for name, any_of in _NETWORK.items() if all(set(any_of) & have for have in sets))


def gpu_drivers(seen: Seen) -> tuple[str, ...] | None:
    """Vendors whose own GPU driver was installed: amdgpu and i915 come with every kernel, and do not count there.

    None where none was found, and the modules of a kernel could not be read.
    """
    own = [p for k in seen.kernels for p in k.modules or () if not p.startswith("kernel/drivers/")]
    found = {v for p in own for word, v in _VENDORS.items() if _module(p).startswith(word)}
    if any("nvidia" in p for p in seen.present):
        found.add("nvidia")
    told = seen.kernels and all(k.modules is not None for k in seen.kernels)
    return tuple(sorted(found)) if found or told else None


def has(seen: Seen, *paths: str) -> Answer:
    """Whether one of these files is there."""
    return any(p in seen.present for p in paths)


def _module(path: str) -> str:
    """A module's name from the path of its file, with underscores."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
