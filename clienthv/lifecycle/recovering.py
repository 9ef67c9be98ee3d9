"""``recover``: what was cut short is finished or undone, on every connection that the journal names."""

from __future__ import annotations

from clienthv import journal, places, process
from clienthv.errors import ClienthvError, HostError
from clienthv.hypervisor import Choice, Connection
from clienthv.lifecycle import importing, live, returning
from clienthv.lifecycle.returning import Site


def recover(say: live.Say, *, quiet: bool = False) -> list[str]:
    """What was done, in sentences. Raises DocumentError, and HostError that names what stays and why.

    ``quiet`` is neither to fail nor to tell of what is merely in use: whoever asks every minute hears of it when it has
    ended.
    """
    here = returning.where()
    done: list[str] = []
    stays: list[str] = []
    hint = "end what is in the way, then clienthv recover again; a restart of the PC ends all"
    for uri in dict.fromkeys(owner.uri for entry in journal.read(here) for owner in entry.owners):
        try:
            # The connection first, as every command has it: an embedded driver is one process's too.
            with Connection(Choice(uri, "named in the journal"), waiting=say) as connection:
                with journal.held(here, "clienthv recover", say) as held, process.undisturbed():
                    for name in sorted({o.vm for e in held.entries for o in e.owners if o.uri == uri}):
                        site, before = Site(connection, name), held.entries
                        try:
                            said = returning.finish_or_undo(site, held)
                        except ClienthvError as e:
                            stays.append(e.message)
                        else:
                            done += said if not quiet or held.entries != before else []
                if not quiet:
                    stays += [w for changes in _left_by_those_that_ended(connection) for w in changes]
        except ClienthvError as e:
            stays.append(e.message)
            hint = f"{e.hint}; then clienthv recover again" if e.hint else hint
    done += importing.remove_abandoned(places.images())
    if stays:
        msg = "\n  ".join([*done, "not everything is as it was:", *dict.fromkeys(stays)])
        raise HostError(msg, hint=hint)
    return done


def _left_by_those_that_ended(connection: Connection) -> list[tuple[str, ...]]:
    running = {vm.name for vm in connection.claims() if vm.running}
    return [changes for name, changes in returning.left_behind(connection).items() if name not in running]
