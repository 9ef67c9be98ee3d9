"""Overviews for tests of the report: of recorded PCs, and of one whose every text is hostile."""

from __future__ import annotations

from typing import Any

import msgspec
from conftest import HOSTS

from clienthv import api, sets
from clienthv.model.advice import Ability, Advice, Diagnosis, Evidence
from clienthv.model.host import Host, PciFunction
from clienthv.model.overview import Overview
from clienthv.model.plans import Plans

HOSTILE = (
    "<script>document.title='owned'</script>\"><img src=x onerror=alert(1)>' onload=alert(1) "
    "{{ 7*7 }} ]]>--> \x1b[31m\x00\u202etxt.exe\u2066 \u05d0\u05d1 " + "Z\u0335\u0336\u0337\u0338" + "W" * 3000
)
"""Markup, templates, comments, control and direction characters, accents upon accents, and far too long."""


def recorded(name: str) -> Host:
    """A PC of tests/hosts."""
    return api.load_host(HOSTS / f"{name}.json")


def overview(host: Host, *names: str) -> Overview:
    """A PC with the plans of some profiles, or of none."""
    if not names:
        return api.overview(host, Plans(host=host.name, vms=(), warnings=()), ())
    asked = sets.of(names)
    return api.overview(host, api.plan_together(host, asked), asked)


_PLACES = {"device", "functions", "physfn"}


def _hostile(value: Any) -> Any:
    """A document in which each text that may be any text is a hostile one; what names a function of the PC stays."""
    if not isinstance(value, msgspec.Struct):
        return value
    changed = {}
    for field in msgspec.structs.fields(type(value)):
        had = getattr(value, field.name)
        changed[field.name] = had
        if field.name in _PLACES and type(value) is not PciFunction:
            continue
        if isinstance(had, tuple) and had and isinstance(had[0], msgspec.Struct):
            changed[field.name] = tuple(map(_hostile, had))
        elif isinstance(had, msgspec.Struct):
            changed[field.name] = _hostile(had)
        elif isinstance(had, str | tuple) or had is None:
            for bad in (HOSTILE, (HOSTILE,)):
                try:
                    changed[field.name] = msgspec.convert(bad, field.type)
                except msgspec.ValidationError:
                    continue
    return type(value)(**changed)


def hostile_host() -> Host:
    """The lab PC with hostile texts wherever a host document may have any."""
    host = _hostile(recorded("lab-full"))
    assert isinstance(host, Host)
    return host


def hostile() -> Overview:
    """A PC, its plans and its diagnosis, hostile wherever they may be."""
    plans = _hostile(overview(recorded("lab-full"), "performance", "balanced").plans)
    shown = api.overview(hostile_host(), plans, ())
    seen = (Evidence(file=HOSTILE, value=HOSTILE),)
    advice = Advice(code="x", title=HOSTILE, detail=HOSTILE, evidence=seen, steps=(HOSTILE,))
    ability = Ability(code="x", title=HOSTILE, able=None, detail=HOSTILE, evidence=seen)
    told = Diagnosis(host=HOSTILE, profiles=(HOSTILE,), abilities=(ability,), advice=(advice,))
    return shown._replace(
        diagnosis=told,
        of_functions=dict.fromkeys(shown.of_functions, seen),
        of_rejected=dict.fromkeys(shown.of_rejected, seen),
    )
