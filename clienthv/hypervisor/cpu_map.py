"""libvirt's own table of CPU models, as its package installs it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from lxml import etree
from msgspec.structs import replace

from clienthv.model.cpu import CpuMap, CpuModel

FOLDER: Final = Path("/usr/share/libvirt/cpu_map")
_MAX_FILES: Final = 1024
_MAX_BYTES: Final = 1 << 20
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}\.xml\Z")


@cache
def read(folder: Path = FOLDER) -> CpuMap | None:
    """The x86 models of libvirt's table; None where there is no table that can be read. Read once in a process.

    libvirt before 4.10 has one file instead of a folder, which is not read (libvirt, src/cpu_map).
    """
    index = _root(folder / "index.xml")
    x86 = index.find("arch[@name='x86']") if index is not None else None
    if x86 is None:
        return None
    names = [include.get("filename") or "" for include in x86.iter("include")][:_MAX_FILES]
    roots = [root for name in names if _PLAIN.match(name) and (root := _root(folder / name)) is not None]
    features = [feature for root in roots for feature in _named(root, "feature")]
    models = _models(roots)
    if not models or not features:
        return None
    return CpuMap(
        models=models,
        features=frozenset(feature.get("name") for feature in features),
        msr_features=frozenset(feature.get("name") for feature in features if feature.find("msr") is not None),
        vendors={vendor.get("string") or "": vendor.get("name") for root in roots for vendor in _named(root, "vendor")},
    )


def _models(roots: list[Any]) -> dict[str, CpuModel]:
    models: dict[str, CpuModel] = {}
    for model in (model for root in roots for model in _named(root, "model")):
        if (known := _model(model, models)) is not None:
            models[model.get("name")] = known
    if any(model.by_host_model for model in models.values()):
        return models
    # libvirt before 10.10 compares all of them so, and its table does not say it.
    return {name: replace(model, by_host_model=True) for name, model in models.items()}


def _model(model: Any, known: dict[str, CpuModel]) -> CpuModel | None:
    """A model with what it inherits; None when that is not known. A parent comes before its children (libvirt too)."""
    vendor, features, added = None, set[str](), set[str]()
    for parent in _named(model, "model"):
        inherited = known.get(parent.get("name"))
        if inherited is None:
            return None
        vendor, features, added = inherited.vendor, set(inherited.features), set(inherited.added)
    if (own := model.find("vendor")) is not None:
        vendor = own.get("name")
    for feature in _named(model, "feature"):
        name = feature.get("name")
        if feature.get("removed") == "yes":
            continue
        features.add(name)
        (added.add if feature.get("added") == "yes" else added.discard)(name)
    check = model.find("check")
    return CpuModel(
        vendor=vendor,
        features=frozenset(features),
        added=frozenset(added),
        by_host_model=check is not None and check.get("partial") == "compat",
    )


def _named(parent: Any, tag: str) -> list[Any]:
    return [element for element in parent.iterfind(tag) if element.get("name")]


def _root(file: Path) -> Any | None:
    """The document's root; None where it is missing, too big or no XML."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            return None
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    except (OSError, etree.XMLSyntaxError):
        return None
