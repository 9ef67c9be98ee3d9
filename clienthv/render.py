"""A VM as a libvirt domain: a frozen view, logic-free templates, and a check against libvirt's own schema."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from clienthv import datafiles
from clienthv.errors import DiskError, TemplateError
from clienthv.model import plan as plan_model
from clienthv.model import values
from clienthv.model.host import DomainCapabilities, Host
from clienthv.model.plan import Decision, Kind, Strategy
from clienthv.model.usb import UsbName
from clienthv.model.values import PciAddress
from clienthv.model.vm import Vm

if TYPE_CHECKING:
    from jinja2 import Environment

NAMESPACE: Final = "urn:clienthv:vm:1"
"""The XML namespace of clienthv's part of a domain's metadata."""

_TARGETS: Final = {"virtio": "vda", "sata": "sda", "ide": "hda"}
_SCHEMAS: Final = ("/usr/share/libvirt/schemas/domain.rng", "/usr/local/share/libvirt/schemas/domain.rng")


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


class InputView(msgspec.Struct, frozen=True):
    """One input device."""

    type: str
    bus: str


class UsbView(msgspec.Struct, frozen=True):
    """A USB device of the host: its ids as libvirt wants them, bus and device number where its port is named."""

    vendor: str
    product: str
    bus: str = ""
    device: str = ""


class CompanionView(msgspec.Struct, frozen=True):
    """A USB 1.1 controller beside an EHCI one, and the port it begins at."""

    model: str
    port: str


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
    nic_vf: PciView | None
    nic_model: str
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
    inputs: tuple[InputView, ...]
    tpm: str
    tpm_emulated: bool
    tpm_passed: bool
    virtio: bool


# EHCI serves fast devices alone; ICH9 has three UHCI controllers for the others (QEMU, docs/config/ich9-ehci-uhci.cfg).
_COMPANIONS: Final = tuple(CompanionView(f"ich9-uhci{n + 1}", str(2 * n)) for n in range(3))


def render(vm: Vm, host: Host) -> str:
    """The libvirt domain XML of a VM, checked against libvirt's schema.

    Raises TemplateError when a template is broken or what it gives is not a libvirt domain, DiskError for a path
    that XML would change.
    """
    for what, text in msgspec.to_builtins(vm.options).items():
        if text is not None and not values.is_plain_text(text):
            msg = f"{what} {text!r} has characters that a domain cannot carry"
            raise DiskError(msg, hint="rename the file: no control characters, UTF-8 alone")
    xml = environment_text("domain.xml.j2", {"vm": view(vm, host)})
    check(xml)
    return xml


def view(vm: Vm, host: Host) -> View:
    """What the templates see of a VM on a host: every text ready, nothing left to decide."""
    plan = vm.plan
    capabilities = host.stack.capabilities if host.stack is not None else None
    cpu, firmware, gpu = plan.of(Kind.CPU), plan.of(Kind.FIRMWARE), plan.of(Kind.GPU)
    nic, display, tpm = plan.of(Kind.NIC), plan.of(Kind.DISPLAY), plan.of(Kind.TPM)
    board = plan.board or plan_model.Board()
    usb = plan.of(Kind.USB)
    uefi = firmware.strategy is not Strategy.BIOS
    hardware = cpu.strategy is Strategy.HARDWARE_VIRTUALIZATION
    spice = display.model == "spice"
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
        cpu_mode=cpu.model,
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
        disk=_disk(vm),
        cdrom=vm.options.cdrom or "",
        cdrom_bus="sata" if board.machine == "q35" else "ide",
        cdrom_target="sdz" if board.machine == "q35" else "hdd",
        host_devices=_host_devices(plan),
        nic_vf=_pci(nic.functions[0]) if nic.strategy is Strategy.VF else None,
        nic_model="" if nic_passed else nic.model,
        mac=vm.seen.mac or "",
        spice=spice,
        vnc=display.model == "vnc",
        render_node=_render_node(host) if gpu.strategy is Strategy.PARAVIRTUAL_3D else "",
        video=_video(gpu, display, capabilities),
        video_3d=gpu.strategy is Strategy.PARAVIRTUAL_3D,
        sound=_sound(plan.of(Kind.AUDIO)),
        audio_backend="spice" if spice else "none",
        usb=usb.model if usb.strategy is Strategy.EMULATED else "none",
        usb_ports="15" if usb.model == "qemu-xhci" and _usb_devices(plan, host) else "",
        usb_companions=_COMPANIONS if usb.model == "ich9-ehci1" else (),
        usb_devices=_usb_devices(plan, host),
        inputs=_inputs(plan.of(Kind.INPUT)),
        tpm=tpm.model,
        tpm_emulated=tpm.strategy is Strategy.EMULATED,
        tpm_passed=tpm.strategy is Strategy.PASSTHROUGH,
        virtio=_carries_virtio(plan),
    )


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
    return DiskView(vm.options.disk, vm.options.disk_format or "qcow2", decision.model, _TARGETS[decision.model])


def _host_devices(plan: plan_model.Plan) -> tuple[PciView, ...]:
    """Every function that moves, once; a virtual function of a network card is an interface instead."""
    addresses = {
        a: d.kind is Kind.DISK and a == d.device
        for d in plan.decisions
        if d.strategy is Strategy.PASSTHROUGH or (d.strategy is Strategy.VF and d.kind is not Kind.NIC)
        for a in d.functions
    }
    return tuple(_pci(a, boots=boots) for a, boots in sorted(addresses.items()))


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


def _render_node(host: Host) -> str:
    return next((f"/dev/dri/{f.render_node}" for f in host.by_class.get("03", ()) if f.render_node), "")


def _video(gpu: Decision, display: Decision, capabilities: DomainCapabilities | None) -> str:
    """The virtual adapter. Beside a GPU of its own the guest gets the plainest one, for the virtual screen alone."""
    if gpu.strategy not in (Strategy.PASSTHROUGH, Strategy.VF, Strategy.OMIT):
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
    return views.get(decision.model, ())


def _carries_virtio(plan: plan_model.Plan) -> bool:
    return any(
        d.strategy in (Strategy.PARAVIRTUAL, Strategy.PARAVIRTUAL_3D) and d.model == "virtio" for d in plan.decisions
    )


def environment() -> Environment:
    """The one Jinja environment: escaping always on, undefined names and None are errors, no code can be reached.

    The user's folder comes first, then /etc, then what came with clienthv; the last is also under ``packaged/``, so
    that a user's ``domain.xml.j2`` can extend it and change single blocks.
    """
    from jinja2 import ChoiceLoader, FileSystemLoader, PrefixLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    folders = datafiles.folders("templates")
    packaged = FileSystemLoader(folders[-1].path)
    layers = [FileSystemLoader(folder.path) for folder in folders]
    return ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([*layers, PrefixLoader({"packaged": packaged})]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_never_none,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _never_none(value: Any) -> Any:
    if value is None:
        msg = "a template prints a value that is None"
        raise TemplateError(msg, hint="let the template test the value with {% if %} first")
    return value


def environment_text(template: str, context: Mapping[str, object]) -> str:
    """A template's text. Raises TemplateError."""
    from jinja2 import TemplateError as JinjaError

    try:
        return environment().get_template(template).render(context)
    except (JinjaError, OSError, ArithmeticError, TypeError, ValueError, RecursionError) as e:
        msg = f"template {_where(e, template)} is broken: {e}"
        hint = f"see the templates in {datafiles.folders('templates')[0].path}, or move them away"
        raise TemplateError(msg, hint=hint) from e


def _where(error: BaseException, template: str) -> str:
    """The innermost template that an error came from, with its line where Jinja knows it."""
    from jinja2 import TemplateSyntaxError

    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename or error.name or template}, line {error.lineno},"
    frames = traceback.extract_tb(error.__traceback__)
    return next((f"{f.filename}, line {f.lineno}," for f in reversed(frames) if f.filename.endswith(".j2")), template)


def schema_path() -> Path | None:
    """Where libvirt's domain schema is on this machine (package libvirt-common), or None."""
    return next((p for p in map(Path, _SCHEMAS) if p.is_file()), None)


def check(xml: str) -> bool:
    """Check a domain against libvirt's RNG schema. Returns False where the schema is not installed.

    Raises TemplateError, naming the line.
    """
    from lxml import etree

    try:
        document = etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, UnicodeEncodeError) as e:
        msg = f"the rendered domain is not XML: {e}"
        raise TemplateError(msg, hint="look at the templates that were changed") from e
    path = schema_path()
    if path is None:
        return False
    schema = etree.RelaxNG(etree.parse(path))
    if not schema.validate(document):
        error = schema.error_log.last_error
        msg = f"the rendered domain is not a libvirt domain: line {error.line}: {error.message}"
        raise TemplateError(msg, hint="look at the templates that were changed")
    return True
