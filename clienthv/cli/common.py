"""What several commands share: the host option, the connection, what is said and shown."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from clienthv import api
from clienthv.cli import completing, terminal
from clienthv.cli.progress import progress as progress
from clienthv.cli.text import visible
from clienthv.errors import HostError
from clienthv.model.host import LISTED, Host

if TYPE_CHECKING:
    from clienthv.hypervisor import Connection

host_option = click.option(
    "--host",
    "host_file",
    metavar="FILE",
    shell_complete=completing.file,
    help="Take another PC: its host document (clienthv inspect --save), or what lspci -nnk or a listing of its IOMMU "
    "groups printed; - for standard input.",
)

_MOST_LINKS: Final = 40  # as many as the kernel follows (man 7 path_resolution)


def note(text: str) -> None:
    """A line for the person, beside the output; not with --quiet."""
    terminal.say(text)


def open_connection(connect: str | None, *, elsewhere: bool = False) -> Connection:
    """The connection that a command works on; which it is, and why, is told. ``elsewhere``: it may be another PC's."""
    from clienthv.hypervisor import Connection
    from clienthv.lifecycle import live

    choice = live.choose(connect)
    note(f"connection: {choice.uri} ({choice.reason})")
    return Connection(choice, waiting=note, elsewhere=elsewhere and choice.other_pc is not None)


def the_host(host_file: str | None, connect: str | None) -> Host:
    """The host of a document, or this PC with what its libvirt offers."""
    if host_file is not None:
        host = api.load_host(host_file)
        for gap in host.unknown if host.source == LISTED else ():
            note(f"unknown: {visible(gap)}")
        return host
    from clienthv.lifecycle import live

    with progress("asking QEMU what it offers"):
        host, _ = live.read_host_anyway(connect, note)
    return host


def write_file(path: str, data: bytes) -> None:
    """Write a file whole or not at all; what is not a plain file (a device, a pipe) is written to. Raises HostError.

    A link stays: what it leads to is written. /dev/stdout leads to the file that a shell redirects to. Another
    account's link is not followed but replaced.
    """
    try:
        target = _led_to(Path(path))
        if not _is_anothers_link(target) and target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".clienthv-", delete=False) as part:
            try:
                part.write(data)
                part.flush()
                Path(part.name).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
                Path(part.name).replace(target)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise
    except (OSError, ValueError) as e:
        msg = f"cannot write {path!r}: {getattr(e, 'strerror', None) or e}"
        raise HostError(msg, hint="give the path of a file in a folder you may write to") from e


def _led_to(target: Path) -> Path:
    """Where links lead, as far as they are this account's or root's.

    The kernel follows no others in a folder like /tmp (Documentation/admin-guide/sysctl/fs.rst, protected_symlinks).
    What a link in /proc names may be no path, as for a pipe (man 5 proc_pid_fd): it is then taken as it is.
    """
    for _ in range(_MOST_LINKS):
        if not target.is_symlink() or _is_anothers_link(target):
            break
        further = target.parent / target.readlink()
        if target.exists() and not (further.exists() or further.is_symlink()):
            break
        target = further
    return target


def _is_anothers_link(target: Path) -> bool:
    return target.is_symlink() and target.lstat().st_uid not in (0, os.geteuid())


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def show(lines: Iterable[str]) -> None:
    """Print lines for a person. Control characters, which names from elsewhere may hold, are shown, not obeyed.

    On a terminal they are folded to its width, and the parts that report marked have colours.
    """
    terminal.put(lines)
