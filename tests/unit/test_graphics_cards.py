"""What handing over a GPU meets besides the IOMMU: programs that have it open, reserved memory, BARs, ROM, Intel's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from clienthv import planner, profiles
from clienthv.model import host as host_model
from clienthv.model.host import Host, Iommu, Kvm, PciFunction, RoleName
from clienthv.model.particulars import Particulars
from clienthv.model.plan import Decision, Kind, Plan, Reason, Strategy
from clienthv.model.profile import ProfileText, parse
from clienthv.report import hosts as report
from clienthv.strategies import Kept

GPU = PciFunction(
    address="0000:01:00.0", class_code="030000", vendor_id="10de", device_id="1b80", driver="nouveau",
    boot_vga=False, iommu_group=1, reset_methods=("flr",),
    particulars=Particulars(holders=(), framebuffer="", mmio64_mib=288),
)  # fmt: skip
SOUND = replace(GPU, address="0000:01:00.1", class_code="040300", driver="snd_hda_intel")
IGPU = replace(GPU, address="0000:00:02.0", vendor_id="8086", driver="i915", iommu_group=2)


def but(function: PciFunction, **changes: Any) -> PciFunction:
    """The function, changed; what is known of few functions alone can be named as if it were its own."""
    known = {name: changes.pop(name) for name in Particulars.__struct_fields__ if name in changes}
    return replace(function, particulars=replace(function.known, **known), **changes)


def plan(*functions: PciFunction, kind: str = "gpu", more: str = "", **known: Any) -> Plan:
    host = Host(
        pci=functions,
        kvm=Kvm(usable=True),
        iommu=Iommu(kind=known.pop("iommu", "vt-d"), enabled=True, interrupt_remapping=True),
        roles_read=tuple(RoleName),
    )
    text = f'[guest]\ndrivers = ["nvidia", "intel"]\n[devices.{kind}]\nprefer = ["passthrough", "omit"]\n{more}'
    return planner.plan(host, parse((ProfileText("test", "test.toml", text),)), **known)


def gpu(*functions: PciFunction, **more: Any) -> Decision:
    return plan(*functions, **more).of(Kind.GPU)


def warned(*functions: PciFunction, **more: Any) -> dict[str, str]:
    made = plan(*functions, **more)
    assert made.of(Kind.GPU).strategy is Strategy.PASSTHROUGH, made.of(Kind.GPU).rejected
    return {w.code: w.detail for w in made.warnings}


def only(decision: Decision) -> Any:
    (objection,) = decision.rejected
    return objection


# --- in use


def test_a_gpu_that_programs_have_open_stays_and_they_are_named() -> None:
    objection = only(gpu(but(GPU, holders=("Xorg", "firefox"))))
    assert objection.reason is Reason.IN_USE
    assert "Xorg, firefox" in objection.detail
    assert "display manager" in objection.fix


def test_a_gpu_whose_sound_is_playing_stays_too() -> None:
    objection = only(gpu(GPU, but(SOUND, holders=("pipewire",))))
    assert objection.reason is Reason.IN_USE
    assert objection.detail.startswith("0000:01:00.1 is open in pipewire")


def test_nvidias_driver_may_hang_and_its_daemon_is_to_be_stopped() -> None:
    objection = only(gpu(but(GPU, driver="nvidia", holders=("nvidia-persiste",))))
    assert "may hang" in objection.detail
    assert "nvidia-persistenced" in objection.fix


def test_a_sound_card_that_plays_stays() -> None:
    card = but(SOUND, address="0000:00:1f.3", holders=("mpv",), iommu_group=5)
    decision = plan(card, kind="audio", more='select = ["0000:00:1f.3"]').of(Kind.AUDIO)
    assert only(decision).reason is Reason.IN_USE


def test_a_gpu_that_is_held_for_guests_is_in_no_use_of_the_hosts() -> None:
    assert gpu(but(GPU, driver="vfio-pci", holders=("qemu",))).device == GPU.address


def test_unknown_programs_are_a_warning_and_no_refusal() -> None:
    assert "holders-unknown" in warned(but(GPU, holders=None))
    assert "holders-unknown" not in warned(GPU)
    assert "holders-unknown" not in warned(but(GPU, holders=None, driver="vfio-pci"))
    assert "holders-unknown" not in warned(but(GPU, holders=None, driver=""))


# --- memory that firmware wants for itself


@pytest.mark.parametrize(("iommu", "fix"), [("vt-d", "RMRR"), ("amd-vi", "Pre-Boot DMA Protection")])
def test_a_group_with_memory_that_firmware_wants_mapped_stays(iommu: str, fix: str) -> None:
    ranges = ("0x00000000000e0000-0x00000000000fffff", "0x00000000bf000000-0x00000000bf0fffff")
    objection = only(gpu(but(GPU, reserved_memory=ranges), iommu=iommu))
    assert objection.reason is Reason.RESERVED_MEMORY
    assert ranges[0] in objection.detail
    assert "1 more" in objection.detail
    assert fix in objection.fix


def test_a_group_without_such_memory_moves() -> None:
    assert gpu(but(GPU, reserved_memory=())).device == GPU.address


# --- BARs, ROM and the screen of the boot


def test_bars_beyond_what_older_firmware_has_room_for_are_warned_of() -> None:
    assert "large-bars" not in warned(but(GPU, mmio64_mib=32 * 1024))
    assert "33 GiB" in warned(but(GPU, mmio64_mib=32 * 1024 + 256))["large-bars"]
    assert "large-bars" not in warned(but(GPU, mmio64_mib=None))


def test_the_screen_of_the_boot_on_the_cards_memory_is_warned_of() -> None:
    found = warned(but(GPU, framebuffer="BOOTFB"))
    assert "sysfb_init" in found["boot-framebuffer"]
    assert "boot-framebuffer" not in warned(GPU)


def test_a_card_that_the_firmware_started_on_may_need_a_rom() -> None:
    allowed = 'select = ["0000:01:00.0"]\nallow = ["boot-display"]'
    assert "boot-rom" in warned(but(GPU, boot_vga=True), more=allowed)
    assert "boot-rom" not in warned(GPU)


# --- an Intel processor's graphics


def test_an_intel_processors_graphics_are_taken_only_when_named() -> None:
    objection = only(gpu(IGPU))
    assert objection.reason is Reason.IS_PROCESSOR_GRAPHICS
    assert "igd-assign" in objection.detail
    found = warned(IGPU, more='select = ["0000:00:02.0"]')
    assert "igpu-passthrough" in found
    assert "boot-rom" not in found


def test_an_intel_card_in_a_slot_is_a_card_like_others() -> None:
    assert gpu(but(GPU, vendor_id="8086")).device == GPU.address


def test_a_vm_that_had_the_processors_graphics_keeps_them() -> None:
    had = gpu(IGPU, more='select = ["0000:00:02.0"]')
    assert gpu(IGPU, kept=Kept(decisions={Kind.GPU: had})).device == IGPU.address


# --- on every recorded PC

HOSTS = sorted((Path(__file__).resolve().parent.parent / "hosts").glob("*.json"))


def moved(path: Path, **known: Any) -> set[str]:
    """What the most daring profile takes of a recorded PC, as if this were known of all its functions."""
    recorded = host_model.decode(path.read_bytes(), path.name)
    functions = tuple(but(f, **known) for f in recorded.pci)
    host = replace(recorded, pci=functions, roles_read=tuple(RoleName), iommu=replace(recorded.iommu, enabled=True))
    made = planner.plan(host, profiles.load("performance")[0])
    there = [f for d in made.decisions for a in d.functions if (f := host.by_address.get(a)) is not None]
    return {f.address for f in there if f.driver not in {"vfio-pci", "pci-stub"}}


@pytest.mark.parametrize("path", HOSTS, ids=lambda p: p.stem)
def test_nothing_that_programs_have_open_or_firmware_wants_for_itself_is_taken(path: Path) -> None:
    assert moved(path, holders=("Xorg",)) == set()
    assert moved(path, reserved_memory=("0x1000-0x1fff",)) == set(), "but virtual functions that are still to be made"


def test_without_such_uses_something_is_taken_of_recorded_pcs() -> None:
    assert any(moved(path, holders=(), reserved_memory=()) for path in HOSTS)


def test_the_report_of_a_pc_names_the_programs_that_have_a_card_open() -> None:
    text = "\n".join(report.lines(Host(pci=(but(GPU, holders=("Xorg", "mpv")), IGPU))))
    assert "open in Xorg, mpv" in text
    assert text.count("open in") == 1
