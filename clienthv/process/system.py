"""Programs that change how a PC is set up: its boot menu, its packages, the groups of an account."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from clienthv.errors import HostError
from clienthv.process.running import NOTHING, run

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MENU_SECONDS: Final = 300
PACKAGE_SECONDS: Final = 1800
ACCOUNT_SECONDS: Final = 60

Packager = Literal["dpkg", "rpm", "pacman"]


class _Programs(NamedTuple):
    """How one kind of packages is installed, removed and listed.

    Removing is left to the program that refuses when something else needs the package.
    """

    install: tuple[str, ...]
    remove: tuple[str, ...]
    known: tuple[str, ...]


_PACKAGERS: Final[dict[Packager, _Programs]] = {
    "dpkg": _Programs(
        ("apt-get", "install", "--yes", "--no-install-recommends", "--"),
        ("dpkg", "--purge", "--"),
        ("dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n"),
    ),
    "rpm": _Programs(
        ("dnf", "install", "--assumeyes", "--setopt=install_weak_deps=False", "--"),
        ("rpm", "--erase", "--"),
        ("rpm", "--query", "--all", "--queryformat", "installed %{NAME}\n"),
    ),
    "pacman": _Programs(
        ("pacman", "--sync", "--noconfirm", "--needed", "--"),
        ("pacman", "--remove", "--noconfirm", "--"),
        ("pacman", "--query", "--quiet"),
    ),
}


def make_boot_menu(command: str) -> str:
    """Run update-grub or grub-mkconfig; what it said. Raises HostError.

    It writes the menu in the language that it is run in (grub-mkconfig, 00_header): so in the person's, as by hand.
    """
    own = {name: value for name, value in os.environ.items() if name.startswith("LC_") or name in ("LANG", "LANGUAGE")}
    return _changed(command.split(), "make the boot menu", MENU_SECONDS, more={"LC_ALL": "", **own})


def known_packages(packager: Packager) -> frozenset[str]:
    """The packages that are installed, or of which something is left. Raises HostError."""
    return frozenset(words[-1] for words in _listed(packager) if words[0] != "not-installed")


def installed_packages(packager: Packager) -> frozenset[str]:
    """The packages that are installed and set up. Raises HostError."""
    return frozenset(words[-1] for words in _listed(packager) if len(words) == 1 or words[0] == "installed")


def _listed(packager: Packager) -> list[list[str]]:
    """Every package that the program lists, its state (man 1 dpkg-query, db:Status-Status) before its name."""
    said = _changed(list(_PACKAGERS[packager].known), "list the packages", ACCOUNT_SECONDS, both=False)
    return [words for line in said.splitlines() if (words := line.split())]


def install_packages(packager: Packager, names: Sequence[str]) -> str:
    """Install packages with what they need; what the program said. Raises HostError."""
    return _changed([*_PACKAGERS[packager].install, *names], f"install {' '.join(names)}", PACKAGE_SECONDS)


def remove_packages(packager: Packager, names: Sequence[str]) -> str:
    """Remove packages that nothing else needs, with their settings; what the program said. Raises HostError."""
    return _changed([*_PACKAGERS[packager].remove, *names], f"remove {' '.join(names)}", PACKAGE_SECONDS)


def join_group(account: str, group: str) -> str:
    """Make an account a member of a group (man 8 usermod). Raises HostError."""
    return _changed(["usermod", "--append", "--groups", group, "--", account], "join a group", ACCOUNT_SECONDS)


def leave_group(account: str, group: str) -> str:
    """Take an account out of a group (man 1 gpasswd). Raises HostError."""
    return _changed(["gpasswd", "--delete", account, group], "leave a group", ACCOUNT_SECONDS)


def _changed(
    command: list[str], what: str, seconds: float, *, both: bool = True, more: Mapping[str, str] = NOTHING
) -> str:
    program = shutil.which(command[0], path=PATH)
    if program is None:
        msg = f"cannot {what}: {command[0]} is not installed"
        raise HostError(msg, hint="make the change by hand, as clienthv doctor describes it")
    try:
        code, out, told = run(
            [program, *command[1:]], seconds, more={"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", **more}
        )
    except TimeoutError as e:
        msg = f"cannot {what}: {command[0]} did not finish within {seconds:.0f} seconds"
        raise HostError(msg, hint=f"look at what it waits for: {' '.join(command)}") from e
    if code != 0:
        words = (told.strip() or out.strip()).splitlines()
        msg = f"cannot {what}: {words[-1] if words else f'{command[0]} ended with {code}'}"
        raise HostError(msg, hint=f"run it by hand to see more: {' '.join(command)}", detail=out + told)
    return out + told if both else out
