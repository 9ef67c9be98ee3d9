"""Bundles that were damaged, at any place, are refused or hold what they held; and what is refused leaves nothing."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from clienthv import bundles
from clienthv.errors import RefusedError
from clienthv.model import bundle

DEFINITION = b"<domain type='kvm'/>\n"


def compressed(archive: bytes | bytearray) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(bytes(archive))


def everything_in(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def attempt(data: bytes, home: Path) -> dict[str, bytes] | None:
    """What a bundle holds; None when it is refused, which must leave nothing."""
    before = everything_in(home)
    try:
        bundles.open_bundle(io.BytesIO(data)).extract(home / "desk")
    except RefusedError:
        assert everything_in(home) == before
        return None
    found = {str(p.relative_to(home)): p.read_bytes() for p in (home / "desk").rglob("*") if p.is_file()}
    shutil.rmtree(home / "desk")
    return found


def real(folder: Path) -> bytes:
    """A bundle of a VM with all there can be; its disk is a little data before a hole."""
    path = folder / "a.raw"
    with path.open("wb") as file:
        file.write(b"".join(hashlib.sha256(bytes([n])).digest() for n in range(120)) + b"boot" * 1000)
        file.truncate(1 << 20)
    disk = bundles.DiskPart(path, "raw", 1 << 20)
    output = io.BytesIO()
    bundles.write(output, bundles.Parts("desk", DEFINITION, "clienthv", (disk,), b"vars", {"tpm2-00.permall": b"tpm"}))
    return output.getvalue()


def decompressed(data: bytes) -> bytearray:
    return bytearray(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read())


@given(st.data())
def test_a_bundle_that_is_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    home = tmp_path_factory.mktemp("home")
    whole = real(home)
    assert attempt(whole[: data.draw(st.integers(0, len(whole) - 1))], home) is None


def test_a_bundle_that_is_cut_at_any_place_near_its_ends_is_refused(tmp_path: Path) -> None:
    whole = real(tmp_path)
    for cut in [*range(64), *range(len(whole) - 64, len(whole))]:
        assert attempt(whole[:cut], tmp_path) is None


@settings(max_examples=200)
@given(st.data())
def test_a_bundle_with_a_flipped_bit_is_refused_or_holds_what_it_held(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """There are bits in a zstd frame that mean nothing, such as one of its header (RFC 8878, 3.1.1.1.1.3)."""
    home = tmp_path_factory.mktemp("home")
    whole = bytearray(real(home))
    expected = attempt(bytes(whole), home)
    at = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[at // 8] ^= 1 << at % 8
    assert attempt(bytes(whole), home) in (None, expected)


@settings(max_examples=200)
@given(st.data())
def test_an_archive_with_a_changed_byte_is_refused_or_holds_what_it_held(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Changed before it is compressed, so that zstd's checksum fits: owners and times of files mean nothing."""
    home = tmp_path_factory.mktemp("home")
    plain = decompressed(real(home))
    expected = attempt(compressed(plain), home)
    at, byte = data.draw(st.integers(0, len(plain) - 1)), data.draw(st.integers(0, 255))
    plain[at] = byte
    assert attempt(compressed(plain), home) in (None, expected)


@settings(max_examples=200)
@given(st.binary(max_size=3000), st.integers(0, 12))
def test_anything_else_after_a_beginning_is_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, blocks: int
) -> None:
    home = tmp_path_factory.mktemp("home")
    head = decompressed(real(home))[: blocks * 512]
    assert attempt(compressed(head + b"\1" + noise), home) is None


KEYS = ["schema", "kind", "members", "vm", "role", "name", "size", "disk"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["bundle", 1]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
)


@pytest.mark.parametrize("read", [bundle.decode, bundle.decode_checksums])
@given(JSON)
def test_any_other_json_is_refused(read: Callable[[bytes], Any], document: Any) -> None:
    with pytest.raises(RefusedError):
        read(json.dumps(document).encode())
