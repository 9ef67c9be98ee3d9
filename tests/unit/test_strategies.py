"""What speaks against each rung, shown on PCs small enough to read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from clienthv import planner
from clienthv.errors import HostError, PlanError, ProfileError
from clienthv.model import values
from clienthv.model.host import (
    Cpu,
    DomainCapabilities,
    Host,
    Iommu,
    Kvm,
    Memory,
    PciFunction,
    Role,
    RoleName,
    SrIov,
    Stack,
)
from clienthv.model.plan import STRATEGIES, Decision, Kind, Plan, Reason, Rejected, Strategy, VirtualFunction
from clienthv.model.profile import Profile, ProfileText, parse

S, K, R = Strategy, Kind, Reason
READ = tuple(RoleName)
OFFERED = DomainCapabilities(
    domain_type="kvm",
    cpu_modes=("host-passthrough", "host-model", "maximum"),
    firmware=("bios", "efi"),
    secure_boot=True,
    video_models=("vga", "virtio", "bochs", "none"),
    graphics=("spice", "vnc", "egl-headless"),
    disk_buses=("sata", "virtio"),
    pci_backends=("default", "vfio"),
    tpm_models=("tpm-crb",),
    tpm_backends=("emulator", "passthrough"),
)
IOMMU_ON = Iommu(kind="vt-d", acpi_table="DMAR", enabled=True, interrupt_remapping=True, groups=8, acs_override=False)

# What a PC is made of. Every function has a group of its own unless a test says otherwise.
GPU = PciFunction(
    address="0000:01:00.0", class_code="030000", vendor_id="10de", device_id="1b80", driver="nouveau",
    boot_vga=False, iommu_group=1, vendor="NVIDIA", device="GP104",
)  # fmt: skip
GPU_SOUND = PciFunction(
    address="0000:01:00.1", class_code="040300", vendor_id="10de", driver="snd_hda_intel", iommu_group=1
)
SCREEN = PciFunction(
    address="0000:00:02.0", class_code="030000", vendor_id="8086", driver="i915", boot_vga=True, iommu_group=2
)
NIC = PciFunction(
    address="0000:03:00.0", class_code="020000", vendor_id="8086", device_id="1521", driver="igb", iommu_group=3
)
NVME = PciFunction(address="0000:04:00.0", class_code="010802", driver="nvme", iommu_group=4)
SOUND = PciFunction(address="0000:00:1f.3", class_code="040300", driver="snd_hda_intel", iommu_group=5)
USB = PciFunction(address="0000:00:14.0", class_code="0c0330", driver="xhci_hcd", iommu_group=6)
OF = {K.GPU: GPU, K.NIC: NIC, K.DISK: NVME, K.AUDIO: SOUND, K.USB: USB}


def but(thing: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(thing, **changes)


def pc(*functions: PciFunction, **more: Any) -> Host:
    known: dict[str, Any] = {
        "cpu": Cpu(vendor="GenuineIntel", virtualization="vmx", threads=8),
        "kvm": Kvm(usable=True),
        "iommu": IOMMU_ON,
        "roles_read": READ,
        "stack": Stack(uri="qemu:///system", privileged=True, capabilities=OFFERED),
        "tpm_device": True,
    }
    return Host(pci=functions, **{**known, **more})


def offering(**changes: Any) -> Stack:
    return Stack(uri="qemu:///system", privileged=True, capabilities=but(OFFERED, **changes))


def role(name: RoleName, function: PciFunction, evidence: str = "the kernel said so") -> Role:
    return Role(role=name, address=function.address, evidence=(evidence,))


def profile(kind: Kind, *ladder: Strategy, drivers: str = "virtio nvidia amd intel", **device: Any) -> Profile:
    lines = [f"[guest]\ndrivers = {json.dumps(drivers.split())}", f"[devices.{kind}]", f"prefer = {json.dumps(ladder)}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in device.items()]
    return parse((ProfileText("test", "test.toml", "\n".join(lines)),))


def planned(host: Host, kind: Kind, strategy: Strategy, **more: Any) -> Plan:
    """The plan of a profile whose ladder is this rung with the last one of its kind below."""
    last = STRATEGIES[kind][-1]
    return planner.plan(host, profile(kind, *dict.fromkeys((strategy, last)), **more))


def decided(host: Host, kind: Kind, strategy: Strategy, **more: Any) -> Decision:
    return planned(host, kind, strategy, **more).of(kind)


def refused(host: Host, kind: Kind, strategy: Strategy, **more: Any) -> Rejected:
    """The one objection to a rung."""
    decision = decided(host, kind, strategy, **more)
    assert decision.strategy is STRATEGIES[kind][-1], f"{strategy} was taken"
    assert len(decision.rejected) == 1, decision.rejected
    assert decision.rejected[0].strategy is strategy
    return decision.rejected[0]


def against(function: PciFunction, host: Host, kind: Kind, **more: Any) -> Rejected:
    """The one objection to passing a function through, on a PC that has others of its kind."""
    decision = decided(host, kind, S.PASSTHROUGH, **more)
    assert decision.strategy is STRATEGIES[kind][-1], f"{decision.device} was taken"
    (objection,) = [r for r in decision.rejected if r.device == function.address]
    return objection


def moved(host: Host, kind: Kind, **more: Any) -> tuple[str, ...]:
    """What moves with a passed-through device."""
    decision = decided(host, kind, S.PASSTHROUGH, **more)
    assert decision.strategy is S.PASSTHROUGH, decision.rejected
    return decision.functions


def named(function: PciFunction, *allow: str) -> dict[str, Any]:
    return {"select": [function.address], **({"allow": list(allow)} if allow else {})}


# --- the processor


def test_kvm_is_taken_where_it_is_usable() -> None:
    assert decided(pc(), K.CPU, S.HARDWARE_VIRTUALIZATION).strategy is S.HARDWARE_VIRTUALIZATION


def test_a_processor_without_virtualization_is_told_by_its_flags() -> None:
    host = pc(cpu=Cpu(virtualization="none"), kvm=Kvm(usable=False))
    objection = refused(host, K.CPU, S.HARDWARE_VIRTUALIZATION)
    assert objection.reason is R.NO_HARDWARE_VIRTUALIZATION
    assert "/proc/cpuinfo" in objection.detail
    assert "SVM Mode" in (objection.fix or "")


def test_a_vm_without_virtualization_is_sent_to_the_machine_below() -> None:
    host = pc(cpu=Cpu(virtualization="none", hypervisor=True), kvm=Kvm(usable=False))
    assert "nested" in (refused(host, K.CPU, S.HARDWARE_VIRTUALIZATION).fix or "")


def test_a_kvm_device_without_virtualization_behind_it_is_named_as_useless() -> None:
    host = pc(cpu=Cpu(virtualization="none"), kvm=Kvm(usable=False, device_present=True))
    assert "/dev/kvm" in refused(host, K.CPU, S.HARDWARE_VIRTUALIZATION).detail


def test_nothing_known_of_virtualization_is_not_taken_for_yes() -> None:
    host = pc(cpu=Cpu(), kvm=Kvm(), iommu=Iommu())
    objection = refused(host, K.CPU, S.HARDWARE_VIRTUALIZATION)
    assert objection.reason is R.VIRTUALIZATION_UNKNOWN
    assert "clienthv inspect --save" in (objection.fix or "")


def test_an_active_iommu_shows_virtualization_on_bare_metal_but_not_in_a_vm() -> None:
    bare = pc(cpu=Cpu(hypervisor=False), kvm=Kvm())
    inside = pc(cpu=Cpu(hypervisor=True), kvm=Kvm())
    assert decided(bare, K.CPU, S.HARDWARE_VIRTUALIZATION).strategy is S.HARDWARE_VIRTUALIZATION
    assert refused(inside, K.CPU, S.HARDWARE_VIRTUALIZATION).reason is R.VIRTUALIZATION_UNKNOWN


@pytest.mark.parametrize(
    ("kvm", "fix"),
    [
        (Kvm(usable=False, device_present=False, evidence=("/dev/kvm is not there",)), "modprobe kvm_intel"),
        (Kvm(usable=False, device_present=True, device_openable=False, evidence=("EACCES",)), "usermod -aG kvm"),
        (Kvm(usable=False, device_present=True, device_openable=True, evidence=("KVM_CREATE_VM: EBUSY",)), "dmesg"),
    ],
)
def test_a_kvm_that_does_not_work_is_refused_with_the_evidence_and_the_next_step(kvm: Kvm, fix: str) -> None:
    objection = refused(pc(kvm=kvm), K.CPU, S.HARDWARE_VIRTUALIZATION)
    assert objection.reason is R.KVM_NOT_USABLE
    assert kvm.evidence[0] in objection.detail
    assert fix in (objection.fix or "")


def test_another_architecture_cannot_run_the_guest_itself() -> None:
    objection = refused(pc(cpu=Cpu(architecture="aarch64")), K.CPU, S.HARDWARE_VIRTUALIZATION)
    assert objection.reason is R.ARCHITECTURE_DIFFERS
    assert "aarch64" in objection.detail
    assert objection.fix is None


def test_a_cpu_mode_that_libvirt_does_not_offer_is_refused_with_what_it_offers() -> None:
    host = pc(stack=offering(cpu_modes=("host-passthrough", "maximum")))
    objection = refused(host, K.CPU, S.HARDWARE_VIRTUALIZATION, model="host-model")
    assert objection.reason is R.NOT_IN_QEMU
    assert "host-passthrough, maximum" in objection.detail


# --- is there such a device, and is it meant


@pytest.mark.parametrize("kind", OF)
def test_a_pc_without_a_device_of_the_kind_has_none_to_hand_over(kind: Kind) -> None:
    objection = refused(pc(), kind, S.PASSTHROUGH)
    assert objection.reason is R.NO_SUCH_DEVICE
    assert kind.value in objection.detail


def test_a_pc_without_virtual_functions_has_none_to_hand_over() -> None:
    objection = refused(pc(NIC), K.NIC, S.VF)
    assert objection.reason is R.NO_SUCH_DEVICE
    assert "virtual function" in objection.detail


@pytest.mark.parametrize("kind", [K.GPU, K.NIC])
def test_a_device_that_the_profile_does_not_select_stays(kind: Kind) -> None:
    objection = refused(
        pc(SCREEN, OF[kind]) if kind is K.NIC else pc(GPU), kind, S.PASSTHROUGH, select=["0000:07:00.0"]
    )
    assert objection.reason is R.NOT_SELECTED
    assert "0000:07:00.0" in objection.detail


@pytest.mark.parametrize("kind", [K.DISK, K.AUDIO, K.USB])
def test_what_nobody_should_lose_unasked_is_taken_only_when_it_is_named(kind: Kind) -> None:
    objection = refused(pc(OF[kind]), kind, S.PASSTHROUGH)
    assert objection.reason is R.NOT_SELECTED
    assert OF[kind].address in objection.detail
    assert f'select = ["{OF[kind].address}"]' in (objection.fix or "")
    assert moved(pc(OF[kind]), kind, **named(OF[kind])) == (OF[kind].address,)


@pytest.mark.parametrize(
    ("kind", "class_code"),
    [(K.DISK, "010000"), (K.DISK, "010601"), (K.DISK, "010700"), (K.AUDIO, "040100")],
    ids=["SCSI", "SATA", "SAS", "AC97"],
)
def test_other_hardware_of_the_kind_is_taken_when_it_is_named(kind: Kind, class_code: str) -> None:
    device = but(OF[kind], class_code=class_code)
    assert refused(pc(device), kind, S.PASSTHROUGH).reason is R.NO_SUCH_DEVICE
    assert moved(pc(device), kind, **named(device)) == (device.address,)


@pytest.mark.parametrize("kind", [K.GPU, K.NIC])
def test_a_free_device_is_taken_without_being_named(kind: Kind) -> None:
    assert moved(pc(SCREEN, OF[kind]), kind) == (OF[kind].address,)


def test_a_card_goes_before_the_processors_own_graphics() -> None:
    assert moved(pc(but(SCREEN, boot_vga=False), GPU), K.GPU) == (GPU.address,)


# --- the IOMMU


def test_a_firmware_without_an_iommu_table_is_refused_as_absent() -> None:
    objection = refused(pc(NIC, iommu=Iommu(enabled=False, acpi_table="none")), K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.IOMMU_ABSENT
    assert "DMAR" in objection.detail
    assert "firmware setup" in (objection.fix or "")


def test_a_document_that_does_not_mention_the_iommu_is_refused_as_unknown() -> None:
    objection = refused(pc(NIC, iommu=Iommu()), K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.IOMMU_UNKNOWN
    assert "clienthv inspect --save" in (objection.fix or "")


@pytest.mark.parametrize(
    ("vendor", "table", "parameters", "fix"),
    [
        ("GenuineIntel", "DMAR", (), "add intel_iommu=on"),
        ("GenuineIntel", None, None, "add intel_iommu=on"),
        ("GenuineIntel", "DMAR", ("intel_iommu=off",), "remove intel_iommu=off"),
        ("AuthenticAMD", "IVRS", ("amd_iommu=off",), "remove amd_iommu=off"),
        ("AuthenticAMD", "IVRS", ("iommu=off",), "remove iommu=off"),
        ("AuthenticAMD", "IVRS", (), "firmware setup"),
        ("AuthenticAMD", None, None, "firmware setup"),
        (None, None, None, "firmware setup"),
    ],
)
def test_an_iommu_that_is_off_is_refused_with_the_smallest_change(
    vendor: str | None, table: Any, parameters: tuple[str, ...] | None, fix: str
) -> None:
    host = pc(NIC, cpu=Cpu(vendor=vendor), iommu=Iommu(enabled=False, acpi_table=table, parameters=parameters))
    objection = refused(host, K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.IOMMU_OFF
    assert "IOMMU" in objection.detail
    assert fix in (objection.fix or "")
    assert "amd_iommu=on" not in (objection.fix or "")  # there is no such parameter


def test_a_device_in_no_group_is_refused_by_address() -> None:
    objection = refused(pc(but(NIC, iommu_group=None)), K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.NO_IOMMU_GROUP
    assert NIC.address in objection.detail
    assert "dmesg" in (objection.fix or "")


def test_a_companion_in_no_group_keeps_the_whole_card() -> None:
    objection = against(GPU, pc(SCREEN, GPU, but(GPU_SOUND, iommu_group=None)), K.GPU)
    assert objection.reason is R.NO_IOMMU_GROUP
    assert GPU_SOUND.address in objection.detail


def test_a_group_with_a_working_member_that_stays_is_refused_with_that_member() -> None:
    sata = PciFunction(address="0000:05:00.0", class_code="010601", driver="ahci", iommu_group=3, vendor="ASMedia")
    objection = refused(pc(NIC, sata), K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.IOMMU_GROUP_STAYS
    assert "group 3" in objection.detail
    assert "0000:05:00.0 ASMedia (ahci)" in objection.detail
    assert "another slot" in (objection.fix or "")


@pytest.mark.parametrize(
    "mate",
    [
        PciFunction(address="0000:00:01.0", class_code="060400", driver="pcieport", iommu_group=3),
        PciFunction(address="0000:00:01.0", class_code="060000", iommu_group=3),
        PciFunction(address="0000:00:01.0", class_code="130000", iommu_group=3),
        PciFunction(address="0000:00:01.0", class_code="010601", driver="", iommu_group=3),
        PciFunction(address="0000:00:01.0", class_code="010601", driver="vfio-pci", iommu_group=3),
        PciFunction(address="0000:00:01.0", class_code="010601", driver="pci-stub", iommu_group=3),
    ],
    ids=["bridge", "host bridge", "instrumentation", "driverless", "vfio-pci", "pci-stub"],
)
def test_a_group_member_that_is_idle_or_a_bridge_may_stay(mate: PciFunction) -> None:
    assert moved(pc(NIC, mate), K.NIC) == (NIC.address,)


@pytest.mark.parametrize(
    "mate",
    [
        PciFunction(address="0000:00:01.0", class_code="010601", iommu_group=3),
        PciFunction(address="0000:00:01.0", iommu_group=3),
        PciFunction(address="0000:00:01.0", class_code="060100", iommu_group=3),
        PciFunction(address="0000:00:01.0", class_code="060100", driver="lpc_ich", iommu_group=3),
    ],
    ids=["driver unknown", "all unknown", "ISA bridge, driver unknown", "ISA bridge"],
)
def test_a_group_member_that_may_be_at_work_keeps_the_group(mate: PciFunction) -> None:
    objection = refused(pc(NIC, mate), K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.IOMMU_GROUP_STAYS
    assert ("select the whole group" in (objection.fix or "")) is not mate.is_bridge, "a bridge cannot be selected"


def test_a_group_moves_when_the_profile_selects_all_of_it() -> None:
    second = but(NIC, address="0000:05:00.0")
    assert moved(pc(NIC, second), K.NIC, select=[NIC.address, second.address]) == (NIC.address, second.address)


def test_two_kinds_in_one_group_move_together_or_not_at_all() -> None:
    host = pc(SCREEN, GPU, but(NIC, iommu_group=1))
    both = profile(K.GPU, S.PASSTHROUGH, S.EMULATED)
    ladder = (S.PASSTHROUGH, S.EMULATED)
    whole = but(both, devices=but(both.devices, nic=but(both.devices.nic, prefer=ladder)))
    together = planner.plan(host, whole)
    assert [together.of(k).strategy for k in (K.GPU, K.NIC)] == [S.PASSTHROUGH] * 2
    apart = planner.plan(but(host, roles=(role(RoleName.DEFAULT_ROUTE, NIC),)), whole)
    assert [apart.of(k).strategy for k in (K.GPU, K.NIC)] == [S.EMULATED] * 2


def test_an_iommu_without_interrupt_remapping_is_refused() -> None:
    host = pc(NIC, iommu=but(IOMMU_ON, interrupt_remapping=False))
    objection = refused(host, K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.NO_INTERRUPT_REMAPPING
    assert "interrupt" in objection.detail
    assert "x2APIC" in (objection.fix or "")


@pytest.mark.parametrize(
    ("allowed", "words"), [(msgspec.UNSET, "is unknown"), (None, "is unknown"), (False, "does not allow")]
)
def test_a_named_device_without_interrupt_remapping_is_refused_unless_vfio_allows_it(
    allowed: bool | msgspec.UnsetType | None, words: str
) -> None:
    host = pc(NIC, iommu=but(IOMMU_ON, interrupt_remapping=False, unsafe_interrupts=allowed))
    objection = refused(host, K.NIC, S.PASSTHROUGH, **named(NIC))
    assert objection.reason is R.NO_INTERRUPT_REMAPPING
    assert words in objection.detail
    safe, _, unsafe = (objection.fix or "").partition("; unsafe: ")
    assert "intremap=off" in safe
    assert "vfio_iommu_type1.allow_unsafe_interrupts=1" in unsafe


def test_unsafe_interrupts_are_accepted_only_for_a_named_device_and_said_to_be_unsafe() -> None:
    host = pc(NIC, iommu=but(IOMMU_ON, interrupt_remapping=False, unsafe_interrupts=True))
    objection = refused(host, K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.NO_INTERRUPT_REMAPPING
    safe, _, unsafe = (objection.fix or "").partition("; unsafe: ")
    assert "intremap=off" in safe
    assert f'select = ["{NIC.address}"]' in unsafe
    accepted = planned(host, K.NIC, S.PASSTHROUGH, **named(NIC))
    assert accepted.of(K.NIC).strategy is S.PASSTHROUGH
    said = {w.code: w.detail for w in accepted.warnings}
    assert "nic0" in said["unsafe-interrupts"]
    assert "unsafe: the guest can send the host any interrupt" in said["unsafe-interrupts"]


def test_allowing_unsafe_interrupts_says_nothing_where_interrupts_are_remapped() -> None:
    plan = planned(pc(NIC, iommu=but(IOMMU_ON, unsafe_interrupts=True)), K.NIC, S.PASSTHROUGH)
    assert plan.of(K.NIC).strategy is S.PASSTHROUGH
    assert "unsafe-interrupts" not in {w.code for w in plan.warnings}


@pytest.mark.parametrize(("allowed", "words"), [(None, "the kernel refuses VFIO"), (True, "any interrupt")])
def test_interrupt_remapping_that_nobody_looked_for_is_warned_of(allowed: bool | None, words: str) -> None:
    iommu = but(IOMMU_ON, interrupt_remapping=None, unsafe_interrupts=allowed)
    plan = planned(pc(NIC, iommu=iommu), K.NIC, S.PASSTHROUGH)
    assert plan.of(K.NIC).strategy is S.PASSTHROUGH
    assert words in next(w.detail for w in plan.warnings if w.code == "interrupt-remapping-unknown")


def test_groups_split_by_the_acs_override_are_trusted_only_for_a_named_device() -> None:
    host = pc(NIC, iommu=but(IOMMU_ON, acs_override=True))
    objection = refused(host, K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.ACS_OVERRIDE
    assert "pcie_acs_override" in objection.detail
    assert f'select = ["{NIC.address}"]' in (objection.fix or "")
    accepted = planned(host, K.NIC, S.PASSTHROUGH, **named(NIC))
    assert accepted.of(K.NIC).strategy is S.PASSTHROUGH
    assert "which is unsafe" in next(w.detail for w in accepted.warnings if w.code == "acs-override")


def test_a_libvirt_without_vfio_cannot_hand_devices_over() -> None:
    objection = refused(pc(NIC, stack=offering(pci_backends=())), K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.VFIO_UNAVAILABLE
    assert "vfio-pci" in (objection.fix or "")


@pytest.mark.parametrize(
    ("through", "reason"), [(False, R.BYPASSES_IOMMU), (None, R.IOMMU_BYPASS_UNKNOWN)], ids=["known", "unknown"]
)
def test_a_virtio_device_that_goes_past_the_iommu_stays(through: bool | None, reason: Reason) -> None:
    card = but(NIC, vendor_id="1af4", driver="virtio-pci", access_platform=through)
    assert refused(pc(card), K.NIC, S.PASSTHROUGH).reason is reason


def test_a_virtio_device_that_goes_through_the_iommu_may_move() -> None:
    card = but(NIC, vendor_id="1af4", driver="virtio-pci", access_platform=True)
    assert moved(pc(card), K.NIC) == (card.address,)


def test_a_required_strategy_is_taken_or_there_is_no_plan() -> None:
    ladder = (S.PASSTHROUGH, S.PARAVIRTUAL)
    assert planner.plan(pc(NIC), profile(K.NIC, *ladder, require=["passthrough"])).of(K.NIC).device == NIC.address
    with pytest.raises(PlanError, match="no-such-device") as failed:
        planner.plan(pc(), profile(K.NIC, *ladder, require=["passthrough"]))
    assert "require" in (failed.value.hint or "")


def test_a_forbidden_strategy_is_never_taken_and_the_plan_says_why() -> None:
    decision = planner.plan(pc(NIC), profile(K.NIC, S.PASSTHROUGH, S.PARAVIRTUAL, forbid=["passthrough"])).of(K.NIC)
    assert decision.strategy is S.PARAVIRTUAL
    assert [r.reason for r in decision.rejected] == [R.FORBIDDEN]


@pytest.mark.parametrize(
    "wrong",
    [{"require": ["vf"]}, {"require": ["passthrough"], "forbid": ["passthrough"]}, {"forbid": ["uefi"]}],
    ids=["not on the ladder", "forbidden too", "of another kind"],
)
def test_what_cannot_be_required_or_forbidden_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProfileError, match=r"devices\.nic\.(require|forbid)"):
        profile(K.NIC, S.PASSTHROUGH, S.PARAVIRTUAL, **wrong)


def test_a_connection_without_privilege_cannot_take_devices() -> None:
    stack = Stack(uri="qemu:///session", privileged=False, capabilities=OFFERED)
    objection = refused(pc(NIC, stack=stack), K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.NO_PRIVILEGE
    assert "qemu:///session" in objection.detail
    assert "qemu:///system" in (objection.fix or "")


def test_a_disk_behind_intel_vmd_cannot_be_handed_over_alone() -> None:
    behind = but(NVME, address="10000:e1:00.0")
    objection = refused(pc(behind), K.DISK, S.PASSTHROUGH, **named(behind))
    assert objection.reason is R.BEHIND_VMD
    assert "10000:e1:00.0" in objection.detail
    assert "VMD" in (objection.fix or "")


def test_the_highest_domain_that_pci_has_is_not_taken_for_vmd() -> None:
    far = but(NIC, address="ffff:03:00.0")
    assert moved(pc(far), K.NIC) == (far.address,)


VMD = PciFunction(address="0000:00:0e.0", class_code="010400", driver="vmd", iommu_group=7)
BEHIND = but(NVME, address="10000:e1:00.0", iommu_group=7, bridge_path=(VMD.address, "10000:e0:06.0"))


def with_mate(mate: PciFunction, **more: Any) -> Decision:
    """What becomes of a network card when the profile names it and another function of its group."""
    host = pc(but(NIC, iommu_group=7), mate, **more)
    return decided(host, K.NIC, S.PASSTHROUGH, select=[NIC.address, mate.address])


def test_what_sits_behind_a_vmd_controller_goes_with_it() -> None:
    host = pc(but(NIC, iommu_group=7), VMD, BEHIND)
    assert moved(host, K.NIC, select=[NIC.address, VMD.address]) == (VMD.address, NIC.address)


@pytest.mark.parametrize("path", [BEHIND.bridge_path, None], ids=["path known", "path unknown"])
def test_a_disk_behind_a_vmd_controller_keeps_the_controller(path: tuple[str, ...] | None) -> None:
    disk = but(BEHIND, bridge_path=path)
    host = pc(but(NIC, iommu_group=7), VMD, disk, roles=(role(RoleName.MOUNTED_DISK, disk, "/ is on it"),))
    decision = decided(host, K.NIC, S.PASSTHROUGH, select=[NIC.address, VMD.address])
    assert decision.strategy is S.OMIT
    assert [r.reason for r in decision.rejected if r.device == NIC.address] == [R.MOUNTED_DISK]
    assert "10000:e1:00.0 carries disks the host has mounted (/ is on it)" in decision.rejected[0].detail


# --- what moves together


def slot(bus: str, *classes: str, group: int | None = None, first: int = 20) -> tuple[PciFunction, ...]:
    """The functions of one slot: in one group, or each in its own from ``first`` on."""
    drivers = {"0300": "amdgpu", "0403": "snd_hda_intel", "1080": "ccp", "0c03": "xhci_hcd", "0200": "igb"}
    return tuple(
        PciFunction(
            address=f"0000:{bus}:00.{n}", class_code=code, vendor_id="1002", driver=drivers.get(code, "some"),
            boot_vga=False if code == "0300" else None, iommu_group=first + n if group is None else group,
        )
        for n, code in enumerate(classes)
    )  # fmt: skip


def test_of_an_apus_slot_only_the_graphics_and_their_hdmi_audio_move() -> None:
    apu = slot("0a", "0300", "0403", "1080", "0c03", "0c03", "0403")
    assert moved(pc(SCREEN, *apu), K.GPU) == ("0000:0a:00.0", "0000:0a:00.1")


def test_a_graphics_card_moves_with_its_audio_usb_c_and_serial_functions() -> None:
    card = slot("0a", "0300", "0403", "0c03", "0c80", group=9)
    assert moved(pc(SCREEN, *card), K.GPU) == tuple(f"0000:0a:00.{n}" for n in range(4))


def test_a_graphics_cards_usb_c_port_is_warned_of_where_the_keyboards_are_unknown() -> None:
    card = slot("0a", "0300", "0403", "0c03", "0c80", group=9)
    host = pc(SCREEN, *card, roles_read=(RoleName.BOOT_DISPLAY,))
    plan = planned(host, K.GPU, S.PASSTHROUGH)
    assert plan.of(K.GPU).strategy is S.PASSTHROUGH
    assert any(w.code == "usb-with-gpu" and "0000:0a:00.2" in w.detail for w in plan.warnings)


def test_a_graphics_cards_audio_is_no_sound_card_of_the_host() -> None:
    card = slot("0a", "0300", "0403", group=9)
    assert refused(pc(SCREEN, *card), K.AUDIO, S.PASSTHROUGH, select=["0000:0a:00.1"]).reason is R.NO_SUCH_DEVICE


def test_a_graphics_cards_usb_c_port_is_no_usb_controller_of_the_host() -> None:
    card = slot("0a", "0300", "0403", "0c03", "0c80", group=9)
    assert refused(pc(SCREEN, *card), K.USB, S.PASSTHROUGH, select=["0000:0a:00.2"]).reason is R.NO_SUCH_DEVICE


def test_both_ports_of_a_network_card_move_where_they_share_a_group() -> None:
    assert moved(pc(*slot("0a", "0200", "0200", group=9)), K.NIC) == ("0000:0a:00.0", "0000:0a:00.1")


def test_one_port_of_a_network_card_moves_alone_where_each_has_its_group() -> None:
    assert moved(pc(*slot("0a", "0200", "0200")), K.NIC) == ("0000:0a:00.0",)


def test_a_port_that_the_host_uses_keeps_the_other_port_of_its_group() -> None:
    ports = slot("0a", "0200", "0200", group=9)
    decision = decided(pc(*ports, roles=(role(RoleName.DEFAULT_ROUTE, ports[1]),)), K.NIC, S.PASSTHROUGH)
    assert decision.strategy is S.OMIT
    assert {r.reason for r in decision.rejected} == {R.DEFAULT_ROUTE}


def test_every_function_that_moves_is_bound_once_and_given_back() -> None:
    plan = planned(pc(*slot("0a", "0200", "0200", group=9)), K.NIC, S.PASSTHROUGH)
    assert [c.device for c in plan.host_changes] == ["0000:0a:00.0", "0000:0a:00.1"]
    assert all("igb" in c.undo for c in plan.host_changes)


def test_a_function_that_vfio_holds_already_changes_nothing_on_the_host() -> None:
    plan = planned(pc(but(NIC, driver="vfio-pci")), K.NIC, S.PASSTHROUGH)
    assert plan.of(K.NIC).strategy is S.PASSTHROUGH
    assert plan.host_changes == ()


# --- what the host needs

NEEDS = [
    (K.GPU, RoleName.BOOT_DISPLAY, R.BOOT_DISPLAY),
    (K.GPU, RoleName.CONNECTED_DISPLAY, R.CONNECTED_DISPLAY),
    (K.NIC, RoleName.DEFAULT_ROUTE, R.DEFAULT_ROUTE),
    (K.NIC, RoleName.NETWORK, R.NETWORK_IN_USE),
    (K.DISK, RoleName.MOUNTED_DISK, R.MOUNTED_DISK),
    (K.USB, RoleName.INPUT, R.HOST_INPUT),
    (K.USB, RoleName.MOUNTED_DISK, R.MOUNTED_DISK),
]


@pytest.mark.parametrize(("kind", "name", "reason"), NEEDS)
def test_a_device_that_the_host_uses_is_refused_with_the_evidence(kind: Kind, name: RoleName, reason: Reason) -> None:
    function = OF[kind]
    objection = refused(pc(function, roles=(role(name, function, "seen it"),)), kind, S.PASSTHROUGH, **named(function))
    assert objection.reason is reason
    assert function.address in objection.detail
    assert "seen it" in objection.detail
    assert f'select = ["{function.address}"]' in (objection.fix or "")
    assert f'allow = ["{name}"]' in (objection.fix or "")


@pytest.mark.parametrize(("kind", "name", "reason"), NEEDS)
def test_naming_the_device_and_allowing_the_loss_lifts_the_refusal_and_leaves_a_warning(
    kind: Kind, name: RoleName, reason: Reason
) -> None:
    function = OF[kind]
    plan = planned(pc(function, roles=(role(name, function),)), kind, S.PASSTHROUGH, **named(function, name))
    assert plan.of(kind).functions == (function.address,)
    assert reason not in {r.reason for r in plan.of(kind).rejected}
    assert any(w.code == "allowed-risk" and function.address in w.detail and name in w.detail for w in plan.warnings)


@pytest.mark.parametrize(("kind", "name", "reason"), NEEDS)
def test_allowing_the_loss_of_another_device_lifts_nothing(kind: Kind, name: RoleName, reason: Reason) -> None:
    function = OF[kind]
    other = but(function, address="0000:09:00.0", iommu_group=9)
    decision = decided(pc(function, other, roles=(role(name, function),)), kind, S.PASSTHROUGH, **named(other, name))
    assert function.address not in decision.functions


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (K.NIC, RoleName.NETWORK, R.NETWORK_UNKNOWN),
        (K.DISK, RoleName.MOUNTED_DISK, R.MOUNTED_DISK_UNKNOWN),
        (K.USB, RoleName.MOUNTED_DISK, R.MOUNTED_DISK_UNKNOWN),
        (K.USB, RoleName.INPUT, R.HOST_INPUT_UNKNOWN),
    ],
)
def test_a_use_that_nobody_looked_for_is_not_taken_for_none(kind: Kind, name: RoleName, reason: Reason) -> None:
    function = OF[kind]
    host = pc(function, roles_read=tuple(r for r in READ if r is not name))
    objection = refused(host, kind, S.PASSTHROUGH, **named(function))
    assert objection.reason is reason
    assert function.address in objection.detail
    assert "clienthv inspect --save" in (objection.fix or "")
    assert decided(host, kind, S.PASSTHROUGH, **named(function, name)).strategy is S.PASSTHROUGH


@pytest.mark.parametrize(
    ("class_code", "name", "reason"),
    [
        ("080501", RoleName.MOUNTED_DISK, R.MOUNTED_DISK_UNKNOWN),
        ("0c0400", RoleName.MOUNTED_DISK, R.MOUNTED_DISK_UNKNOWN),
        ("0c0600", RoleName.NETWORK, R.NETWORK_UNKNOWN),
        ("0c0500", RoleName.INPUT, R.HOST_INPUT_UNKNOWN),
        ("0c8000", RoleName.INPUT, R.HOST_INPUT_UNKNOWN),
        ("118000", RoleName.INPUT, R.HOST_INPUT_UNKNOWN),
        ("090000", RoleName.INPUT, R.HOST_INPUT_UNKNOWN),
    ],
)
def test_a_group_mate_of_any_class_that_could_serve_the_host_stays_until_somebody_looked(
    class_code: str, name: RoleName, reason: Reason
) -> None:
    mate = PciFunction(address="0000:00:15.0", class_code=class_code, driver="some", iommu_group=7)
    decision = with_mate(mate, roles_read=tuple(r for r in READ if r is not name))
    assert {r.reason for r in decision.rejected if mate.address in r.detail} == {reason}
    assert with_mate(mate).strategy is S.PASSTHROUGH


def test_the_loss_of_a_use_that_nobody_looked_for_is_warned_of_when_it_is_allowed() -> None:
    plan = planned(pc(NIC, roles_read=()), K.NIC, S.PASSTHROUGH, **named(NIC, "network"))
    assert plan.of(K.NIC).strategy is S.PASSTHROUGH
    assert "allowed-risk" in {w.code for w in plan.warnings}


def test_giving_the_boot_display_away_is_warned_of_however_it_was_recognised() -> None:
    told = planned(pc(SCREEN), K.GPU, S.PASSTHROUGH, **named(SCREEN, "boot-display"))
    assert told.of(K.GPU).functions == (SCREEN.address,)
    assert "allowed-risk" in {w.code for w in told.warnings}


@pytest.mark.parametrize("driver", ["amdgpu", None, ""])
def test_of_two_gpus_neither_is_taken_when_the_boot_display_cannot_be_told(driver: str | None) -> None:
    """A driverless GPU may still show the console: efifb and simpledrm bind no PCI driver."""
    first = but(GPU, boot_vga=None, driver=driver)
    second = but(first, address="0000:02:00.0", iommu_group=2)
    decision = decided(pc(first, second, roles_read=()), K.GPU, S.PASSTHROUGH)
    assert decision.strategy is S.OMIT
    assert {r.reason for r in decision.rejected} == {R.BOOT_DISPLAY_UNKNOWN}
    assert {r.device for r in decision.rejected} == {first.address, second.address}
    assert all("clienthv inspect --save" in (r.fix or "") for r in decision.rejected)


def test_a_single_gpu_is_the_boot_display_even_if_nobody_recorded_it() -> None:
    objection = refused(pc(but(GPU, boot_vga=None), roles_read=()), K.GPU, S.PASSTHROUGH)
    assert objection.reason is R.BOOT_DISPLAY
    assert "the only GPU" in objection.detail


def test_a_muxless_3d_controller_is_not_the_boot_display() -> None:
    laptop = pc(but(SCREEN, boot_vga=None), but(GPU, class_code="030200", boot_vga=None), roles_read=())
    assert moved(laptop, K.GPU) == (GPU.address,)


def test_the_gpu_with_the_only_connected_screen_is_taken_for_the_boot_display() -> None:
    one, two = but(GPU, boot_vga=None), but(GPU, address="0000:02:00.0", boot_vga=None, iommu_group=2)
    host = pc(one, two, roles_read=(), roles=(role(RoleName.CONNECTED_DISPLAY, one),))
    assert moved(host, K.GPU) == (two.address,)


def test_a_second_connected_screen_may_go_while_the_boot_display_stays() -> None:
    screens = (role(RoleName.CONNECTED_DISPLAY, SCREEN), role(RoleName.CONNECTED_DISPLAY, GPU))
    assert moved(pc(SCREEN, GPU, roles=screens), K.GPU) == (GPU.address,)


def test_the_host_keeps_a_screen_when_two_gpus_with_one_each_are_selected() -> None:
    other = but(GPU, address="0000:02:00.0")  # in the same group, so selecting both would move both
    screens = (role(RoleName.CONNECTED_DISPLAY, GPU), role(RoleName.CONNECTED_DISPLAY, other))
    decision = decided(pc(GPU, other, roles=screens), K.GPU, S.PASSTHROUGH, select=[GPU.address, other.address])
    assert decision.strategy is S.OMIT


def test_a_gpu_held_for_guests_is_free_whatever_the_document_leaves_out() -> None:
    held = but(GPU, driver="vfio-pci", boot_vga=None)
    assert moved(pc(held, roles_read=()), K.GPU) == (held.address,)


def test_a_card_function_of_unknown_class_does_not_go_along_unseen() -> None:
    """It could be the disk that the host runs from: which roles it could have is unknown, so all are."""
    riddle = PciFunction(address="0000:03:00.1", driver="something", iommu_group=3)
    host = pc(NIC, riddle, roles_read=(RoleName.NETWORK, RoleName.DEFAULT_ROUTE))
    assert decided(host, K.NIC, S.PASSTHROUGH).strategy is S.OMIT


# --- SR-IOV

VF = PciFunction(
    address="0000:03:10.0", class_code="020000", vendor_id="8086", driver="igbvf", iommu_group=30, physfn=NIC.address
)
PF = but(NIC, sriov=SrIov(totalvfs=7, numvfs=1, virtfns=(VF.address,)))


def test_a_virtual_function_is_handed_over_and_its_card_stays() -> None:
    decision = decided(pc(PF, VF), K.NIC, S.VF)
    assert (decision.strategy, decision.functions) == (S.VF, (VF.address,))


def test_a_physical_function_with_virtual_functions_is_refused_with_how_to_remove_them() -> None:
    objection = refused(pc(PF, VF), K.NIC, S.PASSTHROUGH)
    assert objection.reason is R.IS_PHYSICAL_FUNCTION
    assert "1 virtual function" in objection.detail
    assert f"{PF.address}/sriov_numvfs" in (objection.fix or "")


def test_a_card_that_another_function_calls_its_physical_function_is_refused() -> None:
    assert refused(pc(NIC, VF), K.NIC, S.PASSTHROUGH).reason is R.IS_PHYSICAL_FUNCTION


def test_a_card_with_virtual_functions_that_are_not_listed_is_refused() -> None:
    card = but(NIC, sriov=SrIov(totalvfs=7, numvfs=4))
    assert refused(pc(card), K.NIC, S.PASSTHROUGH).reason is R.IS_PHYSICAL_FUNCTION


ABLE = but(
    NIC,
    interfaces=("enp3s0",),
    sriov=SrIov(
        totalvfs=7, numvfs=0, offset=128, stride=2, vf_device_id="10ca", drivers_autoprobe=True, link_up=True,
        writable=True,
    ),
)  # fmt: skip


def able(**changes: Any) -> PciFunction:
    """A card that has no virtual functions yet and can have some."""
    made: PciFunction = but(ABLE, sriov=but(ABLE.sriov, **changes))
    return made


def actions(plan: Plan) -> list[tuple[str, str, str | None]]:
    return [(c.action, c.device, c.value) for c in plan.host_changes]


def test_a_card_that_can_have_virtual_functions_gets_some_at_start() -> None:
    decision = decided(pc(ABLE), K.NIC, S.VF)
    assert (decision.strategy, decision.device, decision.functions) == (S.VF, "0000:03:10.0", ("0000:03:10.0",))
    assert decision.virtual_function == VirtualFunction(physfn=NIC.address, index=0, created=True)
    assert decision.model == "8086:10ca"
    assert "made at start" in decision.why


def test_making_virtual_functions_changes_the_host_in_the_order_the_kernel_needs() -> None:
    plan = planned(pc(able(link_up=False)), K.NIC, S.VF)
    assert actions(plan) == [
        ("link-up", NIC.address, "up"),
        ("vf-autoprobe", NIC.address, "0"),
        ("create-vfs", NIC.address, "7"),
        ("bind-vfio", "0000:03:10.0", None),
    ]
    words = [c.detail for c in plan.host_changes]
    assert words[0].startswith("bring enp3s0 up")
    assert words[1].startswith("write 0 to sriov_drivers_autoprobe")
    assert words[2].startswith("create 7 virtual functions on 0000:03:00.0")
    assert all(c.undo for c in plan.host_changes)


@pytest.mark.parametrize(("total", "count"), [(1, "1"), (7, "7"), (8, "8"), (63, "8"), (256, "8")])
def test_no_more_virtual_functions_are_made_than_the_card_can_have_or_a_desktop_needs(total: int, count: str) -> None:
    assert ("create-vfs", NIC.address, count) in actions(planned(pc(able(totalvfs=total)), K.NIC, S.VF))


def test_what_is_set_already_is_not_changed() -> None:
    made = [action for action, _, _ in actions(planned(pc(able(drivers_autoprobe=False)), K.NIC, S.VF))]
    assert made == ["create-vfs", "bind-vfio"]


def test_a_virtual_function_that_is_there_goes_before_one_that_would_be_made() -> None:
    second = but(ABLE, address="0000:02:00.0", iommu_group=40)
    decision = decided(pc(second, PF, VF), K.NIC, S.VF)
    assert decision.device == VF.address
    assert decision.virtual_function == VirtualFunction(physfn=PF.address, index=0)


def test_a_card_whose_link_is_up_gets_virtual_functions_before_one_whose_link_is_down() -> None:
    unplugged = but(able(link_up=False), address="0000:02:00.0", iommu_group=40, interfaces=("enp2s0",))
    assert decided(pc(unplugged, ABLE), K.NIC, S.VF).device == "0000:03:10.0"


def test_the_host_may_use_the_card_itself_and_is_warned_that_its_link_goes_away_for_a_moment() -> None:
    host = pc(ABLE, roles=(role(RoleName.DEFAULT_ROUTE, ABLE), role(RoleName.NETWORK, ABLE)))
    plan = planned(host, K.NIC, S.VF)
    assert plan.of(K.NIC).strategy is S.VF
    assert any(w.code == "pf-link-interrupted" and "the host's network" in w.detail for w in plan.warnings)


def test_a_card_whose_link_is_down_has_nothing_to_be_interrupted() -> None:
    assert "pf-link-interrupted" not in {w.code for w in planned(pc(able(link_up=False)), K.NIC, S.VF).warnings}


def test_a_card_whose_driver_nobody_recorded_is_planned_with_a_warning() -> None:
    plan = planned(pc(but(ABLE, driver=None)), K.NIC, S.VF)
    assert plan.of(K.NIC).strategy is S.VF
    assert "vf-driver-unknown" in {w.code for w in plan.warnings}


@pytest.mark.parametrize(
    ("card", "reason", "words"),
    [
        (able(totalvfs=0), R.NO_SRIOV, "no number"),
        (able(totalvfs=None), R.NO_SRIOV, "no number"),
        (able(offset=None), R.VF_ADDRESS_UNKNOWN, "does not say"),
        (able(offset=0xFFFF), R.VF_ADDRESS_UNKNOWN, "where none can be"),
        (able(numvfs=4), R.NO_VF_CREATED, "does not list them"),
        (but(ABLE, driver=""), R.NO_VF_CREATED, "no driver bound"),
        (but(ABLE, driver="vfio-pci"), R.NO_VF_CREATED, "held by vfio-pci"),
        (but(ABLE, driver="mlx4_core"), R.NO_VF_CREATED, "only when it is loaded"),
        (but(ABLE, interfaces=()), R.NO_PF_INTERFACE, "no network interface"),
        (but(ABLE, iommu_group=None), R.NO_IOMMU_GROUP, "in no IOMMU group"),
        (able(writable=False), R.NO_PRIVILEGE, "may not create virtual functions"),
        (but(ABLE, address="10000:03:00.0"), R.BEHIND_VMD, "VMD"),
    ],
)  # fmt: skip
def test_what_hinders_making_virtual_functions_is_told_of_the_card(
    card: PciFunction, reason: Reason, words: str
) -> None:
    objection = refused(pc(card), K.NIC, S.VF)
    assert (objection.reason, objection.device) == (reason, card.address)
    assert words in objection.detail
    assert objection.fix or reason is R.NO_SRIOV


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"iommu": but(IOMMU_ON, enabled=False)}, R.IOMMU_OFF),
        ({"iommu": but(IOMMU_ON, interrupt_remapping=False)}, R.NO_INTERRUPT_REMAPPING),
        ({"iommu": but(IOMMU_ON, interrupt_remapping=False, unsafe_interrupts=True)}, R.NO_INTERRUPT_REMAPPING),
        ({"iommu": but(IOMMU_ON, acs_override=True)}, R.ACS_OVERRIDE),
        ({"stack": offering(pci_backends=())}, R.VFIO_UNAVAILABLE),
        ({"stack": Stack(uri="qemu:///session", privileged=False, capabilities=OFFERED)}, R.NO_PRIVILEGE),
    ],
)
def test_what_speaks_against_handing_over_a_device_speaks_against_making_one(
    more: dict[str, Any], reason: Reason
) -> None:
    assert refused(pc(ABLE, **more), K.NIC, S.VF).reason is reason


def test_a_card_in_one_group_with_the_bridge_above_it_would_have_its_virtual_functions_there_too() -> None:
    bridge = PciFunction(address="0000:00:03.0", class_code="060400", driver="pcieport", iommu_group=0)
    objection = refused(pc(but(ABLE, iommu_group=0), bridge), K.NIC, S.VF)
    assert objection.reason is R.IOMMU_GROUP_STAYS
    assert bridge.address in objection.detail


def test_two_ports_in_one_group_do_not_keep_virtual_functions_from_groups_of_their_own() -> None:
    other = but(NIC, address="0000:03:00.1")
    assert decided(pc(ABLE, other), K.NIC, S.VF).strategy is S.VF


def test_a_place_that_another_function_has_is_not_promised_to_a_virtual_function() -> None:
    taken = but(NVME, address="0000:03:10.0")
    assert refused(pc(ABLE, taken), K.NIC, S.VF).reason is R.VF_ADDRESS_UNKNOWN


def test_what_a_card_said_a_moment_ago_is_the_objection_to_it() -> None:
    host, wanted = pc(ABLE), profile(K.NIC, S.VF, S.OMIT)
    decision = planner.plan(host, wanted, {ABLE.address: "the kernel refused 7 for sriov_numvfs"}).of(K.NIC)
    assert decision.strategy is S.OMIT
    assert [(r.reason, r.detail) for r in decision.rejected] == [
        (R.NO_VF_CREATED, "the kernel refused 7 for sriov_numvfs")
    ]


def test_select_names_a_card_or_the_place_of_one_of_its_virtual_functions() -> None:
    assert decided(pc(ABLE), K.NIC, S.VF, select=[ABLE.address]).device == "0000:03:10.0"
    third = decided(pc(ABLE), K.NIC, S.VF, select=["0000:03:10.4"])
    assert (third.device, third.virtual_function and third.virtual_function.index) == ("0000:03:10.4", 2)
    assert decided(pc(PF, VF), K.NIC, S.VF, select=[PF.address]).device == VF.address
    assert refused(pc(ABLE), K.NIC, S.VF, select=["0000:09:00.0"]).reason is R.NOT_SELECTED
    assert refused(pc(PF, VF), K.NIC, S.VF, select=["0000:09:00.0"]).reason is R.NOT_SELECTED


def test_no_virtual_function_is_made_on_a_card_that_goes_to_the_guest_itself() -> None:
    host = pc(SCREEN, GPU, but(ABLE, iommu_group=1))
    gpu = profile(K.GPU, S.PASSTHROUGH, S.EMULATED, select=[GPU.address, ABLE.address], allow=["network"])
    both = but(gpu, devices=but(gpu.devices, nic=but(gpu.devices.nic, prefer=(S.VF, S.EMULATED))))
    plan = planner.plan(host, both)
    assert plan.of(K.GPU).functions == (GPU.address, ABLE.address)
    assert plan.of(K.NIC).strategy is S.EMULATED
    assert [r.reason for r in plan.of(K.NIC).rejected] == [R.NO_VF_CREATED]


def test_a_device_in_another_vm_is_refused() -> None:
    other = but(VF, address="0000:03:10.2", iommu_group=31, driver="")
    stack = Stack(uri="qemu:///system", privileged=True, capabilities=OFFERED, guest_functions=(VF.address,))
    decision = decided(pc(but(PF, sriov=None), but(VF, driver="vfio-pci"), other, stack=stack), K.NIC, S.VF)
    assert decision.device == other.address
    assert [(r.reason, r.device) for r in decision.rejected] == [(R.USED_BY_VM, VF.address)]


def test_a_virtual_function_that_is_there_needs_the_link_of_its_card() -> None:
    down = but(PF, interfaces=("enp3s0",), sriov=but(PF.sriov, link_up=False, writable=True))
    assert actions(planned(pc(down, VF), K.NIC, S.VF)) == [
        ("link-up", PF.address, "up"),
        ("bind-vfio", VF.address, None),
    ]
    objection = refused(pc(but(down, sriov=but(down.sriov, writable=False)), VF), K.NIC, S.VF)
    assert objection.reason is R.NO_PRIVILEGE
    assert "sudo ip link set dev enp3s0 up" in (objection.fix or "")
    assert refused(pc(but(PF, interfaces=()), VF), K.NIC, S.VF).reason is R.NO_PF_INTERFACE


def test_trust_is_set_on_the_virtual_function_and_warned_of() -> None:
    card = but(PF, interfaces=("enp3s0",), sriov=but(PF.sriov, link_up=True, writable=True))
    plan = planned(pc(card, VF), K.NIC, S.VF, trust=True)
    change = next(c for c in plan.host_changes if c.action == "vf-trust")
    assert (change.device, change.interface, change.index, change.value) == (PF.address, "enp3s0", 0, "on")
    assert "vf-trusted" in {w.code for w in plan.warnings}
    made = planned(pc(ABLE), K.NIC, S.VF, trust=True)
    assert [a for a, _, _ in actions(made)] == ["vf-autoprobe", "create-vfs", "vf-trust", "bind-vfio"]
    unable = pc(but(card, sriov=but(card.sriov, writable=False)), VF)
    assert refused(unable, K.NIC, S.VF, trust=True).reason is R.NO_PRIVILEGE


def test_a_virtual_function_that_the_host_uses_stays() -> None:
    host = pc(PF, VF, roles=(role(RoleName.NETWORK, VF),))
    assert refused(host, K.NIC, S.VF).reason is R.NETWORK_IN_USE


def test_a_gpus_virtual_function_is_handed_over_and_the_screen_stays() -> None:
    part = but(SCREEN, address="0000:00:02.1", boot_vga=None, driver="", iommu_group=21, physfn=SCREEN.address)
    host = pc(but(SCREEN, sriov=SrIov(totalvfs=7, numvfs=1, virtfns=(part.address,))), part)
    decision = decided(host, K.GPU, S.VF)
    assert (decision.strategy, decision.functions) == (S.VF, (part.address,))


# --- what the guest and QEMU can do


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        (K.GPU, S.PARAVIRTUAL), (K.NIC, S.PARAVIRTUAL), (K.DISK, S.PARAVIRTUAL),
        (K.AUDIO, S.PARAVIRTUAL), (K.INPUT, S.PARAVIRTUAL),
    ],
)  # fmt: skip
def test_a_guest_without_virtio_drivers_gets_nothing_paravirtual(kind: Kind, strategy: Strategy) -> None:
    host = pc(but(SCREEN, render_node="renderD128"))
    objection = refused(host, kind, strategy, drivers="")
    assert objection.reason is R.NO_GUEST_DRIVER
    assert "virtio" in objection.detail
    assert "guest.drivers" in (objection.fix or "")


def test_a_guest_without_virtio_drivers_gets_no_3d() -> None:
    host = pc(but(SCREEN, render_node="renderD128"))
    assert refused(host, K.GPU, S.PARAVIRTUAL_3D, drivers="").reason is R.NO_GUEST_DRIVER


def test_a_gpu_that_the_guest_has_no_driver_for_is_refused_with_the_driver() -> None:
    objection = against(GPU, pc(SCREEN, GPU), K.GPU, drivers="virtio amd")
    assert objection.reason is R.NO_GUEST_DRIVER
    assert "nvidia" in objection.detail
    assert '"nvidia"' in (objection.fix or "")


def test_a_gpu_of_a_maker_without_guest_drivers_is_refused() -> None:
    aspeed = but(GPU, vendor_id="1a03")
    objection = against(GPU, pc(SCREEN, aspeed), K.GPU)
    assert objection.reason is R.NO_GUEST_DRIVER
    assert "1a03" in objection.detail


def test_a_gpu_without_ids_is_refused_by_address() -> None:
    objection = against(GPU, pc(SCREEN, but(GPU, vendor_id=None)), K.GPU)
    assert objection.reason is R.IDS_UNKNOWN
    assert GPU.address in objection.detail
    assert "lspci -nn" in (objection.fix or "")


def test_3d_needs_a_render_node() -> None:
    objection = refused(pc(SCREEN), K.GPU, S.PARAVIRTUAL_3D)
    assert objection.reason is R.NO_RENDER_NODE
    assert "/dev/dri/renderD" in objection.detail
    assert objection.fix


def test_3d_is_not_planned_on_a_render_node_that_nobody_looked_for() -> None:
    objection = refused(pc(SCREEN, stack=None), K.GPU, S.PARAVIRTUAL_3D)
    assert objection.reason is R.RENDER_NODE_UNKNOWN
    assert "clienthv inspect --save" in (objection.fix or "")


def test_3d_names_the_render_node_it_uses() -> None:
    decision = decided(pc(but(SCREEN, render_node="renderD128")), K.GPU, S.PARAVIRTUAL_3D)
    assert decision.strategy is S.PARAVIRTUAL_3D
    assert "renderD128" in decision.backing


@pytest.mark.parametrize(
    ("kind", "strategy", "lack", "evidence"),
    [
        (K.FIRMWARE, S.UEFI, {"firmware": ("bios",)}, "UEFI"),
        (K.FIRMWARE, S.UEFI_SECURE_BOOT, {"secure_boot": False}, "Secure Boot"),
        (K.GPU, S.PARAVIRTUAL_3D, {"graphics": ("vnc", "spice")}, "egl-headless"),
        (K.GPU, S.PARAVIRTUAL, {"video_models": ("vga",)}, "virtio"),
        (K.GPU, S.EMULATED, {"video_models": ("virtio",)}, "vga"),
        (K.TPM, S.EMULATED, {"tpm_backends": ("passthrough",)}, "emulator"),
        (K.TPM, S.PASSTHROUGH, {"tpm_backends": ("emulator",)}, "passthrough"),
        (K.DISPLAY, S.PARAVIRTUAL, {"graphics": ("vnc",)}, "spice"),
        (K.DISPLAY, S.EMULATED, {"graphics": ("spice",)}, "vnc"),
    ],
)
def test_what_this_qemu_lacks_is_refused_by_name(
    kind: Kind, strategy: Strategy, lack: dict[str, Any], evidence: str
) -> None:
    host = pc(but(SCREEN, render_node="renderD128"), stack=offering(**lack))
    objection = refused(host, kind, strategy)
    assert objection.reason is R.NOT_IN_QEMU
    assert evidence in objection.detail


@pytest.mark.parametrize(
    ("version", "taken"), [("9.0.0", False), ("10.3.9", False), ("10.4.0", True), ("11.0.0", True), (None, True)]
)
def test_virtio_sound_needs_libvirt_10_4(version: str | None, taken: bool) -> None:
    host = pc(stack=but(offering(), libvirt_version=version))
    decision = decided(host, K.AUDIO, S.PARAVIRTUAL)
    assert (decision.strategy is S.PARAVIRTUAL) is taken
    assert {r.reason for r in decision.rejected} == (set() if taken else {R.NOT_IN_QEMU})


def test_a_pc_without_a_tpm_cannot_hand_one_over() -> None:
    objection = refused(pc(tpm_device=False), K.TPM, S.PASSTHROUGH)
    assert objection.reason is R.NO_TPM_DEVICE
    assert "fTPM" in (objection.fix or "")


def test_a_tpm_that_nobody_looked_for_is_not_planned_on() -> None:
    objection = refused(pc(tpm_device=None), K.TPM, S.PASSTHROUGH)
    assert objection.reason is R.TPM_UNKNOWN
    assert "clienthv inspect --save" in (objection.fix or "")


@pytest.mark.parametrize("kind", STRATEGIES)
def test_what_libvirt_offers_is_assumed_where_the_document_does_not_say(kind: Kind) -> None:
    host = pc(but(SCREEN, render_node="renderD128"), stack=None)
    virtual = [s for s in STRATEGIES[kind] if s not in {S.PASSTHROUGH, S.VF, S.MDEV}]
    for strategy in virtual:
        assert decided(host, kind, strategy).strategy is strategy


# --- the whole plan


def test_a_ladder_without_a_rung_left_is_no_plan_with_every_reason_and_the_first_fix() -> None:
    with pytest.raises(PlanError) as caught:
        planner.plan(pc(NIC, iommu=Iommu()), profile(K.NIC, S.VF, S.PASSTHROUGH))
    assert "nic" in caught.value.message
    assert "[no-such-device]" in caught.value.message
    assert "[iommu-unknown]" in caught.value.message
    assert "clienthv inspect --save" in (caught.value.hint or "")


def sized(host: Host, **size: Any) -> Plan:
    text = "[size]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in size.items())
    return planner.plan(host, parse((ProfileText("test", "test.toml", text),)))


def test_a_small_pc_gives_what_it_has_and_the_plan_says_so() -> None:
    host = pc(cpu=Cpu(virtualization="vmx", threads=2), memory=Memory(available_mib=3000))
    plan = sized(host, vcpus=8, vcpus_min=1, memory="8 GiB", memory_min="1 GiB")
    assert plan.vcpus == 2
    assert 1024 <= plan.memory_mib <= 3000
    assert "shrunk-to-fit" in {w.code for w in plan.warnings}


def test_a_pc_with_too_few_processors_is_refused_with_both_numbers() -> None:
    with pytest.raises(HostError, match=r"2 CPU threads.*needs 4"):
        sized(pc(cpu=Cpu(virtualization="vmx", threads=2)), vcpus=4)


def test_a_pc_with_too_little_memory_is_refused_with_both_numbers() -> None:
    with pytest.raises(HostError, match=r"900 MiB.*needs 1 GiB"):
        sized(pc(memory=Memory(available_mib=900)), memory="8 GiB", memory_min="1 GiB")


@pytest.mark.parametrize(("available", "least"), [(200, "100 MiB"), (400, "300 MiB"), (1100, "1100 MiB")])
def test_a_pc_with_the_least_memory_asked_for_is_big_enough(available: int, least: str) -> None:
    plan = sized(pc(memory=Memory(available_mib=available)), memory="8 GiB", memory_min=least)
    assert plan.memory_mib <= available


SHRINKS: dict[str, Any] = {"memory": "8 GiB", "memory_min": "1 GiB"}


@pytest.mark.parametrize(
    ("memory", "wanted", "given"),
    [
        (Memory(total_mib=2710, available_mib=2452), SHRINKS, 1792),
        (Memory(available_mib=8192 + 512), SHRINKS, 8192),
        (Memory(available_mib=8192 + 511), SHRINKS, 7936),
        (Memory(available_mib=1024 + 512), SHRINKS, 1024),
        (Memory(total_mib=4096), SHRINKS, 2560),
        (Memory(available_mib=1100 + 512), {"memory": "8 GiB", "memory_min": "1100 MiB"}, 1100),
        (Memory(available_mib=4096 + 512), {"memory": "4 GiB"}, 4096),
    ],
)
def test_the_host_and_qemu_keep_512_mib_of_what_is_available(memory: Memory, wanted: Any, given: int) -> None:
    plan = sized(pc(memory=memory), **wanted)
    assert plan.memory_mib == given
    assert "little-memory-left" not in {w.code for w in plan.warnings}


@pytest.mark.parametrize(
    ("available", "wanted", "given", "left"),
    [
        (1300, SHRINKS, 1024, 276),
        (1024 + 511, SHRINKS, 1024, 511),
        (1024, SHRINKS, 1024, 0),
        (4096 + 100, {"memory": "4 GiB"}, 4096, 100),
    ],
)
def test_a_vm_that_can_shrink_no_further_is_planned_with_a_warning_and_the_figures(
    available: int, wanted: Any, given: int, left: int
) -> None:
    plan = sized(pc(memory=Memory(available_mib=available)), **wanted)
    assert plan.memory_mib == given
    (warning,) = [w.detail for w in plan.warnings if w.code == "little-memory-left"]
    assert all(figure in warning for figure in (values.format_mib(available), f"{left} MiB", "512 MiB"))


def test_a_pc_whose_size_is_unknown_gets_what_the_profile_wants() -> None:
    plan = sized(pc(cpu=Cpu(virtualization="vmx")), vcpus=8, memory="8 GiB")
    assert (plan.vcpus, plan.memory_mib) == (8, 8192)


def test_no_more_vcpus_are_planned_than_the_hypervisor_can_give() -> None:
    host = pc(cpu=Cpu(virtualization="vmx", threads=512), stack=offering(max_vcpus=255))
    assert sized(host, vcpus=400, vcpus_min=1).vcpus <= 255


def test_the_pointer_does_not_hang_on_a_usb_controller_that_the_guest_lacks() -> None:
    """libvirt refuses a USB tablet in a domain without USB, and a handed-over controller is not libvirt's."""
    plan = planned(pc(USB), K.USB, S.PASSTHROUGH, **named(USB))
    assert plan.of(K.USB).strategy is S.PASSTHROUGH
    assert plan.of(K.INPUT).model != "usb-tablet"


def test_the_pointer_does_not_hang_on_a_usb_controller_that_was_refused() -> None:
    plan = planned(pc(), K.USB, S.PASSTHROUGH)
    assert plan.of(K.USB).strategy is S.OMIT
    assert plan.of(K.INPUT).model != "usb-tablet"


def test_the_only_screen_that_is_plugged_in_stays_though_another_gpu_booted() -> None:
    host = pc(SCREEN, GPU, roles=(role(RoleName.CONNECTED_DISPLAY, GPU),))
    decision = decided(host, K.GPU, S.PASSTHROUGH)
    assert decision.device is None
    assert {(r.device, r.reason) for r in decision.rejected} >= {(GPU.address, R.CONNECTED_DISPLAY)}


def test_a_tpm_that_is_handed_over_hangs_on_no_interrupt_remapping_and_no_acs() -> None:
    host = pc(iommu=Iommu(enabled=True, acs_override=True), tpm_device=True)
    assert planned(host, K.TPM, S.PASSTHROUGH).of(K.TPM).strategy is S.PASSTHROUGH
    assert planned(host, K.TPM, S.PASSTHROUGH).warnings == ()


def test_the_hosts_tpm_needs_a_connection_that_may_take_devices() -> None:
    from clienthv.model.host import Stack

    host = but(pc(SCREEN), tpm_device=True, stack=Stack(uri="qemu:///session", privileged=False))
    objection = refused(host, K.TPM, S.PASSTHROUGH)
    assert objection.reason is R.NO_PRIVILEGE
