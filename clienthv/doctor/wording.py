"""How a change is made on a given PC: by the names that its boot loader, its distribution and its firmware use."""

from __future__ import annotations

from typing import Final, Literal

from clienthv.doctor import remedy
from clienthv.model.host import Host

Family = Literal["debian", "fedora", "arch"]
_FAMILIES: Final[dict[str, Family]] = {
    "debian": "debian", "ubuntu": "debian", "fedora": "fedora", "rhel": "fedora", "centos": "fedora", "arch": "arch",
}  # fmt: skip

PACKAGES: Final[dict[str, dict[Family, tuple[str, ...]]]] = {
    "uefi-firmware": {"debian": ("ovmf",), "fedora": ("edk2-ovmf",), "arch": ("edk2-ovmf",)},
    "swtpm": {"debian": ("swtpm", "swtpm-tools"), "fedora": ("swtpm", "swtpm-tools"), "arch": ("swtpm",)},
    "passt": {"debian": ("passt",), "fedora": ("passt",), "arch": ("passt",)},
    "qemu-opengl": {
        "debian": ("qemu-system-modules-opengl",),
        "fedora": ("qemu-ui-opengl", "qemu-ui-egl-headless", "qemu-device-display-virtio-vga-gl"),
        "arch": ("qemu-ui-opengl", "qemu-ui-egl-headless", "qemu-hw-display-virtio-vga-gl"),
    },
    "qemu-spice": {
        "debian": ("qemu-system-modules-spice",),
        "fedora": ("qemu-ui-spice-core", "qemu-char-spice", "qemu-audio-spice"),
        "arch": ("qemu-ui-spice-core", "qemu-chardev-spice", "qemu-audio-spice"),
    },
    "libvirt": {
        "debian": ("libvirt-daemon-system", "qemu-system-x86"),
        "fedora": ("libvirt-daemon-kvm", "qemu-kvm"),
        "arch": ("libvirt", "qemu-base"),
    },
}
"""The packages that carry what a PC lacks, by the distributions' own names (packages.debian.org, Fedora's and Arch's
package databases)."""

_INSTALL: Final[dict[Family, str]] = {
    "debian": "sudo apt-get install", "fedora": "sudo dnf install", "arch": "sudo pacman -S",
}  # fmt: skip


def family(host: Host) -> Family | None:
    """The family of distributions whose package names and tools a PC has; None where it is none that is known."""
    known = remedy.distribution(host)
    return next((_FAMILIES[word] for word in (known.id, *known.id_like) if word in _FAMILIES), None)


def packages(host: Host, what: str) -> tuple[str, ...]:
    """The packages for something, by this PC's names; none where the distribution is not known."""
    of = family(host)
    return PACKAGES[what].get(of, ()) if of is not None else ()


def install(host: Host, what: str) -> tuple[str, ...]:
    """How packages are installed: one command, or the names on each family where it is not known which this is."""
    of = family(host)
    if of is not None:
        return (f"{_INSTALL[of]} {' '.join(PACKAGES[what][of])}",)
    return tuple(f"{_INSTALL[of]} {' '.join(names)}" for of, names in PACKAGES[what].items())


def parameters(host: Host, add: tuple[str, ...], remove: tuple[str, ...]) -> tuple[str, ...]:
    """How kernel parameters are changed with this PC's boot loader, step by step."""
    what = " and ".join([f"{verb} {' '.join(words)}" for verb, words in (("remove", remove), ("add", add)) if words])
    loader = remedy.boot_loader(host)
    kind = loader.kind if loader is not None else "other"
    if loader is None or kind == "other":
        return (
            f"{what} where this PC keeps its kernel's parameters: GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub and "
            "then sudo update-grub (Debian, Ubuntu) or sudo grub-mkconfig -o /boot/grub/grub.cfg (Arch), sudo grubby "
            "--update-kernel=ALL (Fedora), the line options of systemd-boot's entries",
            "restart the PC",
        )
    if kind == "kernelstub":
        words = [f'sudo kernelstub --delete-options "{word}"' for word in remove]
        return (*words, *(f'sudo kernelstub --add-options "{word}"' for word in add), "restart the PC")
    if kind == "grub":
        where = "in GRUB_CMDLINE_LINUX_DEFAULT" if not remove else "in GRUB_CMDLINE_LINUX_DEFAULT or GRUB_CMDLINE_LINUX"
        if not loader.regenerate:
            return (f"{what} on the lines linux of grub.cfg, which no program makes here", "restart the PC")
        return (f"sudoedit /etc/default/grub: {what} {where}", f"sudo {loader.regenerate}", "restart the PC")
    if kind == "grub-bls":
        options = [f'--remove-args="{" ".join(remove)}"'] if remove else []
        options += [f'--args="{" ".join(add)}"'] if add else []
        return (f"sudo grubby --update-kernel=ALL {' '.join(options)}", "restart the PC")
    entries = [path for path in loader.files if path.endswith(".conf")]
    folder = entries[0].rpartition("/")[0] if entries else "loader/entries on the EFI system partition"
    kept = ", and in /etc/kernel/cmdline for kernels to come" if "/etc/kernel/cmdline" in loader.files else ""
    return (f"{what} in the line options of each entry in {folder}{kept}", "restart the PC")


def can_edit(host: Host) -> bool:
    """Whether clienthv itself may change the kernel's parameters here."""
    loader = remedy.boot_loader(host)
    return loader is not None and loader.recognised


def is_intel(host: Host) -> bool:
    """Whether the processor is Intel's."""
    return host.cpu.vendor == "GenuineIntel"


def is_amd(host: Host) -> bool:
    """Whether the processor is AMD's."""
    return host.cpu.vendor == "AuthenticAMD"


def virtualization_setting(host: Host) -> str:
    """What firmware calls hardware virtualization."""
    intel, amd = 'VT-x ("Intel Virtualization Technology", "VMX")', 'AMD-V ("SVM Mode", "Secure Virtual Machine")'
    return intel if is_intel(host) else amd if is_amd(host) else f"{intel} or {amd}"


def iommu_setting(host: Host) -> str:
    """What firmware calls the IOMMU."""
    intel = '"VT-d" ("Intel Virtualization Technology for Directed I/O")'
    amd = '"IOMMU" (often under "AMD CBS", "NBIO Common Options", or "Advanced", "North Bridge")'
    return intel if is_intel(host) else amd if is_amd(host) else f"{intel} or {amd}"


def setup_key() -> str:
    """How one gets into the firmware setup."""
    return "restart into the firmware setup: systemctl reboot --firmware-setup, or press Del, F2 or F10 while it starts"
