"""Sharing a GPU as mediated devices (Intel GVT-g, NVIDIA vGPU): what can be made of it, and what speaks against it.

The host keeps its GPU, and each guest has an instance of a type. No IOMMU is needed: the host's driver translates the
guest's addresses itself (kernel, Documentation/driver-api/vfio-mediated-device.rst).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from clienthv.model.change import What
from clienthv.model.host import PciFunction
from clienthv.model.particulars import MdevType
from clienthv.model.plan import Decision, HostChange, Kind, Reason, Rejected, Strategy
from clienthv.strategies import pci, screens
from clienthv.strategies.frame import Objections, Option, Options, Question, reject

_API: Final = "vfio-pci"
_NONE: Final = "none"
# NVIDIA: "num_heads=4, frl_config=60, framebuffer=4096M, ..."; GVT-g: "low_gm_size: 128MB, high_gm_size: 512MB, ...".
_MEMORY: Final = re.compile(r"(?:framebuffer|high_gm_size)[=:] ?([0-9]{1,7}) ?M")


def options(question: Question) -> Options:
    """One for each type of each GPU, the largest first; the type that the profile names, alone, where it names one."""
    wanted = question.profile.device(Kind.GPU).mdev_type
    found = [(gpu, t) for gpu in screens.gpus_of(question.host) for t in gpu.known.mdev_types or ()]
    fitting = [(gpu, t) for gpu, t in found if wanted in (None, t.id)]
    for gpu, kind in sorted(fitting, key=_size, reverse=True):
        what = f"{kind.name} ({kind.id})" if kind.name and kind.name != kind.id else kind.id
        yield Option(
            strategy=Strategy.MDEV,
            device=gpu.address,
            model=kind.id,
            backing=gpu.label,
            why=f"{what}, a share of the host's GPU, which stays with the host",
        )
    if not fitting:
        yield Option(strategy=Strategy.MDEV, model=_NONE, backing="a share of a GPU", why="a share of the host's GPU")


def _size(of: tuple[PciFunction, MdevType]) -> tuple[int, int, str, str]:
    """How much of a GPU a type is: by its memory, else by how few there can be; the rest only makes the order one."""
    gpu, kind = of
    memory = _MEMORY.search(kind.description or "")
    return int(memory[1]) if memory else 0, -(kind.available or 0), gpu.address, kind.id


def objections(option: Option, question: Question) -> Objections:
    """A type there must be, with an instance left for this VM, or made for it before."""
    if option.device is None:
        yield _without_type(option, question)
        return
    if not pci.is_selected(option, question, Kind.GPU):
        yield pci.not_selected(option, question, Kind.GPU)
        return
    yield from pci.against_stranger(option, question)
    yield from pci.against_stack(option, question)
    gpu = question.host.by_address[option.device]
    kind = next(t for t in gpu.known.mdev_types or () if t.id == option.model)
    if kind.api is not None and kind.api != _API:
        yield reject(
            option, Reason.NOT_IN_QEMU, f"{kind.id} is a device for {kind.api}, and a PC's guest has {_API} alone"
        )
    if option.device in question.refused:
        yield reject(option, Reason.MDEV_USED_UP, question.refused[option.device], "dmesg says why the kernel refused")
        return
    if any(m.uuid == question.kept.mdev and m.type == kind.id for m in gpu.known.mdevs or ()):
        return  # made for this VM at an earlier start
    if kind.available is None:
        yield reject(
            option,
            Reason.MDEV_UNKNOWN,
            f"the host document does not say how many more {kind.id} there can be on {gpu.address}",
            "run clienthv inspect --save on that PC",
        )
    elif kind.available == 0:
        there = ", ".join(m.type for m in gpu.known.mdevs or ())
        yield reject(
            option,
            Reason.MDEV_USED_UP,
            f"{gpu.address} has no {kind.id} left (available_instances is 0"
            + (f"; there are {there})" if there else ")"),
            "stop a VM that has one, or name a smaller type: mdev_type in [devices.gpu]",
        )
    elif kind.writable is False:
        yield reject(
            option,
            Reason.NO_PRIVILEGE,
            f"this user may not make a mediated device on {gpu.address} (mdev_supported_types/{kind.id}/create)",
            "run clienthv as root",
        )


def _without_type(option: Option, question: Question) -> Rejected:
    gpus = screens.gpus_of(question.host)
    offered = sorted({t.id for gpu in gpus for t in gpu.known.mdev_types or ()})
    if not offered and any(gpu.known.mdev_types is None for gpu in gpus):
        return reject(
            option,
            Reason.MDEV_UNKNOWN,
            "the host document does not say whether a GPU can be shared as mediated devices",
            "run clienthv inspect --save on that PC",
        )
    wanted = question.profile.device(Kind.GPU).mdev_type
    return reject(
        option,
        Reason.NO_MDEV_TYPE,
        f"no GPU offers the type {wanted}, but: {', '.join(offered)}"
        if offered
        else "no GPU of the host can be shared as mediated devices (none has mdev_supported_types)",
        f'mdev_type = "{offered[0]}" in [devices.gpu]'
        if offered
        else "i915.enable_gvt=1 on Intel's 5th to 10th generation, or NVIDIA's vGPU driver on cards that it knows",
    )


def changes(decision: Decision) -> Iterator[HostChange]:
    """The mediated device that ``up`` makes; its UUID follows from the VM's name."""
    if decision.strategy is Strategy.MDEV and decision.device is not None:
        yield HostChange(
            action=What.CREATE_MDEV,
            device=decision.device,
            detail=f"make a mediated device of the type {decision.model} on {decision.device}",
            undo="clienthv down removes it",
            value=decision.model,
        )
