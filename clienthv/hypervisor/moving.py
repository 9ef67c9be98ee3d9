"""Moving a running guest from one libvirt to another, with progress; an interrupt leaves it where it was.

Source: libvirt documentation, "Guest migration"; virDomainMigrate3, virDomainGetJobStats, virDomainAbortJob.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from clienthv.errors import ClienthvError
from clienthv.hypervisor.binding import libvirt, translate
from clienthv.hypervisor.connection import Connection
from clienthv.hypervisor.domain import Domain

_LOOK_EVERY: Final = 0.5  # seconds
Progress = Callable[[int, int], None]
"""Told how many bytes are still to be sent, and how many there are in all; both grow while the guest writes."""


class Way(NamedTuple):
    """How a guest moves.

    ``definition`` and ``kept`` are what it is there while it runs and from its next start on; ``address`` is where its
    memory is sent ("unix:///PATH", "tcp://NAME"), None for what libvirt finds itself. ``same_files`` is whether both
    see the very same disk, which libvirt cannot tell of a file system of one PC.
    """

    definition: str
    kept: str
    address: str | None = None
    same_files: bool = False


def move(domain: Domain, destination: Connection, way: Way, progress: Progress) -> Domain:
    """Move a running guest. It is gone here then, and defined there. Raises HypervisorError and its kin.

    libvirt moves it in a thread of its own: in the main one an interrupt would be heard only at the end. An interrupt,
    or a failure to tell how far it is, takes the move back, waits for that, and is raised again. It is taken back again
    and again: before the first byte there is no job to abort.
    """
    done, result = threading.Event(), list[Any]()
    thread = threading.Thread(target=_move, args=(domain, destination, way, done, result), daemon=True)
    thread.start()
    disturbed: BaseException | None = None
    while not done.is_set():
        try:
            if disturbed is not None:
                with contextlib.suppress(libvirt().libvirtError):
                    domain.handle.abortJob()
            done.wait(_LOOK_EVERY)
            if not done.is_set() and disturbed is None:
                _look(domain, progress)
        except BaseException as e:  # noqa: BLE001 - raised below, when nothing is under way any more
            disturbed = disturbed or e
    moved = result[0]
    if isinstance(moved, Domain):
        return moved  # an interrupt that came too late took nothing back
    if disturbed is not None:
        raise disturbed
    raise moved


def _move(domain: Domain, destination: Connection, way: Way, done: threading.Event, result: list[Any]) -> None:
    virt = libvirt()
    flags = virt.VIR_MIGRATE_LIVE | virt.VIR_MIGRATE_PERSIST_DEST | virt.VIR_MIGRATE_UNDEFINE_SOURCE
    flags |= virt.VIR_MIGRATE_ABORT_ON_ERROR | virt.VIR_MIGRATE_AUTO_CONVERGE
    flags |= virt.VIR_MIGRATE_UNSAFE if way.same_files else 0
    parameters = {
        virt.VIR_MIGRATE_PARAM_DEST_XML: way.definition,
        virt.VIR_MIGRATE_PARAM_PERSIST_XML: way.kept,
    }
    if way.address is not None:
        parameters[virt.VIR_MIGRATE_PARAM_URI] = way.address
    try:
        result.append(Domain(domain.handle.migrate3(destination.handle, parameters, flags)))
    except virt.libvirtError as e:
        result.append(translate(e, f"move VM {domain.name} to {destination.uri}"))
    except BaseException as e:  # noqa: BLE001 - the main thread raises it
        result.append(e)
    finally:
        done.set()


def _look(domain: Domain, progress: Progress) -> None:
    """Tell how far it is; what cannot be asked any more is over."""
    with contextlib.suppress(libvirt().libvirtError, ClienthvError):
        told = domain.handle.jobStats()
        total = int(told.get("data_total", 0))
        if total:
            progress(int(told.get("data_remaining", 0)), total)
