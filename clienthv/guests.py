"""What osinfo-db says of a guest's operating system (libosinfo, osinfo-db: one XML file for each)."""

from __future__ import annotations

import difflib
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from clienthv.model.guest import GENERIC, Emulated, Family, GuestOs, VirtioDevice, built_in

_log: Final = logging.getLogger(__name__)
ROOT: Final = Path("/usr/share/osinfo")
OSINFO_ID: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
"""What the ids of osinfo-db look like."""
_MAX_BYTES: Final = 1 << 20
_MAX_CHAIN: Final = 200
_MIB: Final = 1 << 20
_PCI: Final = "http://pcisig.com/pci/"
_VIRTIO: Final[dict[str, VirtioDevice]] = {
    "1af4/1000": "net", "1af4/1001": "block", "1af4/1041": "net", "1af4/1042": "block", "1af4/1050": "gpu",
    "1af4/1004": "scsi", "1af4/1048": "scsi", "1af4/1052": "input", "1af4/1059": "sound",
}  # fmt: skip
_PRIMARY_AT: Final = 16 * 2048  # ECMA-119, 8.4: the Primary Volume Descriptor of an ISO image
_FIELDS: Final = {
    "system-id": (8, 40), "volume-id": (40, 72), "publisher-id": (318, 446), "application-id": (574, 702),
}  # fmt: skip
_XHCI: Final = frozenset({"1033/0194", "1b36/0004"})


def read(os: str, root: Path = ROOT) -> GuestOs:
    """The operating system of an osinfo id; what its id tells alone where osinfo-db has no such file.

    Its own file is read, and those it derives from: they list the devices that it inherits.
    """
    known = built_in(os)
    if os in GENERIC:
        return known
    path = _file_of(os, root / "os")
    own = _os(path) if path is not None else None
    if own is None:
        _log.info("osinfo-db: nothing of %s in %s", os, root / "os")
        return msgspec.structs.replace(known, found=False)
    _log.info("osinfo-db: read %s", path)
    chain = _chain(own, root / "os")
    devices = _devices(chain)
    boots = {kind: said for kind in ("bios", "efi") if (said := _firmware(chain, kind)) is not None}
    ids = {d.removeprefix(_PCI) for d in devices}
    family = _family(chain)
    emulated = known.emulated
    if known.family != "windows" and not ids & _XHCI:
        emulated = Emulated(usb="ich9-ehci1")  # as virt-install does: USB 3 where it is listed, USB 2 elsewhere
    return msgspec.structs.replace(
        known,
        found=True,
        family=family or known.family,
        virtio=frozenset(_VIRTIO[i] for i in ids & set(_VIRTIO)),
        emulated=emulated,
        bios=boots.get("bios", known.bios),
        uefi=boots.get("efi", known.uefi),
        min_vcpus=_minimum(own, "n-cpus", 1),
        min_memory_mib=_minimum(own, "ram", _MIB),
    )


def short_id(name: str, root: Path = ROOT) -> str:
    """The short id of an operating system by its long one (http://debian.org/debian/12), "unknown" where none is known.

    libvirt's tools write the long one into a domain's metadata. Its file's name is its short id but for dashes.
    """
    path = _path_of(name, root / "os")
    found = _os(path) if path is not None and path.is_file() else None
    text = (found.findtext("short-id") or "") if found is not None else ""
    if not text:
        vendor, _, rest = name.partition("://")[2].partition("/")
        text = rest.replace("/", "") if vendor else ""
    return text if OSINFO_ID.fullmatch(text) else "unknown"


class Known(NamedTuple):
    """An operating system that osinfo-db has: its id, and what its maker calls it."""

    id: str
    name: str


def known(root: Path = ROOT) -> Iterator[Known]:
    """Every operating system of osinfo-db, in no order; none where it is not installed."""
    for own in _all(root):
        found = own.findtext("short-id") or ""
        if re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,63}", found):
            yield Known(found, own.findtext("name") or found)


def nearest(text: str, root: Path = ROOT) -> tuple[Known, ...]:
    """The operating systems that a person may mean, the likeliest first, six at most: by id, or by name."""
    wanted = _plain(text)
    there = {_plain(word): system for system in known(root) for word in (system.id, system.name)}
    begun = sorted((w for w in there if wanted and w.startswith(wanted)), key=lambda w: (w == wanted, _newest(w)))[::-1]
    alike = difflib.get_close_matches(wanted, there, n=6, cutoff=0.75)
    return tuple(dict.fromkeys(there[word] for word in (*begun, *alike)))[:6]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", text.lower().replace("microsoft ", "").replace("windows", "win"))[:64]


def _newest(word: str) -> tuple[int, ...]:
    return tuple(int(number[:9]) for number in re.findall(r"[0-9]+", word))


def is_installer(path: Path) -> bool:
    """Whether a file is an ISO image (ECMA-119)."""
    return _said_by(path) is not None


def of_installer(path: Path, root: Path = ROOT) -> str | None:
    """The id of the system that an ISO image installs, by what it says of itself; None where osinfo-db knows none.

    Its Primary Volume Descriptor (ECMA-119, 8.4) is compared with the expressions that osinfo-db lists for each medium.
    """
    said = _said_by(path)
    if said is None:
        return None
    for own in _all(root):
        media = [m for m in own.iterfind("media") if m.get("arch") in ("x86_64", "all", None)]
        if any(_is_medium(iso, said) for m in media for iso in m.iterfind("iso")):
            return str(own.findtext("short-id") or "") or None
    return None


def _said_by(path: Path) -> dict[str, str] | None:
    """What an ISO image calls itself; None for what is none. Only an ordinary file is opened."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            file.seek(_PRIMARY_AT)
            head = file.read(2048)
    except (OSError, ValueError):
        return None
    if len(head) < 2048 or head[:6] != b"\x01CD001":
        return None
    return {name: head[a:b].decode("ascii", errors="replace").rstrip(" \0") for name, (a, b) in _FIELDS.items()}


def _is_medium(iso: Any, said: dict[str, str]) -> bool:
    wanted = [(said[child.tag], child.text or "") for child in iso if child.tag in said]
    with warnings.catch_warnings():  # the expressions are GLib's, which Python may find odd
        warnings.simplefilter("ignore")
        try:
            return bool(wanted) and all(re.search(expression, text) for text, expression in wanted)
        except re.error:
            return False


def _all(root: Path) -> Iterator[Any]:
    try:
        paths = sorted(p for vendor in (root / "os").iterdir() if vendor.is_dir() for p in vendor.glob("*.xml"))
    except OSError:
        return
    yield from (own for path in paths if (own := _os(path)) is not None)


def _file_of(os: str, folder: Path) -> Path | None:
    """The file whose name is the id but for dashes, from a listing: no part of a path is made of the id."""
    wanted = os.replace("-", "") + ".xml"
    try:
        names = sorted(p for vendor in folder.iterdir() if vendor.is_dir() for p in vendor.iterdir())
    except OSError:
        return None
    for path in names:
        name = path.name.replace("-", "")
        if name in (wanted, wanted.replace(".xml", "rolling.xml")):
            return path
    return None


def _os(path: Path) -> Any:
    """The ``os`` element of a file; None where it cannot be had."""
    from lxml import etree

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            return None
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        return etree.fromstring(data, parser).find("os")
    except (OSError, etree.XMLSyntaxError):
        return None


def _chain(own: Any, folder: Path) -> list[Any]:
    """An operating system and all that it derives from or is a clone of, nearest first."""
    chain, seen = [own], {own.get("id")}
    for system in chain:
        for parent in (*system.iterfind("derives-from"), *system.iterfind("clones")):
            name = parent.get("id")
            if name in seen or len(chain) >= _MAX_CHAIN or (path := _path_of(name or "", folder)) is None:
                continue
            seen.add(name)
            if (found := _os(path)) is not None:
                chain.append(found)
    return chain


def _path_of(name: str, folder: Path) -> Path | None:
    """Where an id such as http://debian.org/debian/11 has its file (osinfo-db, "os/VENDOR/NAME-VERSION.xml")."""
    vendor, *rest = name.partition("://")[2].split("/")
    parts = [vendor, "-".join(rest)]
    if not rest or any(not p or p.startswith(".") or "\0" in p for p in parts):
        return None
    return folder / vendor / f"{parts[1]}.xml"


def _devices(chain: list[Any]) -> set[str]:
    """The devices with drivers; the nearest word on each counts."""
    said: dict[str, bool] = {}
    for system in chain:
        for device in system.iterfind("devices/device"):
            said.setdefault(device.get("id") or "", device.get("supported") != "false")
    return {name for name, supported in said.items() if supported}


def _firmware(chain: list[Any], kind: str) -> bool | None:
    """Whether it boots by a kind of firmware on x86_64, by the nearest word on it."""
    for system in chain:
        for firmware in system.iterfind("firmware"):
            if firmware.get("arch") == "x86_64" and firmware.get("type") == kind:
                return bool(firmware.get("supported") != "false")
    return None


def _family(chain: list[Any]) -> Family | None:
    name = next((n for system in chain if (n := system.findtext("family"))), "")
    if name.startswith("win") or name == "msdos":
        return "windows"
    return "linux" if name == "linux" else "other" if name else None


def _minimum(own: Any, what: str, unit: int) -> int | None:
    for arch in ("x86_64", "all", "i686"):
        text = own.findtext(f"resources[@arch='{arch}']/minimum/{what}") or ""
        if text.isascii() and text.isdecimal() and len(text) < 16:
            return -(-int(text) // unit)
    return None
