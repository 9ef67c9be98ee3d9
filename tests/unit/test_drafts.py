"""Profiles made of answers: what is proposed, what is written, and that it is read and planned as it was meant."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import msgspec
import pytest

from clienthv import api, drafts, planner, profiles
from clienthv.drafts import Draft, Gpu
from clienthv.model import profile as profile_model
from clienthv.model.guest import built_in
from clienthv.model.host import Cpu, Host, Memory
from clienthv.model.plan import Kind, Plan, Strategy
from clienthv.model.profile import Profile, ProfileText
from clienthv.model.roles import RoleName
from clienthv.report.drafts import consequences

HOSTS = Path(__file__).resolve().parent.parent / "hosts"
PC = api.load_host(HOSTS / "desk-x570-3rdgen-rx580-gt710-b.json")
FREE, NEEDED = drafts.gpus(api.devices(PC), PC)


def read(text: str) -> Profile:
    written = ProfileText(name="made", origin="made.toml", text=text)
    return profile_model.parse(profile_model.chain_of(written, profiles.find_next))


def draft(os: str = "linux", host: Host = PC, gpu: Gpu | None = None, **more: object) -> Draft:
    guest = built_in(os)
    portability = more.get("portability", "balanced")
    given = {
        "virtio": guest.family != "windows",
        "size": drafts.size_for(guest, portability, host),  # type: ignore[arg-type]
        "driver": drafts.driver_of(gpu, host) if gpu is not None else None,
        "allow": gpu.roles if gpu is not None else (),
        **more,
    }
    return Draft(name="made", guest=guest, gpu=gpu, **given)  # type: ignore[arg-type]


def planned(made: Draft, host: Host = PC) -> Plan:
    return planner.plan(host, read(drafts.text(made)), guest=made.guest)


@pytest.mark.parametrize("os", ["linux", "debian11", "win11", "win10", "winxp", "win98", "freebsd13.1", "unknown"])
@pytest.mark.parametrize("portability", drafts.PORTABILITIES)
def test_every_draft_is_a_profile_that_can_be_used_and_planned(os: str, portability: str) -> None:
    for gpu in (None, FREE, NEEDED):
        made = draft(os, gpu=gpu, portability=portability)
        profile = read(drafts.text(made))
        assert profile.guest.os == os
        assert profile.description
        assert planner.plan(PC, profile, guest=made.guest).decisions


def test_a_system_that_asks_for_less_than_a_profile_may_say_is_given_that() -> None:
    old = msgspec.structs.replace(built_in("win98"), min_memory_mib=16)
    made = msgspec.structs.replace(draft("win98"), guest=old, size=drafts.size_for(old, "balanced", PC))
    assert read(drafts.text(made)).size.memory_min == "64 MiB"


def test_a_free_card_is_handed_over_with_the_driver_it_needs() -> None:
    plan = planned(draft("debian11", gpu=FREE))
    gpu = next(d for d in plan.decisions if d.kind is Kind.GPU)
    assert (gpu.strategy, gpu.device) == (Strategy.PASSTHROUGH, FREE.address)
    assert read(drafts.text(draft(gpu=FREE))).guest.drivers == ("virtio", "amd")


def test_a_card_that_the_host_needs_is_handed_over_only_with_its_danger_written_down() -> None:
    meant = draft(gpu=NEEDED)
    assert NEEDED.roles == (RoleName.BOOT_DISPLAY,)
    assert "DANGER" in drafts.text(meant)
    assert read(drafts.text(meant)).devices.gpu.allow == (RoleName.BOOT_DISPLAY,)
    careful = msgspec.structs.replace(meant, allow=())
    assert "DANGER" not in drafts.text(careful)
    gpu = next(d for d in planned(careful).decisions if d.kind is Kind.GPU)
    assert gpu.strategy is not Strategy.PASSTHROUGH
    assert next(d for d in planned(meant).decisions if d.kind is Kind.GPU).device == NEEDED.address


def test_what_is_not_known_of_a_card_is_not_said_as_if_it_were() -> None:
    host = api.load_host(HOSTS / "laptop-msi-gf72-8750h-gtx1060m.json")
    card = drafts.gpus(api.devices(host), host)[0]
    assert card.roles == (RoleName.BOOT_DISPLAY,)
    assert card.dangers[0].startswith("it is not known whether")
    assert not NEEDED.dangers[0].startswith("it is not known whether")


def test_cards_are_listed_free_ones_first_without_their_sound_or_virtual_functions() -> None:
    assert [(g.address, g.free) for g in (FREE, NEEDED)] == [("0000:2e:00.0", True), ("0000:2d:00.0", False)]
    host = api.load_host(HOSTS / "is-adl-n-7vfs-i915.json")
    assert [g.address for g in drafts.gpus(api.devices(host), host)] == ["0000:00:02.0"]


def test_a_draft_for_the_most_of_a_pc_can_leave_the_card_to_the_ladder() -> None:
    profile = read(drafts.text(draft("debian11", portability="performance", auto=True)))
    assert profile.ladder(Kind.GPU)[0] is Strategy.PASSTHROUGH
    assert set(profile.guest.drivers) == {"virtio", "nvidia", "amd", "intel"}
    closed = read(drafts.text(draft("debian11", portability="performance")))
    assert Strategy.PASSTHROUGH not in closed.ladder(Kind.GPU)


def test_windows_11_gets_secure_boot_and_a_tpm_wherever_it_starts_from() -> None:
    for portability in drafts.PORTABILITIES:
        profile = read(drafts.text(draft("win11", portability=portability)))
        assert profile.ladder(Kind.FIRMWARE)[0] is Strategy.UEFI_SECURE_BOOT
        assert profile.ladder(Kind.TPM) == (Strategy.EMULATED, Strategy.PASSTHROUGH)


def test_a_windows_without_virtio_gets_emulated_devices_and_with_it_fast_ones() -> None:
    for virtio, strategy in ((False, Strategy.EMULATED), (True, Strategy.PARAVIRTUAL)):
        plan = planned(draft("win10", virtio=virtio))
        assert {d.strategy for d in plan.decisions if d.kind in (Kind.DISK, Kind.NIC)} == {strategy}


def test_an_image_that_does_not_start_from_virtio_gets_another_disk() -> None:
    made = draft("debian11", no_virtio_disk="initrd.img has no virtio_blk\nschema = 9")
    assert read(drafts.text(made)).ladder(Kind.DISK) == (Strategy.EMULATED,)
    assert planned(made).decisions


def test_names_from_elsewhere_stay_in_their_comment() -> None:
    device = msgspec.structs.replace(FREE.device, name='Evil"\n[boot]\nkernel = "/etc/shadow"\x00\u2028 """ Card')
    text = drafts.text(draft(gpu=Gpu(device, ()), usb=("class:webcam",)))
    data = tomllib.loads(text)
    assert "boot" not in data
    assert data["devices"]["gpu"]["select"] == [FREE.address]
    assert read(text).devices.usb.devices == ("class:webcam",)


@pytest.mark.parametrize("os", ["linux", "win11", "win98", "winxp"])
def test_a_size_is_bounded_by_the_pc_and_by_what_the_guest_can_use(os: str) -> None:
    guest = built_in(os)
    for threads, memory, portability in itertools.product((1, 6, 64, None), (2048, 65536, None), drafts.PORTABILITIES):
        host = Host(cpu=Cpu(threads=threads), memory=Memory(total_mib=memory, available_mib=memory))
        size = drafts.size_for(guest, portability, host)
        assert 1 <= size.least_vcpus <= size.vcpus <= min(threads or 8, guest.max_vcpus or 8)
        assert 0 < size.least_memory_mib <= size.memory_mib <= max(1024, (memory or 1 << 20) // 2)
        assert size.memory_mib <= (guest.max_memory_mib or size.memory_mib)
        read(drafts.text(draft(os, host, size=size, portability=portability)))


def test_a_name_is_made_of_an_id() -> None:
    assert drafts.name_for(built_in("ubuntu24.04")) == "ubuntu24-04"
    assert profile_model.PROFILE_NAME.match(drafts.name_for(built_in("a" * 64)))


def test_an_answer_says_what_it_changes_and_whether_it_ties_the_vm_to_the_pc() -> None:
    balanced, with_card = planned(draft("debian11")), planned(draft("debian11", gpu=FREE))
    first = list(consequences(None, balanced))
    assert any("while it runs only to one whose processor has all that this one's has" in line for line in first)
    level = read(drafts.text(draft("debian11")) + '[devices.cpu]\nmodel = "x86-64-v2"\n')
    free = consequences(None, planner.plan(PC, level, guest=built_in("debian11")))
    assert any("nothing ties it to this PC" in line for line in free)
    then = list(consequences(balanced, with_card, (FREE.address,)))
    assert any(line.startswith(f"  → gpu: passthrough: {FREE.address} ") for line in then)
    assert then[-1] == "  → tied to this PC by its gpu"
    assert list(consequences(with_card, with_card)) == ["  → changes nothing on this PC"]


def test_a_card_that_was_asked_for_and_is_refused_comes_with_the_reason_and_the_fix() -> None:
    host = api.load_host(HOSTS / "lab-iommu-off.json")
    card = next(g for g in drafts.gpus(api.devices(host), host) if not g.roles)
    before, after = planned(draft("debian11", host), host), planned(draft("debian11", host, card), host)
    said = "\n".join(consequences(before, after, (card.address,)))
    assert f"gpu: not passthrough {card.address}: " in said
    assert "[iommu-off]" in said
    assert "to change that:" in said
