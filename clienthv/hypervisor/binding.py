"""libvirt's Python binding, loaded when needed, and its errors in our words."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from clienthv.errors import ClienthvError, DiskError, GuestError, HostError, HypervisorError, TemplateError

# Numbers of virErrorNumber (libvirt, include/libvirt/virterror.h); stable by libvirt's ABI promise.
_NO_SUPPORT: Final = 3
_NO_CONNECT: Final = 5
_CONFIG_UNSUPPORTED: Final = 67
_SYSTEM_ERROR: Final = 38
_NO_DOMAIN: Final = 42
_AUTH: Final = frozenset({45, 79, 88})
_INVALID_SCHEMA: Final = 92
_OPERATION_INVALID: Final = 55


@cache
def libvirt() -> Any:
    """The libvirt module, quiet: its errors come as exceptions alone. Raises HostError where it is missing."""
    # The embedded driver would log to our stderr what we get as exceptions anyway.
    os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", f"4:file:{os.devnull}")
    try:
        import libvirt as binding
    except ImportError as e:
        msg = "libvirt's Python binding is not installed"
        raise HostError(msg, hint="install python3-libvirt (make setup), or pip install 'clienthv[libvirt]'") from e
    # Errors come as exceptions; the handler only keeps libvirt from printing them. It is no Python function: in one,
    # a signal would be handled where no exception can leave, and the interrupt would be printed and lost.
    binding.registerErrorHandler(operator.is_, None)
    return binding


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn libvirt's exceptions into ours. ``what`` says what was being done: "start VM demo"."""
    virt = libvirt()
    try:
        yield
    except virt.libvirtError as e:
        raise translate(e, what) from e


def translate(error: Any, what: str) -> ClienthvError:
    """One libvirt error in our words: by its code, then by what its message is known to say."""
    code, text = error.get_error_code(), str(error.get_error_message() or error)
    msg = f"cannot {what}: {_first_line(text)}"
    if code == _NO_DOMAIN:
        return GuestError(msg, hint="clienthv list shows the VMs that there are", detail=text)
    if code in _AUTH:
        return HostError(msg, hint="add yourself to the group libvirt, or use qemu:///session", detail=text)
    if code == _INVALID_SCHEMA:
        return TemplateError(msg, hint="look at the templates that were changed", detail=text)
    for pattern, family, hint in _KNOWN:
        if pattern in text:
            return family(msg, hint=hint, detail=text)
    if code in {_NO_CONNECT, _SYSTEM_ERROR, _NO_SUPPORT}:
        return HostError(msg, hint="is libvirt installed, and may you use this connection?", detail=text)
    if code == _OPERATION_INVALID:
        return GuestError(msg, hint="clienthv status NAME shows what state the VM is in", detail=text)
    return HypervisorError(msg, hint="clienthv plan --explain shows the choices", detail=text)


_UNREACHABLE: Final = "the account QEMU runs as cannot reach the file; move it, or open the folder"

# What QEMU and libvirt say, for the cases a user can do something about.
_KNOWN: Final[tuple[tuple[str, type[ClienthvError], str], ...]] = (
    ('Failed to get "write" lock', DiskError, "another program or VM has the image open; stop that first"),
    ('Failed to get shared "write" lock', DiskError, "another program or VM has the image open; stop that first"),
    (
        "Cannot access storage file",
        DiskError,
        _UNREACHABLE,
    ),
    ("Permission denied", HostError, _UNREACHABLE),
    ("Cannot allocate memory", HostError, "close programs, or lower size.memory in the profile"),
    ("Unable to find 'efi' firmware", HostError, "install ovmf (edk2-ovmf)"),
    ("swtpm", HostError, 'swtpm\'s log is in /var/log/swtpm; or leave the TPM out: [devices.tpm] prefer = ["omit"]'),
    ("Did not find USB device", HostError, "plug it in, or clienthv up NAME again: it plans for what is there"),
    ("Multiple USB devices for", HostError, 'name the port of the one that is meant: devices = ["IDS@PORT"]'),
    ("is in use by driver", HostError, "another VM has the device: stop it, or select another in the profile"),
    ("Failed to parse user", HostError, "install libvirt-daemon-system: it makes the account that QEMU runs as"),
    (
        "because the PF is not online",
        HostError,
        "the card's interface went down: ip link set dev INTERFACE up, and start the VM again",
    ),
    ("KVM is not available", HostError, "clienthv inspect shows the state of KVM and why"),
    ("failed to initialize kvm", HostError, "clienthv inspect shows the state of KVM and why"),
)


def _first_line(text: str) -> str:
    """The part of a message that says what happened: QEMU's own words come wrapped by libvirt in a line of theirs."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if len(lines) > 1 and "QEMU unexpectedly closed the monitor" in lines[0] else " ".join(lines)
