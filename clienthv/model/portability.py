"""Whether something runs on another PC: the verdict, and every finding it rests on."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from clienthv.model.plan import Kind, Plan
from clienthv.model.values import as_json

SCHEMA: Final = 1


@unique
class Verdict(StrEnum):
    """What is possible, the best first: move while it runs, start there as it is, start there changed, or nothing."""

    LIVE = "live"
    COLD = "cold"
    ADAPT = "adapt"
    BLOCKED = "blocked"


@unique
class Severity(StrEnum):
    """What a finding does to the verdict. The last three leave it: something to know, or that nobody could tell."""

    BLOCKS = "blocks"
    CHANGES = "changes"
    STOPS_LIVE = "stops-live"
    WARNS = "warns"
    UNKNOWN = "unknown"
    INFO = "info"


LEAVES: Final[dict[Severity, Verdict]] = {
    Severity.BLOCKS: Verdict.BLOCKED,
    Severity.CHANGES: Verdict.ADAPT,
    Severity.STOPS_LIVE: Verdict.COLD,
}
"""The best verdict that a finding leaves."""


@unique
class Code(StrEnum):
    """What was found. The codes are stable; each is explained in docs/reference/findings.md."""

    # the whole
    NO_PLAN = "no-plan"
    NOT_RUNNING_KIND = "not-a-vm"
    ARCHITECTURE = "architecture"
    TARGET_SOFTWARE_UNKNOWN = "target-software-unknown"
    DEVICE_BECOMES = "device-becomes"
    # processor
    CPU_TYPE = "cpu-type"
    CPU_OF_THE_HOST = "cpu-of-the-host"
    CPU_FEATURES = "cpu-features"
    CPU_VENDOR = "cpu-vendor"
    CPU_MODEL_UNKNOWN = "cpu-model-unknown"
    CPU_UNKNOWN = "cpu-unknown"
    CPU_NOT_MIGRATABLE = "cpu-not-migratable"
    CPU_DIFFERS = "cpu-differs"
    HYPERV = "hyperv"
    VCPUS = "vcpus"
    CPU_PINS = "cpu-pins"
    NUMA_NODES = "numa-nodes"
    # board, firmware, memory
    MACHINE_TYPE = "machine-type"
    MACHINE_ALIAS = "machine-alias"
    EMULATOR = "emulator"
    FIRMWARE = "firmware"
    SECURE_BOOT = "secure-boot"
    FIRMWARE_FILES = "firmware-files"
    NVRAM = "nvram"
    TPM = "tpm"
    TPM_STATE = "tpm-state"
    MEMORY = "memory"
    HUGEPAGES = "hugepages"
    LAUNCH_SECURITY = "launch-security"
    SMBIOS_OF_THE_HOST = "smbios-of-the-host"
    # devices of the host
    HOST_DEVICE_SAME = "host-device-same"
    HOST_DEVICE_SAME_DRIVER = "host-device-same-driver"
    HOST_DEVICE_OTHER = "host-device-other"
    HOST_DEVICE_NONE = "host-device-none"
    HOST_DEVICE_UNKNOWN = "host-device-unknown"
    USB_DEVICE = "usb-device"
    SHARED_MEMORY = "shared-memory"
    # storage
    DISK_OF_THE_HOST = "disk-of-the-host"
    DISK_FORMAT = "disk-format"
    DISK_MISSING = "disk-missing"
    DISK_UNSHARED = "disk-unshared"
    DISK_CACHE = "disk-cache"
    DISK_ENCRYPTED = "disk-encrypted"
    DISK_BUS = "disk-bus"
    BACKING_CHAIN = "backing-chain"
    DATA_FILE = "data-file"
    IMAGE_IN_USE = "image-in-use"
    IMAGE_UNKNOWN = "image-unknown"
    MEDIA = "media"
    SPACE = "space"
    SHARED_FOLDER = "shared-folder"
    HOST_FILE = "host-file"
    # network
    BRIDGE = "bridge"
    NETWORK = "network"
    INTERFACE = "interface"
    NETWORK_UNKNOWN = "network-unknown"
    NIC_MODEL = "nic-model"
    # screen and sound
    VIDEO = "video"
    GRAPHICS = "graphics"
    ACCELERATION = "acceleration"
    SOUND = "sound"
    NOT_MIGRATABLE = "not-migratable"
    # state
    SNAPSHOTS = "snapshots"
    MANAGED_SAVE = "managed-save"
    PLUGGED_IN = "plugged-in"
    NOT_OURS = "not-ours"
    NOT_PLANNED = "not-planned"
    QEMU_ARGUMENTS = "qemu-arguments"
    SECURITY_LABEL = "security-label"
    # the guest
    GUEST_MINIMUM = "guest-minimum"
    CONTENTS_UNKNOWN = "contents-unknown"
    NOT_BOOTABLE = "not-bootable"
    BOOT_DRIVER = "boot-driver"
    BOOT_FIRMWARE = "boot-firmware"
    GPU_DRIVER = "gpu-driver"
    TIED_TO_HARDWARE = "tied-to-hardware"
    HIBERNATED = "hibernated"
    DIRTY = "dirty"


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was found: how much it matters, which it is, what it is about, why, and what to do.

    ``device`` is the kind of device it is about, where it is about one.
    """

    severity: Severity
    code: Code
    what: str
    why: str
    fix: str | None = None
    device: Kind | None = None


class Becomes(msgspec.Struct, frozen=True, kw_only=True):
    """One device: what it is today, what it becomes there, and whether that is another thing to the guest.

    ``today`` is None where there is no VM yet, ``there`` where nothing is possible.
    """

    kind: Kind
    today: str | None
    there: str | None
    changes: bool


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one target. ``plan`` is what a start there would use; None where there is none."""

    target: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    devices: tuple[Becomes, ...]
    plan: Plan | None

    @property
    def unknown(self) -> tuple[Finding, ...]:
        """What nobody could tell."""
        return tuple(f for f in self.findings if f.severity is Severity.UNKNOWN)


class Checks(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer: one subject, and what becomes of it on each target."""

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["migrate-check"] = "migrate-check"
    subject: str
    subject_kind: Literal["image", "vm", "domain", "bundle"]
    checks: tuple[Check, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One target of many, on a line of its own: verdict, codes by severity, and what each device becomes there.

    A target that could not be read has no verdict, and the ``problem``; the rest is left out.
    """

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["migrate-check-line"] = "migrate-check-line"
    target: str
    verdict: Verdict | None
    findings: dict[Severity, tuple[Code, ...]] | UnsetType = UNSET
    devices: dict[Kind, str | None] | UnsetType = UNSET
    problem: str | UnsetType = UNSET


def verdict(findings: tuple[Finding, ...], best: Verdict = Verdict.LIVE) -> Verdict:
    """The worst that any finding leaves; ``best`` is what the subject can do at most."""
    order = list(Verdict)
    left = [best, *(LEAVES[f.severity] for f in findings if f.severity in LEAVES)]
    return max(left, key=order.index)


def encode(checks: Checks) -> bytes:
    """The document as indented JSON with a final newline; the same answer gives the same bytes."""
    return as_json(checks)
