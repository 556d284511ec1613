"""The documents do what they say: a reader's commands, from the first page to the last, in one folder.

```bash and ```python blocks run in order; names that a Python block makes are there in the next of its page.
```bash no-run blocks hold what takes hours: there the settings are checked, not run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docs_folder
import pytest

from sepnet.cli import overrides
from sepnet.commands import SCRIPTS
from sepnet.types import SepnetError

PAGES = sorted((docs_folder.ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*) *(?P<mark>.*)")
COMMAND = re.compile(
    r"(?:\bpython +(?P<script>(?:scripts|benchmarks)/\w+\.py)"
    r"|(?<![\w/.-])sepnet +(?!import\b)(?P<name>[a-z]+))\b"
    r"(?P<words>[^|&;<>\n]*)"
)
CONFIG_NAMES = {"prepare_data": "prepare", "run": "benchmark"}  # where it is not the script's own
BLOCK_SECONDS = 120
LONG_PAGES = {  # slow: make test only checks the settings of their commands, make test-all runs them
    *("query-by-example", "multi-microphone", "serving", "export"),
    *("own-corpus", "librimix", "stems", "enhancement", "evaluation"),
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, a mark behind it, its text, and the line of its first line."""

    language: str
    mark: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    inside: list[str] | None = None
    for number, line in enumerate(page.splitlines(), 1):
        fence = FENCE.fullmatch(line)
        if fence and inside is None:
            inside, opened, first = [], fence, number + 1
        elif inside is not None and line.strip() == "```":
            found.append(Block(opened["language"], opened["mark"].strip(), "\n".join(inside), first))
            inside = None
        elif inside is not None:
            inside.append(line.removeprefix(opened["indent"]))
    assert inside is None, f"the block of line {first} is never closed"
    return found


# As a reader runs it: the sizes of an export are no integers, to those who check annotations.
pytestmark = pytest.mark.usefixtures("unchecked_annotations")


@pytest.fixture(scope="session")
def python() -> Iterator[Path]:
    """A folder for the PATH with ``python``, warm where it runs a script, and ``sepnet``, which calls it."""
    here = Path(tempfile.mkdtemp(prefix="py"))  # short: the address of a socket has at most 107 bytes
    warm = f"{shlex.quote(sys.executable)} %s {shlex.quote(str(Path(__file__).with_name('warm_python.py')))}"
    address = here / "socket"
    server = subprocess.Popen(
        ["bash", "-c", f"exec {warm % ''} serve {address}"], env=environment(here), stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    (here / "python").write_text(
        f'#!/bin/sh\ncase "$1" in\n*.py) exec {warm % "-I -S"} ask {address} "$@";;\n'
        f'*) exec {shlex.quote(sys.executable)} "$@";;\nesac\n'
    )
    (here / "python").chmod(0o755)
    cases = "".join(f"{name}) script={script};;\n" for name, script in SCRIPTS.items())
    (here / "sepnet").write_text(
        f'#!/bin/sh\ncase "$1" in\n{cases}*) exit 2;;\nesac\nshift\nexec python "scripts/$script" "$@"\n'
    )
    (here / "sepnet").chmod(0o755)
    yield here
    server.terminate()
    server.wait()
    shutil.rmtree(here)


def environment(python: Path) -> dict[str, str]:
    """What the commands see."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEPNET_", "HYDRA_"))}
    return kept | {
        "PATH": f"{python}:{os.environ['PATH']}",
        "PYTHONPATH": str(docs_folder.ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["short", "all"])
def test_commands_run(long: bool, tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = docs_folder.make(tmp_path / "folder")
    variables = environment(python)
    for name in os.environ.keys() - variables.keys():
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    started: list[int] = []
    try:
        for page in pages_in_order():
            if long or page.stem not in LONG_PAGES:
                run_page(page, variables, tmp_path, started)
    finally:
        for group in started:  # what a block left running in the background
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue


def pages_in_order() -> list[Path]:
    """The pages of docs/ as the navigation of mkdocs.yml lists them, without the reference."""
    text = (docs_folder.ROOT / "mkdocs.yml").read_text()
    names = re.findall(r"^ +- [^:\n]+: ([\w-]+\.md)$", text[text.index("nav:") :], re.MULTILINE)
    found = [docs_folder.ROOT / "docs" / name for name in names]
    assert sorted(found) == PAGES
    return found


def run_page(page: Path, variables: dict[str, str], told: Path, started: list[int]) -> None:
    """Run the blocks of a page from top to bottom, in the current folder."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        if block.mark or block.language not in ("bash", "python"):
            continue
        where = f"docs/{page.name}, line {block.line}"
        if block.language == "bash":
            run_bash(block.text, where, variables, told, started)
        else:
            # After as many empty lines, a traceback names the line of the page.
            code = "\n" * (block.line - 1) + block.text
            try:
                exec(compile(code, str(page), "exec", dont_inherit=True), names)
            except BaseException as error:
                error.add_note(where)
                raise


def run_bash(text: str, where: str, variables: dict[str, str], told: Path, started: list[int]) -> None:
    """Run a block; its output goes to files, which a program in the background may keep open."""
    with (told / "stdout").open("w") as out, (told / "stderr").open("w") as err:
        bash = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
    started.append(bash.pid)
    try:
        status: int | str = bash.wait(BLOCK_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(bash.pid, signal.SIGKILL)
        status = f"nothing within {BLOCK_SECONDS} s"
    if status != 0:
        streams = "".join(f"--- {name}:\n{(told / name).read_text()}" for name in ("stdout", "stderr"))
        pytest.fail(f"{where}: the block ended with {status}\n{text}\n{streams}", pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_have_settings_that_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides.shutil, "which", lambda name: name)  # as on a cluster
    for block in blocks(page.read_text()):
        assert block.language not in ("sh", "shell", "console", "py"), f"line {block.line}: bash, or python"
        assert block.mark in ("", "no-run"), f"line {block.line}: {block.mark!r} is no mark"
        assert block.language == "bash" or not COMMAND.search(block.text), f"line {block.line}: mark it bash"
        if block.language == "bash":
            for command in commands(block.text):
                complaint = check(*command)
                assert not complaint, f"docs/{page.name}, line {block.line}: {complaint}"


def commands(text: str) -> list[tuple[str, list[str]]]:
    """For each command of a block that runs a script of ours, the script and its words."""
    whole = re.sub(r" *\\\n *", " ", text)
    return [
        (
            match["script"] or f"scripts/{SCRIPTS.get(match['name'], match['name'])}",
            shlex.split(match["words"], comments=True),
        )
        for match in COMMAND.finditer(whole)
    ]


def check(script: str, words: list[str]) -> str:
    """What is wrong with a command, if anything: there is no such script, or no such setting."""
    if not (docs_folder.ROOT / script).is_file():
        return f"there is no {script}"
    name = CONFIG_NAMES.get(Path(script).stem, Path(script).stem)
    folder = docs_folder.ROOT / "benchmarks" if name == "benchmark" else None
    sweep = not {"-m", "--multirun"}.isdisjoint(words)
    words = [word for word in words if word not in ("-m", "--multirun")]
    if name == "separate":
        words = [word for word in words if "=" in word]  # the others are files
    # A setting with the name of a folder in conf (model=..., of separate.py) is plain, and not Hydra's.
    settings = [word for word in words if not overrides.clashes(overrides.key_of(word), name, folder)]
    try:
        overrides.check(name, settings, sweep=sweep, folder=folder)
    except SepnetError as error:
        return str(error)
    return ""


def test_the_commands_of_the_readme_have_settings_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides.shutil, "which", lambda name: name)  # as on a cluster
    found = [
        command
        for block in blocks((docs_folder.ROOT / "README.md").read_text())
        if block.language != "python"
        for command in commands(block.text)
    ]
    assert len(found) > 10
    assert not [complaint for command in found if (complaint := check(*command))]
