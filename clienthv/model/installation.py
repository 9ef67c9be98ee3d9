"""The part of a host document that tells how a PC's Linux is set up; None means unknown."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,39}$(?!\n)")]
Group = Literal["kvm", "libvirt"]
# A document may be a stranger's, and people are told to run and edit what stands here.
Regenerate = Literal[
    "", "update-grub", "grub-mkconfig -o /boot/grub/grub.cfg", "grub2-mkconfig -o /boot/grub2/grub.cfg"
]
ParametersFile = Annotated[str, Meta(pattern=r"^/(etc|boot|efi)/[A-Za-z0-9/._+@<>~:-]{1,300}$(?!\n)")]
Parameter = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.,:=/-]{1,200}$(?!\n)")]


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """The distribution as os-release names it (man 5 os-release: ID, ID_LIKE, VERSION_ID)."""

    id: Word | None = None
    id_like: tuple[Word, ...] = ()
    version: Word | None = None


class BootLoader(msgspec.Struct, frozen=True, kw_only=True):
    """What starts the kernel, and where the kernel's parameters are kept.

    ``kind``: grub (its menu is made of /etc/default/grub), grub-bls and systemd-boot (they read entries of the Boot
    Loader Specification), kernelstub, or other. ``files`` are those that hold parameters, ``regenerate`` the command
    that makes the menu of them, "" where none is needed. ``recognised`` is whether clienthv may change parameters
    there, with ``problem`` why not; ``parameters`` are the ones about the IOMMU that stand there for the next start.
    """

    kind: Literal["grub", "grub-bls", "systemd-boot", "kernelstub", "other"]
    files: tuple[ParametersFile, ...] = ()
    regenerate: Regenerate = ""
    recognised: bool = False
    problem: Annotated[str, Meta(max_length=500)] | None = None
    parameters: tuple[Parameter, ...] | None = None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The account that clienthv works for: the one that ran sudo, else the reading one. It is not named.

    ``groups`` are those of kvm and libvirt that it is in by /etc/group, ``there`` those of them that there are.
    ``kvm_for_group_only`` is whether /dev/kvm opens for root and its group alone.
    """

    root: bool
    groups: tuple[Group, ...] | None = None
    there: tuple[Group, ...] | None = None
    kvm_for_group_only: bool | None = None


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """How the Linux of a PC is set up."""

    distribution: Distribution = Distribution()
    boot_loader: BootLoader | None = None
    account: Account | None = None
