"""How the guest gets its TPM."""

from __future__ import annotations

from clienthv.model.plan import Reason, Strategy
from clienthv.strategies import others
from clienthv.strategies.frame import Objections, Option, Options, Question, omitted, reject


def options(strategy: Strategy, question: Question) -> Options:
    """One option each."""
    match strategy:
        case Strategy.PASSTHROUGH:
            yield Option(
                strategy=strategy,
                model="tpm-tis",  # tpm-crb's buffer has 3968 bytes; QEMU refuses a host TPM whose buffer is larger
                backing="the host's TPM",
                why="the host's own TPM: its secrets stay on this PC",
            )
        case Strategy.EMULATED:
            yield Option(
                strategy=strategy,
                model="tpm-crb",
                backing="swtpm",
                why="a TPM 2.0 in software whose state travels with the VM",
            )
        case _:
            yield omitted("a TPM")


def objections(option: Option, question: Question) -> Objections:
    """A device must be there; swtpm must be installed with its set-up tool (domain capabilities, ``tpm``)."""
    capabilities, host = question.capabilities, question.host
    if option.strategy is Strategy.PASSTHROUGH and not host.tpm_device:
        known = host.tpm_device is False
        yield reject(
            option,
            Reason.NO_TPM_DEVICE if known else Reason.TPM_UNKNOWN,
            "the host has no TPM device" if known else "the host document does not say whether there is a TPM",
            'turn on the TPM ("fTPM", "PTT") in the firmware setup'
            if known
            else "run clienthv inspect --save on that PC",
        )
    if option.strategy is Strategy.PASSTHROUGH and (running := others.runs_with_tpm(option, host)) is not None:
        yield running
    if option.strategy is Strategy.PASSTHROUGH and host.stack is not None and host.stack.privileged is False:
        yield reject(
            option,
            Reason.NO_PRIVILEGE,
            f"the connection {host.stack.uri} may not take devices from the host",
            "use qemu:///system, as a member of the group libvirt",
        )
    wanted = {Strategy.PASSTHROUGH: "passthrough", Strategy.EMULATED: "emulator"}.get(option.strategy)
    if wanted is not None and capabilities is not None and wanted not in capabilities.tpm_backends:
        yield reject(
            option,
            Reason.NOT_IN_QEMU,
            f"libvirt offers the TPM backends {', '.join(capabilities.tpm_backends) or 'none'}, not {wanted}",
            "install swtpm and swtpm-tools" if wanted == "emulator" else None,
        )
