"""Bundles and migration for real: VMs leave one PC and run on another."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sessions import Session

pytestmark = pytest.mark.libvirt

SMALL = """\
extends = "portable"
[guest]
os = "linux"
power_button = false
[size]
vcpus = 1
memory = "128 MiB"
memory_min = "128 MiB"
[devices.cpu]
prefer = ["binary-translation"]
[devices.firmware]
prefer = ["uefi-secure-boot"]
[devices.tpm]
prefer = ["emulated", "omit"]
"""


class Clienthv:
    """clienthv of one of several PCs' users."""

    def __init__(self, pc: Session, site: Path, uri: str | None = None) -> None:
        self.pc, self.site, self._uri = pc, site, uri or pc.uri

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.pc.as_user(
            "/usr/bin/python3", "-m", "clienthv", "--connect", self._uri, *arguments, PYTHONPATH=str(self.site)
        )

    def ok(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def names(self) -> list[str]:
        return self.pc.ask("list", "--all", "--name").split()

    def files(self) -> set[str]:
        """Every file of this PC that is more than a trace of libvirt's own."""
        mine = (self.pc.home / "data", self.pc.home / "config/libvirt/qemu")
        found = {str(p) for folder in mine for p in folder.rglob("*") if p.is_file()}
        return {path for path in found if "/qemu/lib" not in path and not path.endswith((".lock", "channel"))}


@pytest.fixture(scope="module")
def pair(site: Path) -> Iterator[tuple[Clienthv, Clienthv]]:
    """Two PCs."""
    if os.geteuid() != 0:
        pytest.skip("namespaces for a second PC take root")
    made: list[Session] = []
    try:
        made += [Session("one"), Session("two")]
        yield Clienthv(made[0], site), Clienthv(made[1], site)
    finally:
        for pc in made:
            pc.stop()


@pytest.fixture
def desk(pair: tuple[Clienthv, Clienthv]) -> Iterator[tuple[Clienthv, Clienthv, str]]:
    """A VM that has run on the first PC, with something on its disk; it is gone from both at the end."""
    one, two = pair
    profile = one.pc.file("small.toml", SMALL)
    image = one.pc.home / "images" / "desk.img"
    made = one.pc.as_user(
        "sh", "-c", f"truncate -s 64M {image} && printf 'kept' | dd of={image} conv=notrunc seek=80000"
    )
    assert made.returncode == 0, made.stderr
    one.ok("up", profile, "--name", "desk", "--disk", str(image))
    one.ok("down", "desk", "--force")
    yield one, two, "desk"
    for pc in pair:
        for name in pc.names():
            pc.run("down", name, "--force", "--undefine")
        pc.pc.as_user("sh", "-c", 'cd "$XDG_CONFIG_HOME/libvirt/qemu" && rm -rf "$XDG_DATA_HOME" nvram/* swtpm/*')
        (pc.pc.home / "desk.clienthv").unlink(missing_ok=True)


def exported(pc: Clienthv, name: str) -> str:
    path = str(pc.pc.home / f"{name}.clienthv")
    pc.ok("export", name, "-o", path)
    Path(path).chmod(0o644)
    return path


def test_a_vm_is_exported_and_imported_with_all_that_it_has(desk: tuple[Clienthv, Clienthv, str]) -> None:
    one, two, name = desk
    before = one.pc.ask("dumpxml", "--inactive", name)
    bundle = exported(one, name)
    said = two.ok("import", bundle)
    assert "VM desk is defined" in said
    image = Path(two.pc.home / "data/clienthv/images/desk.img")
    assert image.read_bytes() == (one.pc.home / "images/desk.img").read_bytes()
    assert image.stat().st_blocks * 512 < 1 << 20, "holes stay holes"
    nvram = [pc.pc.home / "config/libvirt/qemu/nvram/desk_VARS.fd" for pc in (one, two)]
    assert nvram[0].read_bytes() == nvram[1].read_bytes()
    tpm = [next((pc.pc.home / "config/libvirt/qemu/swtpm").glob("*/tpm2/tpm2-00.permall")) for pc in (one, two)]
    assert tpm[0].read_bytes() == tpm[1].read_bytes()
    after = two.pc.ask("dumpxml", "--inactive", name)
    for word in ("<uuid>", "<mac address", "machine="):
        assert [li.strip() for li in before.splitlines() if word in li] == [
            li.strip() for li in after.splitlines() if word in li
        ]
    two.ok("up", name)
    assert two.pc.ask("domstate", name) == "running"


def test_a_bundle_is_checked_before_it_is_taken(desk: tuple[Clienthv, Clienthv, str]) -> None:
    one, two, name = desk
    bundle = exported(one, name)
    check = json.loads(two.ok("migrate-check", bundle, "--to", "local", "--json"))["checks"][0]
    assert check["verdict"] == "cold"
    assert {d["kind"] for d in check["devices"] if d["changes"]} == set()


def test_nothing_is_overwritten_and_nothing_stays_of_an_import_that_is_refused(
    desk: tuple[Clienthv, Clienthv, str],
) -> None:
    one, two, name = desk
    bundle = exported(one, name)
    taken = one.run("import", bundle)
    assert taken.returncode == 10
    assert "already" in taken.stderr
    two.ok("import", bundle)
    two.ok("down", name, "--undefine")
    before = two.files()
    for expected in ("desk.img", "desk_VARS.fd"):
        refused = two.run("import", bundle, *(() if expected == "desk.img" else ("--disk", f"{two.pc.home}/other.img")))
        assert refused.returncode == 9, refused.stderr
        assert expected in refused.stderr
    assert two.files() == before
    assert not (two.pc.home / "other.img").exists()
    assert two.names() == []


def test_a_bundle_that_was_cut_or_changed_leaves_nothing(desk: tuple[Clienthv, Clienthv, str]) -> None:
    one, two, name = desk
    whole = Path(exported(one, name)).read_bytes()
    before = two.files()
    for label, data in (
        ("refused-cut-short", whole[: len(whole) // 2]),
        ("refused-not-a-bundle", b"PK" + whole),
    ):
        broken = two.pc.home / "broken.clienthv"
        broken.write_bytes(data)
        done = two.run("import", str(broken))
        assert (done.returncode, label in done.stderr) == (11, True), done.stderr
    assert two.files() == before
    assert two.names() == []


def test_a_vm_that_runs_is_not_exported(desk: tuple[Clienthv, Clienthv, str]) -> None:
    one, _, name = desk
    one.ok("up", name)
    refused = one.run("export", name, "-o", f"{one.pc.home}/x.clienthv")
    assert refused.returncode == 10
    assert f"clienthv down {name}" in refused.stderr
    assert not (one.pc.home / "x.clienthv").exists()


def test_a_running_vm_moves_and_runs_on(desk: tuple[Clienthv, Clienthv, str]) -> None:
    one, two, name = desk
    one.ok("up", name)
    checked = one.ok("migrate", name, "--to", two.pc.uri, "--dry-run")
    assert "live - can move while it runs" in checked
    assert one.pc.ask("domstate", name) == "running"
    said = one.ok("migrate", name, "--to", two.pc.uri)
    assert "is gone from here" in said
    assert one.names() == []
    assert two.pc.ask("domstate", name) == "running"
    assert "desk" in two.ok("list")
    two.ok("down", name, "--force")
    two.ok("up", name)
    assert two.pc.ask("domstate", name) == "running"


def test_a_vm_that_is_off_is_copied(desk: tuple[Clienthv, Clienthv, str]) -> None:
    one, two, name = desk
    assert one.run("migrate", name, "--to", "nonsense").returncode == 2
    unknown = one.run("migrate", name, "--to", two.pc.uri)
    assert (unknown.returncode, "clienthv import FILE" in unknown.stderr) == (3, True)
    bundle = exported(one, name)
    embedded = Clienthv(two.pc, two.site, f"qemu:///embed?root={two.pc.home}/e")
    embedded.ok("import", bundle, "--disk", f"{two.pc.home}/images/embedded.img")
    beside = embedded.run("migrate", name, "--to", "qemu:///session")
    assert (beside.returncode, "clienthv export desk" in beside.stderr) == (3, True), beside.stderr
    embedded.ok("down", name, "--undefine")
    said = Clienthv(two.pc, two.site, one.pc.uri).ok("migrate", name, "--to", "qemu:///session")
    assert "is still here too" in said
    assert one.names() == [name] == two.names()
    assert (two.pc.home / "data/clienthv/images/desk.img").read_bytes() == (
        one.pc.home / "images/desk.img"
    ).read_bytes()


def test_a_running_vm_that_cannot_move_says_why_and_stays(desk: tuple[Clienthv, Clienthv, str]) -> None:
    one, two, name = desk
    one.ok("up", name)
    one.pc.ask("snapshot-create-as", name, "before", "--disk-only", "--diskspec", "vda,snapshot=external")
    refused = one.run("migrate", name, "--to", two.pc.uri)
    assert refused.returncode == 12
    assert "[snapshots]" in refused.stderr
    assert one.pc.ask("domstate", name) == "running"
    assert two.names() == []
    one.ok("down", name, "--force")
    one.pc.ask("snapshot-delete", name, "before", "--metadata")
