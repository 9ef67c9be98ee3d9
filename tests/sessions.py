"""Several PCs on one: session daemons that differ in what the real ones differ in, for moving real guests between them.

Each has a host UUID, folders and a QEMU of its own, and lives in mount and network namespaces in which what it lacks is
hidden. One is reached as another PC is: by a command that carries the connection.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pytest

NOBODY = 65534
FIRMWARE = ("/usr/share/OVMF", "/usr/share/qemu/firmware")
SWTPM = ("/usr/bin/swtpm", "/usr/bin/swtpm_setup")
MODULES = Path("/usr/lib/x86_64-linux-gnu/qemu")
_RELAY = """\
#!/usr/bin/python3
import select, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect({socket!r})
ends = {{0: s.sendall, s.fileno(): lambda data: (sys.stdout.buffer.write(data), sys.stdout.buffer.flush())}}
while True:
    for ready in select.select(list(ends), [], [])[0]:
        data = sys.stdin.buffer.raw.read(1 << 16) if ready == 0 else s.recv(1 << 16)
        if not data:
            sys.exit()
        ends[ready](data)
"""


class Session:
    """One PC: a libvirt session daemon of an ordinary user."""

    def __init__(
        self,
        name: str,
        qemu: str = "/usr/bin/qemu-system-x86_64",
        hidden: tuple[str, ...] = (),
        over: dict[str, str] | None = None,
        *,
        elsewhere: bool = False,
    ) -> None:
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix=f"chv-{name}-"))
        for folder in ("run", "config/libvirt", "bin", "images", "empty"):
            (self.home / folder).mkdir(parents=True)
        (self.home / "nothing").touch()
        (self.home / "config/libvirt/libvirtd.conf").write_text(f'host_uuid = "{uuid.uuid4()}"\n')
        self.emulator = str(self.home / "bin/qemu-system-x86_64")
        Path(self.emulator).symlink_to(qemu)
        self.home.chmod(0o755)
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", self.home], check=True)
        (self.home / "run").chmod(0o700)
        self.environment = {
            "PATH": f"{self.home}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            **{f"XDG_{kind.upper()}_HOME": str(self.home / kind) for kind in ("config", "cache", "state", "data")},
            "LC_ALL": "C.UTF-8",
        }
        socket = self.home / "run/libvirt/libvirt-sock"
        self.uri = self._far(str(socket)) if elsewhere else f"qemu+unix:///session?socket={socket}"
        self._daemon = self._start(hidden, over or {}, socket)

    def _far(self, socket: str) -> str:
        relay = self.home / "relay"
        relay.write_text(_RELAY.format(socket=socket))
        relay.chmod(0o755)
        return f"qemu+ext://{self.name}/session?command={relay}"

    def _start(self, hidden: tuple[str, ...], over: dict[str, str], socket: Path) -> subprocess.Popen[bytes]:
        """Start the daemon where some of this PC's files are hidden, or others lie over them."""
        covers = {path: str(self.home / ("empty" if Path(path).is_dir() else "nothing")) for path in hidden}
        mounts = [f"mount --bind '{what}' '{where}'" for where, what in {**covers, **over}.items()]
        drop = f"exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups /usr/sbin/libvirtd --timeout 300"
        command = ["unshare", "--mount", "--net", "sh", "-ec", "; ".join([*mounts, drop])]
        with (self.home / "log").open("wb") as log:
            daemon = subprocess.Popen(command, env=self.environment, cwd=self.home, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not socket.exists():
            assert daemon.poll() is None, (self.home / "log").read_text()
            assert time.monotonic() < deadline, "libvirtd does not come up"
            time.sleep(0.05)
        return daemon

    def as_user(self, *command: str, given: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command as this PC's user, outside its namespaces."""
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return subprocess.run(
            [*drop, *command], env={**self.environment, **more}, cwd=self.home, input=given, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip

    def virsh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ask virsh."""
        return self.as_user("virsh", "-q", "-c", self.uri, *arguments)

    def ask(self, *arguments: str) -> str:
        """What virsh answers to what must work."""
        done = self.virsh(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def file(self, name: str, text: str) -> str:
        """A file that this PC's user can read."""
        path = self.home / name
        path.write_text(text)
        path.chmod(0o644)
        return str(path)

    def stop(self) -> None:
        """End its guests and daemons, and remove its folder."""
        for name in self.virsh("list", "--name").stdout.split():
            self.virsh("destroy", name)
        for pid_file in (self.home / "run/libvirt").glob("*.pid"):
            subprocess.run(["kill", pid_file.read_text()], check=False, capture_output=True)
        self._daemon.terminate()
        try:
            self._daemon.wait(20)
        except subprocess.TimeoutExpired:  # a daemon whose guest does not answer waits for it
            self._daemon.kill()
            self._daemon.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def lean_modules(into: Path) -> dict[str, str]:
    """A QEMU without the packages for SPICE and OpenGL: what lies over the folder of its modules."""
    folder = into / "modules"
    folder.mkdir()
    for module in MODULES.iterdir():
        if not any(word in module.name for word in ("spice", "qxl", "opengl", "egl", "-gl")):
            shutil.copy(module, folder)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return {str(MODULES): str(folder)}


def older_qemu() -> str:
    """QEMU 7.2 from Debian 12's own packages, unpacked beside the system; the path of a program that starts it."""
    folder = Path(f"/var/tmp/clienthv-qemu-7.2-{os.getuid()}")  # noqa: S108 - ours alone, checked
    program = folder / "qemu-system-x86_64"
    if program.exists():
        assert folder.stat().st_uid == os.getuid()
        return str(program)
    listed = subprocess.run(["apt-cache", "madison", "qemu-system-x86"], capture_output=True, text=True, check=False)
    versions = [line.split("|")[1].strip() for line in listed.stdout.splitlines() if "| 1:7.2" in line]
    if not versions:
        pytest.skip("this archive has no QEMU 7.2: it is Debian 12's")
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        _unpack(Path(made), versions[0])
        Path(made, "root").chmod(0o755)
        shutil.copytree(Path(made, "root"), folder, symlinks=True)
    program.write_text(
        f"#!/bin/sh\nexport QEMU_MODULE_DIR={folder}/usr/lib/x86_64-linux-gnu/qemu\n"
        f'exec {folder}/usr/bin/qemu-system-x86_64 -L {folder}/usr/share/seabios -L {folder}/usr/share/qemu "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


def _unpack(folder: Path, version: str) -> None:
    plain = version.partition("+b")[0]
    packages = [
        f"qemu-system-x86={version}", f"qemu-system-common={version}", f"qemu-system-data={plain}", "seabios/bookworm",
        "ipxe-qemu",
    ]  # fmt: skip
    folder.chmod(0o777)  # apt downloads as an account of its own
    for package in packages:
        done = subprocess.run(
            ["apt-get", "-q", "download", package], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            name = package.partition("=")[0].partition("/")[0]
            subprocess.run(["apt-get", "-q", "download", name], cwd=folder, capture_output=True, check=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
