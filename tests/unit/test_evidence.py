"""The files that show why a rung was not taken: on every recorded PC, and for each reason on a PC made for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clienthv import api
from clienthv.errors import ClienthvError
from clienthv.model.advice import Evidence
from clienthv.model.host import (
    Cpu,
    DomainCapabilities,
    EventDevice,
    GuestClaims,
    Host,
    HostNetwork,
    Iommu,
    Kvm,
    PciFunction,
    Role,
    RoleName,
    SrIov,
    Stack,
    decode,
)
from clienthv.model.network import Bridge, Card, VirtualNetwork
from clienthv.model.particulars import MdevType, Particulars
from clienthv.model.plan import Kind, Reason, Rejected, Strategy
from clienthv.model.usb import UsbDevice, UsbRole
from clienthv.strategies.evidence import NO_FACT_OF_THE_HOST, of_function, of_rejected

HOSTS = Path(__file__).parent.parent / "hosts"
RECORDED = sorted([*HOSTS.glob("*.json"), *HOSTS.glob("more/*.json")])
PROFILES = ("performance", "mixed", "portable")
R = Reason
SURE = {R.NO_HARDWARE_VIRTUALIZATION: ("neither vmx nor svm",), R.ARCHITECTURE_DIFFERS: ("x86_64",)}
"""What the reason itself says, or every document has."""


def rejections(host: Host) -> list[tuple[Kind | None, Rejected]]:
    """Every rung that is not taken on a host, by some profiles, and every device that cannot be handed over."""
    found: list[tuple[Kind | None, Rejected]] = []
    for name in PROFILES:
        try:
            plan = api.plan(host, api.load_profile(name))
        except ClienthvError:
            continue  # not every PC is large enough for every profile
        found += [(d.kind, r) for d in plan.decisions for r in d.rejected]
    return found + [(None, r) for device in api.devices(host).devices for r in device.objections]


def check(evidence: Evidence, host: Host) -> None:
    """What a file of a PCI function is said to hold is what the host document has of it."""
    assert evidence.file
    assert evidence.value
    assert "None" not in evidence.value
    match = re.fullmatch(r"/sys/bus/pci/devices/([0-9a-f:.]+)/(\w+)", evidence.file)
    if match is None:
        return
    function = host.by_address[match[1]]
    holds: dict[str, Any] = {
        "vendor": function.vendor_id,
        "device": function.device_id,
        "driver": function.driver,
        "iommu_group": function.iommu_group,
        "boot_vga": None if function.boot_vga is None else int(function.boot_vga),
        "physfn": function.physfn,
        "reset_method": None if function.reset_methods is None else " ".join(function.reset_methods),
        "sriov_numvfs": function.sriov.numvfs if function.sriov else None,
    }
    if match[2] in holds:
        value = holds[match[2]]
        nothing = {"absent", "unknown"} if match[2] == "iommu_group" else {"unknown"}
        assert evidence.value in (nothing if value is None else {str(value) or "absent"})


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_every_rung_that_a_recorded_pc_cannot_have_is_shown_by_its_files(path: Path) -> None:
    host = decode(path.read_bytes(), path.name)
    for kind, rejected in rejections(host):
        found = of_rejected(rejected, host, kind)
        on_the_guest = rejected.reason is R.NO_GUEST_DRIVER and rejected.device is None
        assert bool(found) == (rejected.reason not in NO_FACT_OF_THE_HOST and not on_the_guest), rejected
        for evidence in found:
            check(evidence, host)


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_what_is_told_of_a_function_of_a_recorded_pc_is_in_its_document(path: Path) -> None:
    host = decode(path.read_bytes(), path.name)
    for function in host.pci:
        found = of_function(function, host)
        assert {f"/sys/bus/pci/devices/{function.address}/{f}" for f in ("driver", "iommu_group", "reset_method")} <= {
            e.file for e in found
        }
        for evidence in found:
            check(evidence, host)


@pytest.mark.parametrize("reason", Reason)
def test_of_a_host_of_which_nothing_is_known_nothing_is_invented(reason: Reason) -> None:
    host = Host(pci=(PciFunction(address="0000:01:00.0"),))
    for device in (None, "0000:01:00.0", "0000:09:00.0", "046d:c52b", "class:webcam", "bridge:br0", "passt", "x\n"):
        rejected = Rejected(strategy=Strategy.PASSTHROUGH, device=device, reason=reason, detail="")
        for kind in (None, *Kind):
            said = {e.value for e in of_rejected(rejected, host, kind) if not e.file.startswith("host document")}
            assert said <= {"unknown", *SURE.get(reason, ())}


# --- one PC for each reason that no recording has


def card(address: str, **more: Any) -> PciFunction:
    return PciFunction(address=f"0000:{address}", class_code=more.pop("class_code", "020000"), **more)


def of_pci(name: str) -> str:
    return f"/sys/bus/pci/devices/0000:01:00.0/{name}"


def network(**more: Any) -> HostNetwork:
    bridges = (Bridge(name="br0", ports=("eno1",), up=False), Bridge(name="virbr0", ports=()))
    cards = (Card(name="eno1", up=True, wireless=False, master="br0"), Card(name="wlan0", up=None, wireless=True))
    return HostNetwork(bridges=bridges, cards=cards, **more)


def stack(**more: Any) -> Stack:
    return Stack(uri="qemu:///session", privileged=False, libvirt_version="8.0.0", qemu_version="6.2.0", **more)


HERE = "0000:01:00.0"
STICK = UsbDevice(port="1-2", vendor_id="046d", product_id="c52b", busnum=1, devnum=4, interface_classes=("030101",))
KEYS = UsbDevice(port="1-3", vendor_id="046d", product_id="c31c", busnum=1, devnum=5, keyboard=True)
MDEVS = Particulars(mdev_types=(MdevType(id="i915-GVTg_V5_4", available=0), MdevType(id="nvidia-1", writable=False)))
RUNS = GuestClaims(name="other", running=True, functions=(HERE,), usb=("046d:c52b",), tpm=True)

MADE: list[tuple[Reason, str | None, Kind | None, Host, dict[str, str]]] = [
    (R.CPU_LEVEL_MISSING, None, Kind.CPU, Host(cpu=Cpu(flags=("lm",))), {
        "/proc/cpuinfo, flags": "below x86-64-v1, without cmov cx8 fpu fxsr mmx sse sse2 syscall of x86-64-v1",
    }),
    (R.KVM_NOT_USABLE, None, Kind.CPU, Host(kvm=Kvm(usable=False, device_present=False)), {
        "/dev/kvm": "is not there",
    }),
    (R.KVM_NOT_USABLE, None, Kind.CPU, Host(kvm=Kvm(usable=False)), {"host document, kvm.usable": "false"}),
    (R.IOMMU_OFF, HERE, None, Host(iommu=Iommu(enabled=False, parameters=("iommu=off",), acpi_table="IVRS")), {
        "/sys/firmware/acpi/tables": "IVRS", "/sys/kernel/iommu_groups": "no group", "/proc/cmdline": "iommu=off",
    }),
    (R.NO_INTERRUPT_REMAPPING, HERE, None, Host(iommu=Iommu(enabled=True, interrupt_remapping=False)), {
        "host document, iommu.interrupt_remapping": "false",
        "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts": "unknown",
    }),
    (R.ACS_OVERRIDE, HERE, None, Host(iommu=Iommu(acs_override=True)), {"host document, iommu.acs_override": "true"}),
    (R.VFIO_UNAVAILABLE, HERE, None, Host(stack=stack(capabilities=DomainCapabilities(domain_type="kvm"))), {
        "virsh domcapabilities, hostdev pciBackend": "none",
    }),
    (R.NO_PRIVILEGE, HERE, Kind.NIC, Host(pci=(card("01:00.0", sriov=SrIov(writable=False)),)), {
        of_pci("sriov_numvfs"): "this user may not write it",
    }),
    (R.NO_PRIVILEGE, HERE, Kind.GPU, Host(pci=(card("01:00.0", particulars=MDEVS),)), {
        of_pci("mdev_supported_types/nvidia-1/create"): "this user may not write it",
    }),
    (R.NO_PRIVILEGE, "bridge:br0", Kind.NIC, Host(stack=stack(), network=network(helper_allows=("br1",))), {
        "virsh uri": "qemu:///session, without root's rights", "/etc/qemu/bridge.conf": "allows br1",
    }),
    (R.BEHIND_VMD, "10000:e1:00.0", Kind.DISK, Host(pci=(
        card("00:0e.0", driver="vmd"),
        PciFunction(address="10000:e1:00.0", class_code="010802", bridge_path=("0000:00:0e.0", "10000:e0:06.0")),
    )), {
        "/sys/bus/pci/devices/10000:e1:00.0/class": "010802", "/sys/bus/pci/devices/0000:00:0e.0/driver": "vmd",
    }),
    (R.USED_BY_VM, HERE, Kind.NIC, Host(pci=(card("01:00.0"),), stack=stack(vms=(RUNS,))), {
        "virsh dumpxml other": HERE,
    }),
    (R.USED_BY_VM, HERE, Kind.NIC, Host(pci=(card("01:00.0"),), stack=stack(guest_functions=(HERE,))), {
        "virsh list": f"a VM that runs has {HERE}",
    }),
    (R.USED_BY_VM, "046d:c52b", Kind.USB_DEVICE, Host(usb=(STICK,), stack=stack(vms=(RUNS,))), {
        "virsh dumpxml other": "046d:c52b",
    }),
    (R.USED_BY_VM, None, Kind.TPM, Host(stack=stack(vms=(RUNS,))), {"virsh dumpxml other": "tpm"}),
    (R.BYPASSES_IOMMU, HERE, None, Host(pci=(card("01:00.0", vendor_id="1af4", access_platform=False),)), {
        of_pci("virtio*/features"): "bit 33 is 0",
    }),
    (R.RESERVED_MEMORY, HERE, None, Host(pci=(
        card("01:00.0", iommu_group=7, particulars=Particulars(reserved_memory=("0xe0000-0xfffff",))),
    )), {"/sys/kernel/iommu_groups/7/reserved_regions": "0xe0000 0xfffff direct"}),
    (R.CONNECTED_DISPLAY, HERE, Kind.GPU, Host(pci=(card("01:00.0", class_code="030000"),), roles=(
        Role(role=RoleName.CONNECTED_DISPLAY, address=HERE, evidence=("/sys/class/drm/card0-DP-1/status: connected",)),
    )), {"/sys/class/drm/card0-DP-1/status": "connected"}),
    (R.BOOT_DISPLAY, HERE, Kind.GPU, Host(pci=(card("01:00.0", class_code="030000", boot_vga=True),)), {
        of_pci("boot_vga"): "1",
    }),
    (R.MOUNTED_DISK, "046d:c52b", Kind.USB_DEVICE, Host(usb=(msgspec.structs.replace(STICK, roles=(
        UsbRole(role=RoleName.MOUNTED_DISK, evidence=("/proc/self/mountinfo: /media is on sdb1",)),
    )),)), {"/proc/self/mountinfo": "/media is on sdb1"}),
    (R.HOST_INPUT, "046d:c52b", Kind.USB_DEVICE, Host(usb=(STICK,)), {
        "/sys/bus/usb/devices/1-2:*/bInterfaceClass": "030101",
    }),
    (R.IN_USE, HERE, Kind.GPU, Host(pci=(card("01:00.0", particulars=Particulars(holders=("Xorg", "steam"))),)), {
        f"/proc/*/fd, open on {HERE}": "Xorg, steam",
    }),
    (R.USB_UNKNOWN, "046d:c52b@1-2", Kind.USB_DEVICE, Host(usb=(msgspec.structs.replace(STICK, devnum=None),)), {
        "/sys/bus/usb/devices/1-2/busnum": "1", "/sys/bus/usb/devices/1-2/devnum": "unknown",
    }),
    (R.NOT_PLUGGED_IN, "046d:c52b@1-9", Kind.USB_DEVICE, Host(usb=(STICK, KEYS)), {
        "/sys/bus/usb/devices/1-9": "absent",
        "/sys/bus/usb/devices/*/idVendor, idProduct": "046d:c52b on 1-2",
    }),
    (R.NOT_PLUGGED_IN, "class:webcam", Kind.USB_DEVICE, Host(usb=(STICK,)), {
        "/sys/bus/usb/devices/*:*/bInterfaceClass": "none is of a webcam",
    }),
    (R.SEVERAL_MATCH, "046d:c52b", Kind.USB_DEVICE, Host(usb=(STICK, msgspec.structs.replace(STICK, port="1-4"))), {
        "/sys/bus/usb/devices/1-2": "046d:c52b", "/sys/bus/usb/devices/1-4": "046d:c52b",
    }),
    (R.IS_HUB, "046d:c52b", Kind.USB_DEVICE, Host(usb=(msgspec.structs.replace(STICK, device_class="09"),)), {
        "/sys/bus/usb/devices/1-2/bDeviceClass": "09", "/sys/bus/usb/devices/1-2:*/bInterfaceClass": "030101",
    }),
    (R.ONLY_KEYBOARD, "046d:c31c", Kind.USB_DEVICE, Host(usb=(STICK, KEYS), other_keyboards=()), {
        "udev, 1-3": "ID_INPUT_KEYBOARD=1", "/proc/bus/input/devices, not USB": "none",
    }),
    (R.USB_CLASS_UNKNOWN, "class:webcam", Kind.USB_DEVICE, Host(usb=(STICK, KEYS)), {
        "/sys/bus/usb/devices/1-3:*/bInterfaceClass": "unknown",
    }),
    (R.NETWORKS_UNKNOWN, "bridge:br0", Kind.NIC, Host(network=network()), {"/etc/qemu/bridge.conf": "unknown"}),
    (R.NO_BRIDGE, "bridge:br7", Kind.NIC, Host(network=network()), {
        "/sys/class/net/*/bridge": "br0, virbr0",
        "/sys/class/net/br0/brif": "eno1", "/sys/class/net/virbr0/brif": "none",
        "/sys/class/net/wlan0/phy80211": "present",
    }),
    (R.NO_NETWORK, "network:lan", Kind.NIC, Host(stack=stack(networks=(VirtualNetwork(name="x", forward="nat"),))), {
        "virsh net-list --all": "x (nat)",
    }),
    (R.NETWORK_INACTIVE, "network:x", Kind.NIC, Host(stack=stack(networks=(VirtualNetwork(name="x", active=False),))), {
        "virsh net-info x": "Active: no",
    }),
    (R.LINK_DOWN, "bridge:br0", Kind.NIC, Host(network=network()), {"/sys/class/net/br0/flags": "without IFF_UP"}),
    (R.LINK_DOWN, "macvtap:wlan0", Kind.NIC, Host(network=network()), {"/sys/class/net/wlan0/flags": "unknown"}),
    (R.WIRELESS, "macvtap:wlan0", Kind.NIC, Host(network=network()), {"/sys/class/net/wlan0/phy80211": "present"}),
    (R.NETWORK_IN_USE, "macvtap:eno1", Kind.NIC, Host(network=network()), {"/sys/class/net/eno1/master": "br0"}),
    (R.NO_PASST, "passt", Kind.NIC, Host(stack=stack(), network=network(passt=True, default_route=False)), {
        "virsh version, libvirt": "8.0.0", "virsh domcapabilities, interface backend": "unknown",
        "/usr/bin/passt": "present", "/proc/net/route": "no default route",
    }),
    (R.NO_EVENT_DEVICE, "pci-x-event-kbd", Kind.INPUT, Host(events=(
        EventDevice(links=("by-path/pci-y-event-mouse",), kind="pointer"),
    )), {"/dev/input/by-path/pci-x-event-kbd": "absent", "/dev/input/by-path": "pci-y-event-mouse"}),
    (R.NO_SRIOV, HERE, Kind.NIC, Host(pci=(card("01:00.0", sriov=SrIov(totalvfs=0)),)), {
        of_pci("sriov_totalvfs"): "0",
    }),
    (R.NO_VF_CREATED, HERE, Kind.NIC, Host(pci=(card("01:00.0", driver="", sriov=SrIov(totalvfs=7, numvfs=0)),)), {
        of_pci("sriov_totalvfs"): "7", of_pci("sriov_numvfs"): "0", of_pci("driver"): "absent",
    }),
    (R.NO_PF_INTERFACE, HERE, Kind.NIC, Host(pci=(card("01:00.0", driver="vfio-pci", interfaces=()),)), {
        of_pci("net"): "absent", of_pci("driver"): "vfio-pci",
    }),
    (R.MDEV_USED_UP, HERE, Kind.GPU, Host(pci=(card("01:00.0", class_code="030000", particulars=MDEVS),)), {
        of_pci("mdev_supported_types/i915-GVTg_V5_4/available_instances"): "0",
        of_pci("mdev_supported_types/nvidia-1/available_instances"): "unknown",
    }),
    (R.NO_MDEV_TYPE, None, Kind.GPU, Host(pci=(
        card("01:00.0", class_code="030000", particulars=Particulars(mdev_types=())),
    )), {of_pci("mdev_supported_types"): "absent"}),
    (R.NO_SUCH_DEVICE, None, Kind.DISK, Host(pci=(card("01:00.0"),)), {
        "/sys/bus/pci/devices/*/class": "none begins with 0108",
    }),
    (R.NO_SUCH_DEVICE, None, Kind.AUDIO, Host(pci=(
        card("01:00.0", class_code="030000"), card("01:00.1", class_code="040300"),
    )), {"/sys/bus/pci/devices/0000:01:00.1/class": "040300, of a graphics card"}),
    (R.NO_TPM_DEVICE, None, Kind.TPM, Host(tpm_device=False), {"/dev/tpmrm0": "absent", "/dev/tpm0": "absent"}),
    (R.NOT_IN_QEMU, None, Kind.TPM, Host(stack=stack(capabilities=DomainCapabilities(domain_type="kvm"))), {
        "virsh domcapabilities, tpm backendModel": "none",
    }),
    (R.DEVICE_CHANGED, HERE, Kind.NIC, Host(pci=(card("01:00.0", vendor_id="8086", device_id="1533"),)), {
        of_pci("vendor"): "8086", of_pci("device"): "1533", of_pci("class"): "020000",
    }),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "device", "kind", "host", "shown"), MADE, ids=lambda v: str(v)[:30])
def test_a_reason_is_shown_by_these_files(
    reason: Reason, device: str | None, kind: Kind | None, host: Host, shown: dict[str, str]
) -> None:
    rejected = Rejected(strategy=Strategy.PASSTHROUGH, device=device, reason=reason, detail="")
    assert {e.file: e.value for e in of_rejected(rejected, host, kind)} == shown


def test_virtio_sound_is_shown_by_the_versions() -> None:
    rejected = Rejected(strategy=Strategy.PARAVIRTUAL, device=None, reason=R.NOT_IN_QEMU, detail="")
    assert {e.file: e.value for e in of_rejected(rejected, Host(stack=stack()), Kind.AUDIO)} == {
        "virsh version, libvirt": "8.0.0",
        "virsh version, QEMU": "6.2.0",
    }


def test_what_has_no_network_anywhere_is_shown_card_by_card() -> None:
    rejected = Rejected(strategy=Strategy.PARAVIRTUAL, device="macvtap", reason=R.NO_INTERFACE, detail="")
    shown = {e.file: e.value for e in of_rejected(rejected, Host(network=network()), Kind.NIC)}
    assert shown["/sys/class/net/*/device"] == "eno1, wlan0"
    assert shown["/sys/class/net/eno1/master"] == "br0"
    assert shown["/sys/class/net/wlan0/phy80211"] == "present"


def test_a_group_as_large_as_a_stranger_likes_is_told_by_its_number() -> None:
    many = tuple(card(f"{n:02x}:00.0", iommu_group=1, driver="some") for n in range(1, 256))
    rejected = Rejected(strategy=Strategy.PASSTHROUGH, device=HERE, reason=R.IOMMU_GROUP_STAYS, detail="")
    shown = of_rejected(rejected, Host(pci=many, iommu=Iommu(groups=1)))
    assert len(shown) < 40
    assert ("/sys/kernel/iommu_groups/1/devices", "255 functions") in {(e.file, e.value) for e in shown}
    assert shown[0] == Evidence(file=of_pci("iommu_group"), value="1")


def test_a_virtual_function_that_is_not_there_yet_is_shown_by_its_card() -> None:
    made_by = card("01:00.0", vendor_id="10de", sriov=SrIov(totalvfs=7, offset=128, stride=2))
    rejected = Rejected(strategy=Strategy.VF, device="0000:01:10.2", reason=R.NO_GUEST_DRIVER, detail="")
    assert of_rejected(rejected, Host(pci=(made_by,))) == (Evidence(file=of_pci("vendor"), value="10de"),)


def test_a_sentence_without_a_file_is_the_documents() -> None:
    pc = Host(pci=(card("01:00.0"),), roles=(Role(role=RoleName.NETWORK, address=HERE, evidence=("seen\x1b[2J",)),))
    rejected = Rejected(strategy=Strategy.PASSTHROUGH, device=HERE, reason=R.NETWORK_IN_USE, detail="")
    assert of_rejected(rejected, pc) == (
        Evidence(file=f"host document, roles of {HERE}, network", value="seen\x1b[2J"),
    ), "whoever prints it makes it visible"


def test_more_facts_than_fit_are_counted() -> None:
    bridges = tuple(Bridge(name=f"br{n}", ports=()) for n in range(60))
    rejected = Rejected(strategy=Strategy.PARAVIRTUAL, device="bridge:x", reason=R.NO_BRIDGE, detail="")
    shown = of_rejected(rejected, Host(network=HostNetwork(bridges=bridges)), Kind.NIC)
    assert shown[-1] == Evidence(file="…", value="13 more")


def named(file: str) -> str:
    """What a reader of the reference finds a file or command by."""
    known = file.partition(",")[0]
    last = known.rpartition("/")[2]
    if known.startswith("/dev/input/by-path"):
        return "/dev/input/by-path"
    if known.startswith(("/sys/bus/", "/sys/class/")):
        return "port" if re.fullmatch(r"[0-9]-[0-9]", last) else re.sub(r"^virtfn[0-9]+$", "virtfnN", last)
    return " ".join(re.sub(r"/[0-9]+/", "/N/", known).split(" ")[:2])


def test_the_reference_names_the_files_of_every_reason() -> None:
    page = (HOSTS.parent.parent / "docs" / "reference" / "reasons.md").read_text()
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL))
    files = {(reason, file) for reason, _, _, _, shown in MADE for file in shown}
    for name in ("lab-full", "lab-no-iommu", "lab-no-svm", "desk-x570-3rdgen-rx580-gt710-b", "fa-guest-kvm-arm"):
        host = decode((HOSTS / f"{name}.json").read_bytes(), name)
        files |= {(r.reason, e.file) for kind, r in rejections(host) for e in of_rejected(r, host, kind)}
    told = {(reason, named(file)) for reason, file in files if not file.startswith("host document")}
    assert {(reason.value, name) for reason, name in told if name not in sections[reason]} == set()
