"""Keyboards and pointers by udev's links to their event devices."""

from __future__ import annotations

from pathlib import Path

import msgspec

from clienthv.inspect import anonymise, read
from clienthv.model.host import EventDevice, decode, encode

KBD = "platform-i8042-serio-0-event-kbd"
SERIAL = "usb-Acme_Mouse_A1B2C3D4E5-event-mouse"
MOUSE = "pci-0000:00:14.0-usb-0:2:1.0-event-mouse"


def link(root: Path, name: str, event: str) -> None:
    at = root / "dev/input" / name
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(f"../{event}")


def test_each_event_device_is_listed_once_with_all_its_names(tmp_path: Path) -> None:
    usb = tmp_path / "sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/input/input9/event9"
    usb.mkdir(parents=True)
    (tmp_path / "sys/class/input").mkdir(parents=True)
    (tmp_path / "sys/class/input/event9").symlink_to(usb)
    for name, event in (
        (f"by-path/{KBD}", "event3"), (f"by-path/{MOUSE}", "event9"), (f"by-id/{SERIAL}", "event9"),
        ("by-path/pci-0000:00:14.0-usb-0:2:1.0-mouse", "mouse0"), ("by-path/odd name-event-kbd", "event4"),
        ("by-path/elsewhere-event-kbd", "../../etc/passwd"),
    ):  # fmt: skip
        link(tmp_path, name, event)
    host = read(str(tmp_path))
    assert host.events == (
        EventDevice(links=(f"by-path/{MOUSE}", f"by-id/{SERIAL}"), kind="pointer", port="1-2"),
        EventDevice(links=(f"by-path/{KBD}",), kind="keyboard"),
    )
    assert decode(encode(host), "test") == host


def test_a_document_holds_no_name_by_id(tmp_path: Path) -> None:
    link(tmp_path, f"by-path/{MOUSE}", "event9")
    link(tmp_path, f"by-id/{SERIAL}", "event9")
    link(tmp_path, "by-id/usb-Other_Z9Y8X7-event-kbd", "event5")
    clean = anonymise(read(str(tmp_path)))
    assert clean.events == (EventDevice(links=(f"by-path/{MOUSE}",), kind="pointer"),)
    assert b"A1B2C3D4E5" not in encode(clean)
    assert b"Z9Y8X7" not in encode(clean)


def test_a_tree_without_links_says_nothing_of_event_devices(tmp_path: Path) -> None:
    (tmp_path / "dev/input").mkdir(parents=True)
    assert read(str(tmp_path)).events is msgspec.UNSET
