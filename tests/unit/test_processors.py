"""What a VM's processors are: levels of x86-64, Hyper-V enlightenments, threads of the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clienthv import planner, render
from clienthv.errors import ProfileError
from clienthv.hypervisor import capabilities
from clienthv.inspect.cpu import read_cpu
from clienthv.inspect.files import Tree
from clienthv.model import x86_64
from clienthv.model.fleet import of
from clienthv.model.guest import built_in
from clienthv.model.host import Core, Cpu, DomainCapabilities, Host, Iommu, Kvm, PciFunction, RoleName, Stack
from clienthv.model.plan import Extras, Kind, Pins, Plan, Reason, Strategy
from clienthv.model.profile import ProfileText, parse
from clienthv.model.vm import Options, Storage, Vm
from clienthv.report import fleet
from clienthv.strategies import Kept

ALL = (
    "relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "reset", "frequencies", "tlbflush", "ipi",
    "evmcs",
)  # fmt: skip
V2 = x86_64.flags_of("x86-64-v2")


def pc(**more: Any) -> Host:
    known: dict[str, Any] = {"cpu": Cpu(virtualization="svm", threads=8), "kvm": Kvm(usable=True)}
    return Host(**{**known, **more})


def offering(hyperv: tuple[str, ...]) -> Stack:
    return Stack(
        capabilities=DomainCapabilities(
            domain_type="kvm", cpu_modes=("custom", "host-model"), video_models=("virtio", "vga"), graphics=("vnc",),
            tpm_backends=("emulator",), firmware=("efi",), hyperv=hyperv,
        )
    )  # fmt: skip


def planned(host: Host, *lines: str, os: str = "unknown", kept: Kept | None = None) -> Plan:
    text = "\n".join(["schema = 1", "[guest]", f'os = "{os}"', 'drivers = ["virtio", "nvidia"]', *lines])
    return planner.plan(host, parse((ProfileText("test", "a test", text),)), kept=kept, guest=built_in(os))


def extras(plan: Plan) -> Extras:
    return plan.extras or Extras()


def xml(plan: Plan, host: Host, storage: Storage | None = None) -> str:
    options = Options(disk="/srv/a.qcow2", disk_format="qcow2")
    return render.render(Vm(name="desk", plan=plan, profile=(), options=options, storage=storage or Storage()), host)


def level(name: str) -> tuple[str, ...]:
    return ("[size]", "vcpus = 2", "[devices.cpu]", f'model = "{name}"')


# Levels


def test_a_level_is_rendered_as_its_features_and_not_as_this_processor() -> None:
    host = pc(cpu=Cpu(virtualization="svm", threads=8, flags=V2))
    plan = planned(host, *level("x86-64-v2"))
    assert plan.of(Kind.CPU).model == "x86-64-v2"
    text = xml(plan, host)
    assert '<cpu mode="custom" match="exact">' in text
    assert '<feature policy="require" name="sse4.2"/>' in text
    assert "avx" not in text


def test_a_processor_below_the_level_gets_the_next_lower_one_and_the_flags_are_named() -> None:
    cpu = planned(pc(cpu=Cpu(virtualization="svm", threads=8, flags=V2)), *level("x86-64-v3")).of(Kind.CPU)
    assert (cpu.strategy, cpu.model) == (Strategy.HARDWARE_VIRTUALIZATION, "x86-64-v2")
    (refused,) = cpu.rejected
    assert refused.reason is Reason.CPU_LEVEL_MISSING
    assert "avx2" in refused.detail


def test_an_unknown_processor_is_of_no_level() -> None:
    cpu = planned(pc(), *level("x86-64-v1")).of(Kind.CPU)
    assert cpu.strategy is Strategy.BINARY_TRANSLATION
    assert {r.reason for r in cpu.rejected} == {Reason.CPU_LEVEL_UNKNOWN}


def test_levels_build_on_each_other() -> None:
    for lower, higher in zip(x86_64.LEVELS, x86_64.LEVELS[1:], strict=False):
        assert set(x86_64.flags_of(lower)) < set(x86_64.flags_of(higher))
        assert x86_64.level_of(x86_64.flags_of(lower)) == lower
    assert x86_64.level_of(("fpu",)) is None


def test_a_fleet_shares_the_lowest_level_and_is_told_who_limits_it() -> None:
    hosts = [pc(cpu=Cpu(flags=x86_64.flags_of(level))) for level in ("x86-64-v3", "x86-64-v2", "x86-64-v4")]
    lines = list(fleet.lines(of(hosts, ("a", "b", "c"))))
    assert 'model = "x86-64-v2"' in lines[3]
    assert len(lines) == 5
    assert lines[4].startswith("  b is no x86-64-v3: it has not")
    assert "unknown: no CPU flags in d" in "\n".join(fleet.lines(of([*hosts, pc()], ("a", "b", "c", "d"))))


# Hyper-V


def test_windows_is_offered_what_its_version_uses_and_libvirt_has() -> None:
    eleven = planned(pc(stack=offering(ALL)), os="win11")
    assert extras(eleven).hyperv == (
        "relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "frequencies", "tlbflush", "ipi",
    )  # fmt: skip
    text = xml(eleven, pc(stack=offering(ALL)))
    assert '<spinlocks state="on" retries="8191"/>' in text
    assert '<timer name="hypervclock" present="yes"/>' in text
    assert extras(planned(pc(stack=offering(ALL)), os="win7")).hyperv == ("relaxed", "vapic", "spinlocks")


@pytest.mark.parametrize("os", ["win98", "winxp", "debian12", "unknown"])
def test_others_are_offered_none(os: str) -> None:
    plan = planned(pc(stack=offering(ALL)), os=os)
    assert extras(plan).hyperv == ()
    assert "hyperv" not in xml(plan, pc()).partition("</metadata>")[2]


def test_an_enlightenment_without_what_it_needs_is_not_offered() -> None:
    without = tuple(feature for feature in ALL if feature != "vpindex")
    assert extras(planned(pc(stack=offering(without)), os="win11")).hyperv == (
        "relaxed", "vapic", "spinlocks", "runtime", "frequencies",
    )  # fmt: skip


def test_what_libvirt_does_not_tell_is_not_taken_for_everything() -> None:
    assert extras(planned(pc(), os="win11")).hyperv == ("relaxed", "vapic", "spinlocks")
    assert extras(planned(pc(stack=offering(())), os="win11")).hyperv == ()


def test_binary_translation_has_no_enlightenments() -> None:
    assert extras(planned(pc(kvm=Kvm(usable=False)), os="win11")).hyperv == ()


def test_a_vm_that_is_there_keeps_what_its_windows_knows() -> None:
    kept = Kept(extras=Extras(hyperv=("relaxed", "gone")))
    assert extras(planned(pc(stack=offering(ALL)), os="win11", kept=kept)).hyperv == ("relaxed",)
    assert extras(planned(pc(stack=offering(ALL)), os="win11", kept=Kept(extras=Extras()))).hyperv == ()


@pytest.mark.parametrize(
    ("features", "found"),
    [
        ("<hyperv supported='yes'><enum name='features'><value>relaxed</value></enum></hyperv>", ("relaxed",)),
        ("<hyperv supported='no'/>", ()),
    ],
)
def test_what_libvirt_offers_is_read(features: str, found: tuple[str, ...]) -> None:
    document = f"<domainCapabilities><domain>kvm</domain><features>{features}</features></domainCapabilities>"
    assert capabilities.parse(document).hyperv == found


@pytest.mark.parametrize(("paging", "warned"), [(False, True), (True, False), (None, False)])
def test_a_processor_without_nested_paging_is_told(paging: bool | None, warned: bool) -> None:
    plan = planned(pc(cpu=Cpu(virtualization="svm", threads=8, nested_paging=paging)))
    assert ("no-nested-paging" in {w.code for w in plan.warnings}) is warned


# Pinning

CORES = tuple(Core(threads=(n, n + 8), numa_node=n // 4) for n in range(8))
PINNED = ("[devices.cpu]", "pin = true")


def test_virtual_processors_get_whole_cores_and_the_first_one_stays_with_the_host() -> None:
    host = pc(cpu=Cpu(virtualization="svm", threads=16, topology=CORES))
    plan = planned(host, "[size]", "vcpus = 4", *PINNED)
    assert extras(plan).pins == Pins(vcpus=(1, 9, 2, 10), emulator=(0, 8), threads=2)
    text = xml(plan, host)
    assert '<vcpupin vcpu="3" cpuset="10"/>' in text
    assert '<emulatorpin cpuset="0,8"/>' in text
    assert '<topology sockets="1" cores="2" threads="2"/>' in text


@pytest.mark.parametrize(("flags", "threads"), [(("topoext",), 2), ((), 1), (None, 1)])
def test_amds_processors_show_threads_by_topoext(flags: tuple[str, ...] | None, threads: int) -> None:
    host = pc(cpu=Cpu(vendor="AuthenticAMD", virtualization="svm", threads=16, topology=CORES, flags=flags))
    plan = planned(host, "[size]", "vcpus = 4", *PINNED)
    assert plan.extras
    assert plan.extras.pins
    assert plan.extras.pins.threads == threads
    assert ('name="topoext"' in xml(plan, host)) is (threads == 2)


def test_the_node_of_the_passed_gpu_comes_first() -> None:
    gpu = PciFunction(
        address="0000:81:00.0", class_code="030000", vendor_id="10de", driver="nouveau", boot_vga=False, iommu_group=1,
        numa_node=1,
    )  # fmt: skip
    host = pc(
        cpu=Cpu(virtualization="svm", threads=16, topology=CORES),
        iommu=Iommu(enabled=True, interrupt_remapping=True, groups=9, acs_override=False),
        roles_read=tuple(RoleName),
        pci=(gpu,),
    )
    gpu_first = ("[devices.gpu]", 'prefer = ["passthrough", "emulated"]')
    plan = planned(host, "[size]", "vcpus = 2", *PINNED, *gpu_first)
    assert extras(plan).pins == Pins(vcpus=(4, 12), emulator=(0, 8), threads=2)


def test_an_odd_number_of_processors_has_one_thread_a_core() -> None:
    plan = planned(pc(cpu=Cpu(virtualization="svm", threads=16, topology=CORES)), "[size]", "vcpus = 3", *PINNED)
    assert extras(plan).pins == Pins(vcpus=(1, 9, 2), emulator=(0, 8), threads=1)


@pytest.mark.parametrize(
    ("cpu", "words"),
    [
        (Cpu(threads=4), "does not say"),
        (Cpu(threads=4, topology=()), "does not say"),
        (Cpu(threads=4, topology=None), "does not say"),
        (Cpu(threads=4, topology=CORES[:2]), "there are 2"),
    ],
)
def test_processors_that_cannot_be_pinned_are_not_and_that_is_said(cpu: Cpu, words: str) -> None:
    plan = planned(pc(cpu=cpu), "[size]", "vcpus = 4", *PINNED)
    assert extras(plan).pins is None
    (warned,) = [w for w in plan.warnings if w.code == "pinning-left-out"]
    assert words in warned.detail


def test_translated_processors_are_not_pinned() -> None:
    host = pc(cpu=Cpu(vendor="AuthenticAMD", threads=16, topology=CORES, flags=("topoext",)), kvm=Kvm(usable=False))
    plan = planned(host, "[size]", "vcpus = 4", *PINNED)
    assert extras(plan).pins is None
    assert "vcpupin" not in xml(plan, host)


def test_cores_are_read_with_their_threads_and_nodes(tmp_path: Path) -> None:
    for number, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        here = tmp_path / f"sys/devices/system/cpu/cpu{number}"
        (here / "topology").mkdir(parents=True)
        (here / "topology/thread_siblings_list").write_text(f"{siblings}\n")
        (here / f"node{number % 2}").mkdir()
    (tmp_path / "sys/devices/system/cpu/cpu4").mkdir()
    cores = read_cpu(Tree(str(tmp_path))).topology
    assert cores == (Core(threads=(0, 2), numa_node=0), Core(threads=(1, 3), numa_node=1))
    assert read_cpu(Tree(str(tmp_path / "nothing"))).topology is None


# The disk


def test_a_paravirtual_disk_has_a_thread_of_its_own_and_a_block_device_goes_past_the_page_cache() -> None:
    text = xml(planned(pc()), pc(), Storage(direct=True))
    assert "<iothreads>1</iothreads>" in text
    assert 'type="qcow2" discard="unmap" iothread="1" detect_zeroes="unmap"' in text
    block = 'cache="none" io="native" discard="unmap" iothread="1" detect_zeroes="unmap"'
    assert block in xml(planned(pc()), pc(), Storage(direct=True, block_device=True))
    plain = xml(planned(pc(), "[devices.disk]", 'prefer = ["emulated"]'), pc())
    assert "iothread" not in plain.partition("</metadata>")[2]
    assert "cache=" not in plain


def test_a_disk_on_virtio_scsi_has_its_controllers_thread() -> None:
    host = pc()
    plan = planned(host, "[devices.disk]", 'bus = "virtio-scsi"')
    assert plan.of(Kind.DISK).model == "virtio-scsi"
    text = xml(plan, host)
    assert '<controller type="scsi" model="virtio-scsi">' in text
    assert '<target dev="sda" bus="scsi"/>' in text


@pytest.mark.parametrize("line", ['[devices.gpu]\nbus = "virtio-scsi"', "[devices.gpu]\npin = true"])
def test_keys_of_processors_and_disks_stand_in_their_tables(line: str) -> None:
    with pytest.raises(ProfileError):
        planned(pc(), line)
