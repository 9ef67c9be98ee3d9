"""An image that QEMU's own tools have open is told from one that nobody writes to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clienthv.images import locks

pytestmark = pytest.mark.libvirt


@pytest.mark.parametrize(("how", "written"), [((), True), (("-r",), False)], ids=["writing", "reading"])
@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_an_image_is_written_while_qemu_has_it_open_to_write(
    kind: str, how: tuple[str, ...], written: bool, tmp_path: Path
) -> None:
    image = tmp_path / f"disk.{kind}"
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, image, "8M"], check=True)
    assert locks.is_written(image) is False
    with subprocess.Popen(
        ["qemu-io", *how, "-f", kind, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as held:
        assert held.stdin is not None
        assert held.stdout is not None
        held.stdin.write("length\n")
        held.stdin.flush()
        assert "8 MiB" in held.stdout.readline()
        assert locks.is_written(image) is written
        held.communicate("quit\n", timeout=60)
    assert locks.is_written(image) is False
