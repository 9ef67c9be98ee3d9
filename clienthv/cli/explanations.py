"""``clienthv explain``."""

from __future__ import annotations

import click

from clienthv import api
from clienthv.cli import completing
from clienthv.cli.common import host_option, show, the_host
from clienthv.cli.plans import of_a_vm
from clienthv.model import explanation as explanation_model


@click.command("explain", epilog="Example: clienthv explain performance gpu")
@click.argument("name", metavar="VM|PROFILE", shell_complete=completing.vm_or_profile)
@click.argument("kind", shell_complete=completing.kind_or_device)
@host_option
@click.option("--new", is_flag=True, help="Explain the profile, even if there is a VM of that name.")
@click.option("--json", "as_json", is_flag=True, help="Print the explanation document.")
@click.pass_obj
def explain_command(connect: str | None, name: str, kind: str, host_file: str | None, new: bool, as_json: bool) -> None:
    """Tell how a device of a VM comes about: each rung of its ladder, and in which files of the PC the reasons stand.

    KIND is cpu, firmware, gpu, nic, disk, audio, usb, usb-device, input, tpm or display; or a device of this PC, by
    its PCI address or as a USB device. Told are what was taken, what speaks against each better rung and what would
    lift it, what it falls to, and what would tie it to this PC less. Changes nothing.
    """
    foreseen = None if new or host_file is not None else of_a_vm(connect, name)
    if foreseen is not None:
        asked = foreseen.asked
        told = api.explain(foreseen.host, asked.profile, kind, kept=asked.kept, vm=name)
    else:
        told = api.explain(the_host(host_file, connect), api.load_profile(name), kind)
    if as_json:
        click.echo(explanation_model.encode(told), nl=False)
        return
    from clienthv.report import explanations

    show(explanations.lines(told))
