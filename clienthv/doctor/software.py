"""What the virtualization software lacks: packages, rights, a network."""

from __future__ import annotations

import shlex
from typing import Final, NamedTuple

from msgspec.structs import replace

from clienthv.doctor import remedy, wording
from clienthv.doctor.remedy import Met, Remedies, Remedy
from clienthv.model.advice import Advice, After, Evidence
from clienthv.model.host import Host, PciFunction
from clienthv.model.plan import Reason
from clienthv.model.stack import DomainCapabilities

_CAPABILITIES: Final = "virsh domcapabilities"


def remedies(host: Host, met: Met) -> Remedies:
    """The advice about libvirt, QEMU and what they use."""
    stack = host.stack
    if stack is not None and stack.uri is None:
        yield _libvirt(host)
        return
    offered = stack.capabilities if stack is not None else None
    if offered is not None:
        yield from (_package(host, lack) for lack in _LACKS if lack.lacks(offered))
    if met.because(Reason.NO_PASST):
        yield _passt(host, met)
    if met.because(Reason.NETWORK_INACTIVE):
        yield _network(host, met)
    if met.because(Reason.NO_PRIVILEGE) or _by_sudo(host):
        yield from _group(host)


class _Lack(NamedTuple):
    """Something that a package brings, as libvirt's domain capabilities show it."""

    code: str
    title: str
    detail: str
    shows: str

    def lacks(self, offered: DomainCapabilities) -> bool:
        """Whether it is missing."""
        match self.code:
            case "uefi-firmware":
                return "efi" not in offered.firmware
            case "swtpm":
                return "emulator" not in offered.tpm_backends
            case "qemu-opengl":
                return "egl-headless" not in offered.graphics
            case _:
                return "spice" not in offered.graphics

    def brought(self, offered: DomainCapabilities) -> DomainCapabilities:
        """The capabilities with it."""
        match self.code:
            case "uefi-firmware":
                return replace(offered, firmware=remedy.adding(offered.firmware, "efi"), secure_boot=True)
            case "swtpm":
                return replace(offered, tpm_backends=remedy.adding(offered.tpm_backends, "emulator"))
            case "qemu-opengl":
                return replace(offered, graphics=remedy.adding(offered.graphics, "egl-headless"))
            case _:
                return replace(offered, graphics=remedy.adding(offered.graphics, "spice"))


_LACKS: Final = (
    _Lack(
        "uefi-firmware",
        "Install UEFI firmware for guests (OVMF)",
        "libvirt finds none, so guests start with a BIOS; Windows 11 and passed-through graphics cards expect UEFI",
        "os: no firmware efi",
    ),
    _Lack(
        "swtpm",
        "Install swtpm, a TPM in software",
        "libvirt offers no emulated TPM, which Windows 11 asks for",
        "tpm: no backendModel emulator",
    ),
    _Lack(
        "qemu-opengl",
        "Install QEMU's modules for OpenGL",
        "this QEMU has no OpenGL display, so guests get no 3D by the host's GPU",
        "graphics: no egl-headless",
    ),
    _Lack(
        "qemu-spice",
        "Install QEMU's modules for SPICE",
        "this QEMU has no SPICE, so a guest's screen comes over VNC, without its sound, clipboard and size",
        "graphics: no spice",
    ),
)


def _package(host: Host, lack: _Lack) -> Remedy:
    advice = Advice(
        code=lack.code,
        title=lack.title,
        detail=lack.detail,
        evidence=(Evidence(file=_CAPABILITIES, value=lack.shows),),
        steps=wording.install(host, lack.code),
        fixable=_can_install(host, lack.code),
    )
    return Remedy(advice, lambda h: remedy.with_capabilities(h, lack.brought))


def _can_install(host: Host, what: str) -> bool:
    return remedy.account(host) is not None and bool(wording.packages(host, what))


def _libvirt(host: Host) -> Remedy:
    problem = host.stack.problem if host.stack is not None else None
    return Remedy(
        Advice(
            code="libvirt",
            title="Install libvirt and QEMU, or let libvirt run",
            detail=f"libvirt cannot be used: {problem}",
            evidence=(Evidence(file="virsh uri", value=problem or "unknown"),),
            steps=(*wording.install(host, "libvirt"), "sudo systemctl enable --now libvirtd.socket"),
            fixable=False,
        )
    )


def _passt(host: Host, met: Met) -> Remedy:
    return Remedy(
        Advice(
            code="passt",
            title="Install passt, a faster network for guests without root's rights",
            detail=f"without it and without libvirt's network, guests ({met.by(Reason.NO_PASST)}) are on QEMU's "
            "user-mode network",
            evidence=(Evidence(file="/usr/bin/passt", value="absent"),),
            steps=wording.install(host, "passt"),
            fixable=_can_install(host, "passt"),
        )
    )


def _network(host: Host, met: Met) -> Remedy:
    names = [r.device.removeprefix("network:") for r in met.because(Reason.NETWORK_INACTIVE) if r.device]
    name = names[0] if names else "default"
    return Remedy(
        Advice(
            code="libvirt-network",
            title=f"Start libvirt's network {name}",
            detail="it is there and not active; with it host and guests reach each other, and guests reach out by NAT "
            f"({met.by(Reason.NETWORK_INACTIVE)})",
            evidence=(Evidence(file=f"virsh net-info {name}", value="Active: no"),),
            # A document's name may be anything, and people paste what stands here into a shell.
            steps=tuple(shlex.join(["virsh", verb, name]) for verb in ("net-start", "net-autostart")),
        )
    )


def _by_sudo(host: Host) -> bool:
    """Whether root asks the system's libvirt for an account that may not ask it itself."""
    account, stack = remedy.account(host), host.stack
    asks = stack is not None and stack.privileged is True and (stack.uri or "").startswith("qemu:///system")
    return asks and account is not None and not account.root and "libvirt" not in (account.groups or ())


def _group(host: Host) -> Remedies:
    """An account without rights reaches libvirt's daemon of root's as a member of its group (libvirt, "Access")."""
    stack, account = host.stack, remedy.account(host)
    by_sudo = _by_sudo(host)
    if stack is None or (stack.privileged is not False and not by_sudo):
        return
    there = account is not None and "libvirt" in (account.there or ())
    if by_sudo and not there:
        return
    member = account is not None and "libvirt" in (account.groups or ())
    advice = Advice(
        code="libvirt-group",
        title="Use qemu:///system, after logging in again"
        if member
        else "Join the group libvirt, and use qemu:///system",
        detail=(
            "without sudo, this account may not use the system's libvirt"
            if by_sudo
            else f"the connection {stack.uri} may not take devices from the host; the system's libvirt may"
        )
        + ". Its group can read and change what root can by way of VMs",
        evidence=(Evidence(file="virsh uri", value=stack.uri or "unknown"),),
        steps=(
            *(() if member else ('sudo usermod -aG libvirt "$USER"',)),
            "log out and in again",
            "then: clienthv --connect qemu:///system",
            *(() if there or account is None else wording.install(host, "libvirt")),
        ),
        fixable=there and not member and account is not None and not account.root,
        after=After.LOGIN,
    )

    def change(h: Host) -> Host:
        privileged = replace(h, stack=replace(h.stack, privileged=True, uri="qemu:///system")) if h.stack else h
        return remedy.with_functions(privileged, (f.address for f in h.pci), _writable)

    yield Remedy(advice, change)


def _writable(function: PciFunction) -> PciFunction:
    types = tuple(
        replace(t, writable=None if t.writable is False else t.writable) for t in function.known.mdev_types or ()
    )
    made = function if not types else replace(function, particulars=replace(function.known, mdev_types=types))
    if made.sriov is not None and made.sriov.writable is False:
        made = replace(made, sriov=replace(made.sriov, writable=None))
    return made
