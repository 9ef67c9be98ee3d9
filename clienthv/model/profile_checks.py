"""What types cannot say of a profile: which keys and values go together."""

from __future__ import annotations

from typing import Final

from clienthv.errors import ProfileError
from clienthv.model import usb as usb_model
from clienthv.model import values
from clienthv.model.plan import STRATEGIES, Kind, Strategy
from clienthv.model.tables import DEFAULT_LADDERS, Device, Profile, ProfileText
from clienthv.model.usb import UsbName

LEAST_MIB: Final = 64
"""The least memory that a profile may say, in MiB."""

_REMOVE: Final = "remove the key"
_OF_ONE_KIND: Final = {
    "model": (Kind.CPU, "only the cpu has a model to choose", _REMOVE),
    "trust": (Kind.NIC, "only the nic has a virtual function to trust", _REMOVE),
    "bus": (Kind.DISK, "only the disk has a bus to choose", _REMOVE),
    "pin": (Kind.CPU, "only the cpu is pinned", "put it into the table [devices.cpu]"),
    "redirect": (Kind.USB, "only usb has devices to redirect", "put it into the table [devices.usb]"),
    "looking_glass": (Kind.DISPLAY, "Looking Glass is a display", "put it into the table [devices.display]"),
    "network": (Kind.NIC, "only the nic is plugged into a network", "put the list into the table [devices.nic]"),
    "evdev": (Kind.INPUT, "only the input takes event devices", "put the list into the table [devices.input]"),
    "mdev_type": (Kind.GPU, "only the gpu can be a mediated device", "put it into the table [devices.gpu]"),
}
"""Keys that one kind alone has: the kind, why, and what to do with them elsewhere."""


def ladders(profile: Profile, source: ProfileText) -> None:
    """Ladders hold strategies of their kind, each once; keys stand where they mean something. Raises ProfileError."""
    for kind in STRATEGIES:
        device = profile.device(kind)
        known = STRATEGIES[kind]
        _known(kind, device, source)
        for key, what in (("prefer", "a strategy"), ("evdev", "a device")):
            names = getattr(device, key) or ()
            if len(set(names)) != len(names):
                msg = f"{source.origin}: devices.{kind}.{key} names {what} twice"
                raise ProfileError(msg, hint="each belongs there once")
        _of_its_kind(kind, device, source)
        if device.select and (kind in (Kind.INPUT, Kind.TPM) or Strategy.PASSTHROUGH not in known):
            msg = f"{source.origin}: devices.{kind}.select: no PCI device of the host becomes a {kind}"
            raise ProfileError(msg, hint="remove the key")


def _of_its_kind(kind: Kind, device: Device, source: ProfileText) -> None:
    for key, (only, why, hint) in _OF_ONE_KIND.items():
        if getattr(device, key) not in (None, False, 0, ()) and kind is not only:
            msg = f"{source.origin}: devices.{kind}.{key}: {why}"
            raise ProfileError(msg, hint=hint)


def boot(profile: Profile, source: ProfileText) -> None:
    """Direct boot names files that a domain can carry. Raises ProfileError."""
    for key in ("kernel", "initrd", "cmdline"):
        if not values.is_plain_text(getattr(profile.boot, key) or ""):
            msg = f"{source.origin}: boot.{key}: has characters that a domain cannot carry"
            raise ProfileError(msg, hint="leave out control characters")


def _known(kind: Kind, device: Device, source: ProfileText) -> None:
    for key in ("prefer", "require", "forbid"):
        for strategy in getattr(device, key) or ():
            if strategy not in STRATEGIES[kind]:
                msg = f"{source.origin}: devices.{kind}.{key}: {strategy.value!r} is not a strategy for {kind}"
                raise ProfileError(msg, hint=f"known for {kind}: {', '.join(STRATEGIES[kind])}")


def usb(profile: Profile, source: ProfileText) -> None:
    """Single USB devices belong to usb alone, and each is named once."""
    for kind in STRATEGIES:
        wishes = [usb_model.wish(text) for text in profile.device(kind).devices]
        names = [name for name in wishes if isinstance(name, UsbName)]
        if twice := next((w for w in wishes if not isinstance(w, UsbName) and wishes.count(w) > 1), None):
            msg = f"{source.origin}: devices.{kind}.devices names {twice} twice"
            raise ProfileError(msg, hint="a class means all of its devices already")
        if wishes and kind is not Kind.USB:
            msg = f"{source.origin}: devices.{kind}.devices: single USB devices are handed over by devices.usb alone"
            raise ProfileError(msg, hint="put the list into the table [devices.usb]")
        for name in names:
            if names.count(name) > 1:
                msg = f"{source.origin}: devices.{kind}.devices names {name} twice"
                raise ProfileError(msg, hint="a device can be handed over once; name each of several by its @port")
            if name.port is not None and UsbName(name.vendor_id, name.product_id) in names:
                msg = f"{source.origin}: devices.{kind}.devices names {name.ids} with a port and without one"
                raise ProfileError(msg, hint="give each of them its @port, or name it once")


def required(profile: Profile, source: ProfileText) -> None:
    """What is required is on the ladder and not forbidden; the ladder may come from another link of the chain."""
    for kind in STRATEGIES:
        device = profile.device(kind)
        for strategy in device.require:
            if strategy in device.forbid or strategy not in (device.prefer or DEFAULT_LADDERS[kind]):
                what = "forbidden too" if strategy in device.forbid else f"not on the ladder of {kind}"
                msg = f"{source.origin}: devices.{kind}.require: {strategy.value!r} is {what}"
                raise ProfileError(msg, hint=f"put it into devices.{kind}.prefer, or take it out of require and forbid")


def allowed(profile: Profile, source: ProfileText) -> None:
    """A refusal is lifted for a named device alone; the name may come from another link of the chain."""
    for kind in STRATEGIES:
        device = profile.device(kind)
        if device.allow and not device.select:
            msg = f"{source.origin}: devices.{kind}.allow needs devices.{kind}.select with the exact address"
            raise ProfileError(msg, hint='name the device: select = ["0000:01:00.0"]')


def size(profile: Profile, source: ProfileText) -> None:
    """Sizes can be read, and the least is not more than what is wanted. Raises ProfileError."""
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
        if mib < LEAST_MIB:
            msg = f"{source.origin}: size.{key}: {text} is too small for any guest"
            raise ProfileError(msg, hint=f"{LEAST_MIB} MiB is the least")
    if values.parse_mib(size.memory_min or size.memory) > values.parse_mib(size.memory):
        msg = f"{source.origin}: size.memory_min: {size.memory_min} is more than size.memory ({size.memory})"
        raise ProfileError(msg, hint="the minimum is what the VM may shrink to")
