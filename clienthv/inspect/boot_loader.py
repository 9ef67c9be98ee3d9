"""What starts the kernel, where its parameters are kept, and whether they are written in a form that is understood."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from clienthv.inspect import kernelstub, loader_entries
from clienthv.inspect.cmdline import key_of
from clienthv.inspect.files import Tree
from clienthv.inspect.grub import VARIABLES, NotUnderstoodError, in_force
from clienthv.inspect.iommu import PARAMETERS
from clienthv.model.installation import BootLoader, Parameter, ParametersFile, Regenerate

DEFAULTS: Final = "/etc/default/grub"
DROP_INS: Final = "/etc/default/grub.d"
# What a boot loader calls itself (systemd, "The Boot Loader Interface", LoaderInfo).
LOADER_INFO: Final = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_MENUS: Final = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
_MAKERS: Final[tuple[tuple[str, Regenerate], ...]] = (
    ("update-grub", "update-grub"),
    ("grub-mkconfig", "grub-mkconfig -o /boot/grub/grub.cfg"),
    ("grub2-mkconfig", "grub2-mkconfig -o /boot/grub2/grub.cfg"),
)
# What grub-mkconfig writes above the part of each of its scripts; who edits the menu by hand keeps none of them.
_MADE: Final = "### BEGIN /etc/grub.d/"
_BIN: Final = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_BLS: Final = re.compile(r"^[ \t]*(?:export[ \t]+)?GRUB_ENABLE_BLSCFG=[\"']?([^\"'\s]*)", re.MULTILINE)
_MOST_ENTRIES: Final = 64

Entries = Literal["grub-bls", "systemd-boot", "kernelstub"]


def read_boot_loader(root: str = "/") -> BootLoader | None:
    """The boot loader of the PC whose files lie below ``root``; None where there is no /etc to look into."""
    return boot_loader_of(Tree(root))


def boot_loader_of(tree: Tree) -> BootLoader | None:
    """The boot loader; None for a tree that has no /etc to look into."""
    if not tree.exists("/etc"):
        return None
    said = (tree.text(LOADER_INFO) or "").replace("\0", "")
    menu = next((path for path in _MENUS if tree.exists(path) is not False and _there(tree, path)), None)
    if tree.exists(kernelstub.CONFIGURATION) and "GRUB" not in said:
        return _by_entries(tree, "kernelstub", (kernelstub.CONFIGURATION,))
    if "systemd-boot" in said or (not said and menu is None and _has_loader(tree)):
        return _by_entries(tree, "systemd-boot", ())
    if said and "GRUB" not in said:
        return BootLoader(kind="other", problem="the boot loader is neither GRUB nor systemd-boot")
    if menu is None or tree.exists(DEFAULTS) is not True:
        return BootLoader(kind="other", problem="neither GRUB's nor systemd-boot's files are where they usually are")
    if _BLS.findall(tree.text(DEFAULTS) or "")[-1:] == ["true"]:  # also where this user may not see any
        return _by_entries(tree, "grub-bls", (DEFAULTS,))
    return _by_menu(tree)


def _there(tree: Tree, path: str) -> bool:
    """Whether a menu is there, or its folder is closed to this user."""
    return tree.exists(path) is True or tree.exists(path.rpartition("/")[0]) is True


def _has_loader(tree: Tree) -> bool:
    return any(tree.exists(folder.removesuffix("/entries") + "/loader.conf") for folder in loader_entries.FOLDERS)


def default_files(tree: Tree) -> tuple[str, ...]:
    """GRUB's files with defaults, in the order in which they are read."""
    names = tree.names(DROP_INS) or ()
    found = (f"{DROP_INS}/{name}" for name in names if name.endswith(".cfg") and not name.startswith("."))
    return (DEFAULTS, *(path for path in found if _is(path, ParametersFile)))


def _by_menu(tree: Tree) -> BootLoader:
    files = default_files(tree)
    programs = (command for name, command in _MAKERS if any(tree.exists(f"{folder}/{name}") for folder in _BIN))
    regenerate: Regenerate = next(programs, "")
    loader = BootLoader(kind="grub", files=files, regenerate=regenerate)
    if not regenerate:
        return msgspec.structs.replace(loader, problem="no program that makes GRUB's menu is installed (grub-mkconfig)")
    written = regenerate.rpartition(" ")[2] if " " in regenerate else _MENUS[0]
    menu = tree.text(written)
    if menu and _MADE not in menu:
        told = f"{written}: was not made by grub-mkconfig, which would write over it"
        return msgspec.structs.replace(loader, regenerate="", problem=told)
    try:
        words = grub_words(tree, files)
    except NotUnderstoodError as e:
        return msgspec.structs.replace(loader, problem=str(e))
    return msgspec.structs.replace(loader, recognised=True, parameters=_about_iommu(words))


def grub_words(tree: Tree, files: Iterable[str]) -> tuple[str, ...]:
    """The kernel parameters that GRUB's defaults give. Raises NotUnderstoodError."""
    texts = tuple((path, _text(tree, path)) for path in files)
    return tuple(w for v in VARIABLES for place in in_force(texts, v) for w in place.assignment.words)


def _text(tree: Tree, path: str) -> str:
    text = tree.text(path)
    if text is None:
        msg = f"{path}: cannot be read by this user; root may"
        raise NotUnderstoodError(msg)
    return text


def _entries(tree: Tree) -> tuple[str, ...]:
    """The entries, in the first folder that has any."""
    for folder in loader_entries.FOLDERS:
        names = [name for name in tree.names(folder) or () if name.endswith(".conf") and not name.startswith(".")]
        if names:
            return tuple(path for name in names[:_MOST_ENTRIES] if _is(path := f"{folder}/{name}", ParametersFile))
    return ()


def _check_one_folder(tree: Tree) -> None:
    """systemd-boot shows the entries of the EFI system partition and of the one for kernels: those here may be either.

    Raises NotUnderstoodError where two folders have some.
    """
    filled = (f for f in loader_entries.FOLDERS if any(name.endswith(".conf") for name in tree.names(f) or ()))
    found = {tree.real(folder): folder for folder in filled}
    if len(found) > 1:
        msg = f"entries are in {' and '.join(found.values())}; which of them start this PC is not known"
        raise NotUnderstoodError(msg)


def _by_entries(tree: Tree, kind: Entries, more: tuple[str, ...]) -> BootLoader:
    cmdline = (loader_entries.KERNEL_CMDLINE,) if tree.exists(loader_entries.KERNEL_CMDLINE) else ()
    found = _entries(tree)
    loader = BootLoader(kind=kind, files=(*more, *cmdline, *found))
    try:
        if kind != "grub-bls":
            _check_one_folder(tree)
        linux = [path for path in found if loader_entries.starts_linux(_text(tree, path))]
        if not linux:
            msg = "no entry that starts a kernel is to be seen; where the parameters are kept is unknown"
            raise NotUnderstoodError(msg)
        words = [loader_entries.options_line(_text(tree, path), path).words for path in linux]
        for path in cmdline:
            loader_entries.kernel_cmdline(_text(tree, path))
        if kind == "grub-bls":
            grub_words(tree, more)
        elif kind == "kernelstub":
            kernelstub.options(_text(tree, kernelstub.CONFIGURATION))
    except NotUnderstoodError as e:
        return msgspec.structs.replace(loader, problem=str(e))
    common = tuple(word for word in words[0] if all(word in other for other in words))
    files = (*more, *cmdline, *linux)
    return BootLoader(kind=kind, files=files, recognised=True, parameters=_about_iommu(common))


def _about_iommu(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(word for word in words if key_of(word) in PARAMETERS and _is(word, Parameter))


def _is(text: str, form: Any) -> bool:
    """Whether a text has the form that a host document gives it."""
    try:
        msgspec.convert(text, form)
    except msgspec.ValidationError:
        return False
    return True
