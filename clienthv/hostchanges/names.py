"""The settings of the host, in words for a person."""

from __future__ import annotations

from typing import Final

from clienthv.model.change import Setting, What

_WORDS: Final[dict[What, str]] = {
    What.LOAD_MODULE: "the module {0.device}",
    What.HUGEPAGES: "the number of huge pages of {0.pages_kib} KiB",
    What.LINK_UP: "the link of {0.interface} ({0.device})",
    What.NVME_FLEXIBLE: "the flexible resources (queues/interrupts) of the primary controller of {0.device}",
    What.VF_AUTOPROBE: "sriov_drivers_autoprobe of {0.device}",
    What.CREATE_VFS: "the number of virtual functions of {0.device}",
    What.VF_TRUST: "the trust of virtual function {0.index} of {0.interface} ({0.device})",
    What.NVME_ONLINE: "the secondary controller of virtual function {0.index} of {0.device}",
    What.CREATE_MDEV: "the mediated device {0.uuid} of {0.device}",
    What.DRIVER: "the driver of {0.device}",
    What.DRIVER_OVERRIDE: "driver_override of {0.device}",
    What.IMAGE: "file {0.device}",
    What.DOMAIN: "the definition of VM {0.device}",
}


def name_of(setting: Setting) -> str:
    """A setting for a person."""
    return _WORDS[setting.what].format(setting)
