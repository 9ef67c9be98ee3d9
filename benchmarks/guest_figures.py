"""Tables and pictures of what guests get: medians of the passes, and ratios of what was measured in the same pass."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import drawing

Figure = Mapping[str, float | str]
NIC = {"emulated": "emulated", "paravirtual": "paravirtual", "vf": "VF", "nic": "pass-through"}
DISK = {"emulated": "emulated", "paravirtual": "paravirtual", "vf": "VF", "nvme": "pass-through"}
PEERS = {"paravirtual": "clienthv", "virt-install": "virt-install", "quickemu": "quickemu"}
NETWORK = ("stream", "receive", "round_trips")
STORAGE = ("read_4k", "write_4k", "read_256k", "write_256k")
MEASURES = {
    "stream": ("sent", "MB"),
    "receive": ("received", "MB"),
    "round_trips": ("round trips", "trip"),
    "read_4k": ("reads of 4 KiB", "read"),
    "write_4k": ("writes of 4 KiB", "write"),
    "read_256k": ("reads of 256 KiB", "MB"),
    "write_256k": ("writes of 256 KiB", "MB"),
    "warm_4k": ("reads of 4 KiB that the host has in memory", "read"),
}
"""Each measurement: what it is called, and the unit of work."""


class Spread(NamedTuple):
    """The median of the passes, the least and the most."""

    median: float
    least: float
    most: float


def work(figure: Figure) -> float:
    """Units of work that were done: MB, or operations."""
    what, rate = figure["what"], float(figure["rate"])
    if what in ("stream", "receive"):
        return rate / 8 * float(figure["asked"])
    if what == "round_trips":
        return rate * float(figure["asked"])
    return float(figure["count"]) * (0.262144 if str(what).endswith("256k") else 1)


def speed(figure: Figure) -> float:
    """Units of work a second."""
    what, rate = str(figure["what"]), float(figure["rate"])
    return rate / 8 if what in ("stream", "receive") else rate * 0.262144 if what.endswith("256k") else rate


def median_latency(figure: Figure) -> float:
    """Microseconds that half of the operations took at most."""
    return float(figure["median"])


def late(figure: Figure) -> float:
    """Microseconds that 99 of 100 operations took at most."""
    return float(figure["p99"])


def processor(figure: Figure) -> float:
    """Milliseconds of the host's processor for a unit of work, the guest's own included."""
    return float(figure["busy"]) * 1000 / work(figure)


def traps(figure: Figure) -> float:
    """How often, for a unit of work, the guest's access to a register of a device came back to the host."""
    return float(figure["traps"]) / work(figure)


def exits(figure: Figure) -> float:
    """How often the guest's processor came back to the host for a unit of work, whatever for, its clock too."""
    return float(figure["exits"]) / work(figure)


class Figures:
    """All that was measured."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._by_key = {(str(f["vm"]), str(f["what"]), int(f["pass"])): f for f in figures}
        self.passes = sorted({number for _, _, number in self._by_key})

    def of(self, vm: str, what: str, value: Callable[[Figure], float]) -> Spread:
        """A value over the passes."""
        return _spread([value(f) for n in self.passes if (f := self._by_key.get((vm, what, n)))])

    def against(self, vm: str, other: str, what: str, value: Callable[[Figure], float]) -> Spread:
        """A value as a multiple of another VM's of the same pass."""
        pairs = [(self._by_key.get((vm, what, n)), self._by_key.get((other, what, n))) for n in self.passes]
        return _spread([value(a) / value(b) for a, b in pairs if a and b])

    def has(self, vm: str, what: str) -> bool:
        """Whether this was measured."""
        return any((vm, what, n) in self._by_key for n in self.passes)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _many(unit: str) -> str:
    return unit if unit == "MB" else f"{unit}s"


def _ratio(spread: Spread) -> str:
    return f"{spread.median:.2f} × ({spread.least:.2f}–{spread.most:.2f})"


def ladder(figures: Figures, rungs: Mapping[str, str], measures: Sequence[str]) -> str:
    """A table for each measurement's rungs: speed against the emulated rung, latency, processor and exits a unit."""
    lines = [
        "| what | rung | a second | against emulated | median | 99 % | host CPU | traps | exits |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for what in measures:
        name, unit = MEASURES[what]
        for vm, rung in rungs.items():
            if not figures.has(vm, what):
                continue
            timed = what not in ("stream", "receive")
            half, most = (
                (f"{_number(figures.of(vm, what, value).median)} µs" for value in (median_latency, late))
                if timed
                else ("", "")
            )
            ratio = "1" if vm == "emulated" else _ratio(figures.against(vm, "emulated", what, speed))
            lines.append(
                f"| {name} | {rung} | {_number(figures.of(vm, what, speed).median)} {unit} | "
                f"{ratio} | {half} | {most} | "
                f"{_number(figures.of(vm, what, processor).median)} ms/{unit} | "
                f"{_number(figures.of(vm, what, traps).median)}/{unit} | "
                f"{_number(figures.of(vm, what, exits).median)}/{unit} |"
            )
    return "\n".join(lines)


def peers(figures: Figures, measures: Sequence[str]) -> str:
    """A table of the VM by default against the peers': more is better for speed, less for all else."""
    lines = ["| what | of clienthv | virt-install | quickemu |", "|---|---|---|---|"]
    for what in measures:
        name, unit = MEASURES[what]
        values: list[tuple[str, Callable[[Figure], float]]] = [(f"{name}: {_many(unit)} a second", speed)]
        if what not in ("stream", "receive"):
            values += [(f"{name}: median, µs", median_latency), (f"{name}: 99 %, µs", late)]
        values += [(f"{name}: host CPU, ms/{unit}", processor), (f"{name}: exits/{unit}", exits)]
        for words, value in values:
            cells = [
                _ratio(figures.against("paravirtual", peer, what, value)) if figures.has(peer, what) else ""
                for peer in ("virt-install", "quickemu")
            ]
            lines.append(
                f"| {words} | {_number(figures.of('paravirtual', what, value).median)} | {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def draw(figures: Figures) -> None:
    """The pictures of docs/benchmarks-guest.md."""
    for name, rungs, measures in (("bench-guest-nic", NIC, NETWORK), ("bench-guest-disk", DISK, STORAGE)):
        drawing.bars(name, [_bars(figures, rungs, what, speed, "a second") for what in measures])
        drawing.bars(f"{name}-traps", [_bars(figures, rungs, what, traps, "traps for each") for what in measures])
    parts = [_bars(figures, PEERS, what, speed, "a second") for what in (*NETWORK, *STORAGE)]
    drawing.bars("bench-guest-peers", parts)


def _bars(
    figures: Figures, rungs: Mapping[str, str], what: str, value: Callable[[Figure], float], how: str
) -> tuple[str, list[drawing.Bar]]:
    name, unit = MEASURES[what]
    there = [vm for vm in rungs if figures.has(vm, what)]
    spreads = {vm: figures.of(vm, what, value) for vm in there}
    title = f"{name}: {_many(unit)} {how}" if how == "a second" else f"{name}: {how} {unit}"
    return title, [drawing.Bar(rungs[vm], s.median, s.least, s.most, _number(s.median)) for vm, s in spreads.items()]
