"""What a virtual network card could be plugged into: bridges, cards, qemu-bridge-helper, passt."""

from __future__ import annotations

import os
import re
import stat
from typing import Final

from clienthv.inspect.files import ATTRIBUTE_LIMIT, Tree
from clienthv.inspect.network import NET, ROUTES, ROUTES6, default_routes
from clienthv.inspect.sriov import is_up
from clienthv.inspect.udev import Device, devices, is_told
from clienthv.model.network import INTERFACE, Bridge, Card, HostNetwork

ACL: Final = "/etc/qemu/bridge.conf"
# Where Debian, Fedora and Arch put it (libvirt, meson.build, "qemu-bridge-helper").
HELPERS: Final = ("/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper")
PASST: Final = ("/usr/bin/passt", "/usr/local/bin/passt", "/bin/passt")
_NAME: Final = re.compile(rf"{INTERFACE}\Z")


def read_host_network(tree: Tree) -> HostNetwork | None:
    """Bridges and cards by sysfs (Documentation/ABI/testing/sysfs-class-net); None where it does not tell."""
    if not is_told(tree, "net"):
        return None
    # A name that no command line should carry is nothing to plug into.
    found = [device for device in devices(tree, "net") if _NAME.match(device.name)]
    return HostNetwork(
        bridges=tuple(_bridge(tree, device) for device in found if tree.exists(f"{device.path}/bridge")),
        cards=tuple(_card(tree, device) for device in found if _is_card(tree, device)),
        helper_allows=_helper_allows(tree),
        passt=_any_there(tree, PASST),
        default_route=_has_default_route(tree),
    )


def _bridge(tree: Tree, device: Device) -> Bridge:
    ports = tree.names(f"{device.path}/brif")
    named = None if ports is None else tuple(port for port in ports if _NAME.match(port))
    return Bridge(name=device.name, ports=named, up=is_up(tree, device.name))


def _is_card(tree: Tree, device: Device) -> bool:
    return "/virtual/" not in device.path and bool(tree.exists(f"{device.path}/device"))


def _card(tree: Tree, device: Device) -> Card:
    here = f"{NET}/{device.name}"
    wireless = [tree.exists(f"{device.path}/{name}") for name in ("wireless", "phy80211")]
    return Card(
        name=device.name,
        up=is_up(tree, device.name),
        wireless=True if any(wireless) else None if None in wireless else False,
        master=tree.target(f"{device.path}/master") or ("" if tree.exists(f"{here}/master") is False else None),
    )


def _has_default_route(tree: Tree) -> bool | None:
    routes, routes6 = tree.lines(ROUTES), tree.lines(ROUTES6)
    if routes is None and routes6 is None:
        return None
    return any(default_routes(routes or (), routes6 or ()))


def _any_there(tree: Tree, paths: tuple[str, ...]) -> bool | None:
    """Whether a program is there; a tree without programs says nothing of it."""
    if not tree.exists("/usr/bin"):
        return None
    found = [tree.exists(path) for path in paths]
    return True if any(found) else None if None in found else False


def _helper_allows(tree: Tree) -> tuple[str, ...] | None:
    """The bridges that qemu-bridge-helper gives to anybody: it makes taps for those who may not themselves.

    It must be set-uid root or have a capability, which Debian leaves to the administrator. Its list
    (QEMU, qemu-bridge-helper.c, parse_acl_file) may include other files, for some users alone: then it is unknown.
    """
    there = [path for path in HELPERS if tree.exists(path)]
    if not there:
        return () if tree.exists("/usr/bin") else None
    if not any(_may_make_taps(tree.path(path)) for path in there):
        return ()
    text = tree.text(ACL, ATTRIBUTE_LIMIT)
    if text is None:
        return () if tree.exists(ACL) is False else None
    rules = [line.split() for line in text.splitlines() if line.split() and not line.lstrip().startswith("#")]
    if any(rule[0] == "include" for rule in rules):
        return None
    denied = {rule[1] for rule in rules if len(rule) == 2 and rule[0] == "deny"}
    allowed = {rule[1] for rule in rules if len(rule) == 2 and rule[0] == "allow"}
    if "all" in denied or (denied and "all" in allowed):
        return () if "all" in denied else None  # what denies wins, and "all but one" is no list
    return tuple(sorted(name for name in allowed - denied if _NAME.match(name)))


def _may_make_taps(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_ISUID) or "security.capability" in os.listxattr(path)  # noqa: PTH116
    except OSError:
        return False
