"""Where profiles and templates are looked up: the user's folder, then /etc, then what came with clienthv."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

DataKind = Literal["profiles", "templates"]


class Folder(NamedTuple):
    """One place that files of a kind may be in, with a word for it."""

    label: str
    path: Path


def folders(kind: DataKind) -> tuple[Folder, ...]:
    """The folders for a kind of file, the first to be looked in first. They need not exist.

    The user's folder follows the XDG Base Directory Specification (``XDG_CONFIG_HOME``).
    """
    config = os.environ.get("XDG_CONFIG_HOME", "")
    user = Path(config) if config.startswith("/") else _home_config()
    return (
        *((Folder("user", user / "clienthv" / kind),) if user is not None else ()),
        Folder("system", Path("/etc/clienthv") / kind),
        Folder("packaged", packaged(kind)),
    )


def _home_config() -> Path | None:
    """The configuration folder in the home folder; None for an account without one."""
    try:
        return Path.home() / ".config"
    except RuntimeError:
        return None


def packaged(kind: DataKind) -> Path:
    """The folder that came with clienthv: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "data" / kind
    return installed if installed.is_dir() else here.parent / kind
