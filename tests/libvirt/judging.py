"""Run as an ordinary user: what migrate-check says of VMs on targets, and the domain that a plan gives; as JSON."""

from __future__ import annotations

import json
import sys

from clienthv import api, portability, render
from clienthv.lifecycle import checking, targets
from clienthv.model.vm import Options, Vm


def main() -> None:
    asked = json.load(sys.stdin)
    how = checking.Looking(asked["connect"], None, "balanced", inspect=False)
    said = {}
    for name in asked["vms"]:
        subject = checking.subject_of(name, how, lambda _: None)
        disk = next((d for d in subject.domain.writable if d.source), None)
        options = Options(disk=disk.source, disk_format=disk.format) if disk else Options()
        for called, uri in asked["targets"].items():
            target = targets.read(uri, api.load_host, subject, None, lambda _: None)
            check = portability.check(subject, target)
            vm = Vm(name=name, plan=check.plan, profile=(), options=options) if check.plan else None
            said[f"{name} {called}"] = {
                "verdict": check.verdict,
                "findings": [f"{f.severity} {f.code} {f.what}: {f.why}" for f in check.findings],
                "xml": render.render(vm, target.host) if vm else None,
            }
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
