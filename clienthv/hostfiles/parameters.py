"""Kernel parameters put into the files that a boot loader takes them from, and taken out, and nothing else changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from clienthv.inspect import grub, kernelstub, loader_entries
from clienthv.inspect.grub import NotUnderstoodError, Variable
from clienthv.model.installation import BootLoader

CONTRARY: Final = {"intel_iommu=on": ("intel_iommu=off",)}
"""What must not stand beside a parameter."""

Texts = Mapping[str, str]


def edited(loader: BootLoader, texts: Texts, add: tuple[str, ...], remove: tuple[str, ...]) -> dict[str, str]:
    """The files that change, with their new text. ``texts`` are all files of the loader, in its order.

    Raises NotUnderstoodError for a file that is written in another way than is understood here, and for a parameter to
    be removed that stands in none of them.
    """
    contrary = tuple(c for word in add for c in CONTRARY.get(word, ()))
    if remove and present(texts).isdisjoint(remove):
        where = ", ".join(texts)
        msg = f"{' '.join(remove)} stands in none of {where}: it comes from elsewhere, or is gone with the next restart"
        raise NotUnderstoodError(msg)
    out = (*remove, *contrary)
    if loader.kind == "grub":
        changed = _in_defaults(texts, "GRUB_CMDLINE_LINUX_DEFAULT", add, out)
    elif loader.kind in ("grub-bls", "systemd-boot", "kernelstub"):
        entries = {path: text for path, text in texts.items() if path.endswith(".conf")}
        defaults = {path: text for path, text in texts.items() if path.startswith("/etc/default/")}
        changed = {
            path: _in_line(text, loader_entries.options_line(text, path), add, out) for path, text in entries.items()
        }
        if loader_entries.KERNEL_CMDLINE in texts:
            text = texts[loader_entries.KERNEL_CMDLINE]
            changed[loader_entries.KERNEL_CMDLINE] = _in_line(text, loader_entries.kernel_cmdline(text), add, out)
        if kernelstub.CONFIGURATION in texts:
            text = texts[kernelstub.CONFIGURATION]
            words = _changed(" ".join(kernelstub.options(text)), add, out).split()
            changed[kernelstub.CONFIGURATION] = kernelstub.with_options(text, words)
        if defaults:
            changed |= _in_defaults(defaults, "GRUB_CMDLINE_LINUX", add, out)
    else:
        msg = loader.problem or "this boot loader is not known"
        raise NotUnderstoodError(msg)
    return {path: text for path, text in changed.items() if text != texts[path]}


def present(texts: Texts) -> frozenset[str]:
    """The parameters that these files give the kernel, in any of them. Raises NotUnderstoodError."""
    words: set[str] = set()
    for path, text in texts.items():
        if path.endswith(".conf"):
            words.update(loader_entries.options_line(text, path).words)
        elif path == loader_entries.KERNEL_CMDLINE:
            words.update(loader_entries.kernel_cmdline(text).words)
        elif path == kernelstub.CONFIGURATION:
            words.update(kernelstub.options(text))
    defaults = tuple((path, text) for path, text in texts.items() if path.startswith("/etc/default/"))
    places = (place for variable in grub.VARIABLES for place in grub.in_force(defaults, variable))
    return frozenset(words.union(*(place.assignment.words for place in places)))


def _in_line(text: str, line: loader_entries.Line, add: tuple[str, ...], remove: tuple[str, ...]) -> str:
    return text[: line.start] + _changed(line.value, add, remove) + text[line.end :]


def _in_defaults(texts: Texts, to: Variable, add: tuple[str, ...], remove: tuple[str, ...]) -> dict[str, str]:
    """GRUB's defaults: removed wherever it is in force, added where the last word on the variable is."""
    made = dict(texts)
    for variable in grub.VARIABLES:
        places = grub.in_force(tuple(made.items()), variable)
        lacking = tuple(word for word in add if not _given(texts, word)) if variable == to else ()
        last = len(places) - 1
        # From the end of a file to its beginning, so that what was found before stays where it is.
        for number, place in reversed(list(enumerate(places))):
            one = place.assignment
            value = _changed(one.value, lacking if number == last else (), remove, apart=one.appends)
            if value != one.value:
                made[place.path] = _with_value(made[place.path], one, value)
        if lacking and not places:
            first = next(iter(made))
            text = made[first]
            made[first] = f'{text}{"" if text.endswith(chr(10)) or not text else chr(10)}{to}="{" ".join(lacking)}"\n'
    return made


def _given(texts: Texts, word: str) -> bool:
    """Whether a parameter is in force already, by either variable."""
    return any(
        word in place.assignment.words
        for variable in grub.VARIABLES
        for place in grub.in_force(tuple(texts.items()), variable)
    )


def _with_value(text: str, one: grub.Assignment, value: str) -> str:
    if not one.quote and (re.search(r"\s", value) or not value):
        value = f'"{value}"'
    return text[: one.start] + value + text[one.end :]


def _changed(value: str, add: tuple[str, ...], remove: tuple[str, ...], *, apart: bool = False) -> str:
    """A list of parameters without some and with others at its end; what stays keeps its white space.

    ``apart`` is whether something stands before the list that a first word must be kept apart from.
    """
    if "--" in value.split():
        msg = "the parameters have -- in them: what follows it is not the kernel's"
        raise NotUnderstoodError(msg)
    for word in remove:
        value = re.sub(rf"\s+{re.escape(word)}(?=\s|\Z)", "", value)
        value = re.sub(rf"\A{re.escape(word)}(?:\s+|\Z)", "", value)
    for word in add:
        if word not in value.split():
            body = value.rstrip()
            value = f"{body}{' ' if body or apart else ''}{word}{value[len(body) :]}"
    return value
