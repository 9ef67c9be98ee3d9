"""Real libvirt, real QEMU: an embedded driver of our own, and a session daemon of an ordinary user."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
NOBODY = 65534
INSTALLED = (
    "click", "jinja2", "markupsafe", "msgspec", "lxml", "pyudev", "oslo_utils", "oslo_i18n", "zstandard",
    "cryptography", "cffi",
)  # fmt: skip


class Terminal:
    """Our end of a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_until(self, words: str, seconds: float = 20) -> str:
        """What was shown, once it holds the words or the time is over."""
        shown, deadline = "", time.monotonic() + seconds
        while words not in shown and time.monotonic() < deadline:
            if select.select([self._descriptor], [], [], 0.2)[0]:
                try:
                    shown += os.read(self._descriptor, 4096).decode(errors="replace")
                except OSError:  # the program has ended, and its end of the terminal with it
                    break
        return shown


class Machine:
    """A user with folders of their own, and the connection that clienthv finds for them."""

    def __init__(self, home: Path, uri: str, command: list[str], environment: dict[str, str]) -> None:
        self.home = home
        self.uri = uri
        self._command = command
        # Named, so that a daemon which happens to run here is not used instead.
        self._clienthv = [*command, "-m", "clienthv", "--connect", uri]
        self._environment = environment

    def run_unnamed(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run clienthv without naming a connection."""
        return self._start([*self._command, "-m", "clienthv", *arguments], 120)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python as the user, with clienthv to import."""
        return self._start([*self._command, *arguments], 120)

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run clienthv."""
        return self._start([*self._clienthv, *arguments], timeout)

    def meddled(self, what: str, value: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run clienthv with something done at one moment: see tests/meddling.py."""
        script = self.home / "meddling.py"
        script.write_text((REPOSITORY / "tests/meddling.py").read_text())
        script.chmod(0o644)
        return self._start([*self._command, str(script), what, value, "--connect", self.uri, *arguments], 120)

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start clienthv and go on."""
        command = [*self._clienthv, *arguments]
        return subprocess.Popen(
            command,
            env=self._environment,
            cwd=self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @staticmethod
    def await_main(process: subprocess.Popen[str]) -> None:
        """Wait until the program has taken over from Python's start: until it handles SIGTERM."""
        handles_sigterm = 1 << (signal.SIGTERM - 1)
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
            if int(caught.split()[1], 16) & handles_sigterm:
                return
            time.sleep(0.01)

    @contextmanager
    def on_a_terminal(self, *arguments: str) -> Iterator[Terminal]:
        """Run clienthv with a terminal of its own, until the block ends."""
        ours, theirs = pty.openpty()
        command = [*self._clienthv, *arguments]
        process = subprocess.Popen(
            command,
            env={**self._environment, "TERM": "dumb"},
            cwd=self.home,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        try:
            yield Terminal(ours)
            # Left as a person leaves it: a console that is killed keeps its lock on the guest's pty
            # (/var/lock/LCK..*), and the next user whose guest gets that pty is refused.
            deadline = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < deadline:
                # Again and again: what comes before virsh makes the terminal raw is thrown away.
                os.write(ours, b"\x1d")
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
            assert process.poll() is not None, "the console does not end"
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    def virsh(self, *arguments: str) -> str:
        """Ask virsh about the same connection, so that no test believes clienthv alone."""
        command = [*self._command[:-1], "virsh", "-q", "-c", self.uri, *arguments]
        done = self._start(command, 60)
        # virsh can crash at its very end, its work done, while the embedded driver still reconnects.
        crashed_at_its_end = done.returncode == -signal.SIGSEGV and self.uri != "qemu:///session"
        assert done.returncode == 0 or crashed_at_its_end, done.stderr
        return done.stdout

    def names(self) -> list[str]:
        """The names of all VMs, by virsh."""
        return self.virsh("list", "--all", "--name").split()

    def _start(self, command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=self._environment,
            cwd=self.home,
            timeout=timeout,
            check=False,
        )


@pytest.fixture(scope="session")
def site() -> Iterator[Path]:
    """clienthv and what it needs in a folder that every account can read, wherever this checkout lies."""
    folder = Path(tempfile.mkdtemp(prefix="chv-site-"))
    packages = Path(sysconfig.get_path("purelib"))
    for name in INSTALLED:
        shutil.copytree(packages / name, folder / name)
    for module in packages.glob("_cffi_backend*.so"):
        shutil.copy(module, folder)
    for name in ("clienthv", "templates", "profiles"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    yield folder
    shutil.rmtree(folder)


def _home(owner: int | None) -> Path:
    """A short path that QEMU's account can pass through (sockets have 108 bytes)."""
    home = Path(tempfile.mkdtemp(prefix="chv-"))
    home.chmod(0o755)
    (home / "run").mkdir(mode=0o700)
    if owner is not None:
        for path in (home, home / "run"):
            os.chown(path, owner, owner)
    return home


def _environment(home: Path, site: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_STATE_HOME": str(home / "s"),
        "XDG_DATA_HOME": str(home / "d"),
        "PYTHONPATH": str(site),
        "LC_ALL": "C.UTF-8",
    }


def _stop_all(machine: Machine) -> None:
    for name in machine.names():
        subprocess.run(  # a VM that is not running is fine
            [*machine._command[:-1], "virsh", "-c", machine.uri, "destroy", name],
            env=machine._environment,
            capture_output=True,
            check=False,
        )


@pytest.fixture(scope="module")
def embedded(site: Path) -> Iterator[Machine]:
    """No daemon: libvirt's embedded driver, as whoever runs the tests."""
    home = _home(None)
    uri = f"qemu:///embed?root={home}/s/clienthv/embed"
    machine = Machine(home, uri, ["/usr/bin/python3"], _environment(home, site))
    yield machine
    _stop_all(machine)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def session(site: Path) -> Iterator[Machine]:
    """An ordinary user with libvirt's session daemon, started on demand."""
    root = os.geteuid() == 0
    home = _home(NOBODY if root else None)
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if root else []
    machine = Machine(home, "qemu:///session", [*drop, "/usr/bin/python3"], _environment(home, site))
    yield machine
    _stop_all(machine)
    _end_daemons(home)
    shutil.rmtree(home)


def _end_daemons(home: Path) -> None:
    """End the session's daemons, which would stay for two minutes otherwise."""
    pids = [int(p.read_text()) for p in (home / "run" / "libvirt").glob("*.pid")]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)


_OWN_NETWORK = """
mount --rbind /sys/fs/cgroup /mnt
mount -t sysfs sysfs /sys
mount --rbind /mnt /sys/fs/cgroup
ip link set lo up
ip link add br7 type bridge && ip link set br7 up
ip link add lan7 type veth peer name far7 && ip link set lan7 up && ip link set far7 up
echo ready; exec sleep 600
"""


@pytest.fixture(scope="module")
def apart(site: Path) -> Iterator[Machine]:
    """libvirt's embedded driver where nothing of this PC's network can be seen or touched, and a bridge is."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces and bridges take root")
    command = ["unshare", "--net", "--mount", "sh", "-c", _OWN_NETWORK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        home = _home(None)
        inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", f"--mount=/proc/{holder.pid}/ns/mnt"]
        machine = Machine(
            home, f"qemu:///embed?root={home}/s/clienthv/embed", [*inside, "/usr/bin/python3"], _environment(home, site)
        )
        yield machine
        _stop_all(machine)
        shutil.rmtree(home)
        holder.kill()


@pytest.fixture(params=["embedded", "session"])
def machine(request: pytest.FixtureRequest) -> Machine:
    """Each kind of connection in turn."""
    found: Machine = request.getfixturevalue(request.param)
    return found
