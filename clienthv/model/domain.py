"""What a VM is by its libvirt definition, whoever wrote it: the facts on which its portability hangs."""

from __future__ import annotations

from functools import cached_property

import msgspec

from clienthv.model.cpu import GuestCpu
from clienthv.model.values import Count, PciAddress


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One disk as a domain names it (libvirt, formatdomain, "Hard drives, floppy disks, CDROMs").

    ``source`` is a path, a URL or a volume's name; None for an empty drive. ``optional`` is whether the VM starts
    without it (``startupPolicy``), ``data_file`` where a qcow2 image keeps its content, if the definition says so.
    ``transient`` is whether what the guest writes is thrown away, ``mirrored`` whether a block job copies it just now.
    ``servers`` are where a disk on the network is.
    """

    device: str = "disk"
    type: str = "file"
    source: str | None = None
    format: str | None = None
    bus: str | None = None
    target: str | None = None
    cache: str | None = None
    readonly: bool = False
    shareable: bool = False
    encrypted: bool = False
    optional: bool = False
    data_file: str | None = None
    backing: tuple[str, ...] = ()
    transient: bool = False
    mirrored: bool = False
    servers: tuple[str, ...] = ()


class NicFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One network card: its libvirt type, what it is plugged into, its model, and the filter of libvirt's on it."""

    type: str
    source: str | None = None
    model: str | None = None
    backend: str | None = None
    filter: str | None = None


class HostDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device of the host that is handed over.

    ``address`` is the PCI function's, ``ids`` a USB device's vendor and product, ``source`` what else names it.
    ``interface`` is whether it is given as a network card, which a virtual function is, ``transient`` whether libvirt
    pulls it out for a move (``teaming``). ``as_gpu`` is whether it is given as people give graphics cards, with a ROM
    file or ``x-vga``; ``past_libvirt`` whether by an argument for QEMU.
    """

    type: str
    address: str | None = None
    ids: str | None = None
    source: str | None = None
    interface: bool = False
    optional: bool = False
    transient: bool = False
    as_gpu: bool = False
    past_libvirt: bool = False


class FilesystemFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of the host that the guest shares: by virtiofs, or by 9p ("path").

    ``socket`` is that of a virtiofsd which libvirt does not start itself.
    """

    driver: str
    source: str | None = None
    socket: str | None = None


class VideoFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual graphics adapter."""

    model: str
    accel3d: bool = False


class GraphicsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One way the screen is shown; ``gl`` is whether it draws with the host's GPU, on ``render_node`` if named.

    ``listens`` are the addresses of the host that it is reached at.
    """

    type: str
    gl: bool = False
    render_node: str | None = None
    listens: tuple[str, ...] = ()


class TpmFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The TPM: its model, backend (emulator, passthrough, external) and version."""

    model: str | None = None
    backend: str | None = None
    version: str | None = None


class FirmwareFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How the guest boots. ``automatic`` is whether libvirt picks the files, which every PC has elsewhere.

    ``loader`` and ``template`` are files of the firmware that the definition names, ``nvram`` is the guest's own.
    """

    uefi: bool = False
    secure_boot: bool = False
    automatic: bool = True
    loader: str | None = None
    template: str | None = None
    nvram: str | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a VM has beyond its definition; None means that nobody could ask.

    ``plugged`` are devices of the running guest that its definition lacks.
    """

    running: bool | None = None
    snapshots: Count | None = None
    managed_save: bool | None = None
    plugged: tuple[str, ...] | None = None


class DomainFacts(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One domain. Memory is in MiB, ``os_id`` libosinfo's long id, ``highest_pin`` the highest processor it names.

    ``highest_node`` is the highest NUMA node it takes memory from, ``hyperv`` are the enlightenments that are on,
    ``paths`` further files of the host that it names (ROM files, event devices), ``arguments`` what it gives QEMU past
    libvirt, ``controllers`` models with their types ("usb qemu-xhci"), ``others`` further devices with their models
    ("iommu intel"). ``server_memory`` is the shared memory of which this guest is the one that keeps it
    (``role='master'``), ``steady_clock`` whether the TSC's frequency is fixed, ``page_sizes_kib`` are the sizes of huge
    pages that it names, ``security_models`` the security drivers, ``overrides`` what else it says past libvirt.
    """

    name: str = ""
    uuid: str | None = None
    type: str = "kvm"
    arch: str = "x86_64"
    machine: str | None = None
    emulator: str | None = None
    os_id: str | None = None
    vcpus: Count = 1
    memory_mib: Count = 0
    hugepages: bool = False
    page_sizes_kib: tuple[int, ...] = ()
    highest_pin: Count | None = None
    highest_node: Count | None = None
    cpu: GuestCpu | None = None
    firmware: FirmwareFacts = FirmwareFacts()
    disks: tuple[DiskFacts, ...] = ()
    nics: tuple[NicFacts, ...] = ()
    host_devices: tuple[HostDevice, ...] = ()
    filesystems: tuple[FilesystemFacts, ...] = ()
    video: tuple[VideoFacts, ...] = ()
    graphics: tuple[GraphicsFacts, ...] = ()
    sounds: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    controllers: tuple[str, ...] = ()
    redirections: Count = 0
    tpm: TpmFacts | None = None
    shared_memory: tuple[str, ...] = ()
    server_memory: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    steady_clock: bool = False
    hyperv: tuple[str, ...] = ()
    launch_security: str | None = None
    smbios_host: bool = False
    kernel: str | None = None
    paths: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    security_models: tuple[str, ...] = ()

    @property
    def writable(self) -> tuple[DiskFacts, ...]:
        """The disks that the guest writes to."""
        return tuple(d for d in self.disks if d.device in ("disk", "lun") and not d.readonly)

    @property
    def is_planned(self) -> bool:
        """Whether it is a VM of the kind that clienthv plans: an x86 one, of 64 bits or 32, by KVM or QEMU on Linux."""
        return self.type in ("kvm", "qemu") and self.arch in ("x86_64", "i686")

    @cached_property
    def by_slot(self) -> dict[str, tuple[HostDevice, ...]]:
        """The PCI functions that are handed over, by the slot that those of one card share."""
        found: dict[str, list[HostDevice]] = {}
        for device in self.host_devices:
            if device.address is not None:
                found.setdefault(PciAddress.parse(device.address).slot, []).append(device)
        return {slot: tuple(devices) for slot, devices in found.items()}
