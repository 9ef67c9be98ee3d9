"""Whether a function that a guest has had can be started again, or works once until the PC is restarted.

VFIO resets a function when a guest takes it and when it gives it back, by the methods that the kernel lists (kernel,
Documentation/ABI/testing/sysfs-bus-pci, reset_method; drivers/pci/pci.c, pci_reset_fn_methods). A bus reset takes all
functions behind the bridge along, and VFIO does it only where all of them are the guest's (drivers/vfio/pci/
vfio_pci_core.c, vfio_pci_ioctl_pci_hot_reset).
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final, NamedTuple

from clienthv.model.devices import Reset
from clienthv.model.host import Host, PciFunction
from clienthv.model.plan import Warned
from clienthv.model.values import PciAddress

_DISPLAY: Final = "03"
_ATI: Final = "1002"
# Resets of the function alone: the PCI Express and the conventional PCI Function Level Reset, and what firmware or a
# driver of the kernel's for that device does.
_OF_ITS_OWN: Final = ("flr", "af_flr", "device_specific", "acpi", "cxl_bus")


class Judgement(NamedTuple):
    """The class of a function, and what shows it."""

    reset: Reset
    evidence: str


class _Quirk(NamedTuple):
    family: str
    ids: str
    all_boards: bool = True


_QUIRKS: Final = (
    _Quirk(
        "AMD Polaris",
        "67c0 67c1 67c2 67c4 67c7 67c8 67c9 67ca 67cc 67cf 67d0 67df 6fdf 67e0 67e1 67e3 67e7 67e8 67e9 67eb 67ef 67ff "
        "6980 6981 6985 6986 6987 6995 6997 699f",
    ),
    _Quirk(
        "AMD Vega",
        "6860 6861 6862 6863 6864 6867 6868 6869 686a 686b 686c 686d 686e 686f 687f 66a0 66a1 66a2 66a3 66a4 66a7 66af "
        "738c",
    ),
    _Quirk("AMD Navi 1x", "7310 7312 7318 7319 731a 731b 731e 731f 7340 7341 7347 734f 7360 7362"),
    _Quirk("AMD processor graphics", "15bf 15dd 15de 15e7 1636 1638 164c"),
    _Quirk("AMD Navi 23", "73ff", all_boards=False),
)
"""Graphics that a reset leaves dead: the devices of vendor-reset (github.com/gnif/vendor-reset, README.md, "Supported
Devices", and src/device-db.h). Its module makes the method ``device_specific`` for them. Of Navi 23 many boards reset
well by themselves (same place, issues)."""


def judged(function: PciFunction, moving: Container[str], host: Host) -> Judgement:
    """The reset class of a function that moves with ``moving``. What is unknown does not make it restartable."""
    methods = function.reset_methods
    if function.physfn is not None:
        return Judgement(Reset.RESTARTABLE, "a virtual function has FLR (PCIe Base Specification, SR-IOV)")
    if (quirk := _quirk(function)) is not None:
        return _of_quirk(quirk, function)
    own = next((m for m in methods or () if m in _OF_ITS_OWN), None)
    if own is not None:
        return Judgement(Reset.RESTARTABLE, f"reset_method: {' '.join(methods or ())}")
    return _by_bus(function, moving, host)


def warnings(functions: tuple[str, ...], host: Host, who: str) -> Iterator[Warned]:
    """What functions that move together hang on when the guest is started again; ``who`` names the device.

    One that does not exist yet is a virtual function.
    """
    there = [host.by_address[a] for a in functions if a in host.by_address]
    found = [(f, judged(f, functions, host)) for f in there]
    once = [f"{f.address} ({j.evidence})" for f, j in found if j.reset is Reset.ONCE_PER_BOOT]
    unknown = [f"{f.address} ({j.evidence})" for f, j in found if j.reset is Reset.UNKNOWN]
    if once:
        yield Warned(
            code="reset-once-per-boot",
            detail=f"{who}: works for one start of the VM, and then often not until the PC is restarted: "
            f"{', '.join(once)}",
        )
    elif unknown:
        yield Warned(
            code="reset-unknown",
            detail=f"{who}: whether it works again after the VM has stopped is not known: {', '.join(unknown)}",
        )


def _quirk(function: PciFunction) -> _Quirk | None:
    if function.vendor_id != _ATI or not function.base_class.startswith(_DISPLAY):
        return None
    return next((q for q in _QUIRKS if function.device_id in q.ids.split()), None)


def _of_quirk(quirk: _Quirk, function: PciFunction) -> Judgement:
    """A method ``device_specific`` of these is the module vendor-reset's: the kernel itself has none for them."""
    if "device_specific" in (function.reset_methods or ()):
        return Judgement(Reset.RESTARTABLE, f"{quirk.family}, with vendor-reset (reset_method has device_specific)")
    lacks = (
        "no device_specific in reset_method: load vendor-reset before the VM's first start"
        if function.reset_methods is not None
        else "whether vendor-reset is loaded is not recorded"
    )
    if not quirk.all_boards:
        return Judgement(Reset.UNKNOWN, f"some boards with {quirk.family} do not reset; {lacks}")
    return Judgement(Reset.ONCE_PER_BOOT, f"{quirk.family} does not reset; {lacks}")


def _by_bus(function: PciFunction, moving: Container[str], host: Host) -> Judgement:
    """A function without a reset of its own: all behind its bridge together, or by its power state.

    Leaving D3hot resets what has no "No_Soft_Reset" bit (PCI Power Management Specification); graphics keep their state
    all the same (kernel, drivers/pci/quirks.c, quirk_no_pm_reset).
    """
    beside = _behind_its_bridge(function, host)
    methods = function.reset_methods
    listed = any("bus" in (f.reset_methods or ()) for f in (function, *beside))
    staying = [f.address for f in beside if f.address not in moving and not f.is_bridge]
    if listed and not staying:
        return Judgement(Reset.RESTARTABLE, "reset_method: bus, and all behind the bridge move")
    if methods is not None and "pm" in methods and not function.base_class.startswith(_DISPLAY):
        return Judgement(Reset.RESTARTABLE, f"reset_method: {' '.join(methods)}")
    if listed:
        more = f" and {len(staying) - 3} more" if len(staying) > 3 else ""
        return Judgement(Reset.UNKNOWN, f"only by its bus, which {', '.join(staying[:3])}{more} shares and stays on")
    if methods is None:
        return Judgement(Reset.UNKNOWN, "reset_method is not recorded")
    return Judgement(Reset.UNKNOWN, f"reset_method: {' '.join(methods)}" if methods else "the kernel lists no reset")


def _behind_its_bridge(function: PciFunction, host: Host) -> tuple[PciFunction, ...]:
    """The other functions that a reset of this one's bus reaches; where bridges are unknown, those of its bus."""
    path = function.bridge_path
    if path is None:
        place = function.place
        near = (f for f in host.pci if (f.place.domain, f.place.bus) == (place.domain, place.bus))
        return tuple(f for f in near if f is not function)
    if not path:
        return ()
    bridge = path[-1]
    same_domain = PciAddress.parse(bridge).domain == function.place.domain
    return tuple(f for f in host.pci if same_domain and f is not function and bridge in (f.bridge_path or ()))
