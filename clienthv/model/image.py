"""What a disk image is, seen from outside: its format and what of other files it needs."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from clienthv.model.values import Count

Format = Literal["qcow2", "raw", "vmdk", "vdi", "vhd", "vhdx", "qed"]
RunFormat = Literal["qcow2", "raw"]
RUN_FROM: Final[tuple[RunFormat, ...]] = get_args(RunFormat)
"""The formats that VMs are run from."""


def run_format(name: str | None) -> RunFormat | None:
    """The format of this name that VMs are run from; None for any other."""
    return next((f for f in RUN_FROM if f == name), None)


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One disk image. Sizes are in bytes: what the guest sees, and what the file takes of the disk below it.

    ``others`` are files that it leads to (backing files, nearest first, and data files), ``data`` those of them that
    hold its content, ``snapshots`` the names of snapshots inside it, ``written`` is whether a process has it open to
    write. None means unknown: nobody could look.
    """

    path: str
    format: Format | None = None
    virtual_size: Count | None = None
    allocated: Count | None = None
    others: tuple[str, ...] | None = None
    snapshots: tuple[str, ...] | None = None
    data: tuple[str, ...] | None = None
    written: bool | None = None
