"""``clienthv inspect``."""

from __future__ import annotations

import click

from clienthv.cli import completing
from clienthv.cli.common import host_option, note, progress, show, the_host, write_file
from clienthv.errors import UsageError
from clienthv.model.host import Host


@click.command("inspect", epilog="Example: clienthv inspect --save this-pc.json")
@host_option
@click.option("--tree", is_flag=True, help="Show the PCI functions as a tree, with IOMMU groups, drivers and uses.")
@click.option("--json", "as_json", is_flag=True, help="Print the host document instead of the summary.")
@click.option("--save", metavar="FILE", shell_complete=completing.file, help="Write the host document to FILE.")
@click.option("--keep-names", is_flag=True, help="Leave the document as read: host name, mount points, parameters.")
@click.pass_obj
def inspect_command(
    connect: str | None, host_file: str | None, tree: bool, as_json: bool, save: str | None, keep_names: bool
) -> None:
    """Show what this PC is: processor, IOMMU, devices, what the host itself needs, and the software.

    The host document carries no serial numbers, MAC addresses, UUIDs or host name. It can be given to
    clienthv plan --host on any PC. With --host, what a document or a listing of another PC says is shown.
    """
    from clienthv import inspect
    from clienthv.model import host as host_model
    from clienthv.report import hosts, topology

    if tree and as_json:
        msg = "give either --tree or --json, not both"
        raise UsageError(msg, hint="the document has the bridges above each function: pci[].bridge_path")
    host, connection = _read(connect, host_file, keep_names=keep_names)
    shown = host if keep_names else inspect.anonymise(host)
    if save is not None:
        write_file(save, host_model.encode(shown))
        note(f"wrote {save}")
    if as_json:
        click.echo(host_model.encode(shown), nl=False)
    elif save is None or tree:
        show(topology.lines(host) if tree else hosts.lines(host))
        if connection is not None:
            note(connection)


def _read(connect: str | None, host_file: str | None, *, keep_names: bool) -> tuple[Host, str | None]:
    """The PC, and which connection told of its software, where one did."""
    if host_file is not None:
        return the_host(host_file, connect), None
    from clienthv.lifecycle import live

    with progress("reading this PC"):
        host, choice = live.read_host_anyway(connect, note, keep_names=keep_names)
    return host, None if choice is None else f"connection: {choice.uri} ({choice.reason})"
