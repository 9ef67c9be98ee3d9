"""Huge pages, Looking Glass, redirection and locked memory: given, or left out with a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from clienthv import planner, render
from clienthv.errors import ProfileError
from clienthv.inspect.files import Tree
from clienthv.inspect.memory import read_memory
from clienthv.model.host import Host, Hugepages, Iommu, Kvm, Memory, PciFunction, RoleName, Stack
from clienthv.model.plan import Extras, Kind, Plan
from clienthv.model.profile import ProfileText, parse
from clienthv.model.usb import UsbDevice
from clienthv.model.vm import Vm
from clienthv.strategies import size

GPU = PciFunction(
    address="0000:01:00.0", class_code="030000", vendor_id="10de", driver="nouveau", boot_vga=False, iommu_group=1
)
BIG = Hugepages(size_kib=1 << 20, total=4, free=4)
SMALL = Hugepages(size_kib=2048, total=3000, free=2100)


def pc(**more: Any) -> Host:
    known: dict[str, Any] = {
        "kvm": Kvm(usable=True),
        "iommu": Iommu(enabled=True, interrupt_remapping=True, groups=9, acs_override=False),
        "roles_read": tuple(RoleName),
        "pci": (GPU,),
    }
    return Host(**{**known, **more})


def planned(host: Host, text: str) -> Plan:
    whole = f'schema = 1\n[guest]\ndrivers = ["virtio", "nvidia"]\n{text}'
    return planner.plan(host, parse((ProfileText("test", "a test", whole),)))


def extras(plan: Plan) -> Extras:
    return plan.extras or Extras()


def said(plan: Plan) -> dict[str, str]:
    return {w.code: w.detail for w in plan.warnings}


def xml(plan: Plan, host: Host) -> str:
    return render.render(Vm(name="desk", plan=plan, profile=()), host)


WITH_PAGES = '[size]\nmemory = "4 GiB"\nhugepages = true'


def test_the_largest_huge_pages_of_which_enough_are_free_are_taken() -> None:
    host = pc(memory=Memory(hugepages=(BIG, SMALL), hugetlbfs=True))
    plan = planned(host, WITH_PAGES)
    assert extras(plan).hugepages_kib == 1 << 20
    assert '<page size="1048576" unit="KiB"/>' in xml(plan, host)
    few = pc(memory=Memory(hugepages=(msgspec.structs.replace(BIG, free=3), SMALL), hugetlbfs=True))
    assert extras(planned(few, WITH_PAGES)).hugepages_kib == 2048
    odd = planned(host, '[size]\nmemory = "1026 MiB"\nhugepages = true')
    assert extras(odd).hugepages_kib == 2048, "huge pages are not cut"


def test_memory_of_huge_pages_is_none_of_what_the_kernel_calls_available() -> None:
    host = pc(memory=Memory(available_mib=1024, hugepages=(SMALL,), hugetlbfs=True))
    plan = planned(host, WITH_PAGES)
    assert plan.memory_mib == 4096
    assert not {"shrunk-to-fit", "little-memory-left"} & said(plan).keys()
    wanted = parse((ProfileText("test", "a test", f"schema = 1\n{WITH_PAGES}"),))
    assert size.memories_mib(host, [wanted, wanted]) == [4096, None], "the second finds 52 pages left"


def test_a_vm_that_may_shrink_takes_what_is_more() -> None:
    pages = Hugepages(size_kib=2048, total=3000, free=3000)
    text = '[size]\nmemory = "8 GiB"\nmemory_min = "512 MiB"\nhugepages = true'
    host = pc(memory=Memory(available_mib=600, hugepages=(pages,), hugetlbfs=True))
    plan = planned(host, text)
    assert (plan.memory_mib, extras(plan).hugepages_kib) == (5888, 2048)
    host = pc(memory=Memory(available_mib=9000, hugepages=(pages,), hugetlbfs=True))
    plan = planned(host, text)
    assert (plan.memory_mib, extras(plan).hugepages_kib) == (8192, None)


def test_too_few_huge_pages_are_told_with_what_reserves_enough() -> None:
    plan = planned(
        pc(memory=Memory(hugepages=(msgspec.structs.replace(SMALL, free=2047),), hugetlbfs=True)), WITH_PAGES
    )
    assert extras(plan).hugepages_kib is None
    assert "2047 of 2048 KiB" in said(plan)["hugepages-short"]
    assert (
        "echo 3001 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages" in said(plan)["hugepages-short"]
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"memory": Memory(hugepages=(SMALL,), hugetlbfs=False)}, "no hugetlbfs is mounted"),
        ({"memory": Memory(hugepages=(), hugetlbfs=True)}, "no pool"),
        (
            {"memory": Memory(hugepages=(SMALL,)), "stack": Stack(uri="qemu:///session", privileged=False)},
            "may not use",
        ),
    ],
)
def test_huge_pages_that_cannot_be_used_are_not_taken(more: dict[str, Any], words: str) -> None:
    plan = planned(pc(**more), WITH_PAGES)
    assert extras(plan).hugepages_kib is None
    assert words in said(plan)["hugepages-short"]


MAY = Stack(uri="qemu:///system", privileged=True)
FEW = Hugepages(size_kib=2048, total=8, free=5, writable=True)


def may_make_pages(available_mib: int, pool: Hugepages = FEW, stack: Stack = MAY) -> Host:
    return pc(memory=Memory(available_mib=available_mib, hugepages=(pool,), hugetlbfs=True), stack=stack)


def test_huge_pages_are_made_of_free_memory_by_who_may() -> None:
    plan = planned(may_make_pages(8192), WITH_PAGES)
    assert extras(plan).hugepages_kib == 2048
    (change,) = plan.host_changes
    assert (change.action, change.device, change.value) == ("hugepages", "2048", str(8 + 2048 - 5))
    assert "hugepages-short" not in said(plan)


@pytest.mark.parametrize(
    "host",
    [
        may_make_pages(4096 + 511),
        may_make_pages(8192, msgspec.structs.replace(FEW, writable=False)),
        may_make_pages(8192, msgspec.structs.replace(FEW, writable=msgspec.UNSET)),
        may_make_pages(8192, stack=Stack(uri="qemu:///session", privileged=False)),
    ],
    ids=["little memory", "may not", "unknown", "session"],
)
def test_huge_pages_are_not_made_where_that_would_hurt_or_cannot_be_done(host: Host) -> None:
    plan = planned(host, WITH_PAGES)
    assert extras(plan).hugepages_kib is None
    assert plan.host_changes == ()
    assert "hugepages-short" in said(plan)


def test_a_pool_that_refused_is_not_asked_again() -> None:
    wants = parse((ProfileText("test", "a test", f"schema = 1\n{WITH_PAGES}"),))
    for host in (may_make_pages(8192), pc(memory=Memory(hugepages=(SMALL,), hugetlbfs=True))):
        plan = planner.plan(host, wants, refused={"2048": "the kernel had none"})
        assert extras(plan).hugepages_kib is None
        assert "the kernel had none" in said(plan)["hugepages-short"]


@pytest.mark.parametrize("memory", [Memory(), Memory(hugepages=None)])
def test_unknown_huge_pages_are_not_taken_for_free_ones(memory: Memory) -> None:
    plan = planned(pc(memory=memory), WITH_PAGES)
    assert extras(plan).hugepages_kib is None
    assert "hugepages-unknown" in said(plan)
    assert "hugepages-unknown" not in said(planned(pc(memory=memory), ""))


@pytest.mark.parametrize(("picture", "mib"), [("1920x1080", 32), ("2560x1440", 64), ("3840x2160", 128)])
def test_looking_glass_gets_memory_for_its_picture_beside_a_real_gpu(picture: str, mib: int) -> None:
    text = f"""[devices.gpu]
prefer = ["passthrough", "paravirtual"]
[devices.display]
looking_glass = "{picture}"
"""
    plan = planned(pc(), text)
    assert extras(plan).looking_glass_mib == mib
    assert '<shmem name="looking-glass-desk">' in xml(plan, pc())
    without = planned(pc(pci=()), text)
    assert without.extras is msgspec.UNSET
    assert "paravirtual" in said(without)["looking-glass-left-out"]


def test_redirection_needs_spice_and_a_usb_controller() -> None:
    plan = planned(pc(), "[devices.usb]\nredirect = 3")
    assert extras(plan).usb_redirects == 3
    assert xml(plan, pc()).count('<redirdev bus="usb" type="spicevmc"/>') == 3
    vnc = planned(pc(), '[devices.usb]\nredirect = 1\n[devices.display]\nprefer = ["emulated"]')
    assert "SPICE alone" in said(vnc)["redirection-left-out"]
    none = planned(pc(), '[devices.usb]\nredirect = 1\nprefer = ["omit"]')
    assert "USB 2 or USB 3" in said(none)["redirection-left-out"]


def test_redirection_gets_the_ports_that_devices_of_the_host_leave() -> None:
    devices = tuple(
        UsbDevice(
            port=f"1-{n}", vendor_id="046d", product_id=f"c{n:03d}", busnum=1, devnum=n, device_class="00",
            interface_classes=(), drivers=(), keyboard=False,
        )
        for n in range(1, 14)
    )  # fmt: skip
    host = pc(usb=devices, other_keyboards=("one",))
    names = ", ".join(f'"{d.ids}"' for d in devices)
    plan = planned(host, f"[devices.usb]\nredirect = 4\ndevices = [{names}]")
    assert len([d for d in plan.decisions if d.kind is Kind.USB_DEVICE and d.device]) == 13
    assert extras(plan).usb_redirects == 1
    assert "no more ports" in said(plan)["redirection-left-out"]


def test_a_user_who_may_lock_less_than_the_vm_is_told_before_it_fails() -> None:
    wants = '[size]\nmemory = "4 GiB"\n[devices.gpu]\nprefer = ["passthrough", "paravirtual"]'
    low = pc(memory=Memory(memlock_mib=64))
    assert "this user may lock 64 MiB" in said(planned(low, wants))["memlock-low"]
    assert "memlock-low" not in said(planned(low, ""))
    assert "memlock-low" not in said(planned(pc(memory=Memory(memlock_mib=4096)), wants))
    daemon = pc(memory=Memory(memlock_mib=64), stack=Stack(uri="qemu:///system", privileged=True))
    assert "memlock-low" not in said(planned(daemon, wants))


@pytest.mark.parametrize(
    "text",
    ["[devices.gpu]\nredirect = 1", '[devices.gpu]\nlooking_glass = "1920x1080"', "[devices.usb]\nredirect = 9",
     '[devices.display]\nlooking_glass = "big"', '[devices.display]\nlooking_glass = "999999x9"'],
)  # fmt: skip
def test_keys_stand_where_they_mean_something(text: str) -> None:
    with pytest.raises(ProfileError):
        planned(pc(), text)


LIMITS = "Limit                     Soft Limit           Hard Limit           Units\n{}"
LOCKED = "Max locked memory         8388608              134217728            bytes\n"


def tree(root: Path, **files: str) -> Tree:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_kB", "kB")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(str(root))


def test_pools_mounts_and_limits_are_read(tmp_path: Path) -> None:
    sizes = {f"sys__kernel__mm__hugepages__hugepages-{kib}_kB__{f}": f"{n}\n" for kib, f, n in (
        (2048, "nr_hugepages", 8), (2048, "free_hugepages", 5),
        (1048576, "nr_hugepages", 1), (1048576, "free_hugepages", 0),
    )}  # fmt: skip
    memory = read_memory(
        tree(
            tmp_path,
            **sizes,
            proc__self__mounts="hugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n",
            proc__self__limits=LIMITS.format(LOCKED),
            proc__self__status="CapEff:\t0000000000000000\n",
        )
    )
    assert memory.hugepages == (
        Hugepages(size_kib=1048576, total=1, free=0, writable=True),
        Hugepages(size_kib=2048, total=8, free=5, writable=True),
    )  # fmt: skip
    assert memory.hugetlbfs is True
    assert memory.memlock_mib == 128


@pytest.mark.parametrize(
    ("limits", "rights"),
    [(LOCKED, "000001ffffffffff"), (LOCKED.replace("134217728", "unlimited"), "0000000000000000")],
)
def test_who_may_raise_the_limit_has_none(limits: str, rights: str, tmp_path: Path) -> None:
    files = {"proc__self__limits": LIMITS.format(limits), "proc__self__status": f"CapEff:\t{rights}\n"}
    memory = read_memory(tree(tmp_path, **files))
    assert memory.memlock_mib is msgspec.UNSET
    assert memory.hugepages is None
    assert memory.hugetlbfs is None
    assert read_memory(Tree(str(tmp_path / "nothing"))).memlock_mib is None
