"""``clienthv export``, ``clienthv import`` and ``clienthv migrate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from clienthv import places
from clienthv.cli import completing
from clienthv.cli.common import note, open_connection, progress, show
from clienthv.cli.progress import moved
from clienthv.cli.text import visible
from clienthv.errors import DiskError, UsageError
from clienthv.lifecycle import checking, exporting, importing, migrating, targets
from clienthv.model.host import Host

_MIB = 1 << 20


@click.command("export", epilog="Example: clienthv export desk -o desk.clienthv")
@click.argument("name", shell_complete=completing.vm)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    shell_complete=completing.file,
    help="The bundle to write; - for standard output.",
)
@click.pass_obj
def export_command(connect: str | None, name: str, output: str) -> None:
    """Write a VM that is off into one file: image, profile, plan, UEFI variables, TPM state, checksums.

    clienthv import makes a VM of it on another PC. The VM stays here.
    """
    with open_connection(connect) as connection, moved(f"exporting {name}") as told:
        if output == "-":
            if sys.stdout.isatty():
                msg = "a bundle is no text for a terminal"
                raise UsageError(msg, hint="give -o FILE, or a pipe")
            done = exporting.to_stream(connection, name, sys.stdout.buffer, told)
        else:
            done = exporting.to_file(connection, name, places.expanded(output), told)
    for sentence in done.left:
        note(visible(sentence))
    if output != "-":
        size = places.expanded(output).stat().st_size
        click.echo(f"wrote {output}: {size / _MIB:.1f} MiB" if size >= _MIB else f"wrote {output}: {size >> 10} KiB")


@click.command("import", epilog="Example: clienthv import desk.clienthv --name desk2")
@click.argument("bundle", metavar="FILE", shell_complete=completing.file)
@click.option("--name", help="Another name for the VM.")
@click.option("--disk", metavar="PATH", shell_complete=completing.file, help="Another place for its disk image.")
@click.pass_obj
def import_command(connect: str | None, bundle: str, name: str | None, disk: str | None) -> None:
    """Make a VM of a bundle: verified, planned anew for this PC, and not started. - is standard input.

    Nothing is overwritten. What changed since it was exported is said, and what this PC has no use for is kept.
    """
    with open_connection(connect) as connection, _stream(bundle) as stream, moved(f"importing {bundle}") as told:
        made = importing.take_in(connection, stream, importing.Request(name, disk), note, told)
    for sentence in (*made.changes, *made.kept):
        note(visible(sentence))
    from clienthv.report import plans

    show([*plans.lines(made.plan), "", f"VM {made.name} is defined: clienthv up {made.name} starts it"])


@contextmanager
def _stream(bundle: str) -> Iterator[BinaryIO]:
    if bundle == "-":
        yield sys.stdin.buffer
        return
    path = places.expanded(bundle)
    try:
        stream = path.open("rb")
    except OSError as e:
        msg = f"cannot read {bundle}: {e.strerror}"
        raise DiskError(msg, hint="give a file that clienthv export wrote") from e
    with stream:
        yield stream


@click.command("migrate", epilog="Example: clienthv migrate desk --to qemu+ssh://root@other/system --dry-run")
@click.argument("name", shell_complete=completing.vm)
@click.option(
    "--to",
    "uri",
    metavar="URI",
    required=True,
    shell_complete=completing.uri,
    help="The libvirt connection of the PC to move it to.",
)
@click.option("--dry-run", is_flag=True, help="Check alone, as migrate-check does.")
@click.pass_obj
def migrate_command(connect: str | None, name: str, uri: str, dry_run: bool) -> None:
    """Move a VM: while it runs where the check allows that, else, when it is off, as a bundle.

    Through ssh a bundle is taken by the clienthv of the other PC. A VM that was copied stays here too.
    """
    from clienthv import portability
    from clienthv.report import portability as report

    if not targets.is_uri(uri):
        msg = f"{uri} is no libvirt connection"
        raise UsageError(msg, hint="for example qemu+ssh://root@other/system; migrate-check takes documents as well")
    with progress(f"comparing {uri}"):
        subject = checking.subject_of(name, checking.Looking(connect, None, "balanced", inspect=False), note)
        target = targets.read(uri, _no_document, subject, connect, note)
        check = portability.check(subject, target)
    show(report.lines(check, name))
    if dry_run:
        return
    with open_connection(connect) as connection:
        domain = connection.domain(name)
        migrating.must_not_sleep(domain)
        running = domain.is_active()
        migrating.refuse_blocked(name, check, running=running)
        with moved(f"moving {name}") as told:
            done = (
                migrating.live_move(connection, name, target, note, lambda left, total: told(total - left, total))
                if running
                else migrating.cold_move(connection, name, uri, note, told)
            )
    show(["", *done])


def _no_document(name: str) -> Host:
    raise AssertionError(name)
