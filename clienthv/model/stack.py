"""The part of a host document that tells of the virtualization software; None means unknown."""

from __future__ import annotations

from typing import Literal

import msgspec

from clienthv.model.cpu import HostModel
from clienthv.model.network import VirtualNetwork
from clienthv.model.values import Address, Count


class DomainCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What libvirt and QEMU offer a guest (virConnectGetDomainCapabilities). Empty tuples mean none is offered.

    What is unset libvirt does not tell. ``usable_models`` are the named CPU models that run here as they are,
    ``unusable_models`` those that QEMU knows and cannot run, and ``blocking_features`` all that the latter are not
    usable for want of.
    """

    domain_type: Literal["kvm", "qemu"]
    emulator: str | None = None
    machine_types: tuple[str, ...] = ()
    max_vcpus: Count | None = None
    cpu_modes: tuple[str, ...] = ()
    firmware: tuple[str, ...] = ()
    secure_boot: bool = False
    video_models: tuple[str, ...] = ()
    graphics: tuple[str, ...] = ()
    disk_buses: tuple[str, ...] = ()
    pci_backends: tuple[str, ...] = ()
    tpm_models: tuple[str, ...] = ()
    tpm_backends: tuple[str, ...] = ()
    hyperv: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    net_backends: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    host_model: HostModel | msgspec.UnsetType = msgspec.UNSET
    usable_models: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    unusable_models: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    blocking_features: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    filesystem_drivers: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    redirdev_buses: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    channel_types: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class GuestClaims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one VM of the connection has of the host, or has when it runs.

    ``functions`` are PCI functions; ``usb`` are USB devices by their ids, with bus and device number where the domain
    names them ("046d:c52b 1 3"); ``tpm`` is the host's own. ``memory_mib`` is what the VM may use and
    ``resident_mib`` what of it has been given to it by now, in MiB, for a VM that runs.
    """

    name: str
    running: bool
    functions: tuple[Address, ...] = ()
    usb: tuple[str, ...] = ()
    tpm: bool = False
    memory_mib: Count | None = None
    resident_mib: Count | None = None


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """The virtualization software: versions as text, the connection, and its domain capabilities.

    ``guest_functions`` are the host's PCI functions that running VMs of the connection have, ``vms`` what each of
    its VMs has or is defined with, clienthv's or not; unset where nobody asked.
    ``networks`` are libvirt's own; none where the connection has no driver for them, left
    out where they are unknown. ``security_models`` are the security drivers of its guests, by libvirt's names.
    """

    uri: str | None = None
    privileged: bool | None = None
    libvirt_version: str | None = None
    qemu_version: str | None = None
    capabilities: DomainCapabilities | None = None
    guest_functions: tuple[Address, ...] | None = None
    networks: tuple[VirtualNetwork, ...] | msgspec.UnsetType = msgspec.UNSET
    security_models: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    problem: str | None = None
    vms: tuple[GuestClaims, ...] | msgspec.UnsetType = msgspec.UNSET
