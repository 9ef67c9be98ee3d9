"""What people paste in forums, as a host document: lspci's lists and the usual listings of IOMMU groups.

Only what a line says is taken over. What no line says stays unknown, and lines that are not understood are counted
and never guessed at. Forms: lspci(8) with -n, -nn, -k and -v; shell loops over /sys/kernel/iommu_groups; paths in
there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from msgspec.structs import replace

from clienthv.errors import DocumentError
from clienthv.inspect import pciids
from clienthv.model.host import LISTED, Cpu, Host, Iommu, PciFunction
from clienthv.model.values import PciAddress, text_of

MOST_FUNCTIONS: Final = 65536  # of one PCI domain: 256 buses of 32 devices of 8 functions
_LONGEST_LINE: Final = 1000
_NAME: Final = 200
_MOST_GROUPS: Final = 65535

_ADDRESS = r"(?P<address>(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_GROUP = re.compile(r"(?:iommu[ _-]?)?group *:? *(?P<number>[0-9]{1,9}|\*)(?![0-9a-f]) *:?", re.I)
_BEFORE = r"(?:[*•] *|group device: *|\([0-9]{1,5}\) *|\[r(?:eset)?\] *|\[(?P<ids>[0-9a-f]{4}:[0-9a-f]{4})\] *)"
_END = r"(?![0-9a-f:.])(?P<rest>.*)"
_FUNCTION = re.compile(rf"{_BEFORE}{{0,4}}{_ADDRESS}{_END}", re.I)
_PATH = re.compile(rf".{{0,99}}iommu_groups/(?P<number>[0-9]{{1,9}})/devices/{_ADDRESS}{_END}", re.I)
_CLASS = re.compile(r"(?P<name>[^\[\]]{0,80}?)[ \t]*\[(?P<code>[0-9a-f]{4})\]:?[ \t]*(?P<rest>.*)", re.I)
_NUMERIC = re.compile(r"(?P<code>[0-9a-f]{4}):[ \t]+(?P<ids>[0-9a-f]{4}:[0-9a-f]{4})(?P<rest>.*)", re.I)
_IDS = re.compile(r"\[(?P<ids>[0-9a-f]{4}:[0-9a-f]{4})\]", re.I)
_REVISION = re.compile(r"\(rev (?P<revision>[0-9a-f]{2})\)", re.I)
_INTERFACE = re.compile(r"\(prog-if (?P<code>[0-9a-f]{2})\b", re.I)
_DETAIL = re.compile(r"(?P<key>[A-Za-z][A-Za-z0-9 /-]{1,30}):(?:[ \t]+(?P<value>.*))?\Z")
_FLAGS_GROUP = re.compile(r"\bIOMMU group (?P<number>[0-9]{1,9})\b", re.I)
_TREE = re.compile(r"^[\s│├└─┬┼|`+\\-]+")
_QUOTED = re.compile(r"^(?:> ?)+")
_ANSI = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_KERNEL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_SHORT: Final = frozenset({"subsystem", "devicename"})
_T = TypeVar("_T")
_FENCES: Final = ("```", "[code]", "[/code]", "~~~")


@dataclass
class _Mention:
    """What one place of a listing says of a function; ``None`` is what it does not say."""

    address: str
    line: int
    group: int | None = None
    class_code: str | None = None
    class_name: str | None = None
    ids: str | None = None
    subsystem: str | None = None
    name: str | None = None
    revision: str | None = None
    driver: str | None = None
    details: set[str] = field(default_factory=set)
    ended: bool = False


@dataclass
class _Reading:
    """Where the reader is: the group of a heading, the function whose details follow, and what was not understood.

    A group that stands in one line with its first function has others only where those are indented.
    """

    group: int | None = None
    for_indented: bool = False
    current: _Mention | None = None
    mentions: list[_Mention] = field(default_factory=list)
    unread: list[tuple[int, str]] = field(default_factory=list)


def read_listing(data: bytes, origin: str) -> Host:
    """The PC that a listing tells of. ``origin`` names it in errors. Raises DocumentError.

    ``unknown`` says how many lines were not understood, and which came first.
    """
    reading = _Reading()
    for number, line in enumerate(text_of(data).splitlines(), 1):
        _read_line(reading, number, line)
        if len(reading.mentions) > 2 * MOST_FUNCTIONS:
            break
    classes = pciids.classes()
    mentions = _believable(reading, classes)
    if not mentions or len({m.address for m in mentions}) > MOST_FUNCTIONS:
        msg = f"{origin} is neither a host document nor a listing of PCI devices"
        hint = "give what clienthv inspect --save, lspci -nnk or a listing of IOMMU groups printed"
        raise DocumentError(msg, hint=hint)
    functions = _functions(mentions, origin, classes)
    return Host(
        name=_named(origin),
        source=LISTED,
        cpu=Cpu(architecture="x86_64"),
        iommu=_iommu(functions),
        pci=functions,
        unknown=tuple(_unknown(functions, reading.unread)),
    )


def _believable(reading: _Reading, classes: dict[str, str]) -> list[_Mention]:
    """The mentions that tell more than an address: a sentence may begin with one, too."""

    def tells(m: _Mention) -> bool:
        known = m.class_code is not None or m.ids is not None or m.group is not None or bool(m.details)
        return known or not classes or (m.class_name or "").lower() in classes

    reading.unread.extend((m.line, f"{m.address} {m.name or ''}".strip()) for m in reading.mentions if not tells(m))
    reading.unread.sort()
    return [m for m in reading.mentions if tells(m)]


def _named(origin: str) -> str:
    return "the listed PC" if origin == "-" else origin.rsplit("/", 1)[-1][:_NAME]


def _read_line(reading: _Reading, number: int, raw: str) -> None:
    line = _QUOTED.sub("", _ANSI.sub("", raw.replace("\t", " ").replace("\xa0", " "))[:_LONGEST_LINE])
    plain, indented, current = _TREE.sub("", line).strip(), line[:1] == " ", reading.current
    if line.strip().lower().startswith(_FENCES):
        if current is not None:
            reading.group = reading.current = None
    elif not plain:
        if current is not None and not line.strip():
            current.ended = True
        elif line.strip():  # grep's --
            reading.current = None
    elif (path := _PATH.match(plain)) is not None:
        _mention(reading, number, path["address"], int(path["number"]), path["rest"])
    elif not (indented and _is_own_detail(current, plain)) and not _read_heading_or_function(
        reading, number, plain, indented
    ):
        if indented and current is not None and _read_detail(current, plain):
            return
        reading.unread.append((number, plain))
        if not indented:
            reading.group = reading.current = None


def _is_own_detail(current: _Mention | None, plain: str) -> bool:
    """Whether a line tells of the function above it, such as the group that lspci -v names: no heading, then."""
    return current is not None and current.group is None and not current.ended and _read_detail(current, plain)


def _read_heading_or_function(reading: _Reading, number: int, plain: str, indented: bool) -> bool:
    group, rest, headed = _group_of(plain)
    if headed and not rest:
        reading.group, reading.for_indented, reading.current = group, False, None
        return True
    found = _FUNCTION.match(rest)
    if found is None:
        return False
    if headed:
        reading.group, reading.for_indented = group, not indented
    of = reading.group if headed or indented or not reading.for_indented else None
    mention = _mention(reading, number, found["address"], of, found["rest"])
    mention.ids = mention.ids or (found["ids"] or "").lower() or None
    return True


def _group_of(plain: str) -> tuple[int | None, str, bool]:
    """The IOMMU group that a line begins with, what follows, and whether it names one at all."""
    match = _GROUP.match(plain)
    if match is None:
        return None, plain, False
    rest = plain[match.end() :].strip()
    number = match["number"]
    return (int(number) if number != "*" else None), rest, True


def _mention(reading: _Reading, number: int, address: str, group: int | None, rest: str) -> _Mention:
    if reading.current is not None:
        reading.current.ended = True
    place = str(PciAddress.parse(address.lower()))
    mention = _Mention(place, number, group)
    _read_rest(mention, rest.strip())
    reading.mentions.append(mention)
    reading.current = mention
    return mention


def _read_rest(mention: _Mention, rest: str) -> None:
    """Class, name, ids, revision and programming interface, as lspci writes them behind the address."""
    numeric = _NUMERIC.match(rest)
    if numeric is not None:  # lspci -n
        mention.class_code, mention.ids, rest = numeric["code"].lower(), numeric["ids"].lower(), numeric["rest"]
    elif (named := _CLASS.match(rest)) is not None and not re.fullmatch(r"[\s:]*", named["name"]):
        mention.class_code, mention.class_name, rest = named["code"].lower(), named["name"].strip(), named["rest"]
    elif ": " in rest:
        mention.class_name, rest = (part.strip() for part in rest.split(": ", 1))
    elif re.search(r"\S {2,}\S", rest):  # columns
        mention.class_name, rest = re.split(r" {2,}", rest.strip(), maxsplit=1)
    ids = _IDS.findall(rest)
    if ids:
        mention.ids = ids[-1].lower()
    if (revision := _REVISION.search(rest)) is not None:
        mention.revision = revision["revision"].lower()
    if (interface := _INTERFACE.search(rest)) is not None and mention.class_code is not None:
        mention.class_code += interface["code"].lower()
    name = re.split(r" \((?:rev|prog-if) ", rest)[0]
    name = name[: name.rindex("[")] if ids and f"[{ids[-1]}]" in name else name
    mention.name = re.sub(r"\s+", " ", name).strip(" :")[:_NAME] or None


def _read_detail(mention: _Mention, plain: str) -> bool:
    """A line of lspci -k or -v below its function; False for what is none."""
    match = _DETAIL.match(plain)
    if match is None:
        return False
    key, value = match["key"].lower(), (match["value"] or "").strip()
    mention.details.add(key)
    if key == "kernel driver in use" and _KERNEL_NAME.match(value):
        mention.driver = value
    elif key == "subsystem" and (ids := _IDS.findall(value)):
        mention.subsystem = ids[-1].lower()
    elif key == "iommu group" and value.isdecimal() and len(value) < 10:
        mention.group = int(value)
    elif key == "flags" and (group := _FLAGS_GROUP.search(value)) is not None:
        mention.group = int(group["number"])
    return True


def _functions(mentions: list[_Mention], origin: str, classes: dict[str, str]) -> tuple[PciFunction, ...]:
    by_address: dict[str, list[_Mention]] = {}
    for mention in mentions:
        by_address.setdefault(mention.address, []).append(mention)
    wanted = {(i[:4], i[5:]) for m in mentions if (i := m.ids) is not None}
    names = pciids.look_up(wanted)
    with_k = any(m.driver is not None for m in mentions)
    functions = [_function(address, said, origin, classes, with_k) for address, said in by_address.items()]
    functions.sort(key=lambda f: f.place)
    return tuple(_with_names(f, names.get((f.vendor_id or "", f.device_id or ""), (None, None))) for f in functions)


def _function(address: str, said: list[_Mention], origin: str, classes: dict[str, str], with_k: bool) -> PciFunction:
    """One function from everything that is said of it. Raises DocumentError where that contradicts itself."""
    group = _agreed([m.group for m in said], said, "IOMMU group", origin)
    ids = _agreed([m.ids for m in said], said, "ids", origin)
    subsystem = _agreed([m.subsystem for m in said], said, "subsystem", origin)
    if group is not None and group > _MOST_GROUPS:
        msg = f"{origin}: line {said[0].line}: there is no IOMMU group {group}"
        raise DocumentError(msg, hint="the listing is damaged; print it again")
    codes = [m.class_code for m in said if m.class_code] or [
        code for m in said if m.class_name and (code := classes.get(m.class_name.lower()))
    ]
    return PciFunction(
        address=address,
        class_code=max(codes, key=len, default=None),
        vendor_id=ids[:4] if ids else None,
        device_id=ids[5:] if ids else None,
        subsystem_vendor_id=subsystem[:4] if subsystem else None,
        subsystem_device_id=subsystem[5:] if subsystem else None,
        device=next((m.name for m in said if m.name), None),
        revision=next((m.revision for m in said if m.revision), None),
        driver=_driver(said, origin, with_k),
        iommu_group=group,
    )


def _agreed(values: list[_T | None], said: list[_Mention], what: str, origin: str) -> _T | None:
    known = [(value, mention.line) for value, mention in zip(values, said, strict=True) if value is not None]
    for value, line in known:
        if value != known[0][0]:
            msg = (
                f"{origin}: {said[0].address} has {what} {known[0][0]} in line {known[0][1]} and {value} in line {line}"
            )
            raise DocumentError(msg, hint="give listings of one PC, from one start of it")
    return known[0][0] if known else None


def _driver(said: list[_Mention], origin: str, with_k: bool) -> str | None:
    """The driver; "" where lspci -k told all of a function and named none.

    It did when it names modules; or, in a list that names drivers (``with_k``), when the next function follows the
    subsystem: a list may be cut.
    """
    driver = _agreed([m.driver for m in said], said, "driver", origin)
    told = any(
        "kernel modules" in m.details or (with_k and m.details and m.details <= _SHORT and m.ended) for m in said
    )
    return driver if driver is not None else "" if told else None


def _with_names(function: PciFunction, names: tuple[str | None, str | None]) -> PciFunction:
    """The names that go with the ids where those are known; the listing's own words where they are not."""
    if names[0] is None or names[1] is None:
        return function
    return replace(function, vendor=names[0], device=names[1])


def _iommu(functions: tuple[PciFunction, ...]) -> Iommu:
    """An IOMMU that forms groups is active. How many there are is known when every function has one."""
    groups = {f.iommu_group for f in functions if f.iommu_group is not None}
    if not groups:
        return Iommu()
    whole = all(f.iommu_group is not None for f in functions)
    amd = any(f.base_class == "0806" and f.vendor_id == "1022" for f in functions)
    return Iommu(
        kind="amd-vi" if amd else None,
        enabled=True,
        groups=len(groups) if whole else None,
        evidence=(f"{len(groups)} IOMMU groups in the listing",),
    )


def _unknown(functions: tuple[PciFunction, ...], unread: list[tuple[int, str]]) -> Iterator[str]:
    yield "machine, kernel, processor, memory, KVM, libvirt and QEMU: not in a listing"
    yield "what the host uses (screens, disks, network, keyboards, USB, TPM): not in a listing"
    for what, name in (("iommu_group", "IOMMU groups"), ("driver", "drivers"), ("vendor_id", "ids")):
        missing = sum(getattr(f, what) is None for f in functions)
        if missing:
            yield f"{name}: not listed for {missing} of {len(functions)} functions"
    if unread:
        first = "; ".join(f"line {number}: {words[:60]}" for number, words in unread[:3])
        yield f"{len(unread)} line{'s' * (len(unread) > 1)} not understood, first {first}"
