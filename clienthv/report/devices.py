"""Which devices a guest can get, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clienthv.model.devices import Device, Devices, Verdict

_NAME_WIDTH: Final = 60


def lines(devices: Devices) -> Iterator[str]:
    """A line for each device, with what speaks against it below; then what the verdicts hang on."""
    free = sum(d.verdict is not Verdict.NO for d in devices.devices)
    yield f"PCI devices of {devices.host} that a guest can get as they are now: {free} of {len(devices.devices)}"
    yield ""
    width = min(max((len(d.name) for d in devices.devices), default=0), _NAME_WIDTH)
    for device in devices.devices:
        group = "-" if device.iommu_group is None else str(device.iommu_group)
        name = f"{_cut(device.name):<{width}}"
        yield f"  {device.address}  group {group:>3}  {name}  {device.reset:<13}  {_verdict(device)}"
        for objection in device.objections:
            yield f"      {objection.detail} [{objection.reason}]"
            if objection.fix:
                yield f"          to change that: {objection.fix}"
    if devices.warnings:
        yield ""
    for warned in devices.warnings:
        yield f"  warning: {warned.detail} [{warned.code}]"


def _cut(name: str) -> str:
    """A name that leaves room for the verdict; the devices document holds all of it."""
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def _verdict(device: Device) -> str:
    match device.verdict:
        case Verdict.YES:
            return "yes"
        case Verdict.YES_WITH:
            return f"yes, with {', '.join(device.along)}"
        case Verdict.NO:
            return "no"
