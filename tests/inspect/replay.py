"""Read a described PC through the real udev and the real file calls, and print its host document.

    umockdev-wrapper python replay.py PC.toml

umockdev's preload leads /sys, and what a testbed has of /proc and /dev, to the testbed: inspect.read() runs as live.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import gi

gi.require_version("UMockdev", "1.0")
from gi.repository import UMockdev  # noqa: E402

LISTS = (
    *("cpuinfo", "cmdline", "interrupts", "meminfo", "swaps", "self/mountinfo", "bus/input/devices"),
    *("net/route", "net/ipv6_route", "net/if_inet6", "sys/kernel/osrelease", "sys/kernel/hostname"),
)


def pci_text(address: str, function: dict[str, Any]) -> str:
    """One PCI function in umockdev's form; keys that are not named here are sysfs attributes."""
    special = {"names", "driver", "group", "behind"}
    domain = function.get("domain", f"pci{address[:-3].rpartition(':')[0]}")
    bridges = function.get("behind", [])
    top = f"pci{bridges[0].rsplit(':', 1)[0]}" if bridges else domain
    path = "/".join(["/devices", top, *bridges, address])
    up = "../" * (path.count("/"))
    lines = [f"P: {path}", "E: SUBSYSTEM=pci", f"E: PCI_SLOT_NAME={address}"]
    if names := function.get("names"):
        lines += [f"E: ID_VENDOR_FROM_DATABASE={names[0]}", f"E: ID_MODEL_FROM_DATABASE={names[1]}"]
    if driver := function.get("driver"):
        lines.append(f"L: driver={up}bus/pci/drivers/{driver}")
    if (group := function.get("group")) is not None:
        lines.append(f"L: iommu_group={up}kernel/iommu_groups/{group}")
    for key, value in function.items():
        if key not in special:
            link = key.startswith("virtfn") or key == "physfn"
            lines.append(f"L: {key}=../{value}" if link else f"A: {key}={value}\\n")
    return "\n".join(lines) + "\n"


def device_text(device: dict[str, Any]) -> str:
    lines = [f"P: {device['path']}", f"E: SUBSYSTEM={device['subsystem']}"]
    lines += [f"E: {key}={value}" for key, value in device.get("properties", {}).items()]
    lines += [f"A: {key}={value}\\n" for key, value in device.get("attributes", {}).items()]
    up = "../" * device["path"].count("/")
    lines += [f"L: {key}={up}bus/{device['subsystem']}/drivers/{name}" for key, name in device.get("links", {}).items()]
    return "\n".join(lines) + "\n"


def set_up(pc: dict[str, Any]) -> Any:
    bed = UMockdev.Testbed.new()
    root = Path(bed.get_root_dir())
    texts = [pci_text(address, function) for address, function in pc.get("pci", {}).items()]
    texts += [device_text(device) for device in pc.get("device", [])]
    bed.add_from_string("\n".join(texts) or "P: /devices/none\nE: SUBSYSTEM=none\n")
    groups = {f["group"] for f in pc.get("pci", {}).values() if "group" in f}
    folders = ["/sys/kernel/iommu_groups", "/sys/class/iommu", "/sys/module", "/sys/firmware/acpi/tables"]
    folders += [f"/sys/kernel/iommu_groups/{group}" for group in groups]
    for folder in [*folders, *pc.get("folders", [])]:
        (root / folder[1:]).mkdir(parents=True, exist_ok=True)
    files = {f"/proc/{name}": "" for name in LISTS} | {"/dev/kvm": ""} | pc.get("files", {})
    for name, text in files.items():
        file = root / name[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for name, target in pc.get("links", {}).items():
        link = root / name[1:]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    return bed


def main() -> None:
    bed = set_up(tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    from clienthv import inspect
    from clienthv.model.host import encode

    sys.stdout.buffer.write(encode(inspect.read(keep_names=True)))
    del bed


if __name__ == "__main__":
    main()
