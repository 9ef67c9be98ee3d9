from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    max_examples=80,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("repeatable")


class ProcessStartedError(BaseException):
    """A unit test started a process. Not an Exception, so that no handler in the product hides it."""


def _refuse(*arguments: Any, **_: Any) -> NoReturn:
    raise ProcessStartedError(arguments)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes, and nothing of the user's own folders."""
    monkeypatch.setattr(subprocess.Popen, "__init__", _refuse)
    for name in ("execv", "execve", "posix_spawn", "posix_spawnp", "fork", "system"):
        monkeypatch.setattr(os, name, _refuse)
    for variable, folder in (
        ("HOME", "home"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_DATA_HOME", "data"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / folder))
