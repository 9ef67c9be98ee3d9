"""Where the picture of a running VM can be seen, and what opens it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clienthv import process
from clienthv.errors import ClienthvError
from clienthv.hypervisor import Choice, Connection, screens
from clienthv.lifecycle import looking, remembered
from clienthv.model.plan import HOST_DEVICES, Kind, Strategy
from clienthv.model.view import Elsewhere, Screen, Where

_BY_A_VIEWER: Final = ("spice", "vnc")


def where(connection: Connection, name: str) -> Where:
    """Where a running VM's picture is. Raises GuestError for one that is not there or does not run."""
    domain = connection.domain(name)
    looking.must_run(domain)
    xml = domain.xml()
    shown = screens.screens_of(xml)
    command, no_window = _opener(shown, connection.choice, domain.uuid)
    return Where(
        vm=name,
        uri=connection.uri,
        ssh=connection.choice.destination or None,
        screens=shown,
        addresses=tuple(screen.address for screen in shown),
        elsewhere=(
            *_monitors(xml, name),
            *(Elsewhere(by="looking-glass", what=file) for file in screens.looking_glass_of(xml)),
        ),
        command=command,
        no_window=no_window,
    )


def _monitors(xml: str, name: str) -> Iterator[Elsewhere]:
    """The GPUs of the host that a VM of ours has; of another's nobody knows which of its devices is one."""
    try:
        known = remembered.read(xml, name)
    except ClienthvError:
        return
    planned = known.plan.decisions if known is not None and known.plan is not None else ()
    for decision in (*planned, *remembered.attached(xml)):
        if decision.kind is Kind.GPU and decision.strategy in (*HOST_DEVICES, Strategy.MDEV):
            what = " ".join(filter(None, (decision.device, decision.backing)))
            yield Elsewhere(by="gpu" if decision.strategy is Strategy.PASSTHROUGH else "gpu-part", what=what)


def _opener(shown: tuple[Screen, ...], choice: Choice, uuid: str) -> tuple[tuple[str, ...] | None, str | None]:
    """The command that opens the first screen here, or why there is none.

    The embedded driver serves one process at a time: a viewer that opened it would keep all others out. There the
    screen is opened by its address, past libvirt.
    """
    first = next((screen for screen in shown if screen.type in _BY_A_VIEWER), None)
    if first is None:
        return None, "QEMU shows no screen of this VM" if not shown else "its screen is a window of its own"
    if choice.embedded_root is None:
        return process.window_by_libvirt(choice.uri, uuid, local=choice.other_pc is None)
    if first.address is None:
        return process.window_by_libvirt(choice.uri, uuid, local=True)
    return process.window_by_address(first)
