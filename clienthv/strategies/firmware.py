"""What the guest boots with: UEFI with Secure Boot, UEFI, or a BIOS."""

from __future__ import annotations

from clienthv.model.plan import Reason, Strategy
from clienthv.strategies.frame import Objections, Option, Options, Question, reject

_ABOUT = {
    Strategy.UEFI_SECURE_BOOT: ("uefi", "OVMF with Secure Boot", "UEFI that starts signed systems only"),
    Strategy.UEFI: ("uefi", "OVMF", "UEFI, which current systems and passed-through GPUs expect"),
    Strategy.BIOS: ("bios", "SeaBIOS", "the BIOS that comes with every QEMU"),
}


def options(strategy: Strategy, question: Question) -> Options:
    """One option each."""
    model, backing, why = _ABOUT[strategy]
    yield Option(strategy=strategy, model=model, backing=backing, why=why)


def objections(option: Option, question: Question) -> Objections:
    """The guest must know it, and UEFI needs firmware files that libvirt found (domain capabilities, ``firmware``)."""
    guest, capabilities = question.guest, question.capabilities
    can = {
        Strategy.UEFI_SECURE_BOOT: False if guest.uefi is False else guest.secure_boot,
        Strategy.UEFI: guest.uefi,
        Strategy.BIOS: guest.bios,
    }
    if can[option.strategy] is False:
        yield reject(option, Reason.GUEST_FIRMWARE, f"{guest.id} does not boot with {option.strategy}")
    if option.strategy is Strategy.BIOS or capabilities is None:
        return
    if "efi" not in capabilities.firmware:
        yield reject(
            option,
            Reason.NOT_IN_QEMU,
            "libvirt finds no UEFI firmware for this machine type",
            "install the ovmf package (edk2-ovmf on Fedora and Arch)",
        )
    elif option.strategy is Strategy.UEFI_SECURE_BOOT and not capabilities.secure_boot:
        yield reject(
            option,
            Reason.NOT_IN_QEMU,
            "libvirt finds UEFI firmware, but none with Secure Boot",
            "install an OVMF build with Secure Boot (package ovmf)",
        )
