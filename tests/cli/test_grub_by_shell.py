"""What is understood of GRUB's defaults is what the shell, which grub-mkconfig reads them with, makes of them."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from clienthv.inspect import NotUnderstoodError
from clienthv.inspect.grub import VARIABLES, in_force

LINES = (
    '{v}={q}quiet{q}', '{v}={q}quiet  splash{q}', '{v}=quiet', '{v}=', 'export {v}={q}a=b c{q}', '{v}={q}{q}',
    '{v}="${v} more"', '{v}="${{{v}}} more"', '{v}="more ${v}"', "{v}='${v} more'", '{v}+={q} more{q}',
    ' {v}={q}a{q} ', '{v}={q}a{q} # said', '{v}={q}a{q}#said', '# {v}={q}a{q}', '{v}={q}a # b{q}', 'GRUB_TIMEOUT=5',
    'export GRUB_TIMEOUT', 'GRUB_DISTRIBUTOR=`echo Debian`', 'X="${v}"', '{v}=$X', '{v}={q}a{q}; Y=1', '{v}=a b',
    '{v} = a', 'unset {v}', 'if true; then', 'fi', '{v}={q}a', '{v}={q}a\\', 'b{q}', '{v}=a\\ b', '{v}="a\\"b"',
    "{v}=a'b'", '{v}=$(echo a)', '{v}=\xa0a', '{v}=a;', '{v}=(a)', '{v}=~', '{v}=a*', '{v}={{a,b}}', '{v}=/[a-z]*',
    '{v}={q}a\tb{q}', '\t{v}=a', '{v}=a=b,c', '{v}=a\\', '', 'f() {{ {v}=a; }}',
)  # fmt: skip
READ = r"""
for f in "$1"/*; do
    ( GRUB_CMDLINE_LINUX= GRUB_CMDLINE_LINUX_DEFAULT=; PATH=/nowhere; . "$f" >/dev/null 2>&1 || :
      printf '%s\1%s\1%s\2' "$f" "$GRUB_CMDLINE_LINUX_DEFAULT" "$GRUB_CMDLINE_LINUX" ) || printf '%s\1!\1!\2' "$f"
done
"""


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_every_text_that_is_understood_means_the_same_to_a_shell(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    assert program is not None
    chance = random.Random(7)  # noqa: S311 - the same texts each time
    texts = {}
    for number in range(160):
        lines = [
            chance.choice(LINES).format(v=chance.choice(VARIABLES), q=chance.choice("\"'"))
            for _ in range(chance.randint(1, 4))
        ]
        texts[str(tmp_path / f"{number:03}")] = "\n".join(lines) + "\n"
    for path, text in texts.items():
        Path(path).write_text(text)
    done = subprocess.run([program, "-c", READ, "read", str(tmp_path)], capture_output=True, text=True, check=False)
    said = {
        path: (default, always)
        for path, default, always in (part.split("\1") for part in done.stdout.split("\2") if part)
    }
    understood = 0
    for path, text in texts.items():
        try:
            found = tuple(in_force(((path, text),), variable) for variable in VARIABLES)
        except NotUnderstoodError:
            continue
        understood += 1
        words = tuple([w for place in places for w in place.assignment.words] for places in found)
        assert words == tuple(value.split() for value in said[path]), text
    assert understood > 30
