"""Giving the host back what it was: what a VM needed, undone when no running VM needs it any more."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from clienthv import hostchanges, inspect, journal, places, process
from clienthv.errors import ClienthvError, HostError
from clienthv.hostchanges import BlockedError, Fate, Outcome
from clienthv.hypervisor import Connection, Domain, DomainState
from clienthv.journal import Entry, Journal, NotWrittenError, Owner, Where
from clienthv.lifecycle import live, making
from clienthv.model.change import HANDING_OVER, OF_A_START, Setting, What


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
    """The journal of this user, of this host and of this boot."""
    path = places.host_changes(inspect.read_machine_id(root))
    return Where(path, inspect.read_boot_id(root), places.host_lock())


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
    change, what = entry.change, hostchanges.name_of(entry.change.setting)
    match change.setting.what:
        case What.DOMAIN:
            return f"{what} is {'changed' if change.before else 'new'}"
        case What.IMAGE:
            return f"{what} is new"
        case What.DRIVER | What.DRIVER_OVERRIDE:
            return f"{what} was {change.before}"
        case _:
            return f"{what} is {change.after} (was {change.before})"


def was_cut_short(site: Site) -> bool:
    """Whether a VM's start neither came to an end nor is under way; not, as far as a damaged journal tells."""
    try:
        return site.owner in journal.cut_short(where(site.root))
    except ClienthvError:
        return False


def settle(site: Site, say: live.Say) -> list[str]:
    """Undo what a VM that does not run has left changed; of one that runs, bring a start that was cut short to an end.

    What was done, in sentences. A VM that left nothing is not worth waiting for another process that has the journal.
    A signal that comes meanwhile is heard afterwards. Raises HostError, DocumentError.
    """
    here = where(site.root)
    mine = [e for e in journal.read(here) if site.owner in e.owners]
    if not mine or (_runs(site.connection, site.name) and all(e.by != site.owner for e in mine)):
        return []
    with journal.held(here, f"giving back what VM {site.name} had", say) as held, process.undisturbed():
        return finish_or_undo(site, held)


class Concerned(NamedTuple):
    """Which changes are to be undone: on which devices, and of which virtual functions (card and number)."""

    devices: Collection[str]
    functions: Collection[tuple[str, int]] = ()

    def holds(self, setting: Setting) -> bool:
        """Whether a setting is one of them."""
        return setting.device in self.devices or (setting.device, setting.index) in self.functions


def take_back(site: Site, held: Journal, *, begun: bool = False, only: Concerned | None = None) -> list[str]:
    """Undo a VM's changes, the last one first, and say what was done. Raises HostError.

    ``begun`` is to undo what was made for something that has not come to an end alone, ``only`` what concerns these.
    What a running VM needs too stays, for that VM to be undone after. A change in the way of which something stands
    stays with this VM, and so does what was changed on the same card before it. What cannot be set back, or be struck
    out of the journal, is told when all else has been tried.
    """
    said: list[str] = []
    stuck: set[str] = set()
    taken_over: set[str] = set()
    failures: list[ClienthvError] = []
    for entry in reversed(held.of(site.owner)):
        setting = entry.change.setting
        if (begun and entry.by != site.owner) or (only is not None and not only.holds(setting)):
            continue
        if setting.device in stuck:
            continue
        try:
            fate, sentence = _take_back(site, entry, held, taken_over)
        except BlockedError as e:
            fate, sentence = Fate.STILL_NEEDED, e.message
        except NotWrittenError as e:
            failures.append(e)  # it is undone, and looked at again
            continue
        except (ClienthvError, OSError) as e:
            failures.append(_told(setting, e))
            stuck.add(setting.device)
            continue
        said.extend([sentence] if sentence else [])
        if fate is Fate.STILL_NEEDED:
            said.append("clienthv recover undoes it and what came before it, once that has ended")
            stuck.add(setting.device)
    if failures:
        first = failures[0]
        words = dict.fromkeys([*said, *(e.message for e in failures)])
        raise type(first)("; ".join(words), hint=first.hint, detail=first.detail)
    return said


def _told(setting: Setting, failure: ClienthvError | OSError) -> ClienthvError:
    """A failure to undo a change, as an error of ours."""
    if isinstance(failure, ClienthvError):
        return failure
    msg = f"{hostchanges.name_of(setting)} cannot be set back: {failure.strerror or failure}"
    return HostError(msg, hint="clienthv recover tries again; dmesg may say more")


def _take_back(site: Site, entry: Entry, held: Journal, taken_over: set[str]) -> Outcome:
    """Undo one change, or leave it to others, and strike it out. Raises HostError and its kin."""
    setting = entry.change.setting
    if others := running_owners(site, entry):
        held.release_to(setting, others)
        names = ", ".join(o.vm for o in others)
        return Outcome(Fate.NOTHING_TO_UNDO, f"{words(entry)} for VM {names}, and stays")
    if setting.device in taken_over and setting.what is What.LINK_UP:
        held.forget(setting)
        return Outcome(Fate.NOTHING_TO_UNDO, "")
    outcome = _undo(site, entry)
    if outcome.fate is Fate.STILL_NEEDED:
        return outcome
    if outcome.fate is Fate.CHANGED_BY_OTHERS and setting.what is What.CREATE_VFS:
        taken_over.add(setting.device)  # their functions need the link
    if outcome.fate is Fate.UNDONE and setting.what is What.HUGEPAGES:
        held.lower(entry.change)
    held.forget(setting)
    return outcome


def give_back(site: Site, held: Journal, functions: Collection[tuple[str, str | None, int | None]]) -> list[str]:
    """Undo what was changed for functions that a running VM has no more, and on their card when it has none of it left.

    ``functions`` are each an address, and the card and number of a virtual one. What was done, in sentences. Raises
    HostError.
    """
    has = set(site.connection.domain(site.name).claims().functions)
    kept = {inspect.physfn_of(f, site.root) for f in has}
    gone = {f for f, _, _ in functions} | {card for _, card, _ in functions if card is not None and card not in kept}
    pairs = {(card, index) for _, card, index in functions if card is not None and index is not None}
    return take_back(site, held, only=Concerned(gone - has, pairs))


def _undo(site: Site, entry: Entry) -> Outcome:
    setting = entry.change.setting
    if setting.what is What.IMAGE and _runs(site.connection, site.name):
        return Outcome(Fate.STILL_NEEDED, f"{hostchanges.name_of(setting)} stays: VM {site.name} runs")
    if setting.what in HANDING_OVER and (vms := _running_with(setting.device, site)):
        return Outcome(Fate.STILL_NEEDED, f"{setting.device} stays as it is: VM {', '.join(vms)} has it")
    match entry.change.setting.what:
        case What.DOMAIN:
            return making.undefine(site.connection, entry.change)
        case What.IMAGE:
            return making.remove_disk(entry.change)
        case _:
            return hostchanges.take_back(entry.change, site.root)


def _running_with(function: str, site: Site) -> list[str]:
    """The VMs that run, or are being started, with a PCI function: they may not have opened it yet."""
    return [vm.name for vm in site.connection.claims() if vm.running and function in vm.functions]


def settle_before(site: Site, held: Journal, say: live.Say) -> None:
    """Settle what an earlier start has left, and tell what cannot be: that is no reason not to start now."""
    try:
        for sentence in finish_or_undo(site, held):
            say(sentence)
    except ClienthvError as e:
        say(f"{e.message}; going on")


def finish_or_undo(site: Site, held: Journal) -> list[str]:
    """Bring a start that was cut short to an end, in sentences: finish it where the guest runs, undo it elsewhere.

    A guest that has run may have written what nobody wants to lose, so it is not stopped. Raises HostError and its kin.
    """
    begun = [e for e in held.of(site.owner) if e.by == site.owner]
    domain = site.connection.find(site.name)
    active = domain is not None and domain.is_active()
    if not begun:
        return [] if active else take_back(site, held)
    if domain is not None and active:
        if not any(e.change.setting.what in OF_A_START for e in begun):
            return _undo_attach(site, held, begun, set(domain.claims().functions))
        if domain.has_run():
            held.started(site.owner)
            return [f"VM {site.name} runs: its start, which was cut short, counts as finished"]
        domain.destroy()
    elif domain is not None and _ran(site, domain, begun):
        held.started(site.owner)  # its definition stays, and its firmware's and TPM's state
    if any(_written_to(entry) for entry in begun):
        held.started(site.owner)  # the guest ran and ended: its image and definition stay
    return take_back(site, held)


def _undo_attach(site: Site, held: Journal, begun: list[Entry], has: set[str]) -> list[str]:
    """Undo what was made for a device that the running guest has not got. Raises HostError and its kin."""
    cards = {inspect.physfn_of(f, site.root) for f in has}
    lost = {e.change.setting.device for e in begun} - has - cards
    said = take_back(site, held, begun=True, only=Concerned(lost))
    held.started(site.owner)
    return said


def _ran(site: Site, domain: Domain, begun: list[Entry]) -> bool:
    """Whether a guest that does not run may have, since its start was written down: it ended, or QEMU has logged."""
    defined = next((e for e in begun if e.change.setting.what is What.DOMAIN), None)
    if defined is None:
        return False
    state, why = domain.state()
    if state in (DomainState.SHUTOFF, DomainState.CRASHED) and why and not defined.change.before:
        return True  # of a VM that was there, libvirt tells how it ended last, whenever that was
    logged = site.connection.log_time(site.name)
    return logged is not None and logged >= defined.at


def _written_to(entry: Entry) -> bool:
    """Whether an image that was made for a start has been written to since."""
    return entry.change.setting.what is What.IMAGE and making.is_written_to(entry.change)


def running_owners(site: Site, entry: Entry) -> list[Owner]:
    """The other VMs that need a change and run. Those of other connections cannot be asked, and count as running."""
    if entry.change.setting.what in OF_A_START:
        return []
    return [
        o for o in entry.owners if o != site.owner and (o.uri != site.connection.uri or _runs(site.connection, o.vm))
    ]


def _runs(connection: Connection, name: str) -> bool:
    domain = connection.find(name)
    return domain is not None and domain.is_active()


def withdraw_trust(site: Site, held: Journal) -> None:
    """Undo the trust that VMs left behind which do not run: the function's next guest is not to inherit it."""
    for entry in reversed(held.entries):
        mine = site.owner in entry.owners and _runs(site.connection, site.name)
        if entry.change.setting.what is not What.VF_TRUST or mine or running_owners(site, entry):
            continue
        if hostchanges.take_back(entry.change, site.root).fate is not Fate.STILL_NEEDED:
            held.forget(entry.change.setting)
