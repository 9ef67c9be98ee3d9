"""What a virtual network card is plugged into, on which host, and why not into something else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clienthv import planner, render
from clienthv.errors import ProfileError
from clienthv.hypervisor import capabilities
from clienthv.lifecycle import keeping
from clienthv.lifecycle.remembered import Remembered
from clienthv.model.host import DomainCapabilities, Host, Kvm, Memory, Stack
from clienthv.model.network import Bridge, Card, HostNetwork, Plug, VirtualNetwork
from clienthv.model.plan import Decision, Kind, Plan, Reason, Strategy, decode, encode
from clienthv.model.profile import ProfileText, parse
from clienthv.model.vm import Options, Seen, Vm
from clienthv.report import plans

R, S = Reason, Strategy

NAT = VirtualNetwork(name="default", active=True, forward="nat", bridge="virbr0")
LAN = Bridge(name="br0", ports=("eth0", "vnet3"), up=True)
VIRBR = Bridge(name="virbr0", ports=(), up=True)
WIRED = Card(name="eth0", up=True, wireless=False, master="br0")
FREE = Card(name="eth1", up=True, wireless=False, master="")
WIFI = Card(name="wlan0", up=True, wireless=True, master="")
NETWORK = HostNetwork(bridges=(LAN, VIRBR), cards=(WIRED, FREE, WIFI), helper_allows=(), passt=True, default_route=True)


def but(thing: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(thing, **changes)


def pc(network: Any = NETWORK, networks: Any = (NAT,), backends: Any = ("default", "passt"), **stack: Any) -> Host:
    offered = DomainCapabilities(
        domain_type="kvm", emulator="/usr/bin/qemu-system-x86_64", video_models=("vga", "virtio"),
        graphics=("spice", "vnc"), net_backends=backends,
    )  # fmt: skip
    known: dict[str, Any] = {"uri": "qemu:///system", "privileged": True, "libvirt_version": "11.3.0", **stack}
    return Host(
        kvm=Kvm(usable=True), memory=Memory(total_mib=16384, available_mib=16384), network=network,
        stack=Stack(capabilities=offered, networks=networks, **known),
    )  # fmt: skip


def profile(*rungs: str, more: str = "", drivers: str = '"virtio"') -> ProfileText:
    network = f"network = [{', '.join(f'{rung!r}' for rung in rungs)}]".replace("'", '"') if rungs else ""
    text = f"schema = 1\n[guest]\ndrivers = [{drivers}]\n[devices.nic]\n{network}\n{more}"
    return ProfileText("test", "test.toml", text)


def planned(host: Host, *rungs: str, **more: Any) -> Plan:
    return planner.plan(host, parse([profile(*rungs, **more)]))


def nic(host: Host, *rungs: str, **more: Any) -> Decision:
    return planned(host, *rungs, **more).of(Kind.NIC)


def against(host: Host, *rungs: str) -> dict[str | None, list[Reason]]:
    found: dict[str | None, list[Reason]] = {}
    for rejected in nic(host, *rungs, "user").rejected:
        assert rejected.detail
        found.setdefault(rejected.device, []).append(rejected.reason)
    return found


def test_a_privileged_connection_uses_libvirts_active_network() -> None:
    decision = nic(pc())
    assert decision.network == Plug(type="network", source="default")
    assert decision.rejected == ()
    assert decision.device is None


def test_without_that_network_passt_is_next_and_then_user_mode() -> None:
    assert nic(pc(networks=())).network == Plug(type="passt")
    last = nic(pc(but(NETWORK, passt=False), networks=()))
    assert last.network is None
    assert last.backing == "QEMU's user-mode network"
    assert [(r.device, r.reason) for r in last.rejected] == [("network", R.NO_NETWORK), ("passt", R.NO_PASST)]


def test_the_host_is_never_joined_to_its_own_network_unasked() -> None:
    for networks in ((NAT,), (), (but(NAT, forward="bridge"),)):
        assert nic(pc(networks=networks)).network in (Plug(type="network", source="default"), Plug(type="passt"))
    bridged = but(NAT, name="lan", forward="bridge")
    assert nic(pc(networks=(bridged,))).network == Plug(type="passt")


@pytest.mark.parametrize("mode", ["isolated", "route", "open", "bridge", "hostdev", None])
def test_a_network_that_may_lead_nowhere_is_used_by_name_alone(mode: str | None) -> None:
    host = pc(networks=(but(NAT, name="lab", forward=mode),))
    assert nic(host).network == Plug(type="passt")
    assert nic(host, "network:lab").network == Plug(type="network", source="lab")


def test_an_active_network_goes_before_one_that_is_not() -> None:
    asleep, other = but(NAT, active=False), but(NAT, name="other")
    assert nic(pc(networks=(asleep, other))).network == Plug(type="network", source="other")
    assert nic(pc(networks=(NAT, but(NAT, name="a")))).network == Plug(type="network", source="default")


def test_a_host_of_which_no_networks_are_known_gets_user_mode_without_a_word() -> None:
    host = Host(kvm=Kvm(usable=True), memory=Memory(total_mib=16384, available_mib=16384))
    decision = nic(host)
    assert decision.network is None
    assert decision.rejected == ()
    assert against(host, "bridge", "network", "macvtap", "passt") == {
        "bridge": [R.NETWORKS_UNKNOWN], "network": [R.NETWORKS_UNKNOWN], "macvtap": [R.NETWORKS_UNKNOWN],
        "passt": [R.NETWORKS_UNKNOWN],
    }  # fmt: skip


def test_a_bridge_is_the_one_with_a_card_in_it() -> None:
    assert nic(pc(), "bridge").network == Plug(type="bridge", source="br0")
    assert nic(pc(), "bridge:virbr0").network == Plug(type="bridge", source="virbr0")


def test_two_bridges_with_a_card_must_be_told_apart() -> None:
    second = Bridge(name="br1", ports=("eth1",), up=True)
    host = pc(but(NETWORK, bridges=(LAN, second)))
    assert against(host, "bridge") == {"bridge": [R.SEVERAL_MATCH]}
    assert nic(host, "bridge:br1").network == Plug(type="bridge", source="br1")


def test_a_bridge_that_is_not_there_or_down_is_refused() -> None:
    down = pc(but(NETWORK, bridges=(but(LAN, up=False),)))
    assert against(pc(), "bridge:br7") == {"bridge:br7": [R.NO_BRIDGE]}
    assert against(down, "bridge") == {"bridge:br0": [R.LINK_DOWN]}
    assert against(pc(but(NETWORK, bridges=(but(LAN, up=None),))), "bridge") == {"bridge:br0": [R.LINK_DOWN]}


def test_a_laptop_with_wifi_alone_is_told_that_it_cannot_be_bridged() -> None:
    host = pc(but(NETWORK, bridges=(VIRBR,), cards=(WIFI,)))
    (rejected,) = nic(host, "bridge", "user").rejected
    assert rejected.reason is R.NO_BRIDGE
    assert "wlan0 is a wireless card" in rejected.detail
    assert rejected.fix is None
    assert against(host, "macvtap:wlan0") == {"macvtap:wlan0": [R.WIRELESS]}
    assert against(host, "macvtap") == {"macvtap": [R.NO_INTERFACE]}


def test_macvtap_wants_a_wired_card_that_is_up_and_in_no_bridge() -> None:
    plan = planned(pc(), "macvtap")
    assert plan.of(Kind.NIC).network == Plug(type="macvtap", source="eth1")
    assert [w.code for w in plan.warnings if w.code == "macvtap-without-host"] == ["macvtap-without-host"]
    assert against(pc(), "macvtap:eth0") == {"macvtap:eth0": [R.NETWORK_IN_USE]}
    assert against(pc(), "macvtap:eth9") == {"macvtap:eth9": [R.NO_INTERFACE]}
    unknown = pc(but(NETWORK, cards=(Card(name="eth1"),)))
    assert against(unknown, "macvtap:eth1") == {"macvtap:eth1": [R.WIRELESS, R.LINK_DOWN, R.NETWORK_IN_USE]}


def test_a_network_that_is_not_active_is_refused_with_the_command_that_starts_it() -> None:
    (rejected,) = nic(pc(networks=(but(NAT, active=False),)), "network", "user").rejected
    assert rejected.reason is R.NETWORK_INACTIVE
    assert rejected.fix is not None
    assert rejected.fix.startswith("virsh net-start default")
    assert against(pc(networks=(but(NAT, active=None),)), "network") == {"network:default": [R.NETWORK_INACTIVE]}
    assert against(pc(), "network:lab") == {"network:lab": [R.NO_NETWORK]}


def test_a_session_connection_plugs_into_nothing_that_takes_root() -> None:
    session = pc(uri="qemu:///session", privileged=False)
    assert against(session, "bridge", "macvtap:eth1", "network") == {
        "bridge:br0": [R.NO_PRIVILEGE], "macvtap:eth1": [R.NO_PRIVILEGE], "network:default": [R.NO_PRIVILEGE],
    }  # fmt: skip
    assert nic(session).network == Plug(type="passt")


@pytest.mark.parametrize("allowed", ["br0", "all"])
def test_a_session_connection_may_use_a_bridge_that_the_helper_gives(allowed: str) -> None:
    session = pc(but(NETWORK, helper_allows=(allowed,)), uri="qemu:///session", privileged=False)
    assert nic(session, "bridge").network == Plug(type="bridge", source="br0")
    unknown = pc(but(NETWORK, helper_allows=None), uri="qemu:///session", privileged=False)
    assert against(unknown, "bridge") == {"bridge:br0": [R.NETWORKS_UNKNOWN]}


def test_passt_needs_a_libvirt_that_offers_it_and_the_program() -> None:
    assert against(pc(backends=("default",)), "passt") == {"passt": [R.NO_PASST]}
    assert against(pc(but(NETWORK, passt=False)), "passt") == {"passt": [R.NO_PASST]}
    assert against(pc(but(NETWORK, passt=None)), "passt") == {"passt": [R.NETWORKS_UNKNOWN]}
    assert against(pc(but(NETWORK, default_route=None)), "passt") == {"passt": [R.NETWORKS_UNKNOWN]}
    assert against(pc(but(NETWORK, default_route=False)), "passt") == {"passt": [R.NO_PASST]}
    old, older = ({"backends": msgspec.UNSET, "libvirt_version": v} for v in ("9.0.0", "8.0.0"))
    assert nic(pc(**old), "passt").network == Plug(type="passt")
    assert against(pc(**older), "passt") == {"passt": [R.NO_PASST]}


def test_an_emulated_card_is_plugged_in_like_a_paravirtual_one() -> None:
    decision = nic(pc(), "bridge", more='prefer = ["emulated"]')
    assert decision.strategy is S.EMULATED
    assert decision.network == Plug(type="bridge", source="br0")


def test_a_guest_without_the_driver_is_told_so_once() -> None:
    decision = nic(pc(), "bridge", "network", "user", drivers="")
    assert [r.reason for r in decision.rejected] == [R.NO_GUEST_DRIVER]
    assert decision.strategy is S.EMULATED


@pytest.mark.parametrize(
    "rung", ["bridge:../x", "bridge:a b", "wifi", "bridge:", "user:br0", "network:a/b", "bridge\n"]
)
def test_a_rung_that_is_none_is_refused(rung: str) -> None:
    text = f"schema = 1\n[devices.nic]\nnetwork = [{msgspec.json.encode(rung).decode()}]\n"
    with pytest.raises(ProfileError, match="is not bridge, network, macvtap, passt or user"):
        parse([ProfileText("test", "test.toml", text)])


def test_only_the_nic_has_a_network() -> None:
    with pytest.raises(ProfileError, match="only the nic is plugged into a network"):
        parse([ProfileText("test", "test.toml", 'schema = 1\n[devices.disk]\nnetwork = ["user"]\n')])


XML = {
    "bridge": '<interface type="bridge"> <source bridge="br0"/> <model type="virtio"/>',
    "network": '<interface type="network"> <source network="default"/> <model type="virtio"/>',
    "macvtap": '<interface type="direct"> <source dev="eth1" mode="bridge"/> <model type="virtio"/>',
    "passt": '<interface type="user"> <backend type="passt"/> <model type="virtio"/>',
    "user": '<interface type="user"> <model type="virtio"/>',
}


@pytest.mark.parametrize("rung", XML)
def test_every_rung_is_an_interface_of_libvirt(rung: str) -> None:
    host = pc()
    plan = planned(host, rung)
    assert decode(encode(plan), "test") == plan
    vm = Vm(name="vm", profile=(profile(rung),), plan=plan, options=Options(), seen=Seen())
    xml = render.render(vm, host)
    assert XML[rung] in " ".join(xml.split())
    render.check(xml)


def test_the_text_of_a_plan_names_the_networks_that_were_not_used() -> None:
    text = "\n".join(plans.lines(planned(pc(networks=()), "bridge:br7", "network", "user")))
    assert "not bridge:br7 [no-bridge], network [no-network]" in text


def kept(before: Plan, was: ProfileText, now: ProfileText, host: Host, *upgrade: Kind) -> Decision:
    had = Remembered(name="vm", profile=(was,), plan=before, options=Options(), seen=Seen())
    asked = keeping.asked(parse([now]), had, host, upgrade)
    return planner.plan(host, asked.profile, kept=asked.kept).of(Kind.NIC)


def test_a_vm_that_is_there_stays_where_it_was_plugged_in() -> None:
    host, plain = pc(), profile()
    before = planned(pc(but(NETWORK, passt=False), networks=()))
    assert kept(before, plain, plain, host).network is None
    assert kept(before, plain, plain, host, Kind.NIC).network == Plug(type="network", source="default")


def test_a_vm_whose_network_is_gone_gets_the_next() -> None:
    plain = profile()
    decision = kept(planned(pc()), plain, plain, pc(networks=()))
    assert decision.network == Plug(type="passt")
    assert R.NO_NETWORK in [r.reason for r in decision.rejected]


def test_a_profile_that_asks_for_another_network_gets_it() -> None:
    decision = kept(planned(pc()), profile(), profile("bridge", "user"), pc())
    assert decision.network == Plug(type="bridge", source="br0")
    assert decision.model == "virtio"


@pytest.mark.parametrize(
    ("xml", "forward", "bridge"),
    [
        ("<network><forward mode='nat'/><bridge name='virbr0'/></network>", "nat", "virbr0"),
        ("<network><forward/><bridge name='virbr0'/></network>", "nat", "virbr0"),
        ("<network><bridge name='virbr1'/></network>", "isolated", "virbr1"),
        ("<network><forward mode='bridge'/><bridge name='br0'/></network>", "bridge", "br0"),
        ("<network><forward mode='hostdev'/></network>", "hostdev", None),
    ],
)
def test_a_network_of_libvirts_is_read(xml: str, forward: str, bridge: str | None) -> None:
    found = capabilities.network("net", xml, active=True)
    assert found == VirtualNetwork(name="net", active=True, forward=forward, bridge=bridge)


def test_whether_libvirt_offers_passt_is_in_its_capabilities_where_it_tells() -> None:
    interface = "<interface supported='yes'><enum name='backendType'><value>default</value>{}</enum></interface>"
    text = f"<domainCapabilities><domain>qemu</domain><devices>{interface}</devices></domainCapabilities>"
    assert capabilities.parse(text.format("<value>passt</value>")).net_backends == ("default", "passt")
    assert capabilities.parse(text.format("")).net_backends == ("default",)
    assert capabilities.parse("<domainCapabilities/>").net_backends is msgspec.UNSET
