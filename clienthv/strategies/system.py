"""What follows from the guest's operating system for the whole VM: what devices sit on, and what a user should know."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from clienthv.model.guest import GENERIC, GuestOs
from clienthv.model.plan import Board, Decision, Kind, Strategy, Warned


def board(guest: GuestOs) -> Board | msgspec.UnsetType:
    """The board for a guest; nothing where it is the usual one.

    Windows takes the PC's clock for local time (libvirt domain format, "Time keeping").
    """
    windows = guest.family == "windows"
    made = Board(machine=guest.emulated.machine, acpi=guest.emulated.acpi, clock="localtime" if windows else "utc")
    return msgspec.UNSET if made == Board() else made


def warnings(guest: GuestOs, decisions: tuple[Decision, ...], vcpus: int, memory_mib: int) -> Iterator[Warned]:
    """What the guest's operating system needs or cannot use, and whether anything is known of it."""
    if guest.found is False and guest.id not in GENERIC:
        yield Warned(
            code="guest-os-unknown",
            detail=f"osinfo-db is not installed or has no {guest.id}: what is known comes from the id alone "
            f"({guest.family})",
        )
    if guest.max_vcpus is not None or guest.max_memory_mib is not None:
        yield Warned(
            code="guest-limit",
            detail=f"{guest.id} uses {guest.max_vcpus} vCPU and {guest.max_memory_mib} MiB at most; it gets no more",
        )
    if vcpus < (guest.min_vcpus or 0) or memory_mib < (guest.min_memory_mib or 0):
        yield Warned(
            code="below-guest-minimum",
            detail=f"{guest.id} needs {guest.min_vcpus or 1} vCPUs and {guest.min_memory_mib or 0} MiB at least; "
            f"it gets {vcpus} and {memory_mib}",
        )
    taken = {decision.kind: decision.strategy for decision in decisions}
    lacking = [
        what
        for needed, kind, without, what in (
            (guest.needs_secure_boot, Kind.FIRMWARE, Strategy.UEFI, "firmware with Secure Boot"),
            (guest.needs_tpm, Kind.TPM, Strategy.OMIT, "a TPM 2.0"),
        )
        if needed and taken[kind] is without
    ]
    if lacking:
        yield Warned(
            code="guest-needs-more",
            detail=f"{guest.id} asks for {' and '.join(lacking)} (Windows 11 system requirements); this VM has none, "
            "so its installer may refuse",
        )
