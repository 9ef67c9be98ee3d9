"""``--quiet``, ``--verbose`` and ``--color``: before the command and after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from clienthv.cli import terminal
from clienthv.cli.terminal import Manner

_COLOURS = click.Choice(["auto", "always", "never"])
_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def options(command: _Decorated) -> _Decorated:
    """The options, as they stand before the command."""
    for option in (
        click.option("--color", type=_COLOURS, default="auto", show_default=True, help="Whether to use colours."),
        click.option("-v", "--verbose", is_flag=True, help="Say what is read, run and asked, and how long it took."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors."),
    ):
        command = option(command)
    return command


def speak(ctx: click.Context) -> None:
    """Speak as the options before the command say. Raises click.UsageError for both --quiet and --verbose."""
    _set(Manner(*(ctx.params[name] for name in Manner._fields)), ctx)


def _set(manner: Manner, ctx: click.Context) -> None:
    if manner.quiet and manner.verbose:
        msg = "give either --quiet or --verbose, not both"
        raise click.UsageError(msg, ctx)
    terminal.speak(manner)


def _heard(ctx: click.Context, option: click.Parameter, value: Any) -> Any:
    if value and option.name is not None:
        _set(terminal.manner()._replace(**{option.name: value}), ctx)
    return value


def added(command: click.Command) -> click.Command:
    """A command that understands the options too, and those below it; its help does not show them."""
    if not any(parameter.callback is _heard for parameter in command.params):
        told: dict[str, Any] = {
            "expose_value": False,
            "hidden": True,
            "callback": _heard,
            "help": "As before the command.",
        }
        command.params += [
            click.Option(["-q", "--quiet"], is_flag=True, **told),
            click.Option(["-v", "--verbose"], is_flag=True, **told),
            click.Option(["--color"], type=_COLOURS, **told),
        ]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            added(below)
    return command
