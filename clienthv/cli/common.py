"""What several commands share: the host option, the connection, progress."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from clienthv import api
from clienthv.errors import HostError
from clienthv.model.host import Host

host_option = click.option(
    "--host",
    "host_file",
    metavar="FILE",
    help="Plan for the PC of this host document (clienthv inspect --save) instead of this one.",
)


def note(text: str) -> None:
    """A line for the person, beside the output."""
    click.echo(text, err=True)


def the_host(host_file: str | None, connect: str | None) -> Host:
    """The host of a document, or this PC with what its libvirt offers."""
    if host_file is not None:
        return api.load_host(host_file)
    from clienthv.lifecycle import live

    with progress("asking QEMU what it offers"):
        host, _ = live.read_host_anyway(connect, note)
    return host


def write_file(path: str, data: bytes) -> None:
    """Write a file whole or not at all. Raises HostError."""
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as e:
        part.unlink(missing_ok=True)
        msg = f"cannot write {path}: {e.strerror}"
        raise HostError(msg, hint="give the path of a file in a folder you may write to") from e


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """A line with the seconds gone by, for what takes longer than one; on a terminal alone."""
    if not sys.stderr.isatty():
        yield
        return
    began, done = time.monotonic(), threading.Event()

    def show() -> None:
        while not done.wait(1):
            click.echo(f"\r{doing} … {time.monotonic() - began:.0f} s", err=True, nl=False)
        click.echo("\r\x1b[K", err=True, nl=False)

    clock = threading.Thread(target=show, daemon=True)
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()
