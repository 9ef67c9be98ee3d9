"""All that is said of one PC and of the VMs planned for it, gathered for those who show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from clienthv.model.advice import Diagnosis, Evidence
from clienthv.model.devices import Devices
from clienthv.model.host import Host
from clienthv.model.plan import Rejected
from clienthv.model.plans import Plans
from clienthv.model.topology import Node


class Overview(NamedTuple):
    """One PC, its tree of PCI functions, the verdict on each, the plans of one or several VMs, and the doctor's word.

    ``of_functions`` has what the PC's files say of each PCI function, by address; ``of_rejected`` what shows that a
    rung cannot be taken.
    """

    host: Host
    roots: tuple[Node, ...]
    devices: Devices
    plans: Plans
    diagnosis: Diagnosis
    of_functions: Mapping[str, tuple[Evidence, ...]]
    of_rejected: Mapping[Rejected, tuple[Evidence, ...]]
