"""Bundles and migration for real: VMs leave one PC and run on another."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sessions import Session

from clienthv import bundles
from clienthv.bundles import DiskPart, Parts

pytestmark = pytest.mark.libvirt

REPOSITORY = Path(__file__).resolve().parent.parent.parent

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

    def meddled(self, what: str, value: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run clienthv with something done at one moment: see tests/meddling.py."""
        script = self.pc.file("meddling.py", (REPOSITORY / "tests/meddling.py").read_text())
        words = ("/usr/bin/python3", script, what, value, "--connect", self._uri, *arguments)
        return self.pc.as_user(*words, PYTHONPATH=str(self.site))

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
        "sh", "-c", f"rm -f {image} && truncate -s 64M {image} && printf 'kept' | dd of={image} conv=notrunc seek=80000"
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


def forged(bundle: str, folder: Path, word: str, other: str) -> bytes:
    """The bundle with another word in its definition, made anew by somebody else."""
    with Path(bundle).open("rb") as stream:
        reader = bundles.open_bundle(stream)
        reader.extract(folder / "taken-apart")
    definition = reader.definition.decode()
    assert definition.count(word) == 1
    definition = definition.replace(word, other)
    disk = next(m.disk for m in reader.manifest.members if m.disk is not None)
    image = DiskPart(folder / "taken-apart/disks/0.raw", disk.format, disk.virtual_size)
    output = io.BytesIO()
    bundles.write(output, Parts(vm="desk", definition=definition.encode(), created_by="a stranger", disks=(image,)))
    return output.getvalue()


def test_the_image_has_the_format_that_was_looked_at_whatever_the_definition_says(
    desk: tuple[Clienthv, Clienthv, str], tmp_path: Path
) -> None:
    """A raw image may have the header of a qcow2 image in it, which leads to a file of this PC."""
    one, two, name = desk
    evil = tmp_path / "evil.qcow2"
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", str(evil), "64M"]
    subprocess.run(make, check=True)
    bundle = exported(one, name)
    image = one.pc.home / "images/desk.img"
    with image.open("r+b") as file:
        file.write(evil.read_bytes())
    Path(bundle).unlink()
    made = forged(exported(one, name), tmp_path, '"disk_format": "raw"', '"disk_format": "qcow2"')
    path = Path(two.pc.file("forged.clienthv", ""))
    path.write_bytes(made)
    two.ok("import", str(path))
    xml = two.pc.ask("dumpxml", "--inactive", name)
    assert 'name="qemu" type="raw"' in xml.replace("'", '"')
    assert 'type="qcow2"' not in xml.replace("'", '"')


@pytest.mark.parametrize("what", ["kill", "killed-before"])
def test_an_import_that_is_killed_at_any_step_is_undone(desk: tuple[Clienthv, Clienthv, str], what: str) -> None:
    one, two, name = desk
    bundle = exported(one, name)
    before = two.files()
    for number in range(1, 20):
        done = two.meddled(what, str(number), "import", bundle)
        if done.returncode == 0:
            assert number > 3
            break
        assert done.returncode == -9, done.stderr
        if number % 2:
            two.ok("recover")
            assert (two.files(), two.names()) == (before, []), number
    else:
        raise AssertionError("it never comes to its end")
    assert two.names() == [name]
    assert not list((two.pc.home / "data/clienthv/images").glob(".*"))


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


def test_a_move_that_is_interrupted_or_finds_it_paused_says_where_it_is(desk: tuple[Clienthv, Clienthv, str]) -> None:
    one, two, name = desk
    one.ok("up", name)
    one.pc.ask("migrate-setspeed", name, "2")
    there = f"until virsh -c '{two.pc.uri}' domstate {name}; do sleep 0.1; done; kill -INT $$"
    done = one.pc.as_user(
        "sh", "-c", f"({there}) >/dev/null 2>&1 & exec /usr/bin/python3 -m clienthv --connect '{one.pc.uri}' migrate "
        f"{name} --to '{two.pc.uri}'", PYTHONPATH=str(one.site),
    )  # fmt: skip
    assert (done.returncode, f"VM {name} runs on here\n" in done.stderr) == (130, True), done.stderr
    assert (one.pc.ask("domstate", name), two.names()) == ("running", [])
    one.pc.ask("migrate-setspeed", name, "8000")
    one.pc.ask("suspend", name)
    assert f"VM {name} is paused, as it was here, on " in one.ok("migrate", name, "--to", two.pc.uri)
    assert (one.names(), two.pc.ask("domstate", name)) == ([], "paused")


def test_a_running_vm_takes_nobodys_place_there(desk: tuple[Clienthv, Clienthv, str]) -> None:
    one, two, name = desk
    two.ok("import", exported(one, name))
    before = two.pc.ask("dumpxml", "--inactive", name)
    one.ok("up", name)
    refused = one.run("migrate", name, "--to", two.pc.uri)
    assert (refused.returncode, "already" in refused.stderr) == (10, True), refused.stderr
    assert one.pc.ask("domstate", name) == "running"
    assert two.pc.ask("dumpxml", "--inactive", name) == before


def test_a_start_that_was_cut_short_does_not_take_the_image_from_a_vm_that_moved(
    desk: tuple[Clienthv, Clienthv, str],
) -> None:
    one, two, _ = desk
    profile = one.pc.file("small.toml", SMALL)
    disk = one.pc.home / "images/new.qcow2"
    words = ("up", profile, "--name", "other", "--new-disk", "1 MiB", "--disk", str(disk))
    number = 0
    while one.pc.ask("list", "--name").split() != ["other"]:  # killed before it wrote down that the VM has started
        number += 1
        assert number < 12
        one.run("recover")
        assert one.meddled("killed-before", str(number), *words).returncode == -9
    one.ok("migrate", "other", "--to", two.pc.uri)
    assert two.pc.ask("domstate", "other") == "running"
    assert disk.exists()
    one.run("recover")
    assert disk.exists()


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
