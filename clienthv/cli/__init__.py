"""The command line: reads arguments, calls the core, reports. Commands are loaded when they are used."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

import click

from clienthv import __version__
from clienthv.cli import completing, manners, terminal
from clienthv.errors import ClienthvError, HostError

_COMMANDS = {
    "inspect": "hosts",
    "doctor": "doctor",
    "devices": "devices",
    "plan": "plans",
    "explain": "explanations",
    "report": "report",
    "render": "plans",
    "profiles": "profiles",
    "new": "new",
    "fleet": "fleet",
    "migrate-check": "portability",
    "export": "bundles",
    "import": "bundles",
    "migrate": "bundles",
    "up": "vms",
    "down": "vms",
    "attach": "vms",
    "detach": "vms",
    "recover": "vms",
    "list": "vms",
    "status": "vms",
    "screenshot": "vms",
    "console": "vms",
    "view": "vms",
    "completion": "completion",
}


class Commands(click.Group):
    """The commands, each imported when it is called, and one place where errors become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order a newcomer meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command's module."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"clienthv.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return manners.added(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest command named when there is none."""
        if ctx.resilient_parsing:  # a shell asks for completions: nothing may be said
            return super().resolve_command(ctx, args)
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            msg = f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else "")
            raise click.UsageError(msg, ctx)
        if args and args[0] != "recover":
            _notice()
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An error a person can act on becomes message and hint; a closed pipe is silent."""
        manners.speak(ctx)
        try:
            return super().invoke(ctx)
        except ClienthvError as e:
            if ctx.params.get("debug"):
                raise
            terminal.tell(e)
            ctx.exit(e.code)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(141)
        except OSError as e:
            if ctx.params.get("debug"):
                raise
            where = f" {e.filename}" if e.filename else ""
            msg = f"the system refused{where}: {e.strerror or e}"
            terminal.tell(HostError(msg, hint="check permissions and free space; --debug shows where it happened"))
            ctx.exit(HostError.code)


def _notice() -> None:
    """Say of starts that were cut short that there are some."""
    from clienthv import places

    try:
        if not any(f.stat().st_size for f in places.state_root().glob("host-changes-*.jsonl")):
            return
        from clienthv import journal
        from clienthv.lifecycle import returning

        names = ", ".join(owner.vm for owner in journal.cut_short(returning.where()))
    except (ClienthvError, OSError):
        return  # whoever needs the journal tells of it
    if names:
        terminal.say(f"the start of VM {names} was cut short; clienthv recover finishes or undoes it")


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: clienthv inspect, then clienthv plan. Exit codes: docs/reference/errors.md.",
)
@click.option(
    "--connect",
    metavar="URI",
    shell_complete=completing.uri,
    help="The libvirt connection to use, for example qemu:///system.",
)
@manners.options
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="clienthv")
@click.pass_context
def cli(ctx: click.Context, /, connect: str | None, debug: bool, **_: object) -> None:
    """Turn this PC into a client hypervisor: the best way to give each device to a desktop VM, with reasons."""
    ctx.obj = connect


def main() -> None:
    """The console script. Interrupts and signals that end it unwind first: nothing half made stays."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as __main__ left it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _end)
    if "_CLIENTHV_COMPLETE" in os.environ:
        from clienthv.cli import shells

        shells.register()
    try:
        sys.exit(cli.main(prog_name="clienthv", standalone_mode=False))
    except click.exceptions.Abort:
        click.echo("Interrupted", err=True)
        sys.exit(130)
    except click.ClickException as e:
        e.show()
        if isinstance(e, click.NoSuchOption) and e.option_name in {"--connect", "--debug"}:
            click.echo(f"Hint: {e.option_name} stands before the command: clienthv {e.option_name} … COMMAND", err=True)
        sys.exit(e.exit_code)
    except OSError as e:
        click.echo(f"Error: cannot write the output: {e.strerror}", err=True)
        sys.exit(HostError.code)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)
