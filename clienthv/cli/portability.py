"""``clienthv migrate-check``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clienthv import api
from clienthv.cli import completing, terminal
from clienthv.cli.common import note, progress, show
from clienthv.cli.progress import counted
from clienthv.errors import ClienthvError, UsageError
from clienthv.model import values
from clienthv.model.cpu import Baseline
from clienthv.model.host import Host
from clienthv.model.portability import Check, Checks, Verdict, encode

if TYPE_CHECKING:
    from clienthv.lifecycle.checking import Answer


@click.command(
    "migrate-check",
    epilog="Example: clienthv migrate-check desk --to other-pc.json; "
    "clienthv migrate-check win11.qcow2 --to pcs/*.json --summary",
)
@click.argument("subject", metavar="IMAGE|VM|DOMAIN.xml|BUNDLE", shell_complete=completing.vm_or_file)
@click.argument("more", nargs=-1, metavar="[--to] TARGET...", shell_complete=completing.target)
@click.option("--to", "to", multiple=True, metavar="TARGET", shell_complete=completing.target,
              help="A host document or listing, a folder of them, local, or a libvirt URI; repeatable.")  # fmt: skip
@click.option(
    "--from",
    "source",
    metavar="FILE",
    shell_complete=completing.local_or_file,
    help="The document of the PC that a definition comes from, or local.",
)
@click.option(
    "--profile",
    default="balanced",
    shell_complete=completing.profile,
    show_default=True,
    help="What a bare image shall become a VM of.",
)
@click.option("--no-inspect", is_flag=True, help="Do not look inside images.")
@click.option("--summary", is_flag=True, help="A line for each target.")
@click.option("--baseline", is_flag=True, help="Name the processor that all targets have, and the subject's PC.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document; with --summary, a line for each target."
)
@click.pass_obj
def migrate_check_command(
    connect: str | None, subject: str, more: tuple[str, ...], to: tuple[str, ...], source: str | None, profile: str,
    no_inspect: bool, summary: bool, baseline: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say whether an image, a VM, a definition or a bundle runs on other PCs, and what each device becomes there.

    The verdict is live (it can move while it runs), cold (after a shutdown and a copy), adapt (changed) or blocked;
    and every finding that it rests on is shown. Changes nothing. - is standard input: a definition, or a document or
    listing of a target. Ends with 0 when every target could be read, whatever
    the verdicts are; with --summary all others are told first.
    """
    from clienthv.lifecycle import checking

    names = tuple(dict.fromkeys(_spread((*to, *more))))
    if not names:
        msg = "there is no target to check against"
        raise UsageError(msg, hint="give --to FILE (clienthv inspect --save FILE, on that PC), --to local, or a URI")
    with progress(f"looking at {subject}"):
        what = checking.subject_of(
            subject, checking.Looking(connect, _load(source, connect), profile, inspect=not no_inspect), note
        )
    if baseline:
        _baseline(checking.baseline(what, names, api.load_host, connect, note), as_json=as_json)
        return
    with counted(f"checking {what.name}", len(names), "targets") as told:
        answers = _told_of(checking.answers(what, names, api.load_host, connect, note), told)
        if summary:
            _summary(answers, names, as_json=as_json)
            return
        checks = [_read(answer) for answer in answers]
    if as_json:
        whole = Checks(subject=what.name, subject_kind=what.kind, checks=tuple(checks))
        click.echo(encode(whole), nl=False)
        return
    from clienthv.report import portability

    show(portability.many(checks, what.name))


def _baseline(found: Baseline, *, as_json: bool) -> None:
    if as_json:
        click.echo(values.as_json(found), nl=False)
        return
    from clienthv.hypervisor import cpu_comparison
    from clienthv.report import portability

    xml = cpu_comparison.as_xml(found.cpu) if found.cpu is not None else None
    show(portability.baseline(found, xml))


def _load(source: str | None, connect: str | None) -> Host | None:
    if source is None:
        return None
    from clienthv.lifecycle import targets

    return api.inspect(connect) if source == targets.LOCAL else api.load_host(source)


def _spread(names: Iterable[str]) -> Iterator[str]:
    """The targets, with the documents of a folder in place of the folder."""
    for name in names:
        if "://" not in name and name != "-" and Path(name).is_dir():
            yield from sorted(str(p) for p in Path(name).iterdir() if p.suffix in (".json", ".txt"))
        else:
            yield name


def _told_of(answers: Iterator[Answer], told: Callable[[int], None]) -> Iterator[Answer]:
    for number, answer in enumerate(answers, 1):
        yield answer
        told(number)


def _read(answer: Answer) -> Check:
    if isinstance(answer, Check):
        return answer
    raise answer[1]


def _summary(answers: Iterator[Answer], names: tuple[str, ...], *, as_json: bool) -> None:
    """One line for each target as soon as it is known, and the totals at the end."""
    from clienthv.report import portability

    width, verdicts, unread = min(max(map(len, names)), 60), Counter[Verdict](), list[ClienthvError]()
    for answer in answers:
        if isinstance(answer, Check):
            verdicts[answer.verdict] += 1
            line = portability.summary_json(answer) if as_json else portability.summary_line(answer, width)
        else:
            name, problem = answer
            unread.append(problem)
            line = (
                portability.unread_json(name, problem.message)
                if as_json
                else portability.unread_line(name, problem.message, width)
            )
        terminal.write(line) if isinstance(line, bytes) else show([line])
    for line in portability.totals(verdicts, len(unread)):
        note(line)
    if unread:
        click.get_current_context().exit(unread[0].code)
