"""What could be plugged into: bridges, cards, the helper's list, passt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from clienthv.inspect import anonymise, read
from clienthv.model.host import Host, Stack, decode, encode
from clienthv.model.network import Bridge, Card, HostNetwork, VirtualNetwork

Tree = Callable[[dict[str, str]], str]


def network(host: Host) -> HostNetwork:
    assert decode(encode(host), "test") == host
    assert isinstance(host.network, HostNetwork)
    return host.network


def interface(root: str, place: str, flags: str = "0x1003") -> Path:
    folder = Path(root, "sys/devices", place)
    folder.mkdir(parents=True)
    (folder / "flags").write_text(f"{flags}\n")
    listing = Path(root, "sys/class/net")
    listing.mkdir(parents=True, exist_ok=True)
    (listing / folder.name).symlink_to(folder)
    return folder


def test_a_bridge_with_its_card_and_a_wireless_one(tmp_path: Path) -> None:
    root = str(tmp_path)
    bridge = interface(root, "virtual/net/br0")
    for name in ("bridge", "brif/eth0"):
        (bridge / name).mkdir(parents=True)
    wired = interface(root, "pci0000:00/0000:00:19.0/net/eth0")
    (wired / "device").mkdir()
    (wired / "master").symlink_to(bridge)
    wireless = interface(root, "pci0000:00/0000:00:1c.0/net/wlan0", flags="0x1002")
    for name in ("device", "phy80211"):
        (wireless / name).mkdir()
    interface(root, "virtual/net/lo", flags="0x9")
    Path(root, "proc/net").mkdir(parents=True)
    Path(root, "proc/net/route").write_text("Iface\nbr0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n")
    found = network(read(root))
    assert found.bridges == (Bridge(name="br0", ports=("eth0",), up=True),)
    assert found.cards == (
        Card(name="eth0", up=True, wireless=False, master="br0"),
        Card(name="wlan0", up=False, wireless=True, master=""),
    )
    assert found.default_route is True
    assert (found.helper_allows, found.passt) == (None, None), "a tree without programs says nothing of them"


def test_a_tree_without_network_says_nothing_of_it(tmp_path: Path) -> None:
    assert read(str(tmp_path)).network is msgspec.UNSET


def helped(tree: Tree, acl: str | None, mode: int = 0o4755) -> tuple[str, ...] | None:
    files = {"/usr/lib/qemu/qemu-bridge-helper": "", "/usr/bin/passt": ""}
    root = tree(files | ({"/etc/qemu/bridge.conf": acl} if acl is not None else {}))
    Path(root, "sys/class/net").mkdir(parents=True, exist_ok=True)
    Path(root, "usr/lib/qemu/qemu-bridge-helper").chmod(mode)
    found = network(read(root))
    assert found.passt is True
    return found.helper_allows


@pytest.mark.parametrize(
    ("acl", "allowed"),
    [
        ("# ours\nallow br0\nallow virbr0\n", ("br0", "virbr0")),
        ("allow br0\ndeny br0\n", ()),
        ("allow all\n", ("all",)),
        ("allow all\ndeny br0\n", None),
        ("deny all\nallow br0\n", ()),
        ("allow br0\ninclude /etc/qemu/more.conf\n", None),
        ("allow ../../etc\nallow\nnonsense\n", ()),
        (None, ()),
    ],
)
def test_the_helpers_list_is_read_as_qemu_does(tree: Tree, acl: str | None, allowed: tuple[str, ...] | None) -> None:
    assert helped(tree, acl) == allowed


def test_a_helper_that_is_not_set_uid_gives_nothing(tree: Tree) -> None:
    assert helped(tree, "allow br0\n", mode=0o755) == ()


def test_the_names_of_libvirts_networks_are_not_kept() -> None:
    networks = (VirtualNetwork(name="default", active=True), VirtualNetwork(name="the-smiths", active=True))
    once = anonymise(Host(stack=Stack(networks=networks)))
    assert once.stack is not None
    assert isinstance(once.stack.networks, tuple)
    assert [n.name for n in once.stack.networks] == ["default", "network-1"]
    assert anonymise(once) == once
