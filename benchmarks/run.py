"""Speed as ratios against peers measured in the same run; writes docs/benchmarks.md and its pictures.

Every figure is a whole process from outside. The sides of a comparison run in turn; medians are compared.
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

import drawing
from timing import BIN, REPOSITORY, Cost, cost, in_turn, median, medians

from clienthv import api
from clienthv.model.roles import RoleName

PC = "tests/hosts/fa-laptop-fw16-7840hs.json"
PEER = "virt-install --connect test:///default --osinfo debian11 --import --disk none --print-xml --dry-run"
FUNCTIONS = (100, 1000, 3000, 10_000)
VMS = (1, 2, 3, 4, 6)
DOCUMENTS = (100, 1000, 3000, 10_000)


class Row(NamedTuple):
    """One line of the table."""

    what: str
    ours: str
    peer: str
    result: str
    goal: str
    met: bool


def planning() -> list[Row]:
    """A plan from a document against virt-install's domain from its defaults: time, and memory.

    Beside it, in the picture, what else starts: the same plan as clienthv's shortest command, and virsh.
    """
    plan, version = [str(BIN / "clienthv"), "plan", "balanced", "--host", PC], [str(BIN / "clienthv"), "--version"]
    named = {
        "virt-install --print-xml": PEER.split(),
        "clienthv plan": plan,
        "clienthv --version": version,
        "virsh list": ["virsh", "--connect", "test:///default", "list"],
    }
    columns = dict(zip(named, in_turn(*named.values()), strict=True))
    ours, peer = median(columns["clienthv plan"]), median(columns["virt-install --print-xml"])
    drawing.bars("bench-start", [("start-up, against virt-install", _against(columns, peer))], one="virt-install")
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


def _against(columns: dict[str, list[Cost]], peer: Cost) -> list[drawing.Bar]:
    """Each command's seconds as a multiple of the peer's."""
    drawn = []
    for name, costs in columns.items():
        times = sorted(c.seconds / peer.seconds for c in costs)
        middle = median(costs)
        label = f"{middle.seconds / peer.seconds:.2f} ×, {middle.mib:.0f} MiB"
        drawn.append(drawing.Bar(name, middle.seconds / peer.seconds, times[0], times[-1], label))
    return drawn


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
    plan = [str(BIN / "clienthv"), "plan", "performance", "--json", "--host"]
    documents = [folder / f"{number}.json" for number in FUNCTIONS]
    for number, document in zip(FUNCTIONS, documents, strict=True):
        large_host(number, document)
    costs = medians(*([*plan, str(d)] for d in documents), runs=7)
    line = drawing.Line("clienthv plan performance", FUNCTIONS, [c.seconds for c in costs])
    drawing.lines("bench-functions", "plan, by the PC's PCI functions", "PCI functions", "seconds", [line])
    few, many = costs[FUNCTIONS.index(1000)], costs[FUNCTIONS.index(10_000)]
    ratio = many.seconds / few.seconds
    return Row(
        "plan for 10,000 PCI functions, against 1,000",
        f"{many.seconds:.3f} s",
        f"{few.seconds:.3f} s",
        f"{ratio:.1f} ×",
        "≤ 12 ×",
        ratio <= 12,
    )


def contested_host(functions: int, path: Path) -> None:
    """Such a host with two graphics cards and one network card that guests can have, and all else known to be free."""
    large_host(functions, path)
    document = json.loads(path.read_text())
    document["roles_read"] = [role.value for role in RoleName]
    document["memory"] = {"total_mib": 1 << 17, "available_mib": 1 << 17}
    spare = 2
    for function in document["pci"]:
        if (function["class_code"] or "").startswith("03"):
            function["boot_vga"], spare = spare <= 0, spare - 1
    path.write_text(json.dumps(document))


def together(folder: Path) -> list[Row]:
    """Three VMs that want the same hardware on 500 PCI functions, against one: as processes, and planning alone."""
    host, names = folder / "500.json", [f"vm{number}" for number in range(max(VMS))]
    contested_host(500, host)
    paths = [folder / f"{name}.toml" for name in names]
    for number, path in enumerate(paths):
        path.write_text(f'extends = "performance"\n[size]\nvcpus = {2 + number}\nmemory = "{4 + number} GiB"\n')
    plan = [str(BIN / "clienthv"), "plan", "--json", "--host", str(host)]
    costs = medians(*([*plan, *map(str, paths[:number])] for number in VMS))
    wishes = [api.Wish(name, api.load_profile(str(path))) for name, path in zip(names, paths, strict=True)]
    alone = [in_process(host, wishes[:number]) for number in VMS]
    lines = [
        drawing.Line("the whole process", VMS, [c.seconds for c in costs]),
        drawing.Line("the planning alone", VMS, alone),
    ]
    drawing.lines("bench-vms", "VMs that want the same two GPUs, on 500 PCI functions", "VMs", "seconds", lines)
    (one, three), (single, several) = ((c[VMS.index(1)], c[VMS.index(3)]) for c in (costs, alone))
    plans = api.plan_together(api.load_host(host), wishes[:3])
    won = sum(d.strategy == "passthrough" and d.kind == "gpu" for vm in plans.vms for d in vm.plan.decisions if vm.plan)
    if won != 2:
        sys.exit(f"{won} of three VMs have a graphics card: nothing was contested, and the figure is worth nothing")
    return [
        Row(
            "plan of three VMs that want two GPUs, on 500 PCI functions, against one VM",
            f"{three.seconds:.3f} s",
            f"{one.seconds:.3f} s",
            f"{three.seconds / one.seconds:.2f} ×",
            "≤ 2 ×",
            three.seconds <= 2 * one.seconds,
        ),
        Row(
            "the planning alone",
            f"{several * 1000:.1f} ms",
            f"{single * 1000:.1f} ms",
            f"{several / single:.2f} ×",
            "≤ 2 ×",
            several <= 2 * single,
        ),
    ]


def fleet(folder: Path) -> list[Row]:
    """An image, and a definition with a graphics card, against 10,000 host documents, against 1,000."""
    recorded = [json.loads(p.read_text()) for p in sorted((REPOSITORY / "tests" / "hosts").glob("**/*.json"))]
    places = [folder / f"documents-{number}" for number in DOCUMENTS]
    for place, number in zip(places, DOCUMENTS, strict=True):
        place.mkdir()
        for i in range(number):
            document = recorded[i % len(recorded)] | {"name": f"pc-{i}"}
            (place / f"{i:05}.json").write_text(json.dumps(document))
    image, definition = folder / "image.qcow2", folder / "domain.xml"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "20G"], check=True)
    host = api.load_host(REPOSITORY / PC)
    definition.write_text(api.render(api.plan(host, api.load_profile("performance")), host, name="desk"))
    rows, lines = [], []
    for what, subject in (("an image", image), ("a definition", definition)):
        check = [str(BIN / "clienthv"), "migrate-check", str(subject), "--no-inspect", "--summary", "--to"]
        costs = medians(*([*check, str(place)] for place in places), runs=3)
        lines.append(drawing.Line(what, DOCUMENTS, [c.seconds for c in costs]))
        less, more = costs[DOCUMENTS.index(1000)], costs[DOCUMENTS.index(10_000)]
        rows.append(
            Row(
                f"migrate-check of {what} against 10,000 host documents, against 1,000",
                f"{more.seconds:.1f} s, {more.mib:.0f} MiB",
                f"{less.seconds:.1f} s, {less.mib:.0f} MiB",
                f"{more.seconds / less.seconds:.1f} ×",
                "≤ 12 ×, 60 s, 300 MiB",
                more.seconds <= min(12 * less.seconds, 60) and more.mib <= 300,
            )
        )
    drawing.lines("bench-documents", "migrate-check, by the PCs asked about", "host documents", "seconds", lines)
    return rows


def in_process(host: Path, wishes: Sequence[api.Wish]) -> float:
    """Seconds that the decision takes, with the document read anew each time, so that nothing of it is worked out."""
    taken = []
    for _ in range(15):
        read = api.load_host(host)
        began = time.perf_counter()
        api.plan_together(read, wishes)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


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
        rows = [*planning(), growth(folder), *together(folder), *fleet(folder), starting(folder)]
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
