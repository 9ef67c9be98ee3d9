"""What a guest's network card is plugged into, for real, in a network namespace of our own."""

from __future__ import annotations

import json
import subprocess
import time
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Machine

pytestmark = pytest.mark.libvirt


def profile(machine: Machine, name: str, *rungs: str) -> None:
    folder = machine.home / ".config/clienthv/profiles"
    folder.mkdir(parents=True, exist_ok=True)
    text = f'schema = 1\nextends = "demo"\n[devices.nic]\nnetwork = {json.dumps(rungs)}\n'
    (folder / f"{name}.toml").write_text(text)


def up(machine: Machine, name: str, *arguments: str) -> ET.Element:
    done = machine.run("up", *(arguments or (name,)))
    assert done.returncode == 0, done.stderr
    found = ET.fromstring(machine.virsh("dumpxml", name)).find("devices/interface")  # noqa: S314 - libvirt's own output
    assert found is not None
    return found


def test_a_guest_is_plugged_into_the_bridge_and_taken_out_again(apart: Machine) -> None:
    profile(apart, "bridged", "bridge:br7", "user")
    interface = up(apart, "bridged")
    assert interface.get("type") == "bridge"
    assert interface.find("source").get("bridge") == "br7"  # type: ignore[union-attr]
    ports = [*apart._command[:-1], "ls", "/sys/class/net/br7/brif"]
    tap = interface.find("target").get("dev")  # type: ignore[union-attr]
    assert subprocess.run(ports, capture_output=True, text=True, check=True).stdout.split() == [tap]
    again = apart.run("up", "bridged")
    assert "running already" in again.stdout, again.stderr
    assert apart.run("down", "bridged", "--force", "--undefine").returncode == 0
    deadline = time.monotonic() + 10
    while subprocess.run(ports, capture_output=True, text=True, check=True).stdout.split():
        assert time.monotonic() < deadline


def test_a_bridge_that_is_not_there_leaves_user_mode_and_the_reason(apart: Machine) -> None:
    profile(apart, "unbridged", "bridge:br8", "network", "macvtap:lan7", "user")
    assert up(apart, "unbridged").get("type") == "user"
    text = apart.run("plan", "unbridged", "--new", "--json").stdout
    assert "no-bridge" in text
    assert "no-network" in text
    assert "no-interface" in text, "a virtual interface is no network card of the PC"
    assert apart.run("down", "unbridged", "--force", "--undefine").returncode == 0


def slot(interface: ET.Element) -> dict[str, str]:
    address = interface.find("address")
    assert address is not None
    return dict(address.attrib)


def test_another_network_leaves_the_guest_its_card(apart: Machine) -> None:
    profile(apart, "moved", "user")
    profile(apart, "rewired", "bridge", "bridge:br7", "user")
    before = up(apart, "moved")
    assert before.get("type") == "user"
    assert apart.run("down", "moved", "--force").returncode == 0
    after = up(apart, "moved", "rewired", "--name", "moved")
    assert after.get("type") == "bridge"
    assert after.find("mac").attrib == before.find("mac").attrib  # type: ignore[union-attr]
    assert slot(after) == slot(before)
    assert apart.run("down", "moved", "--force").returncode == 0
    assert up(apart, "moved").get("type") == "bridge", "what libvirt filled in is no change of somebody else's"
    assert apart.run("down", "moved", "--force", "--undefine").returncode == 0
