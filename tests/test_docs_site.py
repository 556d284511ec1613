"""The documents as a whole: nothing that they point at is missing, and they build, with a reference."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import docs_folder
import pytest
import yaml

from sepnet import losses, metrics

ROOT = docs_folder.ROOT
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\]\((?!\w+:)(?P<file>[^)#\s]*)(?:#[^)\s]*)?\)")
CONF = re.compile(r"\bconf/[\w/.-]*\w")
# The library; sepnet.cli and sepnet.training are behind the scripts.
PUBLIC = (
    "types",
    "dsp",
    "separators",
    "networks",
    "data",
    "evaluation",
    "artifact",
    "hub",
    "streaming",
    "export",
)


def names(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def in_navigation(node: object) -> set[str]:
    """The pages that a part of mkdocs.yml's ``nav`` leads to."""
    if isinstance(node, str):
        return {node}
    parts = node.values() if isinstance(node, dict) else node
    return set().union(*(in_navigation(part) for part in parts))  # type: ignore[union-attr]


def test_every_page_is_in_the_navigation() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert in_navigation(navigation) == {path.relative_to(DOCS).as_posix() for path in PAGES}


@pytest.mark.parametrize("page", TEXTS, ids=names)
def test_links_and_pictures_are_there(page: Path) -> None:
    files = {match["file"] for match in LINK.finditer(page.read_text()) if match["file"]}
    assert not [file for file in files if not (page.parent / file).exists()]


@pytest.mark.parametrize("page", TEXTS, ids=names)
def test_settings_that_are_named_are_there(page: Path) -> None:
    made_up = {"conf/model/crossover.yaml"}  # which the reader writes
    named = set(CONF.findall(page.read_text())) - made_up
    assert not [name for name in named if "<" not in name and not (ROOT / name).exists()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("mkdocs is not installed (pip install 'sepnet[docs]')")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow  # make docs builds them, too
def test_pages_are_whole_and_fetch_nothing(site: Path) -> None:
    fetched = re.compile(r'(?:<script[^>]*src|<link[^>]*href|<img[^>]*src)="(https?:[^"]*)"')
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not fetched.findall(text)
        assert "```" not in text, "a fence was not understood"


@pytest.mark.slow
def test_reference_holds_all_that_is_public(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    told = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    assert {"sepnet.separate", "sepnet.find", "sepnet.load", "sepnet.Pretrained"} <= told
    assert {"sepnet.serving.running", "sepnet.serving.Limits"} <= told
    for package in (metrics, losses):
        # A function of the name of its module (sdr, pit) stands under the module.
        own = {name.rpartition(".")[2] for name in told if name.startswith(package.__name__)}
        assert set(package.__all__) <= own
    modules = [ROOT / f"sepnet/{name}.py" for name in PUBLIC]
    modules += [path for name in PUBLIC for path in sorted((ROOT / "sepnet" / name).rglob("[a-z]*.py"))]
    for module in (path for path in modules if path.is_file()):
        dotted = ".".join(module.relative_to(ROOT).with_suffix("").parts)
        defined = re.findall(r"^(?:def|class) ([a-zA-Z]\w*)", module.read_text(), re.MULTILINE)
        assert {f"{dotted}.{name}" for name in defined} <= told, "a public name has no docstring"


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe")
    sys.path.insert(0, str(DOCS))
    try:
        from prose import markdown
    finally:
        sys.path.remove(str(DOCS))
    prose = (
        "x: (*batch, time). rate, gain: in Hz; else: no. See ``*x``. Raises OSError for\nnone.\n\n    x: *1"
    )
    assert markdown(prose, {"x", "rate", "gain"}) == (
        "**x**: (\\*batch, time).\n\n**rate, gain**: in Hz; else: no. See ``*x``.\n\n"
        "Raises OSError for none.\n\n    x: *1"
    )
    assert markdown("As in [1] and\n[2].\n\n[1] A.\n[2] B.", set()) == (
        "As in \\[1\\] and\n\\[2\\].\n\n\\[1\\] A.\n\n\\[2\\] B."
    )
