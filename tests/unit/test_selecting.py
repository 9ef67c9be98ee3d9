"""What a profile's selectors mean on a PC."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from clienthv import planner
from clienthv.errors import PlanError, ProfileError
from clienthv.model.host import Host, Iommu, Kvm, PciFunction, Role, RoleName
from clienthv.model.particulars import Particulars
from clienthv.model.plan import Decision, Kind, Reason, Strategy
from clienthv.model.profile import ProfileText, parse
from clienthv.model.selector import path_of

FIRST = PciFunction(
    address="0000:01:00.0", class_code="030000", vendor_id="10de", device_id="1b80", driver="nouveau", boot_vga=False,
    iommu_group=1, vendor="NVIDIA", device="GeForce RTX 2070", bridge_path=("0000:00:01.0",),
)  # fmt: skip
SECOND = msgspec.structs.replace(
    FIRST, address="0000:05:00.0", device_id="2504", device="GeForce GTX 970", iommu_group=5,
    bridge_path=("0000:00:03.1", "0000:04:02.0"),
)  # fmt: skip
AMD = msgspec.structs.replace(
    FIRST, address="0000:09:00.0", vendor_id="1002", device_id="67df", vendor="AMD", device="Polaris [RX 580]",
    iommu_group=9, bridge_path=None, particulars=Particulars(firmware_label="Onboard Video"),
)  # fmt: skip


def pc(*functions: PciFunction, **more: Any) -> Host:
    iommu = Iommu(enabled=True, interrupt_remapping=True)
    return Host(pci=functions, kvm=Kvm(usable=True), iommu=iommu, roles_read=tuple(RoleName), **more)


def gpu(*select: str, allow: tuple[str, ...] = (), host: Host | None = None) -> Decision:
    text = f"""[guest]
drivers = ["nvidia", "amd"]
[devices.gpu]
prefer = ["passthrough", "emulated"]
select = {json.dumps(select)}
allow = {json.dumps(allow)}"""
    return planner.plan(host or pc(FIRST, SECOND, AMD), parse((ProfileText("test", "test.toml", text),))).of(Kind.GPU)


@pytest.mark.parametrize(
    ("selector", "device"),
    [
        ("0000:05:00.0", SECOND),
        ("10de:2504", SECOND),
        ("1002:", AMD),
        ("vendor:amd", AMD),
        ("vendor:nvidia", FIRST),
        ("name:*gtx*", SECOND),
        ("name:*[RX 580]", AMD),
        ("label:onboard v*", AMD),
        ("path:0000:00:01.0/00.0", FIRST),
        ("path:0000:00:03.1/02.0/00.0", SECOND),
    ],
)
def test_a_device_is_named_in_many_ways(selector: str, device: PciFunction) -> None:
    assert gpu(selector).device == device.address


@pytest.mark.parametrize(
    "selector", ["8086:", "vendor:intel", "name:*Voodoo*", "label:LAN", "path:0000:00:1c.0/00.0", "10de:1b81"]
)
def test_a_selector_that_means_nothing_still_narrows(selector: str) -> None:
    decision = gpu(selector)
    assert decision.strategy is Strategy.EMULATED
    assert {r.reason for r in decision.rejected} == {Reason.NOT_SELECTED}


def test_what_is_unknown_of_a_device_does_not_fit() -> None:
    bare = PciFunction(address="0000:01:00.0", class_code="030000", iommu_group=1, boot_vga=False, driver="x")
    rejected = gpu("name:*", "label:*", "path:0000:01:00.0", "10de:", host=pc(bare)).rejected
    assert Reason.NOT_SELECTED in {r.reason for r in rejected}


def test_a_path_leaves_out_the_bus_numbers_that_change() -> None:
    assert path_of(SECOND) == "0000:00:03.1/02.0/00.0"


def held() -> Host:
    role = Role(role=RoleName.CONNECTED_DISPLAY, address=AMD.address, evidence=("a screen",))
    return pc(FIRST, SECOND, AMD, roles=(role,))


def test_a_use_is_given_up_for_a_selector_that_means_one_device() -> None:
    assert gpu("vendor:amd", host=held()).strategy is Strategy.EMULATED
    assert gpu("vendor:amd", allow=("connected-display",), host=held()).device == AMD.address


def test_no_use_is_given_up_for_a_selector_that_means_several() -> None:
    with pytest.raises(PlanError, match="exact device") as caught:
        gpu("vendor:nvidia", allow=("connected-display",))
    assert FIRST.address in str(caught.value)
    assert SECOND.address in str(caught.value)


@pytest.mark.parametrize(
    "iommu",
    [
        Iommu(enabled=True, acs_override=True),
        Iommu(enabled=True, interrupt_remapping=False, unsafe_interrupts=True),
    ],
    ids=["split group", "unsafe interrupts"],
)
def test_weak_isolation_is_accepted_for_a_device_that_is_named_alone(iommu: Iommu) -> None:
    weak = msgspec.structs.replace(pc(FIRST, SECOND), iommu=iommu)
    assert gpu("vendor:nvidia", host=weak).strategy is Strategy.EMULATED
    for exactly in ("10de:2504", "name:*970*", SECOND.address):
        assert gpu(exactly, host=weak).device == SECOND.address


def test_a_disk_controller_is_named_as_one_device_and_not_by_a_pattern_for_several() -> None:
    disks = tuple(
        PciFunction(
            address=f"0000:0{bus}:00.0",
            class_code="010802",
            vendor_id="144d",
            device="NVMe",
            driver="nvme",
            iommu_group=bus,
        )
        for bus in (4, 5)
    )
    text = 'schema = 1\n[devices.disk]\nprefer = ["passthrough", "emulated"]\nselect = ["name:*NVMe*"]'
    profile = parse((ProfileText("test", "a test", text),))
    assert planner.plan(pc(disks[0]), profile).of(Kind.DISK).device == disks[0].address
    with pytest.raises(PlanError, match="as an exact device") as caught:
        planner.plan(pc(*disks), profile)
    assert disks[1].address in str(caught.value)


@pytest.mark.parametrize(
    "selector",
    [
        "name:" + "*a" * 5,
        "label:" + "*a" * 5,
        "label:a\nb",
        "name:" + "a" * 100,
        "vendor:acme",
        "10DE:",
        "path:01.0",
        "name:a\nb",
        "10de:1b8",
    ],
)
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(ProfileError, match=r"devices\.gpu\.select"):
        gpu(selector)


def test_a_name_made_to_match_slowly_does_not() -> None:
    host = pc(msgspec.structs.replace(FIRST, device="a" * 5000))
    before = time.monotonic()
    gpu("name:*" + "a" * 20 + "*" + "a" * 20 + "*" + "a" * 20 + "*b", host=host)
    assert time.monotonic() - before < 1
