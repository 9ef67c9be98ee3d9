"""The only module that starts processes: qemu-img, ip, nvme, modprobe, dd, and the viewers that take our place."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn

from clienthv.errors import DiskError, HostError

_SECONDS: Final = 30
_ADDRESS_SPACE: Final = 2 << 30  # bytes; qemu-img has had bugs with crafted images (CVE-2024-4467 and others)
_FORMATS: Final = ("qcow2", "raw")


class ImageInfo(NamedTuple):
    """A disk image as qemu-img sees it: its format and the size the guest sees, in bytes."""

    format: str
    virtual_size: int


def image_info(path: Path) -> ImageInfo:
    """Look at a disk image without trusting it.

    Refused are formats other than qcow2 and raw, and images that lead QEMU to other files (backing and data files):
    a stranger's image could name any file of this host. Raises DiskError, HostError.
    """
    text = _qemu_img(["info", "-U", "--output=json", "--", str(path)], f"read disk image {path}")
    try:
        info: dict[str, Any] = json.loads(text)
        image_format, size = str(info["format"]), int(info["virtual-size"])
    except (ValueError, KeyError, TypeError) as e:
        msg = f"qemu-img said nothing that can be understood about {path}"
        raise DiskError(msg, hint="is it a disk image?", detail=text) from e
    if image_format not in _FORMATS:
        msg = f"{path} is a {image_format} image; VMs are run from qcow2 or raw images"
        raise DiskError(msg, hint=f"qemu-img convert -O qcow2 {path} NEW.qcow2")
    others = info.get("backing-filename") or info.get("format-specific", {}).get("data", {}).get("data-file")
    if others:
        msg = f"{path} leads to another file: {others}"
        raise DiskError(msg, hint=f"make it one file: qemu-img convert -O qcow2 {path} NEW.qcow2, if you trust it")
    return ImageInfo(image_format, size)


def create_image(path: Path, mib: int) -> None:
    """Make an empty qcow2 image of ``mib`` MiB. Raises DiskError, HostError."""
    _qemu_img(["create", "-q", "-f", "qcow2", "--", str(path), f"{mib}M"], f"make disk image {path}")


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


def _abandon(child: subprocess.Popen[str]) -> None:
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


def _limits() -> list[str]:
    """The words before a command that bound its memory and processor time (util-linux)."""
    return [_find("prlimit", "install util-linux"), f"--as={_ADDRESS_SPACE}", f"--cpu={_SECONDS}", "--"]


def _find(program: str, hint: str) -> str:
    found = shutil.which(program)
    if found is None:
        msg = f"{program} is not installed"
        raise HostError(msg, hint=hint)
    return found


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
