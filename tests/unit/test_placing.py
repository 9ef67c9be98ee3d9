"""What a stranger's bundle may say, and where its files go: nowhere else, over nothing, and away again."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clienthv import bundles, journal, places, planner, render
from clienthv.bundles import DiskPart, Parts
from clienthv.errors import ClienthvError, DiskError, RefusedError, UsageError
from clienthv.journal import Owner
from clienthv.lifecycle import importing, placing, returning
from clienthv.lifecycle.importing import Request
from clienthv.lifecycle.placing import Placing
from clienthv.lifecycle.returning import Site
from clienthv.model import profile
from clienthv.model.host import Cpu, Host, Kvm, Memory, RoleName
from clienthv.model.plan import Kind, Strategy
from clienthv.model.profile import ProfileText
from clienthv.model.refusals import Refusal
from clienthv.model.vm import Options, Seen, Vm

UUID = "11111111-2222-3333-4444-555555555555"
OWNER = Owner("desk", "qemu:///test")


def definition() -> str:
    """A VM as clienthv defines it, on a PC with little."""
    host = Host(
        name="pc", cpu=Cpu(architecture="x86_64", threads=8), memory=Memory(total_mib=16384), pci=(),
        kvm=Kvm(usable=True), roles_read=tuple(RoleName),
    )  # fmt: skip
    chain = (ProfileText("desk", "desk.toml", "[guest]\ndrivers = ['virtio']\n"),)
    plan = planner.plan(host, profile.parse(chain))
    options = Options(disk="/elsewhere/desk.img", disk_format="raw")
    return render.render(Vm(name="desk", plan=plan, profile=chain, options=options, seen=Seen(uuid=UUID)), host)


def reader(text: str, **more: Any) -> bundles.Reader:
    stream = io.BytesIO()
    bundles.write(stream, Parts(vm="desk", definition=text.encode(), created_by="a stranger", **more))
    stream.seek(0)
    return bundles.open_bundle(stream)


def metadata(text: str, name: str, value: str) -> str:
    """The definition with another text in one of clienthv's elements."""
    begin, end = f"<clienthv:{name}>", f"</clienthv:{name}>"
    head, _, rest = text.partition(begin)
    assert rest, name
    return head + begin + value.replace("&", "&amp;").replace("<", "&lt;") + end + rest.partition(end)[2]


def test_a_definition_of_clienthvs_is_read() -> None:
    brought = importing.read(reader(definition()))
    assert (brought.name, brought.uuid) == ("desk", UUID)
    assert importing.read(reader(definition()), Request(name="other")).name == "other"


@pytest.mark.parametrize(
    "uuid",
    [
        "",
        "/etc",
        "..",
        "../../../../etc",
        f"{UUID}/..",
        f"../{UUID}",
        UUID.replace("1", "A"),
        f"{UUID}\n",
        f"{{{UUID}}}",
    ],
)
def test_a_uuid_that_is_none_names_no_folder(uuid: str) -> None:
    with pytest.raises(RefusedError) as raised:
        importing.read(reader(definition().replace(UUID, uuid)))
    assert raised.value.ref == f"refused-{Refusal.BAD_DEFINITION.value}"


@pytest.mark.parametrize(
    "broken",
    [
        lambda t: t.replace(f"<uuid>{UUID}</uuid>", ""),
        lambda t: "",
        lambda t: "<domain/>",
        lambda t: t[: len(t) // 2],
        lambda t: '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>' + t.replace(UUID, "&b;"),
        lambda t: metadata(t, "options", "[" * 200_000),
        lambda t: metadata(t, "profile", "[" * 200_000),
        lambda t: metadata(t, "profile", json.dumps([])),
        lambda t: metadata(t, "profile", json.dumps([["desk", "desk.toml", "a = " + "[" * 100_000]])),
        lambda t: metadata(t, "options", json.dumps({"disk": 3})),
        lambda t: metadata(t, "plan", json.dumps({"schema": 1, "decisions": []})),
        lambda t: metadata(t, "plan", "9" * 10_000),
    ],
)
def test_a_definition_that_is_none_is_refused(broken: Callable[[str], str]) -> None:
    with pytest.raises(RefusedError):
        importing.read(reader(broken(definition())))


@pytest.mark.parametrize("name", ["..", "a/b", "-x", "a b"])
def test_a_name_that_no_vm_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        importing.read(reader(definition()), Request(name=name))


# --- where files go


class Connection:
    uri = OWNER.uri

    def __init__(self, root: Path) -> None:
        self.root = root

    def firmware_folder(self) -> Path:
        return self.root / "nvram"

    def tpm_folder(self, uuid: str) -> Path:
        return self.root / "swtpm" / uuid / "tpm2"

    def find(self, _: str) -> None:
        return None

    def domains(self) -> list[Any]:
        return []


def plan(firmware: Strategy = Strategy.UEFI, tpm: Strategy = Strategy.EMULATED) -> Any:
    taken = {Kind.FIRMWARE: firmware, Kind.TPM: tpm}
    return SimpleNamespace(of=lambda kind: SimpleNamespace(strategy=taken[kind]))


class Bundle:
    """A bundle that was taken apart, for a PC below a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.pc = root, root / "pc"
        self.pc.mkdir()
        image = root / "image"
        image.write_bytes(b"raw" * 512)
        parts = Parts(
            vm="desk", definition=b"<domain/>", created_by="x", disks=(DiskPart(image, "raw", 1536),),
            nvram=b"variables", tpm={"tpm2-00.permall": b"state"},
        )  # fmt: skip
        stream = io.BytesIO()
        bundles.write(stream, parts)
        stream.seek(0)
        opened = bundles.open_bundle(stream)
        self.folder = root / "taken-apart"
        opened.extract(self.folder)
        self.disk = self.pc / "images" / "desk.img"
        self.placed = Placing(self.folder, opened.manifest, self.disk, UUID)
        self.connection: Any = Connection(self.pc)

    def put(self, **strategies: Strategy) -> None:
        with journal.held(returning.where(), "the test") as held:
            self.placed.put(plan(**strategies), self.connection, OWNER, held)

    def take_back(self) -> None:
        returning.settle(Site(self.connection, OWNER.vm), lambda _: None)
        self.placed.remove_folders()

    def there(self) -> list[str]:
        return sorted(str(p.relative_to(self.pc)) for p in self.pc.rglob("*"))


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr(places, "is_root", lambda: False)
    return Bundle(tmp_path)


def test_each_file_has_its_place_and_goes_again(bundle: Bundle) -> None:
    bundle.put()
    assert bundle.disk.read_bytes() == b"raw" * 512
    assert bundle.placed.disk_format == "raw"
    assert (bundle.pc / "nvram/desk_VARS.fd").read_bytes() == b"variables"
    assert (bundle.pc / f"swtpm/{UUID}/tpm2/tpm2-00.permall").read_bytes() == b"state"
    assert all(p.stat().st_mode & 0o077 == 0 for p in bundle.pc.rglob("*") if p.is_file())
    bundle.take_back()
    assert bundle.there() == []


def test_what_the_plan_has_no_use_for_is_kept_beside_the_image(bundle: Bundle) -> None:
    bundle.put(firmware=Strategy.BIOS, tpm=Strategy.OMIT)
    assert len(bundle.placed.kept) == 2
    assert [p for p in bundle.there() if "/" in p] == [
        "images/desk.img", "images/desk.img.nvram.fd", "images/desk.img.tpm2-00.permall",
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["images/desk.img", "nvram/desk_VARS.fd", f"swtpm/{UUID}/tpm2/tpm2-00.volatilestate"])
def test_nothing_is_overwritten_and_what_was_put_goes_again(bundle: Bundle, where: str) -> None:
    """State of a TPM of that UUID is another VM's secret, also where the bundle has no file of that name."""
    mine = bundle.pc / where
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    before = bundle.there()
    with pytest.raises(DiskError, match="is not overwritten"):
        bundle.put()
    bundle.take_back()
    assert bundle.there() == before
    assert mine.read_bytes() == b"mine"


def test_a_link_in_the_way_is_not_followed(bundle: Bundle) -> None:
    (bundle.pc / "images").mkdir()
    bundle.disk.symlink_to(bundle.pc / "elsewhere")
    with pytest.raises(DiskError, match="is not overwritten"):
        bundle.put()
    bundle.take_back()
    assert bundle.there() == ["images", "images/desk.img"]


class KilledError(BaseException):
    """Stands for a SIGKILL: nothing handles it."""


@pytest.mark.parametrize("copied", [False, True])
def test_a_kill_at_any_step_is_undone_by_whoever_comes_next(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    """Between any two lines of the journal, and right before each file gets its place."""
    if copied:
        monkeypatch.setattr(placing, "_same_file_system", lambda *_: False)
    steps = [0]
    for target, name in ((journal.Journal, "_append"), (os, "link")):
        original = getattr(target, name)

        def step(*arguments: Any, original: Any = original) -> Any:
            steps[0] -= 1
            if steps[0] == 0:
                raise KilledError
            return original(*arguments)

        monkeypatch.setattr(target, name, step)
    number = 0
    while True:
        number += 1
        steps[0] = number
        try:
            bundle.put()
            break
        except KilledError:
            bundle.take_back()
            assert bundle.there() == [], number
            root = bundle.root / "again"
            root.mkdir()
            bundle = Bundle(root)
    assert number > 6


def test_a_full_disk_leaves_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_same_file_system", lambda *_: False)

    def full(_: Any, out: Any) -> None:
        out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(placing.shutil, "copyfileobj", full)
    with pytest.raises(DiskError, match="No space left"):
        bundle.put()
    bundle.take_back()
    assert bundle.there() == []


@pytest.mark.parametrize("text", ["a\nb", "~no-such-user-at-all/x.img"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ClienthvError, match="the path"):
        importing._named(text)


def test_what_a_killed_import_left_is_removed_and_what_another_works_in_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".clienthv-import-left"
    (left / "bundle").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".clienthv-import-link").symlink_to(elsewhere)
    with importing._workplace(tmp_path) as one, importing._workplace(tmp_path) as two:
        assert not left.exists()
        assert one != two
        assert one.is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".clienthv-import-link", "elsewhere"]
