"""A domain's XML as facts; nothing outside it is read, and a stranger's may say anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from lxml import etree

from clienthv.errors import DocumentError
from clienthv.model.cpu import GuestCpu
from clienthv.model.domain import (
    DiskFacts,
    DomainFacts,
    FilesystemFacts,
    FirmwareFacts,
    GraphicsFacts,
    HostDevice,
    NicFacts,
    TpmFacts,
    VideoFacts,
)
from clienthv.model.values import PciAddress

MOST_BYTES: Final = 4 << 20
_QEMU: Final = "http://libvirt.org/schemas/domain/qemu/1.0"
_OSINFO: Final = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
# Binary multiples are KiB and K alike, decimal ones KB (libvirt, src/util/virutil.c, virScaleInteger).
_POWERS: Final = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_HEX: Final = re.compile(r"(0[xX])?[0-9a-fA-F]{1,8}\Z")
_MOST_NUMBER: Final = 1 << 40


def read(xml: bytes | str, origin: str) -> DomainFacts:
    """What a domain's XML says. Raises DocumentError on what is no domain."""
    root = tree(xml, origin)
    devices = root.find("devices")
    devices = devices if devices is not None else etree.Element("devices")
    os_element, cpu = root.find("os"), root.find("cpu")
    return DomainFacts(
        name=_text(root, "name"),
        uuid=root.findtext("uuid"),
        type=root.get("type", "kvm"),
        arch=_attribute(root, "os/type", "arch") or "x86_64",
        machine=_attribute(root, "os/type", "machine"),
        emulator=devices.findtext("emulator"),
        os_id=_attribute(root, f"metadata/{{{_OSINFO}}}libosinfo/{{{_OSINFO}}}os", "id"),
        vcpus=_number(root.findtext("vcpu")) or 1,
        memory_mib=_mib(root.find("memory")),
        hugepages=root.find("memoryBacking/hugepages") is not None,
        highest_pin=max(_pins(root), default=None),
        cpu=_cpu(cpu),
        firmware=_firmware(os_element),
        disks=tuple(map(_disk, devices.iterfind("disk"))),
        nics=tuple(_nic(e) for e in devices.iterfind("interface") if e.get("type") != "hostdev"),
        host_devices=tuple(_host_devices(devices)),
        filesystems=tuple(
            FilesystemFacts(driver=_attribute(e, "driver", "type") or "path", source=_source(e))
            for e in devices.iterfind("filesystem")
        ),
        video=tuple(_video(e) for e in devices.iterfind("video") if _attribute(e, "model", "type") != "none"),
        graphics=tuple(map(_graphics, devices.iterfind("graphics"))),
        sounds=tuple(e.get("model", "") for e in devices.iterfind("sound")),
        audio=tuple(e.get("type", "") for e in devices.iterfind("audio")),
        inputs=tuple(f"{e.get('type')} {e.get('bus', '')}".strip() for e in devices.iterfind("input")),
        controllers=tuple(f"{e.get('type')} {e.get('model', '')}".strip() for e in devices.iterfind("controller")),
        redirections=sum(1 for _ in devices.iterfind("redirdev")),
        tpm=_tpm(devices.find("tpm")),
        shared_memory=tuple(e.get("name", "") for e in devices.iterfind("shmem")),
        hyperv=tuple(e.tag for e in root.iterfind("features/hyperv/*") if e.get("state") == "on"),
        launch_security=_attribute(root, "launchSecurity", "type"),
        smbios_host=_attribute(root, "os/smbios", "mode") == "host",
        kernel=root.findtext("os/kernel"),
        paths=tuple(_paths(devices)),
        arguments=tuple(_arguments(root)),
    )


def tree(xml: bytes | str, origin: str) -> Any:
    """A domain's XML as a tree without comments; no entities, nothing from outside. Raises DocumentError."""
    data = xml.encode() if isinstance(xml, str) else xml
    make_one = "virsh dumpxml NAME > FILE writes one"
    if len(data) > MOST_BYTES:
        msg = f"{origin} is larger than {MOST_BYTES >> 20} MiB: not a libvirt domain"
        raise DocumentError(msg, hint=make_one)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as e:
        msg = f"{origin} is not XML: {e}"
        raise DocumentError(msg, hint=make_one) from e
    if root.tag == "domstatus":  # as libvirt keeps running guests in /run
        root = root.find("domain")
    if root is None or root.tag != "domain":
        found = "nothing" if root is None else f"<{root.tag}>"
        msg = f"{origin} is XML, but no libvirt domain: it holds {found}"
        raise DocumentError(msg, hint=make_one)
    return root


def _text(element: Any, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _attribute(element: Any, path: str, name: str) -> str | None:
    found = element.find(path)
    return found.get(name) if found is not None else None


def _number(text: str | None) -> int | None:
    """A number as libvirt writes it; None for what is none, or absurd."""
    text = (text or "").strip()
    if text.isascii() and text.isdecimal() and len(text) < 14:
        return int(text)
    if _HEX.match(text) and text[:2].lower() == "0x":
        return int(text, 16)
    return None


def _mib(element: Any) -> int:
    """A size in MiB, rounded up: KiB without a unit (libvirt, formatdomain, "Memory Allocation")."""
    amount = _number(element.text) if element is not None else None
    if amount is None:
        return 0
    unit = (element.get("unit") or "KiB").lower()
    base = 1000 if len(unit) == 2 and unit.endswith("b") else 1024
    power = _POWERS.get(unit[:1] if unit not in ("bytes", "b") else "", 1)
    return int(min(-(-(amount * base**power) >> 20), _MOST_NUMBER))


def _pins(root: Any) -> Iterator[int]:
    """Every processor of the host that is named."""
    sets = [root.find("vcpu"), *root.iterfind("cputune/*")]
    for element in sets:
        text = element.get("cpuset", "") if element is not None else ""
        for number in re.findall(r"(?<![\^0-9])[0-9]{1,5}", text):
            yield int(number)


def _cpu(element: Any) -> GuestCpu | None:
    """None where the definition leaves it to QEMU, or says what libvirt would not take.

    Without a mode it is custom (libvirt, formatdomain, "CPU model and topology").
    """
    if element is None or (element.get("mode") is None and element.find("model") is None):
        return None
    model = element.find("model")
    told = {
        "mode": element.get("mode", "custom"),
        "match": element.get("match"),
        "check": element.get("check"),
        "model": _text(element, "model") or None,
        "vendor": _text(element, "vendor") or None,
        "fallback": model.get("fallback") if model is not None else None,
        "migratable": {"on": True, "off": False}.get(element.get("migratable")),
        "features": [
            {"name": e.get("name"), "policy": e.get("policy", "require")} for e in element.iterfind("feature")
        ],
    }
    try:
        return msgspec.convert({key: value for key, value in told.items() if value is not None}, GuestCpu)
    except msgspec.ValidationError:
        return None


def _firmware(element: Any) -> FirmwareFacts:
    """UEFI is asked for by ``firmware='efi'``, or by a loader of type pflash (libvirt, formatdomain, "BIOS")."""
    if element is None:
        return FirmwareFacts()
    loader, nvram = element.find("loader"), element.find("nvram")
    automatic = element.get("firmware") is not None
    pflash = loader is not None and (loader.get("type") == "pflash" or "OVMF" in (loader.text or ""))
    secure = any(f.get("name") == "secure-boot" and f.get("enabled") == "yes" for f in element.iterfind("firmware/*"))
    return FirmwareFacts(
        uefi=element.get("firmware") == "efi" or pflash,
        secure_boot=secure or (loader is not None and loader.get("secure") == "yes"),
        automatic=automatic or loader is None or not (loader.text or "").strip(),
        loader=(loader.text or "").strip() or None if loader is not None else None,
        template=nvram.get("template") if nvram is not None else None,
        nvram=(nvram.text or "").strip() or _attribute(nvram, "source", "file") if nvram is not None else None,
    )


def _source(element: Any) -> str | None:
    """What a device's source names, whichever attribute its type has for it."""
    source = element.find("source")
    if source is None:
        return None
    for key in ("file", "dev", "dir", "network", "bridge", "path", "socket", "mount"):
        if value := source.get(key):
            return str(value)
    if volume := source.get("volume"):
        return f"{source.get('pool', '')}/{volume}"
    if source.get("protocol"):
        return f"{source.get('protocol')}:{source.get('name', '')}"
    return None


def _disk(element: Any) -> DiskFacts:
    driver, target = element.find("driver"), element.find("target")
    return DiskFacts(
        device=element.get("device", "disk"),
        type=element.get("type", "file"),
        source=_source(element),
        format=driver.get("type") if driver is not None else None,
        bus=target.get("bus") if target is not None else None,
        target=target.get("dev") if target is not None else None,
        cache=driver.get("cache") if driver is not None else None,
        readonly=element.find("readonly") is not None or element.get("device") == "cdrom",
        shareable=element.find("shareable") is not None,
        encrypted=element.find("encryption") is not None or element.find("source/encryption") is not None,
        backing=tuple(_backing(element)),
    )


def _backing(element: Any) -> Iterator[str]:
    store = element.find("backingStore")
    while store is not None:
        if (path := _source(store)) is not None:
            yield path
        store = store.find("backingStore")


def _nic(element: Any) -> NicFacts:
    return NicFacts(
        type=element.get("type", "user"),
        source=_source(element),
        model=_attribute(element, "model", "type"),
        backend=_attribute(element, "backend", "type"),
    )


def _host_devices(devices: Any) -> Iterator[HostDevice]:
    for element in devices.iterfind("hostdev"):
        source = element.find("source")
        optional = source is not None and source.get("startupPolicy", "mandatory") != "mandatory"
        kind = element.get("type", "") if element.get("mode", "subsystem") == "subsystem" else element.get("mode", "")
        place = _attribute(element, "source/address", "uuid")
        yield HostDevice(
            type=kind, address=_address(element), ids=_ids(source), source=place or _source(element), optional=optional
        )
    for element in devices.iterfind("interface[@type='hostdev']"):
        yield HostDevice(type="pci", address=_address(element), interface=True)
    for element in devices.iterfind("disk[@type='nvme']"):
        yield HostDevice(type="pci", address=_address(element))


def _address(element: Any) -> str | None:
    place = element.find("source/address")
    if place is None:
        return None
    numbers = [_number(place.get(part)) or _hexadecimal(place.get(part)) for part in ("domain", "bus", "slot")]
    function = _number(place.get("function")) or _hexadecimal(place.get("function"))
    if place.get("bus") is None or place.get("slot") is None:
        return None
    domain, bus, slot = (number or 0 for number in numbers)
    if bus > 0xFF or slot > 0x1F or (function or 0) > 7:
        return None
    return str(PciAddress(domain, bus, slot, function or 0))


def _hexadecimal(text: str | None) -> int | None:
    return int(text, 16) if text is not None and _HEX.match(text) else None


def _ids(source: Any) -> str | None:
    """A USB device's ids as clienthv writes them, 046d:c52b."""
    if source is None:
        return None
    vendor = _hexadecimal(_attribute(source, "vendor", "id"))
    product = _hexadecimal(_attribute(source, "product", "id"))
    return f"{vendor:04x}:{product:04x}" if vendor is not None and product is not None else None


def _video(element: Any) -> VideoFacts:
    model = element.find("model")
    name = model.get("type", "") if model is not None else ""
    return VideoFacts(model=name, accel3d=_attribute(element, "model/acceleration", "accel3d") == "yes")


def _graphics(element: Any) -> GraphicsFacts:
    gl = element.find("gl")
    kind = element.get("type", "")
    enabled = kind == "egl-headless" or (gl is not None and gl.get("enable") == "yes")
    return GraphicsFacts(type=kind, gl=enabled, render_node=gl.get("rendernode") if gl is not None else None)


def _tpm(element: Any) -> TpmFacts | None:
    if element is None:
        return None
    backend = element.find("backend")
    return TpmFacts(
        model=element.get("model"),
        backend=backend.get("type") if backend is not None else None,
        version=backend.get("version") if backend is not None else None,
    )


def _paths(devices: Any) -> Iterator[str]:
    """Files of the host beyond disks and firmware: ROM files and event devices."""
    for rom in devices.iterfind("*/rom"):
        if rom.get("file"):
            yield rom.get("file")
    for element in devices.iterfind("input"):
        if (path := _source(element)) is not None:
            yield path


def _arguments(root: Any) -> Iterable[str]:
    return (e.get("value", "") for e in root.iterfind(f"{{{_QEMU}}}commandline/{{{_QEMU}}}arg"))
