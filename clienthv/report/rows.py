"""The tree of a PC's PCI functions as rows: what each says, which stand for several, and who uses what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum, unique
from itertools import groupby, takewhile
from typing import Final, NamedTuple

from clienthv.model.advice import Evidence
from clienthv.model.devices import Device, Verdict
from clienthv.model.host import PciFunction, RoleName
from clienthv.model.overview import Overview
from clienthv.model.plan import HOST_DEVICES, Decision, Strategy
from clienthv.model.topology import Node
from clienthv.report.text import anchor, ranges, shown

MOST_ROWS: Final = 1500
"""Rows that are drawn: no PC that was recorded has a tenth."""

ROLE_WORDS: Final = {
    RoleName.BOOT_DISPLAY: "boot display",
    RoleName.CONNECTED_DISPLAY: "screen connected",
    RoleName.MOUNTED_DISK: "disk in use",
    RoleName.DEFAULT_ROUTE: "default route",
    RoleName.NETWORK: "network in use",
    RoleName.INPUT: "keyboard, mouse",
}

# Base classes, and subclasses where they differ for a person (PCI Code and ID Assignment Specification, 1).
CLASS_WORDS: Final = {
    "01": "storage controller",
    "02": "network controller",
    "03": "display controller",
    "04": "multimedia device",
    "05": "memory controller",
    "06": "bridge",
    "07": "communication controller",
    "08": "system peripheral",
    "0b": "processor",
    "0c": "serial bus controller",
    "0c03": "USB controller",
    "0d": "wireless controller",
    "10": "encryption controller",
    "11": "signal processing controller",
    "12": "accelerator",
}
_ICONS: Final = {
    "0c03": "usb",
    "01": "disk",
    "02": "network",
    "03": "display",
    "04": "sound",
    "06": "bridge",
    "0d": "wireless",
}
_FOLDED_FROM: Final = 3
_DULL_FROM: Final = 4


@unique
class Form(StrEnum):
    """How a row is drawn: a heading, one line, a card, a stack of several, or what is not there yet."""

    ROOT = "root"
    BRIDGE = "bridge"
    DEVICE = "device"
    FOLDED = "folded"
    PLANNED = "planned"


class Badge(NamedTuple):
    """A word on a device: a use the host makes of it (``vm`` is None), or what the VM of that number has of it."""

    text: str
    vm: int | None = None


class Row(NamedTuple):
    """One row. ``name`` and ``about`` are what is read, ``title`` all of it; ``groups`` the IOMMU groups it is in.

    ``evidence`` is what the PC's files say of a function that has the row to itself.
    """

    anchor: str
    depth: int
    form: Form
    icon: str
    address: str
    name: str
    about: str
    groups: tuple[int, ...]
    badges: tuple[Badge, ...]
    title: str
    functions: tuple[PciFunction, ...]
    decision: Decision | None = None
    evidence: tuple[Evidence, ...] = ()

    @property
    def group(self) -> int | None:
        """The one group of the row; None where there is none, or several."""
        return self.groups[0] if len(self.groups) == 1 else None

    @property
    def in_words(self) -> str:
        """The group or groups, as the picture names them; "" where there is none."""
        if not self.groups:
            return ""
        return f"group{'s' if len(self.groups) > 1 else ''} {ranges(sorted(self.groups))}"


def rows(overview: Overview) -> tuple[Row, ...]:
    """Every row of the tree from top to bottom; at most ``MOST_ROWS``, with the last saying how many are left out."""
    drawn: list[Row] = []
    writer = _Writer(overview)
    for row in writer.trees():
        if len(drawn) == MOST_ROWS:
            missing = len(overview.host.pci) - sum(len(r.functions) for r in drawn)
            words = f"{missing} more functions are not drawn"
            more = "clienthv inspect lists them all"
            drawn.append(Row("more", 0, Form.ROOT, "", "", words, more, (), (), f"{words}: {more}", ()))
            break
        drawn.append(row)
    return tuple(drawn)


class _Writer:
    """Knows who has what, and writes the rows."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._host = overview.host
        self._verdicts: dict[str, Device] = {d.address: d for d in overview.devices.devices}
        self._badges: dict[str, list[Badge]] = {}
        self._planned: dict[str, list[tuple[Decision, Badge]]] = {}
        by_node = {f.render_node: f.address for f in self._host.pci if f.render_node}
        for number, member in enumerate(overview.plans.vms):
            for decision in member.plan.decisions if member.plan is not None else ():
                self._note(decision, member.name, number, by_node)

    def _note(self, decision: Decision, vm: str, number: int, by_node: dict[str, str]) -> None:
        badge = Badge(f"{shown(vm)} · {decision.strategy}", number)
        made = decision.virtual_function
        if made is not None and made.created and decision.device not in self._host.by_address:
            self._planned.setdefault(made.physfn, []).append((decision, badge))
            return
        if decision.render_node is not None and decision.render_node in by_node:
            self._badges.setdefault(by_node[decision.render_node], []).append(badge)
        if decision.strategy not in (*HOST_DEVICES, Strategy.MDEV):
            return
        for address in dict.fromkeys((decision.device, *decision.functions)):
            if address in self._host.by_address:
                along = address != decision.device and decision.device in self._host.by_address
                self._badges.setdefault(address or "", []).append(
                    Badge(f"{shown(vm)} · goes along", number) if along else badge
                )

    def trees(self) -> Iterator[Row]:
        """The rows of all trees."""
        for root in self._overview.roots:
            yield from self._node(root, 0)

    def _node(self, node: Node, depth: int) -> Iterator[Row]:
        yield self._of_function(node, node.function, depth) if node.function else self._of_place(node, depth)
        for decision, badge in self._planned.get(node.address, ()) if node.function else ():
            yield self._of_planned(decision, badge, depth + 1)
        leaves = {child.address for child in node.children if not child.children}
        for foldable, run in groupby(node.children, key=lambda child: self._foldable(child, leaves)):
            members = list(run)
            if foldable and len(members) >= (_DULL_FROM if foldable == "dull" else _FOLDED_FROM):
                yield self._of_several(members, foldable, depth + 1)
                continue
            for child in members:
                yield from self._node(child, depth + 1)

    def _foldable(self, node: Node, leaves: set[str]) -> str:
        """What a node can stand for in a row with others of its like; "" where it stands for itself.

        Nothing is folded away from a group that something is in which is not beside it among the ``leaves``: that
        moves with it.
        """
        function = node.function
        if function is None or node.children or node.address in self._planned or not self._idle(function):
            return ""
        mates = self._host.by_group.get(function.iommu_group, ()) if function.iommu_group is not None else ()
        if function.physfn is not None:
            alike = all(m.physfn == function.physfn for m in mates)
            return "vf" if alike else f"vf of group {function.iommu_group}"
        dull = self._dull(function) and all(m.address in leaves and self._dull(m) for m in mates)
        return "dull" if dull else ""

    def _idle(self, function: PciFunction) -> bool:
        return not self._badges_of(function)

    def _dull(self, function: PciFunction) -> bool:
        """Whether nobody uses it, and no profile can name it."""
        verdict = self._verdicts.get(function.address)
        return self._idle(function) and (verdict is None or verdict.serves_as is None)

    def _badges_of(self, function: PciFunction) -> tuple[Badge, ...]:
        roles = dict.fromkeys(ROLE_WORDS[r.role] for r in self._host.roles_by_address.get(function.address, ()))
        return (*map(Badge, roles), *self._badges.get(function.address, ()))

    def _of_place(self, node: Node, depth: int) -> Row:
        form = Form.ROOT if depth == 0 else Form.BRIDGE
        label = shown(node.label)
        title = f"{label} ({node.address})"
        return Row(anchor(f"place-{node.address}-{depth}"), depth, form, "bridge", node.address, label, "", (), (),
                   title, ())  # fmt: skip

    def _of_function(self, node: Node, function: PciFunction, depth: int) -> Row:
        bridge = function.address in self._host.bridges
        badges = self._badges_of(function)
        groups = () if function.iommu_group is None else (function.iommu_group,)
        about = [shown(function.vendor)] if function.vendor and function.device else []
        about += _driver(function)
        verdict = self._verdicts.get(function.address)
        if verdict is not None and verdict.verdict is not Verdict.NO and verdict.serves_as is not None:
            about.append("a guest can get it")
        row = Row(
            anchor(function.address),
            depth,
            Form.BRIDGE if bridge and not badges else Form.DEVICE,
            _icon(function),
            function.address,
            shown(function.device) if function.device else _unnamed(function),
            " · ".join(about),
            groups,
            badges,
            "",
            (function,),
            evidence=self._overview.of_functions.get(function.address, ()),
        )
        return row._replace(title=_title(row, shown(function.label)))

    def _of_planned(self, decision: Decision, badge: Badge, depth: int) -> Row:
        made = decision.virtual_function
        number = "" if made is None or made.index is None else f" {made.index}"
        address = decision.device or ""
        row = Row(anchor(address or f"planned-{badge.vm}-{decision.name}"), depth, Form.PLANNED,
                  _KIND_ICONS.get(decision.kind.value, "chip"), address, f"virtual function{number}",
                  "made when the VM starts", (), (badge,), "", (), decision)  # fmt: skip
        return row._replace(title=_title(row, row.name))

    def _of_several(self, nodes: Sequence[Node], why: str, depth: int) -> Row:
        functions = tuple(n.function for n in nodes if n.function is not None)
        groups = tuple(sorted({f.iommu_group for f in functions if f.iommu_group is not None}))
        first, last = functions[0], functions[-1]
        virtual = why != "dull"
        until = f"{last.place.device:02x}.{last.place.function}"
        row = Row(
            anchor(f"several-{first.address}"),
            depth,
            Form.FOLDED,
            _icon(first) if virtual else "chip",
            f"{first.address} … {until if last.address[:8] == first.address[:8] else last.address}",
            f"{len(functions)} VFs" if virtual else _named(functions),
            ", ".join(sorted({d for f in functions for d in _driver(f)})[:3] if virtual else _kinds(functions)),
            groups,
            (),
            "",
            functions,
        )
        return row._replace(title=_title(row, row.name))


_KIND_ICONS: Final = {"gpu": "display", "nic": "network", "disk": "disk", "audio": "sound", "usb": "usb"}


def _named(functions: Sequence[PciFunction]) -> str:
    """What several functions are called: the words that their names begin with in common."""
    names = [shown(f.label).split(" ") for f in functions]
    common = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, zip(*names, strict=False))]
    if all(len(name) == len(common) for name in names):
        return f"{len(functions)} × {' '.join(common)}"
    if common[-1:] == ["device"]:  # as the database of ids calls what it does not name: "Intel Corporation device 347a"
        common.pop()
    return f"{len(functions)} functions" + (f" of {' '.join(common)}" if common else "")


def _kinds(functions: Sequence[PciFunction]) -> list[str]:
    kinds = Counter(class_words(f) or "other device" for f in functions)
    return [f"{number} {kind}{'' if number == 1 else 's'}" for kind, number in kinds.most_common(4)]


def _driver(function: PciFunction) -> list[str]:
    if function.driver is None:
        return []
    return [shown(function.driver)] if function.driver else ["no driver"]


def class_words(function: PciFunction) -> str:
    """What kind of thing a function is; "" where its class is unknown or says nothing."""
    base = function.base_class
    return CLASS_WORDS.get(base) or CLASS_WORDS.get(base[:2], "")


def _unnamed(function: PciFunction) -> str:
    """A name for what the database of ids does not name."""
    return " ".join(t for t in (shown(function.label), class_words(function)) if t)


def _icon(function: PciFunction) -> str:
    base = function.base_class
    return _ICONS.get(base) or _ICONS.get(base[:2]) or "chip"


def _title(row: Row, label: str) -> str:
    told = [label, row.address, row.about, row.in_words and f"IOMMU {row.in_words}"]
    uses = [f"the host: {b.text}" if b.vm is None else f"VM {b.text}" for b in row.badges]
    return "; ".join(t for t in (*told, *uses) if t)
