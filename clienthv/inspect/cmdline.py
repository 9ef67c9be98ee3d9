"""The kernel command line as parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from clienthv.inspect.files import Tree

CMDLINE: Final = "/proc/cmdline"
_PARAMETER = re.compile(r'(?:[^\s"]|"[^"]*"?)+')


def read_cmdline(tree: Tree) -> tuple[str, ...] | None:
    """The parameters in order; spaces inside double quotes do not separate (lib/cmdline.c, next_arg)."""
    text = tree.text(CMDLINE)
    return None if text is None else tuple(_PARAMETER.findall(text))


def key_of(parameter: str) -> str:
    """A parameter's name; the kernel reads - and _ as the same (kernel-parameters.rst)."""
    return parameter.partition("=")[0].strip('"').replace("-", "_")


def kernel_part(parameters: Iterable[str]) -> list[str]:
    """The parameters before ``--``: what follows is for init."""
    found: list[str] = []
    for parameter in parameters:
        if parameter == "--":
            break
        found.append(parameter)
    return found
