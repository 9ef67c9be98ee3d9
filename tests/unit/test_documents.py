from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clienthv.errors import DocumentError
from clienthv.model import host as host_model
from clienthv.model import plan as plan_model
from clienthv.model import values
from clienthv.model.host import Host, PciFunction, RoleName
from clienthv.model.usb import UsbDevice, UsbRole
from clienthv.model.values import PciAddress

WHOLE = host_model.encode(
    Host(name="desk", pci=(PciFunction(address="0000:00:02.0", class_code="0300", iommu_group=1),))
)


def document(**fields: Any) -> bytes:
    return json.dumps({"schema": 1, "kind": "host", **fields}).encode()


def refusal(data: bytes) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        host_model.decode(data, "desk.json")
    assert "desk.json" in caught.value.message
    assert caught.value.hint
    return caught.value


# --- host documents that are not whole


@pytest.mark.parametrize("length", [0, 1, 20, len(WHOLE) // 2, len(WHOLE) - 3])
def test_a_host_document_that_was_cut_short_is_refused_with_how_to_make_one(length: int) -> None:
    assert "clienthv inspect --save" in (refusal(WHOLE[:length]).hint or "")


@pytest.mark.parametrize("data", [b"<xml/>", b"schema = 1", b"\x7fELF\x02\x01", b"\xef\xbb\xbf" + WHOLE, WHOLE + b"{}"])
def test_what_is_not_json_is_refused_as_no_json_document(data: bytes) -> None:
    assert "JSON" in refusal(data).message


@pytest.mark.parametrize("data", [b"[]", b"null", b"3", b'"host"', b"[" * 100_000])
def test_json_that_is_no_object_is_refused_as_no_host_document(data: bytes) -> None:
    assert "not a clienthv host document" in refusal(data).message


@pytest.mark.parametrize("data", [b"{}", b'{"name": "left-pad", "version": "1.0.0"}', b'{"kind": "host"}'])
def test_a_foreign_json_object_is_refused_as_no_host_document(data: bytes) -> None:
    assert "not a clienthv host document" in refusal(data).message


def test_a_plan_document_is_refused_by_what_it_is() -> None:
    assert "'plan' document" in refusal(b'{"schema": 1, "kind": "plan", "profile": "x"}').message


def test_a_newer_schema_is_refused_with_both_numbers_and_the_advice_to_update() -> None:
    error = refusal(document(schema=2))
    assert "schema 2" in error.message
    assert "up to 1" in error.message
    assert "update clienthv" in (error.hint or "")


@pytest.mark.parametrize("schema", [0, -1, "1", 1.5, None, True])
def test_a_schema_that_is_no_positive_number_is_refused(schema: object) -> None:
    refusal(document(schema=schema))


def test_deep_nesting_is_refused_instead_of_overflowing_the_stack() -> None:
    refusal(b'{"schema": 1, "kind": "host", "pci": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_a_document_that_is_not_utf_8_is_refused() -> None:
    refusal(b'{"schema": 1, "kind": "host", "name": "caf\xe9"}')


def test_a_document_in_utf_16_is_refused() -> None:
    refusal(WHOLE.decode().encode("utf-16"))


@pytest.mark.parametrize("name", [rb"\ud800", rb"\ud800 and more text", rb"\udc00\ud800"])
def test_half_a_surrogate_pair_is_refused(name: bytes) -> None:
    refusal(b'{"schema": 1, "kind": "host", "name": "' + name + b'"}')


@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_any_bytes_at_all_are_a_document_or_a_document_error(data: bytes) -> None:
    refusal(data)


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=2))
def test_a_document_with_damaged_bytes_is_read_or_refused_and_never_a_traceback(at: int, damage: bytes) -> None:
    damaged = WHOLE[:at] + damage + WHOLE[at + len(damage) :]
    try:
        host = host_model.decode(damaged, "desk.json")
    except DocumentError as e:
        assert "desk.json" in e.message  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(host, Host)


# --- host documents whose content is wrong


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"pci": [{"address": "0000:00:02.0", "iommu_group": "1"}]}, "$.pci[0].iommu_group"),
        ({"pci": [{"address": "0000:00:02.0", "class_code": "0x0300"}]}, "$.pci[0].class_code"),
        ({"pci": [{"address": "0000:00:02.0", "vendor_id": "8086 "}]}, "$.pci[0].vendor_id"),
        ({"cpu": {"threads": -1}}, "$.cpu.threads"),
        ({"kvm": {"usable": "yes"}}, "$.kvm.usable"),
        ({"memory": []}, "$.memory"),
        ({"roles_read": ["inputs"]}, "$.roles_read[0]"),
        ({"stack": {"capabilities": {"domain_type": "xen"}}}, "$.stack.capabilities.domain_type"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    assert path in refusal(document(**fields)).message


@pytest.mark.parametrize(
    "address",
    ["", "02.0", "00:02.0", "0000:00:02", "0000:00:20.0", "0000:00:02.8", "0000:00:0G.0", "0000:00:02.0 ", "../..",
     "0000:00:02.0\n", "0000:0A:00.0"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_with_its_path(address: str) -> None:
    assert "$.pci[0].address" in refusal(document(pci=[{"address": address}])).message


def test_a_usb_port_listed_twice_is_refused_by_name() -> None:
    assert "1-2.3 is listed twice" in refusal(document(usb=[{"port": "1-2.3"}] * 2)).message


@pytest.mark.parametrize(
    "device",
    [
        *({"port": port} for port in ("1-2\n", "1-2:1.0", "0-1", "1-0", "1-2-3", "1-1.2.3.4.5.6.7", "usb0", "..", "")),
        {"port": "1-2", "vendor_id": "046D"},
        {"port": "1-2", "devnum": 128},
        {"port": "1-2", "interface_classes": ["03"]},
        {"port": "1-2", "controller": "00:14.0"},
        {},
    ],
)
def test_a_usb_device_that_cannot_be_is_refused(device: dict[str, Any]) -> None:
    refusal(document(usb=[device]))


def test_a_document_from_before_usb_was_read_says_nothing_of_it() -> None:
    host = host_model.decode(document(pci=[]), "old.json")
    assert (host.usb, host.other_keyboards) == (None, None)


def test_usb_devices_read_back_as_they_were_written() -> None:
    role = UsbRole(role=RoleName.MOUNTED_DISK, evidence=("/proc/swaps: swap is on sdb",))
    host = Host(usb=(UsbDevice(port="usb1"), UsbDevice(port="1-2.3", product='<"é">', roles=(role,))))
    assert host_model.decode(host_model.encode(host), "usb.json") == host


def test_an_address_listed_twice_is_refused_by_name() -> None:
    assert "0000:00:02.0 is listed twice" in refusal(document(pci=[{"address": "0000:00:02.0"}] * 2)).message


def test_one_place_under_two_spellings_is_refused() -> None:
    error = refusal(document(pci=[{"address": "0000:00:02.0"}, {"address": "00000:00:02.0"}]))
    assert "$.pci[1].address" in error.message


def test_a_role_of_a_function_that_is_not_there_is_refused_by_name() -> None:
    error = refusal(document(roles=[{"role": "input", "address": "0000:00:14.0"}]))
    assert "role input names 0000:00:14.0" in error.message


def test_a_document_that_is_accepted_can_be_written_again() -> None:
    """A number that fits no machine word is refused when it is read, not when it is written."""
    data = b'{"schema": 1, "kind": "host", "memory": {"total_mib": ' + b"9" * 40 + b"}}"
    try:
        host = host_model.decode(data, "desk.json")
    except DocumentError:
        return
    assert host_model.decode(host_model.encode(host), "again") == host


def test_a_key_that_a_later_version_added_is_passed_over() -> None:
    assert host_model.decode(document(name="desk", weather="rain"), "desk.json").name == "desk"


def test_what_a_document_does_not_say_is_unknown_and_not_no() -> None:
    host = host_model.decode(document(), "desk.json")
    assert (host.iommu.enabled, host.kvm.usable, host.cpu.virtualization, host.tpm_device) == (None,) * 4
    assert not any(host.read(role) for role in RoleName)


def test_a_written_document_ends_with_one_newline_and_is_the_same_every_time() -> None:
    host = host_model.decode(WHOLE, "desk.json")
    assert host_model.encode(host) == WHOLE
    assert WHOLE.endswith(b"}\n")


# --- plan documents


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", WHOLE, b'{"schema": 1}', b"\xff", b'{"schema":1,"kind":"\xff"}'])
def test_what_is_no_plan_is_refused_by_its_origin(data: bytes) -> None:
    with pytest.raises(DocumentError, match="metadata of VM desk"):
        plan_model.decode(data, "the metadata of VM desk")


# --- values


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0000:01:00.0", (0, 1, 0, 0)),
        ("01:00.0", (0, 1, 0, 0)),
        ("0000:ff:1f.7", (0, 255, 31, 7)),
        ("0000:C1:00.0", (0, 193, 0, 0)),
        ("10000:e1:00.0", (0x10000, 0xE1, 0, 0)),
    ],
)
def test_a_pci_address_is_read_as_four_numbers(text: str, parts: tuple[int, int, int, int]) -> None:
    address = PciAddress.parse(text)
    assert (address.domain, address.bus, address.device, address.function) == parts


@pytest.mark.parametrize(
    "text",
    ["", "0", "01:00", "01:20.0", "01:00.8", "000:01:00.0", "0000:01:00.0.0", " 01:00.0", "01:00.0 ",
     "pci_0000_01_00_0",
     "01:00.0\n", "0000:01:00.0\n", "٠١:00.0"],
)  # fmt: skip
def test_what_is_no_pci_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a PCI address"):
        PciAddress.parse(text)


@given(st.integers(0, 0xFFFFF), st.integers(0, 255), st.integers(0, 31), st.integers(0, 7))
def test_a_pci_address_reads_back_as_it_was_written(domain: int, bus: int, device: int, function: int) -> None:
    address = PciAddress(domain, bus, device, function)
    assert PciAddress.parse(str(address)) == address


def test_pci_addresses_sort_as_numbers_and_not_as_text() -> None:
    assert PciAddress.parse("10000:00:00.0") > PciAddress.parse("ffff:00:00.0")


def test_the_functions_of_one_card_share_its_slot() -> None:
    assert PciAddress.parse("01:00.0").slot == PciAddress.parse("01:00.1").slot == "0000:01:00"


@pytest.mark.parametrize(
    ("text", "mib"),
    [("1 MiB", 1), ("512MiB", 512), ("8 GiB", 8192), (" 8  GiB ", 8192), ("2 TiB", 2 * 1024 * 1024), ("08 GiB", 8192)],
)
def test_a_size_is_read_as_mib(text: str, mib: int) -> None:
    assert values.parse_mib(text) == mib


@pytest.mark.parametrize(
    "text", ["", "8", "GiB", "8 GB", "8 gib", "0 GiB", "-1 GiB", "1.5 GiB", "8 GiB x", "1" * 10 + " MiB"]
)
def test_a_size_without_a_unit_or_a_number_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="8 GiB"):
        values.parse_mib(text)


@pytest.mark.parametrize(
    ("mib", "text"),
    [(1, "1 MiB"), (1023, "1023 MiB"), (1024, "1 GiB"), (1536, "1536 MiB"), (8192, "8 GiB"), (0, "0 MiB")],
)
def test_a_size_is_written_in_the_largest_unit_that_is_exact(mib: int, text: str) -> None:
    assert values.format_mib(mib) == text


@given(st.integers(1, 999_999_999))
def test_a_size_reads_back_as_it_was_written(mib: int) -> None:
    assert values.parse_mib(values.format_mib(mib)) == mib


@pytest.mark.parametrize("name", ["a", "desktop", "Windows_11", "1st", "a.b+c-d", "_x", "x" * 64])
def test_an_ordinary_name_can_name_a_vm(name: str) -> None:
    assert values.is_vm_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "x" * 65, "a\n", "\na", "a\nb", "a b", "a/b", "../x", ".", "-x", "+x", ".x", "a\0", "a\x1b[0m", "ä",
     "a'b", 'a"b',
     "<a>", "a&b", "a\r", "a\t"],
)  # fmt: skip
def test_a_name_that_a_path_a_shell_or_libvirt_would_misread_cannot_name_a_vm(name: str) -> None:
    assert not values.is_vm_name(name)
