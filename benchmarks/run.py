"""Speed as ratios against peers measured in the same run; writes docs/benchmarks.md.

Every figure is a whole process from outside: wall time and peak memory as the kernel accounts for them (wait4).
Runs of the two sides alternate, so that a machine that changes its speed changes it for both; medians are compared.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = REPOSITORY / ".venv" / "bin"
PC = "tests/hosts/fa-laptop-fw16-7840hs.json"
PEER = "virt-install --connect test:///default --osinfo debian11 --import --disk none --print-xml --dry-run"
RUNS = 11


class Cost(NamedTuple):
    """What one process cost: seconds of wall time, and its peak memory in MiB."""

    seconds: float
    mib: float


class Row(NamedTuple):
    """One line of the table."""

    what: str
    ours: str
    peer: str
    result: str
    goal: str
    met: bool


def cost(command: Sequence[str], environment: dict[str, str] | None = None) -> Cost:
    """Run a command once. It must succeed."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(seconds, usage.ru_maxrss / 1024)


def median(costs: Sequence[Cost]) -> Cost:
    """The medians of several runs."""
    return Cost(statistics.median(c.seconds for c in costs), statistics.median(c.mib for c in costs))


def in_turn(first: Sequence[str], second: Sequence[str], runs: int = RUNS) -> tuple[Cost, Cost]:
    """Both commands in turn, one warm-up each, and their medians."""
    cost(first), cost(second)
    pairs = [(cost(first), cost(second)) for _ in range(runs)]
    return median([a for a, _ in pairs]), median([b for _, b in pairs])


def planning() -> list[Row]:
    """A plan from a document against virt-install's domain from its defaults: time, and memory."""
    ours, peer = in_turn([str(BIN / "clienthv"), "plan", "balanced", "--host", PC], PEER.split())
    ratio = ours.seconds / peer.seconds
    return [
        Row(
            "plan from a document, against virt-install",
            f"{ours.seconds:.3f} s",
            f"{peer.seconds:.3f} s",
            f"{ratio:.2f} ×",
            "≤ 0.33 ×",
            ratio <= 0.33,
        ),
        Row(
            "its peak memory",
            f"{ours.mib:.0f} MiB",
            f"{peer.mib:.0f} MiB",
            f"{ours.mib:.0f} MiB",
            "≤ 50 MiB",
            ours.mib <= 50,
        ),
    ]


def large_host(functions: int, path: Path) -> None:
    """A host document of many PCI functions: copies of a recorded PC's, each in a PCI domain of its own."""
    document: dict[str, Any] = json.loads((REPOSITORY / PC).read_text())
    one = document["pci"]
    groups = 1 + max(f["iommu_group"] or 0 for f in one)
    many: list[dict[str, Any]] = []
    copy = 0
    while len(many) < functions:
        for function in one[: functions - len(many)]:
            own = json.loads(json.dumps(function).replace('"0000:', f'"{copy:04x}:'))
            if own["iommu_group"] is not None:
                own["iommu_group"] += copy * groups
            many.append(own)
        copy += 1
    document["pci"], document["roles"] = many, []
    path.write_text(json.dumps(document))


def growth(folder: Path) -> Row:
    """Planning for ten times the PCI functions."""
    small, large = folder / "1000.json", folder / "10000.json"
    large_host(1000, small)
    large_host(10_000, large)
    plan = [str(BIN / "clienthv"), "plan", "performance", "--json", "--host"]
    few, many = in_turn([*plan, str(small)], [*plan, str(large)], runs=7)
    ratio = many.seconds / few.seconds
    return Row(
        "plan for 10,000 PCI functions, against 1,000",
        f"{many.seconds:.3f} s",
        f"{few.seconds:.3f} s",
        f"{ratio:.1f} ×",
        "≤ 12 ×",
        ratio <= 12,
    )


def together(folder: Path) -> Row:
    """Three VMs in one decision on a PC of 500 PCI functions, against one VM."""
    host = folder / "500.json"
    large_host(500, host)
    plan = [str(BIN / "clienthv"), "plan", "--json", "--host", str(host)]
    one, three = in_turn([*plan, "performance"], [*plan, *["performance"] * 3])
    ratio = three.seconds / one.seconds
    return Row(
        "plan of three VMs on 500 PCI functions, against one VM",
        f"{three.seconds:.3f} s",
        f"{one.seconds:.3f} s",
        f"{ratio:.2f} ×",
        "≤ 2 ×",
        ratio <= 2,
    )


def starting(folder: Path) -> Row:
    """``up`` as a whole against virsh creating the same domain, both through the embedded driver."""
    folder.chmod(0o755)
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "s"), "XDG_DATA_HOME": str(folder / "d")}
    uri = f"qemu:///embed?root={folder}/s/clienthv/embed"
    ours = [str(BIN / "clienthv"), "--connect", uri]
    up, down = [*ours, "up", "demo"], [*ours, "down", "demo", "--undefine"]
    virsh = ["virsh", "-q", "-c", uri]
    cost(up, environment)
    xml = subprocess.run([*virsh, "dumpxml", "--inactive", "demo"], check=True, capture_output=True, text=True).stdout
    domain = folder / "demo.xml"
    domain.write_text(xml)
    cost(down, environment)
    added, whole, created = [], [], []
    for _ in range(7):
        whole.append(cost(up, environment).seconds)
        cost(down, environment)
        created.append(cost([*virsh, "create", str(domain)]).seconds)
        cost([*ours, "down", "demo", "--force"], environment)
        added.append(whole[-1] - created[-1])
    extra = statistics.median(added)
    return Row(
        "up, beyond virsh create of the same domain",
        f"{statistics.median(whole):.2f} s",
        f"{statistics.median(created):.2f} s",
        f"{extra:+.2f} s",
        "≤ 0.5 s",
        extra <= 0.5,
    )


def main() -> None:
    """Measure all, and write the table."""
    folder = Path(tempfile.mkdtemp(prefix="chv-bench-"))
    try:
        rows = [*planning(), growth(folder), together(folder), starting(folder)]
    finally:
        shutil.rmtree(folder)
    lines = ["| what | clienthv | peer | result | goal | met |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.what} | {r.ours} | {r.peer} | {r.result} | {r.goal} | {'yes' if r.met else 'NO'} |" for r in rows]
    text = (REPOSITORY / "benchmarks" / "benchmarks.md.in").read_text().replace("@TABLE@", "\n".join(lines))
    (REPOSITORY / "docs" / "benchmarks.md").write_text(text)
    print("\n".join(lines))
    if not all(r.met for r in rows):
        sys.exit("a goal was missed")


if __name__ == "__main__":
    main()
