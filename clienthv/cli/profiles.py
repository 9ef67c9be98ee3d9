"""``clienthv profiles``."""

from __future__ import annotations

import click

from clienthv import profiles
from clienthv.cli.common import show
from clienthv.errors import ProfileError
from clienthv.model import profile as profile_model


@click.group("profiles", invoke_without_command=True, epilog="Example: clienthv profiles show balanced")
@click.pass_context
def profiles_command(ctx: click.Context) -> None:
    """List the profiles that can be used, with where they come from; or show and check one."""
    if ctx.invoked_subcommand is not None:
        return
    for folder, path in profiles.listing():
        try:
            description = str(profile_model.toml(profiles.read(path)).get("description", ""))
        except ProfileError as e:
            description = f"cannot be used: {e.message}"
        show([f"{path.stem:<16}{folder.label:<10}{description}", f"{'':<26}{path}"])


@profiles_command.command("show", epilog="Example: clienthv profiles show performance")
@click.argument("name")
def show_command(name: str) -> None:
    """Print a profile as it is written."""
    click.echo(profiles.find(name).text, nl=False)


@profiles_command.command("check", epilog="Example: clienthv profiles check my-desktop.toml")
@click.argument("file")
def check_command(file: str) -> None:
    """Say whether a profile's file can be used."""
    profile, chain = profiles.load(file if profiles.is_path(file) else f"./{file}")
    extends = "".join(f", which extends {link.name}" for link in chain[1:])
    click.echo(f"{file}: good (profile {profile.name}{extends})")
