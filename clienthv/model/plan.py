"""The plan document: for every device of a VM the strategy chosen, why, and why not each better one."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.errors import DocumentError
from clienthv.model.input import EventLink
from clienthv.model.network import Plug
from clienthv.model.values import as_json

SCHEMA: Final = 1


@unique
class Kind(StrEnum):
    """A kind of thing a VM has, in the order plans list them: one of each, of USB devices any number."""

    CPU = "cpu"
    FIRMWARE = "firmware"
    GPU = "gpu"
    NIC = "nic"
    DISK = "disk"
    AUDIO = "audio"
    USB = "usb"
    USB_DEVICE = "usb-device"
    INPUT = "input"
    TPM = "tpm"
    DISPLAY = "display"


@unique
class Strategy(StrEnum):
    """A way to give a VM one of its devices. The last five belong to the CPU and the firmware alone."""

    PASSTHROUGH = "passthrough"
    VF = "vf"
    MDEV = "mdev"
    PARAVIRTUAL_3D = "paravirtual-3d"
    PARAVIRTUAL = "paravirtual"
    EMULATED = "emulated"
    OMIT = "omit"
    HARDWARE_VIRTUALIZATION = "hardware-virtualization"
    BINARY_TRANSLATION = "binary-translation"
    UEFI_SECURE_BOOT = "uefi-secure-boot"
    UEFI = "uefi"
    BIOS = "bios"


HOST_DEVICES: Final = (Strategy.PASSTHROUGH, Strategy.VF)
"""The strategies that move a PCI function of the host into the guest."""

_S = Strategy
STRATEGIES: Final[dict[Kind, tuple[Strategy, ...]]] = {
    Kind.CPU: (_S.HARDWARE_VIRTUALIZATION, _S.BINARY_TRANSLATION),
    Kind.FIRMWARE: (_S.UEFI_SECURE_BOOT, _S.UEFI, _S.BIOS),
    Kind.GPU: (_S.PASSTHROUGH, _S.VF, _S.MDEV, _S.PARAVIRTUAL_3D, _S.PARAVIRTUAL, _S.EMULATED, _S.OMIT),
    Kind.NIC: (_S.VF, _S.PASSTHROUGH, _S.PARAVIRTUAL, _S.EMULATED, _S.OMIT),
    Kind.DISK: (_S.PASSTHROUGH, _S.VF, _S.PARAVIRTUAL, _S.EMULATED, _S.OMIT),
    Kind.AUDIO: (_S.PASSTHROUGH, _S.PARAVIRTUAL, _S.EMULATED, _S.OMIT),
    Kind.USB: (_S.PASSTHROUGH, _S.EMULATED, _S.OMIT),
    Kind.INPUT: (_S.PASSTHROUGH, _S.PARAVIRTUAL, _S.EMULATED, _S.OMIT),
    Kind.TPM: (_S.PASSTHROUGH, _S.EMULATED, _S.OMIT),
    Kind.DISPLAY: (_S.PARAVIRTUAL, _S.EMULATED, _S.OMIT),
}
"""Which strategies each kind with a ladder knows, best hardware access first. A profile may order them otherwise.

USB devices have none: what a profile names is handed over or left out.
"""


@unique
class Reason(StrEnum):
    """Why a rung was not taken. The codes are stable; each is explained in docs/reference/reasons.md."""

    # CPU
    NO_HARDWARE_VIRTUALIZATION = "no-hardware-virtualization"
    VIRTUALIZATION_UNKNOWN = "virtualization-unknown"
    CPU_LEVEL_MISSING = "cpu-level-missing"
    CPU_LEVEL_UNKNOWN = "cpu-level-unknown"
    KVM_NOT_USABLE = "kvm-not-usable"
    ARCHITECTURE_DIFFERS = "architecture-differs"
    # what the profile says
    FORBIDDEN = "forbidden"
    # what the VM had before
    KEPT = "kept"
    DEVICE_CHANGED = "device-changed"
    # what became of it when the VM was started
    START_FAILED = "start-failed"
    # the device and its IOMMU
    NO_SUCH_DEVICE = "no-such-device"
    NOT_SELECTED = "not-selected"
    IOMMU_ABSENT = "iommu-absent"
    IOMMU_OFF = "iommu-off"
    IOMMU_UNKNOWN = "iommu-unknown"
    NO_IOMMU_GROUP = "no-iommu-group"
    IOMMU_GROUP_UNKNOWN = "iommu-group-unknown"
    IOMMU_GROUP_STAYS = "iommu-group-stays"
    NO_INTERRUPT_REMAPPING = "no-interrupt-remapping"
    ACS_OVERRIDE = "acs-override"
    VFIO_UNAVAILABLE = "vfio-unavailable"
    NO_PRIVILEGE = "no-privilege"
    IDS_UNKNOWN = "ids-unknown"
    BEHIND_VMD = "behind-vmd"
    USED_BY_VM = "used-by-vm"
    GIVEN_TO_OTHER_VM = "given-to-other-vm"
    BYPASSES_IOMMU = "bypasses-iommu"
    IOMMU_BYPASS_UNKNOWN = "iommu-bypass-unknown"
    RESERVED_MEMORY = "reserved-memory"
    # what the host needs
    BOOT_DISPLAY = "boot-display"
    BOOT_DISPLAY_UNKNOWN = "boot-display-unknown"
    CONNECTED_DISPLAY = "connected-display"
    MOUNTED_DISK = "mounted-disk"
    MOUNTED_DISK_UNKNOWN = "mounted-disk-unknown"
    DEFAULT_ROUTE = "default-route"
    NETWORK_IN_USE = "network-in-use"
    NETWORK_UNKNOWN = "network-unknown"
    HOST_INPUT = "host-input"
    HOST_INPUT_UNKNOWN = "host-input-unknown"
    IS_PHYSICAL_FUNCTION = "is-physical-function"
    IN_USE = "in-use"
    # USB devices
    USB_UNKNOWN = "usb-unknown"
    NOT_PLUGGED_IN = "not-plugged-in"
    SEVERAL_MATCH = "several-match"
    IS_HUB = "is-hub"
    NO_USB_CONTROLLER = "no-usb-controller"
    ONLY_KEYBOARD = "only-keyboard"
    USB_CLASS_UNKNOWN = "usb-class-unknown"
    # what a virtual network card is plugged into
    NETWORKS_UNKNOWN = "networks-unknown"
    NO_BRIDGE = "no-bridge"
    NO_NETWORK = "no-network"
    NETWORK_INACTIVE = "network-inactive"
    NO_INTERFACE = "no-interface"
    LINK_DOWN = "link-down"
    WIRELESS = "wireless"
    NO_PASST = "no-passt"
    # keyboards and pointers that are shared with the guest
    EVENTS_UNKNOWN = "events-unknown"
    NO_EVENT_DEVICE = "no-event-device"
    # SR-IOV
    NO_SRIOV = "no-sriov"
    NO_VF_CREATED = "no-vf-created"
    VF_ADDRESS_UNKNOWN = "vf-address-unknown"
    NO_PF_INTERFACE = "no-pf-interface"
    VF_NOT_READY = "vf-not-ready"
    # mediated devices
    NO_MDEV_TYPE = "no-mdev-type"
    MDEV_USED_UP = "mdev-used-up"
    MDEV_UNKNOWN = "mdev-unknown"
    # what the guest and QEMU can do
    NO_GUEST_DRIVER = "no-guest-driver"
    GUEST_FIRMWARE = "guest-firmware"
    NOT_IN_QEMU = "not-in-qemu"
    IS_PROCESSOR_GRAPHICS = "is-processor-graphics"
    NO_RENDER_NODE = "no-render-node"
    RENDER_NODE_UNKNOWN = "render-node-unknown"
    NO_TPM_DEVICE = "no-tpm-device"
    TPM_UNKNOWN = "tpm-unknown"


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One rung not taken: a stable reason, a sentence with the evidence, and the smallest change that lifts it."""

    strategy: Strategy
    device: str | None
    reason: Reason
    detail: str
    fix: str | None = None


class VirtualFunction(msgspec.Struct, frozen=True, kw_only=True):
    """Which virtual function a device rests on: its physical function, and its number there where that is known.

    One that is ``created`` is not there yet: ``up`` makes it, and its address in the plan is where the physical
    function's offset and stride put it.
    """

    physfn: str
    index: int | None = None
    created: bool = False


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one device of the VM becomes.

    ``device`` is the PCI address it rests on, if any; ``functions`` are all the functions that move with it. For a
    USB device they are its name in the profile, and the controller when that is handed over whole.
    ``model`` is what the guest sees, ``backing`` what stands behind it on the host. ``virtual_function`` is there
    for virtual functions alone, ``render_node`` for
    3D by a GPU of the host, ``network`` for a virtual network card that is plugged into something
    else than QEMU's user-mode network, ``evdev`` for input devices of the host, as links below /dev/input.
    """

    kind: Kind
    name: str
    strategy: Strategy
    device: str | None
    functions: tuple[str, ...]
    model: str
    backing: str
    why: str
    rejected: tuple[Rejected, ...]
    virtual_function: VirtualFunction | None = None
    render_node: Annotated[str, Meta(pattern=r"^renderD[0-9]{1,4}$(?!\n)")] | None = None
    network: Plug | None = None
    evdev: tuple[EventLink, ...] = ()


class HostChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change that ``up`` makes to the host, and how it is taken back.

    ``action`` is bind-vfio, which libvirt does, or one of ``model.change.What``, which clienthv does itself. For
    those ``value`` is what is set, ``interface`` the physical function's network interface and ``index`` the virtual
    function's number, where the action needs them.
    """

    action: str
    device: str
    detail: str
    undo: str
    value: str | None = None
    interface: str | None = None
    index: int | None = None


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """Something the plan hangs on or that a user should know."""

    code: str
    detail: str


class Board(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the devices sit on: machine type, ACPI, and what the clock shows."""

    machine: Literal["q35", "pc"] = "q35"
    acpi: bool = True
    clock: Literal["utc", "localtime"] = "utc"


class Pins(msgspec.Struct, frozen=True, kw_only=True):
    """Which thread of the host each virtual processor has, and the threads that QEMU itself shares with the host.

    ``threads`` is how many virtual processors share a core of the guest, as theirs do on the host.
    """

    vcpus: tuple[int, ...]
    emulator: tuple[int, ...]
    threads: Annotated[int, Meta(ge=1, le=8)] = 1


class Extras(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a VM gets beyond devices with ladders.

    ``hugepages_kib`` is the size in KiB of the huge pages its memory consists of, ``looking_glass_mib`` the shared
    memory in MiB through which Looking Glass shows its screen, ``usb_redirects`` how many USB devices can be plugged
    in over SPICE. ``hyperv`` are the Hyper-V enlightenments that Windows is offered, by libvirt's names.
    """

    hyperv: tuple[str, ...] = ()
    pins: Pins | None = None
    hugepages_kib: Annotated[int, Meta(ge=1)] | None = None
    looking_glass_mib: Annotated[int, Meta(ge=1)] | None = None
    usb_redirects: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer for one VM on one host; ``memory_mib`` is in MiB.

    ``board`` is left out where it is usual, ``extras`` where there are none.
    """

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["plan"] = "plan"
    profile: str
    host: str
    vcpus: Annotated[int, Meta(ge=1)]
    memory_mib: Annotated[int, Meta(ge=1)]
    decisions: tuple[Decision, ...]
    host_changes: tuple[HostChange, ...]
    warnings: tuple[Warned, ...]
    board: Board | msgspec.UnsetType = msgspec.UNSET
    extras: Extras | msgspec.UnsetType = msgspec.UNSET

    def of(self, kind: Kind) -> Decision:
        """The (first) decision of a kind; every plan has one for each that has a ladder."""
        return next(d for d in self.decisions if d.kind is kind)

    def all_of(self, kind: Kind) -> tuple[Decision, ...]:
        """Every decision of a kind, in the order they were asked for; of USB devices there may be none."""
        return tuple(d for d in self.decisions if d.kind is kind)


def encode(plan: Plan) -> bytes:
    """The plan document as indented JSON with a final newline; the same plan gives the same bytes."""
    return as_json(plan)


def decode(data: bytes | str, origin: str) -> Plan:
    """Read a plan document. Raises DocumentError, naming ``origin``."""
    try:
        return msgspec.json.decode(data, type=Plan)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        msg = f"{origin} does not hold a clienthv plan: {e}"
        raise DocumentError(msg) from e
