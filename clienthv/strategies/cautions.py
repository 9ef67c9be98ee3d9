"""What handing PCI functions over hangs on without being refused for it; ``who`` names what is handed over."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.model.host import Host, PciFunction, RoleName
from clienthv.model.plan import Warned
from clienthv.strategies import pci


def stack_unknown(host: Host) -> Iterator[Warned]:
    """What libvirt and QEMU offer, where nobody could ask them."""
    if host.stack is None or host.stack.capabilities is None:
        why = host.stack.problem if host.stack is not None else None
        yield Warned(
            code="stack-unknown",
            detail=(f"{why}: " if why else "")
            + "what libvirt and QEMU offer there is not known; planned for those that clienthv's set-up installs",
        )


def interrupts_unknown(host: Host, who: str) -> Iterator[Warned]:
    """Interrupt remapping that nobody looked for (kernel, Documentation/driver-api/vfio.rst)."""
    if host.iommu.interrupt_remapping is None:
        yield Warned(
            code="interrupt-remapping-unknown",
            detail=f"{who}: hangs on interrupt remapping, which the host document does not mention; without it "
            + (
                "the guest can send the host any interrupt, as unsafe interrupts are allowed"
                if host.iommu.unsafe_interrupts is True
                else "the kernel refuses VFIO"
            ),
        )


def unsafe_interrupts(host: Host, who: str) -> Iterator[Warned]:
    """No interrupt remapping, and VFIO told to do without (kernel, drivers/vfio/vfio_iommu_type1.c)."""
    if host.iommu.interrupt_remapping is False:
        yield Warned(
            code="unsafe-interrupts",
            detail=f"{who}: handed over without interrupt remapping, which is unsafe: the guest can send the host any "
            "interrupt",
        )


def usb_with_gpu(host: Host, function: PciFunction, who: str) -> Iterator[Warned]:
    """A graphics card's USB-C port, which moves too although a keyboard of the host may hang on it."""
    if function.base_class == "0c03" and pci.belongs_to_gpu(host, function) and not host.read(RoleName.INPUT):
        yield Warned(
            code="usb-with-gpu",
            detail=f"{who}: the USB-C port of the graphics card ({function.address}) moves too; "
            "have no keyboard of the host plugged into it",
        )


def acs_override(host: Host, who: str) -> Iterator[Warned]:
    """Groups that the kernel's command line split, not the hardware."""
    if host.iommu.acs_override:
        yield Warned(
            code="acs-override",
            detail=f"{who}: isolated by pcie_acs_override alone, which is unsafe: the guest may reach other devices' "
            "memory",
        )
