"""What the lab PC is made ready with: packages, the guest's initramfs, libvirt's network, the cable, and the images."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vms import HERE, INITRD, LAB, function, ok

PACKAGES = LAB / "measuring"
IMAGE_MIB = 48
REGION_MIB = 384
"""The file system's size; the rest of the namespace is used as it is."""
IMAGES = Path("/mnt")
NETWORK = """<network><name>default</name><forward mode='nat'/><bridge name='virbr0' stp='on' delay='0'/>
<ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.200' end='192.168.122.254'/></dhcp>
</ip></network>"""


def packages() -> None:
    """Add what the box keeps for this beside its system. virt-install's Python must see it too."""
    if Path("/usr/bin/netperf").exists():
        return
    ok("cp", "-a", f"{PACKAGES}/.", "/")
    ok("ldconfig")
    ok("systemctl", "restart", "libvirtd")


def initramfs() -> None:
    """The lab's guest with another init and two programs: the kernel unpacks one archive after the other."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shutil.copy(HERE / "init", root / "init")
        (root / "init").chmod(0o755)
        shutil.copy(HERE / "figures", root / "figures")
        for program in ("/usr/bin/netperf", "/usr/bin/ioping"):
            for file in [program, *(w for w in ok("ldd", program).split() if w.startswith("/"))]:
                target = root / file[1:]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        (root / "tmp").mkdir()
        pack = f"cd {root} && find . | cpio --quiet -o -H newc | gzip -1"
        archive = subprocess.run(["sh", "-c", pack], capture_output=True, check=True).stdout
    INITRD.write_bytes((LAB / "initrd.img").read_bytes() + archive)


def networks() -> None:
    """The network of libvirt, as a desktop PC has it; an address for the card's own end of the cable; who answers."""
    if "default" not in ok("virsh", "net-list", "--all", "--name").split():
        (HERE / "network.xml").write_text(NETWORK)
        ok("virsh", "net-define", HERE / "network.xml")
    if "default" not in ok("virsh", "net-list", "--name").split():
        ok("virsh", "net-start", "default")
    (card,) = (path.name for path in Path(f"/sys/bus/pci/devices/{function('8086:10c9')}/net").iterdir())
    ok("ip", "link", "set", card, "up")
    ok("ip", "address", "replace", "192.0.2.1/24", "dev", card)
    if subprocess.run(["pgrep", "-x", "netserver"], capture_output=True, check=False).returncode != 0:
        ok("netserver", "-4")


def images() -> None:
    """A file system on the NVMe controller with an image for each VM; behind it as much for who gets the controller.

    All that is read was written before: what never was costs no drive anything.
    """
    pattern = Path("/run/pattern")
    pattern.write_bytes(os.urandom(1 << 20) * IMAGE_MIB)
    if not IMAGES.is_mount():
        ok("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "/dev/nvme0n1", f"{REGION_MIB}M")
        ok("mount", "/dev/nvme0n1", str(IMAGES))
        ok("dd", f"if={pattern}", "of=/dev/nvme0n1", "bs=1M", f"seek={REGION_MIB}", "oflag=direct", "status=none")
    for name in ("emulated", "paravirtual", "virt-install", "quickemu"):
        image = IMAGES / f"{name}.qcow2"
        if not image.exists():
            ok("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(pattern), str(image))
    pattern.unlink()
    IMAGES.chmod(0o755)
    ok("sync")


def everything() -> None:
    """All of it, with a word on how long each took."""
    for work in (packages, initramfs, networks, images):
        began = time.monotonic()
        work()
        print(f"{work.__name__}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def free_the_controller() -> None:
    """Take the images away, so that the NVMe controller can be handed over."""
    ok("umount", IMAGES)
