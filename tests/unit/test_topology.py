"""The tree of PCI functions: on every recorded PC, and of documents that lie about their bridges."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clienthv.model.host import Host, Iommu, PciFunction, Role, RoleName, SrIov, decode
from clienthv.model.topology import MAX_DEPTH, UNPLACED, Node, topology
from clienthv.report import topology as report

HOSTS = Path(__file__).parent.parent / "hosts"
RECORDED = sorted([*HOSTS.glob("*.json"), *HOSTS.glob("more/*.json")])


def walk(nodes: Iterable[Node], above: tuple[Node, ...] = ()) -> Iterator[tuple[tuple[Node, ...], Node]]:
    """Every node with those it hangs on, the root first."""
    for node in nodes:
        yield above, node
        yield from walk(node.children, (*above, node))


def drawn(*functions: PciFunction) -> list[tuple[int, str]]:
    """How deep each address stands, top to bottom, whatever order the document has."""
    tree = topology(Host(pci=functions))
    assert tree == topology(Host(pci=functions[::-1]))
    return [(len(above), node.address) for above, node in walk(tree)]


def at(address: str, *path: str, **more: Any) -> PciFunction:
    full = [a if a.count(":") == 2 else f"0000:{a}" for a in (address, *path)]
    return PciFunction(address=full[0], bridge_path=tuple(full[1:]), **more)


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_every_function_of_a_recorded_pc_stands_once_below_its_own_bridge(path: Path) -> None:
    host = decode(path.read_bytes(), path.name)
    found = [(above, node) for above, node in walk(topology(host)) if node.function is not None]
    assert Counter(node.function for _, node in found) == Counter(host.pci)
    for above, node in found:
        assert node.function is not None
        assert node.function.address == node.address
        parents = [n.address for n in above if n.address.count(":") == 2]
        if node.function.physfn in host.by_address:
            assert parents[-1] == node.function.physfn
        elif node.function.bridge_path is not None:
            assert tuple(parents) == node.function.bridge_path
        else:
            assert UNPLACED in above[0].label


def test_bridges_stand_above_what_is_behind_them() -> None:
    assert drawn(at("00:01.0"), at("01:00.0", "00:01.0"), at("02:00.0", "00:01.0", "01:00.0"), at("00:02.0")) == [
        (0, "0000:00"), (1, "0000:00:01.0"), (2, "0000:01:00.0"), (3, "0000:02:00.0"), (1, "0000:00:02.0"),
    ]  # fmt: skip


def test_each_root_bus_and_domain_is_a_tree_of_its_own() -> None:
    tree = topology(Host(pci=(at("40:01.0"), at("00:01.0"), at("0001:00:01.0"))))
    assert [(n.address, n.label) for n in tree] == [
        ("0000:00", "PCI domain 0000, root bus 00"),
        ("0000:40", "PCI domain 0000, root bus 40"),
        ("0001:00", "PCI domain 0001, root bus 00"),
    ]


def test_a_domain_behind_vmd_hangs_on_its_controller() -> None:
    vmd, port, disk = at("00:0e.0"), at("10000:e0:06.0", "00:0e.0"), at("10000:e1:00.0", "00:0e.0", "10000:e0:06.0")
    assert drawn(vmd, port, disk) == [
        (0, "0000:00"), (1, "0000:00:0e.0"), (2, "10000:e0"), (3, "10000:e0:06.0"), (4, "10000:e1:00.0"),
    ]  # fmt: skip


def test_virtual_functions_hang_on_their_card_or_else_on_the_bridge() -> None:
    virtual = at("01:10.0", "00:01.0", physfn="0000:01:00.0")
    port, card = at("00:01.0"), at("01:00.0", "00:01.0")
    assert drawn(port, card, virtual)[-2:] == [(2, "0000:01:00.0"), (3, "0000:01:10.0")]
    assert drawn(port, virtual)[-1] == (2, "0000:01:10.0")


def test_a_bridge_that_is_not_listed_is_a_node_without_a_function() -> None:
    (root,) = topology(Host(pci=(at("02:00.0", "00:01.0", "01:00.0"),)))
    (port,) = root.children
    assert (port.address, port.function) == ("0000:00:01.0", None)
    assert port.children[0].children[0].address == "0000:02:00.0"


def test_where_the_path_is_unknown_the_root_says_so() -> None:
    (root,) = topology(Host(pci=(PciFunction(address="0000:03:00.0"),)))
    assert UNPLACED in root.label
    assert [n.address for n in root.children] == ["0000:03:00.0"]


LIES = {
    "itself": [at("01:00.0", "01:00.0")],
    "one another": [at("01:00.0", "02:00.0"), at("02:00.0", "01:00.0"), at("03:00.0", "02:00.0")],
    "a card that is its own": [at("01:00.0", physfn="0000:01:00.0")],
    "cards of one another": [at("01:00.0", physfn="0000:02:00.0"), at("02:00.0", physfn="0000:01:00.0")],
    "an unlisted circle": [at("01:00.0", "02:00.0", "03:00.0"), at("04:00.0", "03:00.0", "02:00.0")],
    "unlisted twice": [at("01:00.0", "02:00.0", "02:00.0")],
    "across domains": [at("0001:00:00.0", "00:00.0"), at("0000:00:00.0", "0001:00:00.0")],
    "no end": [at(f"{n:02x}:00.0", *([f"{n - 1:02x}:00.0"] if n else [])) for n in range(256)],
    "no end, unlisted": [at("ff:00.0", *(f"{n:02x}:00.0" for n in range(255)))],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_path_that_cannot_be_loses_no_function_and_never_ends(lie: str) -> None:
    found = list(walk(topology(Host(pci=tuple(LIES[lie])))))
    assert Counter(n.function for _, n in found if n.function is not None) == Counter(LIES[lie])
    assert max(len(above) for above, _ in found) <= MAX_DEPTH + 1
    assert all(node.children for _, node in found if node.function is None)


# --- on a terminal


def shown(host: Host) -> str:
    return "\n".join(report.lines(host))


def test_a_tree_tells_unknown_from_none() -> None:
    pc = at("00:01.0", driver="", sriov=SrIov(totalvfs=8))
    assert re.search(r"0000:00:01\.0 +group +\? +- .* \? of 8 VFs", shown(Host(pci=(pc,))))
    assert re.search(r"0000:00:01\.0 +group +- +\? ", shown(Host(pci=(at("00:01.0"),), iommu=Iommu(groups=4))))


def test_a_tree_says_what_the_host_uses_and_what_nobody_looked_for() -> None:
    use = Role(role=RoleName.MOUNTED_DISK, address="0000:00:01.0")
    text = shown(Host(pci=(at("00:01.0"),), roles=(use,), roles_read=(RoleName.MOUNTED_DISK,)))
    assert "<- mounted-disk" in text
    assert "not known, so no <- tells of it: boot-display, connected-display, default-route, network, input" in text
    assert "not known" not in shown(Host(pci=(at("00:01.0"),), roles_read=tuple(RoleName)))


def test_a_pc_without_functions_is_said_to_have_none_that_was_read() -> None:
    assert "this PC has no PCI function that was read" in shown(Host())
