"""Files of a PC's set-up are edited only where they are understood, and are given back to the byte."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clienthv import hostfiles, process
from clienthv.errors import DocumentError, HostError
from clienthv.hostfiles import files, fixes, parameters, record
from clienthv.inspect import NotUnderstoodError, read_boot_loader
from clienthv.inspect.grub import assignments, in_force
from clienthv.model.host import Cpu, Host, Iommu
from clienthv.model.installation import BootLoader

DEFAULTS = "/etc/default/grub"
DEBIAN = (
    "# If you change this file, run 'update-grub' afterwards.\n\nGRUB_DEFAULT=0\nGRUB_TIMEOUT=5\n"
    "GRUB_DISTRIBUTOR=`( . /etc/os-release; echo ${NAME:-Debian} ) 2>/dev/null || echo Debian`\n"
    'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n#GRUB_GFXMODE=640x480\n'
)
INTEL = Host(cpu=Cpu(vendor="GenuineIntel"), iommu=Iommu(acpi_table="DMAR", enabled=False, parameters=()))
OFF = Host(
    cpu=Cpu(vendor="GenuineIntel"), iommu=Iommu(acpi_table="DMAR", enabled=False, parameters=("intel_iommu=off",))
)
AMD_OFF = Host(
    cpu=Cpu(vendor="AuthenticAMD"), iommu=Iommu(acpi_table="IVRS", enabled=False, parameters=("amd_iommu=off",))
)

Pc = Callable[..., str]


@pytest.fixture
def pc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pc:
    """A PC of files below a root of its own; programs that would be run are kept in a list."""
    root = tmp_path / "pc"

    def make(**texts: str) -> str:
        for name, text in texts.items():
            there = root / PLACES[name].lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(text.encode())
        for folder in ("usr/sbin", "etc/modules-load.d", "etc/modprobe.d", "etc/security/limits.d"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        return str(root)

    return make


PLACES = {
    "grub": DEFAULTS,
    "drop_in": "/etc/default/grub.d/50-cloud.cfg",
    "menu": "/boot/grub/grub.cfg",
    "update_grub": "/usr/sbin/update-grub",
    "loader": "/boot/loader/loader.conf",
    "entry": "/boot/loader/entries/debian.conf",
    "other_entry": "/boot/loader/entries/debian-old.conf",
    "memtest": "/boot/loader/entries/memtest.conf",
    "cmdline": "/etc/kernel/cmdline",
    "kernelstub": "/etc/kernelstub/configuration",
    "modules": "/etc/modules-load.d/clienthv.conf",
}
GRUB = {"menu": "### BEGIN /etc/grub.d/00_header ###\n", "update_grub": "#!/bin/sh\n"}
ENTRY = "title Debian\nlinux /vmlinuz\ninitrd /initrd.img\noptions root=UUID=1 ro quiet\n"


class Menus(list[str]):
    """The menus that were made, and whether making one fails."""

    fails = False

    def __call__(self, command: str) -> str:
        self.append(command)
        if self.fails:
            message = "no space"
            raise HostError(message)
        return "Generating grub configuration file ...\ndone\n"


@pytest.fixture
def menus(monkeypatch: pytest.MonkeyPatch) -> Menus:
    made = Menus()
    monkeypatch.setattr(process, "make_boot_menu", made)
    return made


def snapshot(root: str) -> dict[str, tuple[bytes, int]]:
    there = (p for p in Path(root).rglob("*") if p.is_file())
    return {str(p): (p.read_bytes(), p.stat().st_mode) for p in there}


def made(root: str, tmp_path: Path, code: str, host: Host) -> hostfiles.Fix:
    fix = hostfiles.of(code, host, root)
    assert fix.problem is None
    with hostfiles.held(tmp_path / "record") as kept:
        hostfiles.make(fix, kept, lambda _: None, root)
    return fix


def undone(root: str, tmp_path: Path) -> tuple[str, ...]:
    with hostfiles.held(tmp_path / "record") as kept:
        return hostfiles.undo(kept.entries, kept, lambda _: None, root)


def test_grubs_defaults_get_the_parameter_and_nothing_else_and_are_given_back(
    pc: Pc, menus: Menus, tmp_path: Path
) -> None:
    root = pc(grub=DEBIAN, **GRUB)
    before = snapshot(root)
    fix = made(root, tmp_path, "iommu-parameter", INTEL)
    assert (Path(root) / "etc/default/grub").read_text() == DEBIAN.replace('"quiet"', '"quiet intel_iommu=on"')
    assert menus == ["update-grub"]
    assert '+GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=on"' in fix.lines
    assert undone(root, tmp_path) == ()
    assert snapshot(root) == before
    assert menus == ["update-grub", "update-grub"]
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=off splash"', '"quiet splash intel_iommu=on"'),
        ("GRUB_CMDLINE_LINUX_DEFAULT='intel_iommu=off'  # why", "'intel_iommu=on'  # why"),
        ("GRUB_CMDLINE_LINUX_DEFAULT=intel_iommu=off", "intel_iommu=on"),
        ('export GRUB_CMDLINE_LINUX_DEFAULT="  intel_iommu=off   a  b "', '"   a  b intel_iommu=on "'),
        (
            'GRUB_CMDLINE_LINUX_DEFAULT=""\nGRUB_CMDLINE_LINUX="intel_iommu=off nomodeset"',
            '"intel_iommu=on"\nGRUB_CMDLINE_LINUX="nomodeset"',
        ),
        (
            'GRUB_CMDLINE_LINUX_DEFAULT="a"\nGRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT intel_iommu=off"',
            '"a"\nGRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT intel_iommu=on"',
        ),
    ],
)
def test_each_plain_way_to_write_the_variable_is_understood(
    pc: Pc, menus: Menus, tmp_path: Path, before: str, after: str
) -> None:
    root = pc(grub=f"{before}\n", **GRUB)
    made(root, tmp_path, "iommu-parameter-off", OFF)
    text = (Path(root) / "etc/default/grub").read_text()
    assert text.partition("GRUB_CMDLINE_LINUX_DEFAULT=")[2] == f"{after}\n"


def test_a_bare_value_gets_quotes_once_it_has_two_words(pc: Pc, menus: Menus, tmp_path: Path) -> None:
    root = pc(grub="GRUB_CMDLINE_LINUX_DEFAULT=quiet\n", **GRUB)
    made(root, tmp_path, "iommu-parameter", INTEL)
    assert (Path(root) / "etc/default/grub").read_text() == 'GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=on"\n'


def test_a_file_without_the_variable_gets_a_line(pc: Pc, menus: Menus, tmp_path: Path) -> None:
    root = pc(grub="GRUB_TIMEOUT=5", **GRUB)
    made(root, tmp_path, "iommu-parameter", INTEL)
    wanted = 'GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT="intel_iommu=on"\n'
    assert (Path(root) / "etc/default/grub").read_text() == wanted


def test_what_a_drop_in_sets_anew_is_edited_there(pc: Pc, menus: Menus, tmp_path: Path) -> None:
    root = pc(grub=DEBIAN, drop_in='GRUB_CMDLINE_LINUX_DEFAULT="console=ttyS0"\n', **GRUB)
    made(root, tmp_path, "iommu-parameter", INTEL)
    assert (Path(root) / "etc/default/grub").read_text() == DEBIAN
    drop_in = (Path(root) / "etc/default/grub.d/50-cloud.cfg").read_text()
    assert drop_in == 'GRUB_CMDLINE_LINUX_DEFAULT="console=ttyS0 intel_iommu=on"\n'


def test_amds_iommu_needs_no_parameter_but_the_wrong_one_gone(pc: Pc, menus: Menus, tmp_path: Path) -> None:
    root = pc(grub='GRUB_CMDLINE_LINUX_DEFAULT="quiet amd_iommu=off"\n', **GRUB)
    made(root, tmp_path, "iommu-parameter-off", AMD_OFF)
    assert (Path(root) / "etc/default/grub").read_text() == 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'


UNUSUAL = {
    "appended to": 'GRUB_CMDLINE_LINUX_DEFAULT+=" quiet"',
    "a variable": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet $MORE"',
    "a command": 'GRUB_CMDLINE_LINUX_DEFAULT="$(cat /etc/more)"',
    "backticks": "GRUB_CMDLINE_LINUX_DEFAULT=`cat /etc/more`",
    "an escape": 'GRUB_CMDLINE_LINUX_DEFAULT="dyndbg=\\"file a +p\\""',
    "two on a line": 'GRUB_TIMEOUT=5 GRUB_CMDLINE_LINUX_DEFAULT="quiet"',
    "a second command": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"; true',
    "a condition": 'if true; then\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nfi',
    "a value over two lines": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet\nsplash"',
    "a continued line": "GRUB_CMDLINE_LINUX_DEFAULT=quiet\\\nsplash",
    "another file": ". /etc/default/more",
    "a function": "f() {\nGRUB_TIMEOUT=5\n}",
    "used by another": 'MINE=1\nGRUB_CMDLINE_LINUX_XEN="$GRUB_CMDLINE_LINUX"',
    "unset": "unset GRUB_CMDLINE_LINUX_DEFAULT",
    "ends of lines of DOS": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\r',
    "two words without quotes": "GRUB_CMDLINE_LINUX_DEFAULT=quiet splash",
    "quotes side by side": "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"' splash'",
    "NUL": 'GRUB_CMDLINE_LINUX_DEFAULT="qui\0et"',
}


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_written_in_another_way_is_left_alone_and_told(pc: Pc, menus: Menus, text: str) -> None:
    root = pc(grub=f"GRUB_DEFAULT=0\n{text}\n", **GRUB)
    before = snapshot(root)
    fix = hostfiles.of("iommu-parameter", INTEL, root)
    assert fix.problem is not None
    assert fix.problem.startswith(DEFAULTS)
    assert (fix.edits, menus) == ((), [])
    assert snapshot(root) == before


def test_a_menu_that_somebody_wrote_by_hand_is_not_written_over(pc: Pc, menus: Menus) -> None:
    root = pc(grub=DEBIAN, **{**GRUB, "menu": "menuentry mine {\n linux /vmlinuz root=/dev/sda1\n}\n"})
    before = snapshot(root)
    fix = hostfiles.of("iommu-parameter", INTEL, root)
    assert fix.problem == "/boot/grub/grub.cfg: was not made by grub-mkconfig, which would write over it"
    assert (fix.edits, fix.menu) == ((), "")
    assert snapshot(root) == before


def test_a_link_another_name_or_a_folder_behind_a_link_is_left_alone(pc: Pc, tmp_path: Path) -> None:
    root = Path(pc(grub=DEBIAN, **GRUB))
    file = root / "etc/default/grub"
    (tmp_path / "other").write_text(DEBIAN)
    file.unlink()
    file.symlink_to(tmp_path / "other")
    assert "is a link" in (hostfiles.of("iommu-parameter", INTEL, str(root)).problem or "")
    file.unlink()
    file.hardlink_to(tmp_path / "other")
    assert "hard links" in (hostfiles.of("iommu-parameter", INTEL, str(root)).problem or "")
    file.unlink()
    file.write_text(DEBIAN)
    (root / "etc/default").rename(tmp_path / "moved")
    (root / "etc/default").symlink_to(tmp_path / "moved")
    assert "link to another place" in (hostfiles.of("iommu-parameter", INTEL, str(root)).problem or "")
    assert (tmp_path / "moved/grub").read_text() == DEBIAN


def test_what_stands_behind_two_hyphens_is_not_the_kernels(pc: Pc, menus: Menus) -> None:
    root = pc(grub='GRUB_CMDLINE_LINUX_DEFAULT="quiet -- single"\n', **GRUB)
    assert "have -- in them" in (hostfiles.of("iommu-parameter", INTEL, root).problem or "")


def test_nothing_to_do_is_no_fix(pc: Pc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pc(**GRUB)
    monkeypatch.setattr(fixes, "account_name", lambda: "user")
    made(root, tmp_path, "memlock", INTEL)
    assert "set already" in (hostfiles.of("memlock", INTEL, root).problem or "")
    monkeypatch.setattr(process, "known_packages", lambda _: frozenset({"swtpm"}))
    monkeypatch.setattr(process, "installed_packages", lambda _: frozenset({"swtpm"}))
    fix = fixes.Fix("swtpm", packager="dpkg", packages=("swtpm",))
    with hostfiles.held(tmp_path / "other") as kept, pytest.raises(HostError, match="installed already"):
        hostfiles.make(fix, kept, lambda _: None)


def test_a_device_or_a_pipe_is_not_read(pc: Pc) -> None:
    root = Path(pc(**GRUB))
    (root / "etc/modules-load.d/clienthv.conf").parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(root / "etc/modules-load.d/clienthv.conf")
    assert "no regular file" in (hostfiles.of("vfio-module", INTEL, str(root)).problem or "")


def test_a_parameter_that_comes_from_elsewhere_is_told(pc: Pc, menus: Menus) -> None:
    root = pc(grub=DEBIAN, **GRUB)
    assert "comes from elsewhere" in (hostfiles.of("iommu-parameter-off", OFF, root).problem or "")


def test_what_is_set_already_waits_for_a_restart(pc: Pc, menus: Menus, tmp_path: Path) -> None:
    root = pc(grub=DEBIAN, **GRUB)
    made(root, tmp_path, "iommu-parameter", INTEL)
    assert "waits for a restart" in (hostfiles.of("iommu-parameter", INTEL, root).problem or "")


def test_systemd_boots_entries_and_the_line_for_new_ones_get_the_parameter(
    pc: Pc, menus: Menus, tmp_path: Path
) -> None:
    root = pc(
        loader="timeout 3\n", entry=ENTRY, other_entry=ENTRY, memtest="title m\nefi /m.efi\n", cmdline="root=1 ro\n"
    )
    before = snapshot(root)
    loader = read_boot_loader(root)
    assert loader is not None
    assert (loader.kind, loader.recognised) == ("systemd-boot", True)
    made(root, tmp_path, "iommu-parameter", INTEL)
    entries = Path(root, "boot/loader/entries")
    for name in ("debian.conf", "debian-old.conf"):
        assert (entries / name).read_text() == ENTRY.replace("quiet", "quiet intel_iommu=on")
    assert (entries / "memtest.conf").read_text() == "title m\nefi /m.efi\n"
    assert Path(root, "etc/kernel/cmdline").read_text() == "root=1 ro intel_iommu=on\n"
    assert menus == []
    assert undone(root, tmp_path) == ()
    assert snapshot(root) == before


@pytest.mark.parametrize(
    "entry",
    [
        ENTRY + "options more\n",
        ENTRY.replace("root=UUID=1", "$kernelopts"),
        ENTRY.replace("quiet", 'a="b c"'),
        ENTRY.replace("options", "#options"),
    ],
    ids=["two lines", "a variable", "quotes", "none"],
)
def test_an_entry_of_another_form_leaves_all_alone(pc: Pc, entry: str) -> None:
    root = pc(loader="timeout 3\n", entry=ENTRY, other_entry=entry)
    before = snapshot(root)
    problem = hostfiles.of("iommu-parameter", INTEL, root).problem or ""
    assert problem.startswith("/boot/loader/entries/debian-old.conf")
    assert snapshot(root) == before


def test_fedoras_entries_are_edited_with_the_defaults_of_grub(pc: Pc, menus: Menus, tmp_path: Path) -> None:
    defaults = 'GRUB_CMDLINE_LINUX="rhgb quiet"\nGRUB_ENABLE_BLSCFG=true\n'
    root = pc(grub=defaults, entry=ENTRY, **GRUB)
    before = snapshot(root)
    made(root, tmp_path, "iommu-parameter", INTEL)
    assert "quiet intel_iommu=on\n" in Path(root, "boot/loader/entries/debian.conf").read_text()
    assert 'GRUB_CMDLINE_LINUX="rhgb quiet intel_iommu=on"' in (Path(root) / "etc/default/grub").read_text()
    assert menus == []
    undone(root, tmp_path)
    assert snapshot(root) == before


STUB = {"default": {"kernel_options": ["quiet"]}, "user": {"kernel_options": ["quiet", "splash"], "config_rev": 4}}


def test_kernelstubs_configuration_and_the_entry_made_of_it_get_the_parameter(
    pc: Pc, menus: Menus, tmp_path: Path
) -> None:
    root = pc(kernelstub=json.dumps(STUB, indent=2), loader="timeout 3\n", entry=ENTRY)
    before = snapshot(root)
    made(root, tmp_path, "iommu-parameter", INTEL)
    configuration = json.loads(Path(root, "etc/kernelstub/configuration").read_text())
    assert configuration["user"]["kernel_options"] == ["quiet", "splash", "intel_iommu=on"]
    assert configuration["default"] == STUB["default"]
    assert "quiet intel_iommu=on" in Path(root, "boot/loader/entries/debian.conf").read_text()
    assert undone(root, tmp_path) == ()
    assert snapshot(root) == before


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[" * 100000,
        json.dumps(STUB, indent=4),
        json.dumps(STUB),
        json.dumps(STUB, indent=2).replace('"config_rev": 4', '"config_rev": 5'),
        json.dumps(STUB, indent=2).replace('"splash"', '"two words"'),
        json.dumps(STUB, indent=2).replace('"splash"', "7"),
    ],
)
def test_a_configuration_that_kernelstub_would_write_otherwise_is_left_alone(pc: Pc, text: str) -> None:
    root = pc(kernelstub=text, loader="timeout 3\n", entry=ENTRY)
    before = snapshot(root)
    assert "kernelstub writes" in (hostfiles.of("iommu-parameter", INTEL, root).problem or "")
    assert snapshot(root) == before


def test_a_menu_that_cannot_be_made_puts_the_file_back(pc: Pc, menus: Menus, tmp_path: Path) -> None:
    root = pc(grub=DEBIAN, **GRUB)
    before = snapshot(root)
    menus.fails = True
    fix = hostfiles.of("iommu-parameter", INTEL, root)
    said: list[str] = []
    with hostfiles.held(tmp_path / "record") as kept, pytest.raises(HostError, match="no space"):
        hostfiles.make(fix, kept, said.append, root)
    assert snapshot(root) == before
    menus.fails = False
    assert undone(root, tmp_path) == (), "the menu that could not be made is made when it can be"
    assert not (tmp_path / "record").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_record_that_takes_no_more_leaves_no_file_changed(
    pc: Pc, menus: Menus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pc(loader="timeout 3\n", entry=ENTRY, other_entry=ENTRY, cmdline="root=UUID=1 ro\n")
    before = snapshot(root)
    fix = hostfiles.of("iommu-parameter", INTEL, root)
    write, written = os.write, list[int]()

    def full(handle: int, data: bytes) -> int:
        written.append(handle)
        if len(written) <= 2:
            return write(handle, data)
        with Path("/dev/full").open("wb", buffering=0) as device:
            return os.writev(device.fileno(), [data])

    monkeypatch.setattr(os, "write", full)
    with hostfiles.held(tmp_path / "record") as kept, pytest.raises(HostError):
        hostfiles.make(fix, kept, lambda _: None, root)
    monkeypatch.undo()
    assert snapshot(root) == before


@pytest.mark.parametrize("moment", range(4))
def test_a_fix_that_is_cut_short_at_any_moment_is_undone(
    pc: Pc, menus: Menus, tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pc(grub=DEBIAN, **GRUB)
    before = snapshot(root)
    fix = hostfiles.of("iommu-parameter", INTEL, root)
    edit = fix.edits[0]
    with hostfiles.held(tmp_path / "record") as kept:  # the steps of make, as far as a power cut lets them come
        if moment > 0:
            kept.add(fix.advice, record.FileStep(path=edit.path, before=edit.before, after=edit.after.digest))
        if moment > 1:
            files.put(edit.path, edit.after, root)
        if moment > 2:
            kept.add(fix.advice, record.MenuStep(command="update-grub"))
    with (tmp_path / "record").open("ab") as half:
        half.write(b'{"type":"done","numb')
    assert undone(root, tmp_path) == ()
    assert snapshot(root) == before


def test_an_interrupt_takes_the_fix_back(pc: Pc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pc(grub=DEBIAN, **GRUB)
    before = snapshot(root)
    calls: list[str] = []

    def interrupted(command: str) -> str:
        calls.append(command)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(process, "make_boot_menu", interrupted)
    fix = hostfiles.of("iommu-parameter", INTEL, root)
    with hostfiles.held(tmp_path / "record") as kept, pytest.raises(KeyboardInterrupt):
        hostfiles.make(fix, kept, lambda _: None, root)
    assert snapshot(root) == before
    assert calls == ["update-grub", "update-grub"]


def test_what_somebody_changed_since_is_left_as_it_is_and_stays_in_the_record(
    pc: Pc, menus: Menus, tmp_path: Path
) -> None:
    root = pc(grub=DEBIAN, **GRUB)
    made(root, tmp_path, "iommu-parameter", INTEL)
    theirs = Path(root) / "etc/default/grub"
    theirs.write_text(theirs.read_text() + "GRUB_BADRAM=1\n")
    kept = theirs.read_bytes()
    assert [DEFAULTS in problem for problem in undone(root, tmp_path)] == [True]
    assert theirs.read_bytes() == kept
    entry, menu = hostfiles.read(tmp_path / "record")
    assert isinstance(entry.step, record.FileStep)
    assert entry.step.before is not None
    assert entry.step.before.data == DEBIAN.encode()
    assert menu.step == record.MenuStep(command="update-grub")
    theirs.write_text(kept.decode().removesuffix("GRUB_BADRAM=1\n"))
    before = len(menus)
    assert undone(root, tmp_path) == ()
    assert theirs.read_text() == DEBIAN
    assert len(menus) == before + 1, "the menu follows the file that came back later"


def test_a_change_of_the_mode_alone_is_somebodys_too(pc: Pc, menus: Menus, tmp_path: Path) -> None:
    root = pc(grub=DEBIAN, **GRUB)
    made(root, tmp_path, "iommu-parameter", INTEL)
    (Path(root) / "etc/default/grub").chmod(0o600)
    assert undone(root, tmp_path) != ()


def test_mode_and_owner_stay(pc: Pc, menus: Menus, tmp_path: Path) -> None:
    root = pc(grub=DEBIAN, **GRUB)
    file = Path(root) / "etc/default/grub"
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 12, 34)
    before = file.stat()
    made(root, tmp_path, "iommu-parameter", INTEL)
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_two_modules_share_clienthvs_file_and_each_is_taken_back(
    pc: Pc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(process, "load_module", lambda name, *, loaded: names.append(name) if loaded else None)
    names = loaded
    root = pc()
    host = Host(cpu=Cpu(vendor="AuthenticAMD", virtualization="svm"))
    made(root, tmp_path, "vfio-module", host)
    made(root, tmp_path, "kvm-module", host)
    text = Path(root, fixes.MODULES_LOAD.lstrip("/")).read_text()
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["vfio-pci", "kvm_amd"]
    assert loaded == ["vfio-pci", "kvm_amd"]
    undone(root, tmp_path)
    assert not Path(root, fixes.MODULES_LOAD.lstrip("/")).exists()


def test_a_module_that_does_not_load_leaves_no_file(pc: Pc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, *, loaded: bool) -> None:
        message = f"cannot load the module {name}: Operation not supported"
        raise HostError(message)

    monkeypatch.setattr(process, "load_module", refused)
    root = pc()
    fix = hostfiles.of("kvm-module", Host(cpu=Cpu(virtualization="vmx")), root)
    with hostfiles.held(tmp_path / "record") as kept, pytest.raises(HostError, match="kvm_intel"):
        hostfiles.make(fix, kept, lambda _: None, root)
    assert not Path(root, fixes.MODULES_LOAD.lstrip("/")).exists()
    assert hostfiles.read(tmp_path / "record") == ()


def test_a_file_of_clienthvs_name_that_somebody_wrote_otherwise_is_left_alone(pc: Pc) -> None:
    root = pc(modules="a; b | c\n")
    problem = hostfiles.of("vfio-module", INTEL, root).problem or ""
    assert "the line to add is: vfio-pci" in problem


def test_packages_that_came_are_removed_and_no_others(pc: Pc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"libc6", "swtpm"}

    def install(_: str, names: tuple[str, ...]) -> str:
        there.update({*names, "libneeded", "libneeded-common", "linux-image-6.1.0-99-amd64"})
        return "The following NEW packages will be installed:\n  libneeded swtpm-tools\nlibneeded-common-1.0-1.x86_64"

    removed: list[str] = []

    def remove(_: str, names: tuple[str, ...]) -> str:
        removed.extend(names)
        there.difference_update(names)
        return ""

    monkeypatch.setattr(process, "known_packages", lambda _: frozenset(there))
    monkeypatch.setattr(process, "installed_packages", lambda _: frozenset(there))
    monkeypatch.setattr(process, "install_packages", install)
    monkeypatch.setattr(process, "remove_packages", remove)
    fix = fixes.Fix("swtpm", packager="dpkg", packages=("swtpm", "swtpm-tools"))
    with hostfiles.held(tmp_path / "record") as kept:
        hostfiles.make(fix, kept, lambda _: None)
    assert undone(str(tmp_path), tmp_path) == ()
    assert removed == ["libneeded", "libneeded-common", "swtpm-tools"]
    assert there == {"libc6", "swtpm", "linux-image-6.1.0-99-amd64"}


def test_packages_that_somebody_else_installs_meanwhile_are_not_taken_back(
    pc: Pc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"libc6"}

    def install(_: str, names: tuple[str, ...]) -> str:
        there.add("linux-image-6.1.0-99-amd64")
        message = "could not get lock"
        raise HostError(message, detail="E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7")

    removed: list[str] = []
    monkeypatch.setattr(process, "known_packages", lambda _: frozenset(there))
    monkeypatch.setattr(process, "installed_packages", lambda _: frozenset(there))
    monkeypatch.setattr(process, "install_packages", install)
    monkeypatch.setattr(process, "remove_packages", lambda _, names: removed.extend(names) or "")
    fix = fixes.Fix("swtpm", packager="dpkg", packages=("swtpm",))
    with hostfiles.held(tmp_path / "record") as kept, pytest.raises(HostError, match="lock"):
        hostfiles.make(fix, kept, lambda _: None)
    assert removed == []
    assert hostfiles.read(tmp_path / "record") == ()


def test_a_record_that_is_damaged_or_newer_is_not_guessed_at(tmp_path: Path) -> None:
    for line in (
        '{"type":"done","schema":2}',
        '{"type":"done","schema":1,"number":1,"advice":"x","step":{"type":"y"}}',
    ):
        (tmp_path / "record").write_text(line + "\n")
        with pytest.raises(DocumentError):
            hostfiles.read(tmp_path / "record")


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/default/grub.d/../../x.cfg", "/etc/default/grub\n", "/root/x"])
def test_a_record_names_no_file_that_clienthv_does_not_edit(tmp_path: Path, path: str) -> None:
    step = {"type": "file", "path": path, "before": None, "after": "0"}
    line = {"type": "done", "schema": 1, "number": 1, "advice": "x", "step": step}
    (tmp_path / "record").write_text(json.dumps(line) + "\n")
    with pytest.raises(DocumentError):
        hostfiles.read(tmp_path / "record")


@pytest.mark.skipif(os.geteuid() != 0, reason="root's record is meant")
@pytest.mark.parametrize("name", ["record", ""])
@pytest.mark.parametrize(("uid", "mode"), [(1000, 0o755), (0, 0o757), (0, 0o1777)])
def test_root_follows_no_record_that_another_account_could_have_written(
    tmp_path: Path, name: str, uid: int, mode: int
) -> None:
    folder = tmp_path / "state"
    with hostfiles.held(folder / "record") as kept:
        kept.add("x", record.FileStep(path=DEFAULTS, before=None, after="0"))
    assert len(hostfiles.read(folder / "record")) == 1
    os.chown(folder / name, uid, 0)
    (folder / name).chmod(mode)
    with pytest.raises(HostError, match="others than root"):
        hostfiles.read(folder / "record")
    with pytest.raises(HostError, match="others than root"), hostfiles.held(folder / "record"):
        pass


def test_two_at_a_time_are_kept_apart(tmp_path: Path) -> None:
    with (
        hostfiles.held(tmp_path / "record"),
        pytest.raises(HostError, match="another"),
        hostfiles.held(tmp_path / "record"),
    ):
        pass


WORDS = st.sampled_from(
    ["quiet", "splash", "intel_iommu=off", "intel_iommu=on", "iommu=pt", "console=ttyS0,115200", "-", "a.b=c", "x=/y"]
)
SPACES = st.sampled_from([" ", "  ", "\t"])


@st.composite
def values(draw: st.DrawFn) -> str:
    words = draw(st.lists(WORDS, max_size=5))
    value = "".join(word + draw(SPACES) for word in words)
    quote = draw(st.sampled_from(['"', "'"]))
    return f"{quote}{value if draw(st.booleans()) else value.strip()}{quote}"


@st.composite
def defaults(draw: st.DrawFn) -> str:
    other = st.sampled_from(["", "# a comment", "GRUB_TIMEOUT=5", "export GRUB_COLOR='a b'", '#GRUB_CMDLINE_LINUX="x"'])
    lines = draw(st.lists(other, max_size=4))
    for variable in draw(st.permutations(["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"])):
        for _ in range(draw(st.integers(0, 2))):
            lines.insert(draw(st.integers(0, len(lines))), f"{variable}={draw(values())}")
    return "\n".join(lines) + draw(st.sampled_from(["", "\n"]))


GRUB_LOADER = BootLoader(kind="grub", files=(DEFAULTS,), regenerate="update-grub", recognised=True)


def effective(text: str) -> list[str]:
    places = [in_force(((DEFAULTS, text),), v) for v in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")]
    return [word for found in places for place in found for word in place.assignment.words]


@given(defaults())
def test_an_edit_changes_these_parameters_in_force_and_nothing_else(text: str) -> None:
    before = effective(text)
    changed = parameters.edited(GRUB_LOADER, {DEFAULTS: text}, ("intel_iommu=on",), ()).get(DEFAULTS, text)
    after = effective(changed)
    assert "intel_iommu=off" not in after
    assert after.count("intel_iommu=on") == max(1, before.count("intel_iommu=on"))
    mine = {"intel_iommu=on", "intel_iommu=off"}
    assert [w for w in after if w not in mine] == [w for w in before if w not in mine]
    strip = [line for line in text.split("\n") if "GRUB_CMDLINE" not in line or line.startswith("#")]
    assert strip == [line for line in changed.split("\n") if "GRUB_CMDLINE" not in line or line.startswith("#")] or (
        len(changed.split("\n")) > len(text.split("\n"))
    )
    assert parameters.edited(GRUB_LOADER, {DEFAULTS: changed}, ("intel_iommu=on",), ()) == {}


@given(defaults(), st.integers(0, 0o777), st.booleans())
def test_a_fix_and_its_undo_are_nothing(text: str, mode: int, flat: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "make_boot_menu", lambda _: "")
        root = Path(folder, "pc")
        for name, content in {"etc/default/grub": text, "boot/grub/grub.cfg": "", "usr/sbin/update-grub": ""}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content.encode())
        (root / "etc/default/grub").chmod(mode | 0o400)
        before = snapshot(str(root))
        fix = hostfiles.of("iommu-parameter", INTEL, str(root))
        with hostfiles.held(Path(folder, "record")) as kept:
            if fix.problem is None:
                hostfiles.make(fix, kept, lambda _: None, str(root))
                assert snapshot(str(root)) != before
            assert hostfiles.undo(kept.entries, kept, lambda _: None, str(root)) == ()
        assert snapshot(str(root)) == before


@given(st.text(alphabet="GRUB_CMDLINE=\"'$`\\;\n #ab", max_size=60))
def test_no_text_is_understood_otherwise_than_a_shell_would(text: str) -> None:
    """Whatever is understood is one assignment a line: no text makes the parser fail otherwise."""
    try:
        found = assignments(f"GRUB_CMDLINE_LINUX={text}", DEFAULTS)
    except NotUnderstoodError:
        return
    assert set("\"'$`\\;") & set("".join(a.value for each in found.values() for a in each)) <= {";"}


def test_a_record_cut_off_at_any_byte_has_the_steps_before_and_takes_more(tmp_path: Path) -> None:
    path = tmp_path / "record"
    with hostfiles.held(path) as kept:
        for number in range(3):
            kept.add("x", record.MenuStep(command="update-grub"))
            kept.add("x", record.FileStep(path=f"{DEFAULTS}.d/{number}.cfg", before=None, after="0" * 64))
    whole = path.read_bytes()
    entries = hostfiles.read(path)
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        found = hostfiles.read(path)
        assert found == entries[: len(found)]
        assert len(found) in (whole[:end].count(b"\n"), whole[:end].count(b"\n") + 1)
    path.write_bytes(whole[:-20])
    with hostfiles.held(path) as kept:
        more = kept.add("y", record.MenuStep(command="update-grub"))
    assert hostfiles.read(path) == (*entries[:5], more)
