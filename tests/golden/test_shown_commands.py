"""What the documents show is what clienthv prints: every shown command is run, on a recorded PC."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from shown import Block, anew, blocks, matches, run

from clienthv.lifecycle import live

REPOSITORY = Path(__file__).resolve().parent.parent.parent
OURS = ("*.md", "docs/**/*.md", "tests/**/*.md", "benchmarks/**/*.md", "vagrant/**/*.md")
PAGES = [
    page
    for page in sorted({path for pattern in OURS for path in REPOSITORY.glob(pattern)})
    if any(block.commands for block in blocks(page.read_text()))
]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recorded PCs, and a home. This PC is not read."""
    for variable, folder in {
        "HOME": ".", "XDG_CONFIG_HOME": ".config", "XDG_STATE_HOME": ".state", "XDG_DATA_HOME": ".data"
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, str(tmp_path / folder))
    (tmp_path / "tests").symlink_to(REPOSITORY / "tests")
    monkeypatch.chdir(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        message = "this command reads the PC that it is run on: say before the block on which (on:), or not run: WHY"
        raise AssertionError(message)

    for name in ("choose", "read_host", "read_host_anyway"):
        monkeypatch.setattr(live, name, refuse)
    return tmp_path


def lay_out(block: Block, folder: Path) -> None:
    """Put the files that a block needs, or is, where it says."""
    for name, source in block.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(REPOSITORY / source)
    if block.name is not None:
        target = folder / block.name.removeprefix("~/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_what_a_document_shows_is_what_is_printed(path: Path, desk: Path, request: pytest.FixtureRequest) -> None:
    page = path.read_text()
    written = page
    for block in blocks(page):
        lay_out(block, desk)
        for command in block.commands if block.not_run is None else ():
            code, printed = run(command, block.on)
            failed = any(re.match(r"Error: ", line) for line in command.output)
            assert (code != 0) if failed else (code == block.exits), f"{command.line}: exit code {code}: {printed}"
            if matches(command.output, printed):
                continue
            if not request.config.getoption("--regen"):
                assert command.output == printed, f"{command.line} prints something else: see `make golden`"
            begin, end = (at - len(page) for at in command.at)
            text = "".join(f"{line}\n" for line in anew(command.output, printed))
            written = written[: len(written) + begin] + text + written[len(written) + end :]
    if written != page:
        path.write_text(written)


def test_what_is_left_out_is_not_compared_and_all_else_is() -> None:
    printed = ["head", "  one [a]", "  two", "  three", "tail"]
    assert matches(["head", "…", "tail"], printed)
    assert matches(["head", "  one […]", "…"], printed)
    assert matches(["…", "  two", "  …", "tail"], printed)
    assert not matches(["head", "…"], ["other", *printed[1:]])
    assert not matches(["head", "…", "  two", "tail"], printed), "three is neither shown nor left out"
    assert not matches(["head", "  one [b]", "…"], printed), "brackets are no pattern"
    assert not matches(printed[:-1], printed)
    assert not matches([*printed, "more"], printed)


def test_what_is_written_anew_leaves_out_what_was_left_out() -> None:
    shown = ["head", "…", "  gpu  passthrough  0000:01:00.0", "…"]
    printed = ["head", "  cpu", "  gpu  passthrough  0000:02:00.0", "  nic"]
    assert anew(shown, printed) == ["head", "…", "  gpu  passthrough  0000:02:00.0", "…"]
    assert anew(["a", "b"], printed) == printed
    assert anew(["nothing like it", "…", "at all"], printed) == printed


def test_the_comments_before_a_block_are_read() -> None:
    page = (
        "<!-- on: a.json -->\n\n<!-- not run: needs a screen -->\n```console\n$ clienthv view \\\n  x\n```\n"
        "<!-- file: p.toml -->\n```toml\nschema = 1\n```\n"
        "```\n$ clienthv plan p.toml  # look\nPlan\n$ clienthv list\n```\n"
    )
    first, second, third = blocks(page)
    assert (first.on, first.not_run, first.commands[0].words) == ("a.json", "needs a screen", ["clienthv", "view", "x"])
    assert (second.name, second.text, second.not_run) == ("p.toml", "schema = 1\n", None)
    assert [(c.words, c.output) for c in third.commands] == [
        (["clienthv", "plan", "p.toml"], ["Plan"]),
        (["clienthv", "list"], []),
    ]
    begin, end = third.commands[0].at
    assert page[begin:end] == "Plan\n"
