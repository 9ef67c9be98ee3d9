"""How a profile names devices of the host: by address, ids, vendor, name, label, or the path of bridges to them."""

from __future__ import annotations

import fnmatch
from typing import Annotated, Final

from msgspec import Meta

from clienthv.model.host import PciFunction
from clienthv.model.values import PCI_ADDRESS_PATTERN

VENDORS: Final = {"amd": ("1002", "1022"), "intel": ("8086",), "nvidia": ("10de",)}
"""PCI vendor ids (pci.ids): AMD's graphics still carry ATI's."""

_ADDRESS: Final = PCI_ADDRESS_PATTERN.removeprefix("^").removesuffix(r"$(?!\n)")
_PLACE: Final = r"[0-1][0-9a-f]\.[0-7]"
_TEXT: Final = r"[^*\x00-\x1f\x7f]*"
PATTERN: Final = (
    rf"^({_ADDRESS}|[0-9a-f]{{4}}:([0-9a-f]{{4}})?|vendor:(amd|intel|nvidia)|(name|label):{_TEXT}(\*{_TEXT}){{0,4}}"
    rf"|path:{_ADDRESS}(/{_PLACE}){{0,16}})$(?!\n)"
)
"""A name's length and its number of stars are limited: a profile may come from a stranger."""

Selector = Annotated[
    str,
    Meta(
        pattern=PATTERN,
        max_length=100,
        description='0000:01:00.0, 10de:1b80, "10de:", "vendor:amd", "name:*RTX*", "label:Onboard LAN", or '
        '"path:0000:00:01.1/00.0"',
    ),
]


def fits(selector: str, function: PciFunction) -> bool:
    """Whether a selector means a function. What is unknown of it does not fit.

    Bus numbers below a port change with what is plugged in elsewhere; a path gives them no place: it is the address on
    the root bus, then device and function below each bridge (as in ACPI's and DMAR's device scopes).
    """
    kind, _, rest = selector.partition(":")
    match kind:
        case "vendor":
            return function.vendor_id in VENDORS[rest]
        case "name":
            return bool(function.vendor or function.device) and _is_like(function.label, rest)
        case "label":
            return function.known.firmware_label is not None and _is_like(function.known.firmware_label, rest)
        case "path":
            return function.bridge_path is not None and rest == path_of(function)
        case _ if selector.count(":") == 1:
            return function.vendor_id == kind and rest in ("", function.device_id)
        case _:
            return selector == function.address


def _is_like(text: str, wanted: str) -> bool:
    """Whether a text is the wanted one, in whatever case; ``*`` stands for anything."""
    return fnmatch.fnmatchcase(text.lower(), wanted.lower().replace("[", "[[]"))


def path_of(function: PciFunction) -> str:
    """The path to a function whose bridges are known."""
    root, *_ = (*(function.bridge_path or ()), function.address)
    return "/".join([root, *(function.hops or ())[1:]])


def is_address(selector: str) -> bool:
    """Whether a selector is the plain address of a device."""
    return selector.count(":") == 2 and not selector.startswith(("name:", "label:", "path:"))
