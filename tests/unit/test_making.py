"""Taking back what a start made, and nothing that is somebody else's: definitions, images, what a guest has used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clienthv import journal, process
from clienthv.errors import DiskError, GuestError
from clienthv.hostchanges import Fate
from clienthv.hypervisor import DomainState
from clienthv.journal import Owner
from clienthv.lifecycle import making, remembered, returning, slots
from clienthv.lifecycle.returning import Site

MINE, THEIRS = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def xml(uuid: str = MINE, memory: int = 1) -> str:
    return f"<domain><name>desk</name><uuid>{uuid}</uuid><memory>{memory}</memory><devices/></domain>"


class Domain:
    """A domain of a libvirt of strings."""

    def __init__(self, libvirt: Libvirt, text: str) -> None:
        self.libvirt, self.text, self.active = libvirt, text, False
        self.why, self.ran, self.metadata = "", False, ""

    @property
    def name(self) -> str:
        return "desk"

    @property
    def uuid(self) -> str:
        return remembered.parse(self.text).findtext("uuid") or ""

    def xml(self, *, inactive: bool = False, whole: bool = False) -> str:
        return self.text.replace("<devices/>", f"<metadata>{self.metadata}</metadata><devices/>")

    def is_active(self) -> bool:
        return self.active

    def state(self) -> tuple[DomainState, str]:
        return (DomainState.RUNNING if self.active else DomainState.SHUTOFF), self.why

    def has_run(self) -> bool:
        return self.ran

    def destroy(self) -> None:
        self.active = False

    def note(self, namespace: str, element: str) -> None:
        self.metadata = element.replace("<inventory>", f'<inventory xmlns="{namespace}">')

    def undefine(self, *, with_state: bool) -> None:
        self.libvirt.domain, self.libvirt.with_state = None, with_state


class Libvirt:
    """A connection with at most one domain."""

    uri = "qemu:///system"

    def __init__(self) -> None:
        self.domain: Domain | None = None
        self.with_state: bool | None = None
        self.logged: float | None = None

    def define(self, text: str, _: str) -> Domain:
        if self.domain is not None and self.domain.uuid != (remembered.parse(text).findtext("uuid") or ""):
            raise GuestError("domain 'desk' already exists with another uuid")
        self.domain = Domain(self, text)
        return self.domain

    def find(self, _: str) -> Domain | None:
        return self.domain

    def domains(self) -> list[Domain]:
        return [self.domain] if self.domain is not None else []

    def has_firmware_variables(self, _: str) -> bool:
        return False

    def log_time(self, _: str) -> float | None:
        return self.logged


@pytest.fixture
def libvirt() -> Libvirt:
    return Libvirt()


OWNER = Owner("desk", "qemu:///system")


def begun(libvirt: Libvirt, text: str = xml(), before: str | None = None) -> Site:
    """A VM is defined, and clienthv ends before it has started."""
    with journal.held(returning.where(), "the test") as held:
        making.define(libvirt, OWNER, text, before, held)  # type: ignore[arg-type]
    return Site(libvirt, "desk")  # type: ignore[arg-type]


def settled(site: Site) -> list[str]:
    return returning.settle(site, lambda _: None)


def left() -> list[str]:
    return [e.change.setting.what.value for e in journal.read(returning.where())]


def test_a_definition_that_never_ran_goes_with_its_firmware_variables(libvirt: Libvirt) -> None:
    assert settled(begun(libvirt))
    assert libvirt.domain is None
    assert libvirt.with_state is True
    assert left() == []


def test_an_older_definition_comes_back(libvirt: Libvirt) -> None:
    libvirt.define(xml(memory=1), "desk")
    settled(begun(libvirt, xml(memory=2), before=xml(memory=1)))
    assert libvirt.domain is not None
    assert libvirt.domain.text == xml(memory=1)


def test_a_domain_of_somebody_else_with_that_name_is_not_touched(libvirt: Libvirt) -> None:
    site = begun(libvirt)
    libvirt.domain = Domain(libvirt, xml(THEIRS))
    said = settled(site)
    assert any("somebody else" in sentence for sentence in said)
    assert libvirt.domain is not None
    assert libvirt.domain.uuid == THEIRS


def test_one_that_was_there_first_is_not_touched_when_the_definition_is_refused(libvirt: Libvirt) -> None:
    libvirt.domain = Domain(libvirt, xml(THEIRS))
    with pytest.raises(GuestError, match="already exists"):
        begun(libvirt)
    settled(Site(libvirt, "desk"))  # type: ignore[arg-type]
    assert libvirt.domain is not None


def test_an_edited_definition_is_left_to_who_edited_it(libvirt: Libvirt) -> None:
    site = begun(libvirt)
    assert libvirt.domain is not None
    libvirt.domain.text = xml(memory=8)
    settled(site)
    assert libvirt.domain is not None


@pytest.mark.parametrize("evidence", ["libvirt", "log"])
def test_a_guest_that_ran_and_ended_after_a_crash_keeps_all_it_has(libvirt: Libvirt, evidence: str) -> None:
    site = begun(libvirt)
    assert libvirt.domain is not None
    if evidence == "libvirt":
        libvirt.domain.why = "the guest shut down"
    else:
        libvirt.logged = journal.read(returning.where())[0].at + 1
    settled(site)
    assert libvirt.domain is not None
    assert left() == []


def test_how_an_older_vm_ended_last_is_no_evidence(libvirt: Libvirt) -> None:
    libvirt.define(xml(memory=1), "desk")
    site = begun(libvirt, xml(memory=2), before=xml(memory=1))
    assert libvirt.domain is not None
    libvirt.domain.why = "it was destroyed"
    settled(site)
    assert libvirt.domain is not None
    assert libvirt.domain.text == xml(memory=1)


def test_a_log_of_an_earlier_run_is_no_evidence(libvirt: Libvirt) -> None:
    site = begun(libvirt)
    libvirt.logged = journal.read(returning.where())[0].at - 1
    settled(site)
    assert libvirt.domain is None


def test_a_guest_that_runs_after_a_crash_is_finished_and_one_that_never_got_anywhere_is_undone(
    libvirt: Libvirt,
) -> None:
    site = begun(libvirt)
    assert libvirt.domain is not None
    libvirt.domain.active = libvirt.domain.ran = True
    assert "counts as finished" in settled(site)[0]
    assert libvirt.domain.active
    assert left() == []
    libvirt.domain = None
    begun(libvirt)
    assert libvirt.domain is not None
    libvirt.domain.active = True  # paused before its first instruction
    settled(site)
    assert libvirt.domain is None


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def image(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An image is made, by a qemu-img of this test's."""
    monkeypatch.setattr(process, "create_image", lambda part, _: part.write_bytes(b"empty"))
    with journal.held(returning.where(), "the test") as held:
        making.make_disk(str(path), 1, OWNER, held)
        return held.entries[-1].change


def test_an_image_goes_again_while_nobody_has_written_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "images" / "desk.qcow2"
    change = image(path, monkeypatch)
    assert names(path.parent) == ["desk.qcow2"]
    assert making.remove_disk(change).fate is Fate.UNDONE
    assert making.remove_disk(change).fate is Fate.NOTHING_TO_UNDO


@pytest.mark.parametrize("how", ["written", "replaced"])
def test_an_image_that_is_somebodys_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    path = tmp_path / "desk.qcow2"
    change = image(path, monkeypatch)
    if how == "replaced":
        (tmp_path / "other").write_bytes(b"empty")
        (tmp_path / "other").replace(path)
    else:
        path.write_bytes(b"a whole afternoon")
    assert making.remove_disk(change).fate is Fate.CHANGED_BY_OTHERS
    assert path.exists()


def test_an_image_that_is_there_is_not_overwritten_and_nothing_is_left_of_the_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "desk.qcow2"
    path.write_bytes(b"mine")
    with pytest.raises(DiskError):
        image(path, monkeypatch)
    settled(Site(Libvirt(), "desk"))  # type: ignore[arg-type]
    assert "desk.qcow2" in names(tmp_path)
    assert not [name for name in names(tmp_path) if "clienthv-new" in name]
    assert path.read_bytes() == b"mine"


def test_a_q35_gets_free_ports_once_and_others_none() -> None:
    ports = "".join(f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in range(1, 4))
    used = "<interface><address type='pci' bus='0x01'/></interface>"
    q35 = f"<domain><os><type machine='pc-q35-10.0'>hvm</type></os><devices>{ports}{used}</devices></domain>"
    roomy = slots.with_spare_ports(q35)
    assert roomy is not None
    assert roomy.count("pcie-root-port") == 5, "two were free"
    numbered = roomy.replace('type="pci" model', 'type="pci" index="9" model')
    assert slots.with_spare_ports(numbered) is None
    assert slots.with_spare_ports(q35.replace("q35", "i440fx")) is None
