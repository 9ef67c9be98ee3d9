"""A domain's XML as facts; nothing outside it is read, and a stranger's may say anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from lxml import etree

from clienthv.errors import DocumentError
from clienthv.hypervisor import host_devices
from clienthv.hypervisor.host_devices import attribute, number, optional, source_of
from clienthv.model.cpu import GuestCpu
from clienthv.model.domain import (
    DiskFacts,
    DomainFacts,
    FilesystemFacts,
    FirmwareFacts,
    GraphicsFacts,
    NicFacts,
    TpmFacts,
    VideoFacts,
)

MOST_BYTES: Final = 4 << 20
_MOST_TEXT: Final = 1 << 16
_QEMU: Final = "http://libvirt.org/schemas/domain/qemu/1.0"
_OSINFO: Final = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
# Binary multiples are KiB and K alike, decimal ones KB (libvirt, src/util/virutil.c, virScaleInteger).
_POWERS: Final = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_MOST_NUMBER: Final = 1 << 40
_OTHERS: Final = ("crypto", "iommu", "memory", "serial", "smartcard", "vsock")
_EVERYWHERE: Final = ("/dev/random", "/dev/urandom")


def read(xml: bytes | str, origin: str) -> DomainFacts:
    """What a domain's XML says. Raises DocumentError on what is no domain."""
    root = tree(xml, origin)
    devices = root.find("devices")
    devices = devices if devices is not None else etree.Element("devices")
    os_element, cpu, arguments = root.find("os"), root.find("cpu"), tuple(_arguments(root))
    return DomainFacts(
        name=_text(root, "name"),
        uuid=root.findtext("uuid"),
        type=root.get("type", "kvm"),
        arch=attribute(root, "os/type", "arch") or "x86_64",
        machine=attribute(root, "os/type", "machine"),
        emulator=devices.findtext("emulator"),
        os_id=attribute(root, f"metadata/{{{_OSINFO}}}libosinfo/{{{_OSINFO}}}os", "id"),
        vcpus=number(root.findtext("vcpu")) or 1,
        memory_mib=_mib(root.find("memory")),
        hugepages=root.find("memoryBacking/hugepages") is not None,
        page_sizes_kib=tuple(dict.fromkeys(_page_sizes(root))),
        highest_pin=max(_pins(root), default=None),
        highest_node=max(_numbers(e.get("nodeset", "") for e in root.iterfind("numatune/*")), default=None),
        cpu=_cpu(cpu),
        firmware=_firmware(os_element),
        disks=tuple(map(_disk, devices.iterfind("disk"))),
        nics=tuple(_nic(e) for e in devices.iterfind("interface") if e.get("type") != "hostdev"),
        host_devices=(*host_devices.defined(devices), *host_devices.handed_over(arguments)),
        filesystems=tuple(
            FilesystemFacts(
                driver=attribute(e, "driver", "type") or "path",
                source=source_of(e),
                socket=attribute(e, "source", "socket"),
            )
            for e in devices.iterfind("filesystem")
        ),
        video=tuple(_video(e) for e in devices.iterfind("video") if attribute(e, "model", "type") != "none"),
        graphics=tuple(map(_graphics, devices.iterfind("graphics"))),
        sounds=tuple(e.get("model") for e in devices.iterfind("sound") if e.get("model")),
        audio=tuple(e.get("type") for e in devices.iterfind("audio") if e.get("type")),
        inputs=tuple(f"{e.get('type')} {e.get('bus', '')}".strip() for e in devices.iterfind("input")),
        controllers=tuple(f"{e.get('type')} {e.get('model', '')}".strip() for e in devices.iterfind("controller")),
        redirections=sum(1 for _ in devices.iterfind("redirdev")),
        tpm=_tpm(devices.find("tpm")),
        shared_memory=tuple(e.get("name", "") for e in devices.iterfind("shmem")),
        server_memory=tuple(e.get("name", "") for e in devices.iterfind("shmem[@role='master']")),
        others=tuple(_others(devices)),
        steady_clock=root.find("clock/timer[@name='tsc'][@frequency]") is not None,
        hyperv=tuple(e.tag for e in root.iterfind("features/hyperv/*") if e.get("state") == "on"),
        launch_security=attribute(root, "launchSecurity", "type"),
        smbios_host=attribute(root, "os/smbios", "mode") == "host",
        kernel=root.findtext("os/kernel"),
        paths=tuple(dict.fromkeys(_paths(root, devices))),
        arguments=arguments,
        overrides=tuple(_overrides(root)),
        security_models=tuple(dict.fromkeys(_security_models(root, devices))),
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
        msg = f"{origin} is not XML: {' '.join(getattr(e, 'msg', str(e)).split())}"
        raise DocumentError(msg, hint=make_one) from e
    if root.tag == "domstatus":  # as libvirt keeps running guests in /run
        root = root.find("domain")
    if root is None or root.tag != "domain":
        found = "nothing" if root is None else f"<{root.tag}>"
        msg = f"{origin} is XML, but no libvirt domain: it holds {found}"
        raise DocumentError(msg, hint=make_one)
    if (longest := max(map(len, _texts(root)), default=0)) > _MOST_TEXT:
        msg = f"{origin} has a text of {longest} characters in it: not a libvirt domain"
        raise DocumentError(msg, hint=make_one)
    return root


def _texts(root: Any) -> Iterator[str]:
    """Every text that could be a fact; what programs and people keep in a domain may be long."""
    for part in root:
        if part.tag not in ("metadata", "description", "title"):
            for element in part.iter():
                yield element.text or ""
                yield from element.attrib.values()


def _text(element: Any, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _mib(element: Any) -> int:
    """A size in MiB, rounded up: KiB without a unit (libvirt, formatdomain, "Memory Allocation")."""
    amount = number(element.text) if element is not None else None
    if amount is None:
        return 0
    unit = (element.get("unit") or "KiB").lower()
    base = 1000 if len(unit) == 2 and unit.endswith("b") else 1024
    power = _POWERS.get(unit[:1] if unit not in ("bytes", "b") else "", 1)
    return int(min(-(-(amount * base**power) >> 20), _MOST_NUMBER))


def _pins(root: Any) -> Iterator[int]:
    """Every processor of the host that is named."""
    sets = [root.find("vcpu"), *root.iterfind("cputune/*")]
    return _numbers(element.get("cpuset", "") for element in sets if element is not None)


def _numbers(sets: Iterable[str]) -> Iterator[int]:
    """The numbers of sets like 0-3,^2,8; not those that are taken out."""
    for text in sets:
        yield from map(int, re.findall(r"(?<![\^0-9])[0-9]{1,5}(?![0-9])", text))


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
        nvram=(nvram.text or "").strip() or attribute(nvram, "source", "file") if nvram is not None else None,
    )


def _disk(element: Any) -> DiskFacts:
    driver, target = element.find("driver"), element.find("target")
    return DiskFacts(
        device=element.get("device", "disk"),
        type=element.get("type", "file"),
        source=source_of(element),
        format=driver.get("type") if driver is not None else None,
        bus=target.get("bus") if target is not None else None,
        target=target.get("dev") if target is not None else None,
        cache=driver.get("cache") if driver is not None else None,
        readonly=element.find("readonly") is not None or element.get("device") == "cdrom",
        shareable=element.find("shareable") is not None,
        optional=optional(element.find("source")),
        data_file=_data_file(element),
        encrypted=element.find("encryption") is not None or element.find("source/encryption") is not None,
        backing=tuple(_backing(element)),
        transient=element.find("transient") is not None,
        mirrored=element.find("mirror") is not None,
        servers=tuple(_server(e) for e in element.iterfind("source/host")),
    )


def _server(element: Any) -> str:
    name, port = element.get("name") or element.get("socket") or "", element.get("port")
    return f"{name}:{port}" if port else name


def _data_file(element: Any) -> str | None:
    store = element.find("source/dataStore")
    return source_of(store) if store is not None else None


def _backing(element: Any) -> Iterator[str]:
    store = element.find("backingStore")
    while store is not None:
        if (path := source_of(store)) is not None:
            yield path
        store = store.find("backingStore")


def _nic(element: Any) -> NicFacts:
    return NicFacts(
        type=element.get("type", "user"),
        source=source_of(element),
        model=attribute(element, "model", "type"),
        backend=attribute(element, "backend", "type"),
        filter=attribute(element, "filterref", "filter"),
    )


def _video(element: Any) -> VideoFacts:
    model = element.find("model")
    name = model.get("type", "") if model is not None else ""
    return VideoFacts(model=name, accel3d=attribute(element, "model/acceleration", "accel3d") == "yes")


def _graphics(element: Any) -> GraphicsFacts:
    gl = element.find("gl")
    kind = element.get("type", "")
    enabled = kind == "egl-headless" or (gl is not None and gl.get("enable") == "yes")
    named = [element.get("listen"), *(e.get("address") for e in element.iterfind("listen"))]
    return GraphicsFacts(
        type=kind,
        gl=enabled,
        render_node=gl.get("rendernode") if gl is not None else None,
        listens=tuple(dict.fromkeys(address for address in named if address)),
    )


def _tpm(element: Any) -> TpmFacts | None:
    if element is None:
        return None
    backend = element.find("backend")
    return TpmFacts(
        model=element.get("model"),
        backend=backend.get("type") if backend is not None else None,
        version=backend.get("version") if backend is not None else None,
    )


def _paths(root: Any, devices: Any) -> Iterator[str]:
    """Files of the host beyond disks and firmware: ROMs, event devices, serial ports, ACPI tables and the like."""
    yield from (rom.get("file") for rom in devices.iterfind("*/rom") if rom.get("file"))
    for element in devices.iterfind("input"):
        if (path := source_of(element)) is not None:
            yield path
    for name in ("serial", "parallel", "console", "channel"):
        for element in devices.iterfind(f"{name}[@type='dev']"):
            if (path := source_of(element)) is not None:
                yield path
    yield from (e.get("path") for e in devices.iterfind("interface/script") if e.get("path", "").startswith("/"))
    texts = [*root.iterfind("os/initrd"), *root.iterfind("os/dtb"), *root.iterfind("os/shim")]
    texts += [*root.iterfind("os/acpi/table"), *devices.iterfind("memory/source/path")]
    texts += devices.iterfind("rng/backend[@model='random']")
    for element in texts:
        path = (element.text or "").strip()
        if path and path not in _EVERYWHERE:
            yield path


def _page_sizes(root: Any) -> Iterator[int]:
    """KiB is the unit where none is named (libvirt, formatdomain, "Memory Backing")."""
    for page in root.iterfind("memoryBacking/hugepages/page"):
        if size := number(page.get("size")):
            power = _POWERS.get((page.get("unit") or "KiB").lower()[:1], 1)
            yield min(size * 1024**power >> 10, _MOST_NUMBER)


def _security_models(root: Any, devices: Any) -> Iterator[str]:
    """The security drivers that labels name; libvirt takes "none" everywhere (virSecurityManagerCheckModel)."""
    for label in (*root.iterfind("seclabel"), *devices.iterfind("*/source/seclabel")):
        if (model := label.get("model")) and model != "none":
            yield model


def _overrides(root: Any) -> Iterator[str]:
    """Environment, properties and capabilities that are set past libvirt (libvirt, drvqemu, "Pass-through")."""
    for e in root.iterfind(f"{{{_QEMU}}}commandline/{{{_QEMU}}}env"):
        yield f"{e.get('name', '')}={e.get('value', '')}"
    for device in root.iterfind(f"{{{_QEMU}}}override/{{{_QEMU}}}device"):
        for e in device.iter(f"{{{_QEMU}}}property"):
            yield f"{device.get('alias', '')}.{e.get('name', '')}={e.get('value', '')}"
    for e in root.iterfind(f"{{{_QEMU}}}capabilities/*"):
        yield f"{'-' if e.tag.endswith('}del') else '+'}{e.get('capability', '')}"


def _others(devices: Any) -> Iterator[str]:
    """Devices of which the kind and model say all, in the words of libvirt."""
    for element in devices:
        if element.tag in _OTHERS:
            model = element.get("model") or element.get("mode") or attribute(element, "target", "type")
            yield f"{element.tag} {model or ''}".strip()


def _arguments(root: Any) -> Iterator[str]:
    return (e.get("value", "") for e in root.iterfind(f"{{{_QEMU}}}commandline/{{{_QEMU}}}arg"))
