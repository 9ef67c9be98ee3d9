"""Whatever a definition says, it is read and judged without a crash, and by the rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from definitions import files, pc, subject, target, xml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from clienthv import portability
from clienthv.lifecycle import subjects
from clienthv.model import host as host_model
from clienthv.model.host import Host
from clienthv.model.portability import LEAVES, Checks, Severity, Verdict, encode
from clienthv.report import portability as report

HOSTS = Path(__file__).resolve().parent.parent / "hosts"
NAMES = (
    "lab-full", "fa-guest-kvm-arm", "desk-x570-3rdgen-rx580-gt710-b", "laptop-latitude7490-noids",
    "partial-i350-8vf", "is-990fx-no-iommu-groups",
)  # fmt: skip
ELEMENTS = (
    "name", "memory", "currentMemory", "vcpu", "cputune", "vcpupin", "emulatorpin", "numatune", "memnode", "cpu",
    "model", "feature", "vendor", "topology", "os", "type", "loader", "nvram", "kernel", "initrd", "smbios",
    "firmware", "features", "hyperv", "relaxed", "devices", "emulator", "disk", "driver", "source", "target",
    "address", "readonly", "shareable", "encryption", "backingStore", "dataStore", "interface", "hostdev", "rom",
    "product", "filesystem", "video", "acceleration", "graphics", "gl", "listen", "sound", "audio", "input",
    "controller", "redirdev", "tpm", "backend", "shmem", "size", "launchSecurity", "memoryBacking", "hugepages",
    "serial", "rng", "metadata", "teaming", "path", "acpi",
    "{http://libvirt.org/schemas/domain/qemu/1.0}commandline", "{http://libvirt.org/schemas/domain/qemu/1.0}arg",
    "{http://libosinfo.org/xmlns/libvirt/domain/1.0}libosinfo", "{http://libosinfo.org/xmlns/libvirt/domain/1.0}os",
)  # fmt: skip
ATTRIBUTES = (
    "type", "mode", "unit", "model", "name", "policy", "state", "arch", "machine", "device", "bus", "slot",
    "function", "domain", "dev", "file", "dir", "network", "bridge", "pool", "volume", "protocol", "cache", "id",
    "uuid", "cpuset", "nodeset", "check", "match", "vendor", "fallback", "migratable", "startupPolicy", "accel3d",
    "rendernode", "enable", "listen", "address", "secure", "enabled", "template", "firmware", "persistent", "value",
    "version",
)  # fmt: skip
WORDS = (
    "", "kvm", "qemu", "xen", "x86_64", "aarch64", "q35", "pc", "pc-i440fx-2.12", "virtio", "sata", "ide", "nvme",
    "block", "network", "volume", "hostdev", "bridge", "direct", "user", "pci", "usb", "mdev", "scsi", "cdrom",
    "/dev/sda", "/a b", "host-passthrough", "host-model", "custom", "EPYC", "require", "invtsc", "efi", "yes", "on",
    "0x01", "0x1f", "1", "7", "65536", "4294967295", "99999999999999999999", "-1", "0-7,^3", "GB", "KiB", "spice",
    "vnc", "egl-headless", "qxl", "passthrough", "emulator", "virtiofs", "vfio-pci,host=01:00.0",
    '{"driver":"vfio-pci","host":1}', "optional", "transient", "unsafe", "none", "http://microsoft.com/win/11",
    "\u0661", "é\u202e", "x" * 300,
)  # fmt: skip


def host(name: str) -> Host:
    return host_model.decode((HOSTS / f"{name}.json").read_bytes(), name)


PCS = {name: host(name) for name in NAMES}
TEXT = st.sampled_from(WORDS) | st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), max_size=20
)


@st.composite
def elements(draw: st.DrawFn, depth: int = 4) -> etree._Element:
    made = etree.Element(
        draw(st.sampled_from(ELEMENTS)), draw(st.dictionaries(st.sampled_from(ATTRIBUTES), TEXT, max_size=4))
    )
    made.text = draw(TEXT)
    if depth:
        made.extend(draw(st.lists(elements(depth - 1), max_size=3)))
    return made


@st.composite
def devices(draw: st.DrawFn) -> etree._Element:
    """A device as libvirt nests them: its parts one below."""
    kinds = (
        "disk",
        "interface",
        "hostdev",
        "video",
        "graphics",
        "filesystem",
        "tpm",
        "controller",
        "input",
        "sound",
        "shmem",
    )
    made = etree.Element(
        draw(st.sampled_from(kinds)), draw(st.dictionaries(st.sampled_from(ATTRIBUTES), TEXT, max_size=3))
    )
    for name in draw(
        st.lists(st.sampled_from(("source", "driver", "target", "model", "backend", "rom", "gl")), max_size=4)
    ):
        part = etree.SubElement(made, name, draw(st.dictionaries(st.sampled_from(ATTRIBUTES), TEXT, max_size=4)))
        part.extend(draw(st.lists(elements(0), max_size=2)))
    return made


@st.composite
def domains(draw: st.DrawFn) -> bytes:
    root = etree.Element("domain", draw(st.dictionaries(st.sampled_from(ATTRIBUTES), TEXT, max_size=3)))
    root.extend(draw(st.lists(elements(2), max_size=5)))
    inner = etree.SubElement(root, "devices")
    inner.extend(draw(st.lists(devices(), max_size=6)))
    inner.extend(draw(st.lists(elements(2), max_size=2)))
    made: bytes = etree.tostring(root)
    return made


@settings(max_examples=100)
@given(data=domains(), name=st.sampled_from(NAMES), source=st.sampled_from((None, *NAMES)))
def test_any_definition_is_judged_on_any_pc(data: bytes, name: str, source: str | None) -> None:
    moved = subjects.of_definition(data, "any.xml", PCS[source] if source else None)
    check = portability.check(moved, target(PCS[name]))
    order = list(Verdict)
    worst = max([Verdict.LIVE, *(LEAVES[f.severity] for f in check.findings if f.severity in LEAVES)], key=order.index)
    assert check.verdict is worst
    assert check == portability.check(moved, target(PCS[name]))
    assert (check.plan is None) <= (check.verdict is Verdict.BLOCKED)
    assert all(d.there is not None for d in check.devices) or check.verdict is Verdict.BLOCKED
    assert encode(Checks(subject=moved.name, subject_kind=moved.kind, checks=(check,)))
    assert list(report.lines(check, moved.name))
    assert report.summary_json(check)


PARTS = st.fixed_dictionaries(
    {
        "machine": st.sampled_from(("q35", "pc", "pc-q35-7.2")),
        "video": st.sampled_from(
            tuple(f'<video><model type="{m}"/></video>' for m in ("vga", "virtio", "qxl", "cirrus"))
        ),
        "graphics": st.sampled_from(("", '<graphics type="vnc"/>', '<graphics type="spice"/>')),
        "vcpus": st.integers(1, 8).map(str),
        "efi": st.sampled_from(("", ' firmware="efi"')),
        "memory": st.integers(1, 8).map(lambda n: f'<memory unit="GiB">{n}</memory>'),
        "root": st.sampled_from(("", '<cpu mode="host-passthrough"/>', '<cpu mode="host-model"/>')),
    }
)
EXTRAS = st.lists(
    st.sampled_from(
        (
            '<sound model="ich9"/>', '<tpm model="tpm-crb"><backend type="emulator"/></tpm>', '<shmem name="a"/>',
            '<interface type="network"><source network="default"/><model type="virtio"/></interface>',
            '<interface type="user"><model type="e1000"/></interface>', "<redirdev bus='usb' type='spicevmc'/>",
        )
    ),
    unique=True,
)  # fmt: skip


@given(parts=PARTS, extras=EXTRAS)
def test_a_guest_without_devices_of_the_host_starts_as_it_is_on_its_own_pc(
    parts: dict[str, str], extras: list[str]
) -> None:
    own = pc("here")
    check = portability.check(
        subject(xml("".join(extras), **parts), own),
        target(own, exists=files("/srv/nowhere/guest.qcow2")),  # type: ignore[arg-type]
    )
    assert check.verdict in (Verdict.LIVE, Verdict.COLD), check.findings
    assert not [f for f in check.findings if f.severity in (Severity.BLOCKS, Severity.CHANGES)]
    assert not [d for d in check.devices if d.changes]


@pytest.mark.parametrize("name", NAMES)
def test_a_check_of_a_definition_that_says_nothing_asks_for_its_memory(name: str) -> None:
    check = portability.check(subject(b"<domain/>"), target(PCS[name]))
    assert {f.code for f in check.findings if f.severity in LEAVES} >= {"memory"}
