"""clienthv doctor as a person meets it: what it shows, what it asks before it changes anything, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from clienthv import hostfiles, places, process
from clienthv.cli import cli
from clienthv.cli import doctor as command
from clienthv.errors import HostError
from clienthv.hostfiles import fixes, making, record
from clienthv.model import schemas
from clienthv.model.host import Host, decode
from clienthv.model.installation import Account, BootLoader, Distribution, Installation
from clienthv.process import system

HOSTS = Path(__file__).resolve().parent.parent / "hosts"
OFF = HOSTS / "lab-iommu-off.json"
DEFAULTS = 'GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=off"\n'


def test_the_change_stands_with_what_it_unlocks_for_which_profile(clienthv: Any) -> None:
    done = clienthv("doctor", "performance", "--host", str(OFF))
    assert done.returncode == 0, done.stderr
    assert "[iommu-parameter-off]" in done.stdout
    assert "-> gpu passthrough of 0000:00:11.0 for performance" in done.stdout


def test_json_is_the_published_document(clienthv: Any) -> None:
    done = clienthv("doctor", "--host", str(OFF), "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, schemas.schema("doctor"))
    assert {"balanced", "windows-gaming"} <= set(document["profiles"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fix", "--undo"], "either --fix or --undo"),
        (["--fix", "--host", str(OFF)], "change this PC"),
        (["--undo", "--json"], "change this PC"),
        (["--yes"], "--yes answers"),
        (["--only", "passt"], "--only names changes for --fix"),
        (["--fix", "--only", "iommu-parametr"], "is no code of advice"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], told: str) -> None:
    done = CliRunner().invoke(cli, ["doctor", *words])
    assert done.exit_code == 2
    assert told in done.stderr


def test_names_in_a_document_cannot_steer_the_terminal(clienthv: Any, tmp_path: Path) -> None:
    document = json.loads(OFF.read_text())
    document["name"] = "evil\x1b[2J"
    document["pci"][0]["device"] = "card\x1b]0;x\x07"
    (tmp_path / "pc.json").write_text(json.dumps(document))
    done = clienthv("doctor", "performance", "--host", str(tmp_path / "pc.json"))
    assert done.returncode == 0
    assert "\x1b" not in done.stdout


class Pc:
    """This PC, as far as doctor is concerned: a host, files below a root, and whose process this is."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.menus = root, list[str]()
        self.fails = False
        self.patch = monkeypatch
        for name, text in {"etc/default/grub": DEFAULTS, "boot/grub/grub.cfg": "", "usr/sbin/update-grub": ""}.items():
            (root / name).parent.mkdir(parents=True)
            (root / name).write_text(text)
        self.grub = root / "etc/default/grub"
        set_up = Installation(
            distribution=Distribution(id="debian"),
            boot_loader=BootLoader(
                kind="grub", files=("/etc/default/grub",), regenerate="update-grub", recognised=True
            ),
            account=Account(root=True),
        )
        self.host: Host = replace(decode(OFF.read_bytes(), "lab"), source="live", installation=set_up)
        monkeypatch.setattr(command, "the_host", lambda *_: self.host)
        monkeypatch.setattr(hostfiles, "of", lambda code, host: fixes.of(code, host, str(root)))
        monkeypatch.setattr(hostfiles, "make", lambda fix, kept, say: making.make(fix, kept, say, str(root)))
        monkeypatch.setattr(hostfiles, "undo", lambda es, kept, say: making.undo(es, kept, say, str(root)))
        monkeypatch.setattr(hostfiles, "shown", lambda es: making.shown(es, str(root)))
        monkeypatch.setattr(process, "make_boot_menu", self.menu)
        monkeypatch.setattr(places, "is_root", lambda: True)
        monkeypatch.setenv("XDG_STATE_HOME", str(root.parent / "state"))

    def menu(self, made: str) -> str:
        self.menus.append(made)
        if self.fails:
            message = "cannot make the boot menu: no space left"
            raise HostError(message)
        return "done"

    def doctor(self, *words: str, asked: str | None = None) -> Any:
        self.patch.setattr(command, "_may_ask", lambda yes: yes or asked is not None)
        return CliRunner().invoke(cli, ["doctor", *words], input=asked)


@pytest.fixture
def pc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pc:
    return Pc(tmp_path / "pc", monkeypatch)


ONE = ("--fix", "--only", "iommu-parameter-off")


def test_a_change_is_shown_made_told_and_taken_back(pc: Pc) -> None:
    done = pc.doctor(*ONE, "--yes")
    assert done.exit_code == 0, done.output
    assert '-GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=off"' in done.stdout
    assert '+GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=on"' in done.stdout
    assert "restart the PC" in done.stderr
    assert pc.grub.read_text() == DEFAULTS.replace("off", "on")
    back = pc.doctor("--undo", "--yes")
    assert back.exit_code == 0, back.output
    assert pc.grub.read_text() == DEFAULTS
    assert pc.menus == ["update-grub", "update-grub"]
    assert "nothing to undo" in pc.doctor("--undo", "--yes").stderr


def test_without_a_yes_nothing_is_changed(pc: Pc) -> None:
    assert "nothing was changed" in pc.doctor(*ONE).stderr
    assert pc.doctor(*ONE, asked="n\n").exit_code == 0
    assert pc.doctor(*ONE, asked="").exit_code == 1, "an end of input is no answer"
    assert (pc.grub.read_text(), pc.menus) == (DEFAULTS, [])
    assert pc.doctor(*ONE, asked="y\n").exit_code == 0
    assert pc.doctor("--undo", asked="n\n").exit_code == 0
    assert pc.grub.read_text() == DEFAULTS.replace("off", "on")


def test_yes_does_not_stand_for_what_is_as_much_as_roots_rights(pc: Pc, monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[tuple[str, str]] = []
    monkeypatch.setattr(process, "join_group", lambda *who: joined.append(who) or "")
    monkeypatch.setattr(fixes, "account_name", lambda: "somebody")
    monkeypatch.setattr(making, "members_of", lambda _: ())
    account = Account(root=False, groups=(), there=("kvm", "libvirt"), kvm_for_group_only=False)
    set_up = pc.host.installation
    assert isinstance(set_up, Installation)
    pc.host = replace(pc.host, installation=replace(set_up, account=account, distribution=Distribution()))
    assert "--only libvirt-group" in pc.doctor("--fix", "--yes").stderr
    assert joined == []
    assert pc.doctor("--fix", "--yes", "--only", "libvirt-group").exit_code == 0
    assert joined == [("somebody", "libvirt")]


def test_who_is_not_root_is_shown_the_change_and_told_the_command(pc: Pc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "is_root", lambda: False)
    monkeypatch.setattr(sys, "argv", ["clienthv", "doctor", *ONE])
    done = pc.doctor(*ONE, "--yes")
    assert done.exit_code == 3
    assert '+GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=on"' in done.stdout
    assert "sudo " in done.stderr
    assert "doctor --fix --only iommu-parameter-off" in done.stderr
    assert pc.grub.read_text() == DEFAULTS


def test_what_fails_is_put_back_and_ends_with_3(pc: Pc) -> None:
    pc.fails = True
    done = pc.doctor(*ONE, "--yes")
    assert done.exit_code == 3
    assert "no space left" in done.stderr
    assert pc.grub.read_text() == DEFAULTS


def test_what_is_not_recognised_is_told_by_hand(pc: Pc) -> None:
    pc.grub.write_text(DEFAULTS + ". /etc/default/mine\n")
    done = pc.doctor(*ONE, "--yes")
    assert done.exit_code == 0
    assert "left alone: /etc/default/grub, line 2" in done.stdout
    assert "by hand: sudoedit /etc/default/grub" in done.stdout
    assert pc.grub.read_text().startswith(DEFAULTS)


def test_what_changed_since_is_told_and_ends_with_3(pc: Pc) -> None:
    pc.doctor(*ONE, "--yes")
    pc.grub.write_text("GRUB_TIMEOUT=1\n")
    done = pc.doctor("--undo", "--yes")
    assert done.exit_code == 3
    assert "was changed since" in done.stderr
    assert pc.grub.read_text() == "GRUB_TIMEOUT=1\n"


def test_only_what_was_shown_is_taken_back(pc: Pc, monkeypatch: pytest.MonkeyPatch) -> None:
    pc.doctor(*ONE, "--yes")
    edited = pc.grub.read_text()
    monkeypatch.setattr(hostfiles, "read", lambda path: record.read(path)[:1])
    done = pc.doctor("--undo", "--yes")
    assert done.exit_code == 3
    assert "not what was shown" in done.stderr
    assert pc.grub.read_text() == edited


def test_the_menu_is_made_in_the_persons_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """grub-mkconfig writes LANG into the menu: another one would change it beyond the parameter, and after an undo."""
    program = tmp_path / "update-grub"
    program.write_text('#!/bin/sh\necho "$LANG/$LC_MESSAGES/$LC_ALL"\n')
    program.chmod(0o755)
    monkeypatch.setattr(system, "PATH", f"{tmp_path}:/bin")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LC_MESSAGES", "fr_FR.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)
    assert process.make_boot_menu("update-grub") == "de_DE.UTF-8/fr_FR.UTF-8/\n"


def test_a_program_that_fails_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "apt-get"
    program.write_text("#!/bin/sh\necho 'E: Unable to locate package ovmf' >&2\nexit 100\n")
    program.chmod(0o755)
    monkeypatch.setattr(system, "PATH", f"{tmp_path}:/bin")
    with pytest.raises(HostError, match="cannot install ovmf: E: Unable to locate package ovmf"):
        process.install_packages("dpkg", ("ovmf",))
    monkeypatch.setattr(system, "PATH", str(tmp_path))
    with pytest.raises(HostError, match="dpkg is not installed"):
        process.remove_packages("dpkg", ("ovmf",))


def test_a_package_that_has_settings_left_is_installed_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.write_text("installed libc6\nconfig-files ovmf\nnot-installed swtpm\n")
    programs = {
        "dpkg-query": f"cat {there}",
        "apt-get": f'shift 4; for name; do echo "installed $name" >> {there}; echo "Setting up $name (1.0)"; done',
        "dpkg": f'echo "$@" > {tmp_path}/removed',
    }
    for name, does in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(system, "PATH", f"{tmp_path}:/usr/bin:/bin")
    fix = fixes.Fix("swtpm", packager="dpkg", packages=("ovmf", "swtpm"))
    with hostfiles.held(tmp_path / "record") as kept:
        hostfiles.make(fix, kept, lambda _: None)
        assert there.read_text().endswith("installed ovmf\ninstalled swtpm\n")
        assert hostfiles.undo(kept.entries, kept, lambda _: None) == ()
    assert (tmp_path / "removed").read_text() == "--purge -- swtpm\n"
