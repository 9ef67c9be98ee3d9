"""What a start fails of: recognised by what libvirt and QEMU say, laid to a decision, and not tried again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from failing import AUDIO, CARD, GPU, HOST, VF, WISH, Refusal, plan, profile

from clienthv import planner
from clienthv.errors import DiskError, GuestError, HostError, HypervisorError, PlanError, TemplateError
from clienthv.hypervisor.binding import translate
from clienthv.lifecycle import differences, keeping
from clienthv.model import faults
from clienthv.model.faults import Fault
from clienthv.model.host import SrIov
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.strategies import blaming

WRAPPED = (
    "internal error: QEMU unexpectedly closed the monitor (vm='desk'): 2026-11-25T08:00:00.000000Z qemu-system-x86_64: "
    '-device {"driver":"vfio-pci","host":"0000:01:00.0","id":"hostdev0"}: '
)

SAID = [
    (f"{WRAPPED}vfio {GPU}: group 12 is not viable\nPlease ensure all devices within the iommu_group are bound to "
     "their vfio bus driver.", Fault.FUNCTION),
    (f"{WRAPPED}vfio {GPU}: no iommu_group found: No such file or directory", Fault.FUNCTION),
    (f"{WRAPPED}vfio {GPU}: Could not open '/dev/vfio/12': Device or resource busy", Fault.FUNCTION),
    ("Device 0000:01:00.0 not found: could not access /sys/bus/pci/devices/0000:01:00.0/config: No such file or "
     "directory", Fault.FUNCTION),
    (f"Requested operation is not valid: PCI device {GPU} is in use by driver QEMU, domain other", Fault.FUNCTION),
    ("internal error: Unable to configure VF 0 of PF 'enp3s0' because the PF is not online. Please change host network "
     "config to put the PF online.", Fault.PHYSICAL_FUNCTION),
    (f"{WRAPPED}VFIO_MAP_DMA failed: Cannot allocate memory", Fault.MEMLOCK),
    ("cannot limit locked memory of process 41 to 5368709120: Operation not permitted", Fault.MEMLOCK),
    ("internal error: process exited while connecting to monitor: Could not access KVM kernel module: Permission "
     "denied", Fault.KVM),
    ("unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support virt type 'kvm'", Fault.KVM),
    ("qemu-system-x86_64: failed to initialize kvm: No such file or directory", Fault.KVM),
    ("error: failed to set MSR 0x10a to 0x8000000\nqemu-system-x86_64: ../target/i386/kvm/kvm.c:3301: "
     "kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.", Fault.KVM),
    ("operation failed: Unable to find 'efi' firmware that is compatible with the current configuration",
     Fault.FIRMWARE),
    ("Failed to open file '/usr/share/OVMF/OVMF_VARS_4M.ms.fd': No such file or directory", Fault.FIRMWARE),
    ("Failed to open file '/usr/share/OVMF/OVMF_VARS.fd': No such file or directory", Fault.FIRMWARE),
    ("Cannot access storage file '/usr/share/OVMF/OVMF_CODE_4M.fd': No such file or directory", Fault.FIRMWARE),
    ("internal error: Unable to find any usable hugetlbfs mount for 2048 KiB", Fault.HUGEPAGES),
    ("qemu-system-x86_64: unable to map backing store for guest RAM: Cannot allocate memory", Fault.HUGEPAGES),
    ("unsupported configuration: 3d acceleration is not supported by this QEMU binary", Fault.RENDER_NODE),
    ("internal error: Could not run '/usr/bin/swtpm_setup'. exitstatus: 1; Check error log '/var/log/swtpm/x.log'",
     Fault.TPM),
    ("internal error: Did not find USB device 046d:c52b", Fault.USB),
    ("internal error: Could not start 'passt': exit status 1", Fault.NETWORK),
    ("internal error: QEMU unexpectedly closed the monitor (vm='gpu-passthrough'): qemu-system-x86_64: -tpmdev "
     "passthrough,id=tpm0: Cannot access TPM device using '/dev/tpm0': Device or resource busy", Fault.TPM),
    ('qemu-system-x86_64: -blockdev {}: Failed to get "write" lock\nIs another process using the image?', Fault.OTHER),
]  # fmt: skip


@pytest.mark.parametrize("folder", ["/srv", "/srv/OVMF", "/srv/firmware", "/srv/passt", "/srv/EGL"])
@pytest.mark.parametrize(("why", "hint"), [("No such file or directory", "not there"), ("Permission denied", "reach")])
def test_an_image_that_cannot_be_had_is_laid_to_no_device_wherever_it_lies(folder: str, why: str, hint: str) -> None:
    image = f"{folder}/desk.qcow2"
    for text in (
        f"Cannot access storage file '{image}' (as uid:64055, gid:64055): {why}",
        f'{WRAPPED}-blockdev {{"driver":"file","filename":"{image}"}}: Could not open \'{image}\': {why}',
    ):
        error = translate(Refusal(text, 38), "start VM desk")
        assert (type(error), error.fault) == (DiskError, Fault.OTHER)
        assert hint in (error.hint or "")
        assert not blaming.blame(error.fault, text, error.hint, plan(), HOST)


@pytest.mark.parametrize(("text", "fault"), SAID, ids=[str(number) for number in range(len(SAID))])
def test_what_libvirt_and_qemu_say_is_recognised_and_told_with_the_next_step(text: str, fault: Fault) -> None:
    error = translate(Refusal(text), "start VM desk")
    assert error.fault == fault
    assert "start VM desk" in error.message
    assert error.hint
    assert error.detail == text


@pytest.mark.parametrize(
    ("text", "code", "family"),
    [
        ("Requested operation is not valid: domain is already running", 55, GuestError),
        ("XML document failed to validate against schema", 92, TemplateError),
        ('Failed to get "write" lock', 1, DiskError),
        ("something new", 1, HypervisorError),
        ("Domain not found", 42, GuestError),
    ],
)
def test_numbers_go_before_words_and_what_is_not_known_stays_libvirts(text: str, code: int, family: type) -> None:
    assert type(translate(Refusal(text, code), "start VM desk")) is family


@pytest.mark.parametrize(
    "text",
    [
        "internal error: QEMU unexpectedly closed the monitor (vm='passt'): qemu-system-x86_64: something new",
        "QEMU unexpectedly closed the monitor (vm='gpu-passthrough'): qemu-system-x86_64: something new",
        "unknown thing at /srv/regleg/passthrough.img",
        "qemu-system-x86_64: -blockdev {}: Could not open '/srv/OVMF/passt.qcow2': Image is not in qcow2 format",
        'qemu-system-x86_64: -blockdev {"driver":"file","filename":"/home/x/passt.img"}: something new',
        'qemu-system-x86_64: -device {"driver":"virtio-net-pci"}: failed to find romfile "efi-virtio.rom"',
        "Could not open '/var/lib/libvirt/qemu/nvram/desk_VARS.fd': Permission denied",
    ],
)
def test_what_only_looks_like_a_known_text_costs_the_vm_nothing(text: str) -> None:
    fault = translate(Refusal(text), "start VM desk").fault
    assert not blaming.blame(fault, text, None, plan(), HOST)


def blamed(fault: Fault, text: str) -> tuple[set[str], set[str]]:
    """What a failure is laid to: the names of decisions, and what refused."""
    found = blaming.blame(fault, text, None, plan(), HOST)
    return {f.decision.name for f in found.failed}, {key for key, _ in found.refused}


@pytest.mark.parametrize(
    ("fault", "text", "names", "refused"),
    [
        (Fault.FUNCTION, f"vfio {GPU}: group 1 is not viable", {"gpu0"}, set()),
        (Fault.FUNCTION, f"vfio {AUDIO}: no such host device", {"gpu0"}, set()),
        (Fault.FUNCTION, f"PCI device {VF} is in use by driver vfio-pci, domain x", {"nic0"}, set()),
        (Fault.FUNCTION, "Could not open '/dev/vfio/4': Device or resource busy", {"nic0"}, set()),
        (Fault.FUNCTION, "no FLR, PM reset or bus reset available", set(), set()),
        (Fault.MEMLOCK, "VFIO_MAP_DMA failed: Cannot allocate memory", {"gpu0", "nic0"}, set()),
        (Fault.PHYSICAL_FUNCTION, "Unable to configure VF 0 of PF 'enp3s0' because", set(), {CARD}),
        (Fault.KVM, "failed to initialize kvm", {"cpu0"}, set()),
        (Fault.FIRMWARE, "Unable to find 'efi' firmware", {"firmware0"}, set()),
        (Fault.TPM, "swtpm", {"tpm0"}, set()),
        (Fault.HUGEPAGES, "hugetlbfs", set(), {"2048"}),
        (Fault.RENDER_NODE, "egl", set(), set()),  # this plan has no such thing
        (Fault.OTHER, 'Failed to get "write" lock', set(), set()),
    ],
)
def test_a_failure_is_laid_to_what_the_text_names(fault: Fault, text: str, names: set[str], refused: set[str]) -> None:
    assert blamed(fault, text) == (names, refused)


def test_the_error_is_told_and_not_the_warnings_before_it() -> None:
    error = "error reading initrd /srv/initrd.img: open() failed: Permission denied"
    text = (
        "internal error: process exited while connecting to monitor: 2026-05-04T01:03:51.637124Z qemu-system-x86_64: "
        "warning: This feature depends on other features that were not requested: CPUID.8000000AH:EDX.npt [bit 0]\n"
        "2026-05-04T01:03:51.641062Z qemu-system-x86_64: warning: This feature depends on other features\n"
        f"qemu: {error}"
    )
    assert faults.said(text) == error


@pytest.mark.parametrize(("text", "fault"), SAID, ids=[str(number) for number in range(len(SAID))])
def test_what_failed_is_not_tried_again_and_the_reason_stands_in_the_plan(text: str, fault: Fault) -> None:
    before = plan()
    found = blaming.blame(fault, text, "do this", before, HOST)
    after = plan(failed=found.failed, refused=dict(found.refused))
    for failed in found.failed:
        had, now = failed.decision, after.of(failed.decision.kind)
        assert (now.strategy, now.device) != (had.strategy, had.device)
        objection = next(r for r in now.rejected if r.reason is Reason.START_FAILED)
        assert objection.strategy is had.strategy
        assert objection.fix == "do this"
        assert "qemu-system-x86_64: -device" not in objection.detail
    if found.failed or found.refused:
        assert list(differences.between(before, after))
    else:
        assert after == before


def test_every_failure_in_turn_ends_on_the_last_rungs() -> None:
    failed: tuple[Any, ...] = ()
    refused: dict[str, str] = {}
    seen = []
    for _ in range(12):
        now = plan(failed=failed, refused=refused)
        seen.append(tuple(d.strategy for d in now.decisions))
        for fault, text in (
            (Fault.MEMLOCK, ""), (Fault.RENDER_NODE, ""), (Fault.KVM, ""), (Fault.FIRMWARE, ""), (Fault.HUGEPAGES, ""),
        ):  # fmt: skip
            found = blaming.blame(fault, text, None, now, HOST)
            failed, refused = (*failed, *found.failed), refused | dict(found.refused)
    assert seen[-1] == seen[-2]
    last = plan(failed=failed, refused=refused)
    assert last.of(Kind.GPU).strategy is Strategy.PARAVIRTUAL
    assert last.of(Kind.CPU).strategy is Strategy.BINARY_TRANSLATION
    assert last.of(Kind.FIRMWARE).strategy is Strategy.BIOS
    assert "hugepages-short" in {w.code for w in last.warnings}


def test_what_is_required_is_never_given_up() -> None:
    wish = profile(gpu='prefer = ["passthrough", "emulated"]\nrequire = ["passthrough"]')
    found = blaming.blame(Fault.FUNCTION, f"vfio {GPU}: no", None, planner.plan(HOST, wish), HOST)
    with pytest.raises(PlanError, match="could not be started with") as raised:
        planner.plan(HOST, wish, failed=found.failed)
    assert raised.value.hint


def test_another_virtual_function_of_the_card_is_next_when_one_is_taken() -> None:
    without = [f for f in HOST.pci if f.address != VF]
    card = next(f for f in without if f.address == CARD)
    bare = SrIov(totalvfs=7, numvfs=0, offset=128, stride=2, vf_device_id="10ca", writable=True, drivers_autoprobe=True,
                 link_up=True)  # fmt: skip
    pci = tuple(msgspec.structs.replace(f, sriov=bare) if f is card else f for f in without)
    host = msgspec.structs.replace(HOST, pci=pci)
    first = planner.plan(host, WISH).of(Kind.NIC)
    assert first.strategy is Strategy.VF
    found = blaming.blame(Fault.FUNCTION, f"vfio {first.device}: busy", None, planner.plan(host, WISH), host)
    second = planner.plan(host, WISH, failed=found.failed).of(Kind.NIC)
    assert second.strategy is Strategy.VF
    assert second.device != first.device


def test_a_vm_that_fell_back_once_tries_what_it_had_again() -> None:
    found = blaming.blame(Fault.FUNCTION, f"vfio {GPU}: no", None, plan(), HOST)
    fallen = plan(failed=found.failed).of(Kind.GPU)
    assert fallen.strategy is Strategy.PARAVIRTUAL_3D
    had = keeping._before_it_failed(fallen)
    assert (had.strategy, had.device) == (Strategy.PASSTHROUGH, GPU)
    assert keeping._before_it_failed(plan().of(Kind.GPU)) == plan().of(Kind.GPU)


def test_every_family_of_a_known_fault_is_an_error_of_ours() -> None:
    assert {known.family for known in faults._KNOWN} <= {HostError, DiskError, GuestError}
