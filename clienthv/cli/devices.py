"""``clienthv devices``."""

from __future__ import annotations

import click

from clienthv import api
from clienthv.cli.common import host_option, show, the_host
from clienthv.model import devices as devices_model


@click.command("devices", epilog="Example: clienthv devices --host their-pc.json")
@host_option
@click.option("--json", "as_json", is_flag=True, help="Print the devices document.")
@click.pass_obj
def devices_command(connect: str | None, host_file: str | None, as_json: bool) -> None:
    """Show which PCI devices a guest could get as they are now, with what speaks against the others.

    Every PCI function but bridges is listed: yes, yes with other functions that must go along, or no with each reason
    and what would lift it. Changes nothing.
    """
    devices = api.devices(the_host(host_file, connect))
    if as_json:
        click.echo(devices_model.encode(devices), nl=False)
        return
    from clienthv.report import devices as report

    show(report.lines(devices))
