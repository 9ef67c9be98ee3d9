"""``clienthv inspect``."""

from __future__ import annotations

import click

from clienthv.cli import completing
from clienthv.cli.common import note, progress, show, write_file


@click.command("inspect", epilog="Example: clienthv inspect --save this-pc.json")
@click.option("--json", "as_json", is_flag=True, help="Print the host document instead of the summary.")
@click.option("--save", metavar="FILE", shell_complete=completing.file, help="Write the host document to FILE.")
@click.option("--keep-names", is_flag=True, help="Leave the document as read: host name, mount points, parameters.")
@click.pass_obj
def inspect_command(connect: str | None, as_json: bool, save: str | None, keep_names: bool) -> None:
    """Show what this PC is: processor, IOMMU, devices, what the host itself needs, and the software.

    The host document carries no serial numbers, MAC addresses, UUIDs or host name. It can be given to
    clienthv plan --host on any PC.
    """
    from clienthv import inspect
    from clienthv.lifecycle import live
    from clienthv.model import host as host_model
    from clienthv.report import hosts

    with progress("reading this PC"):
        host, choice = live.read_host_anyway(connect, note, keep_names=keep_names)
    shown = host if keep_names else inspect.anonymise(host)
    if save is not None:
        write_file(save, host_model.encode(shown))
        note(f"wrote {save}")
    if as_json:
        click.echo(host_model.encode(shown), nl=False)
    elif save is None:
        show(hosts.lines(host))
        if choice is not None:
            note(f"connection: {choice.uri} ({choice.reason})")
