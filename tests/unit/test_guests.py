"""What is known of a guest's operating system, and what it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from clienthv import guests, planner
from clienthv.errors import PlanError
from clienthv.model.guest import built_in
from clienthv.model.host import Host, Iommu, Kvm, PciFunction, RoleName
from clienthv.model.plan import Kind, Plan, Reason, Strategy
from clienthv.model.profile import ProfileText, parse

PC = Host(kvm=Kvm(usable=True))


def system(root: Path, name: str, body: str) -> None:
    folder = root / "os" / "example.org"
    folder.mkdir(parents=True, exist_ok=True)
    os = f'<os id="http://example.org/{name.replace("-", "/", 1)}">{body}</os>'
    (folder / f"{name}.xml").write_text(f"<libosinfo>{os}</libosinfo>")


def planned(os: str, text: str = "", host: Host = PC) -> Plan:
    return planner.plan(host, parse((ProfileText("test", "test.toml", f'[guest]\nos = "{os}"\n{text}'),)))


def test_devices_are_inherited_and_the_nearest_word_counts(tmp_path: Path) -> None:
    one = '<device id="http://pcisig.com/pci/1af4/10%s"/>'
    system(tmp_path, "os-1", "<family>linux</family><devices>" + one % 42 + one % 50 + "</devices>")
    not_gpu = '<device id="http://pcisig.com/pci/1af4/1050" supported="false"/>'
    parent = '<derives-from id="http://example.org/os/1"/>'
    system(tmp_path, "os-2", parent + "<devices>" + one % 41 + not_gpu + "</devices>")
    found = guests.read("os2", tmp_path)
    assert (found.found, found.family, found.virtio) == (True, "linux", {"block", "net"})


def test_minimum_sizes_are_of_the_64_bit_system_and_rounded_up(tmp_path: Path) -> None:
    small = "<resources arch='i686'><minimum><ram>1048576</ram></minimum></resources>"
    large = "<resources arch='x86_64'><minimum><ram>1048577</ram><n-cpus>2</n-cpus></minimum></resources>"
    system(tmp_path, "os-1", small + large)
    found = guests.read("os1", tmp_path)
    assert (found.min_memory_mib, found.min_vcpus) == (2, 2)


@pytest.mark.parametrize("parent", ["http://../secret", "http://example.org/../../secret", "http://example.org/", "x"])
def test_a_parent_outside_of_the_database_is_not_read(tmp_path: Path, parent: str) -> None:
    (tmp_path / "secret.xml").write_text("<libosinfo><os id='s'><family>linux</family></os></libosinfo>")
    system(tmp_path, "os-1", f'<derives-from id="{parent}"/>')
    assert guests.read("os1", tmp_path).family == "other"


def test_a_circle_of_parents_ends(tmp_path: Path) -> None:
    system(tmp_path, "os-1", '<derives-from id="http://example.org/os/2"/>')
    system(tmp_path, "os-2", '<derives-from id="http://example.org/os/1"/>')
    assert guests.read("os1", tmp_path).found


@pytest.mark.parametrize("text", ["<os>", "x" * (1 << 21), '<!DOCTYPE a [<!ENTITY b SYSTEM "/etc/passwd">]><a>&b;</a>'])
def test_a_file_that_says_nothing_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    system(tmp_path, "os-1", "")
    (tmp_path / "os" / "example.org" / "os-1.xml").write_text(text)
    assert guests.read("os1", tmp_path).found is False


def test_without_the_database_the_id_tells_the_family_and_the_plan_says_so(tmp_path: Path) -> None:
    found = guests.read("win98", tmp_path)
    assert (found.found, found.family, found.emulated.disk) == (False, "windows", "ide")
    profile = parse((ProfileText("test", "test.toml", '[guest]\nos = "win98"'),))
    assert "guest-os-unknown" in {w.code for w in planner.plan(PC, profile, guest=found).warnings}


@pytest.mark.parametrize("os", ["unknown", "linux"])
def test_an_id_that_names_no_system_is_not_looked_up_and_not_warned_of(os: str, tmp_path: Path) -> None:
    assert guests.read(os, tmp_path) == built_in(os)
    assert "guest-os-unknown" not in {w.code for w in planned(os).warnings}


def test_windows_98_gets_what_it_can_drive_and_no_more_memory_than_it_can_use() -> None:
    plan = planned("win98")
    kinds = (Kind.FIRMWARE, Kind.GPU, Kind.NIC, Kind.DISK, Kind.AUDIO, Kind.USB, Kind.INPUT)
    assert [plan.of(k).model for k in kinds] == ["bios", "cirrus", "ne2k_pci", "ide", "sb16", "piix3-uhci", "ps2"]
    assert (plan.vcpus, plan.memory_mib) == (1, 512)
    assert "guest-limit" in {w.code for w in plan.warnings}


def test_a_system_without_any_usb_driver_gets_no_usb() -> None:
    usb = planned("winnt4.0").of(Kind.USB)
    assert (usb.strategy, usb.rejected[0].reason) == (Strategy.OMIT, Reason.NO_GUEST_DRIVER)


def test_windows_11_does_not_start_with_a_bios() -> None:
    with pytest.raises(PlanError, match="guest-firmware"):
        planned("win11", '[devices.firmware]\nprefer = ["bios"]')


def test_windows_11_without_a_tpm_is_planned_with_a_warning() -> None:
    told = {w.code: w.detail for w in planned("win11").warnings}["guest-needs-more"]
    assert "Secure Boot and a TPM" in told


def test_a_guest_gets_the_virtio_devices_that_the_database_lists_and_no_others(tmp_path: Path) -> None:
    system(tmp_path, "os-1", '<devices><device id="http://pcisig.com/pci/1af4/1042"/></devices>')
    profile = parse((ProfileText("test", "test.toml", '[guest]\nos = "os1"'),))
    plan = planner.plan(PC, profile, guest=guests.read("os1", tmp_path))
    assert (plan.of(Kind.DISK).model, plan.of(Kind.NIC).model) == ("virtio", "e1000e")


def test_drivers_that_were_installed_count() -> None:
    assert planned("win10", 'drivers = ["virtio"]').of(Kind.DISK).model == "virtio"


def test_windows_98_gets_no_graphics_card_whatever_the_profile_says() -> None:
    card = PciFunction(
        address="0000:01:00.0", class_code="030000", vendor_id="10de", driver="nouveau", boot_vga=False, iommu_group=1
    )
    host = Host(
        pci=(card,), kvm=Kvm(usable=True), iommu=Iommu(enabled=True, interrupt_remapping=True),
        roles_read=tuple(RoleName),
    )  # fmt: skip
    ladder = 'drivers = ["nvidia"]\n[devices.gpu]\nprefer = ["passthrough", "emulated"]'
    (rejected,) = planned("win98", ladder, host).of(Kind.GPU).rejected
    assert rejected.reason is Reason.NO_GUEST_DRIVER


def test_a_long_id_is_told_as_the_short_one(tmp_path: Path) -> None:
    system(tmp_path, "os-11", "<short-id>oseleven</short-id>")
    assert guests.short_id("http://example.org/os/11", tmp_path) == "oseleven"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("http://debian.org/debian/12", "debian12"),
        ("http://microsoft.com/win/11", "win11"),
        ("nonsense", "unknown"),
        ("http://example.org/../../../etc/passwd", "unknown"),
        ("http://example.org/$(id)", "unknown"),
        ("", "unknown"),
    ],
)
def test_without_its_file_a_long_id_is_told_by_its_words(name: str, short: str, tmp_path: Path) -> None:
    assert guests.short_id(name, tmp_path) == short


# --- finding the one that a person means, and the one that an ISO installs


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A small osinfo-db."""
    systems = {
        "debian.org/debian-11": ("debian11", "Debian 11", "Debian 11.* amd64", ""),
        "debian.org/debian-1.1": ("debian1.1", "Debian GNU/Linux 1.1", "", ""),
        "ubuntu.com/ubuntu-9.10": ("ubuntu9.10", "Ubuntu 9.10", "", ""),
        "ubuntu.com/ubuntu-22.04": ("ubuntu22.04", "Ubuntu 22.04 LTS", "Ubuntu 22.04(.\\d\\+?)? LTS amd64", ""),
        "microsoft.com/win-11": ("win11", "Microsoft Windows 11", "^CCCOMA_X64FREE?_", "MICROSOFT CORPORATION"),
        "odd.org/odd-1": ("odd1", "Odd", "[[:alpha:", ""),
    }
    for name, (short, called, volume, publisher) in systems.items():
        path = tmp_path / "os" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = f"<volume-id>{volume}</volume-id>" + (f"<publisher-id>{publisher}</publisher-id>" if publisher else "")
        media = f"<media arch='x86_64'><iso>{fields}</iso></media>" if volume else ""
        path.write_text(
            f"<libosinfo><os id='http://{name}'><short-id>{short}</short-id><name>{called}</name>{media}</os></libosinfo>"
        )
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("debian11", "debian11"), ("Debian 11", "debian11"), ("debain11", "debian11"), ("Windows 11", "win11"),
        ("ubuntu", "ubuntu22.04"), ("Microsoft Windows 11", "win11"), ("qqq", None), ("", None), ("../../x", None),
    ],
)  # fmt: skip
def test_the_system_that_a_person_means_comes_first(typed: str, meant: str | None, database: Path) -> None:
    found = guests.nearest(typed, database)
    assert (found[0].id if found else None) == meant
    assert len(found) <= 6


def iso(path: Path, volume: str, publisher: str = "") -> Path:
    head = bytearray(b"\x01CD001\x01" + b"\0" + b" " * 2040)
    head[40:72] = volume.ljust(32).encode()
    head[318:446] = publisher.ljust(128).encode()
    path.write_bytes(bytes(16 * 2048) + bytes(head))
    return path


@pytest.mark.parametrize(
    ("volume", "publisher", "found"),
    [
        ("Debian 11.5.0 amd64 n", "", "debian11"), ("Ubuntu 22.04.3 LTS amd64", "", "ubuntu22.04"),
        ("CCCOMA_X64FRE_EN-US_DV9", "MICROSOFT CORPORATION", "win11"), ("CCCOMA_X64FRE_EN-US_DV9", "somebody", None),
        ("My Music", "", None),
    ],
)  # fmt: skip
def test_an_iso_is_known_by_what_it_says_of_itself(
    volume: str, publisher: str, found: str | None, database: Path, tmp_path: Path
) -> None:
    image = iso(tmp_path / "x.iso", volume, publisher)
    assert guests.is_installer(image)
    assert guests.of_installer(image, database) == found


def test_what_is_no_iso_is_none(database: Path, tmp_path: Path) -> None:
    short, other = tmp_path / "short", tmp_path / "other"
    short.write_bytes(b"\x01CD001")
    other.write_bytes(bytes(20 * 2048))
    for path in (short, other, tmp_path, tmp_path / "nothing", Path("/dev/zero"), Path("a\0b")):
        assert not guests.is_installer(path)
        assert guests.of_installer(path, database) is None
