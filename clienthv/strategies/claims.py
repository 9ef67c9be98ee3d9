"""What a choice takes of the host, so that no other VM can have it: the keys of claims.

A function goes to one VM, and so does its IOMMU group (kernel, Documentation/driver-api/vfio.rst, "Groups, Devices,
and IOMMUs"). Virtual functions of one card go to several VMs, but not beside the card itself. A TPM is opened once
(QEMU, docs/specs/tpm.rst), a USB device detached once.
"""

from __future__ import annotations

from collections.abc import Mapping

from clienthv.model.host import Host
from clienthv.model.plan import HOST_DEVICES, Decision, Kind, Strategy
from clienthv.strategies.frame import Option


def claims(choice: Option | Decision, kind: Kind, host: Host) -> Mapping[str, bool]:
    """The keys that an option or decision claims, each with whether it is claimed for one VM alone."""
    if choice.strategy is Strategy.MDEV and choice.device is not None:
        # One VM has an instance of a type; the card itself cannot go to another meanwhile.
        return {f"{choice.model} of {choice.device}": True, f"virtual functions of {choice.device}": False}
    if choice.strategy not in HOST_DEVICES:
        return {}
    if kind is Kind.TPM:
        return {"the TPM": True}
    if kind is Kind.USB_DEVICE and not choice.functions:
        return {f"USB device {choice.device}": True}
    keys = dict.fromkeys(choice.functions, True)
    of = choice.virtual_function
    for address in choice.functions:
        function = host.by_address.get(address)
        if function is not None and function.iommu_group is not None:
            keys[f"IOMMU group {function.iommu_group}"] = True
        if of is None:
            keys[f"virtual functions of {address}"] = True
    if of is not None:
        keys[f"virtual functions of {of.physfn}"] = False
    return keys
