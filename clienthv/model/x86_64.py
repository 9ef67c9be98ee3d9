"""The levels of x86-64: what programs may expect of every processor from a generation on.

Source: System V Application Binary Interface, AMD64 Architecture Processor Supplement, "Micro-Architecture Levels".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

Level = Literal["x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

_ADDED: Final[tuple[tuple[str, ...], ...]] = (
    ("cmov", "cx8", "fpu", "fxsr", "lm", "mmx", "sse", "sse2", "syscall"),
    ("cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"),
    ("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"),
    ("avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"),
)
"""What each level adds, by the names of /proc/cpuinfo (kernel, arch/x86/include/asm/cpufeatures.h)."""

_LIBVIRT: Final = {"sse4_1": "sse4.1", "sse4_2": "sse4.2"}


def flags_of(level: Level) -> tuple[str, ...]:
    """All flags that a level asks for, by the names of /proc/cpuinfo."""
    return tuple(flag for added in _ADDED[: LEVELS.index(level) + 1] for flag in added)


def features_of(level: Level) -> tuple[str, ...]:
    """All of them by libvirt's names (libvirt, src/cpu_map/x86_features.xml)."""
    return tuple(_LIBVIRT.get(flag, flag) for flag in flags_of(level))


def missing(level: Level, flags: Iterable[str]) -> tuple[str, ...]:
    """The flags of a level that a processor has not."""
    have = set(flags)
    return tuple(flag for flag in flags_of(level) if flag not in have)


def level_of(flags: Iterable[str]) -> Level | None:
    """The highest level of a processor; None below the first."""
    have = set(flags)
    return next((level for level in reversed(LEVELS) if not missing(level, have)), None)
