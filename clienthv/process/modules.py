"""modprobe: kernel modules."""

from __future__ import annotations

from clienthv.errors import HostError
from clienthv.process.running import Told, find, output


def load_module(name: str, *, loaded: bool) -> None:
    """Load a kernel module, or unload it with what nothing else needs (kmod, modprobe). Raises HostError."""
    program = find("modprobe", "install kmod")
    what = f"{'load' if loaded else 'unload'} the module {name}"
    told = Told("modprobe: ", HostError, late="dmesg says what the module waits for", failed="run clienthv as root")
    output([program, *([] if loaded else ["--remove"]), name], "modprobe", what, told, writes_to=name)
