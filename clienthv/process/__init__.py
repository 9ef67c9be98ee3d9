"""The only room that starts processes: each program has a module here, and ``running.py`` says how they are run."""

from __future__ import annotations

from clienthv.process.appliance import NO_GUESTFS, Appliance, Looked, guestfs
from clienthv.process.images import create_image, create_overlay, image_info, image_is_corrupt
from clienthv.process.kernel_files import read_file, write_file
from clienthv.process.links import set_link, set_vf_trust, vf_trust
from clienthv.process.modules import load_module
from clienthv.process.nvme import (
    NvmePrimary,
    NvmeSecondary,
    nvme_primary,
    nvme_secondary,
    set_nvme_offline,
    set_nvme_online,
    set_nvme_primary,
)
from clienthv.process.running import WRITES_TO
from clienthv.process.ssh import fed_through_ssh
from clienthv.process.system import (
    Packager,
    install_packages,
    installed_packages,
    join_group,
    known_packages,
    leave_group,
    make_boot_menu,
    remove_packages,
)
from clienthv.process.undisturbed import undisturbed
from clienthv.process.viewers import become_console, become_window, window_by_address, window_by_libvirt

__all__ = [
    "NO_GUESTFS",
    "WRITES_TO",
    "Appliance",
    "Looked",
    "NvmePrimary",
    "NvmeSecondary",
    "Packager",
    "become_console",
    "become_window",
    "create_image",
    "create_overlay",
    "fed_through_ssh",
    "guestfs",
    "image_info",
    "image_is_corrupt",
    "install_packages",
    "installed_packages",
    "join_group",
    "known_packages",
    "leave_group",
    "load_module",
    "make_boot_menu",
    "nvme_primary",
    "nvme_secondary",
    "read_file",
    "remove_packages",
    "set_link",
    "set_nvme_offline",
    "set_nvme_online",
    "set_nvme_primary",
    "set_vf_trust",
    "undisturbed",
    "vf_trust",
    "window_by_address",
    "window_by_libvirt",
    "write_file",
]
