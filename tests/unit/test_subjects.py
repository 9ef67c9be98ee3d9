"""What is to be moved: what a path means, what is known of its images, and who has them open."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import msgspec
import pytest
from definitions import GPU, SCREEN, pc, target, xml
from findings import disk, hostdev

from clienthv import portability
from clienthv.errors import ClienthvError, DiskError, DocumentError, RefusedError
from clienthv.images import locks
from clienthv.lifecycle import checking, subjects
from clienthv.lifecycle.checking import Looking
from clienthv.model.host import encode
from clienthv.model.image import ImageFacts
from clienthv.model.plan import Kind, Strategy
from clienthv.portability import Subject

HOW = Looking(None, None, "balanced", inspect=False)


def of(path: Path | str) -> Subject:
    return checking.subject_of(str(path), HOW, lambda _: None)


def test_a_definition_without_a_name_is_called_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "odd.xml"
    file.write_bytes(b"\xef\xbb\xbf\n <domain/>")
    assert (of(file).name, of(file).kind) == ("odd.xml", "domain")


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("a.xml", b"<network/>", DocumentError, "no libvirt domain"),
        ("a.img", b"", RefusedError, "0 bytes"),
        ("pc.json", encode(pc()), DiskError, "is text"),
        ("list.txt", b"00:02.0 VGA compatible controller: Intel\n" * 200, DiskError, "is text"),
        ("text.qcow2", "Grüße aus der Küche\n".encode() * 300, DiskError, "is text"),
        ("cut.xml", b"<domain><name>", DocumentError, "is not XML"),
        ("b.clienthv", b"\x28\xb5\x2f\xfdjunk", ClienthvError, ""),
    ],
)
def test_what_cannot_be_moved_is_refused_by_name(
    name: str, content: bytes, error: type[ClienthvError], words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as caught:
        of(tmp_path / name)
    assert words in caught.value.message
    assert caught.value.hint


def test_a_document_of_a_pc_is_told_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "pc.json").write_bytes(encode(pc()))
    with pytest.raises(DiskError) as caught:
        of(tmp_path / "pc.json")
    assert "--to" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["", "x/y", "guest.qcow2", "guest.xml"])
def test_a_path_that_is_not_there_or_a_folder_is_no_vm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DiskError):
        of(name or tmp_path)


def test_of_images_that_are_not_here_nothing_is_known() -> None:
    moved = subjects.of_definition(xml(), "a.xml", None)
    assert (dict(moved.images), set(moved.gone)) == ({}, set())


def hold(path: Path, byte: int) -> int:
    """Lock a byte as QEMU does: shared, by an open file description."""
    handle = os.open(path, os.O_RDWR)
    fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
    return handle


@pytest.mark.parametrize(("byte", "written"), [(101, True), (100, False), (201, False), (103, False)])
def test_an_image_is_in_use_when_somebody_holds_its_byte_for_writing(byte: int, written: bool, tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(bytes(1024))
    assert locks.is_written(image) is False
    handle = hold(image, byte)
    assert locks.is_written(image) is written
    os.close(handle)
    assert locks.is_written(image) is False


def test_who_has_an_image_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert locks.is_written(tmp_path / "none") is None
    assert locks.is_written(tmp_path) is False


def test_the_files_that_an_image_needs_are_looked_for(tmp_path: Path) -> None:
    there, base = tmp_path / "a.qcow2", tmp_path / "base.qcow2"
    there.write_bytes(b"")
    facts = subjects.domain_facts.read(xml(disk=disk(f'file="{there}"') + disk('file="/nowhere/b"')), "a.xml")
    images = {str(there): ImageFacts(path=str(there), others=(str(base), str(there)))}
    assert set(subjects._gone(facts, images)) == {"/nowhere/b", str(base)}


def test_a_passed_controller_of_the_same_model_is_asked_for_where_it_is() -> None:
    usb = msgspec.structs.replace(GPU, address="0000:05:00.0", class_code="0c0330", device_id="1234", driver="xhci_hcd")
    here = pc("here", pci=(SCREEN, usb))
    there = pc("there", pci=(SCREEN, msgspec.structs.replace(usb, address="0000:09:00.0", iommu_group=40)))
    moved = subjects.of_definition(xml(hostdev("0000:05:00.0")), "a.xml", here)
    wish = moved.ask(there)
    assert wish.profile.device(Kind.USB).select == ("0000:09:00.0",)
    assert moved.ask(pc("bare", pci=(SCREEN,))).profile.device(Kind.USB).select == ()
    check = portability.check(moved, target(there))
    assert check.plan is not None
    assert check.plan.of(Kind.USB).strategy is Strategy.PASSTHROUGH
