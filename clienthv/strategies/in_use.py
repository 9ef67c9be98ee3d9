"""What speaks against taking a graphics or sound device away from the programs that have it open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from clienthv.model.host import HELD_FOR_GUESTS, PciFunction
from clienthv.model.plan import Reason, Warned
from clienthv.strategies.frame import Objections, Option, reject

_DISPLAY: Final = "03"


def objections(option: Option, function: PciFunction) -> Objections:
    """Unbinding a driver waits until nobody has its device open, or takes the session down with it.

    Source: kernel, sound/core/init.c (snd_card_free waits for the last file), drivers/gpu/drm/drm_drv.c
    (drm_dev_unplug); NVIDIA's nv_pci_remove waits for ever (NVIDIA/open-gpu-kernel-modules, issue 1374).
    """
    if not function.known.holders or function.driver in HELD_FOR_GUESTS:
        return
    names = ", ".join(function.known.holders[:5]) + (" and others" if len(function.known.holders) > 5 else "")
    waits = ", which waits for them and may hang" if function.driver == "nvidia" else ""
    yield reject(
        option,
        Reason.IN_USE,
        f"{function.address} is open in {names}: they would lose it, and the driver {function.driver or '?'} is to be "
        f"unbound under them{waits}",
        _fix(function),
    )


def _fix(function: PciFunction) -> str:
    if not function.base_class.startswith(_DISPLAY):
        return "end what plays or records sound on it"
    if "nvidia-persiste" in (function.known.holders or ()):
        return "sudo systemctl stop nvidia-persistenced, and end the other programs"
    return (
        "let the desktop leave this card (end those programs, or stop the display manager: sudo systemctl stop "
        f"display-manager), or hold it for guests from boot on: vfio-pci.ids={function.vendor_id}:{function.device_id}"
    )


def unknown(functions: Iterable[PciFunction], who: str) -> Iterator[Warned]:
    """GPUs that a driver of the host's has, and nobody could look at who has them open."""
    lost = [
        f.address
        for f in functions
        if f.base_class.startswith(_DISPLAY) and f.known.holders is None and f.driver not in {"", *HELD_FOR_GUESTS}
    ]
    if lost:
        yield Warned(
            code="holders-unknown",
            detail=f"{who}: hangs on no program having {', '.join(lost)} open, which is not recorded: unbinding its "
            "driver under one may hang (root sees them: sudo clienthv inspect)",
        )
