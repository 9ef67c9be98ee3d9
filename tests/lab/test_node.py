"""What libvirt tells of the lab PC, as it would of a target elsewhere, against what we read of it ourselves."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import msgspec
import pytest

from clienthv.model.agreement import disagreements
from clienthv.model.host import Host

if TYPE_CHECKING:
    from conftest import Pc

pytestmark = [pytest.mark.lab, pytest.mark.parametrize("pc", ["full"], indirect=True, scope="session")]

SRIOV_NIC, GPU = "8086:10c9", "1002:5046"
SCRIPT = """
import msgspec
from clienthv import hypervisor, inspect
from clienthv.hypervisor import Choice, Connection

with Connection(Choice("qemu:///system", "the test's"), elsewhere=True) as connection:
    there = hypervisor.host_of(connection, "there")
print(msgspec.json.encode([there, inspect.read()]).decode())
"""


def told(pc: Pc) -> tuple[Host, Host]:
    """The PC by libvirt's word, and as we read it."""
    there, here = json.loads(pc.ok(shlex.join(["/opt/clienthv/bin/python", "-c", SCRIPT])))
    return msgspec.convert(there, Host), msgspec.convert(here, Host)


def test_libvirt_and_we_agree_on_the_lab_pc(pc: Pc) -> None:
    there, here = told(pc)
    assert list(disagreements(there, here)) == []
    if not there.pci:
        assert any("tells of no devices" in gap for gap in there.unknown)
        pytest.skip("the lab PC's libvirt has no driver for node devices")
    assert there.kvm.usable is True
    assert there.iommu.enabled is True
    card = there.by_address[pc.function(SRIOV_NIC)]
    assert card.sriov is not None
    assert (card.sriov.totalvfs, card.sriov.numvfs) == (7, 0)
    assert there.by_address[pc.function(GPU)].iommu_group == here.by_address[pc.function(GPU)].iommu_group is not None
    assert there.usb is not None
    assert {d.port for d in there.usb} == {d.port for d in here.usb or ()}


def test_a_plan_by_libvirts_word_hands_over_nothing_that_the_host_may_use(pc: Pc) -> None:
    """What is unknown of a target is an objection: no role was read, so no device counts as free."""
    there, _ = told(pc)
    pc.put(msgspec.json.encode(there).decode(), "/tmp/there.json")  # noqa: S108 - in the lab PC
    plan = json.loads(pc.ok("clienthv plan performance --host /tmp/there.json --json"))
    strategies = {decision["kind"]: decision["strategy"] for decision in plan["decisions"]}
    assert strategies["cpu"] == "hardware-virtualization"
    assert strategies["gpu"] != "passthrough"
    assert strategies["nic"] not in {"passthrough", "vf"}
