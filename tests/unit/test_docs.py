"""The documents say what the code has: every code, key, block and field, and no command that is not there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from jinja2 import Environment, nodes

from clienthv import datafiles, planner, portability
from clienthv.cli import cli
from clienthv.errors import FAMILIES
from clienthv.model import profile, schemas
from clienthv.model.devices import Device, Devices, Verdict
from clienthv.model.explanation import Explanation, Ladder
from clienthv.model.host import RoleName
from clienthv.model.plan import STRATEGIES, Reason
from clienthv.model.portability import LEAVES, Check, Checks, Code, Severity
from clienthv.model.portability import Verdict as Runs
from clienthv.model.refusals import Refusal
from clienthv.model.usb import UsbDevice
from clienthv.render import NAMESPACE, View

REPOSITORY = Path(__file__).resolve().parent.parent.parent
REFERENCE = REPOSITORY / "docs" / "reference"
OURS = ("*.md", "docs/**/*.md", "tests/**/*.md", "benchmarks/**/*.md", "vagrant/**/*.md")
PAGES = sorted({path for pattern in OURS for path in REPOSITORY.glob(pattern)})
LINES = re.MULTILINE | re.DOTALL
ADRS = sorted((REPOSITORY / "docs" / "adr").glob("*.md"))


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


def section(text: str, heading: str) -> str:
    """A section's text, down to the next heading of its level or above."""
    level = heading.split(" ")[0]
    match = re.search(rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, LINES)
    assert match, f"no section {heading!r}"
    return match[1]


def rows(text: str) -> set[str]:
    """The code words in the first column of the tables in a text."""
    cells = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def keys(model: type[msgspec.Struct]) -> set[str]:
    return {f.encode_name for f in msgspec.structs.fields(model)}


def test_every_reason_has_a_section_with_evidence_and_there_is_none_for_anything_else() -> None:
    text = page("reasons.md").partition("## Warnings")[0]
    found = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert found == [r.value for r in Reason], "in the order of the enum"
    assert [r for r in found if "Evidence: " not in section(text, f"### {r}")] == []


def test_every_warning_is_described() -> None:
    core = Path(planner.__file__).parent
    source = "".join(
        path.read_text()
        for path in [core / "planner.py", core / "joint.py", *sorted((core / "strategies").glob("*.py"))]
    )
    codes = re.findall(r"Warned\(\s*code=\"([a-z0-9-]+)\"", source)
    assert len(codes) == source.count("Warned(") > 0, "each code is written out where it is made"
    assert rows(section(page("reasons.md"), "## Warnings")) == set(codes)


def test_every_error_family_is_described_by_exit_code_and_ref() -> None:
    described = re.findall(r"^\| (\d+) \| (?:`(.*?)`)? ?\|", page("errors.md"), re.MULTILINE)
    assert {(code, ref) for code, ref in described if ref} == {(str(f.code), f.ref) for f in FAMILIES}
    assert {"0", "1", "130", "141"} == {code for code, ref in described if not ref}


def table(text: str) -> list[list[str]]:
    """The cells of the tables in a text, row by row, without heads."""
    lines = re.findall(r"^\| (`.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r" ?\| ?", line)] for line in lines]


def test_every_finding_has_a_row_with_its_severities_and_there_is_none_for_anything_else() -> None:
    found = table(section(page("findings.md"), "## Codes"))
    assert [row[0] for row in found] == [f"`{c}`" for c in Code], "in the order of the enum"
    assert {len(row) for row in found} == {5}
    made = severities()
    assert {row[0]: set(re.findall(r"`(.*?)`", row[1])) for row in found} == {f"`{c}`": made[c] for c in Code}


def test_every_verdict_and_severity_is_described_in_order() -> None:
    text = page("findings.md")
    assert [row[0] for row in table(section(text, "## Verdicts"))] == [f"`{v}`" for v in Runs]
    leaves = [(f"`{s}`", f"`{LEAVES.get(s, Runs.LIVE)}`") for s in Severity]
    assert [(row[0], row[1]) for row in table(section(text, "## Severities"))] == leaves
    assert rows(section(text, "## The document")) == keys(Checks) | keys(Check)


def test_every_refusal_has_a_row_with_what_to_do_and_there_is_none_for_anything_else() -> None:
    found = table(page("refusals.md"))
    assert [row[0] for row in found] == [f"`{r}`" for r in Refusal], "in the order of the enum"
    assert [row for row in found if len(row) != 3 or not all(row)] == []


SAYS = frozenset(s.name.lower() for s in Severity)


def severities() -> dict[Code, set[str]]:
    """The severities that each code gets where findings are made: ``warns(Code.X, …)``, or a name for one of two."""
    made: dict[Code, set[str]] = {code: set() for code in Code}
    mentioned = set[Code]()
    for path in sorted(Path(portability.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text())
        mentioned |= set(codes_in(tree, {}))
        tables = {n.target.id: n for n in tree.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            named = {
                target.id: says_in(n.value)
                for n in ast.walk(function)
                if isinstance(n, ast.Assign)
                for target in n.targets
                if isinstance(target, ast.Name)
            }
            for call in (n for n in ast.walk(function) if isinstance(n, ast.Call) and n.args):
                says = says_in(call.func) or (
                    named.get(call.func.id, set()) if isinstance(call.func, ast.Name) else set()
                )
                for code in codes_in(call.args[0], tables) if says else ():
                    made[code] |= says
    assert mentioned == {code for code in Code if made[code]}, "a finding is made in a way that is not read here"
    return made


def codes_in(tree: ast.AST, tables: dict[str, ast.AnnAssign]) -> Iterator[Code]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Code":
            yield Code[node.attr]
        elif isinstance(node, ast.Name) and node.id in tables:
            yield from codes_in(tables[node.id], {})


def says_in(tree: ast.AST) -> set[str]:
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    return {name.replace("_", "-") for name in names & SAYS}


def test_every_profile_key_is_described() -> None:
    text = page("profile.md")
    assert rows(section(text, "## Top level")) == keys(profile.Profile) - {"name"} | {"extends"}
    tables = {"guest": profile.Guest, "size": profile.SizeOf, "boot": profile.Boot}
    assert {name: rows(section(text, f"## {name}")) for name in tables} == {n: keys(m) for n, m in tables.items()}
    devices, _, ladders = section(text, "## devices").partition("### Ladders")
    assert rows(devices) == keys(profile.Device)
    assert {r.value for r in RoleName} <= set(re.findall(r"`([^`]+)`", ladders))
    assert rows(section(page("host-document.md"), "## USB devices")) == keys(UsbDevice)
    assert rows(section(page("host-document.md"), "## Roles")) == {r.value for r in RoleName}


def test_every_ladder_is_described_as_it_is() -> None:
    found = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", section(page("profile.md"), "### Ladders"), re.MULTILINE)
    described = {kind: tuple(re.findall(r"`([^`]+)`", cell) for cell in cells) for kind, *cells in found}
    assert described == {k.value: (list(STRATEGIES[k]), list(profile.DEFAULT_LADDERS[k])) for k in STRATEGIES}


def test_every_field_and_verdict_of_the_devices_document_is_described() -> None:
    text = page("devices.md")
    assert rows(section(text, "## Verdicts")) == {v.value for v in Verdict}
    assert rows(section(text, "## The document")) == keys(Devices) | keys(Device)


def test_every_document_has_a_row_with_the_commands_that_print_it() -> None:
    found = {row[0].strip("`"): row for row in table(page("json.md"))}
    assert found.keys() == schemas.DOCUMENTS.keys()
    assert [name for name, row in found.items() if f"(../schemas/{name}.json)" not in row[2] or "`" not in row[1]] == []


def test_every_field_of_the_explanation_document_is_described() -> None:
    assert rows(section(page("explain.md"), "## The document")) == keys(Explanation) | keys(Ladder)


def test_every_template_block_and_field_is_described() -> None:
    source = (datafiles.packaged("templates") / "domain.xml.j2").read_text()
    blocks = {n.name for n in Environment(autoescape=True).parse(source).find_all(nodes.Block)}
    assert rows(section(page("templates.md"), "## Blocks")) == blocks
    assert rows(section(page("templates.md"), "## Fields of vm")) == keys(View)
    assert f"`{NAMESPACE}`" in page("domain-metadata.md")


@pytest.mark.parametrize("path", ADRS, ids=lambda p: p.stem)
def test_a_decision_record_has_its_parts(path: Path) -> None:
    parts = re.findall(r"^## (.*)$", path.read_text(), re.MULTILINE)
    assert parts == ["Context", "Decision", "Consequences", "Alternatives rejected"]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_a_relative_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=LINES)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (path.parent / link).exists()] == []


def commands(text: str) -> Iterator[list[str]]:
    """What a reader is told to type, fenced or inline: the words after ``clienthv``, up to a shell operator."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, LINES)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").split("\n")]
    inline = re.findall(r"`(clienthv [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=LINES))
    for line in lines + inline:
        if told := re.match(r"(?:\$ )?clienthv( .*)", line):
            yield shlex.split(re.split(r" (?:[|>;]|&&|\|\||2>|#) ?", told[1])[0])


def unknown_in(words: list[str]) -> list[str]:
    """The command, subcommand and options of one line that click does not know."""
    command: click.Command = cli
    wrong, context = [], click.Context(cli)
    while words:
        word, *words = words
        options = {o: p for p in command.get_params(context) if isinstance(p, click.Option) for o in p.opts}
        option = options.get(word.partition("=")[0])
        if option is not None:
            words = words if option.is_flag or "=" in word else words[1:]
        elif word.startswith("-"):
            wrong += [] if word in ("-h", "--help") else [word]
        elif isinstance(command, click.Group) and word != "COMMAND":
            found = command.get_command(context, word)
            if found is None:
                return [*wrong, word]
            command = found
    return wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_every_command_in_a_document_is_one_that_there_is(path: Path) -> None:
    told = list(commands(path.read_text()))
    assert [(words, wrong) for words in told if (wrong := unknown_in(words))] == []


def test_a_wrong_command_would_be_seen() -> None:
    text = "```\n$ clienthv pln\n$ clienthv plan x --explane | less\n```\n`clienthv profiles shw x`"
    assert [unknown_in(words) for words in commands(text)] == [["pln"], ["--explane"], ["shw"]]
