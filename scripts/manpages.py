"""Writes a man page for clienthv and for each of its commands into a folder: python scripts/manpages.py FOLDER.

What a page says comes from the commands themselves, from docs/reference/errors.md, and from the tables below. Read on
Debian with: man -l FOLDER/clienthv-plan.1. The form is that of man-pages(7).
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from clienthv import __version__
from clienthv.cli import cli

REPOSITORY = Path(__file__).resolve().parent.parent
ERRORS = REPOSITORY / "docs" / "reference" / "errors.md"

FILES = {
    "~/.config/clienthv/profiles, /etc/clienthv/profiles": "Your profiles and those of this PC, as TOML; of two of one "
    "name the first is taken, before the one that came with clienthv.",
    "~/.config/clienthv/templates, /etc/clienthv/templates": "Templates of the domain's XML, in the same order.",
    "~/.local/state/clienthv": "The journal of what was changed on this PC, and the VMs of libvirt's embedded driver. "
    "For root, where its home is closed to others: /var/lib/clienthv.",
    "~/.local/share/clienthv/images": "Disk images that up makes. For root likewise: /var/lib/clienthv/images.",
    "~/.cache/clienthv": "What was found in disk images, which can be found out again.",
    "/usr/share/doc/clienthv": "What all codes mean, and how it works.",
    "/run/clienthv.lock": "Keeps two commands from changing this PC at the same time.",
}
ENVIRONMENT = {
    "LIBVIRT_DEFAULT_URI": "The libvirt connection to use where --connect names none.",
    "XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_DATA_HOME, XDG_CACHE_HOME": "Other places for ~/.config, ~/.local/state, "
    "~/.local/share and ~/.cache.",
    "XDG_RUNTIME_DIR": "Where libvirt's session keeps what runs.",
    "DISPLAY, WAYLAND_DISPLAY": "The graphical session that view opens a window in.",
    "NO_COLOR, CLICOLOR_FORCE": "No colours, colours in a pipe too; --color comes before either.",
    "TERM, COLUMNS": "What the terminal can show, and how wide it is.",
    "SUDO_UID": "Of root alone: the account that doctor advises, and adds to groups (man sudo).",
    "SUPERMIN_KERNEL, SUPERMIN_MODULES": "The kernel that disk images are looked into with (man supermin).",
}
_AS_THEY_ARE = str.maketrans({"\\": "\\e", "-": "\\-", "~": "\\(ti", "^": "\\(ha", "`": "\\(ga"})
BESIDE = ("virsh(1)", "virt-viewer(1)", "virt-manager(1)")


class Page(NamedTuple):
    """One command: the words it is called by, itself, and its context."""

    words: tuple[str, ...]
    command: click.Command
    context: click.Context

    @property
    def name(self) -> str:
        """The page's name: clienthv-profiles-show."""
        return "-".join(self.words)


def pages() -> Iterator[Page]:
    """The program, its commands, and theirs."""
    yield from _below(("clienthv",), cli, None)


def _below(words: tuple[str, ...], command: click.Command, parent: click.Context | None) -> Iterator[Page]:
    context = click.Context(command, info_name=words[-1], parent=parent, **command.context_settings)
    yield Page(words, command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _below((*words, name), below, context)


def rendered(page: Page, date: str, others: tuple[str, ...]) -> str:
    """The page as roff."""
    lines = [
        f'.TH {escaped(page.name.upper())} 1 "{date}" "clienthv {__version__}" "clienthv"',
        ".nh",
        ".ad l",
        *section("NAME", [f"{escaped(page.name)} \\- {escaped(_in_short(page.command))}"]),
        *section("SYNOPSIS", _synopsis(page)),
        *section("DESCRIPTION", _paragraphs(inspect.cleandoc(page.command.help or ""))),
        *section("OPTIONS", _tagged(_options(page))),
        *section("COMMANDS", _tagged(_commands(page))),
        *section("EXAMPLES", _examples(page.command.epilog or "")),
        *section("EXIT STATUS", _tagged(_exit_codes())),
    ]
    if page.context.parent is None:
        lines += [*section("FILES", _tagged(FILES.items())), *section("ENVIRONMENT", _tagged(ENVIRONMENT.items()))]
    return "\n".join([*lines, *section("SEE ALSO", _see_also(page, others)), ""])


def escaped(text: str) -> str:
    """A text that roff prints as it is (groff_char(7)): a hyphen that can be typed, no requests, no escapes."""
    line = text.translate(_AS_THEY_ARE)
    return f"\\&{line}" if line[:1] in (".", "'") else line


def section(title: str, body: list[str]) -> list[str]:
    """A section; nothing where it would be empty."""
    return [f".SH {title}", *body] if body else []


def _in_short(command: click.Command) -> str:
    """What the command does, in one line that apropos finds."""
    first = " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())
    return re.split(r"(?<=\w)[.;] ", f"{first} ")[0].removesuffix(".").strip()


def _synopsis(page: Page) -> list[str]:
    top = ["[--connect URI] [--debug]"] if page.context.parent is not None else []
    words = [*top, *page.words[1:], *page.command.collect_usage_pieces(page.context)]
    return [f".B {escaped(page.words[0])}", escaped(" ".join(words))]


def _paragraphs(text: str) -> list[str]:
    found = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return [line for paragraph in found if paragraph for line in (".PP", escaped(paragraph))]


def _tagged(items: Iterator[tuple[str, str]]) -> list[str]:
    return [line for tag, text in items for line in (".TP", f".B {escaped(tag)}", escaped(text))]


def _options(page: Page) -> Iterator[tuple[str, str]]:
    options = (p for p in page.command.get_params(page.context) if isinstance(p, click.Option))
    records = (option.get_help_record(page.context) for option in options)
    yield from ((names, " ".join(text.split())) for names, text in filter(None, records))


def _commands(page: Page) -> Iterator[tuple[str, str]]:
    if isinstance(page.command, click.Group):
        for below in _below(page.words, page.command, page.context.parent):
            if len(below.words) == len(page.words) + 1:
                yield below.words[-1], f"{_in_short(below.command)}. See {below.name}(1)."


def _examples(epilog: str) -> list[str]:
    given = epilog.removeprefix("Example: ").split("; ")
    told = given if epilog.startswith("Example: ") else re.findall(r"clienthv [a-z-]+", epilog)
    return [".nf", *(escaped(line) for line in told), ".fi"]


def _exit_codes() -> Iterator[tuple[str, str]]:
    """By the reference, without its marks."""
    for code, meaning in re.findall(r"^\| (\d[\d, ]*) \| [^|]* ?\| ([^|]*) \|", ERRORS.read_text(), re.MULTILINE):
        yield code, re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning).replace("`", "").strip() + "."


def _see_also(page: Page, others: tuple[str, ...]) -> list[str]:
    around = [f"{name}(1)" for name in others if name != page.name]
    shown = around if page.context.parent is None else [n for n in around if n == "clienthv(1)" or page.name in n]
    return [", ".join(escaped(name) for name in (*shown, *BESIDE))]


def write(folder: Path) -> list[Path]:
    """All pages, into a folder that is made; their date is SOURCE_DATE_EPOCH, or now."""
    when = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    date, found = time.strftime("%Y-%m-%d", when), list(pages())
    names = tuple(page.name for page in found)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for page in found:
        written.append(folder / f"{page.name}.1")
        written[-1].write_text(rendered(page, date, names), encoding="utf-8")
    return written


if __name__ == "__main__":
    write(Path(sys.argv[1]))
