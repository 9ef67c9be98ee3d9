"""The only module that starts processes: qemu-img, ip, nvme, modprobe, dd, libguestfs, and viewers in our place."""

from __future__ import annotations

import errno
import json
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn, cast

from clienthv.errors import DiskError, HostError
from clienthv.model.refusals import Refusal, refuse

_SECONDS: Final = 30
_CHECK_SECONDS: Final = 60
_ADDRESS_SPACE: Final = 2 << 30  # bytes; qemu-img has had bugs with crafted images (CVE-2024-4467 and others)
_MOST_WORDS: Final = 4 << 20  # bytes; an image may have 65536 snapshots with names of 65535 bytes
_CORRUPTIONS: Final = 2  # man 1 qemu-img, check: what it ends with
_LEAKS: Final = 3


def image_info(path: Path, image_format: str) -> str:
    """What ``qemu-img info`` says of an image that is in this of QEMU's formats: JSON that nobody has checked yet.

    It is told the format and does not probe; it writes nothing, and its time, its memory and its words are bounded.
    Raises RefusedError, DiskError, HostError.
    """
    words = ["info", "-U", "-f", image_format, "--output=json", "--", str(path)]
    try:
        code, text, told = _qemu_img_bounded(words, _SECONDS)
    except (TimeoutError, OverflowError) as e:
        code, text, told = -1, "", "more than its time" if isinstance(e, TimeoutError) else "more words than are read"
    cause = told.strip().removeprefix("qemu-img: ") or f"qemu-img ended with {code}"
    if code < 0 or "allocate memory" in told:
        msg = f"{path} costs qemu-img too much to read: {cause.splitlines()[0]}"
        raise refuse(Refusal.TOO_COSTLY, msg, "do without it, unless it lies on a network share that is gone", told)
    if code != 0:
        msg = f"cannot read disk image {path}: {cause.splitlines()[0]}"
        if re.search(r"river '|Input/output error|No such file|Permission denied", cause):
            raise DiskError(msg, hint="check the path and its permissions", detail=told)
        raise refuse(Refusal.CORRUPT, msg, "get the image again from where it came from", told)
    return text


def image_is_corrupt(path: Path) -> bool | None:
    """Whether ``qemu-img check`` finds a qcow2 image corrupt, bounded as ``image_info`` is; None when nobody can tell.

    Clusters that belong to nothing are no corruption. An image that a VM writes to is locked, and not checked: it
    would change under the check. Raises HostError.
    """
    try:
        code, _, _ = _qemu_img_bounded(["check", "-f", "qcow2", "--output=json", "--", str(path)], _CHECK_SECONDS)
    except (TimeoutError, OverflowError):
        return None
    return {0: False, _LEAKS: False, _CORRUPTIONS: True}.get(code)


def _qemu_img_bounded(arguments: list[str], seconds: int) -> tuple[int, str, str]:
    """Run qemu-img on an image from a stranger; its exit code and what it said.

    Raises HostError, TimeoutError, and OverflowError when it says too much.
    """
    program = _find("qemu-img", "install qemu-utils (qemu-img on Fedora and Arch)")
    child = subprocess.Popen(
        [*_limits(seconds, "--fsize=0"), program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={"PATH": os.defpath, "LC_ALL": "C"}, start_new_session=True,
    )  # fmt: skip
    try:
        out, told = _read_both(child, time.monotonic() + 2 * seconds)
    except BaseException:
        child.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(1)
        _abandon(child)
        raise
    return child.returncode, out.decode(errors="replace"), told.decode(errors="replace")


def _read_both(child: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """All that a program says, and wait for its end. Raises TimeoutError, OverflowError."""
    said = {pipe: bytearray() for pipe in (child.stdout, child.stderr) if pipe is not None}
    with selectors.DefaultSelector() as talking:
        for pipe in said:
            talking.register(pipe, selectors.EVENT_READ, said[pipe])
        while talking.get_map():
            ready = talking.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                piece = os.read(key.fd, _MOST_WORDS)
                key.data.extend(piece)
                if not piece:
                    talking.unregister(key.fileobj)
            if sum(map(len, said.values())) > _MOST_WORDS:
                raise OverflowError
    try:
        child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as e:
        raise TimeoutError from e
    for pipe in said:
        pipe.close()
    out, told = said.values()
    return bytes(out), bytes(told)


def create_image(path: Path, mib: int) -> None:
    """Make an empty qcow2 image of ``mib`` MiB. Raises DiskError, HostError."""
    _qemu_img(["create", "-q", "-f", "qcow2", "--", str(path), f"{mib}M"], f"make disk image {path}")


def create_overlay(path: Path, below: Path, below_format: str) -> None:
    """Make a qcow2 image over another one, which stays as it is. Raises DiskError, HostError."""
    words = ["create", "-q", "-f", "qcow2", "-b", str(below), "-F", below_format, "--", str(path)]
    _qemu_img(words, "make an overlay over the disk image")


def _qemu_img(arguments: list[str], what: str) -> str:
    program = _find("qemu-img", "install qemu-utils (qemu-img on Fedora and Arch)")
    told = _Told(
        "qemu-img: ",
        DiskError,
        late="is the file on a network share that is gone?",
        failed="check the path, the permissions and the free space",
    )
    return _output([*_limits(), program, *arguments], "qemu-img", what, told)


def set_link(interface: str, *, up: bool) -> None:
    """Bring a network interface up, or down (iproute2, ip-link). Raises HostError."""
    state = "up" if up else "down"
    _ip(["link", "set", "dev", interface, state], f"bring {interface} {state}")


def set_vf_trust(interface: str, index: int, *, on: bool) -> None:
    """Let a virtual function change its MAC address and its receive filters, or not. Raises HostError."""
    words = ["link", "set", "dev", interface, "vf", str(index), "trust", "on" if on else "off"]
    hint = "run clienthv as root; or leave out trust in [devices.nic]: not every driver knows it"
    _ip(words, f"set the trust of virtual function {index} of {interface}", hint)


def vf_trust(interface: str, index: int) -> bool | None:
    """Whether a virtual function is trusted; None where there is no such function or its driver does not say.

    Raises HostError.
    """
    text = _ip(["-json", "link", "show", "dev", interface], f"read the virtual functions of {interface}")
    try:
        shown: list[dict[str, Any]] = json.loads(text)
        functions = [vf for link in shown for vf in link.get("vfinfo_list", ()) if vf.get("vf") == index]
        trust = functions[0].get("trust") if functions else None
    except (ValueError, AttributeError, TypeError) as e:
        msg = f"ip said nothing that can be understood about {interface}"
        raise HostError(msg, hint="update iproute2 to 5.0 or later", detail=text) from e
    return trust if isinstance(trust, bool) else None


def _ip(arguments: list[str], what: str, hint: str = "run clienthv as root; dmesg shows what the driver says") -> str:
    program = _find("ip", "install iproute2 (iproute on Fedora)")
    late = "dmesg shows whether the network card's driver hangs"
    return _output([program, *arguments], "ip", what, _Told("RTNETLINK answers: ", HostError, late, failed=hint))


class NvmePrimary(NamedTuple):
    """An NVMe primary controller's flexible queue and interrupt resources: its own, all, and the most for one other.

    ``identifier`` is the controller's own (CNTLID).
    """

    queues: int
    interrupts: int
    all_queues: int
    all_interrupts: int
    most_queues: int
    most_interrupts: int
    identifier: int


class NvmeSecondary(NamedTuple):
    """An NVMe secondary controller: its identifier, its virtual function counted from 0, and whether it is online."""

    identifier: int
    function: int
    online: bool
    has_resources: bool


def nvme_primary(node: str) -> NvmePrimary:
    """What a primary controller says (NVM Express Base Specification, Primary Controller Capabilities).

    Raises HostError.
    """
    told = _nvme_json("primary-ctrl-caps", node)
    try:
        keys = ("vqrfap", "virfap", "vqfrt", "vifrt", "vqfrsm", "vifrsm", "cntlid")
        return NvmePrimary(*(int(told[key]) for key in keys))
    except (KeyError, ValueError, TypeError) as e:
        raise _not_understood(node) from e


def nvme_secondary(node: str, index: int) -> NvmeSecondary | None:
    """The secondary controller of a virtual function, counted from 0; None where there is none. Raises HostError."""
    told = _nvme_json("list-secondary", node)
    try:
        found = [
            NvmeSecondary(
                int(c["secondary-controller-identifier"]),
                int(c["virtual-function-number"]) - 1,
                bool(c["secondary-controller-state"]),
                int(c["num-virtual-queues"]) > 0 and int(c["num-virtual-interrupts"]) > 0,
            )
            for c in told["secondary-controllers"]
        ]
    except (KeyError, ValueError, TypeError) as e:
        raise _not_understood(node) from e
    return next((c for c in found if c.function == index), None)


def set_nvme_primary(node: str, queues: int, interrupts: int) -> None:
    """Give a primary controller these flexible resources, from its next reset on. Raises HostError."""
    mine = str(nvme_primary(node).identifier)
    for resource, number in (("1", interrupts), ("0", queues)):
        _nvme(["virt-mgmt", f"/dev/{node}", "-c", mine, "-r", resource, "-a", "1", "-n", str(number)], node)


def set_nvme_online(node: str, index: int, of: int) -> None:
    """Bring a secondary controller online, with its share of the resources of ``of`` such. Raises HostError."""
    primary, secondary = nvme_primary(node), nvme_secondary(node, index)
    if secondary is None:
        raise _not_understood(node)
    here = ["virt-mgmt", f"/dev/{node}", "-c", str(secondary.identifier)]
    if not secondary.has_resources:
        shares = (
            ("1", min(primary.all_interrupts // of, primary.most_interrupts)),
            ("0", min(primary.all_queues // of, primary.most_queues)),
        )
        for resource, share in shares:
            _nvme([*here, "-r", resource, "-a", "8", "-n", str(share)], node)
    _nvme([*here, "-a", "9"], node)


def set_nvme_offline(node: str, index: int) -> None:
    """Take a secondary controller offline. Raises HostError."""
    secondary = nvme_secondary(node, index)
    if secondary is not None:
        _nvme(["virt-mgmt", f"/dev/{node}", "-c", str(secondary.identifier), "-a", "7"], node)


def _nvme_json(command: str, node: str) -> dict[str, Any]:
    text = _nvme([command, f"/dev/{node}", "--output-format=json"], node)
    try:
        told = json.loads(text)
    except ValueError as e:
        raise _not_understood(node) from e
    if not isinstance(told, dict):
        raise _not_understood(node)
    return told


def _not_understood(node: str) -> HostError:
    which = node or "a controller without a driver"
    msg = f"nvme said nothing that can be understood about the virtualization of {which}"
    return HostError(msg, hint="update nvme-cli to 2.0 or later")


def _nvme(arguments: list[str], node: str) -> str:
    program = _find("nvme", "install nvme-cli, which manages the virtual functions of NVMe controllers")
    hint = f"nvme id-ctrl /dev/{node} -H shows whether the controller can be virtualized"
    told = _Told("NVMe status: ", HostError, "dmesg shows whether the controller hangs", failed=hint)
    return _output([program, *arguments], "nvme", f"manage the virtual functions of {node}", told)


class _Told(NamedTuple):
    """How a program's failure is told: the words it begins its own with, the error, and the hints."""

    prefix: str
    error: type[DiskError | HostError]
    late: str
    failed: str


WRITES_TO: Final = "CLIENTHV_WRITES_TO"
"""The variable by which a process that writes for clienthv is known."""
_NUMBERS: Final = {os.strerror(number): number for number in errno.errorcode}


def write_file(path: str, value: str, within: float, device: str = "") -> None:
    """Write a line to a file that is there, in one piece. Raises OSError, and TimeoutError after ``within`` seconds.

    A process of its own does it. The kernel may keep whoever writes waiting, deaf even to SIGKILL: then that process is
    left to it, and what it wrote may still come to pass. Its environment names the ``device``, for ``inspect`` to see
    that it is still there. A signal that ends clienthv does not reach it, and is heard when it has ended.
    """
    _dd(path, [f"of={path}", "conv=nocreat,notrunc", "oflag=nofollow"], within, f"{value}\n", {WRITES_TO: device})


def read_file(path: str, within: float) -> str:
    """The text of a file of the kernel's, whose reader may have to wait as well. Raises OSError, TimeoutError."""
    return _dd(path, [f"if={path}"], within)


_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def _dd(
    path: str, words: list[str], within: float, given: str | None = None, more: Mapping[str, str] = _NOTHING
) -> str:
    """What dd prints, its failure as the system's own. Raises OSError, TimeoutError."""
    code, text, told = _run([_find("dd", "install coreutils"), *words, "status=none"], within, given, more)
    if code != 0:
        reason = told.strip().rpartition(": ")[2] or f"dd ended with {code}"
        raise OSError(_NUMBERS.get(reason, 0), reason, path)
    return text


def _run(
    command: list[str], within: float, given: str | None = None, more: Mapping[str, str] = _NOTHING
) -> tuple[int, str, str]:
    """Run a program in the C locale; its exit code and what it said. Raises TimeoutError, and leaves it alone then.

    ``subprocess.run`` would wait for it without end: the kernel may keep it, whatever signal it gets. An interrupt
    waits for it too, so that nothing comes to pass after it was undone.
    """
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors="replace", env={"PATH": os.defpath, "LC_ALL": "C", **more},
        start_new_session=True,
    )  # fmt: skip
    try:
        out, told = child.communicate(given, timeout=within)
    except subprocess.TimeoutExpired as e:
        _abandon(child)
        raise TimeoutError from e
    except BaseException:
        try:
            child.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            _abandon(child)
        raise
    return child.returncode, out, told


def _abandon(child: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
    child.returncode = -1  # nobody waits for it


def load_module(name: str, *, loaded: bool) -> None:
    """Load a kernel module, or unload it with what nothing else needs (kmod, modprobe). Raises HostError."""
    program = _find("modprobe", "install kmod")
    what = f"{'load' if loaded else 'unload'} the module {name}"
    told = _Told("modprobe: ", HostError, late="dmesg says what the module waits for", failed="run clienthv as root")
    _output([program, *([] if loaded else ["--remove"]), name], "modprobe", what, told)


def _output(command: list[str], name: str, what: str, told: _Told) -> str:
    """What a program prints, in plain words of the C locale. Raises the error that ``told`` names."""
    try:
        code, out, told_by_it = _run(command, _SECONDS)
    except TimeoutError as e:
        msg = f"cannot {what}: {name} did not finish within {_SECONDS} seconds"
        raise told.error(msg, hint=told.late) from e
    if code != 0:
        words = told_by_it.strip().removeprefix(told.prefix) or f"{name} ended with {code}"
        msg = f"cannot {what}: {words.splitlines()[0]}"
        raise told.error(msg, hint=told.failed, detail=told_by_it)
    return out


def _limits(seconds: int = _SECONDS, *more: str) -> list[str]:
    """The words before a command that bound its memory and processor time (util-linux)."""
    return [_find("prlimit", "install util-linux"), f"--as={_ADDRESS_SPACE}", f"--cpu={seconds}", *more, "--"]


def _find(program: str, hint: str) -> str:
    found = shutil.which(program)
    if found is None:
        msg = f"{program} is not installed"
        raise HostError(msg, hint=hint)
    return found


NO_GUESTFS: Final = 64
"""The exit code of a program for libguestfs that says: the Python that runs it has none."""
_SYSTEM_PYTHON: Final = "/usr/bin/python3"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GUESTFS_FILE: Final = 8 << 30  # bytes of a file it may write: its overlay is small, the root of its VM 4 GiB
_WORDS: Final = 16 << 10


class Appliance(NamedTuple):
    """Where libguestfs works: a folder of its own, one for its small VM, which may be kept, and whether with KVM."""

    folder: Path
    kept: Path
    kvm: bool


class Looked(NamedTuple):
    """How a program for libguestfs ended: its exit code, the last line of what it printed, and its words on errors."""

    code: int
    document: bytes
    words: str


def guestfs(arguments: list[str], where: Appliance, within: float, most: int, heard: Callable[[str], None]) -> Looked:
    """Run a Python program that uses libguestfs: by this Python, or the system's where this one has no libguestfs.

    ``heard`` gets the lines before the last as they come; ``most`` is how many bytes it may print. At the end, at an
    interrupt and after ``within`` seconds, it and its virtual machine are killed. No bound is set on the address space:
    QEMU reserves more than it uses. Raises TimeoutError, HostError.
    """
    deadline = time.monotonic() + within
    private, settings = str(where.folder), {} if where.kvm else {"LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    kernel = {name: os.environ[name] for name in ("SUPERMIN_KERNEL", "SUPERMIN_MODULES") if name in os.environ}
    environment = {
        "PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": private, "TMPDIR": private, "XDG_RUNTIME_DIR": private,
        "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_CACHEDIR": str(where.kept), **settings, **kernel,
    }  # fmt: skip
    limits = [_find("prlimit", "install util-linux"), "--core=0", f"--fsize={_GUESTFS_FILE}", "--"]
    looked = Looked(NO_GUESTFS, b"", "")
    for python in dict.fromkeys((sys.executable, _SYSTEM_PYTHON)):
        if looked.code == NO_GUESTFS and Path(python).exists():
            child = subprocess.Popen(
                [*limits, python, "-I", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, env=environment, cwd=private, start_new_session=True,
            )  # fmt: skip
            looked = _heard_out(child, deadline, most, heard)
    return looked


def _heard_out(child: subprocess.Popen[bytes], deadline: float, most: int, heard: Callable[[str], None]) -> Looked:
    """Listen to a program until it ends; end its session, whatever comes. Raises TimeoutError, HostError."""
    out, words = bytearray(), bytearray()
    pipes = [(pipe, into) for pipe, into in ((child.stdout, out), (child.stderr, words)) if pipe is not None]
    try:
        with selectors.DefaultSelector() as ready:
            for pipe, into in pipes:
                ready.register(pipe, selectors.EVENT_READ, into)
            while ready.get_map():
                for key, _ in ready.select(_left(deadline)):
                    piece = os.read(key.fd, 1 << 16)
                    key.data.extend(piece)
                    if not piece:
                        ready.unregister(key.fileobj)
                del words[:-_WORDS]
                _pass_on(out, most, heard)
        while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            time.sleep(min(0.02, _left(deadline)))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # before it is reaped: until then the number is its own
        child.wait()
        for pipe, _ in pipes:
            pipe.close()
    return Looked(child.returncode, bytes(out).strip(), words.decode(errors="replace"))


def _left(deadline: float) -> float:
    """The seconds until then. Raises TimeoutError where there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _pass_on(out: bytearray, most: int, heard: Callable[[str], None]) -> None:
    """Hand on the whole lines before a document, which begins with a brace. Raises HostError when it is too long."""
    if len(out) > most:
        msg = "libguestfs's program says more than it should"
        raise HostError(msg, hint="is the image one that somebody made to do harm?")
    while out[:1] != b"{" and b"\n" in out:
        line, _, rest = out.partition(b"\n")
        out[:] = rest
        heard(line.decode(errors="replace"))


def fed_through_ssh(host: str, command: list[str], feed: Callable[[BinaryIO], object]) -> str:
    """Run a command on another PC through ssh, and feed it; what it printed. Raises HostError, and what ``feed`` does.

    ssh asks for passwords on the terminal itself, and what goes wrong there is shown as the command says it.
    """
    program = _find("ssh", "install openssh-client")
    remote = " ".join(shlex.quote(word) for word in command)
    child = subprocess.Popen(
        [program, "-o", "BatchMode=no", "--", host, remote], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    given, told = cast("BinaryIO", child.stdin), cast("BinaryIO", child.stdout)
    broken = False
    try:
        with suppress(BrokenPipeError), given:
            broken = True
            feed(given)
            broken = False
        out = told.read(_WORDS).decode(errors="replace")
    except BaseException:
        child.kill()
        raise
    finally:
        told.close()
        code = child.wait()
    if code != 0 or broken:
        msg = f"{command[0]} on {host} ended with {code}; what it said is above"
        raise HostError(msg, hint=f"is clienthv installed there, of this version? try: ssh {host} clienthv --version")
    return out


def become_console(uri: str, name: str) -> NoReturn:
    """Become virsh on a guest's serial console. Raises HostError where virsh or a terminal is missing."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        msg = "a serial console needs a terminal"
        raise HostError(msg, hint=f"run clienthv console {name} in a terminal, without a pipe")
    program = _find("virsh", "install libvirt-clients")
    os.execv(program, [program, "--connect", uri, "console", name])  # noqa: S606 - no shell is wanted


def become_viewer(uri: str, name: str) -> NoReturn:
    """Become virt-viewer on a guest's screen. Raises HostError where it or a screen to show it on is missing."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        msg = "there is no graphical session here to show a window in"
        raise HostError(msg, hint=f"clienthv screenshot {name} -o FILE takes a picture instead")
    program = _find("virt-viewer", "install virt-viewer")
    os.execv(program, [program, "--connect", uri, "--attach", "--", name])  # noqa: S606 - no shell is wanted
