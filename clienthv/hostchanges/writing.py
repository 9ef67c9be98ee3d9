"""Writing files of sysfs, in a process of its own each: the kernel may keep the writer waiting, perhaps for ever."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

from clienthv import process
from clienthv.errors import HostError
from clienthv.inspect import Holder

BLOCKED_AFTER: Final = 20.0
"""Seconds after which a driver that does not let go counts as hung: a graphics card takes up to ten."""

_NOT_ALLOWED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class RefusedError(HostError):
    """The kernel or the card's driver refused a change that clienthv may make: another way may be open."""


class BlockedError(RefusedError):
    """The kernel has not finished a change in time and may never: what was written may still come to pass."""


def put(path: str, value: str, what: str, root: str = "/", device: str = "", holders: Iterable[Holder] = ()) -> None:
    """Write a file of sysfs in one piece, as its parser wants it (Documentation/filesystems/sysfs.rst).

    ``what`` says what is being done: "unbind igb from 0000:01:00.0"; of which PCI ``device``. ``holders`` are named
    when it does not end: who has a device open is to be asked before, as the kernel takes its files away before it
    waits. Raises RefusedError; BlockedError after ``BLOCKED_AFTER`` seconds.
    """
    try:
        process.write_file(f"{root.rstrip('/')}{path}", value, BLOCKED_AFTER, device)
    except TimeoutError as e:
        names = dict.fromkeys(f"{h.name} (process {h.pid}: {h.what})" for h in holders)
        who = f"it was held by {', '.join(names)}" if names else "no program was seen that holds it"
        msg = f"cannot {what}: the kernel did not finish within {BLOCKED_AFTER:.0f} s; {who}"
        raise BlockedError(msg, hint="end what holds it, then clienthv recover; dmesg says what waits") from e
    except OSError as e:
        msg = f"cannot {what}: {e.strerror} ({path})"
        if e.errno in _NOT_ALLOWED:
            raise RefusedError(msg, hint="run clienthv as root, where sysfs is not mounted read-only") from e
        firmware = "; the firmware setup may have a switch for SR-IOV" if "/sriov_" in path else ""
        raise RefusedError(msg, hint=f"dmesg says more{firmware}") from e


def get(path: str, what: str, root: str = "/") -> str | None:
    """A file of sysfs that the kernel reads under the lock that an unbinding driver holds; None where there is none.

    Raises BlockedError.
    """
    try:
        return process.read_file(f"{root.rstrip('/')}{path}", BLOCKED_AFTER)
    except TimeoutError as e:
        msg = f"cannot read {what}: the kernel did not answer within {BLOCKED_AFTER:.0f} s"
        raise BlockedError(msg, hint="a driver does not let go of the device; dmesg says what waits") from e
    except OSError:
        return None
