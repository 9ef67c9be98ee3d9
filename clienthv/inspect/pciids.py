"""Names of PCI and USB devices: from the udev database, else from the lists of ids that it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

FILES: Final = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids")
USB_FILES: Final = ("/usr/share/misc/usb.ids", "/usr/share/hwdata/usb.ids", "/usr/share/usb.ids")
VENDOR_PROPERTY: Final = "ID_VENDOR_FROM_DATABASE"
DEVICE_PROPERTY: Final = "ID_MODEL_FROM_DATABASE"

Ids = tuple[str, str]
Names = tuple[str | None, str | None]


def look_up(wanted: Iterable[Ids], files: tuple[str, ...] = FILES) -> dict[Ids, Names]:
    """Vendor and device names of (vendor id, device id) pairs; nothing where no list is installed.

    A list's form is told at its own head: a vendor line is ``id  name``, its devices follow with one tab.
    """
    by_vendor: dict[str, set[str]] = {}
    for vendor, device in wanted:
        by_vendor.setdefault(vendor, set()).add(device)
    lines = _lines(files) if by_vendor else []
    vendors: dict[str, str] = {}
    models: dict[Ids, str] = {}
    current = ""
    for line in lines:
        if line[:1] == "C":  # device classes follow the last vendor
            break
        if line[:1] not in ("\t", "#", ""):
            current = line[:4] if line[:4] in by_vendor else ""
            if current:
                vendors[current] = line[4:].strip()
        elif current and line[1:5] in by_vendor[current] and line[:2] != "\t\t":
            models[current, line[1:5]] = line[5:].strip()
    return {(v, d): (vendors.get(v), models.get((v, d))) for v, ds in by_vendor.items() for d in ds}


def classes(files: tuple[str, ...] = FILES) -> dict[str, str]:
    """The codes of PCI classes, four digits, by their names in lower case; nothing where no list is installed.

    A class line is ``C id  name``, its subclasses follow with one tab.
    """
    found: dict[str, str] = {}
    base = ""
    for line in _lines(files):
        if line[:2] == "C ":
            base = line[2:4]
        elif base and line[:1] == "\t" and line[:2] != "\t\t":
            found.setdefault(line[3:].strip().lower(), base + line[1:3])
    return found


def _lines(files: tuple[str, ...]) -> list[str]:
    for name in files:
        try:
            return Path(name).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            continue
    return []
