"""Questions to a person, each of which a flag answers too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import click

from clienthv.cli import terminal
from clienthv.errors import ClienthvError, UsageError

_Answer = TypeVar("_Answer")


class Asker(NamedTuple):
    """Who is asked: a person at a terminal, or nobody; and whether what is not answered takes its default."""

    person: bool
    defaults: bool

    @classmethod
    def at_hand(cls, *, defaults: bool) -> Asker:
        """A person is asked where there is a terminal to ask on, unless the defaults shall do."""
        return cls(not defaults and terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stderr), defaults)

    def ask(self, question: str, flag: str, given: str | None, default: str, read: Callable[[str], _Answer]) -> _Answer:
        """The answer: the flag's, else the person's, else the default. ``read`` raises ClienthvError for a wrong one.

        A person is asked again then. Raises UsageError when nobody is there to answer.
        """
        if given is not None or self.defaults:
            return read(default if given is None else given)
        if not self.person:
            msg = f"{flag} is not given, and there is no terminal to ask on"
            raise UsageError(msg, hint=f"give {flag}, or --yes to take the defaults ({default or 'nothing'} here)")
        while True:
            text: str = click.prompt(question, default=default, show_default=bool(default), err=True)
            try:
                return read(text.strip())
            except ClienthvError as e:
                terminal.tell(e)

    def confirm(self, question: str) -> bool:
        """Whether a person says yes; nobody says no."""
        return self.person and click.confirm(question, default=False, err=True)
