"""kernelstub's configuration (Pop!_OS): JSON of its own form, of which it writes the entries for systemd-boot.

Source: kernelstub, kernelstub/config.py: json.dump with an indent of 2, ``user.kernel_options``, revision 4.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from clienthv.inspect.grub import NotUnderstoodError

CONFIGURATION: Final = "/etc/kernelstub/configuration"
_REVISION: Final = 4


def options(text: str) -> tuple[str, ...]:
    """The kernel parameters. Raises NotUnderstoodError for a file that kernelstub itself would write otherwise."""
    return tuple(_read(text)["user"]["kernel_options"])


def with_options(text: str, words: Iterable[str]) -> str:
    """The file with other parameters, as kernelstub would write it. Raises NotUnderstoodError."""
    made = _read(text)
    made["user"]["kernel_options"] = list(words)
    return json.dumps(made, indent=2) + _end(text)


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        same = json.dumps(found, indent=2) + _end(text) == text
        words, revision = found["user"]["kernel_options"], found["user"]["config_rev"]
    except (ValueError, RecursionError, KeyError, TypeError) as e:
        msg = f"{CONFIGURATION}: is not what kernelstub writes: {e}"
        raise NotUnderstoodError(msg) from e
    if not same or revision != _REVISION or not isinstance(words, list) or not all(map(_is_word, words)):
        msg = f"{CONFIGURATION}: is not in the form that kernelstub writes"
        raise NotUnderstoodError(msg)
    return dict(found)


def _is_word(word: object) -> bool:
    return isinstance(word, str) and word == word.strip() and len(word.split()) == 1 and '"' not in word


def _end(text: str) -> str:
    return "\n" if text.endswith("\n") else ""
