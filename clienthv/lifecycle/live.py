"""This PC as it is now: its hardware, and the libvirt that can be used."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

import msgspec

from clienthv import hypervisor, inspect, places
from clienthv.errors import ClienthvError
from clienthv.hypervisor import Choice, Connection
from clienthv.model.host import Host, Stack

_log = logging.getLogger(__name__)
Say = Callable[[str], None]
"""Tells the person at the terminal something, one line at a time."""


def choose(connect: str | None) -> Choice:
    """The connection to use: by ``--connect``, LIBVIRT_DEFAULT_URI or what answers. Raises HostError."""
    choice = hypervisor.choose(
        connect,
        os.environ.get("LIBVIRT_DEFAULT_URI"),
        root_user=places.is_root(),
        embed_root=places.embed_root(),
    )
    _log.info("connection: %s (%s)", choice.uri, choice.reason)
    return choice


def read_host(connection: Connection, root: str = "/", but: str | None = None) -> Host:
    """This PC with what an open connection offers. Raises HostError when the connection cannot say.

    ``but`` is the VM that is planned for: what it has itself is in nobody's way.
    """
    host = _logged(time.monotonic(), inspect.read(root))
    return without(msgspec.structs.replace(host, stack=_stack(connection, host)), but)


def _logged(began: float, host: Host) -> Host:
    """A host that was read since then."""
    count = f"{len(host.pci)} PCI functions, {'unknown' if host.usb is None else len(host.usb)} USB devices"
    _log.info("read udev, /sys and /proc: %s (%.2f s)", count, time.monotonic() - began)
    for gap in host.unknown:
        _log.info("unknown: %s", gap)
    return host


def without(host: Host, name: str | None) -> Host:
    """A host without what one of its VMs has."""
    stack, own = host.stack, next((vm for vm in host.vms if vm.name == name), None)
    if stack is None or own is None:
        return host
    left = tuple(a for a in stack.guest_functions or () if a not in own.functions)
    others = tuple(vm for vm in host.vms if vm is not own)
    return msgspec.structs.replace(host, stack=msgspec.structs.replace(stack, vms=others, guest_functions=left))


def read_host_anyway(connect: str | None, say: Say, *, keep_names: bool = False) -> tuple[Host, Choice | None]:
    """This PC, with what libvirt offers where one can be asked, and the connection that was asked.

    A missing or refusing libvirt is a fact of the stack, not an error.
    """
    host = _logged(time.monotonic(), inspect.read(keep_names=keep_names))
    try:
        choice = choose(connect)
        with Connection(choice, waiting=say) as connection:
            stack = _stack(connection, host)
    except ClienthvError as e:
        return msgspec.structs.replace(host, stack=Stack(problem=e.message)), None
    return msgspec.structs.replace(host, stack=stack), choice


def _stack(connection: Connection, host: Host) -> Stack:
    privileged = places.is_root() or connection.uri.startswith("qemu:///system")
    return connection.stack(kvm=host.kvm.usable is True, privileged=privileged)
