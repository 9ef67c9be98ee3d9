"""Sharing a GPU as mediated devices: which type, what speaks against it, the domain, and the change on the host."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from msgspec.structs import replace

from clienthv import hostchanges, joint, journal, planner
from clienthv.errors import HostError, PlanError, ProfileError
from clienthv.hostchanges import Fate, RefusedError
from clienthv.inspect import anonymise, read
from clienthv.joint import Wish
from clienthv.lifecycle import keeping, returning
from clienthv.lifecycle.keeping import Asked
from clienthv.lifecycle.returning import Site
from clienthv.model import host as host_model
from clienthv.model.change import Change, Setting, What, check
from clienthv.model.host import DomainCapabilities, Host, Kvm, PciFunction, RoleName, Stack
from clienthv.model.mdev import is_uuid, uuid_of
from clienthv.model.particulars import Mdev, MdevType, Particulars
from clienthv.model.plan import Decision, Kind, Plan, Reason, Strategy
from clienthv.model.profile import Profile, ProfileText, parse
from clienthv.model.vm import Vm
from clienthv.render import render
from clienthv.report import plans as report
from clienthv.strategies import Kept

ADDRESS = "0000:00:02.0"
SMALL = MdevType(
    id="i915-GVTg_V5_8",
    description="low_gm_size: 64MB, high_gm_size: 384MB",
    available=2,
    api="vfio-pci",
    writable=True,
)
LARGE = MdevType(
    id="i915-GVTg_V5_4",
    description="low_gm_size: 128MB, high_gm_size: 512MB",
    available=1,
    api="vfio-pci",
    writable=True,
)
OFFERED = DomainCapabilities(
    domain_type="kvm", firmware=("efi",), cpu_modes=("host-model",), video_models=("virtio", "vga", "bochs", "none"),
    graphics=("spice", "vnc", "egl-headless"),
)  # fmt: skip


def gpu(*types: MdevType, known: bool = True, **more: Any) -> PciFunction:
    return PciFunction(
        address=ADDRESS, class_code="030000", vendor_id="8086", device_id="5916", driver="i915", boot_vga=True,
        render_node="renderD128",
        particulars=Particulars(mdev_types=types if known else None, **more),
    )  # fmt: skip


def pc(*functions: PciFunction) -> Host:
    return Host(
        pci=functions,
        kvm=Kvm(usable=True),
        roles_read=tuple(RoleName),
        stack=Stack(uri="qemu:///system", privileged=True, capabilities=OFFERED),
    )


def profile(more: str = "", drivers: str = "intel") -> Profile:
    text = f'[guest]\ndrivers = ["virtio", "{drivers}"]\n[devices.gpu]\nprefer = ["mdev", "emulated"]\n{more}'
    return parse((ProfileText("test", "test.toml", text),))


def planned(*functions: PciFunction, more: str = "", drivers: str = "intel", kept: Kept | None = None) -> Plan:
    return planner.plan(pc(*functions), profile(more, drivers), kept=kept)


def decided(*functions: PciFunction, **more: Any) -> Decision:
    return planned(*functions, **more).of(Kind.GPU)


def refused(*functions: PciFunction, **more: Any) -> Any:
    decision = decided(*functions, **more)
    assert decision.strategy is Strategy.EMULATED, "it was taken"
    (objection,) = decision.rejected
    return objection


# --- which type


def test_the_largest_type_is_taken_and_the_gpu_stays_with_the_host() -> None:
    decision = decided(gpu(SMALL, LARGE))
    assert (decision.strategy, decision.device, decision.model) == (Strategy.MDEV, ADDRESS, LARGE.id)
    assert decision.functions == ()


def test_a_type_that_is_used_up_leaves_the_next_smaller_one() -> None:
    decision = decided(gpu(SMALL, replace(LARGE, available=0)))
    assert decision.model == SMALL.id
    assert [r.reason for r in decision.rejected] == [Reason.MDEV_USED_UP]


def test_nvidias_types_are_ordered_by_their_memory() -> None:
    types = [
        MdevType(id=f"nvidia-{n}", description=f"num_heads=4, framebuffer={m}M", available=i, api="vfio-pci")
        for n, m, i in ((63, 1024, 8), (65, 8192, 1), (64, 4096, 2))
    ]  # fmt: skip
    card = replace(gpu(*types), vendor_id="10de")
    assert decided(card, drivers="nvidia").model == "nvidia-65"


def test_the_profile_names_the_type() -> None:
    assert decided(gpu(SMALL, LARGE), more='mdev_type = "i915-GVTg_V5_8"').model == SMALL.id
    objection = refused(gpu(SMALL, LARGE), more='mdev_type = "nvidia-63"')
    assert objection.reason is Reason.NO_MDEV_TYPE
    assert SMALL.id in objection.detail
    assert LARGE.id in objection.fix


@pytest.mark.parametrize("value", ["../../evil", "a b", "", "a" * 65])
def test_what_is_no_type_is_refused(value: str) -> None:
    with pytest.raises(ProfileError, match="mdev_type"):
        profile(f"mdev_type = {json.dumps(value)}")


def test_only_a_gpu_has_a_type() -> None:
    with pytest.raises(ProfileError, match="only the gpu"):
        profile('[devices.nic]\nmdev_type = "nvidia-63"')


def test_a_vm_keeps_the_type_that_its_guest_knows() -> None:
    had = decided(gpu(SMALL))
    assert decided(gpu(SMALL, LARGE), kept=Kept(decisions={Kind.GPU: had})).model == SMALL.id


# --- what speaks against it


def test_a_gpu_without_types_cannot_be_shared() -> None:
    assert refused(gpu()).reason is Reason.NO_MDEV_TYPE
    assert "enable_gvt" in refused(gpu()).fix


def test_what_is_unknown_is_not_planned_on() -> None:
    assert refused(gpu(known=False)).reason is Reason.MDEV_UNKNOWN
    assert refused(gpu(replace(SMALL, available=None))).reason is Reason.MDEV_UNKNOWN


def test_a_user_who_may_not_make_one_gets_none() -> None:
    assert refused(gpu(replace(SMALL, writable=False))).reason is Reason.NO_PRIVILEGE


def test_a_guest_without_a_driver_for_the_maker_gets_none() -> None:
    assert refused(gpu(SMALL), drivers="nvidia").reason is Reason.NO_GUEST_DRIVER


def test_a_type_for_other_machines_is_none_for_a_pc() -> None:
    assert refused(gpu(replace(SMALL, api="vfio-ccw"))).reason is Reason.NOT_IN_QEMU


def test_another_gpu_than_the_one_that_is_selected_is_not_shared() -> None:
    assert refused(gpu(SMALL), more='select = ["0000:09:00.0"]').reason is Reason.NOT_SELECTED


def test_the_device_that_was_made_for_this_vm_before_is_not_in_its_way() -> None:
    mine = Mdev(uuid=uuid_of("mine"), type=LARGE.id)
    card = gpu(replace(LARGE, available=0, writable=False), mdevs=(mine,))
    assert decided(card, kept=Kept(mdev=uuid_of("mine"))).strategy is Strategy.MDEV
    assert refused(card, kept=Kept(mdev=uuid_of("other"))).reason is Reason.MDEV_USED_UP


def test_as_many_vms_have_a_type_as_there_are_instances_of_it() -> None:
    card = gpu(replace(SMALL, available=2))
    plans = joint.plan(pc(card), [Wish(name, profile()) for name in "abc"])
    strategies = [member.plan.of(Kind.GPU).strategy for member in plans.vms if member.plan is not None]
    assert strategies[:2] == [Strategy.MDEV, Strategy.MDEV]
    assert strategies[2] is not Strategy.MDEV


def test_all_types_of_a_card_draw_on_one_stock_and_who_has_it_is_named() -> None:
    card = gpu(replace(SMALL, available=4), replace(LARGE, available=2))
    small = profile(f'mdev_type = "{SMALL.id}"')
    plans = joint.plan(pc(card), [Wish("a", profile()), Wish("b", small), Wish("c", profile()), Wish("d", small)])
    gpus = [member.plan.of(Kind.GPU) for member in plans.vms if member.plan is not None]
    assert [g.model for g in gpus if g.strategy is Strategy.MDEV] == [LARGE.id, SMALL.id, SMALL.id]
    lost = next(g for g in gpus if g.strategy is not Strategy.MDEV)
    assert {r.reason for r in lost.rejected if r.device} == {Reason.GIVEN_TO_OTHER_VM}
    assert "VM a" in lost.rejected[0].detail
    text = "\n".join(report.together(plans))
    assert "goes to a as gpu0" in text


# --- the domain


def domain(*functions: PciFunction, more: str = "") -> etree._Element:
    plan = planned(*functions, more=more)
    return etree.fromstring(render(Vm(name="guest", plan=plan, profile=()), pc(*functions)).encode())


def test_the_domain_has_the_device_by_a_name_that_follows_from_the_vms() -> None:
    xml = domain(gpu(LARGE))
    (device,) = xml.findall("devices/hostdev")
    assert (device.get("type"), device.get("model"), device.get("display")) == ("mdev", "vfio-pci", "on")
    assert device.find("source/address").get("uuid") == uuid_of("guest")
    assert xml.find("devices/graphics[@type='egl-headless']") is not None
    assert xml.find("devices/video/model").get("type") == "bochs"


def test_without_a_screen_nothing_is_shown() -> None:
    xml = domain(gpu(LARGE), more='[devices.display]\nprefer = ["omit"]')
    assert xml.find("devices/hostdev").get("display") == "off"
    assert xml.find("devices/graphics") is None


def test_the_name_is_a_uuid_and_each_vms_own() -> None:
    assert uuid_of("a") == uuid_of("a") != uuid_of("b")
    assert is_uuid(uuid_of("a"))
    assert uuid_of("a")[14] == "8", "RFC 9562: of the version that is made in one's own way"


# --- reading and changing the host


class SharedGpu:
    """A GPU that can be shared, below a root of its own, as the kernel shows it."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.folder = root / "sys/devices/pci0000:00" / ADDRESS
        self.devices = root / "sys/bus/mdev/devices"
        self.devices.mkdir(parents=True)
        for kind, left in ((SMALL, 2), (LARGE, 1)):
            folder = self.folder / "mdev_supported_types" / kind.id
            folder.mkdir(parents=True)
            for name, text in {
                "name": kind.id, "available_instances": str(left), "device_api": "vfio-pci", "create": "",
                "description": str(kind.description).replace(", ", "\n"),
            }.items():  # fmt: skip
                (folder / name).write_text(f"{text}\n")
        for name, text in {"vendor": "0x8086", "device": "0x5916", "class": "0x030000", "boot_vga": "1"}.items():
            (self.folder / name).write_text(f"{text}\n")
        bus = root / "sys/bus/pci/devices"
        bus.mkdir(parents=True)
        (bus / ADDRESS).symlink_to(self.folder)
        boot = root / "proc/sys/kernel/random/boot_id"
        boot.parent.mkdir(parents=True)
        boot.write_text("11111111-2222-3333-4444-555555555555\n")
        self.refusal: OSError | None = None

    def left(self, kind: MdevType) -> int:
        return int((self.folder / "mdev_supported_types" / kind.id / "available_instances").read_text())

    def there(self) -> list[str]:
        return sorted(link.name for link in self.devices.iterdir())

    def wrote(self, path: Path, value: str) -> None:
        """What the kernel does when a file was written."""
        if self.refusal is not None:
            raise self.refusal
        if path.name == "create":
            made = self.folder / value
            made.mkdir()
            (made / "mdev_type").symlink_to(path.parent)
            (made / "remove").write_text("")
            (self.devices / value).symlink_to(made)
            self._count(path.parent, -1)
        elif path.name == "remove":
            device = path.parent.resolve()
            self._count((device / "mdev_type").resolve(), 1)
            (self.devices / device.name).unlink()
            shutil.rmtree(device)

    def _count(self, kind: Path, more: int) -> None:
        file = kind / "available_instances"
        file.write_text(f"{int(file.read_text()) + more}\n")

    def open_in(self, name: str, uuid: str) -> None:
        """Let a program have a device open."""
        group = Path(self.root, "sys/kernel/iommu_groups/42")
        group.mkdir(parents=True)
        (self.devices / uuid / "iommu_group").symlink_to(group)
        process = Path(self.root, "proc/77")
        (process / "fd").mkdir(parents=True)
        (process / "comm").write_text(f"{name}\n")
        (process / "fd/9").symlink_to("/dev/vfio/42")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedGpu:
    made = SharedGpu(tmp_path / "pc")
    put = hostchanges._put

    def putting(device: str, file: str, value: str, root: str) -> None:
        put(device, file, value, root)
        try:
            made.wrote(Path(root, "sys/bus/pci/devices", device, file), value)
        except OSError as e:
            raise RefusedError(f"the kernel refused: {e.strerror}") from e

    monkeypatch.setattr(hostchanges, "_put", putting)
    monkeypatch.setattr(hostchanges, "WITHIN", 0.3)
    return made


UUID = uuid_of("guest")


def change(after: str = LARGE.id, before: str = "none", uuid: str = UUID) -> Change:
    setting = Setting(what=What.CREATE_MDEV, device=ADDRESS, mdev=uuid)
    return Change(setting=setting, before=before, after=after)


def test_types_and_devices_are_read_and_an_anonymised_document_has_no_uuid(shared: SharedGpu) -> None:
    hostchanges.make(change(), shared.root)
    host = read(shared.root)
    known = host.by_address[ADDRESS].known
    assert known.mdevs == (Mdev(uuid=UUID, type=LARGE.id),)
    assert known.mdev_types is not None
    small, large = sorted(known.mdev_types, key=lambda t: t.id, reverse=True)
    assert (small.available, large.available, small.api, small.writable) == (2, 0, "vfio-pci", True)
    assert large.description == LARGE.description
    document = host_model.encode(anonymise(host))
    assert UUID not in document.decode()
    assert host_model.decode(document, "test").by_address[ADDRESS].known.mdev_types == known.mdev_types


def test_a_gpu_that_cannot_be_shared_is_known_as_such(shared: SharedGpu) -> None:
    shutil.rmtree(shared.folder / "mdev_supported_types")
    assert read(shared.root).by_address[ADDRESS].known.mdev_types == ()
    assert hostchanges.value_of(change().setting, shared.root) is None


def test_a_device_is_made_and_removed_again(shared: SharedGpu) -> None:
    assert hostchanges.value_of(change().setting, shared.root) == "none"
    hostchanges.make(change(), shared.root)
    assert shared.there() == [UUID]
    assert shared.left(LARGE) == 0
    assert hostchanges.value_of(change().setting, shared.root) == LARGE.id
    assert hostchanges.take_back(change(), shared.root).fate is Fate.UNDONE
    assert shared.there() == []
    assert shared.left(LARGE) == 1
    assert hostchanges.take_back(change(), shared.root).fate is Fate.NOTHING_TO_UNDO


def test_a_device_of_another_type_makes_place_for_the_one_that_is_wanted(shared: SharedGpu) -> None:
    hostchanges.make(change(SMALL.id), shared.root)
    hostchanges.make(change(LARGE.id, before=SMALL.id), shared.root)
    assert hostchanges.value_of(change().setting, shared.root) == LARGE.id
    assert (shared.left(SMALL), shared.left(LARGE)) == (2, 0)


def test_a_device_is_not_removed_from_under_its_user(shared: SharedGpu) -> None:
    hostchanges.make(change(), shared.root)
    shared.open_in("qemu-system-x86", UUID)
    outcome = hostchanges.take_back(change(), shared.root)
    assert outcome.fate is Fate.STILL_NEEDED
    assert "qemu-system-x86 has it open" in outcome.words
    assert shared.there() == [UUID]


def test_what_the_kernel_refuses_is_told(shared: SharedGpu) -> None:
    shared.refusal = OSError(28, "No space left on device")
    with pytest.raises(RefusedError, match="No space left"):
        hostchanges.make(change(), shared.root)


@pytest.mark.parametrize(
    "wrong",
    [
        change(uuid="../../../etc"),
        change(after="../evil"),
        change(after="a/b"),
        Change(setting=Setting(what=What.CREATE_MDEV, device=ADDRESS), before="none", after=LARGE.id),
        Change(setting=Setting(what=What.CREATE_VFS, device=ADDRESS, mdev=UUID), before="0", after="1"),
    ],
)
def test_nothing_else_can_be_named(wrong: Change) -> None:
    with pytest.raises(ValueError, match=r"create-mdev|create-vfs"):
        check(wrong)


class Libvirt:
    """A connection on which nothing runs."""

    uri = "qemu:///system"

    def stack(self, **_: Any) -> Stack:
        return Stack(uri=self.uri, privileged=True, capabilities=OFFERED)

    def find(self, name: str) -> None:
        return None

    def revive(self) -> bool:
        return False


def site(shared: SharedGpu, name: str = "guest") -> Site:
    return Site(Libvirt(), name, shared.root)  # type: ignore[arg-type]


@pytest.fixture
def started(shared: SharedGpu, prepared: Callable[..., Any]) -> Callable[..., Plan]:
    """Starts a VM, or fails to; its plan."""

    def start(name: str = "guest", fail: BaseException | None = None) -> Plan:
        def begin(_: Any) -> None:
            if fail is not None:
                raise fail

        wish = keeping.with_mdev(Asked(profile()), name)
        plan: Plan = prepared(site(shared, name), wish, lambda _: None, begin).plan
        return plan

    return start


def test_up_makes_the_device_and_down_removes_it(shared: SharedGpu, started: Any) -> None:
    plan = started()
    assert [c.action for c in plan.host_changes] == ["create-mdev"]
    assert shared.there() == [UUID]
    (entry,) = journal.read(returning.where(shared.root))
    assert (entry.change, entry.owners[0].vm) == (change(), "guest")
    (sentence,) = returning.settle(site(shared), lambda _: None)
    assert UUID in sentence
    assert shared.there() == []
    assert journal.read(returning.where(shared.root)) == ()


def test_a_start_that_fails_leaves_no_device(shared: SharedGpu, started: Any) -> None:
    with pytest.raises(HostError, match="no"):
        started(fail=HostError("no"))
    assert shared.there() == []


def test_a_device_that_a_stopped_vm_left_is_taken_again_and_still_removed(shared: SharedGpu, started: Any) -> None:
    started()
    plan = started()
    assert plan.of(Kind.GPU).model == LARGE.id
    assert shared.there() == [UUID]
    returning.settle(site(shared), lambda _: None)
    assert shared.there() == []


def test_a_second_vm_gets_the_next_type(shared: SharedGpu, started: Any) -> None:
    started()
    assert started("other").of(Kind.GPU).model == SMALL.id
    assert shared.there() == sorted([UUID, uuid_of("other")])


def test_a_card_that_refuses_leaves_the_next_strategy_and_no_trace(shared: SharedGpu, started: Any) -> None:
    shared.refusal = OSError(5, "Input/output error")
    decision = started().of(Kind.GPU)
    assert decision.strategy is Strategy.EMULATED
    assert Reason.MDEV_USED_UP in {r.reason for r in decision.rejected}
    assert "Input/output error" in decision.rejected[0].detail
    assert journal.read(returning.where(shared.root)) == ()


def test_a_card_that_is_required_to_be_shared_and_cannot_be_is_no_plan() -> None:
    with pytest.raises(PlanError, match="no-mdev-type"):
        planned(gpu(), more='require = ["mdev"]')
