"""What the host itself uses each PCI function for, with what shows it."""

from __future__ import annotations

from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.findings import Findings
from clienthv.inspect.keyboards import read_input
from clienthv.inspect.mounts import read_mounted_disks
from clienthv.inspect.network import read_network
from clienthv.inspect.storage import Disks
from clienthv.inspect.udev import folder, is_told
from clienthv.model.host import PciFunction, RoleName

VGA: Final = "0300"  # PCI Code and ID Assignment Specification: every VGA controller has a boot_vga file


def read_roles(tree: Tree, functions: tuple[PciFunction, ...], disks: Disks) -> Findings:
    """All six roles. A role that was looked for and found nowhere still counts as looked for."""
    findings = Findings(frozenset(f.address for f in functions))
    _boot_display(tree, functions, findings)
    _connected_display(tree, functions, findings)
    read_mounted_disks(tree, disks, findings)
    read_network(tree, functions, findings)
    read_input(tree, findings)
    return findings


def _boot_display(tree: Tree, functions: tuple[PciFunction, ...], findings: Findings) -> None:
    """The display the firmware started on (drivers/pci/vgaarb.c); only display controllers have boot_vga."""
    for function in functions:
        if function.boot_vga:
            findings.give(RoleName.BOOT_DISPLAY, function.address, f"{folder('pci')}/{function.address}/boot_vga: 1")
    adapters = [f for f in functions if f.base_class == VGA]
    if adapters and all(f.boot_vga is None for f in adapters):
        findings.unread(RoleName.BOOT_DISPLAY, "the boot display is unknown: no display controller has a boot_vga file")
    elif tree.exists(folder("pci")) or tree.exists("/sys/bus"):
        findings.look(RoleName.BOOT_DISPLAY)
    else:
        findings.unread(RoleName.BOOT_DISPLAY, f"the boot display is unknown: {folder('pci')} could not be read")


def _connected_display(tree: Tree, functions: tuple[PciFunction, ...], findings: Findings) -> None:
    """An output with a monitor on it, as DRM's connectors tell (drivers/gpu/drm/drm_sysfs.c)."""
    for function in functions:
        for connector in function.connectors or ():
            if connector.connected:
                file = f"{folder('drm')}/{function.drm_card}-{connector.name}/status"
                findings.give(RoleName.CONNECTED_DISPLAY, function.address, f"{file}: connected")
    if is_told(tree, "drm"):
        findings.look(RoleName.CONNECTED_DISPLAY)
    else:
        findings.unread(RoleName.CONNECTED_DISPLAY, f"monitors are unknown: {folder('drm')} could not be read")
