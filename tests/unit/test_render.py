"""The domain XML: logic-free templates, everything escaped, and what each strategy becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import Environment, nodes
from lxml import etree

from clienthv import datafiles, planner, render
from clienthv.errors import DiskError, TemplateError
from clienthv.lifecycle import remembered
from clienthv.model.host import DomainCapabilities, Host, Iommu, Kvm, PciFunction, RoleName, SrIov, Stack
from clienthv.model.plan import Board, Kind, Strategy
from clienthv.model.profile import ProfileText, parse
from clienthv.model.usb import UsbDevice
from clienthv.model.vm import Options, Seen, Vm

S = Strategy
PACKAGED = datafiles.packaged("templates")
TEMPLATES = sorted(str(p.relative_to(PACKAGED)) for p in PACKAGED.rglob("*.j2"))

GPU = (
    PciFunction(address="0000:01:00.0", class_code="030000", vendor_id="10de", driver="nouveau", iommu_group=1),
    PciFunction(address="0000:01:00.1", class_code="040300", vendor_id="10de", driver="snd_hda_intel", iommu_group=1),
)
SCREEN = PciFunction(
    address="0000:00:02.0", class_code="030000", vendor_id="8086", driver="i915", boot_vga=True, iommu_group=2,
    render_node="renderD128",
)  # fmt: skip
CARD = PciFunction(address="0000:03:00.0", class_code="020000", vendor_id="8086", driver="igb", iommu_group=3)
VF = PciFunction(address="0000:03:10.2", class_code="020000", driver="", iommu_group=30, physfn=CARD.address)
NVME = PciFunction(address="0000:04:00.0", class_code="010802", driver="nvme", iommu_group=4)
USB = PciFunction(address="0000:00:14.0", class_code="0c0330", driver="xhci_hcd", iommu_group=6)


def pc(*functions: PciFunction, **more: Any) -> Host:
    known: dict[str, Any] = {
        "iommu": Iommu(enabled=True, interrupt_remapping=True), "kvm": Kvm(usable=True),
        "roles_read": tuple(RoleName), "tpm_device": True,
    }  # fmt: skip
    return Host(pci=functions, **{**known, **more})


def made(host: Host = pc(SCREEN), name: str = "desktop", **ladders: tuple[Strategy | str, ...]) -> Vm:  # noqa: B008
    """A VM planned for a host; addresses on a ladder are selected."""
    lines = ['[guest]\ndrivers = ["virtio", "nvidia", "amd", "intel"]']
    for kind, ladder in ladders.items():
        rungs = [rung for rung in ladder if rung in set(Strategy)]
        select = [rung for rung in ladder if rung not in set(Strategy)]
        lines.append(f"[devices.{kind}]\nprefer = {json.dumps(rungs)}\nselect = {json.dumps(select)}")
    text = ProfileText("test", "test.toml", "\n".join(lines))
    return Vm(name=name, plan=planner.plan(host, parse((text,))), profile=(text,))


def domain(vm: Vm, host: Host = pc(SCREEN)) -> Any:  # noqa: B008
    """The rendered domain, checked against libvirt's schema, as a tree."""
    xml = render.render(vm, host)
    assert render.check(xml), "libvirt's schema is not installed: nothing was checked"
    return etree.fromstring(xml.encode())


def with_options(**options: str) -> Any:
    return domain(msgspec.structs.replace(made(), options=Options(**options)))


def addresses(hostdevs: list[Any]) -> list[str]:
    parts = [[h.find("source/address").get(p) for p in ("domain", "bus", "slot", "function")] for h in hostdevs]
    return ["{:04x}:{:02x}:{:02x}.{:x}".format(*(int(p, 16) for p in part)) for part in parts]


# --- templates hold no logic

ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Include, nodes.Block, nodes.Extends,
    nodes.Name, nodes.Getattr,
)  # fmt: skip


def logic_in(source: str) -> set[str]:
    """What of a template is more than a loop, a condition on a field, or a field printed."""
    tree = Environment(autoescape=True).parse(source)
    named = [n.template for n in tree.find_all((nodes.Include, nodes.Extends)) if isinstance(n.template, nodes.Const)]
    found = {type(n).__name__ for n in tree.find_all(nodes.Node) if not isinstance(n, ALLOWED) and n not in named}
    conditions = [n.test for n in tree.find_all(nodes.If)] + [n.iter for n in tree.find_all(nodes.For)]
    found |= {type(c).__name__ for c in conditions if not isinstance(c, nodes.Getattr | nodes.Name)}
    return found | {
        f"for with {part}" for n in tree.find_all(nodes.For) for part in ("test", "else_") if getattr(n, part)
    }


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_has_loops_conditions_and_includes_and_no_other_logic(template: str) -> None:
    assert logic_in((PACKAGED / template).read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        "{% set x = 1 %}", "{{ vm.name.upper() }}", "{{ vm.vcpus + 1 }}", "{{ vm.vcpus % 2 }}", "{{ vm.name ~ 'x' }}",
        "{{ vm.name|upper }}", "{% if vm.vcpus == 2 %}{% endif %}", "{{ vm['name'] }}", "{% macro m() %}{% endmacro %}",
        "{% if not vm.name %}{% endif %}", "{% if vm.a and vm.b %}{% endif %}", "{{ 'x' if vm.name else 'y' }}",
        "{% if vm.name is defined %}{% endif %}", "{{ [1] }}", "{% include vm.name %}{{ 'literal' }}",
        "{% for a in vm.b if a %}{% endfor %}", "{% filter upper %}{% endfilter %}", "{% import 'x' as y %}",
    ],
)  # fmt: skip
def test_the_rule_against_logic_sees_logic(source: str) -> None:
    assert logic_in(source)


def test_every_template_is_reached_from_the_domain() -> None:
    tree = Environment(autoescape=True).parse((PACKAGED / "domain.xml.j2").read_text())
    included = {n.template.value for n in tree.find_all(nodes.Include) if isinstance(n.template, nodes.Const)}
    assert included | {"domain.xml.j2"} == set(TEMPLATES)


def test_every_block_that_the_domain_promises_can_be_replaced() -> None:
    source = (PACKAGED / "domain.xml.j2").read_text()
    blocks = {n.name for n in Environment(autoescape=True).parse(source).find_all(nodes.Block)}
    assert {"basic", "metadata", "memory", "cpu", "os", "features", "clock", "power", "devices"} <= blocks
    assert {"disks", "host_devices", "nic", "display", "audio", "usb", "usb_devices", "tpm"} <= blocks


# --- a user's own templates


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of templates."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "clienthv" / "templates"
    (folder / "devices").mkdir(parents=True)
    return folder


def test_a_users_template_replaces_one_block_and_keeps_the_rest(own: Path) -> None:
    (own / "domain.xml.j2").write_text(
        '{% extends "packaged/domain.xml.j2" %}{% block clock %}<clock offset="localtime"/>{% endblock %}'
    )
    root = domain(made())
    assert [c.get("offset") for c in root.findall("clock")] == ["localtime"]
    assert root.findtext("name") == "desktop"
    assert root.find("devices/graphics") is not None


def test_a_users_device_template_replaces_the_one_that_came_along(own: Path) -> None:
    (own / "devices" / "usb.xml.j2").write_text('<controller type="usb" model="nec-xhci"/>\n')
    assert [c.get("model") for c in domain(made()).findall("devices/controller")] == ["nec-xhci"]


def test_a_users_template_escapes_what_it_prints(own: Path) -> None:
    (own / "domain.xml.j2").write_text(
        '{% extends "packaged/domain.xml.j2" %}{% block clock %}<description>{{ vm.cdrom }}</description>{% endblock %}'
    )
    assert with_options(cdrom="/a<b>&c").findtext("description") == "/a<b>&c"


BROKEN = {
    "syntax": "{% if %}",
    "unclosed block": "{% block clock %}",
    "unknown tag": "{% frobnicate %}",
    "unknown variable": "{{ machine }}",
    "unknown field": "{{ vm.weather }}",
    "unknown field in a condition": "{% if vm.weather %}x{% endif %}",
    "unknown filter": "{{ vm.name|frobnicate }}",
    "unknown include": '{% include "devices/hologram.xml.j2" %}',
    "private attribute": "{{ ''.__class__ }}",
    "way out of the sandbox": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "private attribute of the view": "{{ vm.__class__.__init__.__globals__ }}",
    "private attribute by filter": "{{ vm|attr('__class__') }}",
    "call of a text": "{{ vm.name() }}",
    "arithmetic": "{{ vm.name + 1 }}",
    "division": "{{ 1 / 0 }}",
    "endless range": "{% for i in range(1000000000) %}x{% endfor %}",
    "itself": '{% include "devices/usb.xml.j2" %}',
    "none": "{{ none }}",
    "none of the view": "{{ vm.nic_vf }}",
    "way out of the folder": '{% include "../../../../etc/passwd" %}',
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_a_broken_template_of_the_user_is_a_template_error_with_a_hint(own: Path, source: str) -> None:
    (own / "devices" / "usb.xml.j2").write_text(source)
    with pytest.raises(TemplateError) as caught:
        render.render(made(), pc(SCREEN))
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["syntax", "unknown variable", "private attribute"])
def test_the_error_names_the_template_that_is_broken(own: Path, kind: str) -> None:
    (own / "devices" / "usb.xml.j2").write_text(BROKEN[kind])
    with pytest.raises(TemplateError, match=r"devices/usb\.xml\.j2"):
        render.render(made(), pc(SCREEN))


@pytest.mark.parametrize("kind", ["syntax", "unknown variable", "private attribute"])
def test_the_error_names_the_domain_template_when_that_is_broken(own: Path, kind: str) -> None:
    (own / "domain.xml.j2").write_text(BROKEN[kind])
    with pytest.raises(TemplateError, match=r"domain\.xml\.j2"):
        render.render(made(), pc(SCREEN))


def test_a_domain_template_that_extends_itself_instead_of_the_packaged_one_is_a_template_error(own: Path) -> None:
    (own / "domain.xml.j2").write_text('{% extends "domain.xml.j2" %}')
    with pytest.raises(TemplateError):
        render.render(made(), pc(SCREEN))


def test_a_template_that_is_not_utf_8_is_a_template_error(own: Path) -> None:
    (own / "devices" / "usb.xml.j2").write_bytes(b"<!-- caf\xe9 -->")
    with pytest.raises(TemplateError):
        render.render(made(), pc(SCREEN))


@pytest.mark.parametrize("source", ["<controller", "</devices>", "<wrong/>", "&nbsp;", "<!DOCTYPE x>"])
def test_a_template_that_gives_no_libvirt_domain_is_a_template_error(own: Path, source: str) -> None:
    (own / "devices" / "usb.xml.j2").write_text(source)
    with pytest.raises(TemplateError, match="domain is not"):
        render.render(made(), pc(SCREEN))


def test_a_template_cannot_bring_files_into_the_domain_by_an_xml_entity(own: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    (own / "domain.xml.j2").write_text(
        f'<!DOCTYPE domain [<!ENTITY s SYSTEM "file://{tmp_path}/secret">]>'
        '<domain type="qemu"><name>&s;</name><os><type>hvm</type></os><memory>1</memory></domain>'
    )
    with pytest.raises(TemplateError):
        render.render(made(), pc(SCREEN))


@pytest.mark.parametrize("seen", [Seen(), Seen(uuid="8f1e4a52-8f63-4d1c-9e0b-0d6b8a3f2b11", mac="52:54:00:00:00:01")])
def test_none_is_never_printed(seen: Seen) -> None:
    vm = msgspec.structs.replace(made(), seen=seen)
    root = domain(vm)
    root.remove(root.find("metadata"))
    assert "None" not in etree.tostring(root, encoding="unicode")


# --- escaping


@pytest.mark.parametrize("name", ["a", "x" * 64, "a.b+c-d_e", "0", "_"])
def test_a_vm_name_reads_back_as_it_was(name: str) -> None:
    assert domain(made(name=name)).findtext("name") == name


@pytest.mark.parametrize("name", ["a<b>", "a&b", "a\"b'c", "]]>", "<!--", "</name><name>b", "{{ vm.uuid }}", "ä😀"])
def test_a_hostile_vm_name_is_escaped_and_reads_back_as_it_was(name: str) -> None:
    assert domain(made(name=name)).findtext("name") == name


HOSTILE = ["/a b.img", "/a\"b'.img", "/a<b>.img", "/a&amp;b.img", '/"/><script/>', "/]]>", "/{{ vm.name }}", "/ä😀"]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_disk_path_is_escaped_and_reads_back_as_it_was(path: str) -> None:
    root = with_options(disk=path, disk_format="qcow2")
    assert [s.get("file") for s in root.findall("devices/disk/source")] == [path]


@pytest.mark.parametrize("path", ["/a\nb.img", "/a\tb.img", "/a\rb.img"], ids=ascii)
def test_a_disk_path_with_line_breaks_reads_back_as_it_was_or_is_refused(path: str) -> None:
    """XML turns these into spaces inside an attribute, which would name another file."""
    try:
        root = with_options(disk=path, disk_format="qcow2")
    except DiskError:
        return
    assert [s.get("file") for s in root.findall("devices/disk/source")] == [path]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_cdrom_path_is_escaped_and_reads_back_as_it_was(path: str) -> None:
    assert [s.get("file") for s in with_options(cdrom=path).findall("devices/disk/source")] == [path]


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_boot_files_are_escaped_and_read_back_as_they_were(path: str) -> None:
    root = with_options(kernel=path, initrd=path, cmdline=f"root={path} <&>")
    assert [root.findtext(f"os/{part}") for part in ("kernel", "initrd", "cmdline")] == [path, path, f"root={path} <&>"]


@pytest.mark.parametrize("path", ["/a\x00b", "/a\x01b", "/a\ufffeb", "/a\udcffb"], ids=ascii)
def test_a_path_that_xml_cannot_carry_is_an_error_and_not_a_traceback(path: str) -> None:
    with pytest.raises(DiskError):
        with_options(disk=path, disk_format="raw")


@settings(max_examples=30)
@given(st.text(max_size=80), st.text(max_size=20))
@example("\x00\x01\x7f\x85\u2028\ufffe\uffff\r\n\t", "]]>")
@example("</clienthv:profile>", "<!--")
@example("a\\u0041\\", '"')
def test_a_profiles_text_reads_back_from_the_domain_whatever_is_in_it(text: str, origin: str) -> None:
    vm = msgspec.structs.replace(made(), profile=(ProfileText("odd", origin, text),))
    known = remembered.read(render.render(vm, pc(SCREEN)), vm.name)
    assert known is not None
    assert known.profile == vm.profile


def test_a_profile_from_a_path_that_is_not_utf_8_reads_back_from_the_domain() -> None:
    vm = msgspec.structs.replace(made(), profile=(ProfileText("odd", "/home/\udcff/odd.toml", ""),))
    known = remembered.read(render.render(vm, pc(SCREEN)), vm.name)
    assert known is not None
    assert known.profile == vm.profile


def test_the_plan_and_the_options_read_back_from_the_domain() -> None:
    host = pc(SCREEN, *(msgspec.structs.replace(f, vendor='<Ünïcödé & "co">') for f in GPU))
    vm = made(host, gpu=(S.PASSTHROUGH, S.OMIT))
    vm = msgspec.structs.replace(vm, options=Options(disk="/d & <e>.img", disk_format="raw"))
    known = remembered.read(render.render(vm, host), vm.name)
    assert known is not None
    assert (known.plan, known.options) == (vm.plan, vm.options)


def test_what_the_guest_has_seen_it_sees_again() -> None:
    seen = Seen(
        uuid="8f1e4a52-8f63-4d1c-9e0b-0d6b8a3f2b11", mac="52:54:00:00:00:01", machine="pc-q35-9.2", nvram="/n v&.fd",
        firmware=S.UEFI, disk=S.PARAVIRTUAL,
    )  # fmt: skip
    vm = msgspec.structs.replace(made(firmware=(S.UEFI,), disk=(S.PARAVIRTUAL,)), seen=seen)
    known = remembered.read(render.render(vm, pc(SCREEN)), vm.name)
    assert known is not None
    assert known.seen == seen


def test_a_domain_that_is_not_clienthvs_is_known_as_such() -> None:
    assert remembered.read('<domain type="qemu"><name>other</name></domain>', "other") is None


# --- what each strategy becomes


def test_every_function_that_is_handed_over_is_a_managed_host_device_once() -> None:
    host = pc(SCREEN, *GPU, CARD)
    hostdevs = domain(made(host, gpu=(S.PASSTHROUGH,), nic=(S.PASSTHROUGH,)), host).findall("devices/hostdev")
    assert addresses(hostdevs) == ["0000:01:00.0", "0000:01:00.1", "0000:03:00.0"]
    assert all((h.get("type"), h.get("managed")) == ("pci", "yes") for h in hostdevs)


def test_a_function_that_two_kinds_hand_over_is_a_host_device_once() -> None:
    card = (
        PciFunction(address="0000:05:00.0", class_code="020000", driver="igb", iommu_group=5),
        PciFunction(address="0000:05:00.1", class_code="0c0330", driver="xhci_hcd", iommu_group=5),
    )
    host = pc(SCREEN, *card)
    vm = made(host, nic=(S.PASSTHROUGH, card[0].address), usb=(S.PASSTHROUGH, card[1].address))
    assert [vm.plan.of(k).functions for k in (Kind.NIC, Kind.USB)] == [("0000:05:00.0", "0000:05:00.1")] * 2
    assert addresses(domain(vm, host).findall("devices/hostdev")) == ["0000:05:00.0", "0000:05:00.1"]


def test_a_handed_over_network_card_leaves_no_virtual_one() -> None:
    host = pc(SCREEN, CARD)
    assert domain(made(host, nic=(S.PASSTHROUGH,)), host).find("devices/interface") is None


def test_a_network_cards_virtual_function_is_an_interface_that_keeps_its_address() -> None:
    host = pc(SCREEN, msgspec.structs.replace(CARD, sriov=SrIov(totalvfs=7, numvfs=1, virtfns=(VF.address,))), VF)
    vm = msgspec.structs.replace(made(host, nic=(S.VF,)), seen=Seen(mac="52:54:00:00:00:01"))
    root = domain(vm, host)
    (interface,) = root.findall("devices/interface")
    assert (interface.get("type"), interface.get("managed")) == ("hostdev", "yes")
    assert addresses([interface]) == [VF.address]
    assert interface.find("mac").get("address") == "52:54:00:00:00:01"
    assert root.find("devices/hostdev") is None


def test_a_gpus_virtual_function_is_a_host_device() -> None:
    part = PciFunction(
        address="0000:00:02.1", class_code="030000", vendor_id="8086", driver="", iommu_group=21, physfn=SCREEN.address
    )
    host = pc(SCREEN, part)
    assert addresses(domain(made(host, gpu=(S.VF,)), host).findall("devices/hostdev")) == [part.address]


def test_a_handed_over_disk_is_booted_from_and_no_image_is_attached() -> None:
    host = pc(SCREEN, NVME)
    vm = made(host, disk=(S.PASSTHROUGH, NVME.address))
    vm = msgspec.structs.replace(vm, options=Options(disk="/d.img", disk_format="raw"))
    root = domain(vm, host)
    assert [h.find("boot").get("order") for h in root.findall("devices/hostdev")] == ["1"]
    assert root.find("devices/disk") is None


def test_only_one_device_is_booted_from_first() -> None:
    """libvirt: "boot order '1' used for more than one device"."""
    second = msgspec.structs.replace(NVME, address="0000:05:00.0")  # in the same group: both move
    host = pc(SCREEN, NVME, second)
    vm = made(host, disk=(S.PASSTHROUGH, NVME.address, second.address))
    assert vm.plan.of(Kind.DISK).functions == (NVME.address, second.address)
    orders = [b.get("order") for b in domain(vm, host).iterfind("devices//boot")]
    assert orders == ["1"]


def test_secure_boot_is_asked_of_the_firmware() -> None:
    os = domain(made(firmware=(S.UEFI_SECURE_BOOT,))).find("os")
    assert os.get("firmware") == "efi"
    assert [(f.get("name"), f.get("enabled")) for f in os.findall("firmware/feature")] == [("secure-boot", "yes")]


def test_uefi_alone_is_without_secure_boot() -> None:
    os = domain(made(firmware=(S.UEFI,))).find("os")
    assert os.get("firmware") == "efi"
    assert [(f.get("name"), f.get("enabled")) for f in os.findall("firmware/feature")] == [("secure-boot", "no")]


def test_a_bios_guest_has_no_uefi_firmware_and_no_nvram() -> None:
    vm = msgspec.structs.replace(made(firmware=(S.BIOS,)), seen=Seen(nvram="/old.fd"))
    os = domain(vm).find("os")
    assert os.get("firmware") is None
    assert os.find("firmware") is None
    assert os.find("nvram") is None


def test_an_emulated_tpm_is_version_2_in_software() -> None:
    tpm = domain(made(tpm=(S.EMULATED,))).find("devices/tpm")
    assert tpm.get("model") == "tpm-crb"
    assert (tpm.find("backend").get("type"), tpm.find("backend").get("version")) == ("emulator", "2.0")


def test_a_handed_over_tpm_is_the_hosts() -> None:
    tpm = domain(made(tpm=(S.PASSTHROUGH,))).find("devices/tpm")
    assert tpm.get("model") == "tpm-tis", "the host's buffer may be larger than that of tpm-crb"
    assert tpm.find("backend").get("type") == "passthrough"
    assert tpm.find("backend/device").get("path") == "/dev/tpm0"


def test_a_guest_without_a_tpm_has_none() -> None:
    assert domain(made(tpm=(S.OMIT,))).find("devices/tpm") is None


def test_spice_listens_on_a_socket_of_its_own_alone_and_has_the_agents_channel_and_its_sound() -> None:
    devices = domain(made(display=(S.PARAVIRTUAL,), audio=(S.EMULATED,))).find("devices")
    assert [g.get("type") for g in devices.findall("graphics")] == ["spice"]
    assert devices.find("graphics/listen").attrib == {"type": "socket"}
    assert devices.find("channel/target").get("name") == "com.redhat.spice.0"
    assert [a.get("type") for a in devices.findall("audio")] == ["spice"]


def test_vnc_listens_on_a_socket_of_its_own_alone_and_has_no_spice_channel() -> None:
    devices = domain(made(display=(S.EMULATED,), audio=(S.EMULATED,))).find("devices")
    assert [g.get("type") for g in devices.findall("graphics")] == ["vnc"]
    assert devices.find("graphics/listen").attrib == {"type": "socket"}
    assert devices.find("channel") is None
    assert [a.get("type") for a in devices.findall("audio")] == ["none"]


def test_a_guest_without_a_screen_has_no_graphics() -> None:
    assert domain(made(display=(S.OMIT,))).find("devices/graphics") is None


@pytest.mark.parametrize(("display", "screen"), [(S.PARAVIRTUAL, "spice"), (S.EMULATED, "vnc")])
def test_3d_is_rendered_on_the_hosts_node_beside_the_screen(display: Strategy, screen: str) -> None:
    devices = domain(made(gpu=(S.PARAVIRTUAL_3D,), display=(display,))).find("devices")
    assert [g.get("type") for g in devices.findall("graphics")] == [screen, "egl-headless"]
    assert devices.find("graphics[@type='egl-headless']/gl").get("rendernode") == "/dev/dri/renderD128"
    assert devices.find("video/model").get("type") == "virtio"
    assert devices.find("video/model/acceleration").get("accel3d") == "yes"


@pytest.mark.parametrize(("gpu", "model"), [(S.PARAVIRTUAL, "virtio"), (S.EMULATED, "vga"), (S.OMIT, "none")])
def test_a_virtual_gpu_is_plain_2d(gpu: Strategy, model: str) -> None:
    devices = domain(made(gpu=(gpu,))).find("devices")
    assert [m.get("type") for m in devices.findall("video/model")] == [model]
    assert devices.find("video/model/acceleration") is None
    assert devices.find("graphics[@type='egl-headless']") is None


@pytest.mark.parametrize(("offered", "model"), [(("vga", "bochs"), "bochs"), (("vga",), "vga"), (None, "vga")])
def test_beside_a_gpu_of_its_own_the_guest_gets_the_plainest_adapter_there_is(
    offered: tuple[str, ...] | None, model: str
) -> None:
    capabilities = offered and DomainCapabilities(
        domain_type="kvm", video_models=offered, graphics=("spice", "vnc"), pci_backends=("vfio",), firmware=("efi",)
    )
    host = pc(SCREEN, *GPU, stack=Stack(capabilities=capabilities or None))
    assert domain(made(host, gpu=(S.PASSTHROUGH,)), host).find("devices/video/model").get("type") == model


def test_a_gpu_of_its_own_without_a_virtual_screen_is_the_guests_only_one() -> None:
    host = pc(SCREEN, *GPU)
    root = domain(made(host, gpu=(S.PASSTHROUGH,), display=(S.OMIT,)), host)
    assert root.find("devices/video/model").get("type") == "none"


@pytest.mark.parametrize(
    ("cpu", "kind", "mode"),
    [(S.HARDWARE_VIRTUALIZATION, "kvm", "host-model"), (S.BINARY_TRANSLATION, "qemu", "maximum")],
)
def test_the_processor_decides_the_domains_type_and_its_cpu_mode(cpu: Strategy, kind: str, mode: str) -> None:
    root = domain(made(cpu=(cpu,)))
    assert (root.get("type"), root.find("cpu").get("mode")) == (kind, mode)


@pytest.mark.parametrize(("disk", "target"), [(S.PARAVIRTUAL, ("vda", "virtio")), (S.EMULATED, ("sda", "sata"))])
def test_a_disk_image_hangs_on_the_bus_that_was_planned(disk: Strategy, target: tuple[str, str]) -> None:
    vm = msgspec.structs.replace(made(disk=(disk,)), options=Options(disk="/d.img", disk_format="raw"))
    element = domain(vm).find("devices/disk")
    assert (element.find("target").get("dev"), element.find("target").get("bus")) == target
    assert element.find("driver").get("type") == "raw"


@pytest.mark.parametrize(("nic", "model"), [(S.PARAVIRTUAL, "virtio"), (S.EMULATED, "e1000e")])
def test_a_virtual_network_card_is_the_model_that_was_planned(nic: Strategy, model: str) -> None:
    assert [i.find("model").get("type") for i in domain(made(nic=(nic,))).findall("devices/interface")] == [model]


def test_a_guest_without_a_network_card_has_none() -> None:
    assert domain(made(nic=(S.OMIT,))).find("devices/interface") is None


def test_a_guest_with_nothing_paravirtual_gets_no_paravirtual_helpers() -> None:
    plain = {"gpu": (S.EMULATED,), "nic": (S.EMULATED,), "disk": (S.EMULATED,), "input": (S.EMULATED,)}
    devices = domain(made(**plain)).find("devices")
    assert devices.find("memballoon").get("model") == "none"
    assert devices.find("rng") is None


@pytest.mark.parametrize(
    "usb", [(S.OMIT,), (S.PASSTHROUGH, S.OMIT), (S.PASSTHROUGH, USB.address)], ids=["omitted", "refused", "handed over"]
)
def test_a_domain_without_usb_has_no_usb_pointer(usb: tuple[Strategy | str, ...]) -> None:
    """libvirt: "Can't add USB input device. USB bus is disabled"."""
    host = pc(SCREEN, USB)
    devices = domain(made(host, usb=usb, input=(S.EMULATED,)), host).find("devices")
    assert [c.get("model") for c in devices.findall("controller[@type='usb']")] == ["none"]
    assert "usb" not in [i.get("bus") for i in devices.findall("input")]


# --- single USB devices

CAMERA = UsbDevice(
    port="1-4", busnum=1, devnum=12, vendor_id="046d", product_id="0825", vendor="Logitech, Inc.", product="Webcam",
    device_class="ef", interface_classes=("0e0100",), controller=USB.address, block_devices=(), network_interfaces=(),
)  # fmt: skip
STICK = msgspec.structs.replace(CAMERA, port="2-1.3", busnum=2, devnum=7, vendor_id="0781", product_id="5567")


def with_usb(host: Host, *names: str, usb: str = "") -> Vm:
    text = ProfileText("test", "test.toml", f"[devices.usb]\n{usb}\ndevices = {json.dumps(names)}")
    return Vm(name="desktop", plan=planner.plan(host, parse((text,))), profile=(text,))


def usb_hostdevs(vm: Vm, host: Host) -> list[Any]:
    return list(domain(vm, host).findall("devices/hostdev[@type='usb']"))


def test_a_usb_device_is_a_host_device_that_libvirt_finds_by_its_ids() -> None:
    host = pc(SCREEN, USB, usb=(CAMERA, STICK))
    (hostdev,) = usb_hostdevs(with_usb(host, "046d:0825"), host)
    assert (hostdev.get("mode"), hostdev.get("managed")) == ("subsystem", "yes")
    assert (hostdev.find("source/vendor").get("id"), hostdev.find("source/product").get("id")) == ("0x046d", "0x0825")
    assert hostdev.find("source/address") is None


def test_a_usb_device_on_a_named_port_has_the_numbers_of_that_port() -> None:
    twin = msgspec.structs.replace(STICK, port="2-1.4", devnum=9)
    host = pc(SCREEN, USB, usb=(STICK, twin))
    vm = with_usb(host, "0781:5567@2-1.4", "0781:5567@2-1.3")
    found = [dict(h.find("source/address").attrib) for h in usb_hostdevs(vm, host)]
    assert found == [{"bus": "2", "device": "9"}, {"bus": "2", "device": "7"}]


def test_a_missing_usb_device_fails_a_start_and_does_not_keep_a_saved_guest_from_coming_back() -> None:
    host = pc(SCREEN, USB, usb=(CAMERA,))
    (hostdev,) = usb_hostdevs(with_usb(host, "046d:0825"), host)
    assert hostdev.find("source").get("startupPolicy") == "requisite"


def test_a_usb_device_that_is_left_out_is_not_in_the_domain() -> None:
    host = pc(SCREEN, USB, usb=(CAMERA,))
    assert usb_hostdevs(with_usb(host, "dead:beef", "046d:0825@1-9"), host) == []


def test_a_usb_device_that_goes_with_its_controller_is_not_handed_over_twice() -> None:
    host = pc(SCREEN, USB, usb=(CAMERA,))
    vm = with_usb(host, "046d:0825@1-4", usb=f'prefer = ["passthrough"]\nselect = ["{USB.address}"]')
    root = domain(vm, host)
    assert [h.get("type") for h in root.findall("devices/hostdev")] == ["pci"]
    assert addresses(root.findall("devices/hostdev")) == [USB.address]


@pytest.mark.parametrize(("names", "ports"), [((), None), (("046d:0825",), "15"), (("dead:beef",), None)])
def test_a_controller_with_usb_devices_has_all_ports_so_that_no_slow_hub_is_put_between(
    names: tuple[str, ...], ports: str | None
) -> None:
    host = pc(SCREEN, USB, usb=(CAMERA,))
    (controller,) = domain(with_usb(host, *names), host).findall("devices/controller[@type='usb']")
    assert (controller.get("model"), controller.get("ports")) == ("qemu-xhci", ports)


@pytest.mark.parametrize(
    "name", ["</source><x/>", "]]>", "\x00\x1b[2J\n\r\t", '"><hostdev/>', "{{ vm.uuid }}", "\ufffe\uffff"], ids=ascii
)
def test_what_a_usb_device_calls_itself_cannot_leave_the_plan(name: str) -> None:
    host = pc(SCREEN, USB, usb=(msgspec.structs.replace(CAMERA, vendor=name, product=name),))
    vm = with_usb(host, "046d:0825@1-4")
    assert len(usb_hostdevs(vm, host)) == 1
    known = remembered.read(render.render(vm, host), vm.name)
    assert known is not None
    assert known.plan == vm.plan


def test_a_command_line_without_a_kernel_is_left_out() -> None:
    assert with_options(cmdline="quiet").find("os/cmdline") is None


@pytest.mark.parametrize(
    ("seen", "board", "machine"),
    [
        ("pc-q35-9.2", "q35", "pc-q35-9.2"),
        ("pc-i440fx-9.2", "pc", "pc-i440fx-9.2"),
        ("pc-q35-9.2", "pc", "pc"),
        ("pc-i440fx-9.2", "q35", "q35"),
        (None, "pc", "pc"),
    ],
)
def test_a_guest_keeps_its_machine_type_unless_its_system_needs_another_kind(
    seen: str | None, board: Any, machine: str
) -> None:
    vm = made()
    plan = msgspec.structs.replace(vm.plan, board=Board(machine=board))
    vm = msgspec.structs.replace(vm, plan=plan, seen=Seen(machine=seen))
    assert domain(vm).find("os/type").get("machine") == machine
