"""``migrate``: what the check allowed, done: a running guest by libvirt, one that is off as a bundle."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from lxml import etree

from clienthv import bundles, journal, process
from clienthv.bundles import Parts, Progress
from clienthv.errors import ClienthvError, GuestError, HostError, NotPortableError, UsageError
from clienthv.hypervisor import Choice, Connection, Domain, DomainState, moving
from clienthv.hypervisor.moving import Way
from clienthv.lifecycle import exporting, importing, live, remembered, returning
from clienthv.lifecycle.returning import Site
from clienthv.model.portability import Check, Severity, Verdict
from clienthv.portability import Target


def refuse_blocked(name: str, check: Check, *, running: bool) -> None:
    """Refuse what the check does not allow. Raises NotPortableError."""
    if check.verdict is Verdict.BLOCKED:
        grave = [f for f in check.findings if f.severity is Severity.BLOCKS]
        msg = f"VM {name} does not run on {check.target}: {grave[0].what}: {grave[0].why} [{grave[0].code}]"
        raise NotPortableError(msg, hint=grave[0].fix or "clienthv migrate-check shows all findings")
    if running and check.verdict is not Verdict.LIVE:
        grave = [f for f in check.findings if f.severity in (Severity.CHANGES, Severity.STOPS_LIVE)]
        msg = f"VM {name} runs, and cannot move while it does: {grave[0].what}: {grave[0].why} [{grave[0].code}]"
        raise NotPortableError(msg, hint=f"clienthv down {name}, then migrate it: it is copied then")


def live_move(
    connection: Connection, name: str, target: Target, say: live.Say, progress: moving.Progress
) -> tuple[str, ...]:
    """Move a running guest, and give back what it had of this host; what was done, in sentences.

    Raises HypervisorError and its kin.

    A start of it that was cut short is brought to an end first: afterwards nobody here could tell that it had run, and
    its image would be taken away from it.
    """
    choice = Choice(target.name, "given with --to")
    domain, site = connection.domain(name), Site(connection, name)
    with (
        Connection(choice, waiting=say, elsewhere=True) as destination,
        _address(choice, connection) as address,
        journal.held(returning.where(), f"clienthv migrate {name}", say) as held,
    ):
        _refuse_taken(destination, domain)
        returning.settle_before(site, held, say)
        nvram = remembered.parse(domain.xml()).findtext("os/nvram")
        try:
            there = moving.move(domain, destination, _way(domain, target, address), progress)
        except BaseException:
            say(_whereabouts(domain, name))
            raise
        does = "is paused, as it was here," if _state(there) is DomainState.PAUSED else "runs"
    said = [f"VM {name} {does} on {target.called}, and is gone from here"]
    if nvram is not None and not target.here and os.path.lexists(nvram):
        said.append(f"a copy of its UEFI variables stays here, in {nvram}")
    try:
        said += returning.settle(site, say)
    except ClienthvError as e:
        said.append(e.message)
    return tuple(said)


def _state(domain: Domain) -> DomainState | None:
    """What a guest does; None where nobody can tell any more."""
    try:
        return domain.state()[0]
    except ClienthvError:
        return None


def _whereabouts(domain: Domain, name: str) -> str:
    """Where a guest is whose move came to nothing, in a sentence."""
    state = _state(domain)
    if state is None:
        return f"where VM {name} is now nobody could tell: ask virsh domstate {name}, here and there"
    return f"VM {name} runs on here" if state is DomainState.RUNNING else f"VM {name} is still here: {state.value}"


def _refuse_taken(destination: Connection, domain: Domain) -> None:
    """Refuse to replace a definition there: libvirt would, where name and UUID are the same. Raises GuestError."""
    uuid = domain.uuid
    there = next((d for d in destination.domains() if d.name == domain.name or d.uuid == uuid), None)
    if there is not None:
        msg = f"there is a VM {there.name} on {destination.uri} already, and it is not overwritten"
        raise GuestError(msg, hint=f"virsh --connect {destination.uri} undefine {there.name}, once nobody needs it")


def _way(domain: Domain, target: Target, address: str | None) -> Way:
    """The definition there names the QEMU that is there: every distribution has it elsewhere."""
    emulator = target.capabilities.emulator if target.capabilities is not None else None
    return Way(
        definition=_with_emulator(domain.migratable_xml(), emulator),
        kept=_with_emulator(domain.migratable_xml(inactive=True), emulator),
        address=address,
        same_files=target.here,
    )


def _with_emulator(xml: str, emulator: str | None) -> str:
    root = remembered.parse(xml)
    named = root.find("devices/emulator")
    if named is not None and emulator is not None:
        named.text = emulator
    return str(etree.tostring(root, encoding="unicode"))


@contextmanager
def _address(choice: Choice, connection: Connection) -> Iterator[str | None]:
    """Where the guest's memory is sent: through a socket on one PC, else where libvirt finds the other.

    QEMU makes the socket, as an account of its own where libvirt is the system's: it may make files in the folder, and
    nobody may list, rename or remove those of others in there.
    """
    if choice.other_pc is not None and not choice.uri.startswith(("qemu+unix", "qemu+ext")):
        yield f"tcp://{choice.other_pc}"
        return
    with tempfile.TemporaryDirectory(prefix="chv-", ignore_cleanup_errors=True) as folder:
        if "/system" in (choice.path, connection.choice.path):
            Path(folder).chmod(0o1733)
        yield f"unix://{folder}/memory"


def cold_move(connection: Connection, name: str, uri: str, say: live.Say, progress: Progress) -> tuple[str, ...]:
    """Copy a VM that is off to another connection of this PC, or through ssh to another; what was done, in sentences.

    The VM here stays as it is: whoever moved it forgets it once it runs there. Raises every kind of ClienthvError.
    """
    choice = Choice(uri, "given with --to")
    if "socket=" in uri:
        msg = f"where the libvirt behind {uri} keeps firmware variables and TPM state is not known here"
        raise HostError(msg, hint=f"clienthv export {name} -o FILE, and clienthv import FILE as its user")
    if choice.other_pc is not None:
        said = _through_ssh(connection, name, choice, progress)
    else:
        said = _beside(connection, name, choice, say, progress)
    return (*said, f"VM {name} is still here too: clienthv down {name} --undefine forgets it")


def _beside(connection: Connection, name: str, choice: Choice, say: live.Say, progress: Progress) -> tuple[str, ...]:
    parts, left = exporting.gather(connection, name)
    with Connection(choice, waiting=say) as destination, _piped(parts) as stream:
        made = importing.take_in(destination, stream, importing.Request(), say, progress)
    return (
        *left,
        *made.changes,
        *made.kept,
        f"VM {made.name} is defined on {choice.uri}: clienthv up {made.name} starts it",
    )


@contextmanager
def _piped(parts: Parts) -> Iterator[BinaryIO]:
    """The bundle of these parts, made in a thread while it is read: nothing of it lies on a disk in between.

    What goes wrong while it is made is raised rather than that it was cut short by that.
    """
    failures: list[Exception] = []
    reading, writing = os.pipe()
    thread = threading.Thread(target=_write, args=(writing, parts, failures), daemon=True)
    thread.start()
    try:
        with os.fdopen(reading, "rb") as stream:
            yield stream
    except ClienthvError as e:
        thread.join()
        raise failures[0] if failures else e from None
    finally:
        thread.join()


def _write(handle: int, parts: Parts, failures: list[Exception]) -> None:
    try:
        with os.fdopen(handle, "wb") as output:
            bundles.write(output, parts)
    except BrokenPipeError:
        pass  # who reads it tells why it stopped
    except (ClienthvError, OSError) as e:
        failures.append(e)


def _through_ssh(connection: Connection, name: str, choice: Choice, progress: Progress) -> tuple[str, ...]:
    if not choice.uri.startswith("qemu+ssh://"):
        msg = f"{choice.uri} leads to another PC by a road that carries libvirt alone"
        raise HostError(msg, hint=f"use qemu+ssh://; or clienthv export {name} -o FILE, and clienthv import FILE there")
    parts, left = exporting.gather(connection, name)
    there = ["clienthv", "--connect", f"qemu://{choice.path}", "import", "-"]
    told = process.fed_through_ssh(_destination(choice), there, lambda out: bundles.write(out, parts, progress))
    return (*left, *told.splitlines())


def _destination(choice: Choice) -> str:
    """Where ssh is to go: libvirt's URI may name a port. Raises UsageError."""
    try:
        _ = urlsplit(choice.uri).port
    except ValueError as e:
        msg = f"{choice.uri} has no port that can be: {e}"
        raise UsageError(msg, hint="for example qemu+ssh://root@other:2222/system") from e
    return choice.destination


def must_not_sleep(domain: Domain) -> None:
    """Refuse a guest that is neither running nor off. Raises GuestError."""
    if domain.is_saved():
        msg = f"VM {domain.name} sleeps (managed save)"
        raise GuestError(msg, hint=f"virsh start {domain.name} wakes it; then migrate it, or shut it down first")
