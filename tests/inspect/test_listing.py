"""What people paste in forums, read as a PC."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clienthv import planner
from clienthv.errors import DocumentError
from clienthv.inspect.listing import read_listing
from clienthv.model.host import Host, PciFunction, decode, encode, is_document
from clienthv.model.plan import Kind, Strategy
from clienthv.model.profile import ProfileText, parse

BRIDGE = "PCI bridge [0604]: Maker Root Port [8086:1901] (rev 07)"
GPU = "VGA compatible controller [0300]: NVIDIA Corporation GP104 [GeForce GTX 1080] [10de:1b80] (rev a1)"
SOUND = "Audio device [0403]: NVIDIA Corporation GP104 Audio [10de:10f0] (rev a1)"


def read(text: str | bytes) -> Host:
    return read_listing(text.encode() if isinstance(text, str) else text, "paste.txt")


def seen(host: Host) -> dict[str, tuple[int | None, str | None, str | None, str | None]]:
    """Group, class, ids and driver of each function."""
    return {
        f.address: (f.iommu_group, f.class_code, f"{f.vendor_id}:{f.device_id}" if f.vendor_id else None, f.driver)
        for f in host.pci
    }


def only(text: str) -> PciFunction:
    (function,) = read(text).pci
    return function


GROUPED = {
    "0000:00:01.0": (1, "0604", "8086:1901", None),
    "0000:01:00.0": (1, "0300", "10de:1b80", None),
    "0000:01:00.1": (2, "0403", "10de:10f0", None),
}
FORMS = {
    "one line each": f"IOMMU Group 1 00:01.0 {BRIDGE}\nIOMMU Group 1 01:00.0 {GPU}\nIOMMU Group 2 01:00.1 {SOUND}",
    "with domain and colon": f"IOMMU Group   1: 0000:00:01.0 {BRIDGE}\nIOMMU Group   1: 0000:01:00.0 {GPU}\n"
    f"IOMMU Group   2: 0000:01:00.1 {SOUND}",
    "headings and tabs": f"IOMMU Group 1:\n\t00:01.0 {BRIDGE}\n\t01:00.0 {GPU}\nIOMMU Group 2:\n\t01:00.1 {SOUND}",
    "headings in capitals, numbers again": f"IOMMU GROUP 1\n (1) 00:01.0 {BRIDGE}\n (1) 01:00.0 {GPU}\n"
    f"IOMMU GROUP 2\n (2) 01:00.1 {SOUND}",
    "a tree": f"IOMMU Group 1\n├── 00:01.0 {BRIDGE}\n└── 01:00.0 {GPU}\nIOMMU Group 2\n└── 01:00.1 {SOUND}",
    "quoted": f"> IOMMU Group 1:\n>  00:01.0 {BRIDGE}\n>  01:00.0 {GPU}\n> IOMMU Group 2:\n>  01:00.1 {SOUND}",
    "fenced, Windows line ends": f"```\r\nIOMMU Group 1 00:01.0 {BRIDGE}\r\nIOMMU Group 1 01:00.0 {GPU}\r\n"
    f"IOMMU Group 2 01:00.1 {SOUND}\r\n```",
    "coloured": f"\x1b[1mIOMMU Group 1\x1b[0m 00:01.0 {BRIDGE}\nIOMMU Group 1 \x1b[32m01:00.0\x1b[0m {GPU}\n"
    f"IOMMU Group 2 01:00.1 {SOUND}",
    "find, and lspci -nn": "/sys/kernel/iommu_groups/1/devices/0000:00:01.0\n"
    "/sys/kernel/iommu_groups/1/devices/0000:01:00.0\n/sys/kernel/iommu_groups/2/devices/0000:01:00.1\n\n"
    f"$ lspci -nn\n00:01.0 {BRIDGE}\n01:00.0 {GPU}\n01:00.1 {SOUND}",
    "group devices": f"  IOMMU Group: 1\n    Group Device: 0000:00:01.0 - {BRIDGE}\n"
    f"    Group Device: 0000:01:00.0 - {GPU}\n  IOMMU Group: 2\n    Group Device: 0000:01:00.1 - {SOUND}",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_the_usual_listings_of_groups_are_the_same_pc(text: str) -> None:
    assert seen(read(text)) == GROUPED


def test_other_encodings_are_the_same_pc() -> None:
    text = FORMS["one line each"]
    assert seen(read(text.encode("utf-16"))) == seen(read(text.encode("utf-8-sig"))) == GROUPED


def test_ids_may_stand_before_the_address_and_the_group_before_its_first_device_alone() -> None:
    host = read(
        "Group 1:\t[8086:1901] [R] 00:01.0  PCI bridge            Root Port\n"
        "\t\t[10de:1b80] [R] 01:00.0  VGA compatible controller    GTX 1080\n"
        "Group 2:\t[10de:10f0]     01:00.1  Audio device     GP104 Audio\n"
    )
    assert {a: (f[0], f[2]) for a, f in seen(host).items()} == {a: (f[0], f[2]) for a, f in GROUPED.items()}


def test_a_list_without_groups_leaves_the_iommu_unknown() -> None:
    host = read(f"00:01.0 {BRIDGE}\n01:00.0 {GPU}\n")
    assert host.iommu.enabled is None
    assert {f.iommu_group for f in host.pci} == {None}


def test_groups_show_an_active_iommu_and_are_counted_where_every_function_has_one() -> None:
    whole = read(FORMS["one line each"])
    assert (whole.iommu.enabled, whole.iommu.groups) == (True, 2)
    part = read(f"IOMMU Group 1 00:01.0 {BRIDGE}\n\n01:00.0 {GPU}\n")
    assert (part.iommu.enabled, part.iommu.groups) == (True, None)


def test_a_group_with_a_star_is_none() -> None:
    host = read(f"IOMMU Group * 00:01.0 {BRIDGE}\n01:00.0 {GPU}")
    assert {f.iommu_group for f in host.pci} == {None}
    assert host.iommu.enabled is None


K = (
    f"00:01.0 {BRIDGE}\n\tKernel driver in use: pcieport\n"
    f"01:00.0 {GPU}\n\tSubsystem: Maker Device [1043:8591]\n\tKernel driver in use: vfio-pci\n"
    "\tKernel modules: nouveau, nvidia\n"
)


def test_lspci_k_tells_drivers_and_subsystems() -> None:
    _, gpu = read(K).pci
    assert (gpu.driver, gpu.subsystem_vendor_id, gpu.subsystem_device_id) == ("vfio-pci", "1043", "8591")


def test_a_function_that_k_lists_without_a_driver_has_none() -> None:
    host = read(K + f"01:00.1 {SOUND}\n\tSubsystem: Maker Device [1043:8591]\n\tKernel modules: snd_hda_intel\n")
    assert host.by_address["0000:01:00.1"].driver == ""


@pytest.mark.parametrize("end", ["", "--\n"], ids=["the end", "grep's separator"])
def test_a_list_that_is_cut_behind_the_subsystem_does_not_say_that_there_is_no_driver(end: str) -> None:
    host = read(K + f"01:00.1 {SOUND}\n\tSubsystem: Maker Device [1043:8591]\n{end}")
    assert host.by_address["0000:01:00.1"].driver is None


def test_lspci_v_tells_groups_below_the_function() -> None:
    verbose = f"01:00.0 {GPU}\n\tSubsystem: Maker [1043:8591]\n\tIOMMU group: 14\n\tKernel driver in use: nouveau\n"
    assert (only(verbose).iommu_group, only(verbose).driver) == (14, "nouveau")
    flags = f"01:00.0 {GPU}\n\tFlags: bus master, fast devsel, IRQ 16, IOMMU group 2\n\tCapabilities: <access denied>\n"
    assert only(flags).iommu_group == 2


def test_lspci_n_has_numbers_alone() -> None:
    function = only("01:00.0 0300: 10de:1b80 (rev a1)")
    assert (function.class_code, function.vendor_id, function.device_id) == ("0300", "10de", "1b80")


def test_without_ids_the_class_is_known_by_its_name_and_nothing_else() -> None:
    function = only("01:00.0 VGA compatible controller: NVIDIA Corporation GP104 [GeForce GTX 1080] (rev a1)")
    assert (function.class_code, function.vendor_id) == ("0300", None)
    assert function.label == "NVIDIA Corporation GP104 [GeForce GTX 1080]"


def test_the_programming_interface_belongs_to_the_class() -> None:
    assert only("04:00.0 Storage [0108]: Maker Disk [144d:a808] (prog-if 02 [NVM Express])").class_code == "010802"


def test_what_is_not_understood_is_counted_and_named_and_never_guessed() -> None:
    host = read(f"Hello, my PC does not work:\n01:00.0 {GPU}\nlspci: Unable to load libkmod\n-+-[0000:00]-+-00.0\n")
    (gap,) = [u for u in host.unknown if "not understood" in u]
    assert gap.startswith("3 lines not understood, first line 1: Hello")
    assert list(seen(host)) == ["0000:01:00.0"]


def test_a_sentence_that_begins_with_an_address_is_no_device() -> None:
    host = read(f"01:00.0 {GPU}\n01:00.1 is what I want to pass through\n")
    assert list(seen(host)) == ["0000:01:00.0"]
    assert any("1 line not understood, first line 2" in gap for gap in host.unknown)


@pytest.mark.parametrize(
    ("second", "what"),
    [
        (f"IOMMU Group 9 01:00.0 {GPU}", "IOMMU group 1 in line 1 and 9 in line 2"),
        ("IOMMU Group 1 01:00.0 VGA compatible controller [0300]: X [1002:67df]", "ids 10de:1b80 in line 1 and 1002"),
    ],
    ids=["groups", "ids"],
)
def test_two_pcs_in_one_listing_are_refused_with_both_lines(second: str, what: str) -> None:
    with pytest.raises(DocumentError, match=what):
        read(f"IOMMU Group 1 01:00.0 {GPU}\n{second}\n")


@pytest.mark.parametrize("text", ["", "nothing of the kind\n", "\x00\xff\xfe", "IOMMU Group 1:\n"])
def test_what_is_no_listing_is_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(DocumentError, match="neither a host document nor a listing") as refused:
        read(text)
    assert "lspci -nnk" in (refused.value.hint or "")


def test_a_group_that_cannot_be_is_refused() -> None:
    with pytest.raises(DocumentError, match="no IOMMU group 999999999"):
        read(f"IOMMU Group 999999999 01:00.0 {GPU}")


def test_a_document_is_no_listing() -> None:
    assert is_document(b' \n{"schema": 1')
    assert not is_document(b"00:01.0 PCI bridge")


def test_the_plan_hangs_on_what_a_listing_does_not_say() -> None:
    text = "[devices.nic]\nprefer = ['passthrough', 'emulated']"
    card = "IOMMU Group 3 03:00.0 Ethernet controller [0200]: Intel I210 [8086:1533]"
    nic = planner.plan(read(card), parse((ProfileText("p", "p.toml", text),))).of(Kind.NIC)
    assert nic.strategy is Strategy.EMULATED
    assert {r.reason.value for r in nic.rejected} == {"network-unknown"}


@given(st.text(alphabet="IOMMU group012:.\t[]ab()\n\r|`>- \x1b\x00", max_size=300))
def test_any_text_is_a_pc_that_reads_back_or_a_clear_refusal(text: str) -> None:
    try:
        host = read(text)
    except DocumentError:
        return
    assert decode(encode(host), "test") == host


LINES = FORMS["one line each"].splitlines()


@given(st.permutations(LINES))
def test_the_order_of_whole_lines_does_not_matter(lines: list[str]) -> None:
    assert read("\n".join(lines)).pci == read(FORMS["one line each"]).pci
