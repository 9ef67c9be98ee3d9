"""Every recorded PC gives the plan and the domain that were looked at and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jsonschema
import msgspec
import pytest

from clienthv import api, guests, planner, profiles, render
from clienthv.errors import PlanError
from clienthv.model import devices as devices_model
from clienthv.model import host as host_model
from clienthv.model import plan as plan_model
from clienthv.model import schemas
from clienthv.model.plan import STRATEGIES, Reason, Strategy
from clienthv.model.profile import ProfileText, chain_of, parse
from clienthv.model.vm import Options, Vm
from clienthv.report import devices as report

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
HOSTS = sorted((REPOSITORY / "tests" / "hosts").glob("*.json"), key=lambda p: p.stem)
SCHEMAS = REPOSITORY / "docs" / "schemas"
PROFILES = ("performance", "balanced")
OF_NAMED = {
    Reason.USB_UNKNOWN, Reason.NOT_PLUGGED_IN, Reason.SEVERAL_MATCH, Reason.IS_HUB, Reason.NO_USB_CONTROLLER,
    Reason.ONLY_KEYBOARD, Reason.USB_CLASS_UNKNOWN,
    Reason.NETWORKS_UNKNOWN, Reason.NO_BRIDGE, Reason.NO_NETWORK, Reason.NETWORK_INACTIVE, Reason.NO_INTERFACE,
    Reason.LINK_DOWN, Reason.WIRELESS, Reason.NO_PASST, Reason.EVENTS_UNKNOWN,
    Reason.NO_EVENT_DEVICE,
}  # fmt: skip
"""What only a profile that names USB devices, networks or keyboards can meet; the shipped ones name none."""

Golden = Callable[[Path, bytes], None]


def recorded(name: str) -> host_model.Host:
    return host_model.decode((REPOSITORY / "tests" / "hosts" / f"{name}.json").read_bytes(), name)


def planned(path: Path, profile: str) -> tuple[host_model.Host, Vm]:
    host = host_model.decode(path.read_bytes(), path.name)
    wanted, _ = profiles.load(profile)
    plan = planner.plan(host, wanted)
    options = Options(disk="/srv/images/desktop.qcow2", disk_format="qcow2")
    return host, Vm(name="desktop", plan=plan, profile=(), options=options)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("path", HOSTS, ids=lambda p: p.stem)
def test_a_recorded_pc_gives_the_plan_and_the_domain_that_were_kept(path: Path, profile: str, golden: Golden) -> None:
    host, vm = planned(path, profile)
    plan = plan_model.encode(vm.plan)
    jsonschema.validate(msgspec.json.decode(plan), schemas.schema("plan"))
    golden(HERE / profile / f"{path.stem}.plan.json", plan)
    xml = render.render(vm, host)  # checked against domain.rng inside
    golden(HERE / profile / f"{path.stem}.domain.xml", without_plan(xml))


@pytest.mark.parametrize("profile", ["mixed", "linux-desktop", "headless"])
@pytest.mark.parametrize("name", ["fa-desk-9950x3d-rtx4080-x870e", "lab-full"])
def test_the_other_shipped_profiles_give_the_domains_that_were_kept(name: str, profile: str, golden: Golden) -> None:
    host, vm = planned(REPOSITORY / "tests" / "hosts" / f"{name}.json", profile)
    golden(HERE / "shipped" / f"{profile}.{name}.domain.xml", render.render(vm, host).encode())


def without_plan(xml: str) -> bytes:
    """The domain without the copy of the plan in its metadata, which has a golden file of its own."""
    before, _, rest = xml.partition("<metadata>")
    return (before + rest.partition("</metadata>")[2].lstrip("\n")).encode()


SHIPPED = ("windows-11", "windows-gaming", "legacy-windows")
SHIPPED_HOSTS = ("desk-x570-3rdgen-rx580-gt710-b", "fa-desk-9950x3d-rtx4080-x870e")


@pytest.mark.parametrize("profile", SHIPPED)
@pytest.mark.parametrize("name", SHIPPED_HOSTS)
def test_a_shipped_profile_gives_the_plan_that_was_looked_at(name: str, profile: str, golden: Golden) -> None:
    host = recorded(name)
    try:
        plan = api.plan(host, api.load_profile(profile))
        assert render.render(Vm(name="guest", plan=plan, profile=()), host)
        text = plan_model.encode(plan)
    except PlanError as e:
        text = f"{e}\n".encode()
    golden(HERE / "shipped" / f"{name}.{profile}.plan", text)


GUESTS = ("win11", "win98", "unknown")
GUEST_HOSTS = ("desk-x570-3rdgen-rx580-gt710-b", "desk-7950x-raphael-igpu")


@pytest.mark.parametrize("os", GUESTS)
@pytest.mark.parametrize("name", GUEST_HOSTS)
def test_a_guest_gets_the_devices_that_it_can_drive(name: str, os: str, golden: Golden) -> None:
    host = recorded(name)
    ladder = '[devices.firmware]\nprefer = ["uefi-secure-boot", "uefi", "bios"]'
    own = ProfileText(os, os, f'extends = "balanced"\n[guest]\nos = "{os}"\ndrivers = []\n{ladder}')
    plan = planner.plan(host, parse(chain_of(own, profiles.find_next)), guest=guests.read(os))
    golden(HERE / "guests" / f"{name}.{os}.plan.json", plan_model.encode(plan))
    options = Options(disk="/srv/images/guest.qcow2", disk_format="qcow2", cdrom="/srv/images/guest.iso")
    xml = render.render(Vm(name="guest", plan=plan, profile=(), options=options), host)
    golden(HERE / "guests" / f"{name}.{os}.domain.xml", without_plan(xml))


DEVICES = ("desk-x570-3rdgen-rx580-gt710-b", "fa-desk-9950x3d-rtx4080-x870e", "partial-i350-8vf")


@pytest.mark.parametrize("path", HOSTS, ids=lambda p: p.stem)
def test_the_devices_of_a_recorded_pc_follow_the_published_schema_and_get_the_verdicts_that_were_kept(
    path: Path, golden: Golden
) -> None:
    devices = api.devices(host_model.decode(path.read_bytes(), path.name))
    jsonschema.validate(msgspec.json.decode(devices_model.encode(devices)), schemas.schema("devices"))
    if path.stem in DEVICES:
        golden(HERE / "devices" / f"{path.stem}.txt", "".join(f"{line}\n" for line in report.lines(devices)).encode())


def test_libvirts_schema_is_installed_so_that_domains_are_really_checked() -> None:
    assert render.schema_path() is not None


def test_no_golden_file_is_left_over_from_a_pc_that_is_gone() -> None:
    kept = {p.name.split(".")[0] for profile in PROFILES for p in (HERE / profile).iterdir()}
    assert kept == {p.stem for p in HOSTS}
    assert {p.stem for p in (HERE / "devices").iterdir()} == set(DEVICES)
    assert {p.stem for p in (HERE / "shipped").glob("*.plan")} == {f"{n}.{p}" for n in SHIPPED_HOSTS for p in SHIPPED}
    of_guests = {p.name.removesuffix(".plan.json") for p in (HERE / "guests").glob("*.plan.json")}
    assert of_guests == {f"{name}.{os}" for name in GUEST_HOSTS for os in GUESTS}


@pytest.mark.parametrize("path", HOSTS, ids=lambda p: p.stem)
def test_recorded_pcs_follow_the_published_schema_and_are_written_as_clienthv_writes(path: Path) -> None:
    data = path.read_bytes()
    jsonschema.validate(msgspec.json.decode(data), schemas.schema("host"))
    assert host_model.encode(host_model.decode(data, path.name)) == data


@pytest.mark.parametrize("name", sorted(schemas.DOCUMENTS))
def test_the_published_schema_is_the_one_the_code_has(name: str, golden: Golden) -> None:
    text = msgspec.json.format(msgspec.json.encode(schemas.schema(name)), indent=1) + b"\n"
    golden(SCHEMAS / f"{name}.json", text)


def all_plans() -> list[plan_model.Plan]:
    files = sorted(p for profile in PROFILES for p in (HERE / profile).glob("*.plan.json"))
    return [plan_model.decode(p.read_bytes(), p.name) for p in files]


def test_the_recorded_pcs_exercise_most_of_the_vocabulary() -> None:
    decisions = [d for plan in all_plans() for d in plan.decisions]
    strategies = {d.strategy for d in decisions} | {r.strategy for d in decisions for r in d.rejected}
    assert {s for s in Strategy if s is not Strategy.UEFI_SECURE_BOOT} - strategies == {Strategy.OMIT}
    assert {d.kind for d in decisions} == set(STRATEGIES)
    assert len({r.reason for d in decisions for r in d.rejected}) >= len(set(Reason) - OF_NAMED) // 2
