"""What is inside the image, against what the plan gives it there."""

from __future__ import annotations

from typing import Final

from clienthv.model import values
from clienthv.model.contents import ImageContents
from clienthv.model.guest import GuestOs
from clienthv.model.plan import Kind, Plan, Strategy
from clienthv.model.portability import Code
from clienthv.model.profile import Profile
from clienthv.model.tables import DRIVER_OF
from clienthv.portability.subject import Findings, Subject, Target, blocks, changes, unknown, warns

_DRIVERS: Final = {"virtio": "virtio-blk", "virtio-scsi": "virtio-scsi", "sata": "ahci", "ide": "ide"}
_SHOWN: Final = 6
_NOBODY: Final = "nobody looked"


def findings(subject: Subject, target: Target, plan: Plan | None, profile: Profile) -> Findings:
    """What speaks against starting the guest there, as its profile wants it. ``plan`` is None where there is none."""
    guest = subject.guest
    if plan is not None and guest is not None:
        yield from _minimums(guest, plan, subject, target)
    contents = subject.contents
    if contents is None:
        return
    if contents.problem is not None:
        yield unknown(
            Code.CONTENTS_UNKNOWN,
            "what is inside the image",
            f"{contents.problem}. So nobody could tell whether it boots, by which firmware and from which disks, which "
            "graphics drivers it has, what in it is tied to hardware, and whether it is hibernated or dirty",
            _look(contents.problem),
        )
        return
    if contents.architecture not in (None, "x86_64", "i386", "i486", "i586", "i686"):
        yield blocks(
            Code.ARCHITECTURE,
            f"an {contents.architecture} system",
            "clienthv makes x86_64 VMs, which cannot start what is in the image",
            "get the system's image for x86_64 (amd64)",
        )
        return
    if subject.domain is None:
        yield from _boots(contents, plan, profile)
    yield from _left_over(contents)
    if plan is not None:
        yield from _graphics(contents, plan, target)


def _look(problem: str) -> str:
    if "--no-inspect" in problem:
        return "leave --no-inspect out"
    if "libguestfs" in problem:
        return "install libguestfs (Debian: libguestfs-tools), or start it there to see"
    return "start it there to see"


def _minimums(guest: GuestOs, plan: Plan, subject: Subject, target: Target) -> Findings:
    """What the operating system asks for, by osinfo-db and its maker, against what the plan gives."""
    given, at = f"and gets {{}} on {target.called}", "at least"
    memory = values.format_mib(plan.memory_mib)
    for wanted, have, least, words, got, fix in (
        (guest.min_memory_mib, plan.memory_mib, True, values.format_mib(guest.min_memory_mib or 0) + " of memory",
         memory, "give it more, or take a PC with more"),
        (guest.min_vcpus, plan.vcpus, True, f"{guest.min_vcpus} processors", f"{plan.vcpus}", "give it more"),
        (guest.max_memory_mib, plan.memory_mib, False, values.format_mib(guest.max_memory_mib or 0) + " of memory",
         memory, "give it less"),
        (guest.max_vcpus, plan.vcpus, False, f"{guest.max_vcpus} processors", f"{plan.vcpus}", "give it fewer"),
    ):  # fmt: skip
        if wanted is not None and (have < wanted if least else have > wanted):
            bound = at if least else "at most"
            yield warns(Code.GUEST_MINIMUM, guest.id, f"it takes {words} {bound}, {given.format(got)}", fix)
    has = {kind: subject.today[kind].strategy for kind in (Kind.TPM, Kind.FIRMWARE) if kind in subject.today}
    if guest.needs_tpm and plan.of(Kind.TPM).strategy is Strategy.OMIT and has.get(Kind.TPM) is not Strategy.OMIT:
        yield warns(
            Code.GUEST_MINIMUM, guest.id, f"it asks for a TPM, {given.format('none')}", "install swtpm there", Kind.TPM
        )
    secure = Strategy.UEFI_SECURE_BOOT
    if (
        guest.needs_secure_boot
        and plan.of(Kind.FIRMWARE).strategy is not secure
        and has.get(Kind.FIRMWARE, secure) is secure
    ):
        yield warns(
            Code.GUEST_MINIMUM,
            guest.id,
            f"it asks for Secure Boot, {given.format(plan.of(Kind.FIRMWARE).strategy)}",
            "install ovmf with its Secure Boot build there",
            Kind.FIRMWARE,
        )


def _boots(contents: ImageContents, plan: Plan | None, profile: Profile) -> Findings:
    if contents.bootable is False:
        yield blocks(
            Code.NOT_BOOTABLE,
            "the image",
            "; ".join(contents.evidence[-2:]) or "nothing in it can be booted",
            "is it a data disk, or the second disk of a system?",
        )
        return
    if contents.bootable is None:
        yield unknown(Code.NOT_BOOTABLE, "the image", "nobody could tell whether it boots", "start it there to see")
    if plan is None:
        return
    firmware = plan.of(Kind.FIRMWARE).strategy
    boots, other = (contents.bios, contents.uefi) if firmware is Strategy.BIOS else (contents.uefi, contents.bios)
    if boots is False:
        yield blocks(
            Code.BOOT_FIRMWARE,
            "the image",
            f"nothing in it starts by {'BIOS' if firmware is Strategy.BIOS else 'UEFI'}, which the plan gives it",
            f'firmware.prefer = ["{"uefi" if firmware is Strategy.BIOS else "bios"}"] in the profile'
            if other is not False
            else "it starts by neither: is it a data disk?",
            Kind.FIRMWARE,
        )
    yield from _disk(contents, plan, profile)


def _disk(contents: ImageContents, plan: Plan, profile: Profile) -> Findings:
    """Whether the guest finds its disk: on the bus that the profile wants, and on the one that the plan has."""
    wanted = profile.device(Kind.DISK).bus or "virtio-blk"
    taken = _DRIVERS.get(plan.of(Kind.DISK).model)
    said: dict[str, str] = {d.driver: d.evidence for d in contents.boot_drivers}
    if Strategy.PARAVIRTUAL in profile.ladder(Kind.DISK) and contents.boots_from(wanted) is False and taken != wanted:
        yield changes(
            Code.BOOT_DRIVER,
            f"a {wanted} disk",
            f"the guest has no driver for it when it boots: {said[wanted]}",
            "put the driver into its initramfs (virtio-win on Windows); until then a SATA disk is slower and works",
            Kind.DISK,
        )
    if taken is None:
        return
    if contents.boots_from(taken) is False:
        yield blocks(
            Code.BOOT_DRIVER,
            f"a {taken} disk",
            f"the guest has no driver for it when it boots: {said[taken]}",
            "put the driver into its initramfs (virtio-win on Windows)",
            Kind.DISK,
        )
    elif contents.boots_from(taken) is None:
        yield unknown(
            Code.BOOT_DRIVER, f"a {taken} disk", f"whether the guest boots from it: {said.get(taken, _NOBODY)}"
        )


def _left_over(contents: ImageContents) -> Findings:
    for sentence in contents.tied_to[:_SHOWN]:
        yield warns(
            Code.TIED_TO_HARDWARE,
            "the guest's settings",
            sentence,
            "change that in the guest before it moves, or after",
        )
    for name in contents.hibernated or ():
        yield warns(
            Code.HIBERNATED,
            name,
            "the guest is hibernated: waking up on other hardware fails, and loses what was not saved",
            "start it where it is, and shut it down whole (Windows: shutdown /s /f /t 0, fast startup off)",
        )
    for name in contents.dirty or ():
        yield warns(Code.DIRTY, name, "its file system was not unmounted cleanly", "start and shut it down once")
    unread, fix = "not all that is on its disk could be read", "shut it down whole before it moves"
    if contents.hibernated is None:
        yield unknown(Code.HIBERNATED, "the guest", f"nobody could tell whether it is hibernated: {unread}", fix)
    if contents.dirty is None:
        yield unknown(Code.DIRTY, "the guest", f"nobody could tell whether a file system was left open: {unread}", fix)


def _graphics(contents: ImageContents, plan: Plan, target: Target) -> Findings:
    gpu = plan.of(Kind.GPU)
    function = target.host.by_address.get(gpu.device or "")
    vendor = DRIVER_OF.get(function.vendor_id or "") if function is not None else None
    if vendor is None or vendor in (contents.gpu_drivers or ()):
        return
    if contents.gpu_drivers is None or (contents.family == "linux" and vendor != "nvidia"):
        why = f"nobody could tell whether the guest drives {vendor} cards: its kernel may do so by itself"
        yield unknown(Code.GPU_DRIVER, gpu.backing, why, "start it there to see")
    else:
        yield warns(
            Code.GPU_DRIVER,
            gpu.backing,
            f"the guest has no driver for {vendor} cards yet (it has {', '.join(contents.gpu_drivers) or 'none'})",
            "install it in the guest first",
        )
