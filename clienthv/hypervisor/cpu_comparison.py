"""libvirt's own comparison of a CPU with the host of a connection, and its baseline of several CPUs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from lxml import etree

from clienthv.hypervisor.binding import libvirt, translate, translated
from clienthv.hypervisor.connection import Connection
from clienthv.model.cpu import GuestCpu

# virConnectCompareHypervisorCPU's answers (libvirt, virCPUCompareResult).
_VERDICTS: Final[dict[int, Literal["incompatible", "identical", "superset"]]] = {
    0: "incompatible",
    1: "identical",
    2: "superset",
}
_INCOMPATIBLE: Final = 91  # virErrorNumber, VIR_ERR_CPU_INCOMPATIBLE
# libvirt, src/cpu/cpu_x86.c: the first from a comparison, the second when a guest has started without them.
_MISSING: Final = re.compile(r"(?:does not provide required|missing) features: (.*)", re.DOTALL)
_FORBIDDEN: Final = re.compile(r"provides (?:forbidden|extra) features: (.*)", re.DOTALL)
_FEATURE: Final = re.compile(r"[A-Za-z0-9_.-]+\Z")


class HypervisorComparison(msgspec.Struct, frozen=True, kw_only=True):
    """What libvirt says of a CPU on its host: the verdict, and why it is incompatible, in features and its own words.

    ``missing`` are those the host lacks, ``unwanted`` those it has and must not; both may be empty where libvirt gives
    another reason.
    """

    verdict: Literal["incompatible", "identical", "superset"]
    missing: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    said: str | None = None

    @property
    def fits(self) -> bool:
        """Whether a guest with the CPU would start there."""
        return self.verdict != "incompatible"


def as_xml(cpu: GuestCpu) -> str:
    """A CPU as libvirt's domain format has it, with everything escaped."""
    root = etree.Element("cpu", mode=cpu.mode)
    if cpu.mode == "custom":
        root.set("match", cpu.match)
    if cpu.check is not None:
        root.set("check", cpu.check)
    if cpu.migratable is not None and cpu.mode in ("host-passthrough", "maximum"):
        root.set("migratable", "on" if cpu.migratable else "off")
    if cpu.mode == "custom" and cpu.model is not None:
        model = etree.SubElement(root, "model")
        model.text = cpu.model
        if cpu.fallback is not None:
            model.set("fallback", cpu.fallback)
    if cpu.vendor is not None:
        etree.SubElement(root, "vendor").text = cpu.vendor
    for feature in cpu.features:
        etree.SubElement(root, "feature", policy=feature.policy, name=feature.name)
    return str(etree.tostring(root, encoding="unicode"))


def compare(
    connection: Connection,
    cpu_xml: str,
    domain_type: Literal["kvm", "qemu"],
    machine: str | None = None,
    emulator: str | None = None,
) -> HypervisorComparison:
    """A ``<cpu>`` element compared with what x86_64 guests of this type get on the connection's host.

    Raises ClienthvError where libvirt cannot compare it: a model or feature that it does not know, or no KVM.
    """
    virt, doing = libvirt(), f"compare a CPU with that of {connection.uri}"
    fail = virt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
    try:
        answer = connection.handle.compareHypervisorCPU(emulator, "x86_64", machine, domain_type, cpu_xml, fail)
    except virt.libvirtError as e:
        if e.get_error_code() != _INCOMPATIBLE:
            raise translate(e, doing) from e
        said = str(e.get_error_message() or e)
        return HypervisorComparison(
            verdict="incompatible", missing=_listed(_MISSING, said), unwanted=_listed(_FORBIDDEN, said), said=said
        )
    return HypervisorComparison(verdict=_VERDICTS[answer])


def _listed(pattern: re.Pattern[str], said: str) -> tuple[str, ...]:
    match = pattern.search(said)
    names = re.split(r",\s*|\s+", match[1].strip()) if match else []
    return tuple(sorted({name for name in names if _FEATURE.match(name)}))


def baseline(
    connection: Connection,
    cpus_xml: Sequence[str],
    domain_type: Literal["kvm", "qemu"],
    machine: str | None = None,
    emulator: str | None = None,
) -> str:
    """The ``<cpu>`` element that libvirt makes of several, which runs wherever all of them do.

    The elements are host-model CPUs of several hosts' domain capabilities, or CPUs of domains. Features that cannot
    be moved while the guest runs are left out. Raises ClienthvError where libvirt finds none.
    """
    virt = libvirt()
    flags = virt.VIR_CONNECT_BASELINE_CPU_MIGRATABLE
    with translated(f"find a CPU for {len(cpus_xml)} PCs by {connection.uri}"):
        handle = connection.handle
        return str(handle.baselineHypervisorCPU(emulator, "x86_64", machine, domain_type, list(cpus_xml), flags))
