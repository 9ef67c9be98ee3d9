"""The JSON Schemas of clienthv's documents, for editors and for programs that read them."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, Final

import msgspec

from clienthv.model.advice import Diagnosis
from clienthv.model.cpu import Baseline
from clienthv.model.devices import Devices
from clienthv.model.explanation import Explanation
from clienthv.model.fleet import Fleet
from clienthv.model.host import Host
from clienthv.model.plan import STRATEGIES, Plan
from clienthv.model.plans import Plans
from clienthv.model.portability import Checks, Line
from clienthv.model.profile import PROFILE_NAME, Profile
from clienthv.model.profile_list import ProfileList
from clienthv.model.view import Where
from clienthv.model.vms import Vms

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DOCUMENTS: Final[dict[str, type[msgspec.Struct]]] = {
    "host": Host, "plan": Plan, "plans": Plans, "profile": Profile, "devices": Devices, "migrate-check": Checks,
    "doctor": Diagnosis,
    "migrate-check-line": Line, "baseline": Baseline, "fleet": Fleet, "profiles": ProfileList, "vms": Vms,
    "view": Where, "explanation": Explanation,
}  # fmt: skip
"""The published documents by name."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a document, by its name in DOCUMENTS."""
    made: dict[str, Any] = msgspec.json.schema(DOCUMENTS[name])
    for definition in made["$defs"].values():
        if "description" in definition:  # a docstring, whose indentation depends on Python's version
            definition["description"] = cleandoc(definition["description"])
    if name == "profile":
        _as_written(made)
    return {"$schema": _DIALECT, "title": f"clienthv {name}", **made}


def _as_written(made: dict[str, Any]) -> None:
    """A profile as a person writes it: it may extend another, has no name, and each kind its own strategies."""
    definitions = made["$defs"]
    properties = definitions["Profile"]["properties"]
    del properties["name"]
    properties["extends"] = {
        "type": "string",
        "pattern": f"^{PROFILE_NAME.pattern.removesuffix(chr(92) + 'Z')}$",
        "description": "the profile whose values this one starts from",
    }
    device = definitions.pop("Device")
    for kind in STRATEGIES:
        own = msgspec.json.decode(msgspec.json.encode(device))
        ladder = next(v for v in own["properties"]["prefer"]["anyOf"] if v.get("type") == "array")
        ladder["items"] = {"enum": [s.value for s in STRATEGIES[kind]]}
        definitions["Devices"]["properties"][kind.value] = own
