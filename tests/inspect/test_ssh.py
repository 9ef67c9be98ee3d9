"""Commands on another PC, with a program in ssh's place that runs them here."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from clienthv import process
from clienthv.errors import DiskError, HostError, UsageError

SSH = """\
#!/bin/sh
for word; do printf '%s\\n' "$word"; done >"$HEARD/words"
echo $$ >"$HEARD/pid"
while [ "$1" != -- ]; do shift; done
exec sh -c "exec $3"
"""


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the program in ssh's place notes how it was called; none of it runs at the end."""
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HEARD", str(tmp_path))
    return tmp_path


def gone(heard: Path) -> bool:
    """Whether the program is neither there nor a zombie."""
    return not Path("/proc", (heard / "pid").read_text().strip()).exists()


def heard_of(heard: Path) -> None:
    """Wait until the program has come to say who it is."""
    deadline = time.monotonic() + 20
    while not ((heard / "pid").exists() and (heard / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)


def nothing(_: BinaryIO) -> None:
    pass


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_fed_arrives_whole_and_what_is_said_comes_back(heard: Path) -> None:
    data, before = os.urandom(3 << 20), open_files()
    said = process.fed_through_ssh("root@other", ["sha256sum", "-"], lambda out: out.write(data))
    assert said == f"{hashlib.sha256(data).hexdigest()}  -\n"
    assert open_files() == before
    assert gone(heard)


def test_the_other_pcs_shell_gets_each_word_as_it_is(heard: Path) -> None:
    odd = ["a b", "it's", "$(id)", "--", "*", ""]
    said = process.fed_through_ssh("root@other", ["printf", "[%s]", *odd], nothing)
    assert said == "".join(f"[{word}]" for word in odd)
    words = (heard / "words").read_text().splitlines()
    assert words[-3:-1] == ["--", "root@other"]
    assert "-T" in words, "a terminal there would change what is fed"


@pytest.mark.parametrize(
    "host", ["other", "root@other", "root@10.0.0.1", "fe80::1%eth0", "o_t-h.er", "ssh://root@[::1]:22"]
)
def test_names_of_pcs_are_taken(heard: Path, host: str) -> None:
    process.fed_through_ssh(host, ["true"], nothing)
    assert host in (heard / "words").read_text().splitlines()


@pytest.mark.parametrize(
    "host",
    [
        "-oProxyCommand=touch x", "-v", "root@-oProxyCommand=x", "-l@other", "", "@other", "root@", "a@b@c", "a b",
        "it's", 'a"b', "a;b", "$(id)", "a`id`", "a\nb", "a|b", "a\\b",
        "ssh://-oProxyCommand=x", "ssh://root@-v:22", "ssh://",
    ],
)  # fmt: skip
def test_what_is_no_name_of_a_pc_is_refused_before_ssh_sees_it(heard: Path, host: str) -> None:
    with pytest.raises(UsageError, match="is no name of another PC"):
        process.fed_through_ssh(host, ["true"], nothing)
    assert not (heard / "words").exists()


def test_a_command_that_fails_is_told_with_the_next_step(heard: Path) -> None:
    with pytest.raises(HostError, match=r"^sh on root@other ended with 7$") as raised:
        process.fed_through_ssh("root@other", ["sh", "-c", "cat >/dev/null; echo so; exit 7"], nothing)
    assert "ssh root@other clienthv --version" in (raised.value.hint or "")
    assert raised.value.detail == "so\n"
    assert gone(heard)


@pytest.mark.parametrize("size", [10, 1 << 20])
@pytest.mark.parametrize("code", [0, 3])
def test_a_command_that_does_not_read_to_the_end_has_failed(heard: Path, size: int, code: int) -> None:
    def feed(out: BinaryIO) -> None:
        time.sleep(0.3)
        out.write(bytes(size))

    before = open_files()
    with pytest.raises(HostError, match=f"ended with {code} before it had read all"):
        process.fed_through_ssh("root@other", ["sh", "-c", f"exec <&-; sleep 0.1; exit {code}"], feed)
    assert open_files() == before
    assert gone(heard)


def test_a_command_that_says_much_before_it_reads_keeps_nobody_waiting(heard: Path) -> None:
    talk = f"head -c {1 << 20} /dev/zero | tr '\\0' x; cat >/dev/null"
    said = process.fed_through_ssh("root@other", ["sh", "-c", talk], lambda out: out.write(bytes(1 << 20)))
    assert said == "x" * (16 << 10)
    assert gone(heard)


def test_where_feeding_fails_the_command_ends_and_the_reason_is_told(heard: Path) -> None:
    def feed(out: BinaryIO) -> None:
        out.write(b"half")
        heard_of(heard)
        raise DiskError("the image changes")

    before = open_files()
    with pytest.raises(DiskError, match="the image changes"):
        process.fed_through_ssh("root@other", ["sh", "-c", f"cat >{heard}/half; exec sleep 60"], feed)
    assert open_files() == before
    assert gone(heard)


@pytest.mark.parametrize("deaf", ["", "trap '' TERM; "])
@pytest.mark.parametrize("size", [0, 1 << 20])
def test_an_interrupt_ends_the_command_and_is_heard(heard: Path, deaf: str, size: int) -> None:
    """Whether it waits for the command to read, or to end, and whatever the command makes of it."""
    us = threading.main_thread().ident
    assert us is not None

    def interrupt() -> None:
        heard_of(heard)
        time.sleep(0.5)
        signal.pthread_kill(us, signal.SIGINT)

    timer = threading.Timer(0.5, interrupt)
    command = ["sh", "-c", f"{deaf}exec sleep 60"]
    before, began = open_files(), time.monotonic()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            process.fed_through_ssh("root@other", command, lambda out: out.write(bytes(size)))
    finally:
        timer.cancel()
    assert time.monotonic() - began < 8
    assert gone(heard)
    assert open_files() == before


def test_without_ssh_it_is_said_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="ssh is not installed"):
        process.fed_through_ssh("other", ["true"], nothing)
