"""What the host itself uses its devices for, by name."""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class RoleName(StrEnum):
    """What the host itself uses a PCI function or a USB device for."""

    BOOT_DISPLAY = "boot-display"
    CONNECTED_DISPLAY = "connected-display"
    MOUNTED_DISK = "mounted-disk"
    DEFAULT_ROUTE = "default-route"
    NETWORK = "network"
    INPUT = "input"
