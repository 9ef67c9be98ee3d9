"""libvirt's Python binding, loaded when needed, and its errors in our words."""

from __future__ import annotations

import logging
import operator
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from clienthv.errors import ClienthvError, GuestError, HostError, HypervisorError
from clienthv.model import faults

_log: Final = logging.getLogger(__name__)
# Numbers of virErrorNumber (libvirt, include/libvirt/virterror.h); stable by libvirt's ABI promise.
_NO_SUPPORT: Final = 3
_NO_CONNECT: Final = 5
_CONFIG_UNSUPPORTED: Final = 67
_SYSTEM_ERROR: Final = 38
_NO_DOMAIN: Final = 42
_AUTH: Final = frozenset({45, 79, 88})
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
    virt, began = libvirt(), time.monotonic()
    try:
        yield
    except virt.libvirtError as e:
        _log.info("libvirt: %s: refused, error %s: %s", what, e.get_error_code(), e.get_error_message())
        raise translate(e, what) from e
    _log.debug("libvirt: %s (%.2f s)", what, time.monotonic() - began)


def translate(error: Any, what: str) -> ClienthvError:
    """One libvirt error in our words: by its code, then by what its message is known to say."""
    code, text = error.get_error_code(), str(error.get_error_message() or error)
    msg = f"cannot {what}: {faults.said(text)}"
    if code == _NO_DOMAIN:
        return GuestError(msg, hint="clienthv list shows the VMs that there are", detail=text)
    if code in _AUTH:
        return HostError(msg, hint="add yourself to the group libvirt, or use qemu:///session", detail=text)
    if (known := faults.recognise(code, text)) is not None:
        return known.family(msg, hint=known.hint, detail=text, fault=known.fault)
    if code == _SYSTEM_ERROR and not what.startswith(("connect", "open")):
        return HostError(msg, hint="look at what it names; QEMU's log and libvirt's say more", detail=text)
    if code in {_NO_CONNECT, _SYSTEM_ERROR, _NO_SUPPORT}:
        return HostError(msg, hint="is libvirt installed, and may you use this connection?", detail=text)
    if code == _OPERATION_INVALID:
        return GuestError(msg, hint="clienthv status NAME shows what state the VM is in", detail=text)
    return HypervisorError(msg, hint="clienthv plan --explain shows the choices", detail=text)
