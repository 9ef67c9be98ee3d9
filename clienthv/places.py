"""Where clienthv keeps things: state, the embedded driver, and disk images it makes."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from clienthv.errors import HostError

_SYSTEM_STATE: Final = Path("/var/lib/clienthv")


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0


def state_root() -> Path:
    """The state folder: ``$XDG_STATE_HOME/clienthv``, ``~/.local/state/clienthv`` (XDG Base Directory Specification).

    Root's QEMU runs under an account of its own, which cannot reach into a closed home folder: there, and only where
    XDG_STATE_HOME is not set, the state is kept in /var/lib/clienthv.
    """
    named = os.environ.get("XDG_STATE_HOME", "")
    if named.startswith("/"):
        return Path(named) / "clienthv"
    home = _home()
    if is_root() and not _open_to_others(home):
        return _SYSTEM_STATE
    return home / ".local" / "state" / "clienthv"


def embed_root() -> Path:
    """The folder of libvirt's embedded driver."""
    return state_root() / "embed"


def host_changes(machine: str) -> Path:
    """The journal of what clienthv has changed on this host: a home folder may serve several.

    ``machine`` is the host's machine id, which does not leave it (man 5 machine-id).
    """
    name = hashlib.sha256(f"clienthv {machine}".encode()).hexdigest()[:12]
    return state_root() / f"host-changes-{name}.jsonl"


def host_files() -> Path:
    """The record of configuration files that clienthv has edited, which root alone does: one for the whole PC.

    Another account is told of root's. Root's XDG_STATE_HOME is followed.
    """
    named = os.environ.get("XDG_STATE_HOME", "") if is_root() else ""
    return (Path(named) / "clienthv" if named.startswith("/") else _SYSTEM_STATE) / "host-files.jsonl"


def host_lock() -> Path | None:
    """The lock of all who may change this host, wherever each keeps its journal; None for who may not (FHS, /run)."""
    return Path("/run/clienthv.lock") if is_root() and os.access("/run", os.W_OK) else None


def images() -> Path:
    """Where new disk images go: they are data, not state (``XDG_DATA_HOME``); for root, as with the state."""
    if is_root() and state_root() == _SYSTEM_STATE:
        return _SYSTEM_STATE / "images"
    named = os.environ.get("XDG_DATA_HOME", "")
    base = Path(named) if named.startswith("/") else _home() / ".local" / "share"
    return base / "clienthv" / "images"


def cache() -> Path:
    """What can be found out again (``XDG_CACHE_HOME``); for root, as with the state."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if named.startswith("/"):
        return Path(named) / "clienthv"
    if is_root() and state_root() == _SYSTEM_STATE:
        return Path("/var/cache/clienthv")
    return _home() / ".cache" / "clienthv"


def expanded(text: str) -> Path:
    """A path with ~ as the home folder; as it is where nobody has that name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _home() -> Path:
    """The home folder. Raises HostError for an account that has none."""
    try:
        return Path.home()
    except RuntimeError as e:
        msg = "this account has no home folder"
        raise HostError(msg, hint="set HOME, or XDG_STATE_HOME and XDG_DATA_HOME") from e


def _open_to_others(folder: Path) -> bool:
    """Whether another account can pass through a folder and all above it."""
    try:
        return all(p.stat().st_mode & stat.S_IXOTH for p in (folder, *folder.parents))
    except OSError:
        return False
