"""Recorded PCs in the neutral form -> clienthv host documents.

    python tests/hosts/convert.py RECORD.json... --into DIR

Only what a record states is taken over. What it leaves open stays ``None`` and is named in ``unknown``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from clienthv.errors import DocumentError
from clienthv.model import host as model
from clienthv.model.host import Host, PciFunction, RoleName
from clienthv.model.values import PciAddress

CUT_FLAGS = 1023  # hwinfo, below nixos-facter, reads a line of /proc/cpuinfo into a buffer of 1024 bytes
EXCERPT = re.compile(r"\bpartial\b|\bexcerpt\b|\b(devices|functions|nics?|gpus?) only\b", re.IGNORECASE)
IDENTIFYING = re.compile(
    r"^(root|resume|cryptdevice|ip|(rd\.)?luks\.\w+|(systemd\.)?hostname)="
    r"|(UUID|LABEL|ID)=|/by-\w+/|[0-9a-f]{8}(-[0-9a-f]{4}){3}-|([0-9a-f]{2}:){5}[0-9a-f]{2}|@\w",
    re.IGNORECASE,
)
ACS_OVERRIDE = "pcie_acs_override"
IOMMU_KEYS = ("intel_iommu", "amd_iommu", "iommu", "iommu.passthrough", "iommu.strict", "intremap", ACS_OVERRIDE)
PLACEHOLDER = re.compile(
    r"to be filled by o\.?e\.?m\.?|system (manufacturer|product name)|default string|unknown( \(\w+\))?|",
    re.IGNORECASE,
)
CHASSIS = {
    **dict.fromkeys(("desktop", "workstation", "mini-pc", "nas", "sbc"), "desktop"),
    **dict.fromkeys(("laptop", "tablet", "convertible", "notebook"), "laptop"),
    "server": "server",
    **dict.fromkeys(("guest", "virtual"), "virtual"),
}

# Left out of the unknown: the vendor is part of the recorded name, and a function without a physfn is no VF.
UNREPORTED = {"vendor", "subsystem_device_id", "revision", "physfn", "drm_card", "render_node"}
Recorded = dict[str, Any]  # one JSON object of a record; an absent key is as unknown as null


class Record(msgspec.Struct):
    """What is taken from a record; its verdicts (expected, group_facts, inferred_ids) are not."""

    name: str
    devices: list[Recorded]
    source: str | None = None
    machine: Recorded | None = None
    cpu: Recorded | None = None
    iommu_enabled: bool | None = None
    kernel_cmdline: str | None = None
    kernel: str | None = None
    completeness: str | None = None
    arch: str | None = None
    virtualisation: str | None = None
    displays: dict[str, Any] | None = None
    traits: list[str] = []


def convert(record: Record) -> Host:
    """The host document of one record."""
    pci = _functions(record)
    cmdline = None if record.kernel_cmdline is None else tuple(map(_scrubbed, record.kernel_cmdline.split()))
    host = Host(
        name=record.name,
        source=record.source,
        machine=_machine(record),
        kernel=model.Kernel(release=record.kernel, cmdline=cmdline),
        cpu=_cpu(record),
        iommu=_iommu(record, cmdline, pci),
        pci=pci,
        roles_read=() if record.displays is None else (RoleName.CONNECTED_DISPLAY,),
        roles=_roles(record, {f.address for f in pci}),
    )
    return msgspec.structs.replace(host, unknown=tuple(_unknown(record, host)))


def _machine(record: Record) -> model.Machine:
    """As DMI names it, else its board. What the record calls the PC goes first: form_factor errs on servers."""
    stated = {key: _stated(text) for key, text in (record.machine or {}).items()}
    vendor, product = stated.get("manufacturer"), stated.get("product")
    if product is None and stated.get("board_product"):
        vendor, product = stated.get("board_manufacturer") or vendor, stated["board_product"]
    words = ["virtual"] if _is_guest(record) else [*record.traits, (stated.get("form_factor") or "").lower()]
    chassis = next((CHASSIS[w] for w in words if w in CHASSIS), None)
    return model.Machine(vendor=vendor, product=product or stated.get("description"), chassis=chassis)


def _is_guest(record: Record) -> bool | None:
    return None if record.virtualisation is None else record.virtualisation != "none"


def _cpu(record: Record) -> model.Cpu:
    cpu = record.cpu or {}
    architecture = cpu.get("architecture") or (record.arch or "x86_64").partition("-")[0]
    flags, whole = _flags(cpu.get("flags"))
    virtualization = _virtualization(architecture, flags, whole)
    sockets, siblings = cpu.get("sockets_seen"), cpu.get("logical_per_package")
    listed = _listed("hypervisor", flags, whole) if architecture == "x86_64" else None
    guest = _is_guest(record)
    return model.Cpu(
        architecture=architecture,
        vendor=_stated(cpu.get("vendor")),
        model=_stated(cpu.get("model")),
        sockets=sockets,
        threads=sockets * siblings if sockets and siblings else None,
        virtualization=virtualization,
        nested_paging=_nested_paging(virtualization, flags, whole),
        hypervisor=listed or (listed if guest is None else guest),
        flags=flags,
    )


def _flags(recorded: str | list[str] | None) -> tuple[tuple[str, ...] | None, bool]:
    """The flags and whether they are all there. The last word of a cut list may be half a flag: it goes."""
    if not recorded:
        return None, False
    words = recorded.split() if isinstance(recorded, str) else recorded
    cut = isinstance(recorded, str) and len(recorded) == CUT_FLAGS
    return tuple(words[:-1] if cut else words) or None, not cut


def _listed(flag: str, flags: tuple[str, ...] | None, whole: bool) -> bool | None:
    if flags is None:
        return None
    return True if flag in flags else (False if whole else None)


def _virtualization(architecture: str, flags: tuple[str, ...] | None, whole: bool) -> Any:
    if flags is None or architecture != "x86_64":
        return None
    found = next((v for v in ("vmx", "svm") if v in flags), None)
    return found or ("none" if whole else None)


def _nested_paging(virtualization: str | None, flags: tuple[str, ...] | None, whole: bool) -> bool | None:
    """Newer kernels list ept elsewhere (``vmx flags``): its absence from the flags says nothing."""
    if virtualization == "svm":
        return _listed("npt", flags, whole)
    return True if virtualization == "vmx" and "ept" in (flags or ()) else None


def _scrubbed(word: str) -> str:
    return word.partition("=")[0] + "=<scrubbed>" if IDENTIFYING.search(word) else word


def _iommu(record: Record, cmdline: tuple[str, ...] | None, pci: tuple[PciFunction, ...]) -> model.Iommu:
    enabled = record.iommu_enabled
    parameters = None
    if cmdline is not None:
        parameters = tuple(w for w in cmdline if w.partition("=")[0] in IOMMU_KEYS)
    kind, shown_by = _iommu_kind(parameters or (), pci) if enabled else (None, [])
    groups = {f.iommu_group for f in pci if f.iommu_group is not None}
    whole = EXCERPT.search(record.completeness or "") is None
    count = (len(groups) or None) if enabled and whole else (0 if enabled is False else None)
    evidence = [f"{len(groups)} IOMMU groups in the record"] if groups or enabled is False else []
    return model.Iommu(
        kind=kind,
        enabled=enabled,
        parameters=parameters,
        interrupt_remapping=False if "intremap=off" in (parameters or ()) else None,
        groups=count,
        acs_override=_acs_override(record, parameters),
        evidence=(*evidence, *shown_by),
    )


def _iommu_kind(parameters: Iterable[str], pci: Iterable[PciFunction]) -> tuple[Any, list[str]]:
    unit = next((f for f in pci if f.base_class == "0806" and f.vendor_id == "1022"), None)
    if unit is not None:
        return "amd-vi", [f"{unit.address} is an AMD IOMMU"]
    intel = [p for p in parameters if p.startswith("intel_iommu=") and "on" in p.partition("=")[2].split(",")]
    return ("vt-d" if intel else None), intel


def _acs_override(record: Record, parameters: tuple[str, ...] | None) -> bool | None:
    if any("acs-override" in t for t in record.traits):
        return True
    return None if parameters is None else any(p.startswith(f"{ACS_OVERRIDE}=") for p in parameters)


def _functions(record: Record) -> tuple[PciFunction, ...]:
    virtfns: dict[str, set[str]] = {}
    for device in record.devices:
        if device.get("physfn"):
            virtfns.setdefault(_address(device["physfn"]), set()).add(_address(device["address"]))
    found: dict[str, PciFunction] = {}
    for device in record.devices:
        address = _address(device["address"])
        found.setdefault(address, _function(device, address, virtfns.get(address, set())))
    return tuple(sorted(found.values(), key=lambda f: f.place))


def _function(device: Recorded, address: str, virtfns: set[str]) -> PciFunction:
    class_code = _hex(device.get("class"), 4)
    sriov = model.SrIov(
        totalvfs=device.get("sriov_totalvfs"),
        numvfs=device.get("sriov_numvfs"),
        virtfns=tuple(sorted(virtfns, key=PciAddress.parse)),
    )
    return PciFunction(
        address=address,
        class_code=class_code and class_code + (_hex(device.get("prog_if"), 2) or ""),
        vendor_id=_hex(device.get("vendor_id"), 4),
        device_id=_hex(device.get("device_id"), 4),
        subsystem_vendor_id=_hex(device.get("subsystem_vendor_id"), 4),
        subsystem_device_id=_hex(device.get("subsystem_device_id"), 4),
        device=device.get("name") or None,
        revision=(device.get("rev") or "").lower() or None,
        driver=device.get("driver") or ("" if device.get("driver_known") else None),
        iommu_group=device.get("iommu_group"),
        boot_vga=device.get("boot_vga"),
        sriov=None if sriov == model.SrIov() else sriov,
        physfn=_address(device["physfn"]) if device.get("physfn") else None,
        bridge_path=_bridge_path(device.get("sysfs_path"), address),
    )


def _bridge_path(sysfs_path: str | None, address: str) -> tuple[str, ...] | None:
    """The PCI addresses on the way to the function; None where the path is not the function's own."""
    parts = (sysfs_path or "").split("/")
    places = [_address(part) for part in parts if re.fullmatch(r"[0-9a-fA-F:]+\.[0-7]", part)]
    return tuple(places[: places.index(address)]) if address in places else None


def _address(text: str) -> str:
    return str(PciAddress.parse(text.strip()))


def _hex(text: str | None, digits: int) -> str | None:
    plain = (text or "").lower().removeprefix("0x")
    return plain if re.fullmatch(rf"[0-9a-f]{{{digits}}}", plain) else None


def _stated(text: str | None) -> str | None:
    """The text, unless it is one of the words firmware and tools put where they know nothing."""
    plain = (text or "").strip()
    return None if PLACEHOLDER.fullmatch(plain) else plain


def _roles(record: Record, addresses: set[str]) -> tuple[model.Role, ...]:
    """Each GPU with a monitor: the record has how many, or a list of them."""
    roles = []
    for text, seen in sorted((record.displays or {}).items()):
        count, address = seen if isinstance(seen, int) else len(seen or ()), _address(text)
        if count and address in addresses:
            evidence = f"{count} monitor{'s' if count > 1 else ''} recorded"
            roles.append(model.Role(role=RoleName.CONNECTED_DISPLAY, address=address, evidence=(evidence,)))
    return tuple(roles)


def _unknown(record: Record, host: Host) -> Iterator[str]:
    """What the record does not hold, one short sentence each, from what is None in the host."""
    if EXCERPT.search(record.completeness or ""):
        yield f"other PCI functions: the record is an excerpt ({record.completeness})"
    for name in ("machine", "kernel", "cpu", "memory", "kvm", "iommu"):
        part = getattr(host, name)
        if part == type(part)():
            yield f"{name}: not recorded"
        else:
            yield from (f"{name}.{f}: not recorded" for f in part.__struct_fields__ if getattr(part, f) is None)
    if host.cpu.flags and not _flags((record.cpu or {}).get("flags"))[1]:
        yield "cpu.flags: the recorded list is cut, so a flag that is not in it may exist"
    for field in PciFunction.__struct_fields__:
        missing = sum(getattr(f, field) is None for f in host.pci)
        if missing and field not in UNREPORTED:
            of_some = "" if missing == len(host.pci) else f" for {missing} of {len(host.pci)} functions"
            yield f"{field}: not recorded{of_some}"
    roles = [role.value for role in RoleName if role not in host.roles_read]
    yield f"roles: not recorded ({', '.join(roles)})"
    yield from (f"{what}: not recorded" for what in ("usb", "other_keyboards", "tpm_device"))
    yield "stack: libvirt and QEMU not recorded"


@click.command()
@click.argument("records", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--into", required=True, type=click.Path(file_okay=False, path_type=Path), help="where to write")
def main(records: tuple[Path, ...], into: Path) -> None:
    """Convert each RECORD to INTO/NAME.json."""
    into.mkdir(parents=True, exist_ok=True)
    for path in records:
        try:
            host = convert(msgspec.json.decode(path.read_bytes(), type=Record))
            document = model.encode(model.decode(model.encode(host), str(path)))
        except (msgspec.MsgspecError, DocumentError, KeyError, TypeError, ValueError) as e:
            raise click.ClickException(f"{path}: not a record of the neutral form: {e}") from e
        (into / f"{Path(host.name).name}.json").write_bytes(document)
    click.echo(f"{len(records)} host documents in {into}")


if __name__ == "__main__":
    main()
