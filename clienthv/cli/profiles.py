"""``clienthv profiles``."""

from __future__ import annotations

import click

from clienthv import profiles
from clienthv.cli import completing
from clienthv.cli.common import show
from clienthv.model import profile as profile_model
from clienthv.model import profile_list, values
from clienthv.model.profile_list import Listed, ProfileList

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group("profiles", invoke_without_command=True, epilog="Example: clienthv profiles show balanced")
@_AS_JSON
@click.pass_context
def profiles_command(ctx: click.Context, as_json: bool) -> None:
    """List the profiles that can be used, with where they come from; or show and check one."""
    if ctx.invoked_subcommand is not None:
        return
    listed = tuple(profiles.described())
    if as_json:
        click.echo(profile_list.encode(ProfileList(profiles=listed)), nl=False)
        return
    for one in listed:
        said = one.description if one.problem is None else f"cannot be used: {one.problem}"
        show([f"{one.name:<16}{one.origin:<10}{said}", f"{'':<26}{one.path}"])


@profiles_command.command("show", epilog="Example: clienthv profiles show performance")
@click.argument("name", shell_complete=completing.profile)
@_AS_JSON
def show_command(name: str, as_json: bool) -> None:
    """Print a profile as it is written."""
    if as_json:
        _, (written, *_) = profiles.load(name)
        click.echo(values.as_json(profile_model.toml(written)), nl=False)
        return
    click.echo(profiles.find(name).text, nl=False)


@profiles_command.command("check", epilog="Example: clienthv profiles check my-desktop.toml")
@click.argument("file", shell_complete=completing.file)
@_AS_JSON
def check_command(file: str, as_json: bool) -> None:
    """Say whether a profile's file can be used."""
    profile, chain = profiles.load(file if profiles.is_path(file) else f"./{file}")
    if as_json:
        extended = tuple(link.name for link in chain[1:])
        good = Listed(name=profile.name, origin="file", path=file, description=profile.description, extends=extended)
        click.echo(profile_list.encode(ProfileList(profiles=(good,))), nl=False)
        return
    extends = "".join(f", which extends {link.name}" for link in chain[1:])
    click.echo(f"{file}: good (profile {profile.name}{extends})")
