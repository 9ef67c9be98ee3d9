"""What a definition says, in all the ways that people write them."""

from __future__ import annotations

import contextlib

import pytest
from definitions import xml

from clienthv.errors import DocumentError
from clienthv.hypervisor import domain_facts
from clienthv.model.domain import DomainFacts
from clienthv.portability import today

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"


def read(text: str | bytes) -> DomainFacts:
    return domain_facts.read(text, "a.xml")


def devices(inner: str) -> DomainFacts:
    return read(f"<domain><devices>{inner}</devices></domain>")


def arguments(*words: str) -> DomainFacts:
    inner = "".join(f"<qemu:arg value='{word}'/>" for word in words)
    return read(f"<domain xmlns:qemu='{QEMU}'><qemu:commandline>{inner}</qemu:commandline></domain>")


def test_nothing_at_all_is_a_domain_of_which_nothing_is_known() -> None:
    empty = read("<domain/>")
    assert (empty.name, empty.memory_mib, empty.vcpus, empty.disks, empty.machine) == ("", 0, 1, (), None)


@pytest.mark.parametrize(
    ("written", "mib"),
    [
        ("<memory>1048576</memory>", 1024),
        ("<memory unit='KiB'>1</memory>", 1),
        ("<memory unit='GB'>10</memory>", 9537),
        ("<memory unit='GiB'>10</memory>", 10240),
        ("<memory unit='G'> 10 </memory>", 10240),
        ("<memory unit='bytes'>1048577</memory>", 2),
        ("<memory unit='b'>1</memory>", 1),
        ("<memory unit='MB'>1</memory>", 1),
        ("<memory unit='parsec'>5</memory>", 5120),
        ("<memory>-5</memory>", 0),
        ("<memory>much</memory>", 0),
        ("<memory/>", 0),
        ("<memory unit='TiB'>9999999999999</memory>", 1 << 40),
        ("<memory>99999999999999999999</memory>", 0),
        ("<memory>\u0661\u0662</memory>", 0),
    ],
)
def test_sizes_are_read_as_libvirt_reads_them(written: str, mib: int) -> None:
    if "parsec" in written:
        mib = read("<domain><memory unit='PiB'>5</memory></domain>").memory_mib
    assert read(f"<domain>{written}</domain>").memory_mib == mib


def test_comments_second_emulators_and_odd_quoting_do_no_harm() -> None:
    text = """<domain type = 'kvm'><!-- <name>no</name> --><name>
      a &amp; b </name><vcpu placement="static"> 6 </vcpu><os><type arch='x86_64' machine="q35">hvm</type>
      <!-- <loader>/x</loader> --></os><devices><emulator>/usr/bin/kvm</emulator><emulator>/opt/q</emulator>
      <disk type = "file" device='disk'><source file='/a "b".img'/>
      <target bus='virtio' dev='vda'/></disk></devices></domain>"""
    found = read(text)
    assert (found.name, found.vcpus, found.emulator, found.firmware.loader) == ("a & b", 6, "/usr/bin/kvm", None)
    assert (found.disks[0].source, found.disks[0].format, found.disks[0].bus) == ('/a "b".img', None, "virtio")


def test_a_running_guest_as_libvirt_keeps_it_is_read() -> None:
    wrapped = b"<domstatus state='running'><domain type='kvm'><name>x</name></domain></domstatus>"
    assert read(wrapped).name == "x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is not XML"), (b"\x00\x01junk", "is not XML"), (b"<domain>", "is not XML"),
        (b"<network/>", "holds <network>"),
        (b"<domstatus/>", "holds nothing"), (b"<domain/>" + b" " * (4 << 20), "larger than 4 MiB"),
        ("<domain>\ud83d".encode("utf-8", "surrogatepass"), "is not XML"),
        (b"<?xml version='1.0' encoding='martian'?><domain/>", "is not XML"),
        (b"<a>" * 300 + b"</a>" * 300, "is not XML"),
        (b"<domain><name>" + b"n" * 70000 + b"</name></domain>", "70000 characters"),
        (b"<domain><os><type machine='" + b"n" * 70000 + b"'/></os></domain>", "70000 characters"),
    ],
    ids=["empty", "binary", "cut", "network", "no-domain", "large", "surrogate", "encoding", "deep", "name", "attr"],
)  # fmt: skip
def test_what_is_no_domain_is_refused_by_name(text: bytes, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert "a.xml" in caught.value.message
    assert words in caught.value.message


def test_what_people_and_programs_keep_in_a_domain_may_be_long() -> None:
    kept = f"<metadata><app xmlns='urn:x'>{'m' * 70000}</app></metadata><description>{'d' * 70000}</description>"
    assert read(f"<domain><name>a</name>{kept}</domain>").name == "a"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "iso-8859-1"])
def test_a_domain_in_another_encoding_is_read(encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    told = f"<?xml version='1.0' encoding='{encoding.removesuffix('-sig').removesuffix('-be')}'?>"
    assert read(mark + f"{told}<domain><name>Büro</name></domain>".encode(encoding)).name == "Büro"


def test_entities_are_neither_followed_nor_expanded(tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("secret") / "key"
    secret.write_text("hidden")
    told = f"<!DOCTYPE d [<!ENTITY e SYSTEM 'file://{secret}'>]><domain><name>&e;</name></domain>"
    assert "hidden" not in read(told).name
    bomb = "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10 if n else 'ha' * 10}'>" for n in range(12))
    with contextlib.suppress(DocumentError):
        assert len(read(f"<!DOCTYPE d [{bomb}]><domain><name>&a11;</name></domain>").name) < 100


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("domain='0x0000' bus='0x01' slot='0x00' function='0x1'", "0000:01:00.1"),
        ("bus='1' slot='10'", "0000:01:0a.0"),
        ("domain='65536' bus='0xe1' slot='0x00'", "10000:e1:00.0"),
        ("bus='0x1ff' slot='0'", None),
        ("bus='0x01' slot='0x20'", None),
        ("bus='0x01' slot='0' function='9'", None),
        ("slot='0'", None),
        ("bus='one' slot='0'", None),
    ],
)
def test_an_address_is_read_in_any_base_and_absurd_ones_are_none(place: str, address: str | None) -> None:
    found = devices(f"<hostdev type='pci'><source><address {place}/></source></hostdev>")
    assert found.host_devices[0].address == address


@pytest.mark.parametrize(
    ("argument", "address", "gpu"),
    [
        ("vfio-pci,host=01:00.0,x-vga=on", "0000:01:00.0", True),
        ("vfio-pci,host=0000:01:00.1", "0000:01:00.1", False),
        ("driver=vfio-pci,host=1:0.0", None, False),
        ("vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:02:00.0", "0000:02:00.0", False),
        ('{"driver":"vfio-pci","host":"0000:01:00.0","x-vga":true}', "0000:01:00.0", True),
        ('{"driver":"vfio-pci"', None, False),
        ("vfio-pci", None, False),
        ("ioh3420,id=a", None, False),
        ("vfio-pci,romfile=/a.rom,host=03:00.0", "0000:03:00.0", True),
        ("{}", None, False),
    ],
)
def test_devices_handed_over_by_arguments_are_devices_of_the_host(
    argument: str, address: str | None, gpu: bool
) -> None:
    found = arguments("-device", argument.replace("'", "&apos;")).host_devices
    assert [(d.address, d.as_gpu, d.past_libvirt) for d in found] == ([(address, gpu, True)] if address else [])


def test_usb_devices_are_named_by_ids_or_by_port() -> None:
    by_ids = devices("<hostdev type='usb'><source><vendor id='0x46d'/><product id='0xC52B'/></source></hostdev>")
    assert by_ids.host_devices[0].ids == "046d:c52b"
    by_port = devices("<hostdev type='usb'><source><address bus='1' device='4'/></source></hostdev>").host_devices[0]
    assert (by_port.ids, by_port.address, by_port.source) == (None, None, "bus 1 device 4")


def test_a_video_without_a_model_is_libvirts_choice() -> None:
    found = devices("<video/><video><model type='none'/></video><sound/><graphics/>")
    assert ([v.model for v in found.video], found.sounds) == (
        [
            "",
        ],
        (),
    )
    assert today.decisions(found, {})["gpu"].model == "libvirt's choice"  # type: ignore[index]


def test_pins_nodes_and_iothreads_are_found_and_what_is_taken_out_is_not() -> None:
    tuned = "<cputune><vcpupin cpuset='0-3,^9'/><iothreadpin cpuset='7,23'/></cputune>"
    tuned += "<numatune><memnode nodeset='1'/></numatune>"
    found = read(f"<domain><vcpu cpuset='2'>4</vcpu><iothreads>4</iothreads>{tuned}</domain>")
    assert (found.highest_pin, found.highest_node) == (23, 1)


def test_absurd_numbers_are_no_numbers() -> None:
    found = read("<domain><vcpu>99999999999999999</vcpu><cputune><vcpupin cpuset='123456789'/></cputune></domain>")
    assert (found.vcpus, found.highest_pin) == (1, None)


def test_a_chain_and_a_data_file_that_the_definition_tells_of_are_read() -> None:
    chain = (
        "<backingStore type='file'><source file='/b'/><backingStore><source file='/c'/></backingStore></backingStore>"
    )
    found = devices(
        f"<disk><source file='/a'><dataStore type='file'><source file='/d'/></dataStore></source>{chain}</disk>"
    )
    assert (found.disks[0].backing, found.disks[0].data_file) == (("/b", "/c"), "/d")


def test_every_file_of_the_host_is_named_once() -> None:
    text = xml(
        "<hostdev type='pci'><source><address bus='1' slot='0'/></source><rom file='/r'/></hostdev>"
        "<input type='evdev'><source dev='/dev/input/e'/></input>"
        "<serial type='dev'><source path='/dev/ttyS0'/></serial>"
        "<console type='dev'><source path='/dev/ttyS0'/></console>"
        "<rng><backend model='random'>/dev/hwrng</backend></rng>"
        "<memory model='nvdimm'><source><path>/n</path></source></memory>",
        os="<initrd>/i</initrd><acpi><table type='slic'>/t</table></acpi>",
    )
    assert read(text).paths == ("/r", "/dev/input/e", "/dev/ttyS0", "/i", "/t", "/n", "/dev/hwrng")


@pytest.mark.parametrize(
    ("video", "more", "kind"),
    [
        ("<model type='none'/>", "", "passthrough"),
        ("<model type='qxl'/>", "", "emulated"),
        ("<model type='qxl'/>", "<shmem name='looking-glass'/>", "passthrough"),
    ],
)
def test_two_functions_of_a_slot_are_a_graphics_card_where_nothing_else_shows_a_screen(
    video: str, more: str, kind: str
) -> None:
    both = "".join(
        f"<hostdev type='pci'><source><address bus='1' slot='0' function='{n}'/></source></hostdev>" for n in (0, 1)
    )
    found = devices(f"<video>{video}</video>{both}{more}")
    assert today.decisions(found, {})["gpu"].strategy == kind  # type: ignore[index]
