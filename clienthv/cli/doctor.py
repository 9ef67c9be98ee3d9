"""``clienthv doctor``."""

from __future__ import annotations

import click

from clienthv import api
from clienthv.cli.common import host_option, show, the_host
from clienthv.model import advice


@click.command("doctor", epilog="Example: clienthv doctor windows-gaming")
@click.argument("profile", nargs=-1, metavar="[PROFILE]...")
@host_option
@click.option("--json", "as_json", is_flag=True, help="Print the doctor document.")
@click.pass_obj
def doctor_command(connect: str | None, profile: tuple[str, ...], host_file: str | None, as_json: bool) -> None:
    """Show what this PC can do, what holds it back, and the smallest change for each.

    Without PROFILE, every profile that clienthv profiles lists is planned for. What a change would unlock is found by
    planning for the PC as it would be then.
    """
    diagnosis = api.doctor(the_host(host_file, connect), profile)
    if as_json:
        click.echo(advice.encode(diagnosis), nl=False)
        return
    from clienthv.report import doctor

    show(doctor.lines(diagnosis))
