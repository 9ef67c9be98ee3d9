"""What the transaction adds to a start: ``up`` against ``virsh create`` of the same domain, two devices handed over.

It runs in the lab PC, which has devices to hand over and is many times slower than a machine. How many times is
measured in the same run, with a command that does nothing but compute; what was measured is told, and what that makes
of it here. Writes docs/benchmarks-transaction.md.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "vagrant"))

import lab  # noqa: E402 - lives beside the Vagrantfile

DOCUMENT = REPOSITORY / "tests/hosts/fa-laptop-fw16-7840hs.json"
PLAN = ("plan", "balanced", "--host")
RUNS = 5

IN_THE_PC = r"""
import json, re, subprocess, sys, time
GUEST, RUNS = "/usr/share/clienthv-lab", int(sys.argv[1])
PROFILE = '''schema = 1
[guest]
drivers = ["virtio", "amd"]
[size]
vcpus = 1
memory = "256 MiB"
[devices.firmware]
prefer = ["bios"]
[devices.gpu]
prefer = ["passthrough"]
[devices.nic]
prefer = ["passthrough"]
select = ["8086:10d3"]
''' + "".join(f'[devices.{k}]\nprefer = ["omit"]\n' for k in ("disk", "audio", "usb", "input", "tpm", "display"))
open("/run/timed.toml", "w").write(PROFILE)
BOOT = ["--kernel", f"{GUEST}/vmlinuz", "--initrd", f"{GUEST}/initrd.img", "--cmdline", "console=ttyS0 quiet"]

def took(*command):
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    return seconds

def up():
    return took("clienthv", "up", "/run/timed.toml", *BOOT)

up()
xml = subprocess.run(["virsh", "dumpxml", "timed"], capture_output=True, text=True, check=True).stdout
xml = re.sub(r"<uuid>.*?</uuid>", "", xml).replace("<name>timed</name>", "<name>plain</name>")
open("/run/plain.xml", "w").write(xml)
took("clienthv", "down", "timed", "--force")
ours, peers, computing = [], [], []
for _ in range(RUNS):
    ours.append(up())
    took("clienthv", "down", "timed", "--force")
    peers.append(took("virsh", "create", "/run/plain.xml"))
    took("virsh", "destroy", "plain")
    computing.append(took("clienthv", "plan", "balanced", "--host", "/run/host.json"))
took("clienthv", "down", "timed", "--force", "--undefine")
print(json.dumps([ours, peers, computing]))
"""


def in_the_pc(script: str, *arguments: str) -> str:
    """Run a Python script in the lab PC as root; what it prints."""
    command = ["ssh", "-F", str(lab.SSH_CONFIG), "lab", "sudo", "/opt/clienthv/bin/python", "-", *arguments]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout


def here() -> float:
    """Seconds of the computing command on this machine, the median of several."""
    seconds = []
    for _ in range(RUNS + 1):
        began = time.monotonic()
        command = [str(REPOSITORY / ".venv/bin/clienthv"), *PLAN, str(DOCUMENT)]
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds[1:])


def main() -> None:
    """Measure, and write the page."""
    lab.up("full")
    in_the_pc(f"import base64; open('/run/host.json', 'wb').write({DOCUMENT.read_bytes()!r})")
    ours, peers, computing = json.loads(in_the_pc(IN_THE_PC, str(RUNS)))
    added = [a - b for a, b in zip(ours, peers, strict=True)]
    slower = statistics.median(computing) / here()
    extra = statistics.median(added)
    lines = [
        "| what | seconds |",
        "|---|---|",
        f"| `clienthv up`, in the lab PC | {statistics.median(ours):.1f} |",
        f"| `virsh create` of the same domain, in the lab PC | {statistics.median(peers):.1f} |",
        f"| what `up` adds, in the lab PC | {extra:.1f} ({min(added):.1f} to {max(added):.1f}) |",
        f"| the lab PC is slower than this machine, by `clienthv plan` of a document | {slower:.1f} × |",
        f"| what `up` adds, on a machine like this one | {extra / slower:.2f} |",
        "| goal | ≤ 0.7 |",
    ]
    text = (REPOSITORY / "benchmarks/transaction.md.in").read_text().replace("@TABLE@", "\n".join(lines))
    (REPOSITORY / "docs/benchmarks-transaction.md").write_text(text)
    print("\n".join(lines))
    if extra / slower > 0.7:
        sys.exit("the goal was missed")


if __name__ == "__main__":
    main()
