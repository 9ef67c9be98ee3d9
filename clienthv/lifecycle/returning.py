"""Giving the host back what it was: the changes that a VM needed, undone when no running VM needs them any more."""

from __future__ import annotations

from typing import NamedTuple

from clienthv import hostchanges, inspect, journal, places
from clienthv.hostchanges import Fate
from clienthv.hypervisor import Connection
from clienthv.journal import Entry, Journal, Owner, Where
from clienthv.lifecycle import live
from clienthv.model.change import What


class Site(NamedTuple):
    """The VM that changes are made for, its connection, and the root below which /sys and /proc lie."""

    connection: Connection
    name: str
    root: str = "/"

    @property
    def owner(self) -> Owner:
        """The VM as the journal names it."""
        return Owner(self.name, self.connection.uri)


def where(root: str = "/") -> Where:
    """The journal of this user and of this boot."""
    return Where(places.host_changes(), inspect.read_boot_id(root))


def left_behind(connection: Connection, root: str = "/") -> dict[str, tuple[str, ...]]:
    """The changes that each VM of the connection holds, in words, by its name. Raises DocumentError."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in journal.read(where(root)):
        for owner in entry.owners:
            if owner.uri == connection.uri:
                found[owner.vm] = (*found.get(owner.vm, ()), words(entry))
    return found


def words(entry: Entry) -> str:
    """A change in words."""
    change = entry.change
    return f"{hostchanges.name_of(change.setting)} is {change.after} (was {change.before})"


def after_stop(site: Site, say: live.Say) -> list[str]:
    """Undo what a VM that does not run has left changed. What was done, in sentences. Raises HostError, DocumentError.

    A VM that left nothing is not worth waiting for another process that has the journal.
    """
    here = where(site.root)
    if not any(site.owner in entry.owners for entry in journal.read(here)):
        return []
    with journal.held(here, say) as held:
        return take_back(site, held)


def take_back(site: Site, held: Journal) -> list[str]:
    """Undo a VM's changes, the last one first, and say what was done. Raises HostError.

    What a running VM needs too stays, for that VM to be undone after. A change in the way of which something stands
    stays with this VM, and so does what was changed on the same card before it.
    """
    said: list[str] = []
    stuck: set[str] = set()
    taken_over: set[str] = set()
    for entry in reversed(held.of(site.owner)):
        setting = entry.change.setting
        others = running_owners(site, entry)
        if others:
            said.append(f"{words(entry)} for VM {', '.join(o.vm for o in others)}, and stays")
            held.release_to(setting, others)
            continue
        if setting.device in stuck:
            continue
        if setting.device in taken_over and setting.what is What.LINK_UP:
            held.forget(setting)
            continue
        fate, sentence = hostchanges.take_back(entry.change, site.root)
        said.extend([sentence] if sentence else [])
        if fate is Fate.STILL_NEEDED:
            said.append(f"clienthv down {site.name} undoes it and what came before it, once that has ended")
            stuck.add(setting.device)
            continue
        if fate is Fate.CHANGED_BY_OTHERS and setting.what is What.CREATE_VFS:
            taken_over.add(setting.device)  # their functions need the link
        held.forget(setting)
    return said


def running_owners(site: Site, entry: Entry) -> list[Owner]:
    """The other VMs that need a change and run. Those of other connections cannot be asked, and count as running."""
    return [
        o for o in entry.owners if o != site.owner and (o.uri != site.connection.uri or _runs(site.connection, o.vm))
    ]


def _runs(connection: Connection, name: str) -> bool:
    domain = connection.find(name)
    return domain is not None and domain.is_active()


def withdraw_trust(site: Site, held: Journal) -> None:
    """Undo the trust that VMs left behind which do not run: the function's next guest is not to inherit it."""
    for entry in reversed(held.entries):
        if entry.change.setting.what is not What.VF_TRUST:
            continue
        if site.owner in entry.owners or not running_owners(site, entry):
            hostchanges.take_back(entry.change, site.root)
            held.forget(entry.change.setting)
