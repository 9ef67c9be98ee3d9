"""``clienthv fleet``."""

from __future__ import annotations

import click

from clienthv import api
from clienthv.cli.common import show


@click.command("fleet", epilog="Example: clienthv fleet pcs/*.json")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def fleet_command(files: tuple[str, ...]) -> None:
    """Show which level of x86-64 each of these PCs has, and the highest that all share.

    Each FILE is a host document (clienthv inspect --save). A guest with model = "x86-64-vN" in [devices.cpu] sees the
    same processor on every PC of that level or a higher one.
    """
    from clienthv.report import fleet

    show(fleet.lines([api.load_host(file) for file in files], files))
