"""A VM with a GPU and a virtual function leaves the PC that has them, and runs on one that hands over nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lab
import pytest
from folder import BASE

if TYPE_CHECKING:
    from conftest import Pc

pytestmark = pytest.mark.lab
on = pytest.mark.parametrize
HOSTS = Path(__file__).resolve().parents[1] / "hosts"
CARRIED = BASE / "carried"
"""Between the two PCs, as a USB disk would be: one is up at a time."""
BUNDLE = "/tmp/traveller.clienthv"  # noqa: S108 - in the lab PC
GPU, VF, SRIOV_NIC = "1002:5046", "8086:10ca", "8086:10c9"


def carry(*paths: str) -> None:
    """Copy a file into the PC or out of it."""
    subprocess.run(["scp", "-q", "-F", lab.SSH_CONFIG, *paths], check=True)


def changed(check: dict[str, Any]) -> dict[str, str]:
    """What devices become there that are another thing than today, in one word."""
    return {d["kind"]: d["there"].partition(":")[0] for d in check["devices"] if d["changes"]}


@on("pc", ["full"], indirect=True, scope="session")
def test_a_vm_with_a_gpu_and_a_virtual_function_is_adapt_for_a_pc_without(
    pc: Pc, untouched: Callable[[], list[str]]
) -> None:
    pc.profile(
        "traveller",
        gpu={"prefer": ["passthrough", "paravirtual"]},
        nic={"prefer": ["vf", "paravirtual"], "select": [pc.function(SRIOV_NIC)]},
        disk={"prefer": ["paravirtual"]},
    )
    pc.up("traveller", "--new-disk", "64 MiB", work="write=vda")
    report = pc.guest("traveller")
    assert {GPU, VF} <= report.pci.keys()
    written = report.of("write")[0].removeprefix("vda sha256 ")

    without = pc.put((HOSTS / "lab-no-iommu.json").read_text(), "/root/without.json")
    running = json.loads(pc.ok(f"clienthv migrate-check traveller --to {without} local --json"))["checks"]
    assert [c["verdict"] for c in running] == ["adapt", "cold"], running
    assert changed(running[0]) == {"gpu": "paravirtual", "nic": "paravirtual"}
    assert {"host-device-same", "iommu-absent"} <= codes(running[0])

    assert "shut down by itself" in pc.ok("clienthv down traveller")
    pc.ok("rm -f /tmp/traveller.clienthv && clienthv export traveller -o /tmp/traveller.clienthv")
    pc.ok("chmod 644 /tmp/traveller.clienthv")
    CARRIED.mkdir(exist_ok=True)
    carry("lab:/tmp/traveller.clienthv", str(CARRIED))
    (CARRIED / "written").write_text(written)
    pc.ok("clienthv down traveller --undefine && rm /var/lib/clienthv/images/traveller.qcow2 /tmp/traveller.clienthv")
    assert pc.state() == untouched()


def codes(check: dict[str, Any]) -> set[str]:
    """The codes of findings, and of what the plan there rejected."""
    rejected = {r["reason"] for d in check["plan"]["decisions"] for r in d["rejected"]}
    return rejected | {f["code"] for f in check["findings"]}


@on("pc", ["no-iommu"], indirect=True, scope="session")
def test_it_starts_there_from_its_bundle_on_virtio_with_its_disk_intact(
    pc: Pc, untouched: Callable[[], list[str]]
) -> None:
    assert (CARRIED / "written").exists(), "run the whole file: the bundle comes from the full PC"
    carry(str(CARRIED / "traveller.clienthv"), "lab:/tmp")
    check = json.loads(pc.ok("clienthv migrate-check /tmp/traveller.clienthv --to local --json"))["checks"][0]
    assert check["verdict"] == "adapt"
    taken = pc.clienthv("import", BUNDLE)
    assert taken.rc == 0, taken.stderr
    assert "gpu0 was passthrough" in taken.stderr
    pc.up("traveller", work="read=vda")
    report = pc.guest("traveller")
    assert report.of("read") == [f"vda sha256 {(CARRIED / 'written').read_text()}"]
    assert not {GPU, VF} & report.pci.keys()
    assert report.pci["1af4:1041"] == "virtio-pci"
    assert "shut down by itself" in pc.down("traveller")
    pc.ok("rm /var/lib/clienthv/images/traveller.qcow2 /tmp/traveller.clienthv")
    (CARRIED / "written").unlink()
    assert pc.state() == untouched()


@pytest.mark.long
@on("pc", ["full"], indirect=True, scope="session")
def test_a_vm_is_copied_through_ssh_to_the_clienthv_of_another_account(
    pc: Pc, untouched: Callable[[], list[str]]
) -> None:
    pc.ok("test -e /root/.ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
    pc.ok("cat /root/.ssh/id_ed25519.pub >> /home/vagrant/.ssh/authorized_keys")
    pc.ok("ssh-keyscan -t ed25519 127.0.0.1 >> /root/.ssh/known_hosts 2>/dev/null")
    pc.up("portable", "--name", "walker", "--new-disk", "64 MiB", work="write=vda")
    written = pc.guest("walker").of("write")
    assert "shut down by itself" in pc.ok("clienthv down walker")
    uri = "qemu+ssh://vagrant@127.0.0.1/session"
    said = pc.ok(f"clienthv migrate walker --to {uri}")
    assert "VM walker is defined" in said
    as_vagrant = "sudo -u vagrant XDG_RUNTIME_DIR=/run/user/$(id -u vagrant)"
    assert "walker" in pc.ok(f"{as_vagrant} virsh -c qemu:///session list --all --name").split()
    images = [
        "/var/lib/clienthv/images/walker.qcow2",
        "/home/vagrant/.local/share/clienthv/images/walker.qcow2",
    ]
    assert len({line.split()[0] for line in pc.ok(f"sha256sum {' '.join(images)}").splitlines()}) == 1
    assert written[0].startswith("vda sha256 ")
    pc.ok(f"{as_vagrant} clienthv --connect qemu:///session down walker --undefine")
    pc.ok(f"clienthv down walker --undefine && rm {' '.join(images)}")
    assert pc.state() == untouched()
