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


def name_of(handle: int) -> str:
    """What an open file is called."""
    return str(Path(f"/proc/self/fd/{handle}").readlink())


AUTOPROBE = Change(setting=setting(What.VF_AUTOPROBE), before="1", after="0")


@pytest.fixture
def where(tmp_path: Path) -> Where:
    return Where(tmp_path / "state" / "host-changes.json", BOOT)


def test_what_is_recorded_is_in_the_file_before_anything_else_happens(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(AUTOPROBE, A)
        held.record(change(), A)
        assert [e.change for e in journal.read(where)] == [AUTOPROBE, change()]
        assert all(e.owners == (A,) for e in journal.read(where))
    assert where.path.stat().st_mode & 0o777 == 0o600


def test_each_record_is_written_through_to_the_disk(where: Where, monkeypatch: Any) -> None:
    synced: list[int] = []
    where.path.parent.mkdir()
    monkeypatch.setattr(journal.os, "fsync", synced.append)
    with journal.held(where, "the test") as held:
        held.record(change(), A)
        assert len(synced) == 2, "the file, and the folder that names it"
        held.record(AUTOPROBE, A)
    assert len(synced) == 3, "the file, which has its name"


def test_the_folders_that_are_made_for_the_journal_are_on_the_disk_too(where: Where, monkeypatch: Any) -> None:
    deep = where._replace(path=where.path.parent / "a" / "b" / where.path.name)
    synced: list[str] = []
    monkeypatch.setattr(journal.os, "fsync", lambda handle: synced.append(name_of(handle)))
    with journal.held(deep, "the test"):
        above = deep.path.parent.parent
        assert synced == [str(above.parent.parent), str(above.parent), str(above)], "what names each of them"


def test_a_journal_whose_first_line_was_cut_off_is_named_on_the_disk_before_the_next(
    where: Where, monkeypatch: Any
) -> None:
    where.path.parent.mkdir()
    where.path.touch()  # made by a process that was killed before it had its name on the disk
    synced: list[str] = []
    monkeypatch.setattr(journal.os, "fsync", lambda handle: synced.append(name_of(handle)))
    with journal.held(where, "the test") as held:
        held.record(change(), A)
    assert str(where.path.parent) in synced


def test_half_a_line_that_could_not_be_taken_away_again_spoils_none_that_follow(where: Where, monkeypatch: Any) -> None:
    write = os.write

    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with journal.held(where, "the test") as held:
        held.record(AUTOPROBE, A)
        with monkeypatch.context() as patched:
            patched.setattr(journal.os, "write", lambda handle, text: write(handle, text[:20]))
            patched.setattr(journal.os, "ftruncate", broken)
            with pytest.raises(HostError, match="full"):
                held.record(change(), A)
        held.record(change(), B)
    assert [(e.change, e.owners) for e in journal.read(where)] == [(AUTOPROBE, (A,)), (change(), (B,))]


def test_a_line_that_was_written_when_an_interrupt_came_is_not_left_behind(where: Where, monkeypatch: Any) -> None:
    close = os.close

    def interrupted(handle: int) -> None:
        close(handle)
        raise KeyboardInterrupt

    with journal.held(where, "the test") as held:
        held.record(AUTOPROBE, A)
        with monkeypatch.context() as patched:
            patched.setattr(journal.os, "close", interrupted)
            with pytest.raises(KeyboardInterrupt):
                held.record(change(), A)
        held.started(A)
    assert [e.change for e in journal.read(where)] == [AUTOPROBE], "it was never made"


def test_a_crash_while_the_file_is_written_anew_leaves_no_second_file_for_good(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(AUTOPROBE, A)
    part = where.path.with_name(f".{where.path.name}.part")
    part.write_bytes(b"half")
    with journal.held(where, "the test") as held:
        held.forget(AUTOPROBE.setting)
    assert sorted(p.name for p in where.path.parent.iterdir()) == [where.path.name, f"{where.path.name}.lock"]


def test_a_crash_while_writing_leaves_the_journal_as_it_was(where: Where, monkeypatch: Any) -> None:
    with journal.held(where, "the test") as held:
        held.record(AUTOPROBE, A)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(journal.os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt), journal.held(where, "the test") as held:
        held.record(change(), A)
    assert [e.change for e in journal.read(where)] == [AUTOPROBE]


def test_a_change_that_cannot_be_written_down_is_an_error(where: Where, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    where.path.parent.mkdir()
    monkeypatch.setattr(journal.os, "fsync", full)
    with journal.held(where, "the test") as held, pytest.raises(HostError, match="No space left") as raised:
        held.record(change(), A)
    assert raised.value.hint
    assert list(where.path.parent.glob(".*")) == []


def test_a_second_vm_joins_and_the_first_value_is_kept(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(change("0", "7"), A)
        held.record(change("7", "7"), B)
        entry = held.find(setting())
        assert entry is not None
        assert (entry.change, entry.owners, entry.by) == (change("0", "7"), (A, B), B)
        assert held.of(B) == held.of(A) == held.entries


def test_a_change_that_was_written_down_and_not_made_can_be_made_with_another_value(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(change("0", "7"), A)
        held.record(change("0", "4"), A)
        assert [e.change for e in held.entries] == [change("0", "4")]


def test_a_value_that_somebody_else_set_in_between_becomes_the_one_to_go_back_to(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(change("0", "7"), A)
        held.record(change("3", "8"), A)
        assert [e.change for e in held.entries] == [change("3", "8")]


def test_a_vm_joins_what_was_made_for_others_and_is_the_last_to_need_it(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(AUTOPROBE, A)
        held.record(change(), A)
        held.join([setting()], B)
        assert [e.owners for e in held.entries] == [(A,), (A, B)]
        held.release_to(setting(), [B])
        assert [e.owners for e in journal.read(where)] == [(A,), (B,)]
        held.forget(setting())
        assert [e.change for e in journal.read(where)] == [AUTOPROBE]


def test_what_another_boot_changed_is_gone_with_it(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(change(), A)
    assert journal.read(where._replace(boot=OTHER_BOOT)) == ()
    with journal.held(where._replace(boot=OTHER_BOOT), "the test") as held:
        held.record(AUTOPROBE, B)
    assert "create-vfs" not in where.path.read_text()


def test_one_process_at_a_time_has_the_journal_and_who_waits_is_told_for_whom(where: Where, monkeypatch: Any) -> None:
    monkeypatch.setattr(journal, "LOCK_WAIT", 0.2)
    told: list[str] = []
    with journal.held(where, "clienthv up desk"):
        with (
            pytest.raises(HostError, match=r"clienthv up desk \(process [0-9]+\) has held") as raised,
            journal.held(where, "clienthv down desk", told.append),
        ):
            pass
        assert raised.value.hint
    assert told == [f"waiting for clienthv up desk (process {os.getpid()}) to finish"]
    with journal.held(where, "the test"), Path(f"{where.path}.lock").open("rb") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_who_looks_at_the_lock_for_a_moment_is_nobody_to_wait_for(where: Where, monkeypatch: Any) -> None:
    with journal.held(where, "clienthv up desk") as held:
        held.record(change(), A)
    told: list[str] = []
    with Path(f"{where.path}.lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(journal.time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        with journal.held(where, "clienthv down desk", told.append):
            pass
    assert told == []


DOMAIN = Change(setting=Setting(what=What.DOMAIN, device="a"), before="", after="kept")
IMAGE = Change(setting=Setting(what=What.IMAGE, device="/srv/a.qcow2"), before="absent", after="1 2 3")


def test_what_a_vm_was_made_of_stays_once_it_has_started_and_the_rest_is_to_be_undone_when_it_stops(
    where: Where,
) -> None:
    with journal.held(where, "the test") as held:
        for one in (change(), IMAGE, DOMAIN):
            held.record(one, A)
        held.record(AUTOPROBE, B)
        held.started(A)
        assert [(e.change, e.by) for e in held.entries] == [(change(), None), (AUTOPROBE, B)]
        assert held.entries == journal.read(where)


def test_a_start_is_cut_short_when_nobody_is_at_it_any_more(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(change(), A)
        assert journal.cut_short(where) == (), "it is under way"
    assert journal.cut_short(where) == (A,)
    with journal.held(where, "the test") as held:
        held.started(A)
    assert journal.cut_short(where) == ()


def test_a_definition_and_an_image_outlive_a_restart_of_the_pc(where: Where) -> None:
    with journal.held(where, "the test") as held:
        for one in (change(), IMAGE, DOMAIN):
            held.record(one, A)
    after = where._replace(boot=OTHER_BOOT)
    assert [e.change for e in journal.read(after)] == [IMAGE, DOMAIN]
    assert journal.cut_short(after) == (A,)


@pytest.mark.parametrize(("then", "now"), [(BOOT, ""), ("", BOOT), ("", "")])
def test_where_nobody_can_tell_the_boot_nothing_counts_as_gone_with_another(where: Where, then: str, now: str) -> None:
    with journal.held(where._replace(boot=then), "the test") as held:
        held.record(change(), A)
    with journal.held(where._replace(boot=now), "the test") as held:
        held.record(AUTOPROBE, B)
    assert [e.change for e in journal.read(where._replace(boot=now))] == [change(), AUTOPROBE]


def test_half_a_line_was_never_done_and_the_next_one_is_whole(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(AUTOPROBE, A)
        held.record(change(), A)
    whole = where.path.read_bytes()
    where.path.write_bytes(whole[:-20])
    assert [e.change for e in journal.read(where)] == [AUTOPROBE]
    with journal.held(where, "the test") as held:
        held.record(change(), B)
    assert [(e.change, e.owners) for e in journal.read(where)] == [(AUTOPROBE, (A,)), (change(), (B,))]
    assert where.path.read_bytes().count(b"\n") == 2


def test_every_way_to_cut_the_file_short_gives_a_state_that_there_was(where: Where) -> None:
    states = [()]
    with journal.held(where, "the test") as held:
        held.record(DOMAIN, A)
        states.append(held.entries)
        held.record(change(), A)
        states.append(held.entries)
        held.started(A)
        states.append(held.entries)
        held.join([setting()], B)
        states.append(held.entries)
    whole = where.path.read_bytes()
    for length in range(len(whole)):
        where.path.write_bytes(whole[:length])
        assert journal.read(where) in states


def test_a_journal_that_has_grown_is_written_anew_with_what_stands(where: Where, monkeypatch: Any) -> None:
    monkeypatch.setattr(journal, "_ROOMY", 2000)
    with journal.held(where, "the test") as held:
        held.record(AUTOPROBE, A)
        for _ in range(50):
            held.record(change(), B)
            held.forget(setting())
    assert where.path.stat().st_size < 3000
    assert [e.change for e in journal.read(where)] == [AUTOPROBE]
    with journal.held(where, "the test") as held:
        held.forget(AUTOPROBE.setting)
    assert where.path.read_bytes() == b""


def test_what_goes_to_others_is_nobodys_unfinished_start(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(change(), A)
        held.started(A)
        held.record(change("7", "7"), B)
        held.release_to(setting(), [A])
    assert journal.cut_short(where) == ()


def test_who_joins_is_at_it_until_it_has_started(where: Where) -> None:
    with journal.held(where, "the test") as held:
        held.record(change(), A)
        held.started(A)
        held.join([setting()], B)
    assert journal.cut_short(where) == (B,)


def test_huge_pages_on_top_of_others_count_from_below_them_once_those_are_gone(where: Where) -> None:
    def pages(vm: str, before: str, after: str) -> Change:
        return Change(setting=Setting(what=What.HUGEPAGES, device=f"2048 {vm}"), before=before, after=after)

    with journal.held(where, "the test") as held:
        for vm, before, after in (("a", "0", "512"), ("b", "512", "1024"), ("c", "1024", "1100")):
            held.record(pages(vm, before, after), Owner(vm, "qemu:///system"))
        held.lower(pages("b", "512", "1024"))
        held.forget(pages("b", "512", "1024").setting)
        assert [(e.change.before, e.change.after) for e in held.entries] == [("0", "512"), ("512", "588")]


def test_no_journal_is_an_empty_one(where: Where) -> None:
    assert journal.read(where) == ()


def line(**changed: Any) -> dict[str, Any]:
    """A line of the journal, of which something is different."""
    entry: dict[str, Any] = {
        "event": "changes",
        "schema": 2,
        "change": {
            "setting": {"what": "create-vfs", "device": CARD, "interface": None, "index": None},
            "before": "0",
            "after": "7",
        },
        "owners": [{"vm": "a", "uri": "qemu:///system"}],
        "boot": BOOT,
        "by": {"vm": "a", "uri": "qemu:///system"},
        "at": 1.5,
    }
    inner = entry["change"]["setting"]
    for key, value in changed.items():
        where = inner if key in inner else entry["change"] if key in entry["change"] else entry
        where[key] = value
    return entry


def test_the_form_of_the_file_is_the_one_that_is_written(where: Where, monkeypatch: Any) -> None:
    monkeypatch.setattr(journal.time, "time", lambda: 1.5)
    with journal.held(where, "the test") as held:
        held.record(change(), A)
        held.record(AUTOPROBE, A)
        held.forget(AUTOPROBE.setting)
        held.started(A)
    first, _, undone, started = map(json.loads, where.path.read_text().splitlines())
    assert first == line()
    assert (undone["event"], undone["setting"]["what"]) == ("undone", "vf-autoprobe")
    assert started == {"event": "started", "schema": 2, "owner": {"vm": "a", "uri": "qemu:///system"}}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "",
        "[]",
        "\x00\xff",
        "[" * 100_000,
        '{"event": "started", "schema": 3, "owner": {"vm": "a", "uri": "qemu:///system"}}',
        '{"event": "forgotten", "schema": 2}',
        *(
            json.dumps(line(**changed))
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
                {"what": "load-module", "device": "evil", "before": "absent", "after": "loaded"},
                {"what": "hugepages", "device": "4096", "before": "0", "after": "1"},
                {"what": "hugepages", "device": "2048 ../x", "before": "0", "after": "1"},
                {"what": "driver", "before": "../x", "after": "none"},
                {"what": "driver-override", "before": "none", "after": "vfio-pci\n"},
                {"what": "image", "device": "etc/passwd", "before": "absent", "after": "1 2 3"},
                {"what": "image", "device": "/etc/passwd", "before": "absent", "after": "new"},
                {"what": "domain", "device": "a/b", "before": "", "after": "kept"},
                {"owners": "a"},
            )
        ),
    ],
)
def test_a_journal_that_clienthv_did_not_write_is_refused_with_its_name_and_the_next_step(
    text: str, where: Where
) -> None:
    where.path.parent.mkdir()
    text = f"{text}\n"
    where.path.write_text(text)
    with pytest.raises(DocumentError) as raised:
        journal.read(where)
    assert str(where.path) in raised.value.message
    assert str(where.path) in (raised.value.hint or "")
    with pytest.raises(DocumentError), journal.held(where, "the test"):
        pass
    assert where.path.read_text() == text, "it is left as it is"


def test_a_journal_of_a_newer_clienthv_is_for_that_one_to_undo(where: Where) -> None:
    where.path.parent.mkdir()
    where.path.write_text(json.dumps(line()) + "\n" + json.dumps(line(schema=3, more="of it")) + "\n")
    with pytest.raises(DocumentError, match=r"newer clienthv.*schema 3") as raised:
        journal.read(where)
    assert "clienthv recover" in (raised.value.hint or "")
    assert "move" not in (raised.value.hint or "")


def test_a_journal_that_is_no_plain_file_is_refused(where: Where, tmp_path: Path) -> None:
    where.path.parent.mkdir()
    other = tmp_path / "other.json"
    other.write_text(json.dumps(line()))
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
    with journal.held(where, "the test") as held:
        held.record(change(), A)
    monkeypatch.setattr(journal.os, "geteuid", lambda: where.path.stat().st_uid + 1)
    if where.path.stat().st_uid:
        with pytest.raises(DocumentError, match="another user"):
            journal.read(where)
    else:
        assert journal.read(where), "root's own is read by whoever can"


def test_a_change_that_is_none_of_clienthvs_is_not_written_down(where: Where) -> None:
    with journal.held(where, "the test") as held, pytest.raises(ValueError, match="70000"):
        held.record(msgspec.structs.replace(change(), after="70000"), A)
    assert journal.read(where) == ()
