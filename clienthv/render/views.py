"""What the templates see: frozen views of a plan, every text ready, nothing left to decide."""

from __future__ import annotations

import json
from typing import Final

import msgspec

from clienthv.model import plan as plan_model
from clienthv.model.host import DomainCapabilities, Host
from clienthv.model.mdev import uuid_of
from clienthv.model.network import Plug
from clienthv.model.plan import Decision, Kind, Strategy
from clienthv.model.usb import UsbName
from clienthv.model.values import PciAddress
from clienthv.model.vm import Vm
from clienthv.model.x86_64 import LEVELS, features_of

_TARGETS: Final = {"virtio": "vda", "scsi": "sda", "sata": "sda", "ide": "hda"}
_RETRIES: Final = "8191"  # how often a spin lock is tried before the hypervisor is told (libvirt domain format)


class PciView(msgspec.Struct, frozen=True):
    """A PCI address in the four parts libvirt wants."""

    domain: str
    bus: str
    slot: str
    function: str
    boots: bool = False


class DiskView(msgspec.Struct, frozen=True):
    """The image, its format, and where the guest sees it."""

    path: str
    format: str
    bus: str
    target: str
    cache: str
    io: str


class PlugView(msgspec.Struct, frozen=True):
    """What a virtual network card is plugged into: libvirt's type, and the one source that this type has."""

    type: str = "user"
    bridge: str = ""
    network: str = ""
    card: str = ""
    passt: bool = False


class InputView(msgspec.Struct, frozen=True):
    """One input device; ``source`` is the event device of the host that evdev takes, ``grabs`` is for keyboards."""

    type: str
    bus: str = ""
    source: str = ""
    grabs: bool = False


class UsbView(msgspec.Struct, frozen=True):
    """A USB device of the host: its ids as libvirt wants them, bus and device number where its port is named."""

    vendor: str
    product: str
    bus: str = ""
    device: str = ""


class MdevView(msgspec.Struct, frozen=True):
    """A mediated device: its UUID, and whether its picture is shown on the virtual screen."""

    uuid: str
    display: str


class CompanionView(msgspec.Struct, frozen=True):
    """A USB 1.1 controller beside an EHCI one, and the port it begins at."""

    model: str
    port: str


class PinView(msgspec.Struct, frozen=True):
    """One virtual processor and the thread of the host that it has."""

    vcpu: str
    cpuset: str


class HypervView(msgspec.Struct, frozen=True):
    """One Hyper-V enlightenment; ``retries`` for the one of spin locks alone."""

    name: str
    retries: str = ""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that the templates see. Text that is "" and views that are None are left out of the domain."""

    name: str
    uuid: str
    domain_type: str
    profile_json: str
    options_json: str
    plan_json: str
    hardware_json: str
    memory_mib: int
    vcpus: int
    cpu_mode: str
    cpu_features: tuple[str, ...]
    cores: str
    threads: str
    pins: tuple[PinView, ...]
    emulator_pin: str
    hyperv: tuple[HypervView, ...]
    iothread: bool
    iothread_on_disk: bool
    scsi_controller: bool
    machine: str
    acpi: bool
    clock: str
    uefi: bool
    secure_boot: str
    nvram: str
    kernel: str
    initrd: str
    cmdline: str
    emulator: str
    disk: DiskView | None
    cdrom: str
    cdrom_bus: str
    cdrom_target: str
    host_devices: tuple[PciView, ...]
    mdev: MdevView | None
    nic_vf: PciView | None
    nic_model: str
    nic_plug: PlugView
    mac: str
    spice: bool
    vnc: bool
    render_node: str
    video: str
    video_3d: bool
    sound: str
    audio_backend: str
    usb: str
    usb_ports: str
    usb_companions: tuple[CompanionView, ...]
    usb_devices: tuple[UsbView, ...]
    usb_redirects: tuple[int, ...]
    hugepages_kib: str
    looking_glass_mib: str
    inputs: tuple[InputView, ...]
    tpm: str
    tpm_emulated: bool
    tpm_passed: bool
    virtio: bool


# EHCI serves fast devices alone; ICH9 has three UHCI controllers for the others (QEMU, docs/config/ich9-ehci-uhci.cfg).
_COMPANIONS: Final = tuple(CompanionView(f"ich9-uhci{n + 1}", str(2 * n)) for n in range(3))


def view(vm: Vm, host: Host) -> View:
    """What the templates see of a VM on a host: every text ready, nothing left to decide."""
    plan = vm.plan
    capabilities = host.stack.capabilities if host.stack is not None else None
    cpu, firmware, gpu = plan.of(Kind.CPU), plan.of(Kind.FIRMWARE), plan.of(Kind.GPU)
    nic, display, tpm = plan.of(Kind.NIC), plan.of(Kind.DISPLAY), plan.of(Kind.TPM)
    board = plan.board or plan_model.Board()
    usb = plan.of(Kind.USB)
    disk = _disk(vm)
    extras = plan.extras or plan_model.Extras()
    uefi = firmware.strategy is not Strategy.BIOS
    hardware = cpu.strategy is Strategy.HARDWARE_VIRTUALIZATION
    spice = display.model == "spice"
    mdev = _mdev(vm, capabilities)
    nic_passed = nic.strategy in (Strategy.PASSTHROUGH, Strategy.VF, Strategy.OMIT)
    return View(
        name=vm.name,
        uuid=vm.seen.uuid or "",
        domain_type="kvm" if hardware else "qemu",
        profile_json=json.dumps([msgspec.to_builtins(text) for text in vm.profile]),
        options_json=json.dumps(msgspec.to_builtins(vm.options)),
        plan_json=_ascii(plan_model.encode(plan)),
        hardware_json=json.dumps([msgspec.to_builtins(known) for known in vm.hardware]) if vm.hardware else "",
        memory_mib=plan.memory_mib,
        vcpus=plan.vcpus,
        cpu_mode="" if cpu.model in LEVELS else cpu.model,
        cpu_features=_cpu_features(cpu.model, extras, host),
        cores=str(plan.vcpus // (extras.pins.threads if extras.pins else 1)),
        threads=str(extras.pins.threads if extras.pins else 1),
        pins=tuple(PinView(str(n), str(thread)) for n, thread in enumerate(extras.pins.vcpus if extras.pins else ())),
        emulator_pin=",".join(map(str, extras.pins.emulator)) if extras.pins else "",
        hyperv=tuple(HypervView(name, _RETRIES if name == "spinlocks" else "") for name in extras.hyperv),
        iothread=disk is not None and disk.bus in ("virtio", "scsi"),
        iothread_on_disk=disk is not None and disk.bus == "virtio",
        scsi_controller=disk is not None and disk.bus == "scsi",
        machine=_machine(vm.seen.machine, board),
        acpi=board.acpi,
        clock=board.clock,
        uefi=uefi,
        secure_boot="yes" if firmware.strategy is Strategy.UEFI_SECURE_BOOT else "no",
        nvram=(vm.seen.nvram or "") if uefi else "",
        kernel=vm.options.kernel or "",
        initrd=vm.options.initrd or "",
        cmdline=(vm.options.cmdline or "") if vm.options.kernel else "",
        emulator=(capabilities.emulator or "") if capabilities is not None else "",
        disk=disk,
        cdrom=vm.options.cdrom or "",
        cdrom_bus="sata" if board.machine == "q35" else "ide",
        cdrom_target="sdz" if board.machine == "q35" else "hdd",
        host_devices=_host_devices(plan),
        mdev=mdev,
        nic_vf=_pci(nic.functions[0]) if nic.strategy is Strategy.VF else None,
        nic_model="" if nic_passed else nic.model,
        nic_plug=_plug(nic.network),
        mac=vm.seen.mac or "",
        spice=spice,
        vnc=display.model == "vnc",
        render_node=_render_node(gpu, host) if gpu.strategy is Strategy.PARAVIRTUAL_3D or _is_drawn(mdev) else "",
        video=_video(gpu, display, capabilities),
        video_3d=gpu.strategy is Strategy.PARAVIRTUAL_3D,
        sound=_sound(plan.of(Kind.AUDIO)),
        audio_backend="spice" if spice else "none",
        usb=usb.model if usb.strategy is Strategy.EMULATED else "none",
        usb_ports="15" if usb.model == "qemu-xhci" and (_usb_devices(plan, host) or extras.usb_redirects) else "",
        usb_companions=_COMPANIONS if usb.model == "ich9-ehci1" else (),
        usb_devices=_usb_devices(plan, host),
        usb_redirects=tuple(range(extras.usb_redirects)),
        hugepages_kib=str(extras.hugepages_kib or ""),
        looking_glass_mib=str(extras.looking_glass_mib or ""),
        inputs=_inputs(plan.of(Kind.INPUT)),
        tpm=tpm.model,
        tpm_emulated=tpm.strategy is Strategy.EMULATED,
        tpm_passed=tpm.strategy is Strategy.PASSTHROUGH,
        virtio=_carries_virtio(plan),
    )


def _cpu_features(model: str, extras: plan_model.Extras, host: Host) -> tuple[str, ...]:
    """What a level of x86-64 asks for; or what AMD's processors show threads by."""
    threaded = extras.pins is not None and extras.pins.threads > 1 and host.cpu.vendor == "AuthenticAMD"
    return next((features_of(level) for level in LEVELS if level == model), ("topoext",) if threaded else ())


def _machine(seen: str | None, board: plan_model.Board) -> str:
    """The machine type that the guest has seen, unless its operating system needs a board of another kind now."""
    same_kind = seen is not None and ("q35" in seen) == (board.machine == "q35")
    return seen if seen is not None and same_kind else board.machine


def _ascii(document: bytes) -> str:
    """JSON with every other character escaped: XML cannot carry all that JSON can."""
    return json.dumps(json.loads(document), indent=1)


def _disk(vm: Vm) -> DiskView | None:
    decision = vm.plan.of(Kind.DISK)
    if vm.options.disk is None or decision.strategy not in (Strategy.PARAVIRTUAL, Strategy.EMULATED):
        return None
    bus = "scsi" if decision.model == "virtio-scsi" else decision.model
    # An image file is faster with the host's page cache (docs/benchmarks-guest.md); a block device is as it is.
    past_the_cache = vm.storage.direct and vm.storage.block_device
    return DiskView(
        vm.options.disk,
        vm.options.disk_format or "qcow2",
        bus,
        _TARGETS[bus],
        cache="none" if past_the_cache else "",
        io="native" if past_the_cache else "",
    )


def _host_devices(plan: plan_model.Plan) -> tuple[PciView, ...]:
    """Every function that moves, once; a virtual function of a network card is an interface instead."""
    addresses = {
        a: d.kind is Kind.DISK and a == d.device
        for d in plan.decisions
        if d.strategy is Strategy.PASSTHROUGH or (d.strategy is Strategy.VF and d.kind is not Kind.NIC)
        for a in d.functions
    }
    return tuple(_pci(a, boots=boots) for a, boots in sorted(addresses.items()))


def _mdev(vm: Vm, capabilities: DomainCapabilities | None) -> MdevView | None:
    """The GPU's mediated device. Intel's shows its picture through dma-buf, for which QEMU needs OpenGL.

    Source: libvirt, formatdomain, hostdev ``display`` (needs graphics); kernel, VFIO_DEVICE_QUERY_GFX_PLANE.
    """
    gpu, display = vm.plan.of(Kind.GPU), vm.plan.of(Kind.DISPLAY)
    if gpu.strategy is not Strategy.MDEV:
        return None
    drawn = gpu.model.startswith("i915-") and capabilities is not None and "egl-headless" in capabilities.graphics
    return MdevView(uuid_of(vm.name), "on" if drawn and display.strategy is not Strategy.OMIT else "off")


def _is_drawn(mdev: MdevView | None) -> bool:
    return mdev is not None and mdev.display == "on"


def _usb_devices(plan: plan_model.Plan, host: Host) -> tuple[UsbView, ...]:
    """Every single USB device that is handed over; those that go with their controller are host devices already.

    libvirt finds a device by its ids and refuses to choose between alike ones, or by ids and numbers (libvirt,
    src/hypervisor/virhostdev.c, virHostdevFindUSBDevice). It does not know ports.
    """
    taken = [d.device for d in plan.all_of(Kind.USB_DEVICE) if d.device is not None and not d.functions]
    return tuple(_usb(UsbName.parse(text), host) for text in taken)


def _usb(name: UsbName, host: Host) -> UsbView:
    view = UsbView(f"0x{name.vendor_id}", f"0x{name.product_id}")
    if name.port is None:
        return view
    device = host.usb_by_port[name.port]
    return msgspec.structs.replace(view, bus=str(device.busnum), device=str(device.devnum))


def _pci(address: str, *, boots: bool = False) -> PciView:
    place = PciAddress.parse(address)
    return PciView(
        f"0x{place.domain:04x}", f"0x{place.bus:02x}", f"0x{place.device:02x}", f"0x{place.function:x}", boots
    )


def _plug(plug: Plug | None) -> PlugView:
    """The interface types of libvirt (formatdomain, "Network interfaces"); macvtap is "direct" there."""
    source = (plug.source if plug is not None else None) or ""
    match plug.type if plug is not None else "user":
        case "bridge":
            return PlugView("bridge", bridge=source)
        case "network":
            return PlugView("network", network=source)
        case "macvtap":
            return PlugView("direct", card=source)
        case "passt":
            return PlugView(passt=True)
        case "user":
            return PlugView()


def _render_node(gpu: Decision, host: Host) -> str:
    """The node that was chosen; the first there is for a plan from before the choice was written down."""
    first = next((f.render_node for f in host.by_class.get("03", ()) if f.render_node), None)
    node = gpu.render_node or first
    return f"/dev/dri/{node}" if node else ""


def _video(gpu: Decision, display: Decision, capabilities: DomainCapabilities | None) -> str:
    """The virtual adapter. Beside a GPU of its own the guest gets the plainest one, for the virtual screen alone."""
    if gpu.strategy not in (Strategy.PASSTHROUGH, Strategy.VF, Strategy.MDEV, Strategy.OMIT):
        return gpu.model
    if gpu.strategy is Strategy.OMIT or display.strategy is Strategy.OMIT:
        return "none"
    return "bochs" if capabilities is not None and "bochs" in capabilities.video_models else "vga"


def _sound(audio: Decision) -> str:
    return audio.model if audio.strategy in (Strategy.PARAVIRTUAL, Strategy.EMULATED) else ""


def _inputs(decision: Decision) -> tuple[InputView, ...]:
    views = {
        "virtio": (InputView("tablet", "virtio"), InputView("keyboard", "virtio")),
        "usb-tablet": (InputView("tablet", "usb"),),
        "ps2": (InputView("mouse", "ps2"),),
    }
    events = [InputView("evdev", source=f"/dev/input/{e}", grabs=e.endswith("-event-kbd")) for e in decision.evdev]
    return (*views.get(decision.model, ()), *events)


def _carries_virtio(plan: plan_model.Plan) -> bool:
    return any(
        d.strategy in (Strategy.PARAVIRTUAL, Strategy.PARAVIRTUAL_3D) and d.model.startswith("virtio")
        for d in plan.decisions
    )
