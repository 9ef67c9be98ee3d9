"""The PCI functions of a host as a tree on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from clienthv.model.host import Host, RoleName
from clienthv.model.topology import Node, topology
from clienthv.report import hosts


def lines(host: Host) -> Iterator[str]:
    """Root buses with what hangs on them: IOMMU group, driver, ids, name, and what the host uses it for."""
    roots = topology(host)
    if not roots:
        yield f"{host.name} has no PCI function that was read"
    drawn = [row for root in roots for row in ((root.label, root), *_below(root.children, ""))]
    width = max((len(branch) for branch, node in drawn if node.function is not None), default=0)
    for branch, node in drawn:
        yield branch if node.function is None else f"{branch:<{width}}  {hosts.about(node.function, host)}"
    yield ""
    yield "group: which functions move together; - none, ? unknown; <- what the host itself uses it for"
    unread = [name for name in RoleName if not host.read(name)]
    if unread:
        yield f"not known, so no <- tells of it: {', '.join(unread)}"
    if host.unknown:
        count = f"{len(host.unknown)} facts" if len(host.unknown) > 1 else "a fact"
        yield f"{count} of this PC could not be read: clienthv inspect lists them, with --host FILE of another PC"


def _below(nodes: Iterable[Node], indent: str) -> Iterator[tuple[str, Node]]:
    """What stands at the left of each node, which is its place in the tree."""
    known = list(nodes)
    for number, node in enumerate(known, start=1):
        last = number == len(known)
        name = node.address if node.function is not None else f"{node.address} {node.label}"
        yield f"{indent}{'└─' if last else '├─'} {name}", node
        yield from _below(node.children, f"{indent}{'  ' if last else '│ '} ")
