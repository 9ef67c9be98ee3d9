"""The profile: what a guest is, how big, and per kind of device an ordered ladder of strategies."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from clienthv.errors import ProfileError
from clienthv.model import values
from clienthv.model.host import RoleName
from clienthv.model.plan import STRATEGIES, Kind, Strategy
from clienthv.model.selector import Selector
from clienthv.model.usb import USB_NAME_PATTERN, UsbName

SCHEMA: Final = 1
PROFILE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_MAX_EXTENDS: Final = 8

Driver = Literal["virtio", "nvidia", "amd", "intel"]
CpuModel = Literal["host-passthrough", "host-model"]
DRIVERS: Final = get_args(Driver)
CPU_MODELS: Final = get_args(CpuModel)
Size = Annotated[str, Meta(pattern=values.SIZE_PATTERN, description="a size with its unit: 512 MiB, 8 GiB")]
Ladder = Annotated[tuple[Strategy, ...], Meta(min_length=1, description="strategies, the most wanted first")]

UsbNames = Annotated[
    tuple[Annotated[str, Meta(pattern=USB_NAME_PATTERN)], ...],
    # The guest's controller has 15 ports at most (QEMU, hw/usb/hcd-xhci.h, XHCI_MAXPORTS_2), and the pointer has one.
    Meta(max_length=14, description="USB devices to hand over: 046d:c52b, or 046d:c52b@1-2.3 for the one on that port"),
]


class Guest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs inside: its osinfo id, the device drivers it carries beyond what every OS has, and its manners.

    ``power_button`` is whether it shuts down when its (ACPI) power button is pressed, as installed desktops do.
    """

    os: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]*$(?!\n)", max_length=64)] = "unknown"
    drivers: tuple[Driver, ...] = ()
    power_button: bool = True


class SizeOf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How big the VM is. The ``_min`` values say how far it may shrink on a small PC; without them it may not."""

    vcpus: Annotated[int, Meta(ge=1, le=1024)] = 2
    vcpus_min: Annotated[int, Meta(ge=1, le=1024)] | None = None
    memory: Size = "4 GiB"
    memory_min: Size | None = None


class Boot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Direct kernel boot: absolute paths (the last match of a ``*`` is taken) and the kernel's command line."""

    kernel: Annotated[str, Meta(pattern="^/", max_length=1024)] | None = None
    initrd: Annotated[str, Meta(pattern="^/", max_length=1024)] | None = None
    cmdline: Annotated[str, Meta(max_length=2048)] | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of device: the ladder, which of the host's devices may be used, and which refusals are lifted.

    ``require`` are the strategies without which there shall be no VM; ``forbid`` are never taken.
    ``allow`` lifts the refusal to take what the host itself uses, only for devices that ``select`` names exactly.
    ``devices`` are single USB devices, for ``usb`` alone.
    ``trust``, for the network card alone, lets the guest change its virtual function's MAC address and filters.
    """

    prefer: Ladder | None = None
    require: tuple[Strategy, ...] = ()
    forbid: tuple[Strategy, ...] = ()
    select: tuple[Selector, ...] = ()
    allow: tuple[RoleName, ...] = ()
    model: CpuModel | None = None
    devices: UsbNames = ()
    trust: bool = False


class Devices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ladders, one table per kind."""

    cpu: Device = Device()
    firmware: Device = Device()
    gpu: Device = Device()
    nic: Device = Device()
    disk: Device = Device()
    audio: Device = Device()
    usb: Device = Device()
    input: Device = Device()
    tpm: Device = Device()
    display: Device = Device()


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole profile with everything it extends merged in."""

    schema: Annotated[int, Meta(ge=1, le=SCHEMA)] = SCHEMA
    name: str = ""
    description: Annotated[str, Meta(max_length=200)] = ""
    guest: Guest = Guest()
    size: SizeOf = SizeOf()
    boot: Boot = Boot()
    devices: Devices = Devices()

    def device(self, kind: Kind) -> Device:
        """The table of one kind."""
        table: Device = getattr(self.devices, kind.value)
        return table

    def ladder(self, kind: Kind) -> tuple[Strategy, ...]:
        """The ladder of one kind; a profile that gives none gets the portable end of what the kind knows.

        What is required ends it: strategies outside of that are no way down.
        """
        device = self.device(kind)
        ladder = device.prefer or DEFAULT_LADDERS[kind]
        return tuple(s for s in ladder if s in device.require) if device.require else ladder


_S = Strategy
DEFAULT_LADDERS: Final[dict[Kind, tuple[Strategy, ...]]] = {
    Kind.CPU: STRATEGIES[Kind.CPU],
    Kind.FIRMWARE: (_S.UEFI, _S.BIOS),
    Kind.GPU: (_S.PARAVIRTUAL, _S.EMULATED),
    Kind.NIC: (_S.PARAVIRTUAL, _S.EMULATED),
    Kind.DISK: (_S.PARAVIRTUAL, _S.EMULATED),
    Kind.AUDIO: (_S.EMULATED, _S.OMIT),
    Kind.USB: (_S.EMULATED, _S.OMIT),
    Kind.INPUT: (_S.EMULATED, _S.OMIT),
    Kind.TPM: (_S.OMIT,),
    Kind.DISPLAY: (_S.PARAVIRTUAL, _S.EMULATED),
}


class ProfileText(msgspec.Struct, frozen=True):
    """A profile as written: its name, where it comes from, and the whole text."""

    name: str
    origin: str
    text: str


def parse(chain: tuple[ProfileText, ...]) -> Profile:
    """Merge a chain of texts, the profile itself first and what it extends after it. Raises ProfileError."""
    merged: dict[str, Any] = {}
    for source in reversed(chain):
        data = toml(source)
        data.pop("extends", None)
        alone = _decode(data, source)
        _check_ladders(alone, source)
        _check_boot(alone, source)
        _check_usb(alone, source)
        merged = _merge(merged, data)
    first = chain[0]
    profile = msgspec.structs.replace(_decode(merged, first), name=first.name)
    _check_required(profile, first)
    _check_allowed(profile, first)
    _check_size(profile, first)
    return profile


def chain_of(first: ProfileText, find: Callable[[str, ProfileText], ProfileText]) -> tuple[ProfileText, ...]:
    """The profile and everything it extends, in that order. Raises ProfileError.

    ``find`` looks up a name for the profile that extends it.
    """
    chain = [first]
    while (parent := extends_of(chain[-1])) is not None:
        found = find(parent, chain[-1])
        if any(found.origin == link.origin for link in chain) or len(chain) > _MAX_EXTENDS:
            way = " → ".join([link.name for link in chain] + [parent])
            msg = f"{first.origin}: extends goes round in a circle or too deep: {way}"
            raise ProfileError(msg, hint="let the profile extend one that does not lead back to it")
        chain.append(found)
    return tuple(chain)


def extends_of(source: ProfileText) -> str | None:
    """The name of the profile that this one extends. Raises ProfileError."""
    name = toml(source).get("extends")
    if name is not None and (not isinstance(name, str) or not PROFILE_NAME.match(name)):
        msg = f"{source.origin}: extends: expected a profile's name, got {name!r}"
        raise ProfileError(msg, hint="see clienthv profiles for the names")
    return name


def toml(source: ProfileText) -> dict[str, Any]:
    """The text as a TOML table. Raises ProfileError."""
    try:
        return tomllib.loads(source.text)
    except (ValueError, RecursionError) as e:  # ValueError: also a number too long to be one
        msg = f"{source.origin} is not valid TOML: {e}"
        raise ProfileError(msg, hint="text values need quotes; tables are written [devices.gpu]") from e


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _decode(data: dict[str, Any], source: ProfileText) -> Profile:
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        msg = f"{source.origin}: schema: {schema} is newer than this clienthv, which reads up to {SCHEMA}"
        raise ProfileError(msg, hint="update clienthv")
    if "name" in data:
        msg = f"{source.origin}: name: unknown key 'name'"
        raise ProfileError(msg, hint="a profile is named by its file")
    try:
        return msgspec.convert(data, Profile)
    except msgspec.ValidationError as e:
        raise _explained(e, data, source) from e


_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_AT_PATH = re.compile(r" - at `(?:key in )?\$?\.?(?P<path>[^`]*)`\Z")
_BAD_ENUM = re.compile(r"Invalid enum value (?P<value>'.*'|\d+)", re.DOTALL)


def _explained(error: msgspec.ValidationError, data: dict[str, Any], source: ProfileText) -> ProfileError:
    text = str(error)
    at = _AT_PATH.search(text)
    path = at.group("path") if at else ""
    what = text[: at.start()] if at else text
    hint = "clienthv profiles show balanced prints a complete example"
    if unknown := _UNKNOWN_FIELD.match(what):
        key = unknown.group("key")
        allowed = _fields_at(path)
        near = difflib.get_close_matches(key, allowed, n=1)
        full = f"{path}.{key}" if path else key
        what = f"unknown key {key!r}"
        hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(allowed)}"
        return ProfileError(f"{source.origin}: {full}: {what}", hint=hint)
    if bad := _BAD_ENUM.match(what):
        choices = _choices_at(path)
        value = bad.group("value").strip("'")
        near = difflib.get_close_matches(value, choices, n=1)
        what = f"{value!r} is not one of {', '.join(choices)}"
        hint = f"did you mean {near[0]!r}?" if near else hint
    elif "matching regex" in what:
        what = f"{_value_at(data, path)!r} is not {_form_at(path)}"
    return ProfileError(f"{source.origin}: {path or 'the profile'}: {what}", hint=hint)


def _form_at(path: str) -> str:
    forms = {
        "size.memory": 'a size with its unit, such as "8 GiB"',
        "size.memory_min": 'a size with its unit, such as "8 GiB"',
        "guest.os": "an osinfo id, such as debian12 or win11",
        "boot.kernel": "an absolute path",
        "boot.initrd": "an absolute path",
    }
    if ".devices[" in path:
        return "a USB device such as 046d:c52b or, on one port, 046d:c52b@1-2.3 (see lsusb; lower-case)"
    device = 'a PCI address such as 0000:01:00.0, "10de:1b80", "vendor:amd", "name:*RTX*" or a path'
    return forms.get(path, device if ".select" in path else "of the expected form")


def _value_at(data: Any, path: str) -> Any:
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list | tuple) and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
    return data


def _fields_at(path: str) -> list[str]:
    types: dict[str, Any] = {"": Profile, "guest": Guest, "size": SizeOf, "boot": Boot, "devices": Devices}
    model = types.get(path, Device if path.startswith("devices.") else Profile)
    extra = ["extends"] if model is Profile else []
    return sorted([f.encode_name for f in msgspec.structs.fields(model) if f.name != "name"] + extra)


def _choices_at(path: str) -> list[str]:
    if ".allow" in path:
        return [r.value for r in RoleName]
    if path.startswith("guest.drivers"):
        return list(DRIVERS)
    if path.endswith(".model"):
        return list(CPU_MODELS)
    parts = path.split(".")
    if len(parts) > 1 and parts[1] in set(STRATEGIES):
        return [s.value for s in STRATEGIES[Kind(parts[1])]]
    return [s.value for s in Strategy]


def _check_ladders(profile: Profile, source: ProfileText) -> None:
    for kind in STRATEGIES:
        device = profile.device(kind)
        known = STRATEGIES[kind]
        _check_known(kind, device, source)
        if len(set(device.prefer or ())) != len(device.prefer or ()):
            msg = f"{source.origin}: devices.{kind}.prefer names a strategy twice"
            raise ProfileError(msg, hint="each rung belongs on a ladder once")
        if device.model is not None and kind is not Kind.CPU:
            msg = f"{source.origin}: devices.{kind}.model: only the cpu has a model to choose"
            raise ProfileError(msg, hint="remove the key")
        if device.trust and kind is not Kind.NIC:
            msg = f"{source.origin}: devices.{kind}.trust: only the nic has a virtual function to trust"
            raise ProfileError(msg, hint="remove the key")
        if device.select and Strategy.PASSTHROUGH not in known:
            msg = f"{source.origin}: devices.{kind}.select: no PCI device of the host becomes a {kind}"
            raise ProfileError(msg, hint="remove the key")


def _check_boot(profile: Profile, source: ProfileText) -> None:
    for key in ("kernel", "initrd", "cmdline"):
        if not values.is_plain_text(getattr(profile.boot, key) or ""):
            msg = f"{source.origin}: boot.{key}: has characters that a domain cannot carry"
            raise ProfileError(msg, hint="leave out control characters")


def _check_known(kind: Kind, device: Device, source: ProfileText) -> None:
    for key in ("prefer", "require", "forbid"):
        for strategy in getattr(device, key) or ():
            if strategy not in STRATEGIES[kind]:
                msg = f"{source.origin}: devices.{kind}.{key}: {strategy.value!r} is not a strategy for {kind}"
                raise ProfileError(msg, hint=f"known for {kind}: {', '.join(STRATEGIES[kind])}")


def _check_usb(profile: Profile, source: ProfileText) -> None:
    """Single USB devices belong to usb alone, and each is named once."""
    for kind in STRATEGIES:
        names = [UsbName.parse(text) for text in profile.device(kind).devices]
        if names and kind is not Kind.USB:
            msg = f"{source.origin}: devices.{kind}.devices: single USB devices are handed over by devices.usb alone"
            raise ProfileError(msg, hint="put the list into the table [devices.usb]")
        for name in names:
            if names.count(name) > 1:
                msg = f"{source.origin}: devices.{kind}.devices names {name} twice"
                raise ProfileError(msg, hint="a device can be handed over once; name each of several by its @port")
            if name.port is not None and UsbName(name.vendor_id, name.product_id) in names:
                msg = f"{source.origin}: devices.{kind}.devices names {name.ids} with a port and without one"
                raise ProfileError(msg, hint="give each of them its @port, or name it once")


def _check_required(profile: Profile, source: ProfileText) -> None:
    """What is required is on the ladder and not forbidden; the ladder may come from another link of the chain."""
    for kind in STRATEGIES:
        device = profile.device(kind)
        for strategy in device.require:
            if strategy in device.forbid or strategy not in (device.prefer or DEFAULT_LADDERS[kind]):
                what = "forbidden too" if strategy in device.forbid else f"not on the ladder of {kind}"
                msg = f"{source.origin}: devices.{kind}.require: {strategy.value!r} is {what}"
                raise ProfileError(msg, hint=f"put it into devices.{kind}.prefer, or take it out of require and forbid")


def _check_allowed(profile: Profile, source: ProfileText) -> None:
    """A refusal is lifted for a named device alone; the name may come from another link of the chain."""
    for kind in STRATEGIES:
        device = profile.device(kind)
        if device.allow and not device.select:
            msg = f"{source.origin}: devices.{kind}.allow needs devices.{kind}.select with the exact address"
            raise ProfileError(msg, hint='name the device: select = ["0000:01:00.0"]')


def _check_size(profile: Profile, source: ProfileText) -> None:
    size = profile.size
    if (size.vcpus_min or size.vcpus) > size.vcpus:
        msg = f"{source.origin}: size.vcpus_min: {size.vcpus_min} is more than size.vcpus ({size.vcpus})"
        raise ProfileError(msg, hint="the minimum is what the VM may shrink to")
    for key, text in (("memory", size.memory), ("memory_min", size.memory_min or size.memory)):
        try:
            mib = values.parse_mib(text)
        except ValueError as e:
            msg = f"{source.origin}: size.{key}: {e}"
            raise ProfileError(msg, hint='write it like "8 GiB"') from e
        if mib < 64:
            msg = f"{source.origin}: size.{key}: {text} is too small for any guest"
            raise ProfileError(msg, hint="64 MiB is the least")
    if values.parse_mib(size.memory_min or size.memory) > values.parse_mib(size.memory):
        msg = f"{source.origin}: size.memory_min: {size.memory_min} is more than size.memory ({size.memory})"
        raise ProfileError(msg, hint="the minimum is what the VM may shrink to")
