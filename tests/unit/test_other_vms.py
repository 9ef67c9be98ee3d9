"""What the VMs that are there have of the host: running ones keep it, stopped ones are asked last."""

from __future__ import annotations

from typing import Any

import msgspec

from clienthv import planner
from clienthv.hypervisor.domain import claims_of
from clienthv.inspect import anonymise
from clienthv.lifecycle import live
from clienthv.model import host as host_model
from clienthv.model.host import Cpu, GuestClaims, Host, Iommu, Kvm, Memory, PciFunction, RoleName, Stack
from clienthv.model.particulars import Mdev, Particulars
from clienthv.model.plan import Kind, Plan, Reason, Strategy
from clienthv.model.profile import ProfileText, parse
from clienthv.model.usb import UsbDevice
from clienthv.strategies import Kept

S, R = Strategy, Reason
CARDS = tuple(
    PciFunction(
        address=f"0000:0{bus}:00.0", class_code="020000", vendor_id="8086", device_id="10d3", driver="e1000e",
        iommu_group=bus, interfaces=(f"enp{bus}s0",),
    )
    for bus in (1, 2)
)  # fmt: skip
READER = UsbDevice(port="1-2", vendor_id="08e6", product_id="3437", device_class="00", busnum=1, devnum=4, roles=())


def pc(*vms: GuestClaims, **more: Any) -> Host:
    held = tuple(sorted(a for vm in vms if vm.running for a in vm.functions))
    known: dict[str, Any] = {
        "cpu": Cpu(virtualization="vmx", threads=8),
        "kvm": Kvm(usable=True),
        "iommu": Iommu(enabled=True, interrupt_remapping=True, groups=9, acs_override=False),
        "roles_read": tuple(RoleName),
        "pci": CARDS,
        "usb": (READER,),
        "other_keyboards": ("a PS/2 keyboard",),
        "tpm_device": True,
        "stack": Stack(privileged=True, guest_functions=held, vms=vms),
    }
    return Host(**{**known, **more})


def planned(host: Host, *lines: str) -> Plan:
    text = "\n".join(
        ["schema = 1", "[size]", 'memory = "4 GiB"', 'memory_min = "1 GiB"', "[devices.nic]",
         'prefer = ["passthrough", "emulated"]', *lines]
    )  # fmt: skip
    return planner.plan(host, parse((ProfileText("test", "a test", text),)))


def codes(plan: Plan) -> set[str]:
    return {w.code for w in plan.warnings}


def test_what_a_running_vm_has_is_refused_and_the_vm_named() -> None:
    plan = planned(pc(GuestClaims(name="games", running=True, functions=(CARDS[0].address,))))
    nic = plan.of(Kind.NIC)
    assert nic.device == CARDS[1].address
    (refused,) = nic.rejected
    assert refused.reason is R.USED_BY_VM
    assert "VM games" in refused.detail
    assert "clienthv down games" in (refused.fix or "")


def test_what_a_stopped_vm_is_defined_with_is_taken_last_and_with_a_warning() -> None:
    one = GuestClaims(name="games", running=False, functions=(CARDS[0].address,))
    plan = planned(pc(one))
    assert plan.of(Kind.NIC).device == CARDS[1].address
    assert "defined-for-other-vm" not in codes(plan)
    both = GuestClaims(name="work", running=False, functions=tuple(c.address for c in CARDS))
    plan = planned(pc(one, both))
    assert plan.of(Kind.NIC).strategy is S.PASSTHROUGH
    (warned,) = [w for w in plan.warnings if w.code == "defined-for-other-vm"]
    assert "work" in warned.detail


def test_a_vm_is_in_nobodys_way_with_what_it_has_itself() -> None:
    own = GuestClaims(name="games", running=True, functions=(CARDS[0].address,))
    other = GuestClaims(name="work", running=True, functions=(CARDS[1].address,))
    host = live.without(pc(own, other), "games")
    assert [vm.name for vm in host.vms] == ["work"]
    assert host.stack is not None
    assert host.stack.guest_functions == (CARDS[1].address,)
    assert planned(host).of(Kind.NIC).device == CARDS[0].address
    assert live.without(host, "nobody") is host


def test_usb_devices_and_the_tpm_of_running_vms_are_theirs() -> None:
    lines = ("[devices.usb]", 'devices = ["08e6:3437"]', "[devices.tpm]", 'prefer = ["passthrough", "omit"]')
    for usb in ("08e6:3437", "08e6:3437 1 4", " 1 4"):
        plan = planned(pc(GuestClaims(name="bank", running=True, usb=(usb,), tpm=True)), *lines)
        for kind in (Kind.USB_DEVICE, Kind.TPM):
            decision = plan.of(kind)
            assert decision.strategy is S.OMIT
            assert [r.reason for r in decision.rejected] == [R.USED_BY_VM]
    elsewhere = GuestClaims(name="bank", running=True, usb=("08e6:3437 1 5",))
    assert planned(pc(elsewhere), *lines).of(Kind.USB_DEVICE).strategy is S.PASSTHROUGH
    stopped = GuestClaims(name="bank", running=False, usb=("08e6:3437",), tpm=True)
    assert planned(pc(stopped), *lines).of(Kind.TPM).strategy is S.PASSTHROUGH


def test_memory_that_running_vms_were_promised_is_not_given_away_again() -> None:
    memory = Memory(total_mib=8192, available_mib=5000)
    assert planned(pc(memory=memory)).memory_mib == 4096
    young = GuestClaims(name="young", running=True, memory_mib=3072, resident_mib=72)
    assert planned(pc(young, memory=memory)).memory_mib == 1280  # 5000 - 3000 - 512, in steps of 256
    old = GuestClaims(name="old", running=True, memory_mib=3072, resident_mib=3200)
    assert planned(pc(old, memory=memory)).memory_mib == 4096


def test_a_domain_tells_what_it_has_of_the_host() -> None:
    xml = """<domain><devices>
      <hostdev type='pci'><source><address domain='0x0000' bus='0x01' slot='0x00' function='0x1'/></source></hostdev>
      <interface type='hostdev'>
        <source><address type='pci' domain='0' bus='2' slot='16' function='0'/></source>
      </interface>
      <hostdev type='usb'>
        <source><vendor id='0x046d'/><product id='0xc52b'/><address bus='1' device='7'/></source>
      </hostdev>
      <hostdev type='usb'><source><vendor id='0x046d'/><product id='0xc52b'/></source></hostdev>
      <disk type='nvme'><source type='pci' namespace='1'>
        <address domain='0x0000' bus='0x03' slot='0x00' function='0x0'/></source></disk>
      <tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>
    </devices></domain>"""
    assert claims_of(xml, "games", running=False) == GuestClaims(
        name="games", running=False, functions=("0000:01:00.1", "0000:02:10.0", "0000:03:00.0"),
        usb=("046d:c52b 1 7", "046d:c52b"), tpm=True,
    )  # fmt: skip


def test_a_gpu_with_shares_in_use_does_not_go_whole() -> None:
    gpu = PciFunction(
        address="0000:09:00.0", class_code="030000", vendor_id="8086", driver="i915", boot_vga=False, iommu_group=9,
        particulars=Particulars(mdevs=(Mdev(uuid="a", type="t"),), holders=()),
    )  # fmt: skip
    text = 'schema = 1\n[guest]\ndrivers = ["intel"]\n[devices.gpu]\nprefer = ["passthrough", "emulated"]'
    profile = parse((ProfileText("test", "a test", text),))
    (refused,) = planner.plan(pc(pci=(gpu,)), profile).of(Kind.GPU).rejected
    assert refused.reason is R.IN_USE
    assert "would vanish" in refused.detail
    own = Kept(mdev="a")
    assert planner.plan(pc(pci=(gpu,)), profile, kept=own).of(Kind.GPU).strategy is S.PASSTHROUGH


def test_a_saved_document_names_no_vm_and_an_old_one_still_reads() -> None:
    host = anonymise(pc(GuestClaims(name="annas-pc", running=True, functions=(CARDS[0].address,))))
    text = host_model.encode(host)
    assert b"annas" not in text
    assert host_model.decode(text, "a test") == host
    assert host.vms[0].functions == (CARDS[0].address,)
    old = msgspec.json.decode(text)
    del old["stack"]["vms"]
    assert host_model.decode(msgspec.json.encode(old), "a test").vms == ()
