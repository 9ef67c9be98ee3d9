"""The pure pieces: the KVM verdict, mountinfo, input handlers, names, and what anonymising takes out."""

from __future__ import annotations

import errno

import msgspec
import pytest

from clienthv.inspect import anonymise, file_system_of, read
from clienthv.inspect.anonymise import scrub_cmdline, scrub_text
from clienthv.inspect.keyboards import handlers
from clienthv.inspect.kvm import Probe, verdict
from clienthv.inspect.mounts import parse_mounts
from clienthv.inspect.network import default_routes
from clienthv.model.host import (
    Cpu,
    EventDevice,
    Host,
    HostNetwork,
    Kernel,
    PciFunction,
    Role,
    RoleName,
    Stack,
    decode,
    encode,
)
from clienthv.model.network import Bridge, Card

WORKS = Probe(present=True, openable=True, api=12, creatable=True)
DENIED = Probe(present=True, openable=False, error=errno.EACCES)
BUSY = Probe(present=True, openable=True, api=12, creatable=False, error=errno.EBUSY)
OLD = Probe(present=True, openable=True, api=11, creatable=False)


@pytest.mark.parametrize(
    ("probe", "hardware", "usable", "word"),
    [
        (WORKS, "svm", True, "KVM_CREATE_VM succeeds"),
        (WORKS, "vmx", True, "the flags have vmx"),
        (WORKS, "none", False, "neither vmx nor svm"),
        (WORKS, None, None, "unknown"),
        (DENIED, "svm", False, "permission denied; its group, kvm, is needed"),
        (BUSY, "vmx", False, "KVM_CREATE_VM fails"),
        (OLD, "vmx", False, "version 11, not 12"),
        (Probe(present=False), "vmx", False, "is not there"),
        (Probe(present=False), None, False, "is not there"),
        (Probe(present=None), "vmx", None, "could not be looked for"),
        (Probe(present=None), "none", False, "neither vmx nor svm"),
    ],
)
def test_kvm_is_usable_only_when_device_and_processor_both_are(
    probe: Probe, hardware: str | None, usable: bool | None, word: str
) -> None:
    found, evidence = verdict(probe, msgspec.structs.replace(Cpu(), virtualization=hardware))
    assert found is usable
    assert any(word in said for said in evidence)


def test_this_very_machine_is_read_and_its_document_reads_back() -> None:
    host = read()
    assert decode(encode(host), "live") == host
    assert host.name == "this PC"
    if host.cpu.virtualization == "none":
        assert host.kvm.usable is False


def test_mount_points_are_unescaped_and_odd_lines_are_left_out() -> None:
    text = "22 1 8:1 / /a\\040b\\134 rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw\nnonsense\n1 2 3 - x\n"
    (mount,) = parse_mounts(text)
    assert (mount.number, mount.point, mount.kind, mount.source) == ("8:1", "/a b\\", "ext4", "/dev/sda1")


def test_only_the_first_rows_of_keys_make_a_keyboard() -> None:
    def block(name: str, handled: str, keys: str) -> str:
        return f"I: Bus=0003\nS: Sysfs=/devices/{name}\nH: Handlers={handled} \nB: KEY={keys}\n"

    text = "\n".join(
        [
            block(
                "keyboard", "sysrq kbd event0 leds", "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe"
            ),
            block("button", "kbd event1", "10000000000000 0"),
            block("mouse", "mouse0 event2", "ff0000 0 0 0 0"),
        ]
    )
    assert list(handlers(text)) == [("/devices/keyboard", "keyboard"), ("/devices/mouse", "pointing device")]


def test_only_routes_to_everywhere_are_default_routes() -> None:
    v4 = ("head", "eth0 0000000A 0 0001 0 0 0 000000FF 0 0 0", "eth1 00000000 1 0003 0 0 0 00000000 0 0 0",
          "tun0 00000000 1 0003 0 0 0 00000080 0 0 0", "eth2 00000000 1 zz 0 0 0 00000000 0 0 0")  # fmt: skip
    zero = "0" * 32
    v6 = (f"{zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo", f"{zero} 00 {zero} 00 {zero} 400 1 0 00000003 eth3")
    assert [name for name, _ in default_routes(v4, v6)] == ["eth1", "eth3"]


@pytest.mark.parametrize(
    ("parameter", "scrubbed"),
    [
        ("root=UUID=6e5ad0f9-7f2e-4f1e-9d2b-1d1a8d5b8c11", "root=<scrubbed>"),
        ("root=/dev/mapper/jane--pc-root", "root=<scrubbed>"),
        ("root=LABEL=janes", "root=<scrubbed>"),
        ("resume=PARTUUID=0ab1", "resume=<scrubbed>"),
        ("cryptdevice=/dev/sda2:jane", "cryptdevice=<scrubbed>"),
        ("rd.luks.uuid=luks-6e5ad0f9-7f2e-4f1e-9d2b-1d1a8d5b8c11", "rd.luks.uuid=<scrubbed>"),
        ("rd.lvm.lv=vg_jane/root", "rd.lvm.lv=<scrubbed>"),
        ("ip=192.0.2.9::192.0.2.1:255.255.255.0:janespc:eth0:off", "ip=<scrubbed>"),
        ("systemd.hostname=janespc", "systemd.hostname=<scrubbed>"),
        ("BOOTIF=01-00-11-22-33-44-55", "BOOTIF=<scrubbed>"),
        ("some.secret=hunter2", "some.secret=<scrubbed>"),
        ("intel_iommu=on,sm_on", "intel_iommu=on,sm_on"),
        ("vfio-pci.ids=10de:1f95,10de:10fa", "vfio-pci.ids=10de:1f95,10de:10fa"),
        ("pcie_acs_override=downstream,multifunction", "pcie_acs_override=downstream,multifunction"),
        ("isolcpus=2-7", "isolcpus=2-7"),
        ("hugepagesz=1G", "hugepagesz=1G"),
        ("default_hugepagesz=1G", "default_hugepagesz=1G"),
        ("hugepages=16", "hugepages=16"),
        ("kvm.ignore_msrs=1", "kvm.ignore_msrs=1"),
        ("video=efifb:off", "video=efifb:off"),
        ("quiet", "quiet"),
    ],
)
def test_parameters_keep_their_value_only_when_it_is_about_hardware_or_the_kernel(
    parameter: str, scrubbed: str
) -> None:
    assert scrub_cmdline((parameter,)) == (scrubbed,)


def test_what_follows_the_double_dash_is_for_init_and_goes() -> None:
    assert scrub_cmdline(("quiet", "--", "--token", "abc")) == ("quiet", "--", "<scrubbed>")


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("enx001122aabbcc is up", "enx<scrubbed> is up"),
        ("wlx001122aabbcc", "wlx<scrubbed>"),
        ("mac 00:11:22:aa:bb:CC.", "mac <scrubbed>."),
        ("6E5AD0F97F2E4F1E9D2B1D1A8D5B8C11", "<scrubbed>"),
        ("/home/jane/vm.img", "/home/<scrubbed>/vm.img"),
        ("qemu+ssh://jane@box.example:22/system", "qemu+ssh://<scrubbed>/system"),
        ("qemu:///system", "qemu:///system"),
        ("0000:01:00.0 in 10000:e1:00.0", "0000:01:00.0 in 10000:e1:00.0"),
        ("enp3s0 br0 virbr0 docker0", "enp3s0 br0 virbr0 docker0"),
        ("TU117M [GeForce GTX 1650 Ti Mobile]", "TU117M [GeForce GTX 1650 Ti Mobile]"),
    ],
)
def test_text_loses_what_identifies_and_keeps_the_rest(text: str, scrubbed: str) -> None:
    assert scrub_text(text) == scrubbed


def test_interfaces_that_people_named_or_that_carry_an_address_get_numbers_that_stay() -> None:
    host = Host(
        network=HostNetwork(
            cards=(Card(name="enx001122334455", master="br-smith"), Card(name="wlp3s0", master="")),
            bridges=(Bridge(name="br-smith", ports=("enx001122334455",)), Bridge(name="virbr0", ports=())),
            helper_allows=("br-smith",),
        ),
        events=(
            EventDevice(links=("by-id/usb-Adafruit_0123456789abcdef0123456789abcdef-if02-event-kbd",), kind="keyboard"),
        ),
        unknown=("/sys/class/net/enx001122334455: is part of br-smith",),
    )
    clean = anonymise(host)
    assert clean.network
    assert [(c.name, c.master) for c in clean.network.cards or ()] == [("net1", "net0"), ("wlp3s0", "")]
    assert [(b.name, b.ports) for b in clean.network.bridges or ()] == [("net0", ("net1",)), ("virbr0", ())]
    assert clean.network.helper_allows == ("net0",)
    assert clean.unknown == ("/sys/class/net/net1: is part of net0",)
    assert clean.events == ()
    assert anonymise(clean) == clean
    assert decode(encode(clean), "a test") == clean


def test_a_name_too_short_to_look_for_in_sentences_leaves_the_other_texts() -> None:
    clean = anonymise(Host(network=HostNetwork(cards=(Card(name="jo", master=""),)), unknown=("/proc/x: jo",)))
    assert clean.network
    assert [card.name for card in clean.network.cards or ()] == ["net0"]
    assert clean.unknown == ("/proc/x: jo",)


def test_anonymising_reaches_every_part_of_the_document() -> None:
    mac_name = "enx001122aabbcc"
    host = Host(
        name="janes-pc",
        source="qemu+ssh://jane@box/system",
        kernel=Kernel(release="6.1.0", cmdline=("root=UUID=1", "iommu=pt")),
        pci=(PciFunction(address="0000:01:00.0", interfaces=(mac_name,), vendor_id="8086", device_id="1234"),),
        roles=(
            Role(
                role=RoleName.MOUNTED_DISK,
                address="0000:01:00.0",
                evidence=(
                    "/proc/self/mountinfo: / is on sda1 on sda",
                    "/proc/self/mountinfo: /srv/jane is on /tmp is on sda2 on sda",
                    "/proc/self/mountinfo: /mnt/other is on sda2 on sda",
                    f"/proc/net/route: default route through {mac_name}",
                ),
            ),
        ),
        roles_read=(RoleName.MOUNTED_DISK,),
        stack=Stack(uri="qemu+tls://box/system", problem="no socket in /run/user/1000/libvirt"),
        unknown=(f"{mac_name} is unknown",),
    )
    clean = anonymise(host)
    assert clean.name == "this PC"
    assert clean.kernel.cmdline == ("root=<scrubbed>", "iommu=pt")
    assert clean.pci[0].interfaces == ("net0",)
    assert clean.roles[0].evidence == (
        "/proc/self/mountinfo: / is on sda1 on sda",
        "/proc/self/mountinfo: a mounted filesystem is on sda2 on sda",
        "/proc/net/route: default route through net0",
    )
    assert clean.pci[0].address == "0000:01:00.0"
    assert "jane" not in encode(clean).decode()
    assert "box" not in encode(clean).decode()


def test_the_file_system_of_a_path_is_that_of_the_innermost_mount() -> None:
    assert file_system_of("/proc/self/status") == "proc"
    assert file_system_of("/sys/kernel") == "sysfs"
    assert file_system_of(__file__) not in (None, "proc", "sysfs")
