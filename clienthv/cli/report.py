"""``clienthv report``."""

from __future__ import annotations

import click

from clienthv import api, profiles
from clienthv.cli import completing
from clienthv.cli.common import host_option, the_host, write_file
from clienthv.cli.plans import asked_for, missing_plans, of_a_vm, set_option
from clienthv.model.plans import Member, Plans
from clienthv.model.wish import Wish


@click.command("report", epilog="Example: clienthv report performance balanced -o pc.html")
@click.argument("profile", nargs=-1, metavar="[NAME|PROFILE]...", shell_complete=completing.vm_or_profile)
@host_option
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=completing.file,
    help="Write to this file; without it, to standard output.",
)
@click.option("--svg", "as_svg", is_flag=True, help="Only the picture of the PCI topology, as SVG.")
@set_option
@click.option("--new", is_flag=True, help="Plan the profile, even if there is a VM of that name.")
@click.pass_obj
def report_command(
    connect: str | None, profile: tuple[str, ...], host_file: str | None, output: str | None, as_svg: bool,
    set_file: str | None, new: bool,
) -> None:  # fmt: skip
    """Write one HTML page on this PC and the plans for it: topology, IOMMU groups, who gets what, and why.

    The page needs no network and nothing beside it. PROFILE is a profile's name or the path of a TOML file; without
    one, balanced is used. Several are planned together, as plan does it; with a VM's NAME the page shows what up would
    do with that VM. Changes nothing.
    """
    alone = len(profile) == 1 and set_file is None
    vm = of_a_vm(connect, profile[0]) if alone and host_file is None and not new else None
    asked: tuple[Wish, ...]
    if vm is not None:
        host, asked = vm.host, (Wish(profile[0], vm.asked.profile),)
        planned = Member(name=profile[0], priority=0, plan=vm.plan, problem=None, claims=())
        plans = Plans(host=host.name, vms=(planned,), warnings=())
    else:
        asked = asked_for(set_file, profile or (() if set_file is not None else (profiles.DEFAULT,)))
        host = the_host(host_file, connect)
        plans = api.plan_together(host, asked)
    overview = api.overview(host, plans, asked)
    if as_svg:
        from clienthv.report import svg

        text = svg.alone(overview)
    else:
        from clienthv.report import page

        text = page.page(overview)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, text.encode())
    missing_plans(plans)
