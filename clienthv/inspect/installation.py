"""How the Linux of a PC is set up: distribution, boot loader, and what the account that clienthv works for may do."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import stat
from contextlib import suppress
from typing import Final

import msgspec

from clienthv.inspect.boot_loader import boot_loader_of
from clienthv.inspect.files import Tree
from clienthv.inspect.kvm import DEVICE
from clienthv.model.installation import Account, Distribution, Group, Installation, Word

OS_RELEASE: Final = ("/etc/os-release", "/usr/lib/os-release")
_GROUPS: Final[tuple[Group, ...]] = ("kvm", "libvirt")


def read_installation(tree: Tree) -> Installation | msgspec.UnsetType:
    """The installation; nothing for a tree without /etc."""
    if not tree.exists("/etc"):
        return msgspec.UNSET
    return Installation(
        distribution=_distribution(tree),
        boot_loader=boot_loader_of(tree),
        account=_account(tree) if tree.live else None,
    )


def _distribution(tree: Tree) -> Distribution:
    text = next((text for path in OS_RELEASE if (text := tree.text(path)) is not None), "")
    said: dict[str, str] = {}
    for line in text.split("\n"):
        key, _, value = line.partition("=")
        with suppress(ValueError):  # a quote that does not end
            said[key.strip()] = " ".join(shlex.split(value))
    like = tuple(word for name in said.get("ID_LIKE", "").split() if (word := _word(name)))
    return Distribution(id=_word(said.get("ID", "")), id_like=like, version=_word(said.get("VERSION_ID", "")))


def _word(text: str) -> str | None:
    try:
        return msgspec.convert(text, Word)
    except msgspec.ValidationError:
        return None


def account_name() -> str | None:
    """The account that clienthv works for: who ran sudo, else whose process this is; None for one without a name."""
    asked = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    uid = int(asked) if re.fullmatch("[0-9]{1,9}", asked) else os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def members_of(group: str) -> tuple[str, ...] | None:
    """The accounts that a group names as its members (man 5 group); None where there is no such group."""
    try:
        return tuple(grp.getgrnam(group).gr_mem)
    except KeyError:
        return None


def _account(tree: Tree) -> Account | None:
    name = account_name()
    if name is None:
        return None
    entry = pwd.getpwnam(name)
    members = {group: members_of(group) for group in _GROUPS}
    there = tuple(group for group in _GROUPS if members[group] is not None)
    own = tuple(g for g in there if name in (members[g] or ()) or grp.getgrnam(g).gr_gid == entry.pw_gid)
    return Account(root=entry.pw_uid == 0, groups=own, there=there, kvm_for_group_only=_for_group_only(tree))


def _for_group_only(tree: Tree) -> bool | None:
    """Whether /dev/kvm opens for its group alone: not for all, and for nobody by an access control list."""
    path = tree.path(DEVICE)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a path below the tree's root
        listed = "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return None
    return not mode & stat.S_IWOTH and not listed
