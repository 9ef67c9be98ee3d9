"""What would be done for an advice on this PC, as it is now: files with their new text, packages, a group, a module."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from clienthv import doctor
from clienthv.hostfiles import files, parameters
from clienthv.hostfiles.files import Content, LeftAloneError
from clienthv.inspect import NotUnderstoodError, account_name, read_boot_loader
from clienthv.model.host import Host
from clienthv.model.installation import BootLoader, Group, Regenerate
from clienthv.process import Packager

MODULES_LOAD: Final = "/etc/modules-load.d/clienthv.conf"
MODPROBE: Final = "/etc/modprobe.d/clienthv.conf"
LIMITS: Final = "/etc/security/limits.d/clienthv.conf"
_HEADER: Final = "# Written by clienthv doctor --fix; clienthv doctor --undo removes it.\n"
_PARAMETERS: Final = frozenset({"iommu-parameter", "iommu-parameter-off", "remapping-parameter-off"})
_PACKAGES: Final = frozenset({"uefi-firmware", "swtpm", "passt", "qemu-opengl", "qemu-spice"})
_PACKAGERS: Final[dict[str, Packager]] = {"debian": "dpkg", "fedora": "rpm", "arch": "pacman"}
_PLAIN: Final = re.compile(r"[ \t]*(?:#.*|[A-Za-z0-9@_.+-]+(?:[ \t]+[A-Za-z0-9@_.,:=+-]+)*)?[ \t]*\Z")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")


class Edit(NamedTuple):
    """One file: what it is, and what it would be."""

    path: str
    before: Content | None
    after: Content


class Fix(NamedTuple):
    """All that is done for one advice; ``problem`` is why nothing can be."""

    advice: str
    edits: tuple[Edit, ...] = ()
    menu: Regenerate = ""
    packager: Packager | None = None
    packages: tuple[str, ...] = ()
    account: str | None = None
    group: Group | None = None
    module: str | None = None
    problem: str | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """What would be done, line by line: the difference in each file, then the programs that are run."""
        shown = [line for edit in self.edits for line in files.difference(edit.path, edit.before, edit.after)]
        if self.menu:
            shown.append(f"run: {self.menu}")
        if self.packages:
            shown.append(f"install: {' '.join(self.packages)}")
        if self.group is not None:
            shown.append(f"add the account {self.account} to the group {self.group}")
        if self.module is not None:
            shown.append(f"load the module {self.module}")
        return tuple(shown)


def of(code: str, host: Host, root: str = "/") -> Fix:
    """What would be done for an advice. Changes nothing."""
    try:
        fix = _of(code, host, root)
    except (LeftAloneError, NotUnderstoodError) as e:
        return Fix(code, problem=str(e))
    if fix.problem is None and not fix.lines:
        return Fix(code, problem="set already, and waits for a restart or a new login")
    return fix


def _of(code: str, host: Host, root: str) -> Fix:
    if code in _PARAMETERS:
        return _parameters(code, host, root)
    if code in _PACKAGES:
        family = doctor.family(host)
        if family is None:
            return Fix(code, problem="this distribution's package names are not known")
        return Fix(code, packager=_PACKAGERS[family], packages=doctor.packages(host, code))
    if code == "vf-module-option":
        return Fix(code, edits=_line(MODPROBE, doctor.module_option(host), root))
    if code in ("kvm-module", "vfio-module"):
        kvm = "kvm_intel" if host.cpu.virtualization == "vmx" else "kvm_amd"
        module = "vfio-pci" if code == "vfio-module" else kvm
        return Fix(code, edits=_line(MODULES_LOAD, module, root), module=module)
    if code in ("kvm-group", "libvirt-group", "memlock"):
        return _account(code, root)
    return Fix(code, problem="clienthv does not make this change")


def _account(code: str, root: str) -> Fix:
    name = account_name()
    if name is None or not _ACCOUNT.match(name):
        return Fix(code, problem="this account has no name that can be written into files")
    if code == "memlock":
        return Fix(code, edits=_line(LIMITS, f"{name} - memlock unlimited", root))
    return Fix(code, account=name, group="kvm" if code == "kvm-group" else "libvirt")


def _parameters(code: str, host: Host, root: str) -> Fix:
    loader = read_boot_loader(root) or BootLoader(kind="other")
    if not loader.recognised:
        return Fix(code, problem=loader.problem or "this boot loader is not known")
    found = {path: _there(path, root) for path in loader.files if files.read(path, root) is not None}
    add, remove = doctor.parameters_for(code, host)
    changed = parameters.edited(loader, {p: files.text_of(c, p) for p, c in found.items()}, add, remove)
    if not changed:
        return Fix(code, problem=f"{', '.join(found)}: set already, and waits for a restart")
    edits = tuple(Edit(path, found[path], _with(found[path], text)) for path, text in changed.items())
    return Fix(code, edits=edits, menu=loader.regenerate)


def _there(path: str, root: str) -> Content:
    content = files.read(path, root)
    if content is None:
        msg = f"{path}: went away while it was read"
        raise LeftAloneError(msg)
    return content


def _with(content: Content, text: str) -> Content:
    return Content(data=text.encode(), mode=content.mode, uid=content.uid, gid=content.gid)


def _line(path: str, line: str, root: str) -> tuple[Edit, ...]:
    """A line in a file of clienthv's own, which may be there from before."""
    if not files.real(path, root).parent.is_dir():
        msg = f"{path}: there is no such folder; the line to add is: {line}"
        raise LeftAloneError(msg)
    before = files.read(path, root)
    if before is None:
        return (Edit(path, None, Content(data=f"{_HEADER}{line}\n".encode(), mode=0o644, uid=0, gid=0)),)
    text = files.text_of(before, path)
    if not all(map(_PLAIN.match, text.split("\n"))) or (text and not text.endswith("\n")):
        msg = f"{path}: is written in another way than clienthv does; the line to add is: {line}"
        raise LeftAloneError(msg)
    if line in text.split("\n"):
        return ()
    return (Edit(path, before, _with(before, f"{text}{line}\n")),)
