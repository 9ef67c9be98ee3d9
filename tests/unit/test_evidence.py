"""The files that show why a rung was not taken: on every recorded PC, and for each reason on a PC made for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from clienthv import api
from clienthv.errors import ClienthvError
from clienthv.model.advice import Evidence
from clienthv.model.host import Host, PciFunction, decode
from clienthv.model.plan import Kind, Reason, Rejected, Strategy
from clienthv.strategies.evidence import NO_FACT_OF_THE_HOST, of_function, of_rejected

HOSTS = Path(__file__).parent.parent / "hosts"
RECORDED = sorted([*HOSTS.glob("*.json"), *HOSTS.glob("more/*.json")])
PROFILES = ("performance", "mixed", "portable")
R = Reason
SURE = {R.NO_HARDWARE_VIRTUALIZATION: ("neither vmx nor svm",), R.ARCHITECTURE_DIFFERS: ("x86_64",)}
"""What the reason itself says, or every document has."""


def rejections(host: Host) -> list[tuple[Kind | None, Rejected]]:
    """Every rung that is not taken on a host, by some profiles, and every device that cannot be handed over."""
    found: list[tuple[Kind | None, Rejected]] = []
    for name in PROFILES:
        try:
            plan = api.plan(host, api.load_profile(name))
        except ClienthvError:
            continue  # not every PC is large enough for every profile
        found += [(d.kind, r) for d in plan.decisions for r in d.rejected]
    return found + [(None, r) for device in api.devices(host).devices for r in device.objections]


def check(evidence: Evidence, host: Host) -> None:
    """What a file of a PCI function is said to hold is what the host document has of it."""
    assert evidence.file
    assert evidence.value
    assert "None" not in evidence.value
    match = re.fullmatch(r"/sys/bus/pci/devices/([0-9a-f:.]+)/(\w+)", evidence.file)
    if match is None:
        return
    function = host.by_address[match[1]]
    holds: dict[str, Any] = {
        "vendor": function.vendor_id,
        "device": function.device_id,
        "driver": function.driver,
        "iommu_group": function.iommu_group,
        "boot_vga": None if function.boot_vga is None else int(function.boot_vga),
        "physfn": function.physfn,
        "reset_method": None if function.reset_methods is None else " ".join(function.reset_methods),
        "sriov_numvfs": function.sriov.numvfs if function.sriov else None,
    }
    if match[2] in holds:
        value = holds[match[2]]
        nothing = {"absent", "unknown"} if match[2] == "iommu_group" else {"unknown"}
        assert evidence.value in (nothing if value is None else {str(value) or "absent"})


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_every_rung_that_a_recorded_pc_cannot_have_is_shown_by_its_files(path: Path) -> None:
    host = decode(path.read_bytes(), path.name)
    for kind, rejected in rejections(host):
        found = of_rejected(rejected, host, kind)
        on_the_guest = rejected.reason is R.NO_GUEST_DRIVER and rejected.device is None
        assert bool(found) == (rejected.reason not in NO_FACT_OF_THE_HOST and not on_the_guest), rejected
        for evidence in found:
            check(evidence, host)


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_what_is_told_of_a_function_of_a_recorded_pc_is_in_its_document(path: Path) -> None:
    host = decode(path.read_bytes(), path.name)
    for function in host.pci:
        found = of_function(function, host)
        assert {f"/sys/bus/pci/devices/{function.address}/{f}" for f in ("driver", "iommu_group", "reset_method")} <= {
            e.file for e in found
        }
        for evidence in found:
            check(evidence, host)


@pytest.mark.parametrize("reason", Reason)
def test_of_a_host_of_which_nothing_is_known_nothing_is_invented(reason: Reason) -> None:
    host = Host(pci=(PciFunction(address="0000:01:00.0"),))
    for device in (None, "0000:01:00.0", "0000:09:00.0", "046d:c52b", "class:webcam", "bridge:br0", "passt", "x\n"):
        rejected = Rejected(strategy=Strategy.PASSTHROUGH, device=device, reason=reason, detail="")
        for kind in (None, *Kind):
            said = {e.value for e in of_rejected(rejected, host, kind) if not e.file.startswith("host document")}
            assert said <= {"unknown", *SURE.get(reason, ())}
