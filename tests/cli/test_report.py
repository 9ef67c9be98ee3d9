"""``clienthv report`` as a person meets it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LAB = str(REPOSITORY / "tests" / "hosts" / "lab-full.json")
RECORDED = str(REPOSITORY / "tests" / "hosts" / "desk-x570-3rdgen-rx580-gt710-b.json")

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_report_is_written_whole_and_is_the_same_each_time(clienthv: Run, tmp_path: Path) -> None:
    done = clienthv("report", "performance", "balanced", "--host", LAB, "-o", "pc.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = (tmp_path / "pc.html").read_text()
    assert written.startswith("<!DOCTYPE html>")
    assert written.endswith("</html>\n")
    assert "VM <bdi>balanced</bdi>" in written
    assert clienthv("report", "performance", "balanced", "--host", LAB).stdout == written


def test_svg_is_the_picture_alone(clienthv: Run) -> None:
    done = clienthv("report", "--svg", "--host", RECORDED)
    assert done.returncode == 0
    assert done.stdout.startswith("<svg ")
    assert done.stdout.endswith("</svg>\n")


def test_a_vm_without_a_plan_is_told_in_the_page_and_by_the_exit_code(clienthv: Run, tmp_path: Path) -> None:
    (tmp_path / "greedy.toml").write_text(
        'schema = 1\nextends = "balanced"\ndescription = "wants what is not there"\n'
        '[devices.gpu]\nprefer = ["passthrough"]\n'
    )
    done = clienthv("report", "./greedy.toml", "balanced", "--host", LAB.replace("full", "no-iommu"), "-o", "pc.html")
    assert done.returncode == 4
    assert "not all of these VMs can run together: greedy" in done.stderr
    written = (tmp_path / "pc.html").read_text()
    assert 'class="problem"' in written
    assert "iommu" in written.partition('class="problem"')[2].partition("</p>")[0].lower()


def test_a_set_and_profiles_exclude_each_other(clienthv: Run) -> None:
    done = clienthv("report", "balanced", "--set", "x.toml")
    assert done.returncode == 2
    assert "give either profiles or --set" in done.stderr


def test_a_report_on_what_was_pasted_says_what_is_unknown(clienthv: Run, tmp_path: Path) -> None:
    (tmp_path / "pasted.txt").write_text("01:00.0 VGA compatible controller [0300]: <b>Evil</b> [fefe:fefe] (rev a1)\n")
    done = clienthv("report", "--host", "pasted.txt")
    assert done.returncode == 0, done.stderr
    assert "&lt;b&gt;Evil&lt;/b&gt;" in done.stdout
    assert "<b>Evil" not in done.stdout
    assert 'id="unknown"' in done.stdout


@pytest.mark.parametrize("path", ["no/such/folder/pc.html", "."])
def test_a_report_that_cannot_be_written_is_an_error_with_the_path(clienthv: Run, path: str) -> None:
    done = clienthv("report", "--host", RECORDED, "-o", path)
    assert done.returncode == 3
    assert f"cannot write '{path}'" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_link_leads_to_is_written_and_the_link_stays(clienthv: Run, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("older")
    (tmp_path / "link.html").symlink_to("page.html")
    (tmp_path / "out").symlink_to("/proc/self/fd/1")  # as /dev/stdout is one, which root could replace for all
    assert clienthv("report", "--svg", "--host", LAB, "-o", "link.html").returncode == 0
    assert (tmp_path / "link.html").is_symlink()
    picture = (tmp_path / "page.html").read_text()
    assert picture.endswith("</svg>\n")
    assert clienthv("report", "--svg", "--host", LAB, "-o", "out").stdout == picture
    assert (tmp_path / "out").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root: the link is another account's")
def test_a_link_that_another_account_has_laid_is_not_followed(clienthv: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    for name, end in (("link.svg", "precious"), ("pipe.svg", "/dev/full")):
        (tmp_path / name).symlink_to(end)
        os.chown(tmp_path / name, 65534, 65534, follow_symlinks=False)
        assert clienthv("report", "--svg", "--host", LAB, "-o", name).returncode == 0
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text().endswith("</svg>\n")
    assert (tmp_path / "precious").read_text() == "precious"
