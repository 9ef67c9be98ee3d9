"""The questions of ``clienthv new``, one after another, with what each answer means on the PC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, cast

from msgspec import structs

from clienthv import api, drafts, guests, places, profiles
from clienthv.cli import terminal
from clienthv.cli.asking import Asker
from clienthv.cli.common import note, progress
from clienthv.drafts import Draft, Gpu, Portability
from clienthv.errors import DiskError, UsageError
from clienthv.model import profile as profile_model
from clienthv.model import usb, values
from clienthv.model.contents import ImageContents
from clienthv.model.guest import GENERIC, GuestOs, built_in
from clienthv.model.host import Host
from clienthv.model.plan import Plan
from clienthv.model.profile import ProfileText
from clienthv.model.roles import RoleName
from clienthv.model.usb import UsbDevice
from clienthv.report import drafts as report

_NONE: Final = "none"
_DISK: Final = "40 GiB"


class Given(NamedTuple):
    """What the flags answer; None, or nothing, for what they leave open."""

    name: str | None
    disk: str | None
    cdrom: str | None
    new_disk: str | None
    os: str | None
    virtio: bool | None
    portability: str | None
    gpu: str | None
    allow: tuple[str, ...]
    vcpus: int | None
    memory: str | None
    usb: tuple[str, ...]
    inspect: bool


class Source(NamedTuple):
    """What the VM starts from: an image with what is in it, an installer, the size of a disk to make."""

    disk: str | None = None
    cdrom: str | None = None
    new_disk: str | None = None
    contents: ImageContents | None = None
    os: str | None = None


class Interview:
    """One round of questions about a VM on one PC. Answers of flags are taken as a person's are."""

    def __init__(self, host: Host, asker: Asker, given: Given) -> None:
        self._host = host
        self._asker = asker
        self._given = given
        self._gpus = drafts.gpus(api.devices(host), host)
        self._plan: Plan | None = None

    def hold(self, can_be_named: Callable[[str], object]) -> tuple[Source, Draft]:
        """Ask what no flag answers. ``can_be_named`` raises ClienthvError for a name that cannot be taken."""
        source = self._source()
        draft = self._system(source)
        draft = self._name(draft, can_be_named)
        for question in (self._virtio, self._portability, self._graphics, self._vcpus, self._memory, self._usb):
            draft = question(draft)
        return source, draft

    # --- what it starts from

    def _source(self) -> Source:
        given = self._given
        if given.cdrom is not None or given.new_disk is not None:
            source = self._installer(given.cdrom) if given.cdrom not in (None, _NONE) else Source()
            if given.disk not in (None, _NONE) and given.new_disk is None:
                source = self._image(given.disk or "")._replace(cdrom=source.cdrom, os=source.os)
            elif given.disk not in (None, _NONE):
                source = source._replace(disk=str(places.expanded(given.disk or "").absolute()))
        else:
            question = "Image to run, or ISO to install from (its path, or none)"
            source = self._asker.ask(question, "--disk or --cdrom", given.disk, _NONE, self._file)
        if given.new_disk is not None or (source.cdrom is not None and source.disk is None):
            size = self._asker.ask("Size of the new disk", "--new-disk", given.new_disk, _DISK, _size)
            return source._replace(new_disk=values.format_mib(size))
        return source

    def _file(self, text: str) -> Source:
        if text in ("", _NONE):
            return Source()
        return self._installer(text) if guests.is_installer(places.expanded(text)) else self._image(text)

    def _installer(self, text: str | None) -> Source:
        path = _there(text or "")
        if not guests.is_installer(path):
            msg = f"{path} is no ISO image"
            raise DiskError(msg, hint="an installed system is given with --disk")
        found = guests.of_installer(path)
        terminal.say(f"  → {path.name} installs {found or 'a system that osinfo-db does not know it by'}")
        return Source(cdrom=str(path), os=found)

    def _image(self, text: str) -> Source:
        from clienthv.lifecycle import subjects

        path = _there(text)
        with progress(f"looking into {path.name}"):
            contents = subjects.of_image(path, profiles.DEFAULT, note, inspect=self._given.inspect).contents
        if contents is not None:
            known = " ".join(word for word in (contents.product or contents.os, contents.architecture) if word)
            terminal.say(f"  → {path.name}: {known or contents.problem or 'nothing is known of what is in it'}")
        found = contents.os if contents is not None and guests.OSINFO_ID.fullmatch(contents.os or "") else None
        return Source(disk=str(path), contents=contents, os=found)

    # --- what it is

    def _system(self, source: Source) -> Draft:
        contents = source.contents
        drivers = contents.boot_drivers if contents is not None else ()
        unfit = next((d.evidence for d in drivers if d.driver == "virtio-blk" and d.bootable is False), None)

        def made(text: str) -> Draft:
            guest = _guest(text)
            virtio = guest.family != "windows" and (guest.family != "other" or guest.id in GENERIC)
            if contents is not None and guest.family == "windows":
                virtio = contents.boots_from("virtio-blk") is True
            draft = Draft(
                name=drafts.name_for(guest),
                guest=guest,
                virtio=virtio,
                size=drafts.size_for(guest, "balanced", self._host),
                no_virtio_disk=unfit,
            )
            return self._planned(draft)

        question = "Operating system (an id of osinfo-db such as debian11 or win11, linux, unknown)"
        return self._asker.ask(question, "--os", self._given.os, source.os or "linux", made)

    def _name(self, draft: Draft, can_be_named: Callable[[str], object]) -> Draft:
        def named(text: str) -> Draft:
            can_be_named(text)
            return structs.replace(draft, name=text)

        return self._asker.ask("Name of the profile", "NAME", self._given.name, draft.name, named)

    def _virtio(self, draft: Draft) -> Draft:
        if draft.guest.family != "windows" or drafts.is_old(draft.guest):
            return draft
        given = {True: "yes", False: "no", None: None}[self._given.virtio]
        question = "Are virtio drivers installed in it (virtio-win)? yes or no"
        return self._asker.ask(
            question, "--virtio or --no-virtio", given, "yes" if draft.virtio else "no",
            lambda text: self._planned(structs.replace(draft, virtio=_yes(text))),
        )  # fmt: skip

    def _portability(self, draft: Draft) -> Draft:
        if drafts.is_old(draft.guest):
            return draft
        if self._asker.person and self._given.portability is None:
            about = [(name, api.load_profile(name).description) for name in drafts.PORTABILITIES]
            terminal.put(report.portability_choices(about), err=True)

        def chosen(text: str) -> Draft:
            if text not in drafts.PORTABILITIES:
                msg = f"{text!r} is none of {', '.join(drafts.PORTABILITIES)}"
                raise UsageError(msg, hint="balanced is fast and still moves")
            kind = cast("Portability", text)
            return self._planned(
                structs.replace(draft, portability=kind, size=drafts.size_for(draft.guest, kind, self._host))
            )

        return self._asker.ask("How portable", "--portability", self._given.portability, draft.portability, chosen)

    # --- which devices of the PC it gets

    def _graphics(self, draft: Draft) -> Draft:
        default = drafts.AUTO if draft.portability == "performance" else drafts.VIRTUAL
        if self._asker.person and self._given.gpu is None:
            terminal.put(report.gpu_choices(self._gpus), err=True)

        def chosen(text: str) -> Draft:
            auto = text == drafts.AUTO
            gpu = None if auto else self._gpu(text)
            if gpu is None:
                if self._given.allow:
                    msg = "--allow is for a graphics card that --gpu names"
                    raise UsageError(msg, hint="give --gpu ADDRESS as well; clienthv devices lists them")
                return self._planned(structs.replace(draft, gpu=None, driver=None, allow=(), auto=auto))
            allow = self._allowed(gpu)
            driver = drafts.driver_of(gpu, self._host)
            return self._planned(
                structs.replace(draft, gpu=gpu, driver=driver, allow=allow, auto=False), (gpu.address,)
            )

        return self._asker.ask(
            "Graphics card (number, address, virtual or auto)", "--gpu", self._given.gpu, default, chosen
        )

    def _gpu(self, text: str) -> Gpu | None:
        """The card that is meant. Raises UsageError."""
        if text in (drafts.VIRTUAL, "0", _NONE):
            return None
        if text.isdecimal() and 0 < int(text[:9]) <= len(self._gpus):
            gpu = self._gpus[int(text[:9]) - 1]
            if gpu.free or not gpu.roles:
                return gpu
            msg = f"{gpu.address} is not handed over by its number: {'; '.join(gpu.dangers)}"
            raise UsageError(msg, hint="name it by its address if you mean it")
        try:
            address = str(values.PciAddress.parse(text))
        except ValueError:
            address = text
        found = next((gpu for gpu in self._gpus if gpu.address == address), None)
        if found is None:
            there = ", ".join(gpu.address for gpu in self._gpus) or "none"
            msg = f"{self._host.name} has no graphics card {text}"
            raise UsageError(msg, hint=f"there are: {there}; {drafts.VIRTUAL} hands over none")
        return found

    def _allowed(self, gpu: Gpu) -> tuple[RoleName, ...]:
        """The uses by the host that are given up for a card, each by name or after a warning. Raises UsageError."""
        missing = [role for role in gpu.roles if role.value not in self._given.allow]
        if missing:
            danger = f"{gpu.address} is not to be had without harm: {'; '.join(gpu.dangers)}"
            if self._asker.person:
                terminal.put([report.danger(danger)], err=True)
            if not self._asker.confirm("Hand it over all the same?"):
                words = " ".join(f"--allow {role.value}" for role in missing)
                raise UsageError(danger, hint=f"take another, or say that you mean it: --gpu {gpu.address} {words}")
        return gpu.roles

    def _usb(self, draft: Draft) -> Draft:
        alike = Counter(d.ids for d in self._host.usb or ())
        there = [(_called(d, alike), d.label) for d in self._host.usb or () if _is_for_guests(d)]
        given = ",".join(self._given.usb) if self._given.usb else None
        if given is None and self._asker.person:
            if not there:
                return draft
            terminal.put(report.usb_choices(there), err=True)

        def chosen(text: str) -> Draft:
            words = [] if text in ("", _NONE) else [word.strip() for word in text.split(",") if word.strip()]
            return self._planned(structs.replace(draft, usb=tuple(dict.fromkeys(_usb_name(w, there) for w in words))))

        question = "USB devices to hand over (numbers or names, with commas between)"
        return self._asker.ask(question, "--usb", given, _NONE, chosen)

    # --- how big it is

    def _vcpus(self, draft: Draft) -> Draft:
        def chosen(text: str) -> Draft:
            if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 1024):
                msg = f"{text!r} is no number of processors"
                raise UsageError(msg, hint="from 1 to 1024")
            size = draft.size._replace(vcpus=int(text), least_vcpus=min(draft.size.least_vcpus, int(text)))
            return self._planned(structs.replace(draft, size=size))

        given = None if self._given.vcpus is None else str(self._given.vcpus)
        return self._asker.ask("Virtual processors", "--vcpus", given, str(draft.size.vcpus), chosen)

    def _memory(self, draft: Draft) -> Draft:
        def chosen(text: str) -> Draft:
            mib = _size(text)
            size = draft.size._replace(memory_mib=mib, least_memory_mib=min(draft.size.least_memory_mib, mib))
            return self._planned(structs.replace(draft, size=size))

        default = values.format_mib(draft.size.memory_mib)
        return self._asker.ask("Memory", "--memory", self._given.memory, default, chosen)

    def _planned(self, draft: Draft, asked: tuple[str, ...] = ()) -> Draft:
        """The draft, once it was planned and what that means was said. Raises HostError, PlanError, ProfileError."""
        written = ProfileText(name=draft.name, origin="the profile", text=drafts.text(draft))
        profile = profile_model.parse(profile_model.chain_of(written, profiles.find_next))
        plan = api.plan(self._host, profile)
        if not terminal.manner().quiet:
            terminal.put(lines, err=True) if (lines := list(report.consequences(self._plan, plan, asked))) else None
        self._plan = plan
        return draft


def _there(text: str) -> Path:
    path = places.expanded(text).absolute()
    if not path.is_file():
        msg = f"{path} is not there, or no file"
        raise DiskError(msg, hint="give the path of an image or an ISO")
    return path


def _size(text: str) -> int:
    try:
        return values.parse_mib(text)
    except ValueError as e:
        raise UsageError(str(e), hint="a whole number and its unit: MiB, GiB or TiB") from e


def _yes(text: str) -> bool:
    words = {"yes": True, "y": True, "no": False, "n": False}
    if text.lower() not in words:
        msg = f"{text!r} is neither yes nor no"
        raise UsageError(msg, hint="say yes or no")
    return words[text.lower()]


def _guest(text: str) -> GuestOs:
    """The system that is meant; one newer than osinfo-db is taken by the beginning of its id. Raises UsageError."""
    found = guests.read(text)
    if found.found or text in GENERIC:
        return found
    if built_in(text).family != "other" and guests.OSINFO_ID.fullmatch(text):
        note(f"  osinfo-db has no {text}; it is taken for a {built_in(text).family} system of these years")
        return found
    near = guests.nearest(text)
    if near and near[0].name == text:
        return guests.read(near[0].id)
    shown = ", ".join(f"{k.id} ({k.name})" for k in near)
    msg = f"osinfo-db has no operating system {text!r}"
    raise UsageError(msg, hint=f"did you mean {shown}?" if shown else "linux or unknown do for any")


def _is_for_guests(device: UsbDevice) -> bool:
    return bool(device.vendor_id and device.product_id) and not device.is_hub


def _called(device: UsbDevice, alike: Mapping[str, int]) -> str:
    """What a profile calls a device: its ids, and its port where there are alike ones."""
    return device.ids if alike[device.ids] == 1 else f"{device.ids}@{device.port}"


def _usb_name(word: str, there: list[tuple[str, str]]) -> str:
    """What a profile calls the device that a number or a name means. Raises UsageError."""
    if word.isdecimal() and 0 < int(word[:9]) <= len(there):
        return there[int(word[:9]) - 1][0]
    try:
        return str(usb.wish(word))
    except ValueError as e:
        raise UsageError(str(e), hint="a number of the list, ids, ids@port, or class:webcam and the like") from e
