"""Changing settings of the host, on a tree of files with a card that behaves as the kernel's do."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from clienthv import hostchanges, process
from clienthv.errors import HostError
from clienthv.hostchanges import BlockedError, Fate, RefusedError
from clienthv.model.change import Change, Setting, What, check
from clienthv.process import links
from clienthv.process import nvme as nvme_cli

ADDRESS, INTERFACE = "0000:01:00.0", "enp1s0"


def change(what: What, before: str, after: str, **more: Any) -> Change:
    if what in (What.LINK_UP, What.VF_TRUST):
        more = {"interface": INTERFACE, **more}
    return Change(setting=Setting(what=what, device=ADDRESS, **more), before=before, after=after)


LINK = change(What.LINK_UP, "down", "up")
AUTOPROBE = change(What.VF_AUTOPROBE, "1", "0")
SEVEN = change(What.CREATE_VFS, "0", "7")
TRUST = change(What.VF_TRUST, "off", "on", index=2)
ALL = (LINK, AUTOPROBE, SEVEN, TRUST)


def test_every_setting_is_read_changed_and_given_back(card: Any) -> None:
    before = card.state
    for one in ALL:
        assert hostchanges.value_of(one.setting, card.root) == (one.before if one is not TRUST else "off")
        hostchanges.make(one, card.root)
        assert hostchanges.value_of(one.setting, card.root) == one.after
    assert card.state == ("7", "0", True, {2})
    for one in reversed(ALL):
        outcome = hostchanges.take_back(one, card.root)
        assert outcome.fate is Fate.UNDONE
        assert ADDRESS in outcome.words
    assert card.state == before


def test_taking_back_twice_or_what_was_never_made_does_nothing(card: Any) -> None:
    for one in (LINK, AUTOPROBE, SEVEN):
        assert hostchanges.take_back(one, card.root) == (Fate.NOTHING_TO_UNDO, "")
    assert hostchanges.take_back(TRUST, card.root).fate is Fate.NOTHING_TO_UNDO  # there is no such function
    assert card.log == []


def test_what_somebody_else_has_set_since_is_left_alone_and_told(card: Any) -> None:
    hostchanges.make(AUTOPROBE, card.root)
    hostchanges.make(change(What.CREATE_VFS, "0", "3"), card.root)
    outcome = hostchanges.take_back(SEVEN, card.root)
    assert outcome.fate is Fate.CHANGED_BY_OTHERS
    assert "is 3, which clienthv did not set" in outcome.words
    assert card.read("sriov_numvfs") == "3"


def test_virtual_functions_in_use_are_not_removed_from_under_their_user(card: Any) -> None:
    for one in (LINK, AUTOPROBE, SEVEN):
        hostchanges.make(one, card.root)
    card.bind("0000:02:10.4", "vfio-pci")
    for one in (SEVEN, LINK):
        outcome = hostchanges.take_back(one, card.root)
        assert outcome.fate is Fate.STILL_NEEDED
        assert "0000:02:10.4 is in use by vfio-pci" in outcome.words
    card.bind("0000:02:10.4", "igbvf")
    assert hostchanges.take_back(SEVEN, card.root).fate is Fate.STILL_NEEDED
    assert card.read("sriov_numvfs") == "7"


def test_a_guests_function_that_libvirt_is_about_to_give_back_is_waited_for(card: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(hostchanges, "WITHIN", 10.0)
    hostchanges.make(AUTOPROBE, card.root)
    hostchanges.make(SEVEN, card.root)
    card.bind("0000:02:10.0", "mlx5_vfio_pci")
    given_back = threading.Timer(0.2, card.bind, ("0000:02:10.0", ""))
    given_back.start()
    assert hostchanges.take_back(SEVEN, card.root).fate is Fate.UNDONE
    given_back.join()


def test_functions_that_never_appear_are_an_error_after_a_while(card: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(card, "wrote", lambda *_: None)
    with pytest.raises(RefusedError, match="did not show") as raised:
        hostchanges.make(SEVEN, card.root)
    assert raised.value.hint


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EBUSY, errno.ENOMEM, errno.EIO])
def test_what_the_kernel_refuses_is_told_in_its_words(number: int, tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(number, "the kernel's words")

    file = tmp_path / "sys/bus/pci/devices" / ADDRESS / "sriov_numvfs"
    file.parent.mkdir(parents=True)
    file.write_text("0\n")
    monkeypatch.setattr(process, "write_file", refuse)
    with pytest.raises(RefusedError, match="the kernel's words") as raised:
        hostchanges.make(SEVEN, str(tmp_path))
    assert raised.value.hint


def test_a_user_without_the_right_to_write_is_told_what_to_do(card: Any, monkeypatch: Any) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(process, "write_file", refuse)
    with pytest.raises(RefusedError, match="cannot write 7") as raised:
        hostchanges.make(SEVEN, card.root)
    assert "as root" in (raised.value.hint or "")


def test_a_card_or_an_interface_that_is_gone_has_no_setting(card: Any) -> None:
    other = Setting(what=What.CREATE_VFS, device="0000:09:00.0")
    assert hostchanges.value_of(other, card.root) is None
    elsewhere = Setting(what=What.LINK_UP, device=ADDRESS, interface="enp9s0")
    assert hostchanges.value_of(elsewhere, card.root) is None, "an interface of another card is not this card's"
    outcome = hostchanges.take_back(Change(setting=elsewhere, before="down", after="up"), card.root)
    assert outcome.fate is Fate.NOTHING_TO_UNDO
    assert "not there any more" in outcome.words


@pytest.mark.parametrize(
    "wrong",
    [
        change(What.CREATE_VFS, "0", "65536"),
        change(What.CREATE_VFS, "0", "-1"),
        change(What.CREATE_VFS, "0", "7; reboot"),
        change(What.CREATE_VFS, "0", "7\n"),
        change(What.VF_AUTOPROBE, "1", "2"),
        change(What.LINK_UP, "down", "sideways"),
        change(What.VF_TRUST, "off", "on"),
        change(What.CREATE_VFS, "0", "7", interface="enp1s0"),
        change(What.VF_AUTOPROBE, "1", "0", index=3),
        *(
            change(What.LINK_UP, "down", "up", interface=name)
            for name in ("", ".", "..", "-a", "a/b", "a b", "a\n", "../../x", "a" * 16, "é")
        ),
    ],
)
def test_nothing_else_can_be_written_or_named(wrong: Change, card: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        check(wrong)
    for act in (hostchanges.make, hostchanges.take_back):
        with pytest.raises(ValueError, match=r"."):
            act(wrong, card.root)
    assert card.log == []


SHOWN = [
    {
        "ifname": "enp1s0",
        "vfinfo_list": [
            {"vf": 0, "link_type": "ether", "spoofchk": True, "link-state": "auto", "trust": False},
            {"vf": 1, "link_type": "ether", "spoofchk": True, "link-state": "auto", "trust": True},
            {"vf": 2, "link_type": "ether"},
        ],
    }
]


@pytest.mark.parametrize(("index", "trust"), [(0, False), (1, True), (2, None), (3, None)])
def test_trust_is_read_from_what_ip_shows(index: int, trust: bool | None, monkeypatch: Any) -> None:
    monkeypatch.setattr(links, "_ip", lambda *_: json.dumps(SHOWN))
    assert process.vf_trust("enp1s0", index) is trust


@pytest.mark.parametrize("text", ["", "[", "{}x", '[{"vfinfo_list": 3}]', "[3]"])
def test_an_ip_that_says_something_else_is_an_error(text: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(links, "_ip", lambda *_: text)
    with pytest.raises(HostError, match="enp1s0"):
        process.vf_trust("enp1s0", 0)


def test_a_pc_without_ip_is_told_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="ip is not installed") as raised:
        process.set_link("enp1s0", up=True)
    assert "iproute2" in (raised.value.hint or "")


CAPABLE = {"cntlid": 65, "vqrfap": 4, "virfap": 2, "vqfrt": 4, "vifrt": 2, "vqfrsm": 2, "vifrsm": 1}
LISTED = {
    "secondary-controllers": [
        {"secondary-controller-identifier": 8 + n, "virtual-function-number": n + 1, "num-virtual-queues": 2 * n,
         "num-virtual-interrupts": n, "secondary-controller-state": n}
        for n in range(2)
    ]
}  # fmt: skip


def nvme_says(monkeypatch: Any) -> list[list[str]]:
    """An nvme that shows a controller with two secondary ones, the second of them online; what it was called with."""
    called: list[list[str]] = []

    def nvme(arguments: list[str], node: str) -> str:
        called.append(arguments)
        assert arguments[1] == f"/dev/{node}" == "/dev/nvme0"
        return json.dumps(CAPABLE if arguments[0] == "primary-ctrl-caps" else LISTED)

    monkeypatch.setattr(nvme_cli, "_nvme", nvme)
    return called


def test_a_secondary_controller_without_resources_gets_its_share_before_it_goes_online(monkeypatch: Any) -> None:
    called = nvme_says(monkeypatch)
    assert process.nvme_primary("nvme0")[:2] == (4, 2)
    process.set_nvme_online("nvme0", 0, of=2)
    process.set_nvme_online("nvme0", 1, of=2)
    process.set_nvme_offline("nvme0", 1)
    done = [" ".join(words[2:]) for words in called if words[0] == "virt-mgmt"]
    assert done == ["-c 8 -r 1 -a 8 -n 1", "-c 8 -r 0 -a 8 -n 2", "-c 8 -a 9", "-c 9 -a 9", "-c 9 -a 7"]
    secondary = process.nvme_secondary("nvme0", 1)
    assert secondary is not None
    assert secondary.online
    assert process.nvme_secondary("nvme0", 2) is None
    with pytest.raises(HostError, match="nvme0"):
        process.set_nvme_online("nvme0", 2, of=2)


def test_a_primary_controller_is_called_by_its_own_number_and_set_back_when_it_refuses_half(monkeypatch: Any) -> None:
    called: list[str] = []

    def nvme(arguments: list[str], _: str) -> str:
        called.append(" ".join(arguments[2:]))
        if arguments[0] == "virt-mgmt" and arguments[-1] == "0" and "-r 0" in called[-1]:
            raise HostError("refused")
        return json.dumps(CAPABLE)

    monkeypatch.setattr(nvme_cli, "_nvme", nvme)
    flexible = Setting(what=What.NVME_FLEXIBLE, device=ADDRESS)
    with pytest.raises(HostError, match="refused"):
        hostchanges._set_flexible(flexible, "nvme0", "0/0", "/nowhere")
    assert [c for c in called if c.startswith("-c")] == [
        "-c 65 -r 1 -a 1 -n 0", "-c 65 -r 0 -a 1 -n 0", "-c 65 -r 1 -a 1 -n 2", "-c 65 -r 0 -a 1 -n 4",
    ]  # fmt: skip


def test_what_cannot_be_read_is_not_taken_for_gone(card: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    hostchanges.make(SEVEN, card.root)
    online = change(What.NVME_ONLINE, "off", "on", index=0)
    with pytest.raises(HostError, match="nvme is not installed"):
        hostchanges.take_back(online, card.root)


def test_a_function_in_a_guest_does_not_go_offline(card: Any, monkeypatch: Any) -> None:
    hostchanges.make(SEVEN, card.root)
    monkeypatch.setattr(hostchanges, "_nvme", lambda *_: "on")
    card.bind("0000:02:10.0", "vfio-pci")
    online = change(What.NVME_ONLINE, "off", "on", index=0)
    assert hostchanges.take_back(online, card.root).fate is Fate.STILL_NEEDED


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"secondary-controllers": 3}', '{"secondary-controllers": [{}]}'])
def test_an_nvme_that_says_something_else_is_an_error(text: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(nvme_cli, "_nvme", lambda *_: text)
    for ask in (process.nvme_primary, lambda node: process.nvme_secondary(node, 0)):
        with pytest.raises(HostError, match="nvme0"):
            ask("nvme0")


def test_without_nvme_cli_nothing_is_known_and_nothing_done(monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="nvme is not installed"):
        process.nvme_primary("nvme0")


# --- functions that move into a guest, modules and huge pages


class Kernel:
    """Functions with drivers below a root, and what the kernel does when the files of their drivers are written."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.pci = root / "sys/bus/pci"
        self.here = self.pci / "devices" / ADDRESS
        self.here.mkdir(parents=True)
        for driver in ("igb", "vfio-pci"):
            (self.pci / "drivers" / driver).mkdir(parents=True)
            for file in ("bind", "unbind"):
                (self.pci / "drivers" / driver / file).touch()
        (self.here / "driver_override").write_text("(null)\n")
        self.pages = root / "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        self.pages.parent.mkdir(parents=True)
        self.pages.write_text("4\n")
        self.free_pages = 1000
        self.refusal: BaseException | None = None
        self.log: list[str] = []
        self.bind("igb")

    def bind(self, driver: str) -> None:
        (self.here / "driver").unlink(missing_ok=True)
        if driver:
            (self.here / "driver").symlink_to(self.pci / "drivers" / driver)

    def write(self, path: str, value: str, _: float, __: str = "") -> None:
        name = Path(path).relative_to(self.root).name
        self.log.append(f"{Path(path).resolve().parent.name}/{name} {value}".strip())
        if self.refusal is not None:
            raise self.refusal
        match name:
            case "unbind":
                self.bind("")
            case "bind":
                self.bind(Path(path).parent.name)
            case "driver_override":
                (self.here / name).write_text(f"{value or '(null)'}\n")
            case "nr_hugepages":
                self.pages.write_text(f"{min(int(value), self.free_pages)}\n")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: Any) -> Kernel:
    made = Kernel(tmp_path / "pc")
    monkeypatch.setattr(process, "write_file", made.write)
    monkeypatch.setattr(hostchanges, "WITHIN", 0.1)
    monkeypatch.setattr(hostchanges.functions, "_GIVES_BACK", 0.1)
    monkeypatch.setattr(hostchanges.functions, "_REPROBES", 0.1)
    return made


DRIVER = change(What.DRIVER, "igb", "none")
OVERRIDE = change(What.DRIVER_OVERRIDE, "none", "vfio-pci")
PAGES = Change(setting=Setting(what=What.HUGEPAGES, device="2048 desk"), before="4", after="132")
MODULE = Change(setting=Setting(what=What.LOAD_MODULE, device="vfio_pci"), before="absent", after="loaded")


def test_a_function_is_taken_from_its_driver_and_libvirt_does_the_rest(kernel: Kernel) -> None:
    for one in (DRIVER, OVERRIDE):
        hostchanges.make(one, kernel.root)
    assert kernel.log == [f"igb/unbind {ADDRESS}"]
    assert hostchanges.value_of(DRIVER.setting, kernel.root) == "none"


@pytest.mark.parametrize("left", ["", "vfio-pci"], ids=["before libvirt had it", "when libvirt had it"])
def test_a_function_that_libvirt_did_not_give_back_gets_its_driver_again(kernel: Kernel, left: str) -> None:
    hostchanges.make(DRIVER, kernel.root)
    kernel.bind(left)
    if left:
        (kernel.here / "driver_override").write_text("vfio-pci\n")
    for one in (OVERRIDE, DRIVER):
        assert hostchanges.take_back(one, kernel.root).fate is (
            Fate.UNDONE if left or one is DRIVER else Fate.NOTHING_TO_UNDO
        )
    assert hostchanges.value_of(DRIVER.setting, kernel.root) == "igb"
    assert hostchanges.value_of(OVERRIDE.setting, kernel.root) == "none"


def test_a_function_that_libvirt_gave_back_or_that_somebody_else_took_is_left(kernel: Kernel) -> None:
    assert hostchanges.take_back(DRIVER, kernel.root) == (Fate.NOTHING_TO_UNDO, "")
    kernel.bind("e1000e")
    assert hostchanges.take_back(DRIVER, kernel.root).fate is Fate.CHANGED_BY_OTHERS
    assert kernel.log == []


@pytest.mark.parametrize("left", ["", "vfio-pci"], ids=["before libvirt had it", "when libvirt had it"])
def test_a_function_whose_driver_was_unloaded_since_is_left_without_one(kernel: Kernel, left: str) -> None:
    hostchanges.make(DRIVER, kernel.root)
    kernel.bind(left)
    shutil.rmtree(kernel.pci / "drivers/igb")
    outcome = hostchanges.take_back(DRIVER, kernel.root)
    assert hostchanges.value_of(DRIVER.setting, kernel.root) == "none"
    assert outcome.fate is not Fate.STILL_NEEDED
    assert "igb is not loaded any more" in outcome.words


def test_a_function_that_had_no_driver_gets_none(kernel: Kernel) -> None:
    kernel.bind("")
    bare = change(What.DRIVER, "none", "none")
    hostchanges.make(bare, kernel.root)
    assert kernel.log == []
    kernel.bind("vfio-pci")
    assert hostchanges.take_back(bare, kernel.root).fate is Fate.UNDONE
    assert hostchanges.value_of(bare.setting, kernel.root) == "none"


def test_a_function_in_a_guest_is_not_taken_from_it(kernel: Kernel, monkeypatch: Any) -> None:
    kernel.bind("vfio-pci")
    holder = hostchanges.inspect.Holder(41, "qemu-system-x86", "/dev/vfio/12")
    monkeypatch.setattr(hostchanges.inspect, "read_holders", lambda *_: (holder,))
    outcome = hostchanges.take_back(DRIVER, kernel.root)
    assert outcome.fate is Fate.STILL_NEEDED
    assert "qemu-system-x86 (process 41)" in outcome.words
    assert kernel.log == []


def test_a_driver_that_does_not_let_go_is_told_with_who_holds_it(kernel: Kernel, monkeypatch: Any) -> None:
    kernel.refusal = TimeoutError()
    holder = hostchanges.inspect.Holder(41, "aplay", "/dev/snd/pcmC0D0p")
    monkeypatch.setattr(hostchanges.inspect, "read_holders", lambda *_: (holder,))
    with pytest.raises(BlockedError, match=r"unbind igb from .*aplay \(process 41: /dev/snd/pcmC0D0p\)") as raised:
        hostchanges.make(DRIVER, kernel.root)
    assert "clienthv recover" in (raised.value.hint or "")


def test_a_change_back_that_does_not_show_is_not_called_undone(kernel: Kernel, monkeypatch: Any) -> None:
    hostchanges.make(DRIVER, kernel.root)
    monkeypatch.setattr(kernel, "bind", lambda _: None)
    outcome = hostchanges.take_back(DRIVER, kernel.root)
    assert outcome.fate is Fate.STILL_NEEDED
    assert "is none still" in outcome.words


def test_huge_pages_are_made_and_given_back(kernel: Kernel) -> None:
    hostchanges.make(PAGES, kernel.root)
    assert hostchanges.value_of(PAGES.setting, kernel.root) == "132"
    assert hostchanges.take_back(PAGES, kernel.root).fate is Fate.UNDONE
    assert hostchanges.value_of(PAGES.setting, kernel.root) == "4"


def test_fewer_huge_pages_than_wanted_are_a_refusal_and_all_are_given_back(kernel: Kernel) -> None:
    kernel.free_pages = 100
    with pytest.raises(RefusedError, match="huge pages of 2048 KiB"):
        hostchanges.make(PAGES, kernel.root)
    assert hostchanges.take_back(PAGES, kernel.root).fate is Fate.UNDONE
    assert hostchanges.value_of(PAGES.setting, kernel.root) == "4"


def test_a_module_is_unloaded_only_when_no_function_is_with_it(kernel: Kernel, monkeypatch: Any) -> None:
    folder = Path(kernel.root, "sys/module/vfio_pci")

    def load_module(name: str, *, loaded: bool) -> None:
        assert name == "vfio_pci"
        folder.mkdir(parents=True) if loaded else folder.rmdir()

    monkeypatch.setattr(process, "load_module", load_module)
    assert hostchanges.value_of(MODULE.setting, kernel.root) == "absent"
    hostchanges.make(MODULE, kernel.root)
    (kernel.pci / "drivers/vfio-pci" / ADDRESS).symlink_to(kernel.here)
    outcome = hostchanges.take_back(MODULE, kernel.root)
    assert (outcome.fate, ADDRESS in outcome.words) == (Fate.STILL_NEEDED, True)
    (kernel.pci / "drivers/vfio-pci" / ADDRESS).unlink()
    assert hostchanges.take_back(MODULE, kernel.root).fate is Fate.UNDONE
    assert not folder.exists()


def test_huge_pages_that_others_have_taken_since_stay_theirs(kernel: Kernel) -> None:
    hostchanges.make(PAGES, kernel.root)
    kernel.pages.write_text("200\n")
    outcome = hostchanges.take_back(PAGES, kernel.root)
    assert (outcome.fate, kernel.pages.read_text()) == (Fate.UNDONE, f"{200 - 128}\n")


def test_a_driver_that_the_kernel_still_unbinds_is_not_called_back_and_not_asked(kernel: Kernel) -> None:
    writer = Path(kernel.root, "proc/77")
    writer.mkdir(parents=True)
    (writer / "environ").write_text(f"PATH=/bin\0CLIENTHV_WRITES_TO={ADDRESS}\0")
    for driver in ("igb", ""):
        kernel.bind(driver)
        outcome = hostchanges.take_back(DRIVER, kernel.root)
        assert outcome.fate is Fate.STILL_NEEDED
        assert "process 77" in outcome.words
    assert kernel.log == []


def test_a_link_with_an_interface_stacked_on_it_stays_up(card: Any) -> None:
    hostchanges.make(LINK, card.root)
    (card.net / "upper_macvtap0").symlink_to(card.net)
    outcome = hostchanges.take_back(LINK, card.root)
    assert (outcome.fate, "macvtap0" in outcome.words) == (Fate.STILL_NEEDED, True)
    (card.net / "upper_macvtap0").unlink()
    assert hostchanges.take_back(LINK, card.root).fate is Fate.UNDONE


def test_the_number_of_functions_is_not_asked_of_a_card_whose_driver_hangs(card: Any) -> None:
    """sriov_numvfs is read under the lock that a hanging driver has; the functions are counted instead."""
    hostchanges.make(AUTOPROBE, card.root)
    hostchanges.make(SEVEN, card.root)
    card.bind(ADDRESS, "")
    (card.folder / "sriov_numvfs").unlink()
    assert hostchanges.value_of(SEVEN.setting, card.root) == "7"


def at_work(root: str, mark: str) -> None:
    """Let a process that writes for clienthv be there still, whoever had it write."""
    writer = Path(root, "proc/77")
    writer.mkdir(parents=True)
    (writer / "environ").write_text(f"PATH=/bin\0CLIENTHV_WRITES_TO={mark}\0")


@pytest.mark.parametrize(
    ("one", "mark"), [(SEVEN, ADDRESS), (AUTOPROBE, ADDRESS), (LINK, INTERFACE), (TRUST, INTERFACE)]
)
def test_a_change_that_may_still_come_to_pass_is_not_taken_for_one_that_was_never_made(
    one: Change, mark: str, card: Any
) -> None:
    at_work(card.root, mark)
    outcome = hostchanges.take_back(one, card.root)
    assert (outcome.fate, "process 77" in outcome.words) == (Fate.STILL_NEEDED, True)
    assert card.log == []


def test_a_secondary_controller_that_may_still_come_online_is_waited_for_too(card: Any) -> None:
    (card.folder / "nvme/nvme0").mkdir(parents=True)
    at_work(card.root, "nvme0")
    (Path(card.root) / "proc/77/comm").write_text("nvme\n")
    online = change(What.NVME_ONLINE, "off", "on", index=0)
    outcome = hostchanges.take_back(online, card.root)
    assert (outcome.fate, "process 77" in outcome.words) == (Fate.STILL_NEEDED, True)


@pytest.mark.parametrize(("one", "mark"), [(PAGES, "2048 desk"), (MODULE, "vfio_pci")])
def test_pages_and_modules_that_may_still_come_are_waited_for_too(one: Change, mark: str, kernel: Kernel) -> None:
    at_work(kernel.root, mark)
    assert hostchanges.take_back(one, kernel.root).fate is Fate.STILL_NEEDED


def test_the_number_of_functions_is_not_asked_of_a_card_that_is_just_being_written_to(card: Any) -> None:
    """A card's driver that hangs while it makes functions has the lock under which their number is read."""
    at_work(card.root, ADDRESS)
    (card.folder / "sriov_numvfs").write_text("7\n")
    assert hostchanges.value_of(SEVEN.setting, card.root) == "0"


@pytest.mark.parametrize("file", ["sriov_numvfs", "sriov_drivers_autoprobe"])
def test_what_is_there_and_cannot_be_read_is_not_taken_for_gone(file: str, card: Any) -> None:
    for one in (AUTOPROBE, SEVEN):
        hostchanges.make(one, card.root)
    (card.folder / file).unlink()
    (card.folder / file).mkdir()  # reading it fails, for root too
    outcome = hostchanges.take_back(SEVEN if file == "sriov_numvfs" else AUTOPROBE, card.root)
    assert outcome.fate is Fate.STILL_NEEDED
    assert "cannot be read" in outcome.words


def test_a_driver_override_or_a_pool_that_cannot_be_read_is_not_taken_for_gone(kernel: Kernel) -> None:
    for file, one in ((kernel.here / "driver_override", OVERRIDE), (kernel.pages, PAGES)):
        file.unlink()
        file.mkdir()
        assert hostchanges.take_back(one, kernel.root).fate is Fate.STILL_NEEDED


@pytest.mark.parametrize("one", [LINK, AUTOPROBE, SEVEN, TRUST, DRIVER, OVERRIDE, PAGES])
def test_without_sysfs_nothing_counts_as_gone(one: Change, tmp_path: Path) -> None:
    """As in a chroot that has the journal and no /sys."""
    assert hostchanges.take_back(one, str(tmp_path)).fate is Fate.STILL_NEEDED


@pytest.mark.parametrize("one", [LINK, AUTOPROBE, SEVEN, TRUST, DRIVER, OVERRIDE])
def test_a_device_that_is_gone_leaves_nothing_to_undo(one: Change, card: Any) -> None:
    (card.bus / ADDRESS).unlink()
    (Path(card.root) / "sys/class/net" / INTERFACE).unlink()
    assert hostchanges.take_back(one, card.root).fate is Fate.NOTHING_TO_UNDO


def rename(card: Any, name: str) -> None:
    """Give the card's interface another name (man 8 ip-link, name)."""
    (Path(card.root) / "sys/class/net" / card.INTERFACE).unlink()
    card.net = card.net.rename(card.net.with_name(name))
    (Path(card.root) / "sys/class/net" / name).symlink_to(card.net)
    card.INTERFACE = name


def test_an_interface_that_was_renamed_since_gets_its_link_and_its_trust_back(card: Any) -> None:
    before = card.state
    for one in ALL:
        hostchanges.make(one, card.root)
    rename(card, "lan0")
    for one in reversed(ALL):
        assert hostchanges.take_back(one, card.root).fate is Fate.UNDONE
    assert card.state == before


@pytest.mark.parametrize("name", ["lan0", "-j", "a b"])
def test_of_two_interfaces_or_under_a_name_that_no_program_is_given_nothing_is_guessed(name: str, card: Any) -> None:
    hostchanges.make(LINK, card.root)
    rename(card, name)
    if name == "lan0":
        (card.net.parent / "lan1").mkdir()
        (Path(card.root) / "sys/class/net/lan1").symlink_to(card.net.parent / "lan1")
    assert hostchanges.take_back(LINK, card.root).fate is Fate.NOTHING_TO_UNDO
    assert card.up


def test_a_link_that_the_host_uses_by_now_stays_up(card: Any) -> None:
    hostchanges.make(LINK, card.root)
    routes = Path(card.root, "proc/net/route")
    routes.write_text(f"Iface\tDestination\n{INTERFACE}\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\n")
    outcome = hostchanges.take_back(LINK, card.root)
    assert (outcome.fate, "address" in outcome.words, card.up) == (Fate.STILL_NEEDED, True, True)
    routes.write_text("Iface\n")
    assert hostchanges.take_back(LINK, card.root).fate is Fate.UNDONE
