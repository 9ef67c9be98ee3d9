"""``clienthv new``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from clienthv import datafiles, drafts, places, profiles
from clienthv.cli.asking import Asker
from clienthv.cli.common import host_option, show, the_host, write_file
from clienthv.cli.interview import Given, Interview, Source
from clienthv.errors import HostError, ProfileError, UsageError
from clienthv.model import profile as profile_model
from clienthv.model.roles import RoleName
from clienthv.report.style import Line, Part, Role


@click.command("new", epilog="Example: clienthv new desk --os win11 --cdrom win11.iso --gpu 0000:01:00.0 --yes")
@click.argument("name", required=False)
@click.option("--disk", metavar="IMAGE", help='The image it runs from, which is looked into; "none" for none.')
@click.option("--cdrom", metavar="ISO", help="The ISO image that it is installed from.")
@click.option("--new-disk", metavar="SIZE", help='The size of the disk to install on, for example "40 GiB".')
@click.option("--os", metavar="ID", help="The operating system: an id of osinfo-db, linux or unknown.")
@click.option("--virtio/--no-virtio", default=None, help="Whether a Windows has virtio drivers installed.")
@click.option("--portability", type=click.Choice(drafts.PORTABILITIES), help="How portable the VM shall be.")
@click.option("--gpu", metavar="ADDRESS|virtual|auto", help="The graphics card it gets; auto looks for one.")
@click.option("--allow", multiple=True, type=click.Choice([role.value for role in RoleName]), metavar="ROLE",
              help="Let the host lose what it uses that graphics card for.")  # fmt: skip
@click.option("--vcpus", type=click.IntRange(1, 1024), help="How many virtual processors.")
@click.option("--memory", metavar="SIZE", help='How much memory, for example "8 GiB".')
@click.option("--usb", multiple=True, metavar="DEVICE",
              help='A USB device to hand over: 046d:c52b, 046d:c52b@1-2, class:webcam; "none".')  # fmt: skip
@host_option
@click.option("-o", "--output", metavar="FILE", help="Where to write it instead; - for standard output.")
@click.option("--force", is_flag=True, help="Overwrite a profile that is there.")
@click.option("--yes", is_flag=True, help="Ask nothing: what no flag answers takes its default.")
@click.option("--no-inspect", is_flag=True, help="Do not look inside the image.")
@click.pass_obj
def new_command(
    connect: str | None, /, host_file: str | None, output: str | None, force: bool, yes: bool, no_inspect: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Make a profile by answering a few questions, and see what each answer means on this PC.

    Every question has a flag, and is not asked when that is given. The profile is written with a comment on each
    line, to ~/.config/clienthv/profiles/NAME.toml; a file that is there is not overwritten. Changes nothing else.
    """
    host = the_host(host_file, connect)
    answers, target = Given(**given, inspect=not no_inspect), Target(output, force)
    if answers.name is not None:
        target.path_for(answers.name)
    source, draft = Interview(host, Asker.at_hand(defaults=yes), answers).hold(target.path_for)
    text = drafts.text(draft)
    if output == "-":
        click.echo(text, nl=False)
        return
    path = target.path_for(draft.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(str(path), text.encode())
    profiles.load(str(path))
    called = draft.name if output is None else f"{'' if '/' in output else './'}{output}"
    show([f"wrote {path}", "", "next:", *_next(called, draft.name, source, host_file)])


class Target(NamedTuple):
    """Where the profile goes, and whether a file there may be overwritten."""

    output: str | None
    force: bool

    def path_for(self, name: str) -> Path:
        """The file for a name that can be used. Raises ProfileError, UsageError."""
        if not profile_model.PROFILE_NAME.match(name):
            msg = f"{name!r} cannot be a profile's name"
            raise ProfileError(msg, hint="names have lower-case letters, digits and dashes")
        if self.output == "-":
            return Path("-")
        if self.output is not None:
            path = places.expanded(self.output)
        else:
            label, folder = datafiles.folders("profiles")[0]
            if label != "user":
                msg = "this account has no home folder"
                raise HostError(msg, hint="give -o FILE, or set HOME or XDG_CONFIG_HOME")
            path = folder / f"{name}.toml"
            if (datafiles.packaged("profiles") / path.name).exists() and not self.force:
                msg = f"{name} is a profile that comes with clienthv, which one of that name would hide"
                raise UsageError(msg, hint="take another name, or --force")
        if (path.is_symlink() or path.exists()) and not self.force:
            msg = f"{path} is there already and is not overwritten"
            raise UsageError(msg, hint="take another name, or --force")
        return path


def _next(called: str, name: str, source: Source, host_file: str | None) -> Iterator[Line]:
    """The commands that go on from here."""
    words = ["clienthv", "up", called, "--name", name]
    for option, value in (("--disk", source.disk), ("--new-disk", source.new_disk), ("--cdrom", source.cdrom)):
        words += [option, value] if value is not None else []
    there = [] if host_file is None else ["--host", host_file]
    for command in (["clienthv", "plan", called, "--explain", *there], [*words, "--wait"]):
        yield Line("  ", Part(shlex.join(command), Role.COMMAND))
