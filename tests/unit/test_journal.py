"""The journal of host changes: durable before the change, true after a crash, and deaf to anything else."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clienthv import journal
from clienthv.errors import DocumentError, HostError
from clienthv.journal import Owner, Where
from clienthv.model.change import Change, Setting, What

CARD = "0000:01:00.0"
BOOT, OTHER_BOOT = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
A, B = Owner("a", "qemu:///system"), Owner("b", "qemu:///system")


def setting(what: What = What.CREATE_VFS, device: str = CARD, **more: Any) -> Setting:
    return Setting(what=what, device=device, **more)


def change(before: str = "0", after: str = "7", **more: Any) -> Change:
    return Change(setting=setting(**more), before=before, after=after)


AUTOPROBE = Change(setting=setting(What.VF_AUTOPROBE), before="1", after="0")


@pytest.fixture
def where(tmp_path: Path) -> Where:
    return Where(tmp_path / "state" / "host-changes.json", BOOT)


def test_what_is_recorded_is_in_the_file_before_anything_else_happens(where: Where) -> None:
    with journal.held(where) as held:
        held.record(AUTOPROBE, A)
        held.record(change(), A)
        assert [e.change for e in journal.read(where)] == [AUTOPROBE, change()]
        assert all(e.owners == (A,) for e in journal.read(where))
    assert where.path.stat().st_mode & 0o777 == 0o600


def test_each_record_is_written_through_to_the_disk(where: Where, monkeypatch: Any) -> None:
    synced: list[int] = []
    monkeypatch.setattr(journal.os, "fsync", synced.append)
    with journal.held(where) as held:
        held.record(change(), A)
    assert len(synced) == 2, "the file, and the folder that names it"


def test_a_crash_while_writing_leaves_the_journal_as_it_was(where: Where, monkeypatch: Any) -> None:
    with journal.held(where) as held:
        held.record(AUTOPROBE, A)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(journal.os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt), journal.held(where) as held:
        held.record(change(), A)
    assert [e.change for e in journal.read(where)] == [AUTOPROBE]


def test_a_change_that_cannot_be_written_down_is_an_error(where: Where, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "fsync", full)
    with journal.held(where) as held, pytest.raises(HostError, match="No space left") as raised:
        held.record(change(), A)
    assert raised.value.hint
    assert list(where.path.parent.glob(".*")) == []


def test_a_second_vm_joins_and_the_first_value_is_kept(where: Where) -> None:
    with journal.held(where) as held:
        held.record(change("0", "7"), A)
        held.record(change("7", "7"), B)
        assert held.find(setting()) == journal.Entry(change=change("0", "7"), owners=(A, B), boot=BOOT)
        assert held.of(B) == held.of(A) == held.entries


def test_a_change_that_was_written_down_and_not_made_can_be_made_with_another_value(where: Where) -> None:
    with journal.held(where) as held:
        held.record(change("0", "7"), A)
        held.record(change("0", "4"), A)
        assert [e.change for e in held.entries] == [change("0", "4")]


def test_a_value_that_somebody_else_set_in_between_becomes_the_one_to_go_back_to(where: Where) -> None:
    with journal.held(where) as held:
        held.record(change("0", "7"), A)
        held.record(change("3", "8"), A)
        assert [e.change for e in held.entries] == [change("3", "8")]


def test_a_vm_joins_what_was_made_for_others_and_is_the_last_to_need_it(where: Where) -> None:
    with journal.held(where) as held:
        held.record(AUTOPROBE, A)
        held.record(change(), A)
        held.join([setting()], B)
        assert [e.owners for e in held.entries] == [(A,), (A, B)]
        held.release_to(setting(), [B])
        assert [e.owners for e in journal.read(where)] == [(A,), (B,)]
        held.forget(setting())
        assert [e.change for e in journal.read(where)] == [AUTOPROBE]


def test_what_another_boot_changed_is_gone_with_it(where: Where) -> None:
    with journal.held(where) as held:
        held.record(change(), A)
    assert journal.read(where._replace(boot=OTHER_BOOT)) == ()
    with journal.held(where._replace(boot=OTHER_BOOT)) as held:
        held.record(AUTOPROBE, B)
    assert "create-vfs" not in where.path.read_text()


def test_one_process_at_a_time_has_the_journal(where: Where, monkeypatch: Any) -> None:
    monkeypatch.setattr(journal, "_LOCK_WAIT", 0.2)
    told: list[str] = []
    with journal.held(where):
        with pytest.raises(HostError, match="another process") as raised, journal.held(where, told.append):
            pass
        assert raised.value.hint
    assert len(told) == 1
    with journal.held(where), Path(f"{where.path}.lock").open("rb") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_no_journal_is_an_empty_one(where: Where) -> None:
    assert journal.read(where) == ()


def document(**changed: Any) -> dict[str, Any]:
    """A journal with one entry, of which something is different."""
    entry: dict[str, Any] = {
        "change": {
            "setting": {"what": "create-vfs", "device": CARD, "interface": None, "index": None},
            "before": "0",
            "after": "7",
        },
        "owners": [{"vm": "a", "uri": "qemu:///system"}],
        "boot": BOOT,
    }
    inner = entry["change"]["setting"]
    for key, value in changed.items():
        where = inner if key in inner else entry["change"] if key in entry["change"] else entry
        where[key] = value
    return {"schema": 1, "kind": "host-changes", "entries": [entry]}


def test_the_form_of_the_file_is_the_one_that_is_written(where: Where) -> None:
    with journal.held(where) as held:
        held.record(change(), A)
    assert json.loads(where.path.read_text()) == document()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\x00\xff",
        "[" * 100_000,
        '{"schema": 2, "kind": "host-changes", "entries": []}',
        '{"schema": 1, "kind": "plan", "entries": []}',
        *(
            json.dumps(document(**changed))
            for changed in (
                {"device": "../../../etc"},
                {"device": "0000:01:00.0/../0000:02:00.0"},
                {"device": "0000:01:00.0\n"},
                {"what": "path"},
                {"after": "7\nreboot"},
                {"after": 7},
                {"after": "70000"},
                {"before": "/etc/passwd"},
                {"interface": "enp1s0"},
                {"what": "link-up", "interface": "-j", "before": "down", "after": "up"},
                {"what": "link-up", "interface": "a/../b", "before": "down", "after": "up"},
                {"what": "vf-trust", "interface": "enp1s0", "index": -1, "before": "off", "after": "on"},
                {"what": "vf-trust", "interface": "enp1s0", "before": "off", "after": "on"},
                {"path": "/etc/shadow"},
                {"owners": "a"},
            )
        ),
    ],
)
def test_a_journal_that_clienthv_did_not_write_is_refused_with_its_name_and_the_next_step(
    text: str, where: Where
) -> None:
    where.path.parent.mkdir()
    where.path.write_text(text)
    with pytest.raises(DocumentError) as raised:
        journal.read(where)
    assert str(where.path) in raised.value.message
    assert str(where.path) in (raised.value.hint or "")
    with pytest.raises(DocumentError), journal.held(where):
        pass
    assert where.path.read_text() == text, "it is left as it is"


def test_a_journal_that_is_no_plain_file_is_refused(where: Where, tmp_path: Path) -> None:
    where.path.parent.mkdir()
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document()))
    where.path.symlink_to(other)
    with pytest.raises(DocumentError, match="cannot read"):
        journal.read(where)
    where.path.unlink()
    os.mkfifo(where.path)
    with pytest.raises(DocumentError, match="not a plain file"):
        journal.read(where)
    where.path.unlink()
    where.path.mkdir()
    with pytest.raises(DocumentError, match="not a plain file"):
        journal.read(where)


def test_a_journal_that_is_too_large_is_refused_without_reading_it(where: Where) -> None:
    where.path.parent.mkdir()
    with where.path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DocumentError, match="too large"):
        journal.read(where)


def test_a_journal_of_another_user_is_refused(where: Where, monkeypatch: Any) -> None:
    with journal.held(where) as held:
        held.record(change(), A)
    monkeypatch.setattr(journal.os, "geteuid", lambda: where.path.stat().st_uid + 1)
    if where.path.stat().st_uid:
        with pytest.raises(DocumentError, match="another user"):
            journal.read(where)
    else:
        assert journal.read(where), "root's own is read by whoever can"


def test_a_change_that_is_none_of_clienthvs_is_not_written_down(where: Where) -> None:
    with journal.held(where) as held, pytest.raises(ValueError, match="70000"):
        held.record(msgspec.structs.replace(change(), after="70000"), A)
    assert journal.read(where) == ()
