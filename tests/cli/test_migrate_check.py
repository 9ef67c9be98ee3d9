"""``migrate-check`` as a person meets it: what may be moved, to what, and what it prints and ends with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from clienthv.model import schemas
from clienthv.model.portability import Code, Severity, Verdict

HOSTS = Path(__file__).resolve().parent.parent / "hosts"
PC, OTHER = str(HOSTS / "lab-full.json"), str(HOSTS / "fa-desk-rx6900xt-iommuoff.json")
DOMAIN = """<domain type="kvm"><name>desk</name><memory unit="GiB">2</memory><vcpu>1</vcpu>
<os><type machine="pc-q35-7.2">hvm</type></os><devices>{}<video><model type="vga"/></video><graphics type="vnc"/>
<controller type="usb" model="qemu-xhci"/><input type="tablet" bus="usb"/></devices></domain>"""
HOSTDEV = '<hostdev type="pci"><source><address bus="0x09" slot="0x00" function="0x0"/></source></hostdev>'

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    file = tmp_path / "desk.xml"
    file.write_text(DOMAIN.format(""))
    return file


def test_a_definition_is_judged_with_a_table_of_its_devices(clienthv: Run, domain: Path) -> None:
    shown = clienthv("migrate-check", "desk.xml", "--to", PC)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("desk on ")
    assert ": live - can move while it runs" in lines[0]
    assert any(line.split()[:4] == ["gpu", "emulated:", "vga", "emulated:"] for line in lines)
    assert "[not-ours]" in shown.stdout


def test_findings_are_printed_gravest_first_with_what_to_do(clienthv: Run, domain: Path) -> None:
    domain.write_text(DOMAIN.format(HOSTDEV))
    shown = clienthv("migrate-check", "desk.xml", PC, OTHER)
    assert shown.returncode == 0
    assert shown.stdout.count(": adapt - runs there, changed") == 2
    found = [line for line in shown.stdout.splitlines() if line.endswith("]")]
    assert found[0].startswith("  changes")
    assert "→ give the document of the PC that it runs on: --from FILE" in shown.stdout


@pytest.mark.parametrize(
    ("subject", "content", "code", "words"),
    [
        ("none/desk.xml", None, 9, "none/desk.xml does not exist"),
        ("folder", None, 9, "folder is a folder"),
        ("a.xml", b"<network/>", 8, "no libvirt domain: it holds <network>"),
        ("a.xml", b"<domain>", 8, "is not XML"),
        ("a.img", b"", 11, "0 bytes"),
        ("a.txt", f"$ virsh dumpxml desk\n{DOMAIN}\n$ ".encode(), 9, "take out what stands before <domain"),
        ("a.xml", "\ufeff<network/>".encode("utf-16-le"), 8, "no libvirt domain: it holds <network>"),
        ("pc.json", (HOSTS / "lab-full.json").read_bytes(), 9, "is text, and no disk image"),
        ("/dev/zero", None, 11, "is a device"),
        ("vm.clienthv", b"\x28\xb5\x2f\xfd" + bytes(200), 11, "not a bundle"),
    ],
    ids=["missing", "folder", "network", "cut", "empty", "pasted", "utf-16", "document", "device", "bundle"],
)
def test_what_cannot_be_moved_is_named_with_the_next_step(
    subject: str, content: bytes | None, code: int, words: str, clienthv: Run, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    if content is not None:
        (tmp_path / subject).write_bytes(content)
    shown = clienthv("migrate-check", subject, "--to", PC)
    assert shown.returncode == code, shown.stderr
    assert words in shown.stderr
    assert "\nHint: " in shown.stderr
    assert shown.stdout == ""


def test_an_image_that_is_only_junk_is_not_called_bootable(clienthv: Run, tmp_path: Path) -> None:
    (tmp_path / "junk.img").write_bytes(os.urandom(1 << 20))
    shown = clienthv("migrate-check", "junk.img", "--to", PC, "--no-inspect")
    assert shown.returncode == 0
    assert "[contents-unknown]" in shown.stdout
    assert "whether it boots" in shown.stdout
    assert "leave --no-inspect out" in shown.stdout
    assert "the verdict holds for what is known" in shown.stdout


def test_without_a_target_it_says_how_to_give_one(clienthv: Run, domain: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words in ((), ("--to", "empty")):
        shown = clienthv("migrate-check", "desk.xml", *words)
        assert shown.returncode == 2
        assert "there is no target" in shown.stderr


def test_one_target_that_cannot_be_read_does_not_hide_the_others(clienthv: Run, domain: Path) -> None:
    shown = clienthv("migrate-check", "desk.xml", "--summary", "--to", PC, "--to", "none.json", OTHER)
    assert shown.returncode == 8, "that of a document that cannot be read"
    lines = shown.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["live", "-", "live"]
    assert "cannot read none.json" in lines[1]
    assert "2 targets: 2 live; 1 could not be read" in shown.stderr
    assert clienthv("migrate-check", "desk.xml", "--summary", PC, OTHER).returncode == 0


def test_a_summary_as_json_is_a_line_for_each_target(clienthv: Run, domain: Path) -> None:
    domain.write_text(DOMAIN.format(HOSTDEV))
    shown = clienthv("migrate-check", "desk.xml", "--summary", "--json", PC, "none.json", OTHER)
    first, second, third = map(json.loads, shown.stdout.splitlines())
    assert (first["target"], first["verdict"], first["findings"]["changes"]) == (PC, "adapt", ["host-device-unknown"])
    assert first["devices"]["gpu"] == "emulated: vga"
    assert (second["target"], second["verdict"]) == ("none.json", None)
    assert second["problem"]
    assert third["verdict"] == "adapt"
    assert set(first["findings"]) <= {s.value for s in Severity}
    assert {code for codes in first["findings"].values() for code in codes} <= {c.value for c in Code}


def test_the_document_follows_the_published_schema_and_is_the_same_each_time(clienthv: Run, domain: Path) -> None:
    domain.write_text(DOMAIN.format(HOSTDEV))
    shown = clienthv("migrate-check", "desk.xml", "--json", "--to", PC, "--to", OTHER)
    told = json.loads(shown.stdout)
    jsonschema.validate(told, schemas.schema("migrate-check"))
    assert (told["kind"], told["subject"], told["subject_kind"]) == ("migrate-check", "desk", "domain")
    assert [c["target"] for c in told["checks"]] == [PC, OTHER]
    assert {c["verdict"] for c in told["checks"]} <= {v.value for v in Verdict}
    assert told["checks"][0]["plan"]["kind"] == "plan"
    assert clienthv("migrate-check", "desk.xml", "--json", "--to", PC, "--to", OTHER).stdout == shown.stdout


def test_a_folder_means_the_documents_in_it(clienthv: Run, domain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pcs"
    folder.mkdir()
    for name in ("b.json", "a.json"):
        (folder / name).write_bytes(Path(PC).read_bytes())
    (folder / "notes.md").write_text("no PC")
    shown = clienthv("migrate-check", "desk.xml", "--summary", "--to", "pcs")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["pcs/a.json", "pcs/b.json"]


def test_a_definition_can_be_piped_in(domain: Path, tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "clienthv", "migrate-check", "-", "--to", PC, "--to", PC, "--summary"],
        input=domain.read_bytes(), capture_output=True, cwd=tmp_path, check=False, timeout=300,
    )  # fmt: skip
    assert (shown.returncode, shown.stdout.split()) == (0, [PC.encode(), b"live"]), "a target is told once"


def test_a_document_can_be_piped_in(domain: Path, tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "clienthv", "migrate-check", str(domain), "--to", "-", "--summary"],
        input=Path(PC).read_bytes(), capture_output=True, cwd=tmp_path, check=False, timeout=300,
    )  # fmt: skip
    assert (shown.returncode, shown.stdout.split()) == (0, [b"-", b"live"])


def test_the_pc_that_a_definition_comes_from_tells_what_its_devices_are(clienthv: Run, domain: Path) -> None:
    card = '<hostdev type="pci"><source><address bus="0x04" slot="0x00" function="0x0"/></source></hostdev>'
    domain.write_text(DOMAIN.format(card))
    shown = clienthv("migrate-check", "desk.xml", "--from", PC, "--to", PC, "--json")
    codes = {f["code"]: f["severity"] for f in json.loads(shown.stdout)["checks"][0]["findings"]}
    assert codes["host-device-same"] == "info"
    assert "host-device-unknown" not in codes


def test_names_in_a_definition_cannot_command_the_terminal(clienthv: Run, domain: Path) -> None:
    text = DOMAIN.format("<shmem name='a&#x9b;2J&#x202e;'/>").replace(">desk<", ">de&#x9b;31msk&#x202e;<")
    domain.write_text(text)
    for more in ((), ("--summary",)):
        shown = clienthv("migrate-check", "desk.xml", "--to", PC, *more)
        assert shown.returncode == 0
        assert not {"\x9b", "\u202e"} & set(shown.stdout + shown.stderr)
