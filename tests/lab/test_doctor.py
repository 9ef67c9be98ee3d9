"""doctor names the kernel parameter that keeps the IOMMU off; --fix, a restart and --undo are what they say they are.

The PC starts its kernel without a boot loader. Here it gets Debian's files of GRUB, and is restarted by kexec with the
parameters of the menu that update-grub made.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import lab
import pytest

if TYPE_CHECKING:
    from conftest import Pc

pytestmark = [pytest.mark.lab, pytest.mark.parametrize("pc", ["iommu-off"], indirect=True, scope="session")]

MENU, DEFAULTS = "/boot/grub/grub.cfg", "/etc/default/grub"
# libvirt writes down in the first by itself what it has started with, Debian in the second that the PC has started.
FOUND = "find /etc /boot/grub -path /etc/libvirt -prune -o -path /boot/grub/grubenv -prune -o"
FILES = f"{FOUND} -type f -exec sha256sum {{}} + ; {FOUND} -printf '%p %m %U %G %l\\n'"
RESTART_WITHIN = 300


def files(pc: Pc) -> dict[str, str]:
    """Every file of the PC's set-up with its checksum, mode and owner."""
    found: dict[str, str] = {}
    for line in pc.ok(FILES).splitlines():
        if match := re.fullmatch(r"([0-9a-f]{64})  (.*)", line):
            found[match[2]] = found.get(match[2], "") + match[1]
        else:
            path, _, about = line.partition(" ")
            found[path] = found.get(path, "") + about
    return found


def advice(pc: Pc) -> dict[str, Any]:
    return {a["code"]: a for a in json.loads(pc.ok("clienthv doctor performance --json"))["advice"]}


def restart(pc: Pc) -> None:
    """Start the kernel as the first entry of the boot menu says, and wait until it answers."""
    linux, initrd = (
        pc.ok(f"sed -n 's/^[ \\t]*{word}[ \\t]*//p' {MENU} | head -n1").split(maxsplit=1)
        for word in ("linux", "initrd")
    )
    kernel, options = linux[0], linux[1].strip()
    load = f"kexec -l {kernel} --initrd={initrd[0].strip()} --command-line={shlex.quote(options)}"
    pc.ok(load)
    before = pc.ok("cat /proc/sys/kernel/random/boot_id")
    pc.run("systemd-run --on-active=1 systemctl kexec")
    subprocess.run(["ssh", "-F", lab.SSH_CONFIG, "-O", "exit", "lab"], capture_output=True, check=False)
    deadline = time.monotonic() + RESTART_WITHIN
    while time.monotonic() < deadline:
        time.sleep(3)
        now = lab.ssh("cat", "/proc/sys/kernel/random/boot_id")
        if now.returncode == 0 and now.stdout != before:
            return
    message = f"the PC did not start again within {RESTART_WITHIN} s"
    raise AssertionError(message)


def groups(pc: Pc) -> int:
    return int(pc.ok("ls /sys/kernel/iommu_groups | wc -l"))


@pytest.fixture
def grub(pc: Pc) -> Iterator[None]:
    """Debian's files of GRUB, which say what the kernel was started with; gone afterwards."""
    pc.ok("mkdir -p /boot/grub /etc/default && cp /usr/share/grub/default/grub /etc/default/grub")
    line = 'GRUB_CMDLINE_LINUX="rw console=tty0 console=ttyS0"'
    pc.ok(f'sed -i \'s/^GRUB_CMDLINE_LINUX=.*/{line}/; s/"quiet"/"quiet intel_iommu=off"/\' {DEFAULTS}')
    pc.ok("update-grub")
    assert "intel_iommu=off" in pc.ok(f"cat {MENU}")
    yield
    pc.ok("rm -rf /boot/grub /etc/default/grub")


def test_a_fix_turns_the_iommu_on_and_its_undo_gives_every_file_back(pc: Pc, grub: None) -> None:
    before = files(pc)
    found = advice(pc)["iommu-parameter-off"]
    assert found["fixable"]
    assert found["after"] == "reboot"
    gpu = {"profile": "performance", "kind": "gpu", "strategy": "passthrough", "device": pc.function("1002:5046")}
    assert gpu in found["unlocks"]
    assert any("update-grub" in step for step in found["steps"])

    shown = pc.clienthv("doctor", "--fix", "--only", "iommu-parameter-off")
    assert '+GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=on"' in shown.stdout
    assert files(pc) == before, "nobody was asked, so nothing was changed"

    done = pc.clienthv("doctor", "--fix", "--yes", "--only", "iommu-parameter-off")
    assert done.rc == 0, done.stdout + done.stderr
    assert "restart the PC" in done.stderr
    after = files(pc)
    assert {path for path in before | after if before.get(path) != after.get(path)} == {DEFAULTS, MENU}
    assert "Restart the PC" in advice(pc)["iommu-parameter-off"]["title"]

    restart(pc)
    assert groups(pc) > 0
    assert pc.plan("performance")["gpu"]["strategy"] == "passthrough", "as was foretold"
    assert not {code for code in advice(pc) if code.startswith("iommu")}

    back = pc.clienthv("doctor", "--undo", "--yes")
    assert back.rc == 0, back.stdout + back.stderr
    changed = {path for path, now in files(pc).items() if before.get(path) != now}
    assert changed == set()
    assert set(files(pc)) == set(before)
    restart(pc)
    assert groups(pc) == 0


def test_packages_that_cannot_be_had_leave_nothing_and_are_told(pc: Pc, grub: None) -> None:
    before = files(pc)
    done = pc.clienthv("doctor", "--fix", "--yes", "--only", "uefi-firmware")
    assert done.rc == 3
    assert "cannot install ovmf" in done.stderr
    assert files(pc) == before
    assert "nothing to undo" in pc.clienthv("doctor", "--undo", "--yes").stderr


def test_what_is_edited_meanwhile_is_not_overwritten(pc: Pc, grub: None) -> None:
    pc.ok("clienthv doctor --fix --yes --only iommu-parameter-off")
    pc.ok(f"echo GRUB_BADRAM= >> {DEFAULTS}")
    theirs = files(pc)[DEFAULTS]
    back = pc.clienthv("doctor", "--undo", "--yes")
    assert back.rc == 3
    assert f"{DEFAULTS}: was changed since" in back.stderr
    assert files(pc)[DEFAULTS] == theirs
    pc.ok(f"sed -i '$d' {DEFAULTS}")
    assert pc.clienthv("doctor", "--undo", "--yes").rc == 0
    assert "intel_iommu=off" in pc.ok(f"cat {MENU}")
