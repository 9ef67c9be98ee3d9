"""Finding and reading profiles."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from clienthv import datafiles
from clienthv.errors import ProfileError
from clienthv.model import profile
from clienthv.model.profile import Profile, ProfileText
from clienthv.model.profile_list import Listed

_log: Final = logging.getLogger(__name__)
DEFAULT: Final = "balanced"
_MAX_BYTES: Final = 256 * 1024


def load(name_or_path: str) -> tuple[Profile, tuple[ProfileText, ...]]:
    """A profile by name or by path, with the texts it was made of. Raises ProfileError."""
    first = read(Path(name_or_path)) if is_path(name_or_path) else find(name_or_path)
    chain = profile.chain_of(first, find_next)
    return profile.parse(chain), chain


def is_path(text: str) -> bool:
    """Whether a user means a file: it has a slash or ends in .toml."""
    return "/" in text or text.endswith(".toml")


def find_next(name: str, extending: ProfileText) -> ProfileText:
    """The profile that another one extends. One that extends its own name means the one it hides."""
    return find(name, hidden_by=extending.origin if extending.name == name else None)


def find(name: str, hidden_by: str | None = None) -> ProfileText:
    """A profile by name, from the first folder that has it, or the first after a file. Raises ProfileError."""
    if not profile.PROFILE_NAME.match(name):
        msg = f"{name!r} cannot be a profile's name"
        raise ProfileError(msg, hint="names have lower-case letters, digits and dashes; a file is given by its path")
    paths = [folder.path / f"{name}.toml" for folder in datafiles.folders("profiles")]
    if hidden_by is not None and Path(hidden_by) in paths:
        paths = paths[paths.index(Path(hidden_by)) + 1 :]
    for path in paths:
        if _is_file(path):
            return read(path)
    known = sorted({p.stem for _, p in listing()})
    near = difflib.get_close_matches(name, known, n=1)
    msg = f"there is no profile {name!r}"
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ProfileError(msg, hint=f"{hint}known: {', '.join(known)} (clienthv profiles)")


def read(path: Path) -> ProfileText:
    """The text of a profile's file. Raises ProfileError."""
    text = text_of(path, "profile", "clienthv profiles lists the profiles that can be used")
    name = path.stem if profile.PROFILE_NAME.match(path.stem) else "unnamed"
    return ProfileText(name=name, origin=str(path), text=text)


def text_of(path: Path, what: str, hint: str) -> str:
    """The text of a file that people write, such as a profile; not one too large for that. Raises ProfileError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as e:
        msg = f"cannot read {path}: {e.strerror}"
        raise ProfileError(msg, hint=hint) from e
    if len(data) > _MAX_BYTES:
        msg = f"{path} is larger than {_MAX_BYTES // 1024} KiB: not a {what}"
        raise ProfileError(msg, hint=hint)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        msg = f"{path} is not UTF-8 text (byte {e.start})"
        raise ProfileError(msg, hint="TOML files are UTF-8") from e
    _log.info("read the %s %s", what, path)
    return text


def listing() -> Iterator[tuple[datafiles.Folder, Path]]:
    """Every profile that can be named, with the folder it comes from; hidden ones (same name later) left out."""
    seen: set[str] = set()
    for folder in datafiles.folders("profiles"):
        try:
            paths = sorted(folder.path.glob("*.toml"))
        except OSError:
            continue  # a folder that cannot be read hides its profiles alone
        for path in paths:
            if path.stem not in seen and profile.PROFILE_NAME.match(path.stem) and _is_file(path):
                seen.add(path.stem)
                yield folder, path


def described() -> Iterator[Listed]:
    """Every profile that can be named, with what it is; one that cannot be used with the reason."""
    for folder, path in listing():
        known = Listed(name=path.stem, origin=folder.label, path=str(path), description="")
        try:
            found, chain = load(str(path))
        except ProfileError as e:
            yield msgspec.structs.replace(known, problem=e.message)
            continue
        extends = tuple(link.name for link in chain[1:])
        yield msgspec.structs.replace(known, description=found.description, extends=extends)


def _is_file(path: Path) -> bool:
    """Whether a file is there; in a folder that cannot be read, none is."""
    try:
        return path.is_file()
    except OSError:
        return False
