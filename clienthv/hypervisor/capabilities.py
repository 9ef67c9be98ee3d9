"""libvirt's capabilities documents as facts."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from lxml import etree

from clienthv.errors import HostError
from clienthv.hypervisor import documents
from clienthv.model.cpu import HostModel
from clienthv.model.host import DomainCapabilities
from clienthv.model.network import VirtualNetwork

_Names = tuple[str, ...] | msgspec.UnsetType


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
    usable, unusable, blocking = _models(root)
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
        net_backends=_told(root, "devices/interface/enum[@name='backendType']"),
        host_model=_host_model(root),
        usable_models=usable,
        unusable_models=unusable,
        blocking_features=blocking,
        filesystem_drivers=_told(root, "devices/filesystem/enum[@name='driverType']"),
        redirdev_buses=_told(root, "devices/redirdev/enum[@name='bus']"),
        channel_types=_told(root, "devices/channel/enum[@name='type']"),
    )


def _told(root: Any, path: str) -> _Names:
    """The values of an enum; unset from an older libvirt, whose document has none of that name."""
    return _values(root, path) if root.find(path) is not None else msgspec.UNSET


def _host_model(root: Any) -> HostModel | msgspec.UnsetType:
    """The CPU of mode host-model; unset where the mode is not supported."""
    mode = root.find("cpu/mode[@name='host-model'][@supported='yes']")
    model = mode.findtext("model") if mode is not None else None
    if mode is None or not model:
        return msgspec.UNSET
    return HostModel(
        model=model,
        vendor=mode.findtext("vendor") or None,
        required=_features(mode, "require"),
        disabled=_features(mode, "disable"),
    )


def _features(parent: Any, policy: str) -> tuple[str, ...]:
    named = (f.get("name") for f in parent.iterfind("feature") if f.get("policy") == policy)
    return tuple(sorted({name for name in named if name}))


def _models(root: Any) -> tuple[_Names, _Names, _Names]:
    """The models of mode custom that are usable, those that are not, and the features these lack.

    Whether one is usable may be unknown. libvirt tells what they lack from 10.10 on.
    """
    mode = root.find("cpu/mode[@name='custom'][@supported='yes']")
    models = mode.findall("model") if mode is not None else []
    if not any(model.get("usable") in ("yes", "no") for model in models):
        return msgspec.UNSET, msgspec.UNSET, msgspec.UNSET
    usable, unusable = (
        tuple(sorted({m.text for m in models if m.get("usable") == said and m.text})) for said in ("yes", "no")
    )
    blocking = {name for f in mode.iterfind("blockers/feature") if (name := f.get("name"))}
    return usable, unusable, tuple(sorted(blocking)) if blocking or not unusable else msgspec.UNSET


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


class OfHost(NamedTuple):
    """What a capabilities document says of guests: the machine types of 64-bit x86 ones, and security drivers."""

    machine_types: tuple[str, ...]
    security_models: tuple[str, ...]


def of_host(xml: str) -> OfHost:
    """Read a capabilities document (libvirt, formatcaps); each list is sorted."""
    root = etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    named = (documents.line(e.text) for e in root.iterfind("host/secmodel/model"))
    return OfHost(
        tuple(sorted({m.text for m in root.iterfind("guest/arch[@name='x86_64']/machine") if m.text})),
        tuple(sorted({name for name in named if name is not None})),
    )
