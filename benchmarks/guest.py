"""What each strategy gives the guest, and what the VMs of virt-install and quickemu give it: network card and disk.

It runs in the lab PC. What measures there is in ``in_the_pc``; here its figures become docs/benchmarks-guest.md and its
pictures. ``guest.py [--passes N] [--seconds S] [--figures FILE]``: with a file of figures nothing is measured anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "vagrant"))

import guest_figures as shown  # noqa: E402 - beside this file
import lab  # noqa: E402 - lives beside the Vagrantfile
from folder import locked  # noqa: E402

SCRIPTS = REPOSITORY / "benchmarks" / "in_the_pc"
THERE = "/srv/measuring"


def in_the_pc(command: str, data: bytes | None = None) -> subprocess.Popen[bytes]:
    """Start a shell command in the lab PC as root."""
    ssh = ["ssh", "-F", str(lab.SSH_CONFIG), "lab", f"sudo sh -c '{command}'"]
    process = subprocess.Popen(ssh, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if data is not None and process.stdin is not None:
        process.stdin.write(data)
        process.stdin.close()
    return process


def measured(passes: int, seconds: int, kept: Path) -> list[dict[str, object]]:
    """Measure in the lab PC; the figures, one a measurement, which are also written to a file as they come."""
    tar = subprocess.run(["tar", "-c", "-C", str(SCRIPTS), "."], capture_output=True, check=True).stdout
    if in_the_pc(f"mkdir -p {THERE} && tar -x -C {THERE}", tar).wait() != 0:
        sys.exit("the scripts could not be copied into the lab PC")
    process = in_the_pc(f"python3 {THERE}/measure.py {passes} {seconds}", b"")
    figures = []
    with kept.open("w") as file:
        for line in process.stdout or ():
            file.write(line.decode())
            file.flush()
            figures.append(json.loads(line))
    if process.wait() != 0:
        sys.exit(f"measuring failed; what came before is in {kept}")
    return figures


def write(figures: list[dict[str, object]]) -> None:
    """Write the page and its pictures."""
    all_of_them = shown.Figures(figures)
    text = (REPOSITORY / "benchmarks/guest.md.in").read_text()
    for mark, table in {
        "@PASSES@": str(len(all_of_them.passes)),
        "@SECONDS@": str(figures[0]["asked"]),
        "@NIC@": shown.ladder(all_of_them, shown.NIC | {"usermode": "paravirtual, user mode"}, shown.NETWORK),
        "@DISK@": shown.ladder(all_of_them, shown.DISK, shown.STORAGE),
        "@PEERS@": shown.peers(all_of_them, [*shown.NETWORK, *shown.STORAGE, "warm_4k"]),
    }.items():
        text = text.replace(mark, table)
    (REPOSITORY / "docs/benchmarks-guest.md").write_text(text)
    shown.draw(all_of_them)


def main() -> None:
    """Measure, unless figures are there, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--figures", type=Path, help="write the page from these, measured before")
    given = parser.parse_args()
    if given.figures:
        figures = [json.loads(line) for line in given.figures.read_text().splitlines()]
    else:
        with locked("make bench-guest"):
            lab.up("full")
            figures = measured(given.passes, given.seconds, lab.BASE / "guest-figures.jsonl")
            lab.down()
    write(figures)


if __name__ == "__main__":
    main()
