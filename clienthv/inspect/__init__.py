"""Read the live PC into a host document, as an ordinary user wherever the kernel allows it."""

from __future__ import annotations

from clienthv.inspect.anonymise import anonymise
from clienthv.inspect.boot_loader import read_boot_loader
from clienthv.inspect.grub import NotUnderstoodError
from clienthv.inspect.holders import Holder, read_holders
from clienthv.inspect.installation import account_name, members_of
from clienthv.inspect.live import kvm_is_usable, read
from clienthv.inspect.mdev import mdev_type_now, mdev_users
from clienthv.inspect.mounts import file_system_of
from clienthv.inspect.network import is_used_by_host
from clienthv.inspect.settings import (
    HUGEPAGES,
    can_hand_over,
    driver_of,
    functions_with,
    is_there,
    module_is_loaded,
    nr_hugepages,
    physfn_of,
    read_machine_id,
    stacked_on,
    usb_place,
    virtfn_index,
    writers_to,
)
from clienthv.inspect.sriov import Card, link_is_up, read_boot_id, read_card

__all__ = [
    "HUGEPAGES",
    "Card",
    "Holder",
    "NotUnderstoodError",
    "account_name",
    "anonymise",
    "can_hand_over",
    "driver_of",
    "file_system_of",
    "functions_with",
    "is_there",
    "is_used_by_host",
    "kvm_is_usable",
    "link_is_up",
    "mdev_type_now",
    "mdev_users",
    "members_of",
    "module_is_loaded",
    "nr_hugepages",
    "physfn_of",
    "read",
    "read_boot_id",
    "read_boot_loader",
    "read_card",
    "read_holders",
    "read_machine_id",
    "stacked_on",
    "usb_place",
    "virtfn_index",
    "writers_to",
]
