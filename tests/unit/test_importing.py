"""What is taken of a stranger's bundle, and what is not."""

from __future__ import annotations

import fcntl
import io
import json
import os
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import msgspec
import pytest

from clienthv import bundles, planner
from clienthv.bundles import Parts
from clienthv.errors import RefusedError, UsageError
from clienthv.lifecycle import importing
from clienthv.model import plan as plan_model
from clienthv.model import profile as profile_model
from clienthv.model.host import Host, Kvm
from clienthv.model.profile import Boot, Profile, ProfileText
from clienthv.model.vm import Options

UUID = "8e6b993d-5115-4569-a990-22deeb1d8f83"


class Made(NamedTuple):
    """A definition as clienthv writes it, with what a stranger would change in it."""

    profile: str = ""
    uuid: str = UUID
    mac: str = "52:54:00:12:34:56"
    machine: str = "pc-q35-10.0"
    plan: str | None = None

    def definition(self) -> bytes:
        chain = (ProfileText("desk", "desk.toml", self.profile),)
        plan = plan_model.encode(planner.plan(Host(kvm=Kvm(usable=True)), Profile())).decode()
        texts = {
            "profile": json.dumps(msgspec.to_builtins(chain)),
            "options": json.dumps(msgspec.to_builtins(Options(kernel="/etc/shadow", cdrom="/etc/passwd"))),
            "plan": plan if self.plan is None else self.plan,
        }
        ours = "".join(f"<c:{key}>{escape(text)}</c:{key}>" for key, text in texts.items())
        return (
            f"<domain type='kvm'><name>desk</name><uuid>{escape(self.uuid)}</uuid>"
            f"<metadata><c:vm xmlns:c='urn:clienthv:vm:1'>{ours}</c:vm></metadata>"
            f"<os><type arch='x86_64' machine='{escape(self.machine)}'>hvm</type></os>"
            f"<devices><interface type='user'><mac address='{escape(self.mac)}'/></interface></devices></domain>"
        ).encode()


def brought(made: Made | bytes, name: str | None = None) -> importing.Brought:
    definition = made if isinstance(made, bytes) else made.definition()
    out = io.BytesIO()
    bundles.write(out, Parts(vm="desk", definition=definition, created_by="a test"))
    out.seek(0)
    return importing.read(bundles.open_bundle(out), importing.Request(name))


def test_a_definition_of_clienthvs_is_taken() -> None:
    taken = brought(Made("[size]\nvcpus = 3\n"))
    assert (taken.name, taken.profile.size.vcpus, taken.before.seen.uuid) == ("desk", 3, UUID)
    assert taken.chain == taken.before.profile


@pytest.mark.parametrize(
    "made",
    [
        b"<domain/>",
        b"nonsense",
        b"<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domain><name>&e;</name></domain>",
        Made(uuid="../../../../etc"),
        Made(uuid=UUID.upper()),
        Made(mac="52:54:00:12:34:56'/><hostdev/>"),
        Made(machine="pc; reboot"),
        Made(plan="{}"),
        Made(plan="[" * 100_000),
        Made(profile='extends = "performance"\n[devices.gpu]\nprefer = ["no such"]\n'),
        Made(profile='boot = { kernel = "/boot/vmlinuz", initrd = "/etc/shadow" }\n'),
        Made(profile='[size]\nvcpus = 1\n[ boot ]\nkernel = "/boot/vmlinuz"\n["boot".x]\n'),
    ],
    ids=str,
)
def test_another_is_refused(made: Made | bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        brought(made)
    assert refused.value.refusal == "bad-definition"


@pytest.mark.parametrize("name", ["../desk", "", "-x", "a b", "x" * 65])
def test_a_name_that_leads_elsewhere_is_no_name(name: str) -> None:
    if name:
        with pytest.raises(UsageError):
            brought(Made(), name)


def test_what_only_this_pcs_owner_may_say_is_left_out() -> None:
    profile = (
        'description = "[boot] is no table here"\n'
        '[boot]\nkernel = "/boot/vmlinuz*" # [not a table]\ninitrd = "/etc/shadow"\n\n'
        '[devices.gpu]\nprefer = ["passthrough", "emulated"]\nselect = ["0000:01:00.0"]\nallow = ["boot-display"]\n'
        '[devices.nic]\nprefer = ["vf", "emulated"]\ntrust = true\n'
        '[devices.input]\nprefer = ["passthrough", "emulated"]\nevdev = ["usb-keyboard-event-kbd"]\n'
    )
    asked = profile_model.parse((ProfileText("desk", "desk.toml", profile),))
    assert asked.devices.gpu.allow
    assert asked.boot.kernel
    taken = brought(Made(profile))
    tables = taken.profile.devices
    assert (tables.gpu.allow, tables.nic.trust, tables.input.evdev) == ((), False, ())
    assert taken.profile.boot == Boot()
    assert (tables.gpu.prefer, tables.gpu.select) == (asked.devices.gpu.prefer, asked.devices.gpu.select)
    assert taken.profile.description == asked.description


def test_what_an_import_that_was_killed_has_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    left, used = tmp_path / ".clienthv-import-left", tmp_path / ".clienthv-import-used"
    for folder in (left, used):
        (folder / "bundle/disks").mkdir(parents=True)
        (folder / "bundle/disks/0.raw").write_bytes(bytes(100))
    (tmp_path / "desk.img").touch()
    (tmp_path / ".clienthv-import-link").symlink_to(used)
    handle = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert importing.remove_abandoned(tmp_path) == (f"{left}, left by an import, is gone",)
    finally:
        os.close(handle)
    assert {p.name for p in tmp_path.iterdir()} == {"desk.img", used.name, ".clienthv-import-link"}
    assert importing.remove_abandoned(tmp_path / "none") == ()
