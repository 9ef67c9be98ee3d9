"""What handing over a graphics card hangs on beyond what any PCI function does: its memory, its ROM, its firmware."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clienthv.model.host import PciFunction
from clienthv.model.plan import Decision, Kind, Reason, Strategy, Warned
from clienthv.strategies import in_use, screens
from clienthv.strategies.frame import Objections, Option, Question, reject

_INTEL: Final = "8086"
_IGD_SLOT: Final = (0, 0, 2, 0)
_OVMF_WINDOW_MIB: Final = 32 * 1024


def is_intel_processors(function: PciFunction) -> bool:
    """Whether this is the graphics of an Intel processor: always at 00:02.0 (QEMU, docs/igd-assign.txt)."""
    p = function.place
    return (
        function.vendor_id == _INTEL
        and screens.is_gpu(function)
        and function.physfn is None
        and (p.domain, p.bus, p.device, p.function) == _IGD_SLOT
    )


def objections(option: Option, question: Question) -> Objections:
    """An Intel processor's graphics are no card: on q35 with UEFI nothing sets up what their drivers look for.

    The guest's firmware has no OpRegion and no ROM for them, and the guest often no picture (QEMU, docs/
    igd-assign.txt). So they are taken when the profile names them, or when the VM has had them.
    """
    had = question.kept.decisions.get(Kind.GPU)
    gpu = question.host.by_address.get(option.device or "")
    if gpu is None or option.strategy is not Strategy.PASSTHROUGH or not is_intel_processors(gpu):
        return
    if gpu.address in question.profile.device(Kind.GPU).select or (had is not None and had.device == gpu.address):
        return
    yield reject(
        option,
        Reason.IS_PROCESSOR_GRAPHICS,
        f"{gpu.address} is the graphics of an Intel processor, which needs an OpRegion and a ROM that a guest on q35 "
        "with UEFI does not get by itself (QEMU, docs/igd-assign.txt)",
        f'if you mean it: select = ["{gpu.address}"] in the profile, and a ROM for it',
    )


def warnings(decision: Decision, question: Question) -> Iterator[Warned]:
    """What a user should know of the GPUs among the functions that move."""
    functions = [f for a in decision.functions if (f := question.host.by_address.get(a)) is not None]
    who = decision.name
    yield from in_use.unknown(functions, who)
    yield from _large(functions, who)
    for function in functions:
        if not screens.is_gpu(function):
            continue
        if is_intel_processors(function):
            yield Warned(
                code="igpu-passthrough",
                detail=f"{who}: {function.address} is an Intel processor's graphics: without a ROM with its GOP driver "
                "the guest has no picture on it before its own driver runs, and Windows often none at all "
                "(QEMU, docs/igd-assign.txt)",
            )
        elif function.physfn is None and (boot := question.boot_displays.get(function.address)) and boot.drives:
            yield Warned(
                code="boot-rom",
                detail=f"{who}: the firmware has run the ROM of {function.address}, and the kernel shows the changed "
                "copy; if the guest has no picture, give it a ROM file: <rom file='...'/> in a template",
            )
        if function.known.framebuffer:
            yield Warned(
                code="boot-framebuffer",
                detail=f"{who}: {function.known.framebuffer} holds memory of {function.address} for the boot's screen "
                "(/proc/iomem), which VFIO then cannot map: boot with initcall_blacklist=sysfb_init, or "
                "video=efifb:off on older kernels",
            )


def _large(functions: list[PciFunction], who: str) -> Iterator[Warned]:
    """BARs that OVMF may have no room for: its window was 32 GiB, and since 2022 an eighth of the guest's addresses.

    Source: edk2, OvmfPkg/Library/PlatformInitLib/MemDetect.c (PlatformDynamicMmioWindow, PlatformGetFirstNonAddress).
    """
    size = sum(f.known.mmio64_mib or 0 for f in functions)
    if size > _OVMF_WINDOW_MIB:
        yield Warned(
            code="large-bars",
            detail=f"{who}: BARs of {-(-size // 1024)} GiB; UEFI firmware from before 2023 has 32 GiB of addresses for "
            "them, and leaves out what does not fit: a newer OVMF, opt/ovmf/X-PciMmio64Mb, or no Resizable BAR helps",
        )
