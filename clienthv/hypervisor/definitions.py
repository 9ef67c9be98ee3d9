"""The names of VMs by the files that libvirt keeps of them: nobody is asked, and no daemon is started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clienthv.hypervisor.connection import Choice

_MOST: Final = 1000  # names; more help nobody
_READ_OTHERWISE: Final = frozenset(" \"$&'()*;<>?[\\]^`{|}!#~")  # by a shell (POSIX, Shell Command Language, 2.2; bash)


def names(uri: str | None, embed_root: Path) -> tuple[str, ...]:
    """The names of the VMs that a connection has, defined or running; without one, of all that this user may have.

    Folders that may not be read hold none. So does a connection to another PC. For people at a keyboard: a name that
    a shell would not take for one plain word is left out, as bash completes it without quotes and would run what is in
    it; so is one that would be an option.
    Source of the folders: libvirt, src/qemu/qemu_conf.c (configDir, stateDir).
    """
    found = {stem for folder in _folders(uri, embed_root) for stem in _stems(folder)}
    return tuple(sorted(filter(_is_plain, found))[:_MOST])


def _is_plain(name: str) -> bool:
    return name.isprintable() and not _READ_OTHERWISE & set(name) and name[:1] not in ("", "-", "=")


def _folders(uri: str | None, embed_root: Path) -> Iterator[Path]:
    choice = Choice(uri or "", "")
    if choice.other_pc is not None:
        return
    root = choice.embedded_root or embed_root
    if uri is None or choice.embedded_root is not None:
        yield from (root / "etc" / "qemu", root / "run" / "qemu")
    if uri is None or choice.path == "/system":
        yield from (Path("/etc/libvirt/qemu"), Path("/run/libvirt/qemu"))
    if uri is None or choice.path == "/session":
        yield Path(os.environ.get("XDG_CONFIG_HOME") or _home(".config")) / "libvirt" / "qemu"
        yield Path(os.environ.get("XDG_RUNTIME_DIR") or _home(".cache")) / "libvirt" / "qemu" / "run"


def _home(inside: str) -> str:
    return os.path.expanduser(f"~/{inside}")  # noqa: PTH111 - raises nothing for an account without a home


def _stems(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from (e.name.removesuffix(".xml") for e in entries if e.name.endswith(".xml"))
    except OSError:
        return
