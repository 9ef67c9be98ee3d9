"""qemu-img: making images, and looking at those of strangers."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from pathlib import Path
from typing import Final

from clienthv.errors import DiskError
from clienthv.model.refusals import Refusal, refuse
from clienthv.process.running import SECONDS, Told, abandon, ended, find, limits, output

_CHECK_SECONDS: Final = 60
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
        code, text, told = _qemu_img_bounded(words, SECONDS)
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
    program = find("qemu-img", "install qemu-utils (qemu-img on Fedora and Arch)")
    command, began = [*limits(seconds, "--fsize=0"), program, *arguments], time.monotonic()
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={"PATH": os.defpath, "LC_ALL": "C"}, start_new_session=True,
    )  # fmt: skip
    try:
        out, told = _read_both(child, time.monotonic() + 2 * seconds)
    except BaseException:
        abandon(child)
        raise
    ended(command, child.returncode, began)
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
    _qemu_img(["create", "-q", "-f", "qcow2", "--", str(path), f"{mib}M"], f"make disk image {path}", str(path))


def create_overlay(path: Path, below: Path, below_format: str) -> None:
    """Make a qcow2 image over another one, which stays as it is. Raises DiskError, HostError."""
    words = ["create", "-q", "-f", "qcow2", "-b", str(below), "-F", below_format, "--", str(path)]
    _qemu_img(words, "make an overlay over the disk image")


def _qemu_img(arguments: list[str], what: str, writes_to: str = "") -> str:
    program = find("qemu-img", "install qemu-utils (qemu-img on Fedora and Arch)")
    told = Told(
        "qemu-img: ",
        DiskError,
        late="is the file on a network share that is gone?",
        failed="check the path, the permissions and the free space",
    )
    return output([*limits(), program, *arguments], "qemu-img", what, told, writes_to)
