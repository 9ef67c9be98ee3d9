"""How a PC's Linux is set up: which distribution, which boot loader, and whether its files are understood."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clienthv.inspect import anonymise, read, read_boot_loader
from clienthv.inspect.boot_loader import LOADER_INFO
from clienthv.model.host import decode, encode
from clienthv.model.installation import BootLoader, Distribution, Installation

Tree = Callable[[dict[str, str]], str]

GRUB = {
    "/etc/default/grub": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet iommu=pt"\n',
    "/boot/grub/grub.cfg": "",
    "/usr/sbin/update-grub": "",
}
ENTRY = "title Linux\nlinux /vmlinuz\noptions root=UUID=0 rw intel_iommu=on\n"
SYSTEMD_BOOT = {
    "/etc/os-release": "ID=x\n",
    "/boot/loader/loader.conf": "timeout 3\n",
    "/boot/loader/entries/linux.conf": ENTRY,
}


def loader(root: str) -> BootLoader:
    found = read_boot_loader(root)
    assert found is not None
    return found


def says(name: str) -> dict[str, str]:
    """What a boot loader calls itself: four bytes of attributes, then UTF-16."""
    return {LOADER_INFO: "\6\0\0\0" + "".join(f"{c}\0" for c in name) + "\0\0"}


def installation(root: str) -> Installation:
    found = read(root).installation
    assert isinstance(found, Installation)
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('ID=debian\nVERSION_ID="13"\n', Distribution(id="debian", version="13")),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', Distribution(id="linuxmint", id_like=("ubuntu", "debian"))),
        ("ID=arch\n", Distribution(id="arch")),
        ('ID="bad name; x"\nVERSION_ID="unfinished\n', Distribution()),
    ],
)
def test_os_release_names_the_distribution(tree: Tree, text: str, found: Distribution) -> None:
    assert installation(tree({"/etc/os-release": text})).distribution == found


def test_grub_is_told_with_its_files_its_command_and_its_parameters(tree: Tree) -> None:
    drop_in = {
        "/etc/default/grub.d/10-x.cfg": 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT intremap=off"\n'
    }
    assert loader(tree({**GRUB, **drop_in})) == BootLoader(
        kind="grub",
        files=("/etc/default/grub", "/etc/default/grub.d/10-x.cfg"),
        regenerate="update-grub",
        recognised=True,
        parameters=("iommu=pt", "intremap=off"),
    )


def test_arch_makes_the_menu_by_grub_mkconfig(tree: Tree) -> None:
    arch = {**{k: v for k, v in GRUB.items() if "update" not in k}, "/usr/bin/grub-mkconfig": ""}
    assert loader(tree(arch)).regenerate == "grub-mkconfig -o /boot/grub/grub.cfg"


def test_fedoras_entries_count_also_for_who_may_not_see_them(tree: Tree) -> None:
    found = loader(tree({**GRUB, "/etc/default/grub": 'GRUB_CMDLINE_LINUX="quiet"\nGRUB_ENABLE_BLSCFG=true\n'}))
    assert (found.kind, found.recognised, found.regenerate) == ("grub-bls", False, "")


@pytest.mark.parametrize(
    ("written", "kind"),
    [("=true  # as Fedora has it", "grub-bls"), ('="true"', "grub-bls"), ("=true\nGRUB_ENABLE_BLSCFG=false", "grub")],
)
def test_the_last_word_on_entries_counts(tree: Tree, written: str, kind: str) -> None:
    assert loader(tree({**GRUB, "/etc/default/grub": f"GRUB_ENABLE_BLSCFG{written}\n"})).kind == kind


def test_entries_in_two_places_are_not_taken_for_all_that_there_are(tree: Tree) -> None:
    found = loader(tree({**SYSTEMD_BOOT, "/efi/loader/entries/linux.conf": ENTRY}))
    assert not found.recognised
    assert "/boot/loader/entries and /efi/loader/entries" in (found.problem or "")


def test_where_two_boot_loaders_lie_the_firmware_says_which_started_the_pc(tree: Tree) -> None:
    assert loader(tree({**GRUB, **SYSTEMD_BOOT})).kind == "grub"
    assert loader(tree({**GRUB, **SYSTEMD_BOOT, **says("systemd-boot 257.7-1")})).kind == "systemd-boot"
    assert loader(tree({**GRUB, **SYSTEMD_BOOT, **says("GRUB 2.12")})).kind == "grub"
    assert loader(tree({**GRUB, **SYSTEMD_BOOT, **says("rEFInd 0.14")})).kind == "other"


def test_what_is_common_to_all_entries_is_set_for_the_next_start(tree: Tree) -> None:
    other = {"/boot/loader/entries/other.conf": ENTRY.replace(" intel_iommu=on", "")}
    assert loader(tree(SYSTEMD_BOOT)).parameters == ("intel_iommu=on",)
    assert loader(tree({**SYSTEMD_BOOT, **other})).parameters == ()


def test_what_is_written_otherwise_is_not_recognised_and_says_where(tree: Tree) -> None:
    found = loader(tree({**GRUB, "/etc/default/grub": ". /etc/mine\n"}))
    assert (found.recognised, found.parameters) == (False, None)
    assert found.problem == "/etc/default/grub, line 1: more than an assignment on one line"


def test_a_pc_without_either_is_neither(tree: Tree) -> None:
    assert loader(tree({"/etc/os-release": "ID=x\n"})).kind == "other"
    assert read_boot_loader(tree({}) + "/nothing") is None


def test_the_machine_id_in_the_names_of_entries_does_not_leave_the_pc(tree: Tree) -> None:
    name = "/boot/loader/entries/0123456789abcdef0123456789abcdef-6.12.conf"
    host = anonymise(read(tree({"/boot/loader/loader.conf": "", name: ENTRY})))
    assert b"0123456789abcdef" not in encode(host)
    assert decode(encode(host), "anonymised") == host
