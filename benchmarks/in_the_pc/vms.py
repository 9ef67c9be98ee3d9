"""The VMs that are measured: each started by clienthv, virt-install or quickemu, and spoken to on its serial port.

Runs in the lab PC as root, where these are in reach; the standard library alone.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import termios
import time
import tty
from pathlib import Path

HERE = Path(__file__).resolve().parent
LAB = Path("/usr/share/clienthv-lab")
KERNEL, INITRD = LAB / "vmlinuz", HERE / "initrd.img"
CMDLINE = "console=ttyS0 quiet"
MEMORY_MIB = 256
READY_WITHIN = 90  # seconds: a guest's first ones now and then hang in software emulation


def ok(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode != 0:
        message = f"{shlex.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        raise RuntimeError(message)
    return done.stdout


class Serial:
    """A guest's serial port, line by line."""

    def __init__(self, place: str) -> None:
        if Path(place).is_socket():
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(place)
            self._file = os.dup(self._socket.fileno())
        else:
            self._file = os.open(place, os.O_RDWR | os.O_NOCTTY)
            tty.setraw(self._file, termios.TCSANOW)
        os.set_blocking(self._file, False)
        self._rest = b""

    def until(self, last: str, seconds: float) -> list[str]:
        """The lines before the one that is awaited. Raises TimeoutError."""
        lines: list[str] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self._rest += os.read(self._file, 4096)
            except BlockingIOError:
                time.sleep(0.05)
            *whole, self._rest = self._rest.split(b"\n")
            for line in whole:
                text = line.decode(errors="replace").strip()
                if text == last:
                    return lines
                lines.append(text)
        message = f"{last!r} did not come within {seconds} s, but {lines} {self._rest!r}"
        raise TimeoutError(message)

    def ask(self, command: str, seconds: float = 60) -> dict[str, str]:
        """Have the guest do something; what it answers, by name."""
        os.write(self._file, f"{command}\n".encode())
        lines = self.until("measured", seconds)
        answers = dict(line.split(" ", 1) for line in lines if re.fullmatch(r"[a-z_0-9]+ \S+", line))
        if not answers:
            message = f"{command}: {lines}"
            raise RuntimeError(message)
        return answers


class Vm:
    """A VM that runs, or waits."""

    def __init__(self, name: str, pid: int, serial: Serial, *, domain: bool = True) -> None:
        self.name, self.pid, self.serial, self.domain = name, pid, serial, domain
        self.peer = self.disk = ""

    def wait(self) -> None:
        """Let it stand still: it shall cost nothing while another one is measured."""
        ok("virsh", "suspend", self.name) if self.domain else os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run."""
        ok("virsh", "resume", self.name) if self.domain else os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Take it away; nothing of it is kept."""
        if not self.domain:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        elif Path(f"/etc/libvirt/qemu/{self.name}.xml").exists():
            ok("clienthv", "down", self.name, "--force", "--undefine")
        else:
            ok("virsh", "destroy", self.name)


def of_domain(name: str) -> Vm:
    """The running domain of this name, its guest awaited; one that is silent is reset, once."""
    serial = Serial(ok("virsh", "ttyconsole", name).strip())
    pid = int(Path(f"/run/libvirt/qemu/{name}.pid").read_text())
    try:
        serial.until("ready", READY_WITHIN)
    except TimeoutError:
        ok("virsh", "reset", name)
        serial.until("ready", READY_WITHIN)
    return Vm(name, pid, serial)


def by_clienthv(name: str, image: Path | None, **devices: dict[str, list[str]]) -> Vm:
    """A VM that clienthv plans and starts, from balanced with these ladders; what measures nothing is left out."""
    tables = {kind: {"prefer": ["omit"]} for kind in ("gpu", "audio", "usb", "input", "tpm", "display")}
    tables["firmware"] = {"prefer": ["bios"]}
    if image is None:
        tables["disk"] = {"prefer": ["omit"]}
    lines = ["schema = 1", 'extends = "balanced"', "[size]", "vcpus = 1", f'memory = "{MEMORY_MIB} MiB"']
    lines += [f'memory_min = "{MEMORY_MIB} MiB"']
    for kind, values in {**tables, **devices}.items():
        lines += [f"[devices.{kind}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    profile = HERE / f"{name}.toml"
    profile.write_text("\n".join(lines) + "\n")
    disk = ["--disk", image] if image is not None else []
    ok("clienthv", "up", profile, "--name", name, *disk, "--kernel", KERNEL, "--initrd", INITRD, "--cmdline", CMDLINE)
    return of_domain(name)


def by_virt_install(name: str, image: Path) -> Vm:
    """The VM that virt-install makes by its defaults of an image of Debian 13, started with the guest that measures."""
    boot = f"kernel={KERNEL},initrd={INITRD},kernel_args={shlex.quote(CMDLINE)}"
    about = ["--name", name, "--memory", str(MEMORY_MIB), "--vcpus", "1", "--osinfo", "debian13", "--import"]
    xml = ok("virt-install", *about, "--disk", str(image), "--boot", boot, "--print-xml", "--dry-run")
    definition = HERE / f"{name}.xml"
    definition.write_text(xml)
    ok("virsh", "create", definition)
    return of_domain(name)


KEPT = re.compile(
    r"-(machine|global|smp|m|rtc|netdev|drive|object rng)\b|-device virtio-(balloon|rng-pci|net|blk-pci)\b"
)
"""Of quickemu's command for QEMU: all but screen, sound, USB and processor."""


def by_quickemu(name: str, image: Path) -> Vm:
    """The VM that quickemu makes by its defaults of an image, without screen, sound and USB.

    quickemu writes the command that it gives to QEMU into a script beside the image. That is read, so that no screen
    is needed. In a virtual machine, as the lab PC is one, it turns to software emulation and another processor; here it
    gets what it takes on a PC, KVM and ``-cpu host``.
    """
    folder = image.parent
    configuration = folder / f"{name}.conf"
    about = {"guest_os": "linux", "disk_img": image, "cpu_cores": 1, "ram": f"{MEMORY_MIB}M", "boot": "legacy"}
    configuration.write_text("".join(f'{key}="{value}"\n' for key, value in about.items()))
    asked = ["bash", "/usr/bin/quickemu", "--vm", str(configuration), "--display", "none", "--viewer", "none"]
    subprocess.run(asked, capture_output=True, check=False, cwd=folder)
    script = (folder / f"{name}.sh").read_text().replace("\\\n", " ")
    command = next(line for line in script.splitlines() if "-machine" in line).removesuffix("2>/dev/null")
    program, *options = re.split(r"\s+(?=-[a-z])", command.strip())
    kept = [word for option in options if KEPT.match(option) for word in shlex.split(option)]
    serial = f"/run/{name}.serial"
    Path(serial).unlink(missing_ok=True)
    arguments = [program, *(word.replace("accel=tcg", "accel=kvm") for word in kept), "-cpu", "host"]
    arguments += ["-display", "none", "-kernel", str(KERNEL), "-initrd", str(INITRD), "-append", CMDLINE]
    arguments += ["-serial", f"unix:{serial},server,nowait", "-monitor", "none"]
    (HERE / f"{name}.command").write_text(shlex.join(arguments) + "\n")
    with (HERE / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not Path(serial).is_socket() and time.monotonic() < deadline:
            time.sleep(0.1)
        speaking = Serial(serial)
        speaking.until("ready", READY_WITHIN)
    except BaseException:
        process.kill()
        raise
    return Vm(name, process.pid, speaking, domain=False)


def give_address(vm: Vm, number: int, where: str) -> None:
    """An address on the network that its card is on: libvirt's, QEMU's user-mode network, or the cable."""
    own, vm.peer = {
        "network": (f"192.168.122.{number}/24", "192.168.122.1"),
        "user": ("10.0.2.15/24", "10.0.2.2"),
        "cable": (f"192.0.2.{number}/24", "192.0.2.1"),
        "": ("", ""),
    }[where]
    found = vm.serial.ask(f"address {own}")
    vm.disk = found.get("disk", "")
    if vm.peer and vm.serial.ask(f"answers {vm.peer} 20") != {"answers": "1"}:
        message = f"{vm.name} does not reach {vm.peer}: {found}"
        raise RuntimeError(message)


def function(ids: str) -> str:
    """The address of the one PCI function with these ids."""
    (line,) = ok("lspci", "-D", "-n", "-d", ids).splitlines()
    return line.split()[0]


def started(name: str, images: Path) -> Vm:
    """The VM of this name."""
    image = images / f"{name}.qcow2"
    omit = {"prefer": ["omit"]}
    match name:
        case "emulated":
            return by_clienthv(name, image, nic={"prefer": ["emulated"]}, disk={"prefer": ["emulated"]})
        case "paravirtual":
            return by_clienthv(name, image)
        case "usermode":
            return by_clienthv(name, None, nic={"prefer": ["paravirtual"], "network": ["user"]})
        case "vf":
            nic = {"prefer": ["vf"], "select": [function("8086:10c9")]}
            # The images' file system is on the same controller; the guest stays behind it.
            disk = {"prefer": ["vf"], "select": [function("1b36:0010")], "allow": ["mounted-disk"]}
            return by_clienthv(name, None, nic=nic, disk=disk)
        case "nic":
            return by_clienthv(name, None, nic={"prefer": ["passthrough"], "select": [function("8086:10d3")]})
        case "nvme":
            disk = {"prefer": ["passthrough"], "select": [function("1b36:0010")]}
            return by_clienthv(name, None, nic=omit, disk=disk)
        case "virt-install":
            return by_virt_install(name, image)
        case _:
            return by_quickemu(name, image)
