"""ip: the links of network cards, and whether their virtual functions are trusted."""

from __future__ import annotations

import json
from typing import Any

from clienthv.errors import HostError
from clienthv.process.running import Told, find, output


def set_link(interface: str, *, up: bool) -> None:
    """Bring a network interface up, or down (iproute2, ip-link). Raises HostError."""
    state = "up" if up else "down"
    _ip(["link", "set", "dev", interface, state], f"bring {interface} {state}", writes_to=interface)


def set_vf_trust(interface: str, index: int, *, on: bool) -> None:
    """Let a virtual function change its MAC address and its receive filters, or not. Raises HostError."""
    words = ["link", "set", "dev", interface, "vf", str(index), "trust", "on" if on else "off"]
    hint = "run clienthv as root; or leave out trust in [devices.nic]: not every driver knows it"
    _ip(words, f"set the trust of virtual function {index} of {interface}", hint, writes_to=interface)


def vf_trust(interface: str, index: int) -> bool | None:
    """Whether a virtual function is trusted; None where there is no such function or its driver does not say.

    Raises HostError.
    """
    text = _ip(["-json", "link", "show", "dev", interface], f"read the virtual functions of {interface}")
    try:
        shown: list[dict[str, Any]] = json.loads(text)
        functions = [vf for link in shown for vf in link.get("vfinfo_list", ()) if vf.get("vf") == index]
        trust = functions[0].get("trust") if functions else None
    except (ValueError, AttributeError, TypeError) as e:
        msg = f"ip said nothing that can be understood about {interface}"
        raise HostError(msg, hint="update iproute2 to 5.0 or later", detail=text) from e
    return trust if isinstance(trust, bool) else None


def _ip(
    arguments: list[str],
    what: str,
    hint: str = "run clienthv as root; dmesg shows what the driver says",
    writes_to: str = "",
) -> str:
    program = find("ip", "install iproute2 (iproute on Fedora)")
    late = "dmesg shows whether the network card's driver hangs"
    return output(
        [program, *arguments], "ip", what, Told("RTNETLINK answers: ", HostError, late, failed=hint), writes_to
    )
