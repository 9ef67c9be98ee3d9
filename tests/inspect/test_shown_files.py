"""The files that evidence names are there on this very PC, and say what it says."""

from __future__ import annotations

import re
from pathlib import Path

from clienthv import api
from clienthv.inspect import read
from clienthv.model.host import Host
from clienthv.strategies.evidence import of_function, of_rejected


def told_of(host: Host) -> set[tuple[str, str]]:
    shown = [e for function in host.pci for e in of_function(function, host)]
    against = [r for device in api.devices(host).devices for r in device.objections]
    shown += [e for rejected in against for e in of_rejected(rejected, host)]
    return {(e.file, e.value) for e in shown if re.fullmatch(r"/sys/bus/pci/devices/[0-9a-f:.]+/\w+", e.file)}


def said_by(file: str) -> str:
    path = Path(file)
    if path.is_symlink():
        return path.readlink().name
    return path.read_text().strip().removeprefix("0x") if path.exists() else "absent"


def test_what_is_shown_of_this_pc_is_what_its_files_say() -> None:
    host = read()
    told = {(file, value) for file, value in told_of(host) if value != "unknown"}
    assert {(file, said_by(file)) for file, _ in told} == told
    assert bool(told) == bool(host.pci)
