"""``up`` as a transaction on real drivers: killed at every step, many at once, and with a KVM that does not work."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Machine

pytestmark = pytest.mark.libvirt

PROFILE = """
[size]
vcpus = 1
memory = "128 MiB"
[devices.firmware]
prefer = ["uefi", "bios"]
"""
KILLED = -signal.SIGKILL


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def profile(machine: Machine, text: str = PROFILE) -> str:
    path = machine.home / "killed.toml"
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def state(machine: Machine) -> tuple[list[str], list[str], list[str]]:
    """All that a start makes: definitions, images, and firmware variables."""
    images, made = (
        machine.home / "d/clienthv/images",
        [*machine.home.rglob("*VARS*"), *machine.home.rglob("nvram/*.fd")],
    )
    return machine.names(), sorted(p.name for p in images.glob("*")), sorted(str(p) for p in made)


def end_of(machine: Machine, name: str) -> str:
    """Why a guest that is gone has gone, by libvirt and by the end of QEMU's log."""
    log = "".join(p.read_text(errors="replace")[-1500:] for p in machine.home.rglob(f"{name}.log"))
    return machine.virsh("domstate", "--reason", name) + log


def stopped(machine: Machine, name: str) -> None:
    """Stop and forget a VM, and remove what stays: its image and its firmware variables."""
    ok(machine.run("down", name, "--force", "--undefine"))
    for left in (*(machine.home / "d/clienthv/images").glob("*"), *machine.home.rglob("*VARS*")):
        left.unlink(missing_ok=True)


@pytest.mark.parametrize("what", ["kill", "killed-before"], ids=["before each change", "after each change"])
def test_a_clienthv_that_is_killed_at_any_step_is_undone_by_recover(machine: Machine, what: str) -> None:
    before, steps = state(machine), 0
    for number in itertools.count(1):
        killed = machine.meddled(what, str(number), "up", profile(machine), "--new-disk", "1 MiB")
        if killed.returncode != KILLED:
            break
        steps += 1
        running = "killed" in machine.virsh("list", "--name").split()
        said = machine.run("profiles").stderr
        assert ("was cut short; clienthv recover" in said) is (number > 1 or what == "kill") or running
        ok(machine.run("recover"))
        if running:
            assert machine.virsh("domstate", "killed").strip() == "running", "a guest that runs is not stopped"
            stopped(machine, "killed")
        assert state(machine) == before, f"step {number}"
        assert "nothing to undo" in ok(machine.run("recover"))
    ok(killed)
    stopped(machine, "killed")
    assert steps >= (5 if what == "kill" else 4)


def test_a_restart_that_is_killed_leaves_the_old_definition(machine: Machine) -> None:
    ok(machine.run("up", "demo", "--name", "again"))
    ok(machine.run("down", "again", "--force"))
    before = machine.virsh("dumpxml", "again")
    for number in (1, 2):
        assert machine.meddled("kill", str(number), "up", "again", "--redefine").returncode in (KILLED, 0)
    ok(machine.run("recover"))
    ok(machine.run("down", "again", "--force"))
    assert machine.meddled("killed-before", "2", "up", "again").returncode == KILLED
    if "again" in machine.virsh("list", "--name").split():
        ok(machine.run("down", "again", "--force"))
    else:
        ok(machine.run("recover"))
        assert machine.virsh("dumpxml", "again") == before
    stopped(machine, "again")


def test_up_itself_undoes_what_an_earlier_one_left_and_goes_on(machine: Machine) -> None:
    assert machine.meddled("kill", "3", "up", profile(machine), "--new-disk", "1 MiB").returncode == KILLED
    done = machine.run("up", profile(machine), "--new-disk", "1 MiB")
    ok(done)
    assert "is gone again" in done.stderr
    stopped(machine, "killed")


def test_what_a_guest_has_written_is_never_removed(machine: Machine) -> None:
    assert machine.meddled("kill", "3", "up", profile(machine), "--new-disk", "1 MiB").returncode == KILLED
    (image,) = (machine.home / "d/clienthv/images").glob("*.qcow2")
    image.write_bytes(image.read_bytes() + b"written")
    ok(machine.run("recover"))
    assert image.exists()
    image.unlink()


def test_ten_starts_at_once_all_succeed(machine: Machine) -> None:
    names = [f"crowd{n}" for n in range(10)]
    # Small guests: what ends one of ten large ones may be the kernel, for want of memory.
    small = diskless(machine)
    starts = [machine.popen("up", small, "--name", name) for name in names]
    for start in starts:
        _, said = start.communicate(timeout=300)
        assert start.returncode == 0, said
    there = sorted(machine.virsh("list", "--name").split())
    assert there == names, {n: end_of(machine, n) for n in names if n not in there}
    assert len(json.loads(ok(machine.run("list", "--json")))["vms"]) == 10
    for name in names:
        stopped(machine, name)


def test_of_ten_starts_of_one_vm_at_once_one_starts_it_and_the_others_see_it_run(machine: Machine) -> None:
    starts = [machine.popen("up", "demo", "--name", "one") for _ in range(10)]
    said = []
    for start in starts:
        out, errors = start.communicate(timeout=300)
        assert start.returncode == 0, errors
        said.append(out)
    assert sum("is started" in out for out in said) == 1
    assert sum("running already" in out for out in said) == 9
    stopped(machine, "one")


def diskless(machine: Machine) -> str:
    """A small profile that leaves no image."""
    return profile(machine, PROFILE + '[devices.disk]\nprefer = ["omit"]\n')


def qemu_of(machine: Machine, name: str) -> int:
    """The process that libvirt wrote down for a guest."""
    (pid,) = {p.read_text().strip() for p in machine.home.rglob(f"{name}.pid") if "swtpm" not in p.name}
    return int(pid)


def test_a_guest_whose_qemu_hangs_keeps_nobody_waiting(session: Machine) -> None:
    ok(session.run("up", diskless(session), "--name", "hung"))
    pid = qemu_of(session, "hung")
    os.kill(pid, signal.SIGSTOP)
    try:
        asked = session.run("down", "hung", "--timeout", "1", timeout=20)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert asked.returncode == 10, asked.stderr
    assert "the QEMU of VM hung has not answered within 1 s" in asked.stderr
    assert "clienthv down hung --force" in asked.stderr
    stopped(session, "hung")


def test_a_guest_whose_qemu_was_killed_is_told_to_be_off(embedded: Machine) -> None:
    """A daemon hears of it a moment later; the embedded driver must find it out when it opens."""
    ok(embedded.run("up", diskless(embedded), "--name", "slain"))
    pid = qemu_of(embedded, "slain")
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.01)
    (vm,) = json.loads(ok(embedded.run("list", "--json")))["vms"]
    assert (vm["name"], vm["state"]) == ("slain", "shut off")
    stopped(embedded, "slain")


def test_a_pc_without_qemu_is_told_to_get_one(embedded: Machine) -> None:
    if os.geteuid() != 0:
        pytest.skip("to hide QEMU takes root")
    hidden = 'mount --bind /dev/null /usr/bin/qemu-system-x86_64; exec "$@"'
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        hidden,
        "sh",
        *embedded._clienthv,
        "up",
        diskless(embedded),
        "--name",
        "bare",
    ]
    done = embedded._start(command, 60)
    assert done.returncode == 3, done.stderr
    assert "qemu-system-x86_64 --version" in done.stderr
    assert embedded.names() == []


def test_a_daemon_that_goes_away_and_stays_away_is_told_and_undone_later(session: Machine) -> None:
    before = state(session)
    runs = session.home / "run/libvirt"
    session.names()  # the daemon is there
    kill = f"kill -9 $(cat {runs}/libvirtd.pid {runs}/virtqemud.pid 2>/dev/null); mv {runs} {runs}.away; touch {runs}"
    gone = session.meddled("at-define", kill, "up", profile(session), "--new-disk", "1 MiB")
    runs.unlink()
    runs.with_name("libvirt.away").rename(runs)
    assert gone.returncode == 3, gone.stderr
    assert "starting again" not in gone.stderr
    assert "libvirt's daemon went away" in gone.stderr
    assert "pointer" not in gone.stderr
    ok(session.run("recover"))
    assert state(session) == before
