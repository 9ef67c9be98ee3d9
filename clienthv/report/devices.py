"""Which devices a guest can get, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clienthv.model.devices import Device, Devices, Reset, Verdict
from clienthv.report import plans
from clienthv.report.style import Line, Part, Role, marked, table

_NAME_WIDTH: Final = 60


def lines(devices: Devices) -> Iterator[str]:
    """A line for each device, with what speaks against it below; then what the verdicts hang on."""
    free = sum(d.verdict is not Verdict.NO for d in devices.devices)
    first = f"PCI devices of {devices.host} that a guest can get as they are now:"
    yield Line(Part(first, Role.HEADING), f" {free} of {len(devices.devices)}")
    yield ""
    for device, row in zip(devices.devices, table(map(_row, devices.devices)), strict=True):
        yield row
        for objection in device.objections:
            yield marked(f"      {objection.detail} [{objection.reason}]", hang=10)
            if objection.fix:
                yield Line(" " * 10, Part("to change that:", Role.GOOD), " ", marked(objection.fix), hang=14)
    if devices.warnings:
        yield ""
    for warned in devices.warnings:
        yield plans.warning(warned)


def _row(device: Device) -> tuple[str, ...]:
    group = "-" if device.iommu_group is None else str(device.iommu_group)
    reset = f"{device.reset:<{max(map(len, Reset))}}"
    return device.address, f"group {group:>3}", _cut(device.name), reset, _verdict(device)


def _cut(name: str) -> str:
    """A name that leaves room for the verdict; the devices document holds all of it."""
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def _verdict(device: Device) -> Line:
    match device.verdict:
        case Verdict.YES:
            return Line(Part("yes", Role.GOOD))
        case Verdict.YES_WITH:
            return Line(Part("yes, with", Role.WORSE), " ", marked(", ".join(device.along)))
        case Verdict.NO:
            return Line(Part("no", Role.BAD))
