"""What an installed Linux is bound to: hardware that is named in its configuration, and stays behind when it moves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from clienthv.images.seen import Seen

_MAC: Final = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.IGNORECASE)
_DEVICE: Final = re.compile(r"/dev/(?:sd[a-z]+|vd[a-z]+|hd[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+)(?:p?\d+)?\b")
_BUS: Final = re.compile(r"^BusID\s+\"([^\"]{1,40})\"", re.IGNORECASE | re.MULTILINE)
_DRIVER: Final = re.compile(
    r"^\s*Driver\s+\"(nvidia|fglrx|amdgpu|radeon|intel|nouveau)\"", re.IGNORECASE | re.MULTILINE
)
_IDS: Final = re.compile(r"^options (\S{1,40}) .*?\bids=(\S{1,100})", re.MULTILINE)
_IFACE: Final = re.compile(r"^(?:auto|allow-hotplug|iface) (\S{1,30})", re.MULTILINE)
_NETWORKS: Final = (
    "/etc/udev/rules.d/70-persistent-net", "/etc/systemd/network/", "/etc/netplan/",
    "/etc/NetworkManager/system-connections/", "/etc/sysconfig/network-scripts/",
)  # fmt: skip
_BOOT: Final = ("/boot/", "/etc/default/grub", "/etc/fstab", "/etc/crypttab", "/etc/initramfs-tools/conf.d/resume")
_LINE: Final = 1000
_NAMED: Final = re.compile(
    r"^(?:NAME|Name|DEVICE|interface-name)\s*=\s*\"?((?:en|eth|wl)[a-z0-9]{1,14})\b", re.MULTILINE
)
_MOST: Final = 40


def ties(seen: Seen) -> tuple[str, ...]:
    """Sentences on what is bound to hardware, each with the file that says so."""
    found: list[str] = []
    for path, text in seen.files.items():
        found += (f"{path} {what}" for what in _of_file(path, _plain(text)))
    return tuple(dict.fromkeys(found))[:_MOST]


def _plain(text: str) -> str:
    """A file's lines without comments and indentation, not longer than expressions are quick with."""
    lines = (" ".join(line[:_LINE].split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def _of_file(path: str, text: str) -> Iterator[str]:
    if path.startswith(_NETWORKS):
        yield from _network(text)
    elif path.startswith("/etc/network/interfaces"):
        names = dict.fromkeys(n for n in _IFACE.findall(text) if n != "lo" and not n.startswith("br"))
        yield from (f"names the network interface {n}" for n in names)
    elif path.startswith("/etc/X11/"):
        yield from (f"gives Xorg a GPU by its PCI address ({bus})" for bus in _BUS.findall(text))
        yield from (f"gives Xorg the driver {driver}" for driver in _DRIVER.findall(text))
    elif path.startswith("/etc/modprobe.d/"):
        yield from (f"gives {module} devices by their ids ({ids})" for module, ids in _IDS.findall(text))
    elif path.startswith(_BOOT):
        yield from (f"names a disk by its device name ({d})" for d in dict.fromkeys(_DEVICE.findall(text)))


def _network(text: str) -> Iterator[str]:
    """A file that configures a network card: by its MAC address, or by a name that hangs on where it is plugged in."""
    macs = [m.lower() for m in dict.fromkeys(_MAC.findall(text))]
    yield from (f"binds a network interface to the MAC address {m}" for m in macs)
    if not macs:
        yield from (f"names the network interface {n}" for n in dict.fromkeys(_NAMED.findall(text)))
