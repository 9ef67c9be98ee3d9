"""``clienthv doctor``."""

from __future__ import annotations

import difflib
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from clienthv import api, doctor, hostfiles, places
from clienthv.cli import completing
from clienthv.cli.common import host_option, note, show, the_host
from clienthv.cli.text import visible
from clienthv.errors import HostError, UsageError
from clienthv.model import advice
from clienthv.model.advice import Advice, After
from clienthv.model.host import Host

NAMED_ALONE = frozenset({"libvirt-group"})
"""What gives an account as much as root's rights: --yes means it only where --only names it."""

_DUE = {
    After.NOTHING: "",
    After.LOGIN: "; log out and in again: it shows only then",
    After.REBOOT: "; restart the PC: it shows only then",
}


@click.command("doctor", epilog="Example: clienthv doctor windows-gaming")
@click.argument("profile", nargs=-1, metavar="[PROFILE]...", shell_complete=completing.profile)
@host_option
@click.option("--json", "as_json", is_flag=True, help="Print the doctor document.")
@click.option("--fix", is_flag=True, help="Make the changes that can be made: each is shown, and asked for.")
@click.option("--only", metavar="CODE", multiple=True, help="With --fix: make this change alone; may be given again.")
@click.option("--undo", is_flag=True, help="Take back all that --fix has changed.")
@click.option("--yes", is_flag=True, help="With --fix or --undo: do not ask.")
@click.pass_obj
def doctor_command(
    connect: str | None, profile: tuple[str, ...], host_file: str | None, as_json: bool, fix: bool,
    only: tuple[str, ...], undo: bool, yes: bool,
) -> None:  # fmt: skip
    """Show what this PC can do, what holds it back, and the smallest change for each.

    Without PROFILE, every profile that clienthv profiles lists is planned for. What a change would unlock is found by
    planning for the PC as it would be then. --fix writes down what was before it changes anything, and leaves alone
    what it does not recognise.
    """
    _check(host_file, as_json, fix=fix, only=only, undo=undo, yes=yes)
    if undo:
        _undo(yes=yes)
        return
    host = the_host(host_file, connect)
    diagnosis = api.doctor(host, profile)
    if fix:
        _fix(host, diagnosis.advice, only, yes=yes)
    elif as_json:
        click.echo(advice.encode(diagnosis), nl=False)
    else:
        from clienthv.report import doctor as report

        show(report.lines(diagnosis))


def _check(host_file: str | None, as_json: bool, *, fix: bool, only: tuple[str, ...], undo: bool, yes: bool) -> None:
    if fix and undo:
        msg = "give either --fix or --undo, not both"
        raise UsageError(msg, hint="--undo takes back what --fix has changed")
    if (fix or undo) and (host_file is not None or as_json):
        msg = "--fix and --undo change this PC, and go with neither --host nor --json"
        raise UsageError(msg, hint="run clienthv doctor --fix on the PC that is meant")
    if yes and not (fix or undo):
        msg = "--yes answers for --fix or --undo, and neither was given"
        raise UsageError(msg, hint="clienthv doctor --fix --yes")
    if only and not fix:
        msg = "--only names changes for --fix, which was not given"
        raise UsageError(msg, hint=f"clienthv doctor --fix --only {only[0]}")
    if unknown := [code for code in only if code not in doctor.CODES]:
        near = difflib.get_close_matches(unknown[0], doctor.CODES, n=1)
        msg = f"{unknown[0]!r} is no code of advice"
        raise UsageError(msg, hint=f"did you mean {near[0]}?" if near else "clienthv doctor shows them in brackets")


def _fix(host: Host, found: Iterable[Advice], only: tuple[str, ...], *, yes: bool) -> None:
    wanted = [one for one in found if not only or one.code in only]
    fixable = [one for one in wanted if one.fixable]
    if not fixable:
        for one in wanted if only else ():
            show((f"{one.title} [{one.code}]", *(f"  by hand: {step}" for step in one.steps)))
        note("nothing to fix: no advice for this PC is one that clienthv carries out; clienthv doctor shows them all")
        return
    if not (places.is_root() and _may_ask(yes)):
        for one in fixable:
            _show(one, hostfiles.of(one.code, host))
        _only_shown("--fix")
        return
    with hostfiles.held(places.host_files()) as record:
        failed = [
            problem
            for one in fixable
            if (problem := _make(one, host, record, yes=yes and (one.code in only or one.code not in NAMED_ALONE)))
        ]
    if failed:
        msg = f"not everything was made: {'; '.join(failed)}"
        raise HostError(msg, hint="clienthv doctor says how to make it by hand; --undo takes back what is left of it")


def _make(one: Advice, host: Host, record: hostfiles.Record, *, yes: bool) -> str | None:
    """Show one change, ask, and make it; what went wrong, if anything did."""
    fix = hostfiles.of(one.code, host)
    _show(one, fix)
    if fix.problem is not None:
        return None
    if not yes and not sys.stdin.isatty() and one.code in NAMED_ALONE:
        note(f"left out: --yes does not answer for this one; name it: --only {one.code}")
        return None
    if not (yes or click.confirm("Make this change?", err=True)):
        return None
    try:
        hostfiles.make(fix, record, _say)
    except HostError as e:
        note(f"failed: {visible(e.message)}")
        return e.message
    note(f"done: {one.code}{_DUE[one.after]}; clienthv doctor --undo takes it back")
    return None


def _show(one: Advice, fix: hostfiles.Fix) -> None:
    show((f"{one.title} [{one.code}]",))
    if fix.problem is not None:
        show((f"  left alone: {fix.problem}", *(f"  by hand: {step}" for step in one.steps)))
    else:
        show(fix.lines)


def _undo(*, yes: bool) -> None:
    path = places.host_files()
    entries = hostfiles.read(path)
    if not entries:
        note(f"nothing to undo: {path} has no change that clienthv made")
        return
    show(hostfiles.shown(entries))
    if not (places.is_root() and _may_ask(yes)):
        _only_shown("--undo")
        return
    if not (yes or click.confirm("Take these changes back?", err=True)):
        return
    with hostfiles.held(path) as record:
        if record.entries != entries:
            msg = "what clienthv has changed is not what was shown: another clienthv doctor ran meanwhile"
            raise HostError(msg, hint="run clienthv doctor --undo again")
        problems = hostfiles.undo(record.entries, record, _say)
    if problems:
        msg = f"not everything was taken back: {'; '.join(problems)}"
        raise HostError(msg, hint=f"the rest stays in {path}; mend it and run clienthv doctor --undo again")
    note("everything is as it was before; what was set for the kernel's start needs a restart to be gone")


def _say(line: str) -> None:
    note(visible(line))


def _may_ask(yes: bool) -> bool:
    return yes or sys.stdin.isatty()


def _only_shown(option: str) -> None:
    """Say that nothing was changed, and what does it. Raises HostError for who is not root."""
    if places.is_root():
        note(f"nothing was changed: nobody is there to be asked; add --yes to {option}")
        return
    program = shutil.which(sys.argv[0]) or shutil.which("clienthv")
    words = [str(Path(program).absolute())] if program else [sys.executable, "-m", "clienthv"]
    command = shlex.join(["sudo", *words, *sys.argv[1:]])
    msg = "nothing was changed: this takes root's rights"
    raise HostError(msg, hint=command)
