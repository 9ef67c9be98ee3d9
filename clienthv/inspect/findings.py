"""What reading the roles gave so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from clienthv.inspect.places import owner, usb_port
from clienthv.model.host import Role, RoleName
from clienthv.model.usb import UsbRole

_EVIDENCE_SHOWN = 8  # a root disk of a container host is mounted hundreds of times
_VIRTUAL = "/devices/virtual/"


@dataclass(slots=True)
class Findings:
    """Roles with their evidence, the roles that were looked for, and what stayed unknown.

    ``usb_evidence`` is by port, ``keyboards`` has the evidence for each keyboard by its path below /sys/devices.
    """

    addresses: frozenset[str]
    evidence: dict[tuple[RoleName, str], list[str]] = field(default_factory=dict)
    usb_evidence: dict[str, dict[RoleName, list[str]]] = field(default_factory=dict)
    keyboards: dict[str, str] = field(default_factory=dict)
    looked: set[RoleName] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)

    def give(self, role: RoleName, address: str | None, evidence: str) -> None:
        """A function has a role; evidence given twice counts once."""
        if address in self.addresses and address is not None:
            said = self.evidence.setdefault((role, address), [])
            if evidence not in said:
                said.append(evidence)

    def carries(self, role: RoleName, path: str, evidence: str) -> None:
        """What lies at a path has a role, and so have the PCI function and the USB device that it hangs on."""
        self.give(role, owner(path), evidence)
        self.give_usb(role, usb_port(path), evidence)

    def give_usb(self, role: RoleName, port: str | None, evidence: str) -> None:
        """A USB device has a role; evidence given twice counts once."""
        if port is not None:
            said = self.usb_evidence.setdefault(port, {}).setdefault(role, [])
            if evidence not in said:
                said.append(evidence)

    def look(self, role: RoleName) -> None:
        """The role was looked for everywhere: functions without it do not have it."""
        self.looked.add(role)

    def unread(self, role: RoleName, why: str) -> None:
        """The role could not be looked for, or not everywhere."""
        self.unknown.append(f"role {role.value}: {why}")

    def roles(self) -> tuple[Role, ...]:
        """The roles in a fixed order."""
        order = list(RoleName)
        found = sorted(self.evidence.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        return tuple(Role(role=role, address=a, evidence=tuple(said[:_EVIDENCE_SHOWN])) for (role, a), said in found)

    def usb_roles(self, port: str) -> tuple[UsbRole, ...]:
        """The roles of one USB device, in a fixed order."""
        found = self.usb_evidence.get(port, {})
        return tuple(UsbRole(role=r, evidence=tuple(found[r][:_EVIDENCE_SHOWN])) for r in RoleName if r in found)

    def keyboard_at(self, port: str) -> bool | None:
        """Whether one of a USB device's input devices is a keyboard."""
        if RoleName.INPUT not in self.looked:
            return None
        return any(usb_port(path) == port for path in self.keyboards)

    def other_keyboards(self) -> tuple[str, ...] | None:
        """The evidence for each keyboard that hangs on no USB device; those that software makes are none."""
        if RoleName.INPUT not in self.looked:
            return None
        return tuple(said for path, said in self.keyboards.items() if usb_port(path) is None and _VIRTUAL not in path)
