"""``clienthv new`` as a person meets it: questions on a terminal, flags without one, and a profile at the end."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from terminals import at_a_terminal

HOSTS = Path(__file__).resolve().parent.parent / "hosts"
PC = HOSTS / "desk-x570-3rdgen-rx580-gt710-b.json"
FREE, NEEDED = "0000:2e:00.0", "0000:2d:00.0"
QUIET = {"NO_COLOR": "1"}
ALL = {
    "--disk": "none", "--os": "debian11", "--portability": "performance", "--gpu": FREE, "--vcpus": "6",
    "--memory": "6 GiB", "--usb": "none",
}  # fmt: skip

Run = Callable[..., subprocess.CompletedProcess[str]]


def words(flags: dict[str, str]) -> list[str]:
    return [word for flag in flags.items() for word in flag]


def profile(tmp_path: Path, name: str = "desk") -> Path:
    return tmp_path / "config" / "clienthv" / "profiles" / f"{name}.toml"


def test_a_person_is_asked_told_what_each_answer_means_and_asked_again_after_a_wrong_one(tmp_path: Path) -> None:
    with at_a_terminal("new", "--host", str(PC), home=tmp_path, columns=100, environment=QUIET) as terminal:
        terminal.answer("(its path, or none) [none]:", "none")
        terminal.answer("[linux]:", "debain11")
        assert "did you mean debian11" in terminal.answer("[linux]:", "debian11")
        assert "→ moves to another PC; while it runs only to" in terminal.answer(
            "Name of the profile [debian11]:", "desk"
        )
        assert "the image runs on any PC" in terminal.answer("How portable [balanced]:", "performance")
        listed = terminal.answer("[auto]:", "1")
        assert f"1  {FREE} Advanced Micro Devices" in listed
        assert f"-  {NEEDED} NVIDIA" in listed
        assert "[boot-display]" in listed
        assert f"→ gpu: passthrough: {FREE}" in terminal.answer("Virtual processors [8]:", "6")
        assert "→ size: 6 vCPUs" in terminal.answer("Memory [8 GiB]:", "6 GiB")
        code, shown = terminal.finish()
    assert code == 0
    assert f"{profile(tmp_path)}\n" in shown.partition("wrote")[2]
    assert "clienthv up desk --name desk --wait" in shown
    data = tomllib.loads(profile(tmp_path).read_text())
    assert (data["extends"], data["guest"]["os"], data["size"]["vcpus"]) == ("performance", "debian11", 6)
    assert data["devices"]["gpu"]["select"] == [FREE]


def test_the_flags_answer_the_same_questions_and_nothing_is_asked(clienthv: Run, tmp_path: Path) -> None:
    done = clienthv("new", "desk", *words(ALL), "--host", str(PC))
    assert done.returncode == 0, done.stderr
    assert "?" not in done.stderr
    assert clienthv("profiles", "check", str(profile(tmp_path))).returncode == 0
    plan = json.loads(clienthv("plan", "desk", "--json", "--host", str(PC)).stdout)
    gpu = next(d for d in plan["decisions"] if d["kind"] == "gpu")
    assert (plan["vcpus"], plan["memory_mib"], gpu["strategy"], gpu["device"]) == (6, 6144, "passthrough", FREE)


def test_a_written_profile_plans_as_it_was_told(clienthv: Run, tmp_path: Path) -> None:
    done = clienthv("new", "desk", "--yes", "--os", "debian11", "--portability", "performance", "--host", str(PC))
    told = next(line for line in done.stderr.splitlines() if line.startswith("  → gpu: passthrough"))
    shown = clienthv("plan", "desk", "--host", str(PC)).stdout
    gpu = next(line for line in shown.splitlines() if line.startswith("  gpu "))
    assert told.removeprefix("  → gpu: passthrough: ") in gpu


@pytest.mark.parametrize(
    ("left_out", "named"), [*((flag, flag) for flag in ALL if flag != "--disk"), ("--disk", "--disk or --cdrom")]
)
def test_without_a_terminal_a_missing_answer_is_named_and_nothing_is_written(
    left_out: str, named: str, clienthv: Run, tmp_path: Path
) -> None:
    done = clienthv("new", "desk", *words({f: v for f, v in ALL.items() if f != left_out}), "--host", str(PC))
    assert done.returncode == 2
    assert f"{named} is not given, and there is no terminal to ask on [usage]" in done.stderr
    assert not (tmp_path / "config").exists()


def test_a_card_that_the_host_needs_is_taken_only_when_named_and_meant(clienthv: Run, tmp_path: Path) -> None:
    refused = clienthv("new", "desk", "--yes", "--gpu", NEEDED, "--host", str(PC))
    assert refused.returncode == 2
    assert "this PC has no screen" in refused.stderr
    assert f"--gpu {NEEDED} --allow boot-display" in refused.stderr
    assert not (tmp_path / "config").exists()
    meant = clienthv("new", "desk", "--yes", "--gpu", NEEDED, "--allow", "boot-display", "--host", str(PC))
    assert meant.returncode == 0, meant.stderr
    assert "DANGER" in profile(tmp_path).read_text()
    assert "--gpu" in clienthv("new", "x", "--yes", "--allow", "boot-display", "--host", str(PC)).stderr


def test_a_person_is_told_the_danger_and_may_take_it_back(tmp_path: Path) -> None:
    flags = {flag: value for flag, value in ALL.items() if flag != "--gpu"}
    with at_a_terminal("new", "desk", *words(flags), "--host", str(PC), home=tmp_path, environment=QUIET) as terminal:
        terminal.answer("[auto]:", "2")
        assert "not handed over by its number" in terminal.answer("[auto]:", NEEDED)
        assert "danger: " in terminal.answer("[y/N]:", "n")
        terminal.answer("[auto]:", "virtual")
        code, _ = terminal.finish()
    assert code == 0
    assert "passthrough" not in tomllib.loads(profile(tmp_path).read_text())["devices"]["gpu"]["prefer"]


def test_nothing_is_overwritten_and_no_shipped_profile_hidden_unless_that_is_asked_for(
    clienthv: Run, tmp_path: Path
) -> None:
    assert clienthv("new", "desk", "--yes", "--host", str(PC)).returncode == 0
    before = profile(tmp_path).read_text()
    again = clienthv("new", "desk", "--yes", "--os", "win10", "--host", str(PC))
    assert (again.returncode, "is not overwritten" in again.stderr) == (2, True)
    assert profile(tmp_path).read_text() == before
    assert clienthv("new", "desk", "--yes", "--os", "win10", "--host", str(PC), "--force").returncode == 0
    assert profile(tmp_path).read_text() != before
    hiding = clienthv("new", "balanced", "--yes", "--host", str(PC))
    assert (hiding.returncode, "comes with clienthv" in hiding.stderr) == (2, True)
    (tmp_path / "link.toml").symlink_to("nowhere.toml")
    through = clienthv("new", "desk", "--yes", "--host", str(PC), "-o", "link.toml")
    assert (through.returncode, "is not overwritten" in through.stderr) == (2, True)
    assert (tmp_path / "link.toml").is_symlink()


@pytest.mark.parametrize("os", ['win11"\n[devices.audio]\n#', "win11\x1b[31m", "debian/../x"])
def test_no_text_that_is_no_id_comes_into_the_profile(clienthv: Run, os: str) -> None:
    done = clienthv("new", "desk", "--yes", "--os", os, "-o", "-", "--host", str(PC))
    assert (done.returncode, done.stdout) == (2, "")
    assert "osinfo-db has no operating system" in done.stderr
    assert "\x1b" not in done.stderr


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    with at_a_terminal("new", "--host", str(PC), home=tmp_path, environment=QUIET) as terminal:
        terminal.answer("(its path, or none) [none]:", "none")
        terminal.read_until("[linux]:")
        code, shown = terminal.interrupt()
    assert code == 130
    assert "Interrupted" in shown
    assert not (tmp_path / "config").exists()


def test_standard_output_gets_the_profile_and_nothing_else(clienthv: Run, tmp_path: Path) -> None:
    done = clienthv("new", "desk", "--yes", "--os", "win11", "-o", "-", "--host", str(PC))
    assert tomllib.loads(done.stdout)["guest"]["os"] == "win11"
    assert not (tmp_path / "config").exists()


def test_a_file_elsewhere_is_planned_by_its_path(clienthv: Run, tmp_path: Path) -> None:
    done = clienthv("new", "desk", "--yes", "--host", str(PC), "-o", "mine.toml")
    assert "clienthv plan ./mine.toml --explain" in done.stdout
    assert clienthv("plan", "./mine.toml", "--host", str(PC)).returncode == 0
    bad = clienthv("new", "desk", "--yes", "--host", str(PC), "-o", str(tmp_path / "mine.toml" / "x.toml"))
    assert bad.returncode == 3


def test_an_image_is_refused_as_everywhere_and_a_good_one_goes_into_the_next_command(
    clienthv: Run, tmp_path: Path
) -> None:
    image = tmp_path / "my disk.qcow2"
    evil = tmp_path / "evil.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(evil)], check=True)
    done = clienthv("new", "desk", "--yes", "--no-inspect", "--disk", str(image), "--host", str(PC))
    assert f"--disk '{image}'" in done.stdout, done.stderr
    assert clienthv("new", "x", "--yes", "--disk", str(evil), "--host", str(PC)).returncode == 11
    missing = clienthv("new", "x", "--yes", "--disk", "nowhere.qcow2", "--host", str(PC))
    assert (missing.returncode, "nowhere.qcow2" in missing.stderr) == (9, True)


def test_an_installer_comes_with_a_new_disk(clienthv: Run, tmp_path: Path) -> None:
    image = tmp_path / "x.iso"
    image.write_bytes(bytes(16 * 2048) + b"\x01CD001\x01" + bytes(2041))
    done = clienthv("new", "desk", "--yes", "--cdrom", str(image), "--host", str(PC))
    assert f"--new-disk '40 GiB' --cdrom {image} --wait" in done.stdout, done.stderr
    other = clienthv("new", "x", "--yes", "--cdrom", str(PC), "--host", str(PC))
    assert (other.returncode, "is no ISO image" in other.stderr) == (9, True)


@pytest.mark.parametrize(
    ("flag", "value", "code", "said"),
    [
        ("--os", "debain11", 2, "no operating system 'debain11'"), ("--gpu", "0000:99:00.0", 2, "no graphics card"),
        ("--memory", "8 GB", 2, "is not a size"), ("--usb", "046d", 2, "is not a USB device"),
        ("--usb", "046d:c52b,046d:c52b@1-2", 5, "with a port and without one"),
    ],
)  # fmt: skip
def test_a_wrong_answer_of_a_flag_is_an_error(
    flag: str, value: str, code: int, said: str, clienthv: Run, tmp_path: Path
) -> None:
    done = clienthv("new", "desk", *words({**ALL, flag: value}), "--host", str(PC))
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "config").exists()
