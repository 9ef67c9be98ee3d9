"""Every finding is given where it is true, and only there; and what a check makes of all of them."""

from __future__ import annotations

import msgspec
import pytest
from definitions import (
    GPU,
    IMAGE,
    SCREEN,
    SOUND,
    image,
    inside,
    pc,
    subject,
    target,
    with_capabilities,
    xml,
)
from findings import CARD, CASES, CDROM, HERE, SEES, THERE, UEFI, Case, arguments, disk, hostdev

from clienthv import portability
from clienthv.model.host import Cpu
from clienthv.model.plan import Kind
from clienthv.model.portability import LEAVES, Code, Finding, Severity, Verdict
from clienthv.portability import Subject, Target

C, S = Code, Severity


def name_of(case: Case) -> str:
    return f"{case.code}-{case.severity}-{case.words[0]}".replace(" ", "_")


def said(finding: Finding) -> str:
    return f"{finding.what}: {finding.why} {finding.fix or ''}"


def fits(case: Case, finding: Finding) -> bool:
    return (finding.code, finding.severity) == (case.code, case.severity) and all(
        w in said(finding) for w in case.words
    )


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_finding_is_given_where_it_is_true_and_spares_its_neighbour(case: Case) -> None:
    found = portability.check(case.guilty, case.there).findings
    assert [f for f in found if fits(case, f)], [(f.severity.value, f.code.value, said(f)) for f in found]
    spared = portability.check(case.innocent or case.guilty, case.elsewhere or case.there).findings
    of_code = [f for f in spared if (f.code, f.severity) == (case.code, case.severity)]
    assert not [f for f in of_code if all(w in said(f) for w in case.words)], of_code


def test_every_code_has_a_case() -> None:
    assert {case.code for case in CASES} == set(Code)


def grave(subject: Subject, there: Target = THERE) -> set[str]:
    return {f.code for f in portability.check(subject, there).findings if f.severity in LEAVES}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_verdict_is_the_worst_that_a_finding_leaves_and_each_finding_is_given_once(case: Case) -> None:
    check = portability.check(case.guilty, case.there)
    best = Verdict.COLD if case.guilty.kind == "image" else Verdict.LIVE
    order = list(Verdict)
    assert check.verdict is max(
        [best, *(LEAVES[f.severity] for f in check.findings if f.severity in LEAVES)], key=order.index
    )
    assert len(set(check.findings)) == len(check.findings)
    assert [list(Severity).index(f.severity) for f in check.findings] == sorted(
        list(Severity).index(f.severity) for f in check.findings
    )
    assert check == portability.check(case.guilty, case.there)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_what_stands_in_the_way_says_what_to_do(case: Case) -> None:
    found = portability.check(case.guilty, case.there).findings
    assert [f for f in found if f.severity in LEAVES and f.code in NEED_A_FIX and not f.fix] == []
    assert [f for f in found if "\n" in said(f)] == [], "one line each"


NEED_A_FIX = set(Code) - {C.ARCHITECTURE, C.NOT_RUNNING_KIND, C.TPM, C.CPU_NOT_MIGRATABLE, C.DEVICE_BECOMES}


def test_a_plain_guest_moves_while_it_runs_where_its_disk_is_seen() -> None:
    check = portability.check(subject(xml(), HERE), SEES)
    assert (check.verdict, grave(subject(xml(), HERE), SEES)) == (Verdict.LIVE, set())
    assert not [d for d in check.devices if d.changes]


def test_a_device_that_is_handed_over_past_libvirt_is_judged_like_others() -> None:
    past = subject(xml(root=arguments("-device", "vfio-pci,host=01:00.0,x-vga=on", "-cpu", "host")), HERE)
    gone = portability.check(past, target(pc(pci=(SCREEN,))))
    assert (gone.verdict, C.HOST_DEVICE_OTHER in {f.code for f in gone.findings}) == (Verdict.ADAPT, True)
    gpu = next(d for d in gone.devices if d.kind == "gpu")
    assert (gpu.today, gpu.changes) == ("passthrough: NVIDIA RTX 3060 (0000:01:00.0)", True)
    told = next(f for f in gone.findings if f.code is C.QEMU_ARGUMENTS and "another QEMU" in f.why)
    assert told.what == "-cpu host", "the -device of the card goes with it"


def test_devices_of_the_host_are_one_finding_against_a_move_and_one_for_each_card() -> None:
    found = portability.check(CARD, target(pc(pci=(SCREEN,)))).findings
    assert [f.code for f in found if f.severity is S.STOPS_LIVE] == [C.NOT_MIGRATABLE, C.DISK_UNSHARED][:1]
    assert len([f for f in found if f.code is C.HOST_DEVICE_OTHER]) == 1


def test_absurd_sizes_and_thousands_of_devices_are_judged_like_others() -> None:
    absurd = subject(xml(memory="<memory unit='PiB'>9999999999999</memory>", vcpus="9999999999999"))
    assert C.MEMORY in grave(absurd)
    places = (f"{n >> 5:04x}:{n >> 5 & 255:02x}:{n & 31:02x}.0" for n in range(2000))
    many = portability.check(subject(xml("".join(map(hostdev, places)))), THERE)
    assert len([f for f in many.findings if f.code is C.HOST_DEVICE_UNKNOWN]) == 2000


def test_a_vm_of_clienthv_finds_its_card_at_another_address_by_itself() -> None:
    moved = target(pc(pci=(SCREEN, msgspec.structs.replace(GPU, address="0000:02:00.0"))))
    assert [
        f.severity for f in portability.check(CARD._replace(ours=True), moved).findings if f.code is C.HOST_DEVICE_SAME
    ] == [S.INFO]


def test_a_missing_firmware_is_said_once() -> None:
    check = portability.check(UEFI, target(with_capabilities(firmware=())))
    assert [f.code for f in check.findings if f.severity is S.BLOCKS] == [C.FIRMWARE]
    assert check.plan is None
    assert {d.there for d in check.devices} == {None}


def test_an_arm_pc_is_one_finding_and_not_one_for_each_part_of_the_processor() -> None:
    found = portability.check(
        subject(xml(root='<cpu mode="host-passthrough"/>')), target(pc(cpu=Cpu(architecture="aarch64")))
    )
    assert [f.code for f in found.findings if f.device == "cpu"] == [C.ARCHITECTURE]
    assert found.verdict is Verdict.ADAPT


@pytest.mark.parametrize("odd", [{"arch": "aarch64"}, {"arch": "s390x"}, {"type": "xen"}, {"type": "lxc"}], ids=str)
def test_of_what_is_not_planned_nothing_is_said_as_though_it_were(odd: dict[str, str]) -> None:
    arm = target(pc(cpu=Cpu(architecture="aarch64")))
    for there in (THERE, arm):
        check = portability.check(subject(xml(hostdev(), machine="virt", **odd)), there)
        assert (check.verdict, check.plan, check.devices) == (Verdict.BLOCKED, None, ())
        assert "an x86_64 guest" not in {f.what for f in check.findings}
        assert {f.code for f in check.findings} >= {C.HOST_DEVICE_UNKNOWN}, "what it needs of the host is still said"
        assert not {f.code for f in check.findings} & {C.MACHINE_TYPE, C.EMULATOR, C.NOT_OURS, C.CPU_TYPE}


def test_devices_beyond_the_first_are_counted_today_and_there() -> None:
    cards = hostdev() + hostdev("0000:01:00.1") + hostdev("0000:05:00.0", "<rom file='/a.rom'/>")
    two = xml(cards + '<interface type="user"/>' * 3, video='<video><model type="none"/></video>')
    shown = {d.kind: d for d in portability.check(subject(two), THERE).devices}
    assert str(shown[Kind.GPU].today).endswith(" and 1 more"), "its sound is not a card of its own"
    assert not str(shown[Kind.GPU].there).endswith("more"), "planned anew it is one"
    assert (shown[Kind.NIC].today, shown[Kind.NIC].changes) == ("emulated: rtl8139 and 2 more", False)
    assert shown[Kind.NIC].there == shown[Kind.NIC].today
    assert "more" not in str(shown[Kind.DISK].today)


def test_a_guest_whose_graphics_card_stays_behind_gets_a_screen_that_can_be_seen() -> None:
    card = hostdev() + hostdev("0000:01:00.1")
    blind = subject(xml(card, video='<video><model type="none"/></video>', graphics=""), pc("here"))
    other = portability.check(blind, target(pc(pci=(SCREEN,))))
    shown = {d.kind: d for d in other.devices}
    assert shown[Kind.GPU].there == "paravirtual: virtio"
    assert (shown[Kind.DISPLAY].today, str(shown[Kind.DISPLAY].there).split(":")[0]) == ("none", "paravirtual")
    assert ["stays behind" in f.why for f in other.findings if f.device is Kind.DISPLAY] == [True]
    same = {d.kind: d for d in portability.check(blind, target(pc())).devices}
    assert same[Kind.DISPLAY].there == "none", "its card goes on showing it"
    headless = subject(xml(video="", graphics=""))
    assert {d.there for d in portability.check(headless, SEES).devices if d.kind is Kind.DISPLAY} == {"none"}


def test_a_screen_whose_model_is_left_to_libvirt_is_no_obstacle() -> None:
    check = portability.check(subject(xml(video="<video/>")), SEES)
    assert check.verdict is Verdict.LIVE
    assert check.plan is not None


def test_a_guest_of_32_bits_is_judged_as_any_other() -> None:
    assert portability.check(subject(xml(arch="i686")), SEES).verdict is Verdict.LIVE


def test_without_a_look_inside_the_verdict_says_what_is_unknown() -> None:
    check = portability.check(image(inside(problem="libguestfs is not installed")), THERE)
    assert (check.verdict, [f.code for f in check.unknown]) == (Verdict.COLD, [C.CONTENTS_UNKNOWN])
    assert "libguestfs-tools" in (check.unknown[0].fix or "")


def test_another_disk_of_the_same_model_says_nothing_of_the_one_that_is_named() -> None:
    disks = tuple(
        msgspec.structs.replace(GPU, address=f"0000:0{n}:00.0", class_code="010802", iommu_group=n) for n in (4, 5, 6)
    )
    whose = pc("here", pci=(SCREEN, *disks), roles_read=())
    moved = portability.check(subject(xml(hostdev("0000:05:00.0"), disk=""), whose), target(whose))
    said_of_it = [f for f in moved.findings if f.code is C.DEVICE_BECOMES and f.device is Kind.DISK]
    assert [f.severity for f in said_of_it] == [S.UNKNOWN]
    assert moved.verdict is Verdict.COLD


def test_what_belongs_to_a_graphics_card_is_no_device_of_its_own() -> None:
    usb = msgspec.structs.replace(GPU, address="0000:01:00.2", class_code="0c0330")
    psp = msgspec.structs.replace(GPU, address="0000:01:00.3", class_code="108000")
    both = subject(xml(hostdev("0000:01:00.2") + hostdev()), pc("here", pci=(SCREEN, GPU, SOUND, usb)))
    shown = {d.kind: d.today for d in portability.check(both, THERE).devices}
    assert str(shown[Kind.GPU]).startswith("passthrough")
    assert shown[Kind.USB] == "emulated: qemu-xhci"
    of_an_apu = subject(xml(hostdev("0000:01:00.2") + hostdev()), pc("here", pci=(SCREEN, GPU, SOUND, usb, psp)))
    assert str({d.kind: d.today for d in portability.check(of_an_apu, THERE).devices}[Kind.USB]).startswith(
        "passthrough"
    )
    heard = subject(xml(hostdev("0000:01:00.1") + hostdev(), video=""), HERE)
    assert {d.kind: d.today for d in portability.check(heard, THERE).devices}[Kind.AUDIO] == "none"
    asked = heard.ask(HERE).profile
    assert asked.device(Kind.AUDIO).select == (), "nothing selects it for sound"


def test_a_passed_disk_stays_behind_even_where_the_same_model_is() -> None:
    nvme = msgspec.structs.replace(GPU, address="0000:05:00.0", class_code="010802", device="SSD")
    here, there = pc("here", pci=(SCREEN, nvme)), pc("there", pci=(SCREEN, nvme))
    own = subject(xml(hostdev("0000:05:00.0")), here)
    assert C.DISK_OF_THE_HOST in grave(own, target(there))
    assert C.DISK_OF_THE_HOST not in grave(own, target(here))


def test_names_are_safe_to_paste_into_a_shell() -> None:
    odd = subject(xml(CDROM.format(""), name="my desk; rm x"))
    fix = next(f.fix for f in portability.check(odd, THERE).findings if f.code is C.MEDIA)
    assert fix is not None
    assert "change-media 'my desk; rm x' sda" in fix


def test_a_disk_of_the_host_is_named_in_the_table_though_another_comes_first() -> None:
    both = xml(disk=disk(f'file="{IMAGE}"') + disk('dev="/dev/sdb"', kind="block"))
    row = next(d for d in portability.check(subject(both), THERE).devices if d.kind == "disk")
    today = "paravirtual: virtio, /dev/sdb and 1 more"
    assert (row.today, row.there, row.changes) == (today, "paravirtual: virtio", True)
