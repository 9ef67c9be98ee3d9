"""The commands that work on VMs: up, down, list, status, screenshot, console, view."""

from __future__ import annotations

import click

from clienthv import profiles
from clienthv.cli import completing, terminal
from clienthv.cli.common import note, open_connection, progress, show, write_file
from clienthv.cli.text import visible
from clienthv.errors import ClienthvError
from clienthv.lifecycle import keeping, looking, returning, starting, stopping, watching
from clienthv.lifecycle.attempts import Request
from clienthv.lifecycle.files import Wanted
from clienthv.lifecycle.returning import Site
from clienthv.model import vms as vms_model
from clienthv.model.plan import Kind
from clienthv.model.roles import RoleName
from clienthv.model.vms import Vms


@click.command("up", epilog='Example: clienthv up balanced --name desk --new-disk "40 GiB" --cdrom debian.iso --wait')
@click.argument("target", metavar="[NAME|PROFILE]", default=profiles.DEFAULT, shell_complete=completing.vm_or_profile)
@click.option("--name", help="The name of a new VM; without it, the profile's.")
@click.option("--disk", metavar="PATH", shell_complete=completing.file, help="The disk image (qcow2 or raw).")
@click.option("--new-disk", metavar="SIZE", help='Make a new qcow2 image, for example "40 GiB", at --disk or by name.')
@click.option(
    "--cdrom",
    metavar="ISO",
    shell_complete=completing.file,
    help='An ISO image to boot or install from; "" takes the present one out.',
)
@click.option("--kernel", metavar="FILE", shell_complete=completing.file, help="Boot this kernel directly.")
@click.option("--initrd", metavar="FILE", shell_complete=completing.file, help="The initial RAM disk for --kernel.")
@click.option("--cmdline", metavar="TEXT", help="The command line for --kernel.")
@click.option("--redefine", is_flag=True, help="Drop what others changed in the VM's definition.")
@click.option(
    "--upgrade",
    multiple=True,
    metavar="KIND",
    type=click.Choice([*(kind.value for kind in keeping.KEPT_KINDS), "all"]),
    help="Let a VM that is there take a better strategy: gpu, nic, disk, audio, usb, input, tpm or all.",
)
@click.option(
    "--strict", is_flag=True, help="Fail when the VM cannot be started as planned, instead of planning again."
)
@click.option("--wait", is_flag=True, help="Return when the guest is alive: running, and its processor working.")
@click.option("--timeout", type=click.IntRange(1, 86400), default=watching.ALIVE_WITHIN, show_default=True,
              help="Seconds that --wait gives the guest.")  # fmt: skip
@click.pass_obj
def up_command(
    connect: str | None, target: str, name: str | None, disk: str | None, new_disk: str | None, cdrom: str | None,
    kernel: str | None, initrd: str | None, cmdline: str | None, redefine: bool, upgrade: tuple[str, ...],
    strict: bool, wait: bool, timeout: int,
) -> None:  # fmt: skip
    """Plan, define and start a VM.

    With a VM's name, that VM is planned anew from the profile it remembers and started. It keeps the strategies that
    its guest knows while they are possible; a better one is offered, and taken with --upgrade. Otherwise a VM is made
    from the PROFILE, which is balanced when none is given.

    When it cannot be started with one of its devices, that is told and undone, and the VM planned and started again
    without it: on the next strategy of the profile. What a profile requires is never given up.
    """
    from clienthv.report import plans

    files = Wanted(disk, new_disk, cdrom, kernel, initrd, cmdline)
    kinds = keeping.KEPT_KINDS if "all" in upgrade else tuple(map(Kind, upgrade))
    with open_connection(connect) as connection:
        with progress(f"starting {name or target}"):
            started = starting.up(connection, Request(target, name, files, redefine, kinds, strict), note)
        if started.already_running:
            click.echo(f"VM {started.name} is {started.state} already")
        else:
            if started.plan is not None:
                show(plans.lines(started.plan))
            click.echo(f"VM {started.name} is started")
        if wait:
            with progress(f"waiting for {started.name} to come alive", timeout):
                seconds = watching.wait_until_alive(connection.domain(started.name), timeout)
            click.echo(f"VM {started.name} is alive (after {seconds:.1f} s)")


@click.command("down", epilog="Example: clienthv down desk")
@click.argument("name", shell_complete=completing.vm)
@click.option("--force", is_flag=True, help="Pull the plug instead of asking.")
@click.option("--undefine", is_flag=True, help="Forget the VM afterwards. Disk images stay.")
@click.option("--timeout", type=click.IntRange(1, 86400), default=stopping.SHUT_DOWN_WITHIN, show_default=True,
              help="Seconds that the guest gets to shut down.")  # fmt: skip
@click.pass_obj
def down_command(connect: str | None, name: str, force: bool, undefine: bool, timeout: int) -> None:
    """Ask a VM to shut down, wait, undo what it needed of the host, and say what happened."""
    at_most = None if force else timeout
    with open_connection(connect) as connection, progress(f"waiting for {name} to shut down", at_most):
        done = stopping.down(connection, name, stopping.How(force, undefine, timeout), note)
    show(done)


@click.command("attach", epilog="Example: clienthv attach desk 046d:c52b@1-2")
@click.argument("name", shell_complete=completing.vm)
@click.argument("device", metavar="KIND|ADDRESS|USB", shell_complete=completing.device)
@click.option("--allow", multiple=True, type=click.Choice([role.value for role in RoleName]), metavar="ROLE",
              help="Let the host lose what it uses a named device for.")  # fmt: skip
@click.pass_obj
def attach_command(connect: str | None, name: str, device: str, allow: tuple[str, ...]) -> None:
    """Give a running VM a device of this PC until it stops: one of a KIND, a PCI function, or a USB device.

    The rules are those of plan: what the host needs stays. What it changes on the host is undone by detach or down.
    """
    from clienthv.lifecycle import plugging

    what = plugging.Plugged.parse(device)
    with open_connection(connect) as connection, progress(f"attaching {device}"):
        got = plugging.attach(connection, name, what, tuple(map(RoleName, allow)), note)
    along = [f for f in got.functions if f != got.device]
    show([f"VM {name} has {got.device} ({got.backing})" + (f" with {', '.join(along)}" if along else "")])


@click.command("detach", epilog="Example: clienthv detach desk gpu")
@click.argument("name", shell_complete=completing.vm)
@click.argument("device", metavar="KIND|ADDRESS|USB", shell_complete=completing.device)
@click.option("--timeout", type=click.IntRange(1, 86400), default=30, show_default=True,
              help="Seconds that the guest gets to let go of it.")  # fmt: skip
@click.pass_obj
def detach_command(connect: str | None, name: str, device: str, timeout: int) -> None:
    """Take a device of this PC from a running VM, and give it back to the host."""
    from clienthv.lifecycle import plugging

    what = plugging.Plugged.parse(device)
    with open_connection(connect) as connection, progress(f"waiting for {name} to let go of {device}", timeout):
        done = plugging.detach(connection, name, what, timeout, note)
    show(done)


@click.command("recover", epilog="Example: clienthv recover")
def recover_command() -> None:
    """Finish or undo what was cut short, and undo what VMs that have ended left changed on the host.

    A start that was cut short counts as finished where the guest runs, and is undone elsewhere. The connections are
    those that the journal names. With --quiet nothing is said when nothing was undone, for a timer.
    """
    from clienthv.lifecycle import recovering

    quiet = terminal.manner().quiet

    with progress("bringing the host back"):
        done = recovering.recover(note, quiet=quiet)
    if done or not quiet:
        show(done or ["there is nothing to undo"])


@click.command("list", epilog="Example: clienthv list --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def list_command(connect: str | None, as_json: bool) -> None:
    """List the VMs of the connection, with the strategy of each device."""
    from clienthv.report import vms

    with open_connection(connect) as connection:
        rows = tuple(looking.rows(connection, note))
    facts = [vms.facts(*row) for row in rows]
    if as_json:
        click.echo(vms_model.encode(Vms(vms=tuple(facts))), nl=False)
    else:
        show(vms.table(facts))


@click.command("status", epilog="Example: clienthv status desk")
@click.argument("name", shell_complete=completing.vm)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def status_command(connect: str | None, name: str, as_json: bool) -> None:
    """Show one VM: its state and what each of its devices became, and why.

    What a guest that has ended by itself left changed on the host is undone.
    """
    from clienthv.report import plans, vms

    with open_connection(connect) as connection:
        try:
            for sentence in returning.settle(Site(connection, name), note):
                note(visible(sentence))
        except ClienthvError as e:
            note(visible(e.message))  # what cannot be undone yet, or read, does not hide the VM
        row = looking.row(connection, name, note)
    facts = vms.facts(*row, whole=True)
    if as_json:
        click.echo(vms_model.encode(Vms(vms=(facts,))), nl=False)
        return
    show(vms.table([facts]))
    if row.plan is not None:
        show(["", *plans.lines(row.plan)])


@click.command("screenshot", epilog="Example: clienthv screenshot desk -o desk.png")
@click.argument("name", shell_complete=completing.vm)
@click.option(
    "-o", "--output", metavar="FILE", required=True, shell_complete=completing.file, help="Where to write the PNG."
)
@click.option("--settle", type=click.IntRange(1, 86400), metavar="SECONDS",
              help="Wait up to SECONDS until the guest rests: its picture still, its processor idle.")  # fmt: skip
@click.pass_obj
def screenshot_command(connect: str | None, name: str, output: str, settle: int | None) -> None:
    """Write a PNG of a VM's screen."""
    with open_connection(connect) as connection, progress(f"waiting for the screen of {name}", settle):
        if settle is None:
            picture = looking.screenshot(connection, name)
        else:
            picture = looking.settled_screenshot(connection, name, settle)
    write_file(output, picture)
    click.echo(f"wrote {output}")


@click.command("console", epilog="Example: clienthv console desk (leave with Ctrl and ])")
@click.argument("name", shell_complete=completing.vm)
@click.pass_obj
def console_command(connect: str | None, name: str) -> None:
    """Open a VM's serial console."""
    from clienthv import process

    with open_connection(connect) as connection:
        domain = connection.domain(name)
        looking.must_run(domain)
        uri, uuid = connection.uri, domain.uuid
    process.become_console(uri, name, uuid)


@click.command("view", epilog="Example: clienthv view desk")
@click.argument("name", shell_complete=completing.vm)
@click.option("--print", "printed", is_flag=True, help="Print where the screen is, and open nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the view document, and open nothing.")
@click.pass_obj
def view_command(connect: str | None, name: str, printed: bool, as_json: bool) -> None:
    """Open a VM's screen in a viewer, or print its address where no window can be opened.

    A graphics card that the VM has shows its picture on its own monitors: that is said.
    """
    from clienthv import process
    from clienthv.lifecycle import viewing
    from clienthv.model import view as view_model
    from clienthv.report import view as report

    with open_connection(connect, elsewhere=True) as connection:
        where = viewing.where(connection, name)
    if as_json:
        click.echo(view_model.encode(where), nl=False)
        return
    if printed or where.command is None:
        show(report.lines(where))
        return
    for line in report.elsewhere(where):
        note(visible(line))
    process.become_window(where.command)
