"""What speaks against giving a VM one of its devices in one way: one file per kind, objections only.

Each kind's module has two functions. ``options`` lists the ways a strategy could be carried out on this host, the
most wanted first; ``objections`` says what speaks against one of them. Neither chooses: that is the planner's.
"""

from __future__ import annotations

from typing import Final, Protocol

from clienthv.model.plan import Kind, Strategy
from clienthv.strategies import audio, cpu, disk, display, firmware, gpu, input, nic, tpm, usb  # noqa: A004
from clienthv.strategies.frame import Failed, Kept, Objections, Option, Options, Question


class KindRules(Protocol):
    """The two functions every kind's module has."""

    def options(self, strategy: Strategy, question: Question) -> Options:
        """The ways to carry out a strategy, the most wanted first."""

    def objections(self, option: Option, question: Question) -> Objections:
        """What speaks against one of them."""


RULES: Final[dict[Kind, KindRules]] = {
    Kind.CPU: cpu,
    Kind.FIRMWARE: firmware,
    Kind.GPU: gpu,
    Kind.NIC: nic,
    Kind.DISK: disk,
    Kind.AUDIO: audio,
    Kind.USB: usb,
    Kind.INPUT: input,
    Kind.TPM: tpm,
    Kind.DISPLAY: display,
}

__all__ = ["RULES", "Failed", "Kept", "KindRules", "Objections", "Option", "Options", "Question"]
