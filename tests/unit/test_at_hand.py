"""The devices and VMs that completion offers: read from files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from clienthv.hypervisor import definitions
from clienthv.inspect import at_hand
from clienthv.inspect.files import Tree


def attributes(folder: Path, **texts: str) -> None:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(f"{text}\n")


def test_pci_functions_are_offered_without_bridges_by_address_with_their_names_or_ids(tmp_path: Path) -> None:
    bus = tmp_path / "sys/bus/pci/devices"
    attributes(bus / "0000:01:00.0", vendor="0x10de", device="0xfff0", **{"class": "0x030000"})
    attributes(bus / "0000:00:01.0", vendor="0x8086", device="0x1901", **{"class": "0x060400"})
    attributes(bus / "0000:02:00.0", vendor="0xeeee", device="0x0001", **{"class": "0x010802"})
    attributes(bus / "nonsense", vendor="0x10de", device="0xfff0", **{"class": "0x030000"})
    found = at_hand.pci(Tree(str(tmp_path)))
    assert [device.word for device in found] == ["0000:01:00.0", "0000:02:00.0"]
    assert found[1].name == "eeee:0001"


def test_usb_devices_are_offered_by_ids_once_and_hubs_not(tmp_path: Path) -> None:
    bus = tmp_path / "sys/bus/usb/devices"
    for port in ("1-1", "1-2"):
        attributes(bus / port, idVendor="fffe", idProduct="0001", bDeviceClass="00")
    attributes(bus / "usb1", idVendor="1d6b", idProduct="0002", bDeviceClass="09")
    attributes(bus / "1-1:1.0", bInterfaceClass="03")
    attributes(bus / "1-3", idVendor="no\tid", idProduct="0001", bDeviceClass="00")
    assert [device.word for device in at_hand.usb(Tree(str(tmp_path)))] == ["fffe:0001"]


def test_a_pc_without_either_has_none(tmp_path: Path) -> None:
    assert at_hand.pci(Tree(str(tmp_path))) == at_hand.usb(Tree(str(tmp_path))) == ()


@pytest.fixture
def embed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an embedded driver with a VM that is defined and one that only runs, and a session with another."""
    for file in ("embed/etc/qemu/desk.xml", "embed/run/qemu/live.xml", "config/libvirt/qemu/own.xml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "embed/etc/qemu/qemu.conf").touch()
    (tmp_path / "embed/etc/qemu/two words.xml").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "embed"


def test_the_names_of_vms_are_those_of_the_connection(embed: Path) -> None:
    assert definitions.names(f"qemu:///embed?root={embed}", Path("/nonexistent")) == ("desk", "live")
    assert definitions.names("qemu:///session", embed) == ("own",)
    assert definitions.names("qemu+ssh://far/session", embed) == ()
    assert set(definitions.names(None, embed)) >= {"desk", "live", "own"}
