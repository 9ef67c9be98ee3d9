"""What people really get from libvirt, QEMU and the kernel, and what clienthv makes of it: the part, and no other."""

from __future__ import annotations

import msgspec
import pytest
from failing import AUDIO, GPU, HOST, VF, Refusal, plan, profile

from clienthv import planner
from clienthv.errors import DiskError, GuestError, HostError
from clienthv.hypervisor.binding import translate
from clienthv.model import faults
from clienthv.model.faults import Fault
from clienthv.model.guest import built_in
from clienthv.model.host import UsbDevice
from clienthv.model.plan import Kind
from clienthv.strategies import blaming

UUID = "34658867-146a-4656-9fa5-890fdbc37010"
SYSTEM_ERROR = 38


def by_qemu(*lines: str, vm: str = "desk", of: str = "") -> str:
    """As libvirt passes on what QEMU said last."""
    said = "\n".join(f"2026-11-25T08:00:00.0Z qemu-system-x86_64: {line}" for line in lines)
    option = f"-device {of}: " if of else ""
    return f"internal error: QEMU unexpectedly closed the monitor (vm='{vm}'): " + said.replace(": ", f": {option}", 1)


VFIO_GPU = f'{{"driver":"vfio-pci","host":"{GPU}","id":"hostdev0","bus":"pci.5","addr":"0x0"}}'
GL = '{"driver":"virtio-vga-gl","id":"video0","max_outputs":1,"bus":"pcie.0","addr":"0x1"}'

KNOWN = [
    (by_qemu(f"vfio {GPU}: failed to open /dev/vfio/1: Permission denied", of=VFIO_GPU), Fault.FUNCTION),
    (by_qemu(f"vfio {GPU}: error getting device from group 7: Input/output error", of=VFIO_GPU), Fault.FUNCTION),
    (by_qemu("vfio: failed to open /dev/vfio/vfio: No such file or directory"), Fault.VFIO),
    (by_qemu(f"vfio {GPU}: failed to setup container for group 1: Failed to set iommu for container: Operation not "
             "permitted", of=VFIO_GPU), Fault.VFIO),
    (by_qemu(f"vfio {UUID}: failed to setup container for group 11: Failed to set iommu for container: Input/output "
             "error"), Fault.MDEV),
    (by_qemu(f"vfio {UUID}: error getting device from group 7: Input/output error"), Fault.MDEV),
    ("internal error: Failed to load PCI driver module vfio-pci: modprobe: FATAL: Module vfio-pci not found",
     Fault.VFIO),
    (f"internal error: Failed to reset PCI device: internal error: Active {AUDIO} devices on bus with {GPU}, not doing "
     "bus reset", Fault.FUNCTION),
    (f"internal error: Invalid attempt to reset PCI device {GPU}. Only PCI endpoint devices can be reset",
     Fault.FUNCTION),
    (f"Unable to read from '/sys/bus/pci/devices/{GPU}/config': No such file or directory", Fault.FUNCTION),
    (f"operation failed: PCI device {GPU} is in use", Fault.FUNCTION),
    (f"Requested operation is not valid: PCI device {VF} allocated from network vf is already in use by domain x",
     Fault.FUNCTION),
    (f"Requested operation is not valid: NVMe device {GPU} already in use by driver QEMU domain x", Fault.FUNCTION),
    ("Requested operation is not valid: USB device 001:004 is in use by driver QEMU, domain other", Fault.USB),
    ("Failed to open file '/dev/bus/usb/001/004': No such file or directory", Fault.USB),
    (by_qemu("failed to init libusb"), Fault.USB),
    ("Requested operation is not valid: network 'default' is not active", Fault.NETWORK),
    ("Network not found: no network with matching name 'swtpm'", Fault.NETWORK),
    ("Unable to open /dev/net/tun, is tun module loaded?: No such file or directory", Fault.NETWORK),
    ("cannot open macvtap tap device /dev/tap12: No such file or directory", Fault.NETWORK),
    ("error creating macvtap interface macvtap0@enp3s0 (52:54:00:00:00:01): Device or resource busy", Fault.NETWORK),
    ("internal error: /usr/lib/qemu/qemu-bridge-helper --use-vnet --br=virbr0 --fd=30: failed to communicate with "
     "bridge helper: stderr=failed to get mtu of bridge `virbr0': No such device", Fault.NETWORK),
    ("unsupported configuration: vhost-net was requested for an interface, but is unavailable", Fault.NETWORK),
    (by_qemu("-netdev stream: Failed to connect to '/run/user/1/libvirt/qemu/run/passt/1-desk-net0.socket': Connection "
             "refused"), Fault.NETWORK),
    (by_qemu("-chardev socket,id=chrtpm,path=/run/libvirt/qemu/swtpm/1-desk-swtpm.sock: Failed to connect to "
             "'/run/libvirt/qemu/swtpm/1-desk-swtpm.sock': Permission denied"), Fault.TPM),
    (by_qemu("-tpmdev emulator,id=tpm-tpm0,chardev=chrtpm: tpm-emulator: TPM result for CMD_INIT: 0x9 operation "
             "failed"), Fault.TPM),
    ("internal error: Could not run '/usr/bin/swtpm_setup'. exitstatus: 1; Check error log "
     "'/var/log/swtpm/libvirt/qemu/egl-swtpm.log' for details.", Fault.TPM),
    ("Path '/usr/share/OVMF/OVMF_CODE_4M.fd' is not accessible: No such file or directory", Fault.FIRMWARE),
    ("Failed to open file '/run/libvirt/nix-ovmf/OVMF_VARS.fd': No such file or directory", Fault.FIRMWARE),
    ("operation failed: unable to find any master var store for loader: /usr/share/OVMF/OVMF_CODE.fd", Fault.FIRMWARE),
    ("unsupported configuration: Secure boot requires SMM feature enabled", Fault.FIRMWARE),
    (by_qemu("System Management Mode not supported by this hypervisor."), Fault.FIRMWARE),
    ("internal error: unable to create hugepage path /dev/hugepages/libvirt/qemu/1-desk: Permission denied",
     Fault.HUGEPAGES),
    (by_qemu("'virtio-vga-gl' is not a valid device model name", of=GL), Fault.RENDER_NODE),
    (by_qemu("egl: eglInitialize failed: EGL_NOT_INITIALIZED", "egl: render node init failed"), Fault.RENDER_NODE),
    (by_qemu("The display backend does not have OpenGL support enabled", of=GL), Fault.RENDER_NODE),
    ("unsupported configuration: No DRM render nodes available", Fault.RENDER_NODE),
    ("internal error: client socket is closed", Fault.CONNECTION),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault"), KNOWN)
def test_the_part_that_it_is_about_is_known(text: str, fault: Fault) -> None:
    error = translate(Refusal(text), "start VM desk")
    assert error.fault == fault
    assert error.hint != translate(Refusal("something new"), "start VM desk").hint


# Nothing of the VM is given up for these, and each says what to do.
TOLD = [
    ("unable to find any emulator to serve 'x86_64' architecture", HostError, "qemu-system-x86"),
    ("invalid argument: could not find capabilities for arch=x86_64 ", HostError, "qemu-system-x86"),
    ("Cannot check QEMU binary /usr/bin/qemu-system-x86_64: No such file or directory", HostError, "qemu-system-x86"),
    ("unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support machine type 'pc-q35-99.0'",
     HostError, "newer"),
    (by_qemu("unsupported machine type"), HostError, "newer"),
    ("unsupported configuration: host doesn't support invariant TSC", HostError, "host-model"),
    ("the CPU is incompatible with host CPU: Host CPU does not provide required features: avx512f", HostError,
     "host-model"),
    ("operation failed: guest CPU doesn't match specification: missing features: avx2,erms", HostError, "host-model"),
    ("internal error: cannot load AppArmor profile 'libvirt-1234'", HostError, "aa-status"),
    ("internal error: Unable to find an unused port in range 'vnc' (5900-65535)", HostError, "ss -ltnp"),
    ("Failed to connect socket to '/var/run/libvirt/libvirt-sock': Connection refused", HostError, "systemctl start"),
    (by_qemu("Could not open '/srv/OVMF/disk.qcow2': No such file or directory"), DiskError, "--disk"),
    (by_qemu("Could not open '/srv/my images/opengl.fd': No such file or directory"), DiskError, "--disk"),
    (by_qemu("cannot set up guest memory 'pc.ram': Cannot allocate memory"), HostError, "size.memory"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "family", "hint"), TOLD)
def test_what_no_other_rung_helps_is_told_with_the_next_step(text: str, family: type, hint: str) -> None:
    error = translate(Refusal(text), "start VM desk")
    assert type(error) is family
    assert hint in (error.hint or "")
    assert not blaming.blame(error.fault, text, error.hint, plan(), HOST)


def test_a_vm_that_does_not_answer_is_told_how_to_end_it() -> None:
    text = "Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchDomainShutdown)"
    error = translate(Refusal(text, 68), "read the definition of VM desk")
    assert isinstance(error, GuestError)
    assert "--force" in (error.hint or "")


def test_what_the_system_refused_a_vm_that_starts_is_not_laid_to_the_connection() -> None:
    text = "Unable to write to '/sys/fs/cgroup/machine/qemu-3-desk/emulator/cgroup.threads': Operation not supported"
    assert "log" in (translate(Refusal(text, SYSTEM_ERROR), "start VM desk").hint or "")
    assert "connection" in (translate(Refusal("no such file", SYSTEM_ERROR), "connect to qemu:///system").hint or "")


NAMES = [
    "EGL",
    "egl",
    "opengl",
    "swtpm",
    "passt",
    "hugetlbfs",
    "OVMF",
    "tpm-crb",
    "virtio-vga-gl",
    "firmware",
    "AppArmor",
]
SAYING = [
    "Cannot access storage file '/srv/{}/{}.qcow2' (as uid:64055, gid:64055): Permission denied",
    'qemu-system-x86_64: -blockdev {{"driver":"file","filename":"/srv/{}.img"}}: '
    "Could not open '/run/media/u/{} x/a.img': Permission denied",
    "qemu-system-x86_64: could not load kernel '/home/u/{}/{}.bzImage': Permission denied",
    "error reading initrd /home/{}/{}.img: open() failed: Permission denied",
    "internal error: QEMU unexpectedly closed the monitor (vm='{}'): qemu-system-x86_64: something new",
    "Failed to open file '/var/log/libvirt/qemu/{}.log': Permission denied",
    "operation failed: domain '{}' already exists with uuid 1",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("saying", SAYING, ids=[str(number) for number in range(len(SAYING))])
def test_what_a_stranger_called_a_vm_or_a_file_is_taken_for_no_fault(saying: str, name: str) -> None:
    error = translate(Refusal(saying.format(name, name)), "start VM x")
    assert error.fault in (None, Fault.OTHER)


@pytest.mark.parametrize(
    "before",
    [
        ["warning: host doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]"],
        [f"warning: vfio {GPU}: no FLR, PM reset or bus reset available"],
        [f"vfio {GPU}: Failed to mmap {GPU} BAR 0. Performance may be slow"],
        [
            "VFIO_MAP_DMA failed: Invalid argument",
            "vfio_container_dma_map(0x1, 0x2, 0x3, 0x4) = -22 (Invalid argument)",
            f"{GPU}: PCI peer-to-peer transactions on BARs are not supported.",
        ],
    ],
)
def test_warnings_before_an_error_cost_no_device(before: list[str]) -> None:
    error = "PCI: slot 1 function 0 not available for virtio-vga-gl, in use by intel-hda"
    text = by_qemu(*before, error)
    assert faults.said(text) == error
    assert not blaming.blame(translate(Refusal(text), "start VM x").fault, text, None, plan(), HOST)


def test_an_option_that_qemu_repeats_is_not_the_error() -> None:
    text = by_qemu("PCI: slot 1 function 0 not available, in use by intel-hda", of=GL)
    assert faults.recognise(1, text) is None


def test_a_group_that_the_iommu_refuses_costs_its_own_device_alone() -> None:
    text = by_qemu(f"vfio {GPU}: failed to setup container for group 1: Failed to set iommu for container: Operation "
                   "not permitted", of=VFIO_GPU)  # fmt: skip
    found = blaming.blame(Fault.VFIO, text, None, plan(), HOST)
    assert [f.decision.name for f in found.failed] == ["gpu0"]
    unnamed = blaming.blame(Fault.VFIO, "host doesn't support passthrough of host PCI devices", None, plan(), HOST)
    assert {f.decision.name for f in unnamed.failed} == {"gpu0", "nic0"}


STICKS = tuple(
    UsbDevice(port=f"1-{n}", busnum=1, devnum=n + 2, vendor_id="0951", product_id="1666", device_class="00",
              interface_classes=("080650",), drivers=(), block_devices=(), network_interfaces=(), keyboard=False)
    for n in (1, 2)
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (by_qemu("failed to open host usb device 1:4"), {"0951:1666@1-1"}),
        ("internal error: Did not find USB device 0951:1666 bus:1 device:3", {"0951:1666@1-2"}),
        ("Requested operation is not valid: USB device 001:004 is in use by driver QEMU, domain x", {"0951:1666@1-1"}),
        ("Failed to open file '/dev/bus/usb/001/003': No such file or directory", {"0951:1666@1-2"}),
        ("internal error: Did not find USB device 0951:1666", set()),
        (by_qemu("failed to init libusb"), set()),
    ],
)
def test_of_two_equal_usb_devices_the_one_that_is_named_goes(text: str, left: set[str]) -> None:
    host = msgspec.structs.replace(HOST, usb=STICKS)
    wish = profile('[devices.usb]\nprefer = ["emulated"]\ndevices = ["0951:1666@1-1", "0951:1666@1-2"]')
    planned = planner.plan(host, wish, guest=built_in("linux2024"))
    had = {d.device for d in planned.all_of(Kind.USB_DEVICE) if d.device}
    assert had == {"0951:1666@1-1", "0951:1666@1-2"}
    found = blaming.blame(Fault.USB, text, None, planned, host)
    assert had - {f.decision.device for f in found.failed} == left


def test_the_words_in_the_plan_say_it_once() -> None:
    text = "Failed to open file '/usr/share/OVMF/OVMF_VARS_4M.fd': No such file or directory"
    error = translate(Refusal(text, SYSTEM_ERROR), "start VM desk")
    found = blaming.blame(error.fault, f"{error.message}\n{error.detail}", error.hint, plan(), HOST)
    assert [f.words.count("OVMF_VARS_4M") for f in found.failed] == [1]
