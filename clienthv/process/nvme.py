"""nvme: the virtual functions of NVMe controllers, and what each gets."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from clienthv.errors import HostError
from clienthv.process.running import Told, find, output


class NvmePrimary(NamedTuple):
    """An NVMe primary controller's flexible queue and interrupt resources: its own, all, and the most for one other.

    ``identifier`` is the controller's own (CNTLID).
    """

    queues: int
    interrupts: int
    all_queues: int
    all_interrupts: int
    most_queues: int
    most_interrupts: int
    identifier: int


class NvmeSecondary(NamedTuple):
    """An NVMe secondary controller: its identifier, its virtual function counted from 0, and whether it is online."""

    identifier: int
    function: int
    online: bool
    has_resources: bool


def nvme_primary(node: str) -> NvmePrimary:
    """What a primary controller says (NVM Express Base Specification, Primary Controller Capabilities).

    Raises HostError.
    """
    told = _nvme_json("primary-ctrl-caps", node)
    try:
        keys = ("vqrfap", "virfap", "vqfrt", "vifrt", "vqfrsm", "vifrsm", "cntlid")
        return NvmePrimary(*(int(told[key]) for key in keys))
    except (KeyError, ValueError, TypeError) as e:
        raise _not_understood(node) from e


def nvme_secondary(node: str, index: int) -> NvmeSecondary | None:
    """The secondary controller of a virtual function, counted from 0; None where there is none. Raises HostError."""
    told = _nvme_json("list-secondary", node)
    try:
        found = [
            NvmeSecondary(
                int(c["secondary-controller-identifier"]),
                int(c["virtual-function-number"]) - 1,
                bool(c["secondary-controller-state"]),
                int(c["num-virtual-queues"]) > 0 and int(c["num-virtual-interrupts"]) > 0,
            )
            for c in told["secondary-controllers"]
        ]
    except (KeyError, ValueError, TypeError) as e:
        raise _not_understood(node) from e
    return next((c for c in found if c.function == index), None)


def set_nvme_primary(node: str, queues: int, interrupts: int) -> None:
    """Give a primary controller these flexible resources, from its next reset on. Raises HostError."""
    mine = str(nvme_primary(node).identifier)
    for resource, number in (("1", interrupts), ("0", queues)):
        _nvme(["virt-mgmt", f"/dev/{node}", "-c", mine, "-r", resource, "-a", "1", "-n", str(number)], node)


def set_nvme_online(node: str, index: int, of: int) -> None:
    """Bring a secondary controller online, with its share of the resources of ``of`` such. Raises HostError."""
    primary, secondary = nvme_primary(node), nvme_secondary(node, index)
    if secondary is None:
        raise _not_understood(node)
    here = ["virt-mgmt", f"/dev/{node}", "-c", str(secondary.identifier)]
    if not secondary.has_resources:
        shares = (
            ("1", min(primary.all_interrupts // of, primary.most_interrupts)),
            ("0", min(primary.all_queues // of, primary.most_queues)),
        )
        for resource, share in shares:
            _nvme([*here, "-r", resource, "-a", "8", "-n", str(share)], node)
    _nvme([*here, "-a", "9"], node)


def set_nvme_offline(node: str, index: int) -> None:
    """Take a secondary controller offline. Raises HostError."""
    secondary = nvme_secondary(node, index)
    if secondary is not None:
        _nvme(["virt-mgmt", f"/dev/{node}", "-c", str(secondary.identifier), "-a", "7"], node)


def _nvme_json(command: str, node: str) -> dict[str, Any]:
    text = _nvme([command, f"/dev/{node}", "--output-format=json"], node)
    try:
        told = json.loads(text)
    except ValueError as e:
        raise _not_understood(node) from e
    if not isinstance(told, dict):
        raise _not_understood(node)
    return told


def _not_understood(node: str) -> HostError:
    which = node or "a controller without a driver"
    msg = f"nvme said nothing that can be understood about the virtualization of {which}"
    return HostError(msg, hint="update nvme-cli to 2.0 or later")


def _nvme(arguments: list[str], node: str) -> str:
    program = find("nvme", "install nvme-cli, which manages the virtual functions of NVMe controllers")
    hint = f"nvme id-ctrl /dev/{node} -H shows whether the controller can be virtualized"
    told = Told("NVMe status: ", HostError, "dmesg shows whether the controller hangs", failed=hint)
    return output([program, *arguments], "nvme", f"manage the virtual functions of {node}", told, writes_to=node)
