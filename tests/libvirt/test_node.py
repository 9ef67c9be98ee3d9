"""This PC by its libvirt's word is this PC as we read it ourselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from clienthv.model.agreement import disagreements
from clienthv.model.host import Host

if TYPE_CHECKING:
    from conftest import Machine

pytestmark = pytest.mark.libvirt

SCRIPT = """
import sys
import msgspec
from clienthv import hypervisor, inspect
from clienthv.hypervisor import Choice, Connection

with Connection(Choice(sys.argv[1], "the test's"), elsewhere=True) as connection:
    node = hypervisor.node_of(connection, "there")
print(msgspec.json.encode({"host": node.host, "pools": node.pools, "here": inspect.read()}).decode())
"""


class Told:
    """What libvirt told, and what we read."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.host = msgspec.convert(document["host"], Host)
        self.here = msgspec.convert(document["here"], Host)
        self.pools = document["pools"]


def told_by(machine: Machine) -> Told:
    done = machine.python("-c", SCRIPT, machine.uri)
    assert done.returncode == 0, done.stderr
    return Told(json.loads(done.stdout))


def test_libvirt_and_we_agree_on_this_pc(machine: Machine) -> None:
    told = told_by(machine)
    assert list(disagreements(told.host, told.here)) == []
    assert told.host.memory.total_mib == told.here.memory.total_mib is not None
    assert told.host.cpu.threads == told.here.cpu.threads is not None
    assert told.host.cpu.flags, "libvirt can name the features of its model"
    assert told.host.kvm.usable is not None
    assert told.host.stack is not None
    assert told.host.stack.capabilities is not None
    assert told.host.source == "libvirt"
    assert told.host.roles_read == ()


def test_a_session_tells_of_every_pci_function_where_it_has_the_driver(session: Machine) -> None:
    told = told_by(session)
    listed = session.python("-c", "import libvirt; print(len(libvirt.open('qemu:///session').listAllDevices(2)))")
    if listed.returncode != 0:
        assert told.host.pci == ()
        assert told.host.usb is None
        assert any("tells of no devices" in gap and "driver-nodedev" in gap for gap in told.host.unknown)
        pytest.skip("this libvirt has no driver for node devices")
    assert len(told.host.pci) == int(listed.stdout) == len(told.here.pci)
    assert not any("tells of no devices" in gap or "not understood" in gap for gap in told.host.unknown)


def test_the_embedded_driver_tells_of_no_devices_and_says_so(embedded: Machine) -> None:
    told = told_by(embedded)
    assert told.host.pci == ()
    assert told.host.usb is None
    assert told.host.iommu.groups is None
    assert told.pools is None
    assert not told.host.network, "bridges are unknown, and not none"
    assert any("tells of no devices, neither PCI nor USB" in gap for gap in told.host.unknown)


def test_pools_are_told_with_what_is_free(session: Machine) -> None:
    folder = session.home / "run/images"
    session.virsh("pool-define-as", "images", "dir", "--target", str(folder))
    session.virsh("pool-build", "images")
    session.virsh("pool-start", "images")
    try:
        pools = told_by(session).pools
    finally:
        session.virsh("pool-destroy", "images")
        session.virsh("pool-undefine", "images")
    assert [(p["name"], p["type"], p["path"], p["active"]) for p in pools] == [("images", "dir", str(folder), True)]
    assert pools[0]["available_bytes"] > 0
