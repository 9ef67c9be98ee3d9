"""CPUs of guests on hosts of which more or less is known; libvirt's table as it is installed, and one of our own."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from clienthv.hypervisor import capabilities, cpu_comparison, cpu_map
from clienthv.model import cpu_flags
from clienthv.model.cpu import CpuMap, CpuModel, Feature, GuestCpu, HostModel
from clienthv.model.host import Cpu, DomainCapabilities, Host, Kvm, Stack, decode
from clienthv.model.x86_64 import LEVELS, features_of
from clienthv.strategies.cpu_baseline import baseline
from clienthv.strategies.guest_cpu import certain, compare, needs

HOSTS = Path(__file__).parent.parent / "hosts"
installed = pytest.mark.skipif(cpu_map.read() is None, reason="libvirt's table of CPU models is not installed")

FEATURES = frozenset({"sse2", "sse4.1", "avx", "avx2", "svm", "vmx", "aes", "x2apic", "vmx-ept", "avx512f", "umip"})
VMX = frozenset({"vmx-ept"})
MAP = CpuMap(
    models={
        "plain": CpuModel(features=frozenset({"sse2"})),
        "blue": CpuModel(vendor="Intel", features=frozenset({"sse2", "sse4.1", "vmx-ept"}), added=VMX),
        "blue-2": CpuModel(vendor="Intel", features=frozenset({"sse2", "sse4.1", "avx"})),
        "red": CpuModel(vendor="AMD", features=frozenset({"sse2", "sse4.1", "svm"})),
        "red-v2": CpuModel(vendor="AMD", features=frozenset({"sse2", "sse4.1", "avx", "svm"}), by_host_model=False),
    },
    features=FEATURES,
    msr_features=VMX,
    vendors={"GenuineIntel": "Intel", "AuthenticAMD": "AMD"},
)  # fmt: skip


def offering(model: str, *required: str, disabled: tuple[str, ...] = (), **more: object) -> Host:
    """A host whose libvirt says what host-model is."""
    told = HostModel(model=model, vendor=MAP.models[model].vendor, required=required, disabled=disabled)
    offered = replace(DomainCapabilities(domain_type="kvm", host_model=told), **more)  # type: ignore[arg-type]
    return Host(name="target", stack=Stack(capabilities=offered))


def showing(*flags: str, vendor: str = "GenuineIntel", nested: bool | None = None) -> Host:
    """A host of which only the flags of /proc/cpuinfo are known."""
    return Host(name="target", cpu=Cpu(vendor=vendor, model="a processor", flags=flags), kvm=Kvm(nested=nested))


def recorded(name: str) -> Host:
    return decode((HOSTS / f"{name}.json").read_bytes(), name)


# --- the table


def write_map(folder: Path, **files: str) -> Path:
    includes = "".join(f"<include filename='x86_{name}.xml'/>" for name in files)
    (folder / "index.xml").write_text(f"<cpus><arch name='x86'>{includes}</arch></cpus>")
    for name, text in files.items():
        (folder / f"x86_{name}.xml").write_text(f"<cpus>{text}</cpus>")
    return folder


FEATURES_XML = "".join(f"<feature name='{n}'><cpuid eax_in='1'/></feature>" for n in ("a", "b", "c"))
FEATURES_XML += "<feature name='m'><msr index='1'/></feature>"


def test_a_model_has_what_its_parent_has_less_what_was_removed(tmp_path: Path) -> None:
    table = cpu_map.read(write_map(
        tmp_path, features=FEATURES_XML, vendors="<vendor name='Intel' string='GenuineIntel'/>",
        one="<model name='one'><check partial='compat'/><vendor name='Intel'/><feature name='a'/>"
            "<feature name='b' removed='yes'/><feature name='m' added='yes'/></model>",
        two="<model name='two'><model name='one'/><feature name='c'/></model>",
        orphan="<model name='orphan'><model name='nobody'/></model>",
    ))  # fmt: skip
    assert table is not None
    assert table.models["one"] == CpuModel(vendor="Intel", features=frozenset("am"), added=frozenset("m"))
    assert table.models["two"] == replace(table.models["one"], features=frozenset("acm"), by_host_model=False)
    assert "orphan" not in table.models, "what it inherits is not known"
    assert table.features == frozenset("abcm")
    assert table.msr_features == {"m"}
    assert table.vendors == {"GenuineIntel": "Intel"}


def test_models_of_a_table_that_says_nothing_of_checks_are_all_compared_with_host_model(tmp_path: Path) -> None:
    table = cpu_map.read(write_map(tmp_path, features=FEATURES_XML, one="<model name='one'/>"))
    assert table is not None
    assert table.models["one"].by_host_model


def test_a_table_that_is_not_there_or_broken_is_none(tmp_path: Path) -> None:
    assert cpu_map.read(tmp_path / "nowhere") is None
    (tmp_path / "index.xml").write_text("<cpus><arch")
    assert cpu_map.read(tmp_path) is None


def test_a_table_leads_to_no_file_outside_its_folder_and_to_none_that_is_huge(tmp_path: Path) -> None:
    folder = tmp_path / "map"
    folder.mkdir()
    (tmp_path / "x86_out.xml").write_text("<cpus><model name='outside'/></cpus>")
    (folder / "x86_huge.xml").write_text(f"<cpus><model name='huge'/></cpus><!--{'x' * (1 << 20)}-->")
    write_map(folder, features=FEATURES_XML, one="<model name='one'/>")
    index = (folder / "index.xml").read_text()
    more = "<include filename='../x86_out.xml'/><include filename='x86_huge.xml'/></arch>"
    (folder / "index.xml").write_text(index.replace("</arch>", more))
    table = cpu_map.read(folder)
    assert table is not None
    assert set(table.models) == {"one"}


@installed
def test_every_name_of_ours_is_in_libvirts_table() -> None:
    table = cpu_map.read()
    assert table is not None
    assert {*cpu_flags.SHOWN, *cpu_flags.EMULATED, *cpu_flags.NESTED} - table.features == set()
    assert table.msr_features.isdisjoint(cpu_flags.SHOWN), "what registers tell no flag shows"


def test_every_recorded_flag_that_libvirt_spells_in_another_way_is_known_by_that_name() -> None:
    """A flag spelled as libvirt spells it, but for - and _ and ., is in our table, or deliberately left out."""
    table = cpu_map.read()
    if table is None:
        pytest.skip("libvirt's table of CPU models is not installed")
    by_cpuid = table.features - table.msr_features
    spelled = {name.translate(str.maketrans("-.", "__")): name for name in by_cpuid if "-" in name or "." in name}
    flags = {flag for file in HOSTS.glob("*.json") for flag in decode(file.read_bytes(), file.name).cpu.flags or ()}
    left_out = {"svm-lock", "overflow-recov", "intel-pt", "arch-lbr"}  # no guest gets them, or by registers as well
    found = {spelled[flag] for flag in flags if flag in spelled}
    assert len(found) > 10
    assert found - cpu_flags.SHOWN.keys() - cpu_flags.EMULATED - left_out == set()


# --- domain capabilities

CAPABILITIES = """<domainCapabilities><path>/usr/bin/qemu</path><domain>kvm</domain><cpu>
<mode name='host-model' supported='yes'><model fallback='forbid'>blue</model><vendor>Intel</vendor>
<feature policy='require' name='aes'/><feature policy='disable' name='sse4.1'/></mode>
<mode name='custom' supported='yes'><model usable='yes' vendor='unknown'>plain</model>
<model usable='no' vendor='AMD'>red</model><blockers model='red'><feature name='svm'/></blockers>
<model usable='unknown' vendor='AMD'>red-v2</model></mode></cpu><devices>
<filesystem supported='yes'><enum name='driverType'><value>path</value><value>virtiofs</value></enum></filesystem>
<redirdev supported='yes'><enum name='bus'><value>usb</value></enum></redirdev>
<channel supported='yes'><enum name='type'><value>unix</value></enum></channel></devices></domainCapabilities>"""


def test_domain_capabilities_tell_of_cpus_and_devices() -> None:
    told = capabilities.parse(CAPABILITIES)
    assert told.host_model == HostModel(model="blue", vendor="Intel", required=("aes",), disabled=("sse4.1",))
    assert (told.usable_models, told.unusable_models, told.blocking_features) == (("plain",), ("red",), ("svm",))
    assert told.filesystem_drivers == ("path", "virtiofs")
    assert (told.redirdev_buses, told.channel_types) == (("usb",), ("unix",))


def test_what_an_older_libvirt_does_not_tell_is_unset() -> None:
    told = capabilities.parse("<domainCapabilities/>")
    names = ("host_model", "usable_models", "unusable_models", "blocking_features", "filesystem_drivers",
             "redirdev_buses", "channel_types")  # fmt: skip
    assert {getattr(told, name) for name in names} == {msgspec.UNSET}
    without = capabilities.parse(CAPABILITIES.replace("<blockers model='red'><feature name='svm'/></blockers>", ""))
    assert without.unusable_models == ("red",)
    assert without.blocking_features is msgspec.UNSET, "it does not say what is lacking"
    assert b"host_model" not in msgspec.json.encode(told)


# --- comparisons by host-model


def test_a_host_that_has_all_fits() -> None:
    found = compare(GuestCpu(model="blue"), offering("blue-2"), MAP)
    assert found.fits is True, found
    assert found.missing == found.unknown == ()


def test_what_host_model_lacks_is_missing_and_policies_change_what_is_asked_for() -> None:
    host = offering("blue", disabled=("sse4.1",))
    assert compare(GuestCpu(model="blue-2"), host, MAP).missing == ("avx", "sse4.1")
    for policy in ("disable", "optional", "force"):
        eased = GuestCpu(model="blue-2", features=(Feature("avx", policy), Feature("sse4.1", policy)))  # type: ignore[arg-type]
        assert compare(eased, host, MAP).fits is True, policy
    more = GuestCpu(model="plain", features=(Feature("aes", "require"), Feature("sse2", "forbid")))
    found = compare(more, host, MAP)
    assert (found.missing, found.unwanted, found.fits) == (("aes",), ("sse2",), False)
    assert compare(more, offering("blue", "aes", disabled=("sse2",)), MAP).missing == ("sse2",)


def test_a_strict_match_wants_no_feature_more() -> None:
    strict = GuestCpu(model="plain", match="strict")
    assert compare(strict, offering("blue-2"), MAP).unwanted == ("avx", "sse4.1")
    assert compare(strict, offering("plain"), MAP).fits is True


def test_features_that_libvirt_learned_of_later_are_not_asked_for_unless_they_are_named() -> None:
    host = offering("blue-2")
    assert compare(GuestCpu(model="blue"), host, MAP).fits is True
    named = GuestCpu(model="blue", features=(Feature("vmx-ept"),))
    assert compare(named, host, MAP).missing == ("vmx-ept",)


def test_what_an_older_libvirt_may_not_mean_by_its_host_model_is_unknown() -> None:
    named = GuestCpu(model="plain", features=(Feature("vmx-ept"),))
    assert compare(named, offering("blue"), MAP).unknown == ("vmx-ept",)
    assert compare(named, offering("blue", disabled=("vmx-ept",)), MAP).missing == ("vmx-ept",)
    told = {"usable_models": ("plain",), "unusable_models": (), "blocking_features": ()}
    assert compare(named, offering("blue", **told), MAP).fits is True, "this libvirt knows all that ours does"


def test_of_models_that_qemu_judges_capabilities_of_vmx_are_asked_for_with_vmx_alone() -> None:
    old = CpuModel(features=frozenset({"sse2", "vmx-ept"}), by_host_model=False)
    table = msgspec.structs.replace(MAP, models={**MAP.models, "old": old})
    assert compare(GuestCpu(model="old"), offering("plain"), table).fits is True
    assert compare(GuestCpu(model="old", features=(Feature("vmx"),)), offering("plain"), table).missing == (
        "vmx",
        "vmx-ept",
    )


def test_a_feature_that_no_table_here_has_is_unknown() -> None:
    found = compare(GuestCpu(model="plain", features=(Feature("brand-new"),)), offering("blue"), MAP)
    assert (found.missing, found.unknown, found.fits) == ((), ("brand-new",), None)


def test_qemu_has_the_last_word_on_versioned_models() -> None:
    cpu = GuestCpu(model="red-v2")
    told = {"usable_models": ("plain",), "unusable_models": ("red-v2",), "cpu_modes": ("custom",)}
    blocked = offering("blue-2", "svm", **told, blocking_features=("avx",))
    assert compare(cpu, blocked, MAP).missing == ("avx",), "although host-model has it"
    without = GuestCpu(model="red-v2", features=(Feature("avx", "disable"),))
    other = offering("blue-2", **told, blocking_features=("avx", "umip"))
    found = compare(without, other, MAP)
    assert (found.missing, found.unknown, found.fits) == ((), ("umip",), None), "QEMU's model may have more"
    usable = offering("plain", usable_models=("red-v2",), unusable_models=(), blocking_features=())
    assert compare(cpu, usable, MAP).fits is True
    assert compare(GuestCpu(model="red-v2", features=(Feature("aes"),)), usable, MAP).missing == ("aes",)


def test_a_model_or_mode_that_the_hypervisor_does_not_have_does_not_fit() -> None:
    host = offering("blue", usable_models=("plain",), unusable_models=("red",), cpu_modes=("custom", "host-model"))
    assert compare(GuestCpu(model="blue"), host, MAP).offered is False
    assert compare(GuestCpu(model="blue"), host, MAP).fits is False
    assert compare(GuestCpu(mode="host-passthrough"), host, MAP).fits is False
    assert compare(GuestCpu(mode="host-model"), host, MAP).fits is True
    assert compare(GuestCpu(model="plain"), host, MAP).offered is True


def test_a_model_that_is_in_no_table_is_not_known_unless_qemu_there_knows_it() -> None:
    cpu = GuestCpu(model="newest")
    found = compare(cpu, offering("blue"), MAP)
    assert (found.model_known, found.fits) == (False, None)
    assert "newest" in " ".join(found.evidence)
    assert compare(cpu, offering("blue"), None).fits is None
    usable = offering("blue", usable_models=("newest",), unusable_models=())
    assert compare(cpu, usable, None).missing == ()


def test_another_vendor_is_told_and_refused_only_where_the_domain_asks_for_one() -> None:
    amd = offering("red")
    found = compare(GuestCpu(model="blue", vendor="Intel"), amd, MAP)
    assert (found.vendor_differs, found.other_vendor, found.fits) == (True, True, False)
    host = showing("sse2", vendor="AuthenticAMD")
    found = compare(GuestCpu(model="blue", features=(Feature("sse4.1", "disable"),)), host, MAP)
    assert (found.vendor_differs, found.other_vendor, found.fits) == (False, True, True)
    assert compare(GuestCpu(model="plain", vendor="Intel"), host, MAP).fits is False
    assert compare(GuestCpu(model="plain", vendor="AMD"), host, MAP).fits is True
    assert compare(GuestCpu(model="plain", vendor="AMD"), showing("sse2", vendor="SomebodyElse"), MAP).fits is False


def test_the_processor_does_not_matter_to_a_guest_that_qemu_translates() -> None:
    found = compare(GuestCpu(model="plain"), showing("nothing"), MAP, domain_type="qemu")
    assert (found.missing, found.unknown) == ((), ("sse2",))
    host = offering("plain", domain_type="qemu")
    assert compare(GuestCpu(model="blue"), host, MAP, domain_type="qemu").missing == ("sse4.1",)
    assert compare(GuestCpu(model="blue"), host, MAP, domain_type="kvm").unknown == ("sse2", "sse4.1")


# --- comparisons by flags


def test_flags_are_read_by_the_kernels_names() -> None:
    host = showing("sse2", "sse4_1", "avx")
    assert compare(GuestCpu(model="blue-2"), host, MAP).fits is True
    assert compare(GuestCpu(model="blue-2"), showing("sse2", "sse4.1", "avx"), MAP).missing == ("sse4.1",)


def test_what_no_flag_shows_is_unknown_and_what_kvm_makes_is_there() -> None:
    named = tuple(Feature(name) for name in ("vmx-ept", "x2apic", "tsc-deadline", "umip"))
    found = compare(GuestCpu(model="plain", features=named), showing("sse2"), MAP)
    assert (found.missing, found.unknown) == ((), ("umip", "vmx-ept"))


@pytest.mark.parametrize(("nested", "expected"), [(True, True), (False, False), (None, None)])
def test_guests_of_guests_need_nested_virtualization(nested: bool | None, expected: bool | None) -> None:
    host = showing("sse2", "sse4_1", "svm", vendor="AuthenticAMD", nested=nested)
    assert compare(GuestCpu(model="red"), host, MAP).fits is expected
    assert compare(GuestCpu(model="red"), showing("sse2", "sse4_1", nested=nested), MAP).missing == ("svm",)


def test_of_flags_that_are_cut_one_that_is_not_there_is_unknown() -> None:
    host = recorded("fa-desk-9950x3d-rtx4080-x870e")
    assert host.cpu.flags is not None
    cpu = GuestCpu(model="plain", features=(Feature("avx512vnni"), Feature("avx2"), Feature("tbm")))
    found = compare(cpu, host, MAP)
    assert (found.missing, found.unknown) == (
        (),
        ("tbm",) if "avx512_vnni" in host.cpu.flags else ("avx512vnni", "tbm"),
    )
    assert "cut" in found.evidence[0]
    longer = replace(host, cpu=replace(host.cpu, flags=(*host.cpu.flags, "a_flag_that_makes_them_whole")))
    assert "tbm" in compare(cpu, longer, MAP).missing, "a whole line may be longer than what was kept"


@pytest.mark.parametrize("name", ["desk-7950x-raphael-igpu", "fa-srv-arm-thunderx2"])
def test_hosts_without_x86_flags_leave_everything_unknown(name: str) -> None:
    found = compare(GuestCpu(model="blue"), recorded(name), MAP)
    assert (found.missing, found.unknown) == ((), ("sse2", "sse4.1"))
    assert found.fits is (False if "arm" in name else None)


@installed
@pytest.mark.parametrize(
    ("host", "model", "fits"),
    [
        ("fa-nas-haswell-iommuoff", "IvyBridge", True),
        ("fa-nas-haswell-iommuoff", "Skylake-Server", False),
        ("gh-e5-2695v4-nvidia-accel", "Haswell-noTSX", True),
        ("gh-e5-2695v4-nvidia-accel", "EPYC", False),
        ("gh-desk-ryzen1600", "Opteron_G3", None),
        ("gh-desk-ryzen1600", "Haswell", False),
        ("fa-laptop-gl63-8300h-gtx1050-iommuoff", "Skylake-Client-noTSX-IBRS", True),
        ("fa-laptop-gl63-8300h-gtx1050-iommuoff", "Icelake-Server", False),
    ],
)
def test_recorded_pcs_and_libvirts_models(host: str, model: str, fits: bool | None) -> None:
    found = compare(GuestCpu(model=model), recorded(host), cpu_map.read())
    assert found.fits is fits, found


# --- a processor passed through


def test_a_processor_passed_through_is_the_same_by_vendor_model_and_flags() -> None:
    cpu, host = GuestCpu(mode="host-passthrough"), showing("sse2", "avx")
    assert compare(cpu, host, MAP, source=host).identical is True
    assert compare(cpu, host, MAP).identical is None
    assert compare(cpu, showing("sse2"), MAP, source=host).identical is False
    other = replace(host, cpu=replace(host.cpu, vendor="AuthenticAMD"))
    found = compare(cpu, other, MAP, source=host)
    assert (found.identical, found.other_vendor, found.fits) == (False, True, True)
    unread = replace(host, cpu=replace(host.cpu, flags=None))
    assert compare(cpu, unread, MAP, source=host).identical is None
    renamed = replace(unread, cpu=replace(unread.cpu, model="another"))
    assert compare(cpu, renamed, MAP, source=host).identical is False


# --- baselines


def test_the_baseline_of_one_vendors_pcs_is_its_best_model_with_what_else_they_share() -> None:
    two = offering("blue-2", "aes"), offering("blue", "aes", "umip")
    found = baseline(two, MAP)
    assert found.cpu is not None
    assert (found.cpu.model, found.cpu.features) == ("blue", (Feature("aes"),))
    assert found.features == ("aes", "sse2", "sse4.1")


def test_the_baseline_of_two_vendors_has_a_model_of_none() -> None:
    intel, amd = showing("sse2", "sse4_1", "avx"), showing("sse2", "sse4_1", vendor="AuthenticAMD")
    found = baseline([intel, amd], MAP)
    assert found.cpu is not None
    assert found.cpu.model == "plain"
    assert Feature("sse4.1") in found.cpu.features
    assert "avx" not in found.features
    assert baseline([intel, intel], MAP).cpu.model == "blue-2"  # type: ignore[union-attr]


def test_pcs_of_which_nothing_is_known_are_named_and_left_out() -> None:
    blank = Host(name="blank")
    found = baseline([showing("sse2"), blank], MAP)
    assert (found.hosts, found.left_out) == (("target",), ("blank",))
    assert baseline([blank], MAP).cpu is None
    arm = Host(name="pi", cpu=Cpu(architecture="aarch64"))
    assert any("pi is aarch64" in told for told in baseline([showing("sse2"), arm], MAP).evidence)
    assert not any("blank is" in told for told in baseline([showing("sse2"), blank], MAP).evidence)
    assert baseline([showing("sse2")], None).cpu is None, "no table, no model"


@installed
def test_the_baseline_of_recorded_pcs_tells_their_level() -> None:
    table = cpu_map.read()
    haswell, gl63 = recorded("fa-nas-haswell-iommuoff"), recorded("fa-laptop-gl63-8300h-gtx1050-iommuoff")
    found = baseline([haswell, gl63], table)
    assert found.cpu is not None
    assert found.level == "x86-64-v3"
    assert table is not None
    assert table.models[found.cpu.model or ""].vendor == "Intel"
    mixed = baseline([haswell, gl63, recorded("gh-desk-ryzen1600")], table)
    assert mixed.cpu is not None
    assert table.models[mixed.cpu.model or ""].vendor is None
    assert set(features_of("x86-64-v3")) <= set(mixed.features)


NAMES = sorted(FEATURES)
some = st.sets(st.sampled_from(NAMES)).map(lambda names: tuple(sorted(names)))
by_libvirt = st.builds(
    lambda model, required, disabled: offering(model, *required, disabled=disabled),
    st.sampled_from(sorted(MAP.models)), some, some,
)  # fmt: skip
shown = some.map(lambda names: [flag for name in names for flag in cpu_flags.SHOWN.get(name, ())])
by_flags = st.builds(
    lambda flags, vendor, nested: showing(*flags, vendor=vendor, nested=nested),
    shown, st.sampled_from(["GenuineIntel", "AuthenticAMD"]), st.sampled_from([True, False, None]),
)  # fmt: skip
blanks = st.just(Host(name="blank"))
any_host = st.one_of(by_libvirt, by_flags, blanks)


@given(by_libvirt)
def test_a_host_satisfies_its_own_host_model(host: Host) -> None:
    assert host.stack is not None
    assert host.stack.capabilities is not None
    told = host.stack.capabilities.host_model
    assert isinstance(told, HostModel)
    wanted = (Feature(name) for name in told.required if name not in told.disabled)
    cpu = GuestCpu(model=told.model, features=(*wanted, *(Feature(name, "disable") for name in told.disabled)))
    assert compare(cpu, host, MAP).fits is True


@given(st.lists(any_host, max_size=5))
def test_each_pc_satisfies_the_baseline_and_one_more_never_adds_to_it(hosts: list[Host]) -> None:
    found = baseline(hosts, MAP)
    for host in hosts:
        if found.cpu is not None and certain(host, MAP) is not None:
            assert compare(found.cpu, host, MAP).fits is True
    for left in range(len(hosts)):
        fewer = baseline(hosts[:left] + hosts[left + 1 :], MAP)
        if fewer.hosts:
            assert set(found.features) <= set(fewer.features)
            assert fewer.level is None or found.level is None or LEVELS.index(found.level) <= LEVELS.index(fewer.level)
    if found.cpu is not None:
        asked = needs(found.cpu, MAP)
        assert asked.all <= set(found.features)


# --- libvirt's format, and speed


def test_a_cpu_is_written_with_everything_escaped() -> None:
    cpu = GuestCpu(
        model="a<b>&'", match="exact", check="partial", fallback="forbid", features=(Feature('"x', "disable"),)
    )
    assert cpu_comparison.as_xml(cpu) == (
        '<cpu mode="custom" match="exact" check="partial"><model fallback="forbid">a&lt;b&gt;&amp;\'</model>'
        '<feature policy="disable" name="&quot;x"/></cpu>'
    )
    assert cpu_comparison.as_xml(GuestCpu(mode="host-passthrough", migratable=False)) == (
        '<cpu mode="host-passthrough" migratable="off"/>'
    )


@installed
def test_a_guest_is_compared_with_thousands_of_hosts_in_no_time() -> None:
    table, cpu = cpu_map.read(), GuestCpu(model="Skylake-Server", features=(Feature("vmx"),))
    hosts = [recorded("fa-srv-sys110p-x550vfio"), recorded("lab-full")] * 500
    compare(cpu, hosts[0], table)
    began = time.perf_counter()
    for host in hosts:
        compare(cpu, host, table)
    each = (time.perf_counter() - began) / len(hosts)
    assert each < 0.001, f"{each * 1e6:.0f} microseconds each; a quiet PC takes a tenth of a millisecond"
