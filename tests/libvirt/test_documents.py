"""What the commands that look at VMs print as JSON, on the real embedded driver, against the published schemas."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

if TYPE_CHECKING:
    from conftest import Machine

pytestmark = pytest.mark.libvirt

SCHEMAS = Path(__file__).resolve().parent.parent.parent / "docs" / "schemas"


def document(machine: Machine, *arguments: str) -> Any:
    done = machine.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, json.loads((SCHEMAS / f"{found['kind']}.json").read_text()))
    return found


def test_list_status_and_view_print_documents_and_the_screen_is_where_view_says(embedded: Machine) -> None:
    assert document(embedded, "list")["vms"] == []
    started = embedded.run("up", "portable", "--name", "seen")
    assert started.returncode == 0, started.stderr
    (row,) = document(embedded, "list")["vms"]
    (same,) = document(embedded, "status", "seen")["vms"]
    plan = same.pop("plan")
    assert row == same
    assert row["strategies"] == {d["name"]: d["strategy"] for d in plan["decisions"]}
    view = document(embedded, "view", "seen")
    (screen,) = view["screens"]
    assert view["addresses"] == [f"{screen['type']}+unix://{screen['path']}"]
    with socket.socket(socket.AF_UNIX) as asked:  # somebody answers there
        asked.settimeout(20)
        asked.connect(screen["path"])
    told = embedded.run("view", "seen")
    assert told.returncode == 0, told.stderr
    assert view["addresses"][0] in told.stdout
    assert "no graphical session" in told.stdout
    assert embedded.run("down", "seen", "--force").returncode == 0
    asleep = embedded.run("view", "seen", "--json")
    assert (asleep.returncode, asleep.stdout) == (10, "")
    assert "clienthv up seen" in asleep.stderr
