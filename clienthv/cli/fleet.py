"""``clienthv fleet``."""

from __future__ import annotations

import click

from clienthv import api
from clienthv.cli import completing
from clienthv.cli.common import show
from clienthv.model import fleet as fleet_model


@click.command("fleet", epilog="Example: clienthv fleet pcs/*.json")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completing.file)
@click.option("--json", "as_json", is_flag=True, help="Print the fleet document.")
def fleet_command(files: tuple[str, ...], as_json: bool) -> None:
    """Show which level of x86-64 each of these PCs has, and the highest that all share.

    Each FILE is a host document (clienthv inspect --save). A guest with model = "x86-64-vN" in [devices.cpu] sees the
    same processor on every PC of that level or a higher one.
    """
    fleet = fleet_model.of([api.load_host(file) for file in files], files)
    if as_json:
        click.echo(fleet_model.encode(fleet), nl=False)
        return
    from clienthv.report import fleet as report

    show(report.lines(fleet))
