"""The processor that the guest sees, against the target's."""

from __future__ import annotations

from clienthv.portability.subject import Findings, Subject, Target


def findings(subject: Subject, target: Target) -> Findings:
    """What speaks against the processor of a definition."""
    yield from ()
