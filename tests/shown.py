"""Commands that the documents show with their output: found, run on a recorded PC, compared and written anew.

A block of code with lines that begin with ``$ `` is run line by line, and what stands below each is what was printed.
There ``…`` stands for text, and a line of ``…`` for any number of lines. Comments before a block say how it is run:

``<!-- on: FILE -->``
    from here on commands are given ``--host FILE``: the reader has that PC, and types less
``<!-- with: NAME=FILE NAME=FILE -->``
    files of this repository are there, under those names
``<!-- file: NAME -->``
    the next block is the text of a file of that name
``<!-- not run: WHY -->``
    the next block is not run
``<!-- exits: CODE -->``
    commands of the next block that print no line ``Error:`` end with this exit code, instead of 0
"""

from __future__ import annotations

import difflib
import fnmatch
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

import click
from click.testing import CliRunner

from clienthv.cli import cli

ELIDED = "…"
_PART = re.compile(
    r"^<!-- (?P<mark>on|with|file|not run|exits): (?P<value>.+?) -->$|^```\w*\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Command:
    """A command and what is shown below it; ``at`` is where in the page that output stands."""

    line: str
    output: list[str]
    at: tuple[int, int]

    @property
    def words(self) -> list[str]:
        """What the shell makes of it."""
        return shlex.split(self.line, comments=True)


@dataclass
class Block:
    """A block of code, and what the comments before it say."""

    text: str
    at: int
    on: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    not_run: str | None = None
    exits: int = 0

    @property
    def commands(self) -> list[Command]:
        """The commands in it, with their output."""
        found: list[Command] = []
        for match in re.finditer(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", self.text, re.MULTILINE):
            at = (self.at + match.start(2), self.at + match.end(2))
            found.append(Command(match[1].replace("\\\n", " "), match[2].splitlines(), at))
        return found


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page, in order, each with what the comments above it say."""
    on: str | None = None
    files: dict[str, str] = {}
    name = not_run = None
    exits = 0
    for part in _PART.finditer(page):
        match part["mark"]:
            case "on":
                on = part["value"]
            case "with":
                files |= dict(pair.split("=", 1) for pair in part["value"].split())
            case "file":
                name = part["value"]
            case "not run":
                not_run = part["value"]
            case "exits":
                exits = int(part["value"])
            case _:
                yield Block(part["text"], part.start("text"), on, dict(files), name, not_run, exits)
                name, not_run, exits = None, None, 0


def run(command: Command, on: str | None) -> tuple[int, list[str]]:
    """Run a command in the present folder: its exit code, and the lines that a person sees."""
    program, *words = command.words
    assert program == "clienthv", f"only clienthv is run here: mark the block, not run: {command.line}"
    if on is not None and "--host" not in words and _takes_a_host(words):
        words += ["--host", on]
    result = CliRunner().invoke(cli, words, prog_name="clienthv")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, [line.rstrip() for line in result.output.splitlines()]


def _takes_a_host(words: list[str]) -> bool:
    context = click.Context(cli)
    command = cli.get_command(context, words[0]) if words else None
    return command is not None and any("--host" in p.opts for p in command.params)


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether what was printed is what is shown."""
    at = line = 0
    star, kept = -1, 0
    while line < len(printed):
        if at < len(shown) and shown[at].strip() == ELIDED:
            star, kept, at = at, line, at + 1
        elif at < len(shown) and _like(shown[at], printed[line]):
            at, line = at + 1, line + 1
        elif star >= 0:
            kept, at, line = kept + 1, star + 1, kept + 1
        else:
            return False
    return all(rest.strip() == ELIDED for rest in shown[at:])


def _like(shown: str, printed: str) -> bool:
    pattern = ELIDED.join(re.sub(r"([*?[])", r"[\1]", part) for part in shown.rstrip().split(ELIDED))
    return fnmatch.fnmatchcase(printed, pattern.replace(ELIDED, "*"))


def anew(shown: list[str], printed: list[str]) -> list[str]:
    """What is to be shown now: lines that were left out stay out where what is around them is still there."""
    if not any(line.strip() == ELIDED for line in shown):
        return printed
    written, at, free, lost = list[str](), 0, False, 0
    for line in shown:
        if line.strip() == ELIDED:
            written, free = [*written, line], True
            continue
        found = _nearest(line, printed[at:])
        if found is None:
            lost += 1
            continue
        written += [] if free else printed[at : at + found]
        at += found
        written.append(line if _like(line, printed[at]) else printed[at])
        at, free = at + 1, False
    written += [] if free else printed[at:]
    return written if matches(written, printed) and lost * 2 < len(shown) else printed


def _nearest(line: str, printed: list[str]) -> int | None:
    same = next((n for n, other in enumerate(printed) if _like(line, other)), None)
    if same is not None:
        return same
    near = difflib.get_close_matches(line, printed, n=1)
    return printed.index(near[0]) if near else None
