"""``clienthv completion``."""

from __future__ import annotations

import click

from clienthv.cli.shells import SCRIPTS


@click.command("completion", epilog="Example: clienthv completion bash")
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion_command(shell: str) -> None:
    """Print the script that completes clienthv's commands, VMs, profiles and devices in a shell.

    Its first lines say where to put it. The Debian package has put it there.
    """
    click.echo(SCRIPTS[shell], nl=False)
