"""Curves are read from what runs log, and tables land between their marks."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sepnet.cli.publish import publish
from sepnet.evaluation.curves import curves_figure, curves_table, read_curve
from sepnet.evaluation.insert import insert
from sepnet.types import SepnetError

HEADER = "epoch,step,train/audio_seconds_per_second,train/hours_of_audio,train/minutes,val/si_sdri\n"


def start(folder: Path, version: int, validations: list[tuple[int, float, float]]) -> None:
    """Write what one start of a run logs: (steps, minutes, SI-SDRi), as Lightning counts its steps."""
    path = folder / "csv" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    lines = [
        f",{step},60.0,{step / 100},{minutes},\n0,{step - 1},,,,{score}\n"
        for step, minutes, score in validations
    ]
    path.write_text(HEADER + "".join(lines))


def test_a_resumed_run_has_one_curve(tmp_path: Path) -> None:
    start(tmp_path, 0, [(100, 5.0, 1.25), (200, 10.0, 2.5)])
    start(tmp_path, 1, [(200, 10.5, 2.5), (300, 16.0, 3.0)])
    start(tmp_path, 10, [(400, 21.0, 2.75)])
    points = read_curve(tmp_path)
    assert [p.step for p in points] == [100, 200, 300, 400]
    assert [p.si_sdri_db for p in points] == [1.25, 2.5, 3.0, 2.75]
    assert [p.minutes for p in points] == [5.0, 10.5, 16.0, 21.0]
    assert f"| {tmp_path.name} | 21.0 | 4.0 | 400 | 3.00 |" in curves_table([tmp_path])


def test_figure_is_the_same_each_time(tmp_path: Path) -> None:
    start(tmp_path / "run", 0, [(100, 5.0, 1.25), (200, 10.0, 2.5)])
    for name in ("a.svg", "b.svg"):
        curves_figure([tmp_path / "run"], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_run_without_validations_is_refused(tmp_path: Path) -> None:
    start(tmp_path, 0, [])
    with pytest.raises(SepnetError, match="holds no validation"):
        read_curve(tmp_path)


def test_several_evaluations_go_between_marks_of_their_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = ("results", "results3")
    page.write_text("".join(f"<!-- {mark} -->\n<!-- /{mark} -->\n" for mark in marks))
    folders = {mark: tmp_path / mark for mark in marks}
    full = "# Title\n\n| {} | a |\n|:--|--:|\n\nData f00.\n\n- **a**: more\n"
    for mark, folder in folders.items():
        folder.mkdir()
        (folder / "summary.md").write_text(f"| {mark} |\n")
        (folder / "report.md").write_text(full.format(mark))
    settings = {"page": str(page), "curves": [], "full": False}
    several = {mark: str(folder) for mark, folder in folders.items()}
    publish(OmegaConf.create(settings | {"evaluation": None, "evaluations": several}))
    assert "<!-- results -->\n| results |\n<!-- /results -->" in page.read_text()
    assert "<!-- results3 -->\n| results3 |\n<!-- /results3 -->" in page.read_text()
    one = {"evaluation": str(folders["results3"]), "evaluations": None, "full": True}
    publish(OmegaConf.create(settings | one))
    table = "| results3 | a |\n|:--|--:|\n\nData f00."
    assert f"<!-- results -->\n{table}\n<!-- /results -->" in page.read_text()
    with pytest.raises(SepnetError, match=r"summary\.md: run scripts/eval\.py"):
        publish(OmegaConf.create(settings | {"evaluation": str(tmp_path), "evaluations": None}))


def test_insert_replaces_between_the_marks_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- t -->\nold\n<!-- /t -->\nafter\n")
    insert(page, "t", "new\n")
    insert(page, "t", "newer\n")
    assert page.read_text() == "before\n<!-- t -->\nnewer\n<!-- /t -->\nafter\n"


@pytest.mark.parametrize(
    "content", ["", "<!-- t -->", "<!-- /t --><!-- t -->", "<!-- t --><!-- t --><!-- /t -->"]
)
def test_insert_refuses_a_page_without_its_marks(tmp_path: Path, content: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(content)
    with pytest.raises(SepnetError, match="needs the lines"):
        insert(page, "t", "new")
    assert page.read_text() == content
