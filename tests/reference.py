"""The pages of the reference that are made from the code: commands, keys of a profile, codes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from clienthv import strategies
from clienthv.cli import cli
from clienthv.errors import FAMILIES
from clienthv.model import schemas
from clienthv.model.plan import Reason
from clienthv.model.portability import Code
from clienthv.model.refusals import Refusal

MADE = "This page is made from the code by `make golden`."


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table's lines; what would end a cell is escaped."""
    head = list(head)
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def plain(text: str) -> str:
    """Text of ours in Markdown: what would be markup is shown as it is."""
    return re.sub(r"([*_<\[\]`])", r"\\\1", " ".join(text.split()))


# --- commands


def commands() -> str:
    """``docs/reference/commands.md``."""
    context = click.Context(cli, info_name="clienthv")
    lines = ["# Commands", "", f"{MADE} `clienthv COMMAND --help` says the same."]
    lines += ["What a command ends with is in [errors and exit codes](errors.md).", ""]
    names = cli.list_commands(context)
    lines += table(
        ("command", "what it does"), ([f"[`{n}`](#{n})", plain(_of(context, n).get_short_help_str(200))] for n in names)
    )
    lines += ["", "## Before the command", "", "As in `clienthv --debug plan`.", *_parameters(cli, context)]
    for name in names:
        lines += _command(_of(context, name), context, name, "##")
    return "\n".join(lines).rstrip() + "\n"


def _of(context: click.Context, name: str) -> click.Command:
    command = context.command
    assert isinstance(command, click.Group)
    found = command.get_command(context, name)
    assert found is not None, name
    return found


def _command(command: click.Command, parent: click.Context, name: str, level: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    heading = context.command_path.removeprefix("clienthv ")
    pieces = [] if isinstance(command, click.Group) else command.collect_usage_pieces(context)
    usage = " ".join([context.command_path, *pieces])
    yield from ("", f"{level} {heading}", "", f"`{usage}`")
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        yield from ("", plain(paragraph.replace("\b", "").replace("\f", "")))
    yield from _parameters(command, context)
    if command.epilog:
        word, _, example = command.epilog.partition(": ")
        yield from ("", f"{word}: `{example}`")
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from _command(_of(context, inner), context, inner, level + "#")


def _parameters(command: click.Command, context: click.Context) -> Iterator[str]:
    rows = []
    for parameter in command.get_params(context):
        if "--help" in parameter.opts:
            continue
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            rows.append((f"`{record[0]}`", plain(record[1])))
    if rows:
        yield ""
        yield from table(("option", "meaning"), rows)


# --- keys of a profile


def profile_keys() -> str:
    """``docs/reference/profile-keys.md``."""
    definitions = schemas.schema("profile")["$defs"]
    lines = ["# Keys of a profile", "", f"{MADE} What each means is told in [the profile](profile.md).", ""]
    whole = definitions["Profile"]["properties"]
    rows = [
        (f"`{key}`", *_value(key, whole[key]), "[top level](profile.md#top-level)")
        for key in whole
        if "$ref" not in whole[key]
    ]
    for name, inner in (("guest", "Guest"), ("size", "SizeOf"), ("boot", "Boot")):
        of = definitions[inner]["properties"]
        rows += [(f"`{name}.{key}`", *_value(key, of[key]), f"[{name}](profile.md#{name})") for key in of]
    kinds = definitions["Devices"]["properties"]
    keys = {key: prop for kind in kinds.values() for key, prop in _properties(kind, definitions).items()}
    rows += [
        (f"`devices.KIND.{key}`", *_value(key, prop), "[devices](profile.md#devices)") for key, prop in keys.items()
    ]
    lines += table(("key", "value", "default", "told in"), rows)
    lines += ["", f"KIND is one of {', '.join(f'`{kind}`' for kind in kinds)}.", ""]
    return "\n".join(lines)


def _properties(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    properties: dict[str, Any] = found["properties"]
    return properties


def _value(key: str, schema: dict[str, Any]) -> tuple[str, str]:
    if key == "prefer":
        return "list of strategies", "[its ladder](profile.md#ladders)"
    default = schema.get("default")
    return _type(schema), "none" if default in (None, [], ()) else f"`{msgspec.json.encode(default).decode()}`"


def _type(schema: dict[str, Any]) -> str:
    match schema:
        case {"anyOf": kinds}:
            return " or ".join(_type(kind) for kind in kinds if kind.get("type") != "null")
        case {"$ref": name}:
            return {"Strategy": "strategies", "RoleName": "roles"}[name.rpartition("/")[2]]
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}" + (f", {schema['maxItems']} at most" if "maxItems" in schema else "")
        case {"type": "integer", "minimum": least, "maximum": most} if least == most:
            return f"{least}"
        case {"type": "integer"}:
            return f"{schema['minimum']} to {schema['maximum']}"
        case {"type": "boolean"}:
            return "`true` or `false`"
        case {"type": "string", "description": text}:
            return str(text)
        case _:
            return "text" + (f" of up to {schema['maxLength']} characters" if "maxLength" in schema else "")


# --- codes


def codes() -> str:
    """``docs/reference/codes.md``: every word that clienthv prints in brackets, and the page that explains it."""
    told = [(code.value, "reason", f"reasons.md#{code}") for code in Reason]
    told += [(code, "warning", "reasons.md#warnings") for code in warnings()]
    told += [(code.value, "finding", "findings.md#codes") for code in Code]
    told += [(f"refused-{code}", "refusal", "refusals.md") for code in Refusal]
    told += [(code, "advice of doctor", "doctor.md#advice") for code in advice()]
    told += [(family.ref, f"error, exit code {family.code}", "errors.md") for family in FAMILIES]
    rows: dict[str, list[str]] = {}
    for code, what, page in told:
        rows.setdefault(code, []).append(f"[{what}]({page})")
    lines = [
        "# Codes",
        "",
        f"{MADE} Every word that stands in brackets at the end of a line is here, from A to Z:",
        "a *reason* why a strategy was not taken, a *warning* of a plan, a *finding* of migrate-check, *advice* of",
        "doctor, a *refusal* of a file, an *error*. Codes are stable: programs may compare them.",
        "",
        *table(("code", "what it is"), ((f"`{code}`", ", ".join(links)) for code, links in sorted(rows.items()))),
        "",
    ]
    return "\n".join(lines)


def warnings() -> list[str]:
    """The codes of the warnings, which are written out where they are made."""
    core = Path(strategies.__file__).parent
    sources = [core.parent / "planner.py", core.parent / "joint.py", *sorted(core.glob("*.py"))]
    return sorted({c for path in sources for c in re.findall(r"Warned\(\s*code=\"([a-z0-9-]+)\"", path.read_text())})


def advice() -> list[str]:
    """The codes of doctor's advice, from the page on them, which a test of its own holds to be whole."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "reference" / "doctor.md").read_text()
    return re.findall(r"^\| `([a-z0-9-]+)` \|", page.partition("\n## Advice\n")[2].partition("\n## ")[0], re.MULTILINE)


PAGES = {"commands.md": commands, "profile-keys.md": profile_keys, "codes.md": codes}
