"""Every verdict against what libvirt and QEMU really do: definitions on one PC, moved to each of six others.

What is real is found by virsh alone. A guest is started and moved while it runs (live); else its definition is started
on the target, its disk copied (cold); else what the plan for the target gives is (adapt).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sessions import FIRMWARE, SWTPM, Session, lean_modules, older_qemu

pytestmark = pytest.mark.libvirt
HERE = Path(__file__).resolve().parent
TARGETS = ("same", "older", "lean", "bare", "older-bare", "far")
VNC = '<graphics type="vnc"><listen type="none"/></graphics>'
SPICE = '<graphics type="spice"><listen type="none"/></graphics>'
USER = '<interface type="user"><model type="virtio"/></interface>'
VGA = '<video><model type="vga"/></video>'
EFI = '<firmware><feature enabled="{}" name="secure-boot"/></firmware>'
EXACT = '<cpu mode="custom" match="exact" check="partial"><model fallback="forbid">{}</model>{}</cpu>'


def domain(name: str, disk: Path, **parts: str) -> str:
    """A definition of a small guest: what is not named is the usual."""
    bus = parts.get("bus", "virtio")
    target = {"virtio": "vda", "sata": "sda", "ide": "hda"}[bus]
    machine = parts.get("machine", "pc-q35-7.2")
    return f"""<domain type="qemu"><name>{name}</name><memory unit="MiB">64</memory>
<vcpu>1</vcpu>{parts.get("tune", "")}
<os{' firmware="efi"' if "efi" in parts else ""}>
<type arch="{parts.get("arch", "x86_64")}" machine="{machine}">hvm</type>
{EFI.format(parts["efi"]) if "efi" in parts else ""}</os>
<features><acpi/>{'<smm state="on"/>' if parts.get("efi") == "yes" else ""}</features>{parts.get("cpu", "")}
<devices><disk type="file" device="disk"><driver name="qemu" type="{parts.get("format", "qcow2")}"/>
<source file="{disk}"/><target dev="{target}" bus="{bus}"/>{parts.get("kept", "")}</disk>
{parts.get("nic", USER)}{parts.get("screen", VNC)}{parts.get("video", VGA)}
{parts.get("more", "")}</devices>{parts.get("label", "")}</domain>"""


DOMAINS: dict[str, dict[str, str]] = {
    "virtio": {"video": '<video><model type="virtio"/></video>'},
    "emulated": {
        "machine": "pc-i440fx-7.2", "bus": "ide", "nic": '<interface type="user"><model type="e1000"/></interface>',
        "video": '<video><model type="cirrus"/></video>', "more": '<sound model="ac97"/>',
    },
    "newest": {"machine": "pc-q35-10.0"},
    "uefi": {"efi": "no"},
    "secure": {"efi": "yes", "more": '<tpm model="tpm-crb"><backend type="emulator" version="2.0"/></tpm>'},
    "spice": {"screen": SPICE, "video": '<video><model type="qxl"/></video>', "more": '<sound model="ich9"/>'},
    "sound": {"more": '<sound model="virtio"/>'},
    "maximum": {"cpu": '<cpu mode="maximum"/>'},
    "host-model": {"cpu": '<cpu mode="host-model"/>'},
    "model": {"cpu": '<cpu mode="custom" match="exact"><model fallback="forbid">EPYC</model></cpu>'},
    "checked": {"cpu": EXACT.format("EPYC", "")},
    "feature": {"cpu": EXACT.format("qemu64", '<feature policy="require" name="sha-ni"/>')},
    "hostdev": {
        "more": '<hostdev mode="subsystem" type="pci" managed="yes"><source>'
        '<address domain="0x0000" bus="0xaa" slot="0x00" function="0x0"/></source></hostdev>'
    },
    "network": {"nic": '<interface type="network"><source network="nowhere"/><model type="virtio"/></interface>'},
    "pinned": {"tune": '<cputune><vcpupin vcpu="0" cpuset="99"/></cputune>'},
    "shmem": {"more": '<shmem name="calibrated"><model type="ivshmem-plain"/><size unit="M">4</size></shmem>'},
    "owner": {"more": '<shmem name="owned" role="master"><model type="ivshmem-plain"/><size unit="M">4</size></shmem>'},
    "snapshots": {},
    "vmdk": {"format": "vmdk"},
    "transient": {"kept": "<transient/>"},
    "crypto": {"more": '<crypto model="virtio" type="qemu"><backend model="builtin" queues="1"/></crypto>'},
    "usb-sound": {"more": '<sound model="usb"/>'},
    "usb-serial": {"more": '<serial type="null"><target type="usb-serial"/></serial>'},
    "i686": {"arch": "i686"},
    "label": {"label": '<seclabel type="static" model="selinux" relabel="no"><label>nobody</label></seclabel>'},
    "medium": {
        "more": '<disk type="file" device="cdrom"><source file="/nowhere.iso"/><target dev="sdc" bus="sata"/></disk>'
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def pcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Session]]:
    """The PC that the guests are on, and those that they are moved to."""
    if os.geteuid() != 0:
        pytest.skip("namespaces in which parts of this PC are hidden take root")
    made: dict[str, Session] = {}
    folder = tmp_path_factory.mktemp("modules")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    try:
        here = made["here"] = Session("here")
        older = older_qemu()
        made["same"] = Session("same")
        made["older"] = Session("older", qemu=older)
        made["lean"] = Session("lean", over=lean_modules(folder))
        made["bare"] = Session("bare", hidden=(*FIRMWARE, *SWTPM))
        made["older-bare"] = Session("ob", qemu=older, hidden=(*FIRMWARE, *SWTPM))
        far = folder / "images"
        far.mkdir(mode=0o755)
        shutil.chown(far, 65534, 65534)
        made["far"] = Session("far", over={str(here.home / "images"): str(far)}, elsewhere=True)
        yield made
    finally:
        for pc in made.values():
            pc.stop()


def with_emulator(xml: str, pc: Session) -> str:
    """A definition that names the QEMU of a PC: every distribution has it elsewhere."""
    plain = re.sub(r"<emulator>.*?</emulator>", "", xml)
    return plain.replace("<devices>", f"<devices><emulator>{pc.emulator}</emulator>", 1)


class Reality:
    """What happens to one VM on one target."""

    def __init__(self, name: str, source: Session, target: Session, adapted: str | None) -> None:
        self.name, self.source, self.target, self.adapted = name, source, target, adapted
        self.said: list[str] = []

    def verdict(self) -> str:
        try:
            return "live" if self._live() else "cold" if self._cold() else "adapt" if self._adapted() else "blocked"
        finally:
            self.source.virsh("destroy", self.name)

    def _live(self) -> bool:
        started = self.source.virsh("start", self.name)
        if started.returncode != 0 and "already active" not in started.stderr:
            self.said.append(f"start: {started.stderr.strip()}")
            return False
        xml = self.source.ask("dumpxml", "--migratable", self.name)
        there = self.source.file(f"{self.name}-there.xml", with_emulator(xml, self.target))
        moved = self.source.virsh(
            "migrate", "--live", "--unsafe", "--abort-on-error", self.name, "--desturi", self.target.uri,
            "--migrateuri", f"unix://{self.source.home}/{self.name}.sock", "--xml", there,
        )  # fmt: skip
        if moved.returncode != 0:
            self.said.append(f"live: {moved.stderr.strip()}")
            return False
        return self._runs()

    def _cold(self) -> bool:
        self.source.virsh("destroy", self.name)
        if self.target.name == "far":
            images = self.source.home / "images"
            far = subprocess.run(
                [
                    "nsenter", f"--mount=/proc/{self._pid()}/ns/mnt", "setpriv", "--reuid=65534", "--regid=65534",
                    "--clear-groups", "sh", "-c", f"cat > {images}/{self.name}.qcow2",
                ],
                input=(images / f"{self.name}.qcow2").read_bytes(), check=False, capture_output=True,
            )  # fmt: skip
            assert far.returncode == 0, far.stderr
        xml = self.source.ask("dumpxml", "--inactive", self.name)
        return self._created(with_emulator(xml, self.target), "cold")

    def _pid(self) -> int:
        return int((self.target.home / "run/libvirt/libvirtd.pid").read_text())

    def _adapted(self) -> bool:
        return self.adapted is not None and self._created(self.adapted, "adapt")

    def _created(self, xml: str, way: str) -> bool:
        created = self.target.virsh("create", self.target.file(f"{self.name}-{way}.xml", xml))
        if created.returncode != 0:
            self.said.append(f"{way}: {created.stderr.strip()}")
            return False
        return self._runs()

    def _runs(self) -> bool:
        """Whether the guest is still there a moment later, and gone when it was looked at."""
        time.sleep(0.3)
        state = self.target.virsh("domstate", self.name).stdout.strip()
        self.target.virsh("destroy", self.name)
        if state != "running":
            self.said.append(f"it is {state or 'gone'} a moment later")
        return state == "running"


def all_of_one(name: str, pcs: dict[str, Session], said: dict[str, Any]) -> list[str]:
    """What really happens to one VM on each target."""
    found = []
    for target in TARGETS:
        real = Reality(name, pcs["here"], pcs[target], said[f"{name} {target}"]["xml"])
        found.append(real.verdict())
        said[f"{name} {target}"]["real"] = real.said
    return found


def test_every_verdict_is_what_happens(pcs: dict[str, Session], site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = pcs["here"]
    for name, parts in DOMAINS.items():
        disk = here.home / "images" / f"{name}.qcow2"
        made = here.as_user("qemu-img", "create", "-q", "-f", parts.get("format", "qcow2"), str(disk), "64M")
        assert made.returncode == 0, made.stderr
        here.ask("define", here.file(f"{name}.xml", domain(name, disk, **parts)))
    here.ask("snapshot-create-as", "snapshots", "before")
    script = here.file("judging.py", (HERE / "judging.py").read_text())
    asked = {"connect": here.uri, "vms": list(DOMAINS), "targets": {name: pcs[name].uri for name in TARGETS}}
    judged = here.as_user("/usr/bin/python3", script, given=json.dumps(asked), PYTHONPATH=str(site))
    assert judged.returncode == 0, judged.stderr
    said = json.loads(judged.stdout)
    with ThreadPoolExecutor(3) as pool:
        real = dict(zip(DOMAINS, pool.map(lambda name: all_of_one(name, pcs, said), DOMAINS), strict=True))
    rows = [f"{'':<11}" + "".join(f"{target:<12}" for target in TARGETS)]
    wrong = []
    for name, row in real.items():
        cells = []
        for target, was in zip(TARGETS, row, strict=True):
            verdict = said[f"{name} {target}"]["verdict"]
            cells.append(was if verdict == was else f"{was}≠{verdict}")
            if verdict != was:
                told = said[f"{name} {target}"]
                wrong.append(
                    "\n  ".join([f"{name} {target}: {verdict}, really {was}", *told["findings"], *told["real"]])
                )
        rows.append(f"{name:<11}" + "".join(f"{cell:<12}" for cell in cells))
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *rows, ""]))
    assert not wrong, "\n".join(wrong)
