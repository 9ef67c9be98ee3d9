"""The IOMMU: what firmware announces, what the kernel made of it, and how many groups there are."""

from __future__ import annotations

import re
from typing import Final, Literal

from clienthv.inspect.cmdline import CMDLINE, kernel_part, key_of
from clienthv.inspect.files import Tree
from clienthv.model.host import Iommu

UNITS: Final = "/sys/class/iommu"
GROUPS: Final = "/sys/kernel/iommu_groups"
TABLES: Final = "/sys/firmware/acpi/tables"
INTERRUPTS: Final = "/proc/interrupts"
TYPE1: Final = "/sys/module/vfio_iommu_type1"
UNSAFE: Final = "vfio_iommu_type1.allow_unsafe_interrupts"
PARAMETERS: Final = frozenset(
    {
        "intel_iommu", "amd_iommu", "amd_iommu_intr", "iommu", "iommu.passthrough", "iommu.strict", "intremap",
        "pcie_acs_override", UNSAFE,
    }
)  # fmt: skip
ECAP_IR: Final = 1 << 3  # Intel VT-d specification, Extended Capability Register, bit 3: Interrupt Remapping

_SWITCH: Final = {"1": True, "y": True, "on": True, "0": False, "n": False, "off": False}  # lib/kstrtox.c, kstrtobool

Kind = Literal["vt-d", "amd-vi", "other", "none"]
Table = Literal["DMAR", "IVRS", "other", "none"]
_TABLES: Final[dict[str, Table]] = {"DMAR": "DMAR", "IVRS": "IVRS", "IORT": "other", "VIOT": "other"}
_KIND_OF_TABLE: Final[dict[Table, Kind]] = {"DMAR": "vt-d", "IVRS": "amd-vi", "other": "other", "none": "none"}


def read_iommu(tree: Tree, cmdline: tuple[str, ...] | None) -> Iommu:
    """The IOMMU as found. It is told by its own units and tables: an AMD CPU can sit behind a DMAR table."""
    units = tree.names(UNITS)
    table = _table(tree)
    groups = _groups(tree)
    parameters = None if cmdline is None else tuple(p for p in kernel_part(cmdline) if key_of(p) in PARAMETERS)
    enabled = None if groups is None else groups > 0
    remapping, shown = _remapping(tree, units or (), parameters or (), enabled=enabled)
    unsafe, allowed = _unsafe_interrupts(tree, parameters or ())
    kind = _kind(units, table)
    return Iommu(
        kind=kind,
        acpi_table=table,
        enabled=enabled,
        parameters=parameters,
        interrupt_remapping=remapping,
        groups=groups,
        acs_override=None if parameters is None else any(key_of(p) == "pcie_acs_override" for p in parameters),
        unsafe_interrupts=unsafe,
        evidence=(
            *_evidence(units, table, groups),
            *_about_parameters(kind, parameters, enabled=enabled),
            *shown,
            *allowed,
        ),
    )


def _table(tree: Tree) -> Table | None:
    """ACPI's word for an IOMMU. Everyone may list the folder; only the tables' contents are root's."""
    names = tree.names(TABLES)
    if names is None:
        return None
    found: list[Table] = [_TABLES[re.sub(r"[0-9]+$", "", n)] for n in names if re.sub(r"[0-9]+$", "", n) in _TABLES]
    return found[0] if found else "none"


def _kind(units: tuple[str, ...] | None, table: Table | None) -> Kind | None:
    """By the units the kernel registered (dmarN, ivhdN), else by the table; "none" needs both to be read."""
    for name in units or ():
        return "vt-d" if name.startswith("dmar") else "amd-vi" if name.startswith("ivhd") else "other"
    return None if table is None else _KIND_OF_TABLE[table]


def _groups(tree: Tree) -> int | None:
    """How many groups (Documentation/ABI/testing/sysfs-kernel-iommu_groups).

    VFIO's no-IOMMU groups isolate nothing and do not count.
    The folder is there from boot on where the kernel knows IOMMUs at all: without it there are none.
    """
    names = tree.names(GROUPS)
    if names is None:
        return 0 if tree.exists("/sys/kernel") and tree.exists(GROUPS) is False else None
    numbers = [name for name in names if name.isdigit()]
    return sum(1 for number in numbers if tree.attribute(f"{GROUPS}/{number}/name") != "vfio-noiommu")


def _remapping(
    tree: Tree, units: tuple[str, ...], parameters: tuple[str, ...], *, enabled: bool | None
) -> tuple[bool | None, tuple[str, ...]]:
    """Whether interrupts are remapped, which has no file of its own.

    Remapped interrupt chips are named IR-... by the kernel (drivers/iommu/intel/irq_remapping.c and
    drivers/iommu/amd/iommu.c): seeing one proves it for both vendors.
    """
    interrupts = tree.text(INTERRUPTS)
    if remapped := re.search(r"\bIR-[A-Z][A-Z-]*[A-Z]", interrupts or ""):
        return True, (f"{INTERRUPTS}: has {remapped.group()}",)
    off = [p for p in parameters if key_of(p) == "intremap" and "off" in p.partition("=")[2].split(",")]
    if off:
        return False, (f"{CMDLINE}: {off[-1]}",)
    for unit in units:
        ecap = tree.hexadecimal(f"{UNITS}/{unit}/intel-iommu/ecap")
        if ecap is not None and not ecap & ECAP_IR:
            return False, (f"{UNITS}/{unit}/intel-iommu/ecap: {ecap:x} has no bit 3 (interrupt remapping)",)
    plain = re.search(r"\b(?:PCI-MSIX?|IO-APIC)\b", interrupts or "")
    if enabled and plain:
        return False, (f"{INTERRUPTS}: has {plain.group()} and no chip named IR-...",)
    return None, ()


def _unsafe_interrupts(tree: Tree, parameters: tuple[str, ...]) -> tuple[bool | None, tuple[str, ...]]:
    """Whether VFIO does without interrupt remapping (kernel, drivers/vfio/vfio_iommu_type1.c).

    A module that is not loaded takes its parameters from the command line then (modprobe(8)), and from files that
    nobody has read: without the parameter it is unknown.
    """
    if tree.exists(TYPE1) is not False:
        allowed = tree.switch(f"{TYPE1}/parameters/allow_unsafe_interrupts")
        return allowed, (f"{TYPE1}/parameters/allow_unsafe_interrupts: Y",) if allowed else ()
    given = [p.partition("=")[2].strip('"') if "=" in p else "1" for p in parameters if key_of(p) == UNSAFE]
    return _SWITCH.get(given[-1].lower()) if given else None, ()


def _evidence(units: tuple[str, ...] | None, table: Table | None, groups: int | None) -> list[str]:
    said = []
    if units is not None:
        said.append(f"{UNITS}: {', '.join(units) or 'empty'}")
    if table is not None:
        said.append(f"{TABLES}: {'neither DMAR nor IVRS' if table == 'none' else table}")
    if groups is not None:
        said.append(f"{GROUPS}: {groups} group{'' if groups == 1 else 's'}")
    return said


def _about_parameters(kind: Kind | None, parameters: tuple[str, ...] | None, *, enabled: bool | None) -> list[str]:
    """What decided, from Documentation/admin-guide/kernel-parameters.txt: Intel's default is a build option."""
    if parameters is None:
        return []
    said = [f"{CMDLINE}: {' '.join(parameters) or 'no IOMMU parameters'}"]
    if kind == "vt-d" and enabled is False and not any(key_of(p) == "intel_iommu" for p in parameters):
        said.append(f"{CMDLINE}: no intel_iommu=on, so the kernel's CONFIG_INTEL_IOMMU_DEFAULT_ON decided")
    if "amd_iommu=on" in parameters:
        said.append(f"{CMDLINE}: amd_iommu=on is not a value the kernel knows; AMD's IOMMU is on unless amd_iommu=off")
    return said


def read_reserved(tree: Tree, group: int | None) -> tuple[str, ...] | None:
    """The ranges of a group that firmware wants mapped one to one; None where nobody can tell.

    Source: Documentation/ABI/testing/sysfs-kernel-iommu_groups, reserved_regions: first and last address, and type.
    """
    lines = None if group is None else tree.lines(f"{GROUPS}/{group}/reserved_regions")
    if lines is None:
        return None
    found = (re.fullmatch(r"(0x[0-9a-f]{1,16}) (0x[0-9a-f]{1,16}) direct", line.strip()) for line in lines)
    return tuple(f"{match[1]}-{match[2]}" for match in found if match)
