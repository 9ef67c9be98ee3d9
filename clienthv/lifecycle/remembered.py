"""What a domain remembers of how it was made, and what its guest has seen; read back from the domain XML."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from lxml import etree

from clienthv.errors import DocumentError
from clienthv.model import plan as plan_model
from clienthv.model.identity import Identity
from clienthv.model.plan import Decision, Kind, Plan
from clienthv.model.profile import ProfileText
from clienthv.model.vm import Options, Seen
from clienthv.render import NAMESPACE

INVENTORY = "urn:clienthv:inventory:1"
"""The XML namespace of the inventory: an element of its own, since libvirt replaces those whole."""


ATTACHED = "urn:clienthv:attached:1"
"""The XML namespace of what was attached to a running VM, which forgets it when it stops."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A clienthv VM as its domain XML tells it."""

    name: str
    profile: tuple[ProfileText, ...]
    options: Options
    plan: Plan
    seen: Seen
    hardware: tuple[Identity, ...] = ()


def read(xml: str, name: str) -> Remembered | None:
    """What clienthv wrote into a domain; None for a domain that is not clienthv's. Raises DocumentError."""
    root = parse(xml)
    ours = root.find(f"metadata/{{{NAMESPACE}}}vm")
    if ours is None:
        return None
    try:
        profile = msgspec.convert(json.loads(_text(ours, "profile")), tuple[ProfileText, ...])
        options = msgspec.convert(json.loads(_text(ours, "options")), Options)
        plan = plan_model.decode(_text(ours, "plan"), f"the metadata of VM {name}")
        hardware = msgspec.convert(json.loads(_text(ours, "hardware") or "[]"), tuple[Identity, ...])
    except (ValueError, msgspec.ValidationError, DocumentError) as e:
        msg = f"clienthv's metadata in VM {name} is damaged: {e}"
        raise DocumentError(msg, hint=f"undefine it (clienthv down {name} --undefine) and make it again") from e
    return Remembered(name=name, profile=profile, options=options, plan=plan, seen=_seen(root, plan), hardware=hardware)


def is_ours(xml: str) -> bool:
    """Whether clienthv made a domain, be its metadata whole or damaged."""
    return parse(xml).find(f"metadata/{{{NAMESPACE}}}vm") is not None


def _text(element: Any, name: str) -> str:
    return element.findtext(f"{{{NAMESPACE}}}{name}") or ""


def _seen(root: Any, plan: Plan) -> Seen:
    machine = root.find("os/type")
    mac = root.find("devices/interface/mac")
    return Seen(
        uuid=root.findtext("uuid"),
        mac=mac.get("address") if mac is not None else None,
        machine=machine.get("machine") if machine is not None else None,
        nvram=root.findtext("os/nvram"),
        firmware=plan.of(Kind.FIRMWARE).strategy,
        disk=plan.of(Kind.DISK).strategy,
    )


def image_paths(xml: str) -> set[str]:
    """The image files that a domain's disks name, CD-ROMs left out."""
    sources = parse(xml).iterfind("devices/disk[@device='disk']/source")
    return {path for s in sources if (path := s.get("file") or s.get("dev"))}


def inventory(xml: str) -> str:
    """What a definition consists of, for telling whether somebody changed it: devices with their sources, and sizes.

    What libvirt adds by itself (controllers, addresses, aliases) is left out.
    """
    root = parse(xml)
    found = [f"{e.tag}={e.text}" for e in root if e.tag in ("memory", "vcpu")]
    for device in root.iterfind("devices/*"):
        if device.tag not in ("controller", "emulator", "audio"):
            source = device.find("source")
            named = sorted(source.items()) if source is not None else []
            found.append(" ".join([device.tag, *(f"{key}={value}" for key, value in named if key != "index")]))
    return json.dumps(sorted(found))


def noted_inventory(xml: str) -> str | None:
    """The inventory that clienthv wrote down when it made the definition."""
    text: str | None = parse(xml).findtext(f"metadata/{{{INVENTORY}}}inventory")
    return text


def inventory_element(text: str) -> str:
    """The inventory as an element for the definition's metadata."""
    element = etree.Element("inventory")
    element.text = text
    return str(etree.tostring(element, encoding="unicode"))


def attached(xml: str) -> tuple[Decision, ...]:
    """What was attached to a VM since it started, by its running XML; nothing where that cannot be read."""
    text = parse(xml).findtext(f"metadata/{{{ATTACHED}}}attached")
    try:
        return msgspec.json.decode(text or "[]", type=tuple[Decision, ...])
    except msgspec.DecodeError:
        return ()


def parse(xml: str) -> Any:
    """Domain XML as a tree; nothing outside it is read."""
    return etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
