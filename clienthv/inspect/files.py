"""The one place that builds paths and reads small files, below a root, so that another PC's tree can be read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final

LIMIT: Final = 4 * 1024 * 1024  # no file read here is longer; a tree from a stranger may hold any
ATTRIBUTE_LIMIT: Final = 64 * 1024  # sysfs attributes end at one page, /proc lists do not
_DECIMAL: Final = re.compile(r"^[0-9]{1,15}\Z")
_HEX: Final = re.compile(r"^(?:0x)?([0-9a-fA-F]{1,16})\Z")


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of one PC below ``root``. Paths are written as on that PC, such as ``/proc/cmdline``.

    ``refused`` gathers what exists and may not be read by this user, with the system's own words.
    Nothing here raises: what is missing, garbled or refused is ``None``.
    """

    root: str = "/"
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether this is the running PC, so that asking the kernel and udev makes sense."""
        return os.path.realpath(self.root) == "/"

    def path(self, inside: str) -> str:
        """Where the file lies on the PC that reads."""
        return inside if self.root == "/" else self.root.rstrip("/") + inside

    def text(self, inside: str, limit: int = LIMIT) -> str | None:
        """The file's text without surrounding white space and NULs; bytes that are not UTF-8 are replaced."""
        try:
            # A FIFO in a stranger's tree would otherwise block for ever.
            handle = os.open(self.path(inside), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as stream:
                data = stream.read(limit)
        except (OSError, ValueError) as e:
            self._note(inside, e)
            return None
        return (data or b"").decode("utf-8", "replace").strip().strip("\0").strip()

    def attribute(self, inside: str) -> str | None:
        """A one-line sysfs attribute; ``None`` when it is missing or holds more than one line."""
        text = self.text(inside, ATTRIBUTE_LIMIT)
        return None if text is None or "\n" in text else text

    def lines(self, inside: str) -> tuple[str, ...] | None:
        """The lines of a /proc list."""
        text = self.text(inside)
        return None if text is None else tuple(text.split("\n")) if text else ()

    def number(self, inside: str) -> int | None:
        """A decimal number, 0 or more; the kernel's -1 for "none" is ``None``."""
        text = self.attribute(inside)
        return int(text) if text is not None and _DECIMAL.match(text) else None

    def hexadecimal(self, inside: str) -> int | None:
        """A hexadecimal number with or without 0x."""
        match = _HEX.match(self.attribute(inside) or "")
        return int(match.group(1), 16) if match else None

    def switch(self, inside: str) -> bool | None:
        """A module parameter or flag: Y, N, 1 or 0 (Documentation/admin-guide/kernel-parameters, "bool")."""
        return {"1": True, "Y": True, "y": True, "0": False, "N": False, "n": False}.get(self.attribute(inside) or "")

    def names(self, inside: str) -> tuple[str, ...] | None:
        """The names in a folder, sorted; ``None`` when it is not there or may not be listed."""
        try:
            found = os.listdir(self.path(inside))  # noqa: PTH208 - names, not paths
        except (OSError, ValueError) as e:
            self._note(inside, e)
            return None
        return tuple(sorted(name for name in found if _is_text(name)))

    def exists(self, inside: str) -> bool | None:
        """Whether there is such a file; ``None`` when its folder may not be searched."""
        try:
            os.stat(self.path(inside))  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as e:
            self._note(inside, e)
            return None
        return True

    def writable(self, inside: str) -> bool | None:
        """Whether this user may write to the file; ``None`` when it is not there."""
        if not self.exists(inside):
            return None
        return os.access(self.path(inside), os.W_OK)

    def target(self, inside: str) -> str | None:
        """The last name a link points at, which need not be there: a driver, an IOMMU group, a PCI function."""
        try:
            name = os.readlink(self.path(inside)).rstrip("/").rpartition("/")[2]  # noqa: PTH115
        except (OSError, ValueError) as e:
            self._note(inside, e)
            return None
        return name if name and _is_text(name) else None

    def real(self, inside: str) -> str | None:
        """The path with every link resolved, still as on that PC; ``None`` when it leads out of the tree."""
        try:
            root, path = os.path.realpath(self.root), os.path.realpath(self.path(inside))
        except (OSError, ValueError):
            return None
        prefix = root.rstrip("/")
        return path[len(prefix) :] if path.startswith(prefix + "/") and _is_text(path) else None

    def _note(self, inside: str, error: OSError | ValueError) -> None:
        if isinstance(error, PermissionError):
            self.refused[inside] = error.strerror or "permission denied"


def _is_text(name: str) -> bool:
    """Whether a file name can be written as JSON: names that are not UTF-8 arrive with lone surrogates."""
    return name.isprintable()
