"""What reading the roles gave so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from clienthv.model.host import Role, RoleName

_EVIDENCE_SHOWN = 8  # a root disk of a container host is mounted hundreds of times


@dataclass(slots=True)
class Findings:
    """Roles with their evidence, the roles that were looked for, and what stayed unknown."""

    addresses: frozenset[str]
    evidence: dict[tuple[RoleName, str], list[str]] = field(default_factory=dict)
    looked: set[RoleName] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)

    def give(self, role: RoleName, address: str | None, evidence: str) -> None:
        """A function has a role; evidence given twice counts once."""
        if address in self.addresses and address is not None:
            said = self.evidence.setdefault((role, address), [])
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
