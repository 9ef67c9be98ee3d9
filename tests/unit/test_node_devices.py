"""A PC by libvirt's word: its documents become the facts of a host document, and nonsense becomes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clienthv.errors import ClienthvError, HostError
from clienthv.hypervisor import documents, host_capabilities, interfaces, node, storage
from clienthv.hypervisor.connection import Choice, Connection
from clienthv.hypervisor.node_devices import Devices, read_devices
from clienthv.model.agreement import disagreements
from clienthv.model.host import Host, Iommu, Kvm, Memory, PciFunction, SrIov, decode, encode
from clienthv.model.network import Bridge, Card
from clienthv.model.particulars import Mdev, MdevType
from clienthv.model.usb import UsbDevice

ROOT = "/sys/devices/pci0000:00"
PORT = f"{ROOT}/0000:00:1c.0"
CARD = f"{PORT}/0000:03:00.0"


def device(name: str, capability: str, *, path: str = "", parent: str = "computer", driver: str = "") -> str:
    """A node device as libvirt writes it."""
    lines = [f"<device><name>{name}</name>"]
    lines += [f"<path>{path}</path>"] if path else []
    lines += [f"<parent>{parent}</parent>"] if parent else []
    lines += [f"<driver><name>{driver}</name></driver>"] if driver else []
    return "\n".join([*lines, capability, "</device>"])


def pci(address: str, more: str = "", *, kind: str = "0x020000", ids: str = "8086:10c9", **place: str) -> str:
    """A PCI function's document; it hangs where ``path`` says."""
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    vendor, product = ids.split(":")
    numbers = "".join(
        f"<{name}>{int(text, 16)}</{name}>"
        for name, text in (("domain", domain), ("bus", bus), ("slot", slot), ("function", function))
    )
    told = f"<class>{kind}</class>{numbers}<product id='0x{product}'/><vendor id='0x{vendor}'>Intel</vendor>{more}"
    name = f"pci_{address.replace(':', '_').replace('.', '_')}"
    return device(name, f"<capability type='pci'>{told}</capability>", **place)


def place(address: str) -> str:
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"


def only(found: Devices, address: str) -> PciFunction:
    return next(f for f in found.pci if f.address == address)


def net(name: str, path: str, state: str = "up", kind: str = "80203", parent: str = "pci_0000_03_00_0") -> str:
    told = f"<interface>{name}</interface><link state='{state}'/><capability type='{kind}'/>"
    return device(f"net_{name}", f"<capability type='net'>{told}</capability>", path=path, parent=parent)


BRIDGE = pci("0000:00:1c.0", kind="0x060400", ids="8086:a110", path=PORT, driver="pcieport")


def test_a_function_has_its_ids_class_driver_group_node_and_bridges() -> None:
    group = f"<iommuGroup number='17'>{place('0000:03:00.0')}</iommuGroup><numa node='1'/>"
    found = only(read_devices([pci("0000:03:00.0", group, path=CARD, driver="igb"), BRIDGE]), "0000:03:00.0")
    assert (found.class_code, found.vendor_id, found.device_id) == ("020000", "8086", "10c9")
    assert (found.vendor, found.device) == ("Intel", None)
    assert (found.driver, found.iommu_group, found.numa_node) == ("igb", 17, 1)
    assert found.bridge_path == ("0000:00:1c.0",)
    assert (found.boot_vga, found.reset_methods, found.connectors, found.revision) == (None, None, None, None)


def test_a_function_without_a_driver_or_a_group_has_none() -> None:
    found = only(read_devices([pci("0000:03:00.0", path=CARD)]), "0000:03:00.0")
    assert (found.driver, found.iommu_group, found.numa_node, found.sriov) == ("", None, None, None)


def test_a_driver_with_an_odd_name_is_unknown_and_not_none() -> None:
    assert only(read_devices([pci("0000:03:00.0", path=CARD, driver="a/../b c")]), "0000:03:00.0").driver is None


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ("<capability type='virt_functions' maxCount='7'/>", SrIov(totalvfs=7, numvfs=0)),
        (
            f"<capability type='virt_functions' maxCount='7'>{place('0000:03:10.0')}{place('0000:03:10.2')}"
            "</capability>",
            SrIov(totalvfs=7, numvfs=2, virtfns=("0000:03:10.0", "0000:03:10.2")),
        ),
        (
            f"<capability type='virt_functions'>{place('0000:03:10.0')}</capability>",
            SrIov(totalvfs=None, numvfs=1, virtfns=("0000:03:10.0",)),
        ),
        ("<capability type='virt_functions'/>", None),
    ],
    ids=["none yet", "two of seven", "an old libvirt", "an old libvirt and a plain card"],
)
def test_virtual_functions_are_counted_and_named(element: str, expected: SrIov | None) -> None:
    assert only(read_devices([pci("0000:03:00.0", element, path=CARD)]), "0000:03:00.0").sriov == expected


def test_a_virtual_function_names_its_card() -> None:
    element = f"<capability type='phys_function'>{place('0000:03:00.0')}</capability>"
    found = read_devices([pci("0000:03:10.0", element, path=f"{PORT}/0000:03:10.0")])
    assert only(found, "0000:03:10.0").physfn == "0000:03:00.0"


@pytest.mark.parametrize(("state", "up"), [("up", True), ("dormant", True), ("down", None), ("unknown", None)])
def test_a_link_that_is_down_may_only_lack_a_cable(state: str, up: bool | None) -> None:
    card = pci("0000:03:00.0", "<capability type='virt_functions' maxCount='7'/>", path=CARD)
    found = read_devices([card, net("enp3s0", f"{CARD}/net/enp3s0", state)])
    function = only(found, "0000:03:00.0")
    assert function.interfaces == ("enp3s0",)
    assert function.sriov == SrIov(totalvfs=7, numvfs=0, link_up=up)
    assert found.cards == (Card(name="enp3s0", up=up, wireless=False),)


def test_cards_are_interfaces_with_hardware() -> None:
    wireless = net("wlp3s0", f"{CARD}/net/wlp3s0", kind="80211")
    virtual = net("br0", "/sys/devices/virtual/net/br0", parent="computer")
    found = read_devices([pci("0000:03:00.0", path=CARD), wireless, virtual])
    assert found.cards == (Card(name="wlp3s0", up=True, wireless=True),)


def test_what_hangs_on_a_function_is_found_by_parents_where_there_are_no_paths() -> None:
    disk = device(
        "block_sda",
        "<capability type='storage'><block>/dev/sda</block></capability>",
        parent="scsi_0_0_0_0",
    )
    scsi = device("scsi_0_0_0_0", "<capability type='mdev'/>", parent="pci_0000_03_00_0")
    found = read_devices([disk, scsi, pci("0000:03:00.0", parent="pci_0000_00_1c_0"), pci("0000:00:1c.0")])
    assert only(found, "0000:03:00.0").block_devices == ("sda",)
    assert only(found, "0000:03:00.0").bridge_path == ("0000:00:1c.0",)


def test_a_parent_that_nobody_knows_leaves_the_way_unknown() -> None:
    found = read_devices([pci("0000:03:00.0", parent="pci_0000_00_1c_0")])
    assert only(found, "0000:03:00.0").bridge_path is None


def test_parents_in_a_circle_end() -> None:
    found = read_devices(
        [pci("0000:03:00.0", parent="pci_0000_04_00_0"), pci("0000:04:00.0", parent="pci_0000_03_00_0")]
    )
    assert [f.bridge_path for f in found.pci] == [None, None]


def test_a_multipath_disk_leaves_the_nvme_functions_disks_unknown() -> None:
    path = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1"
    told = "<capability type='storage'><block>/dev/nvme0n1</block></capability>"
    disk = device("block_nvme0n1", told, path=path)
    found = read_devices([pci("0000:03:00.0", kind="0x010802", path=CARD), BRIDGE, disk])
    assert only(found, "0000:03:00.0").block_devices is None
    assert only(found, "0000:00:1c.0").block_devices == ()


def test_a_gpu_has_its_drm_devices_and_what_it_can_be_shared_as() -> None:
    types = (
        "<capability type='mdev_types'><type id='i915-GVTg_V5_4'><name>low</name><deviceAPI>vfio-pci</deviceAPI>"
        "<availableInstances>2</availableInstances></type><type id='../x'/></capability>"
    )
    gpu = pci("0000:00:02.0", types, kind="0x030000", path=f"{ROOT}/0000:00:02.0", driver="i915")
    nodes = [
        device(
            f"drm_{name}", f"<capability type='drm'><type>{kind}</type></capability>", path=f"{ROOT}/{at}/drm/{name}"
        )
        for name, kind, at in (
            ("card0", "primary", "0000:00:02.0"),
            ("renderD128", "render", "0000:00:02.0"),
            ("card1", "primary", "0000:00:14.0/usb1/1-2/1-2:1.0"),
        )
    ]
    uuid = "c60cc60c-c60c-c60c-c60c-c60cc60cc60c"
    made = device(
        f"mdev_{uuid.replace('-', '_')}",
        "<capability type='mdev'><type id='i915-GVTg_V5_4'/></capability>",
        path=f"{ROOT}/0000:00:02.0/{uuid}",
    )
    usb = pci("0000:00:14.0", kind="0x0c0330", path=f"{ROOT}/0000:00:14.0")
    found = read_devices([gpu, usb, made, *nodes])
    function = only(found, "0000:00:02.0")
    assert (function.drm_card, function.render_node) == ("card0", "renderD128")
    assert only(found, "0000:00:14.0").drm_card is None, "a USB display is not its controller"
    assert function.known.mdev_types == (MdevType(id="i915-GVTg_V5_4", name="low", available=2, api="vfio-pci"),)
    assert function.known.mdevs == (Mdev(uuid=uuid, type="i915-GVTg_V5_4"),)


def usb(name: str, path: str, number: int) -> str:
    told = f"<bus>1</bus><device>{number}</device><product id='0xc52b'>Receiver</product><vendor id='0x046d'/>"
    return device(name, f"<capability type='usb_device'>{told}</capability>", path=path)


def test_a_usb_device_has_its_port_interfaces_and_controller() -> None:
    hub = f"{ROOT}/0000:00:14.0/usb1"
    interfaces = [
        device(
            f"usb_1_2_1_{n}",
            f"<capability type='usb'><number>{n}</number><class>{c}</class><subclass>1</subclass>"
            "<protocol>1</protocol></capability>",
            path=f"{hub}/1-2/1-2:1.{n}",
            driver=driver,
        )
        for n, c, driver in ((0, 3, "usbhid"), (1, 255, ""))
    ]
    card = net("enx0", f"{hub}/1-2/1-2:1.1/net/enx0", parent="usb_1_2")
    controller = pci("0000:00:14.0", kind="0x0c0330", path=f"{ROOT}/0000:00:14.0")
    found = read_devices([controller, usb("usb_1_2", f"{hub}/1-2", 5), usb("usb_usb1", hub, 1), card, *interfaces])
    assert found.usb is not None
    assert [d.port for d in found.usb] == ["usb1", "1-2"]
    assert found.usb[1] == UsbDevice(
        port="1-2", busnum=1, devnum=5, vendor_id="046d", product_id="c52b", product="Receiver",
        interface_classes=("030101", "ff0101"), controller="0000:00:14.0", drivers=("usbhid",), block_devices=(),
        network_interfaces=("enx0",),
    )  # fmt: skip
    assert only(found, "0000:00:14.0").interfaces == ("enx0",)


def test_usb_devices_are_unknown_where_one_has_no_port() -> None:
    assert read_devices([usb("usb_1_2", f"{ROOT}/usb1/1-2", 5), usb("usb_1_3", "", 6)]).usb is None
    assert read_devices([]).usb == ()


def test_the_computer_is_named_without_what_tells_whose_it_is() -> None:
    hardware = "<hardware><vendor>LENOVO</vendor><version>T60</version><serial>S3CR3T</serial><uuid>0</uuid></hardware>"
    told = f"<capability type='system'><product>2007&#10;  FRG</product>{hardware}<firmware/></capability>"
    machine = read_devices([device("computer", told)]).machine
    assert (machine.vendor, machine.product, machine.chassis) == ("LENOVO", "2007 FRG", None)


@pytest.mark.parametrize(
    "xml",
    [
        "", "<device>", "not xml", "<device/>\x00", "<!DOCTYPE d [<!ENTITY a 'b'>]><device><name>&a;</name></device>",
        pci("0000:03:00.0").replace("<slot>0<", "<slot>32<"),
        pci("0000:03:00.0").replace("<bus>3<", "<bus>256<"),
        pci("0000:03:00.0").replace("<function>0<", "<function>-1<"),
        pci("0000:03:00.0").replace("<function>0<", "<function>9999999999999999999999<"),
        pci("0000:03:00.0").replace("<name>pci_0000_03_00_0<", "<name>a b<"),
    ],
)  # fmt: skip
def test_nonsense_is_left_out_and_counted(xml: str) -> None:
    found = read_devices([xml, BRIDGE])
    assert ([f.address for f in found.pci], found.odd) == (["0000:00:1c.0"], 1)


def test_one_address_twice_is_one_function() -> None:
    again = pci("0000:03:00.0").replace("<name>pci_", "<name>other_")
    found = read_devices([pci("0000:03:00.0"), again, pci("0000:03:00.0")])
    assert ([f.address for f in found.pci], found.odd) == (["0000:03:00.0"], 2)


TEXT = st.text(st.sampled_from("0x1f-:. \n'") | st.characters(codec="utf-8", exclude_characters="<>&\x00"), max_size=12)


TAGS = ("class", "domain", "bus", "slot", "function", "parent", "name", "path", "driver")


@given(st.lists(st.sampled_from(TAGS), max_size=4), TEXT)
def test_whatever_a_value_is_the_host_document_can_be_read_again(tags: list[str], text: str) -> None:
    element = f"<iommuGroup number='{text.replace(chr(39), '')}'/><numa node='{text.replace(chr(39), '')}'/>"
    xml = pci("0000:03:00.0", element, path=CARD, driver="igb")
    for tag in tags:
        before, _, rest = xml.partition(f"<{tag}>")
        xml = f"{before}<{tag}>{text}</{tag}>{rest.partition(f'</{tag}>')[2]}" if rest else xml
    found = read_devices([xml, BRIDGE])
    host = Host(pci=found.pci, usb=found.usb, machine=found.machine)
    assert decode(encode(host), "the test") == host


CAPABILITIES = """<capabilities><host>
<cpu><arch>x86_64</arch><model>Haswell</model><vendor>Intel</vendor><feature name='vmx'/><feature name='avx2'/></cpu>
<iommu support='yes'/>
<topology><cells num='2'>
<cell id='0'><memory unit='KiB'>1048576</memory><pages unit='KiB' size='4'>1000</pages>
<pages unit='KiB' size='2048'>3</pages><cpus num='4'>
<cpu id='0' socket_id='0' die_id='0' core_id='0' siblings='0,2'/>
<cpu id='1' socket_id='0' die_id='0' core_id='1' siblings='1,3'/>
<cpu id='2' socket_id='0' die_id='0' core_id='0' siblings='0,2'/>
<cpu id='3' socket_id='0' die_id='0' core_id='1' siblings='1,3'/></cpus></cell>
<cell id='1'><memory unit='KiB'>2097152</memory><pages unit='KiB' size='4'>1000</pages>
<pages unit='KiB' size='2048'>4</pages><cpus num='2'>
<cpu id='4' socket_id='1' die_id='0' core_id='0' siblings='4'/><cpu id='5'/></cpus></cell>
</cells></topology></host>
<guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch></guest>
</capabilities>"""


def test_the_processor_is_counted_from_the_cells() -> None:
    cpu = host_capabilities.cpu_of(host_capabilities.parse(CAPABILITIES), None)
    assert (cpu.sockets, cpu.cores, cpu.threads, cpu.numa_nodes) == (2, 3, 5, 2)
    assert isinstance(cpu.topology, tuple)
    assert [(core.threads, core.numa_node) for core in cpu.topology] == [((0, 2), 0), ((1, 3), 0), ((4,), 1)]
    assert (cpu.architecture, cpu.vendor, cpu.model, cpu.flags) == ("x86_64", "GenuineIntel", None, None)


def test_memory_pools_and_iommu_are_read() -> None:
    told = host_capabilities.parse(CAPABILITIES)
    assert told.memory_mib == 3072
    assert [(pool.size_kib, pool.total) for pool in told.pools] == [(2048, 7)], "4 KiB is what all memory is made of"
    assert told.iommu is True
    assert host_capabilities.parse(CAPABILITIES.replace("<iommu support='yes'/>", "")).iommu is None


@pytest.mark.parametrize(
    ("kvm", "features", "virtualization"),
    [
        (True, None, "vmx"),
        (True, frozenset({"vmx", "sse2"}), "vmx"),
        (False, frozenset({"vmx", "sse2"}), None),  # firmware may have locked it
        (False, frozenset({"sse2"}), "none"),
        (True, frozenset({"sse2"}), "none"),  # a KVM that does without, and starts no guest
        (False, None, None),
    ],
)
def test_virtualization_is_what_kvm_works_with(
    kvm: bool, features: frozenset[str] | None, virtualization: str | None
) -> None:
    xml = CAPABILITIES if kvm else CAPABILITIES.replace("<domain type='kvm'/>", "").replace("<feature name='vmx'/>", "")
    assert host_capabilities.cpu_of(host_capabilities.parse(xml), features).virtualization == virtualization


def test_flags_are_those_of_the_levels_by_the_kernels_names() -> None:
    cpu = host_capabilities.cpu_of(host_capabilities.parse(CAPABILITIES), frozenset({"sse4.1", "avx2", "intel-pt"}))
    assert cpu.flags == ("sse4_1", "avx2")
    assert cpu.hypervisor is False


def test_features_that_are_taken_away_are_none() -> None:
    xml = "<cpu><feature policy='require' name='avx2'/><feature policy='disable' name='rtm'/></cpu>"
    assert host_capabilities.features_in(xml) == {"avx2"}


@pytest.mark.parametrize(("text", "threads"), [("0-1,8", (0, 1, 8)), ("", ()), ("a", ()), ("0-99999", ()), ("3-1", ())])
def test_a_list_of_threads_is_read_or_is_none(text: str, threads: tuple[int, ...]) -> None:
    assert host_capabilities.listed(text) == threads


@pytest.mark.parametrize("parse", [host_capabilities.parse, host_capabilities.features_in])
@pytest.mark.parametrize("xml", ["", "<a", "<!DOCTYPE a []><a/>", "<a>\ud800</a>"])
def test_capabilities_that_are_no_xml_are_an_error_of_ours(parse: Callable[[str], Any], xml: str) -> None:
    with pytest.raises(HostError):
        parse(xml)


def test_an_empty_document_leaves_everything_unknown() -> None:
    cpu = host_capabilities.cpu_of(host_capabilities.parse("<capabilities/>"), None)
    assert (cpu.sockets, cpu.threads, cpu.topology, cpu.virtualization) == (None, None, None, None)


def test_entities_are_not_followed() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>'
    with pytest.raises(HostError, match="document type"):
        documents.parse(bomb, "they")


class Handle:
    """A node device of libvirt's, or one that is gone."""

    def __init__(self, xml: str) -> None:
        self._xml = xml

    def XMLDesc(self, _: int) -> str:  # noqa: N802 - libvirt's name
        return self._xml


def test_documents_end_at_the_limit_of_their_length() -> None:
    xmls = node._Documents([Handle("x" * 10)] * 3, left=25)
    assert len(list(xmls)) == 2
    assert xmls.cut


def test_a_bridge_is_told_by_the_interface_driver() -> None:
    xml = (
        "<interface type='bridge' name='br0'><bridge><interface type='ethernet' name='eth0'/>"
        "<interface name='a b'/></bridge></interface>"
    )
    assert interfaces.parse_bridge(xml, active=True) == Bridge(name="br0", ports=("eth0",), up=True)
    assert interfaces.parse_bridge(xml, active=False) == Bridge(name="br0", ports=("eth0",), up=None)
    for other in ("<interface type='ethernet' name='eth0'/>", "<interface type='bridge' name='-x'/>", "<a"):
        assert interfaces.parse_bridge(other, active=True) is None


def test_a_pool_tells_its_folder_and_what_is_free() -> None:
    xml = "<pool type='dir'><name>default</name><target><path>/var/lib/libvirt/images</path></target></pool>"
    pool = storage.parse_pool("default", xml, available=7, active=True)
    assert pool == storage.TargetStorage(
        name="default", active=True, type="dir", path="/var/lib/libvirt/images", available_bytes=7
    )
    stopped = storage.parse_pool("default", xml, available=0, active=False)
    assert stopped is not None
    assert stopped.available_bytes is None, "libvirt says 0 of a pool that it does not look into"
    assert storage.parse_pool("a\nb", xml, available=7, active=True) is None


@pytest.mark.parametrize(
    ("uri", "path", "other"),
    [
        ("qemu+ssh://root@desk/system?no_tty=1", "/system", "desk"),
        ("qemu:///session?socket=/x", "/session", None),
        ("qemu+unix:///system", "/system", None),
        ("qemu:///embed?root=/x", "/embed", None),
        ("qemu://[x/system", "", None),
    ],
)
def test_a_uri_says_which_daemon_of_which_pc(uri: str, path: str, other: str | None) -> None:
    choice = Choice(uri, "test")
    assert (choice.path, choice.other_pc) == (path, other)


def test_another_pc_is_refused_unless_a_target_is_meant() -> None:
    with pytest.raises(HostError, match="leads to another PC, desk"), Connection(Choice("qemu+ssh://desk/system", "t")):
        pass
    # An unknown transport: libvirt refuses it before it starts anything.
    with (
        pytest.raises(ClienthvError, match="cannot connect"),
        Connection(Choice("qemu+nonsense://desk/system", "t"), elsewhere=True),
    ):
        pass


def test_a_connection_elsewhere_reads_no_file_of_this_pc(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    log = tmp_path / "libvirt/qemu/log/demo.log"
    log.parent.mkdir(parents=True)
    log.write_text(": starting up\nqemu-system-x86_64: an error of this PC's\n")
    choice = Choice("qemu:///session", "t")
    here, there = Connection(choice), Connection(choice, elsewhere=True)
    assert "an error" in here.log_tail("demo")
    assert there.log_tail("demo") == ""
    assert here.log_time("demo") is not None
    assert there.log_time("demo") is None
    assert there.has_firmware_variables("demo"), "what nobody can look at may be there"


def test_two_descriptions_agree_where_one_knows_nothing() -> None:
    card = PciFunction(address="0000:03:00.0", driver="igb", iommu_group=7, sriov=SrIov(totalvfs=7, numvfs=0))
    known = Host(pci=(card,), memory=Memory(total_mib=8), kvm=Kvm(usable=True), iommu=Iommu(enabled=True), usb=())
    assert list(disagreements(known, Host())) == []
    assert list(disagreements(known, known)) == []


def test_each_difference_of_two_descriptions_is_told() -> None:
    def host(address: str, driver: str, total: int, functions: int, port: str) -> Host:
        sriov = SrIov(totalvfs=functions, numvfs=0)
        pci = (PciFunction(address="0000:00:01.0", driver=driver, sriov=sriov), PciFunction(address=address))
        return Host(pci=pci, memory=Memory(total_mib=total), usb=(UsbDevice(port=port),))

    said = list(disagreements(host("0000:00:02.0", "a", 1, 7, "1-1"), host("0000:00:03.0", "b", 2, 8, "1-2")))
    assert said == [
        "memory: total_mib is 1 and 2",
        "PCI function 0000:00:02.0 is only in the first",
        "PCI function 0000:00:03.0 is only in the second",
        "0000:00:01.0: driver is 'a' and 'b'",
        "0000:00:01.0, SR-IOV: totalvfs is 7 and 8",
        "USB device 1-1 is only in the first",
        "USB device 1-2 is only in the second",
    ]


def test_virtual_functions_that_one_denies_are_a_difference() -> None:
    with_vfs = Host(pci=(PciFunction(address="0000:00:01.0", sriov=SrIov(totalvfs=7)),))
    without = Host(pci=(PciFunction(address="0000:00:01.0"),))
    none = Host(pci=(PciFunction(address="0000:00:01.0", sriov=SrIov(totalvfs=0)),))
    assert len(list(disagreements(with_vfs, without))) == 1
    assert list(disagreements(none, without)) == []
