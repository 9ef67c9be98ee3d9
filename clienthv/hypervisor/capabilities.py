"""libvirt's capabilities documents as facts."""

from __future__ import annotations

from typing import Any

import msgspec
from lxml import etree

from clienthv.errors import HostError
from clienthv.model.host import DomainCapabilities
from clienthv.model.network import VirtualNetwork


def parse(xml: str, machines: tuple[str, ...] = ()) -> DomainCapabilities:
    """A domain capabilities document (libvirt, formatdomaincaps). Raises HostError on anything else.

    ``supported`` alone proves nothing: a host without VFIO says ``<hostdev supported='yes'>`` with an empty
    ``pciBackend``. Only the values listed count.
    """
    try:
        root = etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as e:
        msg = f"libvirt's domain capabilities are not XML: {e}"
        raise HostError(msg) from e
    vcpu = root.find("vcpu")
    return DomainCapabilities(
        domain_type="kvm" if root.findtext("domain") == "kvm" else "qemu",
        emulator=root.findtext("path"),
        machine_types=machines,
        max_vcpus=int(vcpu.get("max", "0")) if vcpu is not None else None,
        cpu_modes=tuple(m.get("name") for m in root.iterfind("cpu/mode[@supported='yes']")),
        firmware=_values(root, "os/enum[@name='firmware']"),
        secure_boot="yes" in _values(root, "os/loader/enum[@name='secure']"),
        video_models=_values(root, "devices/video/enum[@name='modelType']"),
        graphics=_values(root, "devices/graphics/enum[@name='type']"),
        disk_buses=_values(root, "devices/disk/enum[@name='bus']"),
        pci_backends=_values(root, "devices/hostdev/enum[@name='pciBackend']"),
        tpm_models=_values(root, "devices/tpm/enum[@name='model']"),
        tpm_backends=_values(root, "devices/tpm/enum[@name='backendModel']"),
        hyperv=_hyperv(root),
        net_backends=_net_backends(root),
    )


def _net_backends(root: Any) -> tuple[str, ...] | msgspec.UnsetType:
    """Unset from an older libvirt, whose document says nothing of interfaces."""
    path = "devices/interface/enum[@name='backendType']"
    return _values(root, path) if root.find(path) is not None else msgspec.UNSET


def network(name: str, xml: str, *, active: bool) -> VirtualNetwork:
    """A network document (libvirt, formatnetwork): without ``<forward>`` it is isolated, without a mode NAT."""
    root = etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    forward, bridge = root.find("forward"), root.find("bridge")
    return VirtualNetwork(
        name=name,
        active=active,
        forward="isolated" if forward is None else forward.get("mode", "nat"),
        bridge=bridge.get("name") if bridge is not None else None,
    )


def _hyperv(root: Any) -> tuple[str, ...] | msgspec.UnsetType:
    """The enlightenments; libvirt tells them from 8.10 on, and unset is not "none"."""
    told = root.find("features/hyperv")
    if told is None:
        return msgspec.UNSET
    listed = _values(root, "features/hyperv/enum[@name='features']")
    if told.get("supported") == "yes":
        return listed or msgspec.UNSET
    return ()


def _values(root: Any, path: str) -> tuple[str, ...]:
    return tuple(v.text for v in root.iterfind(f"{path}/value") if v.text)


def machine_types(xml: str) -> tuple[str, ...]:
    """The machine types of 64-bit x86 guests in a capabilities document (libvirt, formatcaps), sorted."""
    root = etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    return tuple(sorted({m.text for m in root.iterfind("guest/arch[@name='x86_64']/machine") if m.text}))
