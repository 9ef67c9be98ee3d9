"""The lab PC: build its box, bring it up, take it away.

``lab.py up [VARIANT]``, ``down``, ``ssh [COMMAND...]``, ``status``, ``clean``. All it makes is in one folder
(``LAB_DIR``, else /var/tmp/clienthv-lab-UID), with a libvirt session of its own: nothing of the user's libvirt is seen
or changed. Root hands QEMU, libvirt and Vagrant to an account without rights, ``nobody``.
Further settings: LAB_SSH_PORT, LAB_MIRROR (of Debian), LAB_DRIVER (kvm or qemu).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import box
from folder import (
    BASE,
    HOME,
    PC,
    REPOSITORY,
    RUN,
    LabError,
    check_space,
    environment,
    give,
    locked,
    own_folder,
    phase,
    run,
    say,
    tail,
)

HERE = Path(__file__).resolve().parent
SSH_CONFIG = PC / "ssh_config"
STATE = PC / "state.json"
VARIANTS = ("full", "no-iommu", "iommu-off", "no-intremap", "no-svm")
PROGRAMS = {
    "vagrant": "vagrant vagrant-libvirt",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "virsh": "libvirt-clients",
    "libvirtd": "libvirt-daemon",
    "swtpm": "swtpm",
    "ssh-keygen": "openssh-client",
} | ({} if os.getuid() == 0 else {"fakeroot": "fakeroot", "newuidmap": "uidmap"})
NEEDS = 2 << 30  # bytes of disk that a PC takes
START_WITHIN = 900  # seconds: software emulation takes about one minute on two cores


def check_programs() -> None:
    """Raise LabError naming the packages that are missing."""
    path = environment()["PATH"]
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None})
    if missing:
        msg = f"packages are missing: {' '.join(missing)}; scripts/setup lab installs them on Debian and Ubuntu"
        raise LabError(msg)


def ssh_port() -> int:
    """The port on loopback that ssh uses: LAB_SSH_PORT, else a free one. Raises LabError when it is taken."""
    wanted = os.environ.get("LAB_SSH_PORT", "0")
    try:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", int(wanted)))
            return int(s.getsockname()[1])
    except (ValueError, OverflowError):
        msg = f"LAB_SSH_PORT={wanted} is not a port; give a number from 1 to 65535, or leave it out"
        raise LabError(msg) from None
    except OSError as e:
        msg = f"port {wanted} on 127.0.0.1 cannot be used ({e.strerror}); choose another, or leave LAB_SSH_PORT out"
        raise LabError(msg) from None


def driver() -> str:
    """Which virtualization runs the PC: kvm where clienthv finds it usable and able to nest, else qemu (software)."""
    if chosen := os.environ.get("LAB_DRIVER"):
        return chosen
    program = REPOSITORY / ".venv/bin/clienthv"
    done = subprocess.run([program, "inspect", "--json"], capture_output=True, check=False)
    kvm = json.loads(done.stdout)["kvm"] if done.returncode == 0 else {}
    return "kvm" if kvm.get("usable") and kvm.get("nested") else "qemu"


def _wheel() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="wheel-", dir=BASE))
    python = str(REPOSITORY / ".venv/bin/python")
    command = [python, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(folder)
        msg = f"clienthv's wheel could not be built: {done.stderr.strip()[-500:]}; make setup may help"
        raise LabError(msg)
    return next(folder.glob("*.whl"))


def up(variant: str = "full") -> None:
    """Bring the PC up in one variant, or leave it as it is when it is up already. Raises LabError."""
    if variant not in VARIANTS:
        msg = f"there is no variant {variant}; the variants are: {', '.join(VARIANTS)}"
        raise LabError(msg)
    port = ssh_port()
    check_programs()
    built = box.build()
    wheel = _wheel()
    try:
        settings: dict[str, Any] = {
            "variant": variant,
            "box": built.name,
            "pc": box.digest(HERE / "Vagrantfile", HERE / "provision", wheel),
        }
        if _is_up(settings):
            say(f"the PC is up already ({variant})")
            return
        down()
        check_space(NEEDS)
        _fill(wheel)
    finally:
        shutil.rmtree(wheel.parent)
    settings |= {"port": port, "driver": driver()}
    try:
        with phase(f"PC {variant} ({settings['driver']})"):
            _vagrant_up(settings, built)
        STATE.write_text(json.dumps(settings))
    except BaseException:
        down()
        raise


def _fill(wheel: Path) -> None:
    """Put into the PC's folder what Vagrant and QEMU read: no file of the checkout is opened by their account."""
    for path in (PC, PC / "pool", HOME, RUN, HOME / "config", HOME / "cache", HOME / "data", HOME / "vagrant"):
        own_folder(path)
    RUN.chmod(0o700)
    for source in (HERE / "Vagrantfile", HERE / "provision", wheel):
        shutil.copy(source, PC / source.name)
        give(PC / source.name)
    for name, mib in (("nvme.img", 512), ("usb.img", 16)):
        with (PC / name).open("wb") as disk:
            disk.truncate(mib << 20)
        give(PC / name)


def _vagrant_up(settings: dict[str, Any], built: Path) -> None:
    name = f"clienthv-lab-{built.name}"
    values = {
        "LAB_VARIANT": settings["variant"], "LAB_DRIVER": settings["driver"], "LAB_SSH_PORT": str(settings["port"]),
        "LAB_BOX": name, "LAB_KERNEL": str(built), "LAB_FILES": str(PC), "LAB_KEY": str(box.KEY),
    }  # fmt: skip
    log_file = BASE / "vagrant.log"
    with log_file.open("wb") as log:
        try:
            pool = ("pool-create-as", "clienthv-lab", "dir", "--target", str(PC / "pool"))
            run("virsh", "--connect", "qemu:///session", *pool, log=log)
            vagrant = ("vagrant", "--no-tty")
            if not (HOME / "vagrant/boxes" / name).exists():
                add = ("box", "add", "--name", name, str(built / "lab.box"))
                run(*vagrant, *add, log=log, seconds=START_WITHIN, **values)
            bring = ("up", "--provider", "libvirt", "--no-color")
            code = run(*vagrant, *bring, log=log, seconds=START_WITHIN, **values)
        except subprocess.TimeoutExpired:
            code = None
    if code != 0:
        why = "vagrant up failed" if code is not None else f"vagrant up took more than {START_WITHIN} s"
        words = [tail(log_file, why), tail(PC / "console.log", "the PC's console")]
        raise LabError("\n".join(words))
    SSH_CONFIG.write_text(
        f"Host lab\n HostName 127.0.0.1\n Port {settings['port']}\n User vagrant\n IdentityFile {box.KEY}\n"
        " IdentitiesOnly yes\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n"
        f" ConnectTimeout 30\n ServerAliveInterval 15\n ServerAliveCountMax 8\n"
        f" ControlMaster auto\n ControlPath {BASE}/ssh-%C\n ControlPersist 120\n"
    )


def _is_up(settings: dict[str, Any]) -> bool:
    try:
        now = json.loads(STATE.read_text())
    except (FileNotFoundError, ValueError):
        return False
    return settings.items() <= now.items() and ssh("true").returncode == 0


def ssh(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the PC."""
    return subprocess.run(["ssh", "-F", SSH_CONFIG, "lab", *command], capture_output=True, text=True, check=False)


def down() -> None:
    """Take the PC away, whatever state it is in; the built box stays."""
    if SSH_CONFIG.exists():
        subprocess.run(["ssh", "-F", SSH_CONFIG, "-O", "exit", "lab"], capture_output=True, check=False)
    for pid in _processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (left := _processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        msg = f"processes of the lab do not end: {' '.join(map(str, left))}"
        raise LabError(msg)
    for path in (PC, RUN, HOME / "config", HOME / "cache", HOME / "data", HOME / "vagrant/data"):
        shutil.rmtree(path, ignore_errors=True)


def _processes() -> list[int]:
    """The processes of the lab's account that live in the lab's folder by their environment: QEMU, libvirt, swtpm."""
    found = []
    mark = f"XDG_RUNTIME_DIR={RUN}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            command, variables = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            if command and (mark in variables.split(b"\0") or f"{HOME}/".encode() in command):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def clean() -> None:
    """Take everything away, the box too."""
    down()
    shutil.rmtree(BASE, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Do what was asked; 0, or 1 with the reason on standard error."""
    command, *rest = arguments or ["status"]
    try:
        if command == "ssh":
            if not SSH_CONFIG.exists():
                msg = "the PC is not up; bring it up: make lab"
                raise LabError(msg)
            os.execvp("ssh", ["ssh", "-F", str(SSH_CONFIG), "lab", *rest])
        if command == "status":
            say(STATE.read_text() if STATE.exists() else "the PC is not up; bring it up: make lab")
            return 0
        commands = {"up": up, "down": down, "clean": clean}
        if command not in commands or (rest and command != "up") or len(rest) > 1:
            msg = "usage: lab.py up [VARIANT] | down | ssh [COMMAND...] | status | clean"
            raise LabError(msg)
        with locked(f"lab.py {' '.join(arguments)}"):
            commands[command](*rest)
            if command == "up":
                say("the PC is up: make lab-ssh")
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; the PC was taken away", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
