"""What all tiers share: the command line as a process, and golden files that are written on request alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
HOSTS = REPOSITORY / "tests" / "hosts"

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regen", action="store_true", help="write the golden files anew")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--regen") and os.environ.get("CI"):
        message = "golden files are not written in CI"
        raise pytest.UsageError(message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no test be left out where all must run (CLIENTHV_COMPLETE): one that is skipped fails."""
    report = yield
    if report.skipped and os.environ.get("CLIENTHV_COMPLETE"):
        report.outcome = "failed"
    return report


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, bytes], None]:
    """Compare with a golden file; a missing one fails. Only --regen writes."""

    def compare(path: Path, actual: bytes) -> None:
        if request.config.getoption("--regen"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(actual)
            return
        assert path.is_file(), f"{path.relative_to(REPOSITORY)} is missing: run `make golden` and look at it"
        assert actual.decode() == path.read_text(), f"{path.relative_to(REPOSITORY)} differs: see `make golden`"

    return compare


@pytest.fixture
def clienthv(tmp_path: Path) -> Run:
    """The command line as a user runs it: a process of its own, with empty XDG folders."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_DATA_HOME": str(tmp_path / "data"),
            **extra,
        }
        environment.pop("LIBVIRT_DEFAULT_URI", None)
        return subprocess.run(
            [sys.executable, "-m", "clienthv", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            timeout=300,
            check=False,
        )

    return run
