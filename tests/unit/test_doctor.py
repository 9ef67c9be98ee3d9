"""What holds a PC back is told with what a change unlocks, and what is told comes true when the change is made."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from clienthv import api, doctor, hostfiles, planner
from clienthv.doctor import devices, software
from clienthv.doctor.remedy import Met
from clienthv.model import advice as advice_model
from clienthv.model.advice import Ability, Advice, After, Diagnosis, Unlocks
from clienthv.model.host import Cpu, Host, Iommu, Kvm, Machine, Memory, PciFunction, Role, RoleName, Stack, decode
from clienthv.model.installation import Account, BootLoader, Distribution, Installation
from clienthv.model.particulars import Particulars
from clienthv.model.plan import Kind, Reason, Rejected, Strategy
from clienthv.report import doctor as report

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HOSTS = REPOSITORY / "tests" / "hosts"
DEBIAN = Distribution(id="debian", version="13")
GRUB = BootLoader(kind="grub", files=("/etc/default/grub",), regenerate="update-grub", recognised=True, parameters=())
USER = Account(root=False, groups=(), there=("kvm", "libvirt"), kvm_for_group_only=True)


def recorded(name: str) -> Host:
    return decode((HOSTS / f"{name}.json").read_bytes(), name)


def set_up(host: Host, **changes: object) -> Host:
    made = {"distribution": DEBIAN, "boot_loader": GRUB, "account": USER, **changes}
    return replace(host, installation=Installation(**made))  # type: ignore[arg-type]


def advised(host: Host, *profiles: str) -> dict[str, Advice]:
    return {a.code: a for a in api.doctor(host, profiles or ("performance",)).advice}


def test_turning_the_iommu_on_unlocks_the_card_and_says_that_groups_are_known_later() -> None:
    found = advised(set_up(recorded("lab-iommu-off")))["iommu-parameter-off"]
    assert found.fixable
    assert found.after is After.REBOOT
    assert Unlocks(profile="performance", kind=Kind.GPU, strategy=Strategy.PASSTHROUGH, device="0000:00:11.0") in (
        found.unlocks
    )
    assert Unlocks(profile="performance", kind=Kind.NIC, strategy=Strategy.VF, device="0000:04:00.0") in found.unlocks
    assert "only known after that" in found.detail
    assert "sudo update-grub" in found.steps
    assert any(e.file == "/proc/cmdline" and e.value == "intel_iommu=off" for e in found.evidence)


def test_what_takes_two_changes_names_the_other_of_each() -> None:
    host = recorded("lab-iommu-off")
    roomy = replace(host, memory=Memory(total_mib=65536, available_mib=60000), cpu=replace(host.cpu, threads=16))
    assert roomy.stack is not None
    assert roomy.stack.capabilities is not None
    found = advised(roomy, "windows-gaming")
    gpu = Unlocks(profile="windows-gaming", kind=Kind.GPU, strategy=Strategy.PASSTHROUGH, device="0000:00:11.0")
    assert replace(gpu, also=("uefi-firmware",)) in found["iommu-parameter-off"].unlocks
    assert replace(gpu, also=("iommu-parameter-off",)) in found["uefi-firmware"].unlocks


def test_a_vm_that_the_pc_is_too_small_for_is_unlocked_by_nothing_alone() -> None:
    found = advised(recorded("lab-iommu-off"), "windows-gaming")
    assert "more-room" in found
    assert all(u.also for a in found.values() for u in a.unlocks)


@pytest.mark.parametrize("path", sorted(HOSTS.glob("lab-*.json")), ids=lambda p: p.stem)
def test_what_unlocks_most_stands_first_and_of_equals_what_needs_no_restart(path: Path) -> None:
    order = [(-len(a.unlocks), list(After).index(a.after)) for a in api.doctor(recorded(path.stem)).advice]
    assert order == sorted(order)


def test_the_full_lab_pc_lacks_software_alone_and_its_account_groups() -> None:
    found = api.doctor(recorded("lab-full"))
    software = {"uefi-firmware", "qemu-spice", "more-room", "passt", "libvirt-network"}
    assert {a.code for a in found.advice} == software | {"kvm-group", "libvirt-group"}
    able = {(a.code, a.able) for a in found.abilities}
    assert {("kvm", True), ("iommu", True), ("vfio", True), ("uefi", False), ("spice", False)} <= able


@pytest.mark.parametrize(
    ("variant", "code"),
    [
        ("no-iommu", "iommu-below"),
        ("iommu-off", "iommu-parameter-off"),
        ("no-intremap", "remapping-firmware"),
        ("no-svm", "nested-virtualization"),
    ],
)
def test_each_variant_of_the_lab_pc_is_told_what_it_lacks(variant: str, code: str) -> None:
    lacks = advised(recorded(f"lab-{variant}"))
    networks = {"passt", "libvirt-network"}  # asked for once the card gives no virtual function
    assert set(lacks) - set(advised(recorded("lab-full"))) - networks == {code}
    assert lacks[code].unlocks


def test_no_profile_is_promised_what_the_planner_does_not_give() -> None:
    """What one change is said to unlock, a plan for the PC with that change takes: here the real one, recorded."""
    off, on = recorded("lab-iommu-off"), recorded("lab-full")
    for unlocks in advised(off)["iommu-parameter-off"].unlocks:
        decision = planner.plan(on, api.load_profile(unlocks.profile)).of(unlocks.kind)
        assert decision.strategy is unlocks.strategy


def on_metal(**changes: object) -> Host:
    base = Host(
        cpu=Cpu(
            vendor="GenuineIntel", virtualization="vmx", nested_paging=True, hypervisor=False, flags=("vmx", "ept")
        ),
        kvm=Kvm(usable=True, device_present=True, device_openable=True, vm_creatable=True),
        iommu=Iommu(enabled=True, kind="vt-d", acpi_table="DMAR", interrupt_remapping=True, groups=1, parameters=()),
    )
    return set_up(replace(base, **changes))  # type: ignore[arg-type]


INTEL_OFF = Iommu(enabled=False, acpi_table="DMAR", groups=0, parameters=())


@pytest.mark.parametrize(
    ("loader", "step"),
    [
        (GRUB, "sudoedit /etc/default/grub: add intel_iommu=on"),
        (BootLoader(kind="grub-bls", recognised=True), 'grubby --update-kernel=ALL --args="intel_iommu=on"'),
        (
            BootLoader(kind="systemd-boot", files=("/efi/loader/entries/a.conf",), recognised=True),
            "each entry in /efi/loader/entries",
        ),
        (BootLoader(kind="kernelstub"), 'kernelstub --add-options "intel_iommu=on"'),
        (None, "where this PC keeps its kernel's parameters"),
    ],
)
def test_the_parameter_is_told_for_the_boot_loader_that_is_there(loader: BootLoader | None, step: str) -> None:
    found = advised(set_up(on_metal(iommu=INTEL_OFF), boot_loader=loader))["iommu-parameter"]
    assert any(step in told for told in found.steps)
    assert found.fixable is (loader is not None and loader.recognised)


def test_what_is_set_for_the_next_start_needs_a_restart_alone() -> None:
    waiting = replace(GRUB, parameters=("intel_iommu=on",))
    found = advised(set_up(on_metal(iommu=INTEL_OFF), boot_loader=waiting))["iommu-parameter"]
    assert found.steps == ("restart the PC",)
    assert not found.fixable


def test_a_parameter_that_changes_nothing_is_not_told_again() -> None:
    told = advised(on_metal(iommu=replace(INTEL_OFF, parameters=("intel_iommu=on",))))
    assert "iommu-parameter" not in told
    assert "the kernel was told to use the IOMMU and does not" in told["iommu-firmware"].detail


def test_amd_is_never_told_of_amd_iommu_on() -> None:
    amd = Cpu(vendor="AuthenticAMD", virtualization="svm", hypervisor=False)
    absent = on_metal(cpu=amd, iommu=Iommu(enabled=False, acpi_table="none", groups=0, parameters=()))
    assert "NBIO" in advised(absent)["iommu-firmware"].title
    off = on_metal(cpu=amd, iommu=Iommu(enabled=False, acpi_table="IVRS", groups=0, parameters=("amd_iommu=off",)))
    found = advised(off)["iommu-parameter-off"]
    assert any("remove amd_iommu=off" in step for step in found.steps)
    assert "amd_iommu=on" not in str((found, advised(absent)))


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        (Distribution(id="debian"), "sudo apt-get install ovmf"),
        (Distribution(id="pop", id_like=("ubuntu", "debian")), "sudo apt-get install ovmf"),
        (Distribution(id="fedora"), "sudo dnf install edk2-ovmf"),
        (Distribution(id="endeavouros", id_like=("arch",)), "sudo pacman -S edk2-ovmf"),
    ],
)
def test_packages_have_the_distributions_own_names(distribution: Distribution, command: str) -> None:
    found = advised(set_up(recorded("lab-full"), distribution=distribution))["uefi-firmware"]
    assert (found.steps, found.fixable) == ((command,), True)


def test_on_a_distribution_that_is_not_known_nothing_is_installed() -> None:
    found = advised(set_up(recorded("lab-full"), distribution=Distribution(id="nixos")))["uefi-firmware"]
    assert not found.fixable
    assert len(found.steps) == 3


DENIED = Kvm(usable=False, device_present=True, device_openable=False, evidence=("/dev/kvm: cannot be opened",))
MISSING = Kvm(usable=False, device_present=False, evidence=("/dev/kvm: is not there",))


def test_kvm_is_reached_by_the_group_or_by_the_module_or_by_firmware() -> None:
    assert advised(on_metal(kvm=DENIED))["kvm-group"].fixable
    member = set_up(on_metal(kvm=DENIED), account=replace(USER, groups=("kvm",)))
    assert advised(member)["log-in-again"].after is After.LOGIN
    found = advised(on_metal(kvm=MISSING))["kvm-module"]
    assert "sudo modprobe kvm_intel" in found.steps
    assert "Intel Virtualization Technology" in found.detail
    none = Cpu(vendor="AuthenticAMD", virtualization="none", hypervisor=False, flags=())
    assert "SVM Mode" in advised(on_metal(kvm=MISSING, cpu=none))["virtualization-firmware"].title


def test_under_sudo_the_account_that_asked_is_looked_at() -> None:
    by_sudo = advised(on_metal())["kvm-group"]
    assert "without sudo" in by_sudo.detail
    assert [(e.file, e.value) for e in by_sudo.evidence] == [("/etc/group", "kvm: not a member")]
    assert "kvm-group" not in advised(set_up(on_metal(), account=replace(USER, kvm_for_group_only=False)))
    assert "kvm-group" not in advised(set_up(on_metal(), account=replace(USER, root=True)))
    asked = advised(set_up(recorded("lab-full")))["libvirt-group"]
    assert "without sudo" in asked.detail
    assert "libvirt-group" not in advised(set_up(recorded("lab-full"), account=replace(USER, groups=("libvirt",))))


def gpu(address: str, **changes: object) -> PciFunction:
    base = {"class_code": "030000", "vendor_id": "10de", "device_id": "1234", "driver": "nouveau", "boot_vga": False}
    return PciFunction(address=address, bridge_path=(), **{**base, **changes})  # type: ignore[arg-type]


def with_gpus(*gpus: PciFunction) -> Host:
    roles = tuple(
        Role(role=RoleName.BOOT_DISPLAY, address=g.address, evidence=(f"/sys/bus/pci/devices/{g.address}/boot_vga: 1",))
        for g in gpus
        if g.boot_vga
    )
    return on_metal(pci=gpus, roles=roles, roles_read=tuple(RoleName))


def test_the_screen_is_moved_to_the_processors_graphics() -> None:
    card = gpu("0000:01:00.0", boot_vga=True, iommu_group=1)
    own = gpu("0000:00:02.0", vendor_id="8086", driver="i915", iommu_group=0)
    found = advised(with_gpus(own, card))["primary-display"]
    assert "IGD" in found.steps[1]
    assert [u.device for u in found.unlocks if u.kind is Kind.GPU] == ["0000:01:00.0"]
    assert "0000:00:02.0" in found.title


def test_nobody_is_told_to_plug_a_laptops_or_a_vms_screen() -> None:
    card = gpu("0000:01:00.0", boot_vga=True, iommu_group=1)
    own = gpu("0000:00:02.0", vendor_id="8086", driver="i915", iommu_group=0)
    laptop = replace(with_gpus(own, card), machine=Machine(chassis="laptop"))
    steps = " ".join(advised(laptop)["primary-display"].steps)
    assert "Hybrid" in steps
    assert "plug" not in steps
    assert "primary-display" not in advised(replace(laptop, machine=Machine(chassis="virtual")))


def test_the_only_gpu_needs_another_beside_it() -> None:
    found = advised(with_gpus(gpu("0000:01:00.0", boot_vga=True, iommu_group=1)))
    assert [u.strategy for u in found["only-gpu"].unlocks] == [Strategy.PASSTHROUGH]
    assert "primary-display" not in found


def test_a_shared_group_asks_for_another_slot_and_warns_of_the_override() -> None:
    card = gpu("0000:01:00.0", iommu_group=1)
    own = gpu("0000:00:02.0", vendor_id="8086", driver="i915", boot_vga=True, iommu_group=0)
    disk = PciFunction(address="0000:02:00.0", class_code="010601", driver="ahci", iommu_group=1, bridge_path=())
    found = advised(with_gpus(own, card, disk))["another-slot"]
    assert "pcie_acs_override" in found.detail
    assert not found.fixable
    assert [u.device for u in found.unlocks] == ["0000:01:00.0"]


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ((gpu("0000:00:02.0", vendor_id="8086", boot_vga=True),), True),
        ((gpu("0000:02:00.0", boot_vga=True),), False),
        ((gpu("0000:00:02.0", vendor_id="8086"), gpu("0000:02:00.0", boot_vga=True)), False),
        ((), False),
    ],
    ids=["another", "a twin with the screen", "both", "the only one"],
)
def test_no_ids_are_held_from_the_start_that_the_hosts_screen_has_too(
    others: tuple[PciFunction, ...], told: bool
) -> None:
    busy = gpu("0000:01:00.0", iommu_group=1, particulars=Particulars(holders=("Xorg",)))
    refused = Rejected(strategy=Strategy.PASSTHROUGH, device=busy.address, reason=Reason.IN_USE, detail="")
    found = {r.advice.code: r.advice for r in devices.remedies(with_gpus(busy, *others), Met((refused,), {}))}
    assert any("vfio-pci.ids=10de:1234" in step for step in found["end-programs"].steps) is told


def test_a_networks_name_is_no_command() -> None:
    name = "default; rm -rf ~"
    refused = Rejected(
        strategy=Strategy.PARAVIRTUAL, device=f"network:{name}", reason=Reason.NETWORK_INACTIVE, detail=""
    )
    found = {r.advice.code: r.advice for r in software.remedies(on_metal(), Met((refused,), {}))}
    assert [shlex.split(step) for step in found["libvirt-network"].steps] == [
        ["virsh", "net-start", name],
        ["virsh", "net-autostart", name],
    ]


def test_risky_ways_are_named_and_never_made() -> None:
    for path in sorted(HOSTS.glob("*.json")):
        for one in api.doctor(recorded(path.stem), ("performance",)).advice:
            told = " ".join((*one.steps, one.title))
            assert "allow_unsafe_interrupts" not in told
            assert not re.search(r"(add|with|set) pcie_acs_override", told)
            assert not (one.fixable and "acs" in one.code)


@pytest.mark.parametrize("path", sorted(HOSTS.glob("*.json")), ids=lambda p: p.stem)
def test_every_recorded_pc_gets_a_diagnosis_that_keeps_its_word(path: Path) -> None:
    host = recorded(path.stem)
    found = api.doctor(host, ("performance", "windows-11"))
    codes = [a.code for a in found.advice]
    assert len(codes) == len(set(codes))
    assert set(codes) <= set(doctor.CODES)
    for one in found.advice:
        assert one.steps
        assert all(set(u.also) < set(codes) for u in one.unlocks)
    assert msgspec.json.decode(advice_model.encode(found), type=Diagnosis) == found
    assert all("None" not in line for line in report.lines(found))


def test_advice_that_is_fixable_has_a_fix(tmp_path: Path) -> None:
    """Nothing is promised that hostfiles does not know: on an empty tree it has a problem, but not that one."""
    bad = replace(recorded("lab-full").stack or Stack(), privileged=False, uri="qemu:///session")
    hosts = [
        set_up(recorded("lab-iommu-off")), set_up(recorded("lab-full")), on_metal(kvm=DENIED), on_metal(kvm=MISSING),
        on_metal(iommu=INTEL_OFF), set_up(replace(recorded("lab-full"), stack=bad)),
        on_metal(iommu=replace(on_metal().iommu, interrupt_remapping=False, parameters=("intremap=off",))),
    ]  # fmt: skip
    fixable = {a.code for host in hosts for a in advised(host).values() if a.fixable}
    assert {"iommu-parameter", "iommu-parameter-off", "remapping-parameter-off", "kvm-module", "uefi-firmware",
            "libvirt-group", "kvm-group"} <= fixable  # fmt: skip
    for code in fixable:
        assert hostfiles.of(code, hosts[0], str(tmp_path)).problem != "clienthv does not make this change"


def test_a_document_from_a_stranger_cannot_make_people_run_things() -> None:
    document = msgspec.json.decode((HOSTS / "lab-full.json").read_bytes())
    loader = {"kind": "grub", "regenerate": "rm -rf /"}
    for bad in (loader, {"kind": "grub", "files": ["/etc/x; reboot"]}, {"kind": "grub", "parameters": ["a b; c"]}):
        document["installation"] = {"distribution": {}, "boot_loader": bad}
        with pytest.raises(Exception, match="boot_loader"):
            decode(msgspec.json.encode(document), "stranger")


PAGE = (REPOSITORY / "docs" / "reference" / "doctor.md").read_text()


def section(heading: str) -> str:
    match = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match
    return match[1]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def codes_made(function: str, folder: Path) -> set[str]:
    """The codes written out where advice or abilities are made, so that none is made that is not listed."""
    found = set[str]()
    for path in sorted(folder.glob("*.py")):
        for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id == function:
                codes = [k.value for k in call.keywords if k.arg == "code"] or (
                    [call.args[0]] if function == "_Lack" else []
                )
                found |= {c.value for c in codes if isinstance(c, ast.Constant)}
    return found


def test_every_advice_and_ability_is_described_and_there_is_none_for_anything_else() -> None:
    folder = Path(doctor.__file__).parent
    assert codes_made("Advice", folder) | codes_made("_Lack", folder) == set(doctor.CODES)
    table = section("Advice")
    assert first_cells(table) == list(doctor.CODES)
    fixes = dict(re.findall(r"^\| `([^`]+)` \|.*\| (yes|no) \|$", table, re.MULTILINE))
    able = {
        a.code for path in HOSTS.glob("lab-*.json") for a in api.doctor(recorded(path.stem), ("balanced",)).abilities
    }
    assert first_cells(section("Abilities")) == list(dict.fromkeys(first_cells(section("Abilities"))))
    assert set(first_cells(section("Abilities"))) == able
    assert set(fixes) == set(doctor.CODES)


def test_every_field_of_the_document_is_described() -> None:
    described = set(re.findall(r"`([a-z]+)`", section("The document")))
    for model in (Diagnosis, Advice, Ability, Unlocks, advice_model.Evidence):
        assert {f.encode_name for f in msgspec.structs.fields(model)} <= described
