"""Where the facts stand that a decision rests on."""

from __future__ import annotations

from clienthv.model.host import Host, PciFunction
from clienthv.model.plan import Decision, Kind, Strategy
from clienthv.strategies import screens
from clienthv.strategies.evidence import functions, networks, platform, usb
from clienthv.strategies.evidence.facts import About, Facts, fact, of


def rests_on(decision: Decision, host: Host) -> tuple[PciFunction, ...]:
    """The functions of the host that a decision rests on: those that move, or the card that they are made on."""
    there = [host.by_address[a] for a in decision.functions if a in host.by_address]
    card = decision.virtual_function.physfn if decision.virtual_function is not None else decision.device
    if not there and card in host.by_address:
        there.append(host.by_address[card])
    return tuple(sorted(there, key=lambda f: f.address != decision.device))


def others(decision: Decision, host: Host) -> Facts:
    """What it rests on beside PCI functions."""
    about = About(None, decision.strategy, decision.device, host, decision.kind)
    match decision.kind, decision.strategy:
        case Kind.CPU, Strategy.HARDWARE_VIRTUALIZATION:
            yield from platform.virtualization(host)
        case Kind.TPM, Strategy.PASSTHROUGH:
            yield fact("/dev/tpmrm0 or /dev/tpm0", "present" if host.tpm_device else None)
        case Kind.USB_DEVICE, Strategy.PASSTHROUGH:
            yield from usb.several(about)
        case Kind.INPUT, Strategy.PASSTHROUGH:
            yield from (fact(f"/dev/input/{link}", "present") for link in decision.evdev)
        case Kind.GPU, Strategy.PARAVIRTUAL_3D:
            nodes = (g for g in screens.gpus_of(host) if g.render_node == decision.render_node)
            yield from (of(gpu.address, "drm", gpu.render_node) for gpu in nodes)
        case Kind.GPU, Strategy.MDEV:
            yield from functions.mediated(about)
        case Kind.NIC, Strategy.PARAVIRTUAL | Strategy.EMULATED if decision.network is not None:
            yield from networks.plugged(about, decision.network)
    if decision.kind is not Kind.CPU and decision.strategy in (
        Strategy.PARAVIRTUAL_3D, Strategy.PARAVIRTUAL, Strategy.EMULATED, Strategy.UEFI, Strategy.UEFI_SECURE_BOOT,
    ):  # fmt: skip
        yield from platform.lists(about)
