"""``clienthv plan`` and ``clienthv render``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clienthv import api, profiles, sets
from clienthv.cli import completing
from clienthv.cli.common import host_option, note, progress, show, the_host
from clienthv.cli.text import visible
from clienthv.errors import DiskError, PlanError, UsageError
from clienthv.model import plan as plan_model
from clienthv.model import plans as plans_model
from clienthv.model import values
from clienthv.model.plans import Plans
from clienthv.model.wish import Wish

if TYPE_CHECKING:
    from clienthv.lifecycle.foreseeing import Foreseen


set_option = click.option(
    "--set",
    "set_file",
    metavar="FILE",
    shell_complete=completing.file,
    help="Plan the VMs of this TOML file, each with its priority.",
)


@click.command("plan", epilog="Example: clienthv plan performance --explain")
@click.argument("profile", nargs=-1, metavar="[NAME|PROFILE]...", shell_complete=completing.vm_or_profile)
@host_option
@set_option
@click.option("--new", is_flag=True, help="Plan the profile, even if there is a VM of that name.")
@click.option("--explain", is_flag=True, help="Show every rejected strategy with its reason and what would change it.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan document.")
@click.pass_obj
def plan_command(
    connect: str | None, profile: tuple[str, ...], host_file: str | None, set_file: str | None, new: bool,
    explain: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show what every device of a VM would become, and why. Changes nothing.

    PROFILE is a profile's name or the path of a TOML file; without one, balanced is used. Several are planned
    together, as VMs that run at the same time. With a VM's NAME, what up would do with that VM is shown: it keeps
    the strategies that its guest knows while they are possible; and what moved since it last started is said.
    """
    if set_file is not None or len(profile) > 1:
        _plan_together(connect, profile, host_file, set_file, explain=explain, as_json=as_json)
        return
    name = profile[0] if profile else profiles.DEFAULT
    foreseen = None if new or not profile or host_file is not None else of_a_vm(connect, name)
    plan = foreseen.plan if foreseen is not None else api.plan(the_host(host_file, connect), api.load_profile(name))
    if as_json:
        click.echo(plan_model.encode(plan), nl=False)
        return
    from clienthv.report import plans

    show(plans.lines(plan, explain=explain))


def of_a_vm(connect: str | None, name: str) -> Foreseen | None:
    """What up would do with a VM that is there, with a note of what that means; None where none has that name."""
    if profiles.is_path(name):
        return None
    from clienthv.lifecycle import foreseeing

    with progress("asking QEMU what it offers"):
        foreseen = foreseeing.foresee(connect, name, note)
    if foreseen is None:
        return None
    when = "at its next start: it runs now" if foreseen.running else "now"
    note(f"VM {name} is there, and this is what up would do with it {when}; --new plans the profile {name} afresh")
    for sentence in foreseen.changes:
        note(visible(sentence))
    return foreseen


def _plan_together(
    connect: str | None, names: tuple[str, ...], host_file: str | None, set_file: str | None, *, explain: bool,
    as_json: bool,
) -> None:  # fmt: skip
    asked = asked_for(set_file, names)
    plans = api.plan_together(the_host(host_file, connect), asked)
    if as_json:
        click.echo(plans_model.encode(plans), nl=False)
    else:
        from clienthv.report import plans as report

        show(report.together(plans, explain=explain))
    missing_plans(plans)


def asked_for(set_file: str | None, names: tuple[str, ...]) -> tuple[Wish, ...]:
    """The VMs of a set's file, or of these profiles. Raises UsageError for both at once, and what reading them does."""
    if set_file is None:
        return sets.of(names)
    if names:
        msg = "give either profiles or --set, not both"
        raise UsageError(msg, hint="name all profiles in the set's file")
    return sets.load(Path(set_file))


def missing_plans(plans: Plans) -> None:
    """Raise PlanError when a VM has no plan; what could be said of it is shown before."""
    if any(vm.plan is None for vm in plans.vms):
        missing = ", ".join(vm.name for vm in plans.vms if vm.plan is None)
        msg = f"not all of these VMs can run together: {missing}"
        raise PlanError(msg, hint="run fewer of them at a time, or let their profiles fall further")


@click.command("render", epilog="Example: clienthv render portable --host other-pc.json --disk /srv/win.qcow2")
@click.argument("profile", default=profiles.DEFAULT, shell_complete=completing.profile)
@host_option
@click.option("--name", help="The VM's name; without it, the profile's.")
@click.option(
    "--disk", metavar="PATH", shell_complete=completing.file, help="The disk image the domain names; it need not exist."
)
@click.option(
    "--cdrom", metavar="ISO", shell_complete=completing.file, help="The ISO image the domain names; it need not exist."
)
@click.pass_obj
def render_command(
    connect: str | None, profile: str, host_file: str | None, name: str | None, disk: str | None, cdrom: str | None
) -> None:
    """Print the libvirt domain XML that up would define, checked against libvirt's schema."""
    from clienthv import render
    from clienthv.lifecycle import files
    from clienthv.model.profile import Boot
    from clienthv.model.vm import Options, Vm

    wanted, chain = profiles.load(profile)
    vm_name = name or wanted.name
    if not values.is_vm_name(vm_name):
        msg = f"{vm_name!r} cannot be a VM's name"
        raise UsageError(msg, hint="use letters, digits and _ . + -, at most 64, and begin with a letter or digit")
    host = the_host(host_file, connect)
    plan = api.plan(host, wanted)
    boot: files.BootFiles | Boot = wanted.boot
    with contextlib.suppress(DiskError):  # the PC planned for may have what this one lacks
        boot = files.boot_files(wanted.boot)
    options = Options(disk=disk, cdrom=cdrom, kernel=boot.kernel, initrd=boot.initrd,
                      cmdline=boot.cmdline)  # fmt: skip
    click.echo(render.render(Vm(name=vm_name, plan=plan, profile=chain, options=options), host), nl=False)
    if render.schema_path() is None:
        note("not checked: libvirt's schema is not installed (package libvirt-common)")
