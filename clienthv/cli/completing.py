"""What a shell offers where an argument is typed. Nothing here asks libvirt, starts anything or says what went wrong.

Click finds the argument; the shells' scripts and the words they exchange with it are in ``shells.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from click import Context, Parameter
from click.shell_completion import CompletionItem

from clienthv import datafiles, places

Items = list[CompletionItem]
_URIS: Final = {
    "qemu:///system": "the VMs of this PC",
    "qemu:///session": "your own VMs",
    "qemu+ssh://": "another PC: qemu+ssh://USER@HOST/system",
}
_LIKE_A_PATH: Final = ("/", "./", "../", "~")


def vm(ctx: Context, _: Parameter, incomplete: str) -> Items:
    """The names of VMs."""
    return _beginning(incomplete, _vms(ctx))


def profile(_: Context, __: Parameter, incomplete: str) -> Items:
    """The names of profiles, or a file for what looks like a path."""
    return _file(incomplete) if incomplete.startswith(_LIKE_A_PATH) else _beginning(incomplete, _profiles())


def vm_or_profile(ctx: Context, parameter: Parameter, incomplete: str) -> Items:
    """A VM that is there, or a profile to make one from."""
    return [*vm(ctx, parameter, incomplete), *profile(ctx, parameter, incomplete)]


def file(_: Context, __: Parameter, incomplete: str) -> Items:
    """A file, by the shell's own means."""
    return _file(incomplete)


def vm_or_file(ctx: Context, parameter: Parameter, incomplete: str) -> Items:
    """A VM, or an image, a definition or a bundle."""
    return [*vm(ctx, parameter, incomplete), *_file(incomplete)]


def uri(_: Context, __: Parameter, incomplete: str) -> Items:
    """A libvirt connection."""
    return _beginning(incomplete, iter(_URIS.items()))


def target(_: Context, __: Parameter, incomplete: str) -> Items:
    """Where something is to run: a document, this PC, or a libvirt connection."""
    return [*_beginning(incomplete, iter({"local": "this PC", **_URIS}.items())), *_file(incomplete)]


def local_or_file(_: Context, __: Parameter, incomplete: str) -> Items:
    """A document, or this PC."""
    return [*_beginning(incomplete, iter([("local", "this PC")])), *_file(incomplete)]


def device(_: Context, __: Parameter, incomplete: str) -> Items:
    """A kind of device, or a PCI function or USB device of this PC."""
    return _beginning(incomplete, _devices())


def kind_or_device(_: Context, __: Parameter, incomplete: str) -> Items:
    """Any kind of device that a VM has, or a device of this PC."""
    return _beginning(incomplete, _kinds_and_devices())


def _vms(ctx: Context) -> Iterator[tuple[str, str]]:
    from clienthv.hypervisor import definitions

    connect = ctx.find_root().params.get("connect") or os.environ.get("LIBVIRT_DEFAULT_URI") or None
    yield from ((name, "VM") for name in definitions.names(connect, places.embed_root()))


def _profiles() -> Iterator[tuple[str, str]]:
    """By the folders alone: what a profile says of itself would take reading all of them."""
    from clienthv.model.profile import PROFILE_NAME

    for folder in datafiles.folders("profiles"):
        try:
            found = sorted(path.stem for path in folder.path.glob("*.toml"))
        except OSError:
            continue
        about = "profile" if folder.label == "packaged" else f"{folder.label} profile"
        yield from ((name, about) for name in found if PROFILE_NAME.match(name))


def _devices() -> Iterator[tuple[str, str]]:
    from clienthv.inspect import at_hand
    from clienthv.inspect.files import Tree
    from clienthv.model.plan import HOST_DEVICES, STRATEGIES

    for kind, strategies in STRATEGIES.items():
        if set(strategies) & set(HOST_DEVICES):
            yield kind.value, "one of this kind"
    yield from at_hand.pci(Tree())
    yield from at_hand.usb(Tree())


def _kinds_and_devices() -> Iterator[tuple[str, str]]:
    from clienthv.model.plan import STRATEGIES

    yield from ((kind.value, "kind of device") for kind in STRATEGIES)
    yield from _devices()


def _beginning(incomplete: str, found: Iterator[tuple[str, str]]) -> Items:
    """Those that begin as typed; of two of one name the first."""
    offered: dict[str, str] = {}
    for word, about in found:
        if word.startswith(incomplete):
            offered.setdefault(word, about)
    return [CompletionItem(word, help=about) for word, about in offered.items()]


def _file(incomplete: str) -> Items:
    return [CompletionItem(incomplete, type="file")]
