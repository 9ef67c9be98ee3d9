"""Changes made and undone: each is in the record first, and a fix that fails is taken back at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from clienthv import process
from clienthv.errors import HostError
from clienthv.hostfiles import files
from clienthv.hostfiles.files import LeftAloneError
from clienthv.hostfiles.fixes import Fix
from clienthv.hostfiles.record import Entry, FileStep, GroupStep, MenuStep, PackagesStep, Record, Step
from clienthv.inspect import members_of

_NAMES: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_~-]*[A-Za-z0-9+]")

Say = Callable[[str], None]
"""Tells the person something, one line at a time: also what programs print."""


def make(fix: Fix, record: Record, say: Say, root: str = "/") -> None:
    """Carry a fix out. Raises HostError, after taking back what of it was done."""
    began = {e.number for e in record.entries}
    try:
        _make(fix, record, say, root)
    except BaseException as e:
        say(f"{fix.advice} was not made: it is taken back")
        left = undo([entry for entry in record.entries if entry.number not in began], record, say, root)
        for problem in left:
            say(problem)
        if isinstance(e, (OSError, LeftAloneError)):
            msg = f"{fix.advice}: {e.strerror if isinstance(e, OSError) else e}"
            state = "clienthv doctor --undo shows what of it is left" if left else "nothing of it is left changed"
            raise HostError(msg, hint=f"{state}; make it by hand, as clienthv doctor says") from e
        raise


def _tell(output: str, say: Say) -> None:
    for line in output.splitlines():
        say(f"  {line}")


def _make(fix: Fix, record: Record, say: Say, root: str) -> None:
    for edit in fix.edits:
        if files.read(edit.path, root) != edit.before:
            msg = f"{edit.path}: was changed by somebody else just now"
            raise LeftAloneError(msg)
        record.add(fix.advice, FileStep(path=edit.path, before=edit.before, after=edit.after.digest))
        files.put(edit.path, edit.after, root)
    if fix.menu:
        record.add(fix.advice, MenuStep(command=fix.menu))
        _tell(process.make_boot_menu(fix.menu), say)
    if fix.packager is not None:
        _install(fix, record, say)
    if fix.group is not None and fix.account is not None and fix.account not in (members_of(fix.group) or ()):
        record.add(fix.advice, GroupStep(account=fix.account, group=fix.group))
        _tell(process.join_group(fix.account, fix.group), say)
    if fix.module is not None:
        process.load_module(fix.module, loaded=True)


def _install(fix: Fix, record: Record, say: Say) -> None:
    if fix.packager is None:
        return
    installed, before = process.installed_packages(fix.packager), process.known_packages(fix.packager)
    wanted = tuple(name for name in fix.packages if name not in installed)
    if not wanted:
        msg = f"installed already: {' '.join(fix.packages)}"
        raise HostError(msg, hint="libvirt may see it after its daemon is started anew: systemctl restart libvirtd")
    # One that was removed and has settings left is installed again, and stays: what it was is not to be had back.
    lacking = tuple(name for name in wanted if name not in before)
    entry = record.add(fix.advice, PackagesStep(packager=fix.packager, names=lacking))
    told = ""
    try:
        told = process.install_packages(fix.packager, wanted)
    except HostError as e:
        told = e.detail or ""
        raise
    finally:
        came = _brought(process.known_packages(fix.packager) - before, lacking, told)
        if came and came != lacking:
            record.add(fix.advice, PackagesStep(packager=fix.packager, names=came))
            record.forget(entry)
    _tell(told, say)
    say(f"installed: {' '.join(dict.fromkeys((*came, *wanted)))}")


def _brought(new: frozenset[str], asked: tuple[str, ...], told: str) -> tuple[str, ...]:
    """Of the packages that are new, those that were asked for or that the program itself spoke of.

    Somebody else may install others at the same time (unattended-upgrades, a kernel): those are never removed.
    """
    spoken = set(_NAMES.findall(told))  # rpm's are followed by a version: name-1.0-1.x86_64
    spoken |= {word[:at] for word in spoken for at, sign in enumerate(word) if sign == "-"}
    return tuple(sorted(name for name in new if name in asked or name in spoken))


def undo(entries: Iterable[Entry], record: Record, say: Say, root: str = "/") -> tuple[str, ...]:
    """Take steps back, the last first; what could not be, in sentences. A menu is made when its files are back."""
    taken = sorted(entries, key=lambda e: -e.number)
    problems: list[str] = []
    left: set[str] = set()
    for entry in (e for e in taken if not isinstance(e.step, MenuStep)):
        try:
            _undo(entry.step, say, root)
            record.forget(entry)  # where even this fails (no space), the other files are given back all the same
        except (HostError, LeftAloneError, OSError) as e:
            problems.append(e.message if isinstance(e, HostError) else str(e))
            left.add(entry.advice)
    menus = [(entry, entry.step.command) for entry in taken if isinstance(entry.step, MenuStep)]
    for command in dict.fromkeys(command for _, command in menus):
        try:
            say(f"run: {command}")
            _tell(process.make_boot_menu(command), say)
            # What is left of a fix needs the menu made again, once it is undone.
            for entry in (e for e, made_by in menus if made_by == command and e.advice not in left):
                record.forget(entry)
        except HostError as e:
            problems.append(e.message)
    return tuple(problems)


def _undo(step: Step, say: Say, root: str) -> None:
    match step:
        case FileStep():
            _restore(step, say, root)
        case PackagesStep():
            there = process.known_packages(step.packager)
            if left := tuple(name for name in step.names if name in there):
                _tell(process.remove_packages(step.packager, left), say)
                say(f"removed: {' '.join(left)}")
        case GroupStep():
            if step.account in (members_of(step.group) or ()):
                _tell(process.leave_group(step.account, step.group), say)
                say(f"{step.account} is no longer in the group {step.group}")
        case MenuStep():
            pass


def _restore(step: FileStep, say: Say, root: str) -> None:
    now = files.read(step.path, root)
    if now == step.before:
        return
    if now is None or now.digest != step.after:
        msg = f"{step.path}: was changed since, so it is left as it is; what it was stands in the record"
        raise LeftAloneError(msg)
    files.put(step.path, step.before, root)
    say(f"{step.path}: " + ("as before" if step.before is not None else "removed, as it was not there before"))


def shown(entries: Iterable[Entry], root: str = "/") -> tuple[str, ...]:
    """What an undo would do, line by line."""
    lines: list[str] = []
    for entry in sorted(entries, key=lambda e: -e.number):
        match entry.step:
            case FileStep(path=path, before=before):
                try:
                    lines.extend(files.difference(path, files.read(path, root), before))
                except LeftAloneError as e:
                    lines.append(str(e))
            case MenuStep(command=command):
                lines.append(f"run: {command}")
            case PackagesStep(names=names):
                lines.append(f"remove: {' '.join(names)}")
            case GroupStep(account=account, group=group):
                lines.append(f"take the account {account} out of the group {group}")
    return tuple(lines)
