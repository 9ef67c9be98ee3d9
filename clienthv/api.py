"""What the command line does, for other programs: inspect a PC, judge its devices, plan for it, render the VM.

>>> from clienthv import api
>>> host = api.load_host("somebody.json")
>>> profile = api.load_profile("performance")
>>> plan = api.plan(host, profile)
>>> free = [d.address for d in api.devices(host).devices if d.verdict != "no"]
>>> xml = api.render(plan, host, name="desktop")

All raise ``clienthv.errors.ClienthvError`` and its families for what a user can mend.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from clienthv import guests, planner, profiles, sets
from clienthv.errors import DocumentError, ProfileError
from clienthv.model import host as host_model
from clienthv.model.advice import Diagnosis
from clienthv.model.devices import Devices
from clienthv.model.explanation import Explanation
from clienthv.model.host import Host
from clienthv.model.overview import Overview
from clienthv.model.plan import Plan
from clienthv.model.plans import Plans
from clienthv.model.profile import Profile
from clienthv.model.wish import Wish
from clienthv.strategies import Kept

__all__ = [
    "Wish",
    "devices",
    "doctor",
    "explain",
    "inspect",
    "load_host",
    "load_profile",
    "overview",
    "plan",
    "plan_together",
    "render",
]

_log = logging.getLogger(__name__)
_MAX_BYTES = 64 << 20


def inspect(connect: str | None = None) -> Host:
    """This PC: hardware, roles, and what the libvirt at ``connect`` (or the one that answers) offers."""
    from clienthv.lifecycle import live

    host, _ = live.read_host_anyway(connect, lambda _: None)
    return host


def load_host(path: str | Path) -> Host:
    """A PC from a file: a host document, or what lspci or a listing of IOMMU groups printed. Raises DocumentError.

    ``-`` is standard input.
    """
    try:
        with sys.stdin.buffer if str(path) == "-" else Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as e:
        msg = f"cannot read {path}: {e.strerror}"
        raise DocumentError(msg, hint="make one with: clienthv inspect --save FILE") from e
    if len(data) > _MAX_BYTES:
        msg = f"{path} is larger than {_MAX_BYTES >> 20} MiB: not a host document"
        raise DocumentError(msg, hint="make one with: clienthv inspect --save FILE")
    _log.info("read %s: %d bytes", path, len(data))
    if host_model.is_document(data):
        return host_model.decode(data, str(path))
    from clienthv.inspect.listing import read_listing

    return read_listing(data, str(path))


def load_profile(name_or_path: str) -> Profile:
    """A profile by name, or by the path of a TOML file. Raises ProfileError."""
    return profiles.load(name_or_path)[0]


def devices(host: Host) -> Devices:
    """Whether each PCI function of this host can be handed to a guest, with all that speaks against it. Pure."""
    from clienthv.strategies import verdicts  # here and below: a plan waits for what it needs alone

    return verdicts.verdicts(host)


def doctor(host: Host, names_or_paths: Sequence[str] = ()) -> Diagnosis:
    """What this host can do, and what would let it do more for these profiles; for every known one without names.

    Raises ProfileError for a profile that is named and cannot be read; of the others those that cannot be are left out.
    """
    from clienthv import doctor as doctors

    wishes = sets.of(tuple(names_or_paths)) if names_or_paths else _every_profile()
    return doctors.examine(host, _known(wishes))


def _every_profile() -> tuple[Wish, ...]:
    found = []
    for _, path in profiles.listing():
        with contextlib.suppress(ProfileError):
            found.append(Wish(path.stem, profiles.load(path.stem)[0]))
    return tuple(found)


def plan(host: Host, profile: Profile) -> Plan:
    """What every device of the VM becomes on this host. The same input and osinfo-db give the same plan.

    Raises HostError, PlanError.
    """
    return planner.plan(host, profile, guest=guests.read(profile.guest.os))


def explain(host: Host, profile: Profile, what: str, *, kept: Kept | None = None, vm: str | None = None) -> Explanation:
    """The ladder of a kind of device, or those that come to a device of the host, with the evidence for every rung.

    ``kept`` is what the VM ``vm``, which is there, has had. Raises UsageError, HostError, PlanError.
    """
    from clienthv import explainer

    return explainer.explain(host, profile, what, kept=kept, guest=guests.read(profile.guest.os), vm=vm)


def plan_together(host: Host, wishes: Sequence[Wish]) -> Plans:
    """One plan for each of several VMs that can run together on this host, and what osinfo-db says of each guest."""
    from clienthv import joint

    return joint.plan(host, _known(wishes))


def _known(wishes: Sequence[Wish]) -> list[Wish]:
    """VMs with what osinfo-db says of their guests."""
    return [w._replace(guest=w.guest or guests.read(w.profile.guest.os)) for w in wishes]


def overview(host: Host, plans: Plans, wishes: Sequence[Wish]) -> Overview:
    """All that is said of a host and of the VMs planned for it, for a page or a picture."""
    from clienthv import doctor as doctors
    from clienthv.model import topology
    from clienthv.strategies import evidence

    verdicts_on = devices(host)
    rejected = [r for vm in plans.vms if vm.plan is not None for d in vm.plan.decisions for r in d.rejected]
    rejected += [r for d in verdicts_on.devices for r in d.objections]
    return Overview(
        host=host,
        roots=topology.topology(host),
        devices=verdicts_on,
        plans=plans,
        diagnosis=doctors.examine(host, _known(wishes)),
        of_functions={f.address: evidence.of_function(f, host) for f in host.pci},
        of_rejected={r: evidence.of_rejected(r, host) for r in rejected},
    )


def render(plan: Plan, host: Host, *, name: str, disk: str | None = None) -> str:
    """The libvirt domain XML of a plan, checked against libvirt's schema. Raises TemplateError."""
    from clienthv import render as renderer
    from clienthv.model.vm import Options, Vm

    return renderer.render(Vm(name=name, plan=plan, profile=(), options=Options(disk=disk)), host)
