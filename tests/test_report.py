"""A report tells what the rows hold: numbers against an independent count, links against the disk."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from sepnet.data import audio
from sepnet.evaluation import Contender, evaluate
from sepnet.evaluation import rows as rows_file
from sepnet.evaluation.examples import examples, pick
from sepnet.evaluation.examples import read as read_examples
from sepnet.evaluation.report import report
from sepnet.evaluation.rows import Role, Row, Status
from sepnet.evaluation.scoring import DEFAULT_MEASURES
from sepnet.evaluation.table import lines
from sepnet.evaluation.text import factor, number
from sepnet.inference.pipeline import PipelineSettings
from sepnet.separators.identity import Identity
from sepnet.types import Mixture, Separation, SeparatorInfo, SepnetError

RATE = 8000
VOID = {"meta", "img", "br", "wbr", "input", "link", "hr"}
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
HOSTILE = "R&B #1 $x$_y"


class Page(HTMLParser):
    """Tags that balance, links, ids, the text of each table cell, and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found[name] or "" for name in ("src", "href") if name in found]
        self.ids += [found["id"] or ""] if "id" in found else []
        self.images += [found] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "tr" in self.open and self.rows[-1]:
            self.rows[-1][-1] += f" {data.strip()}"

    def cells(self, name: str) -> list[str]:
        """The row of one method, without the name: each cell as words."""
        return next([cell.strip() for cell in row[1:]] for row in self.rows if row and name in row[0])


def check_links(folder: Path) -> Page:
    """Whatever the page refers to is there, beside it, and has words for those who can't see it."""
    page = Page(folder / "report.html")
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert not link.startswith("/")
            assert ":" not in link
            assert (folder / unquote(link)).is_file(), link
    assert len(set(page.ids)) == len(page.ids)
    assert all(image["alt"] for image in page.images)
    source = (folder / "report.html").read_text()
    assert "http" not in source
    assert "@import" not in source
    return page


def some_rows(
    separator: str,
    seed: int,
    gain_db: float = 10.0,
    *,
    n: int = 30,
    status: Status = "ok",
    role: Role = "method",
    reason: str = "",
) -> list[Row]:
    rng = np.random.default_rng(seed)
    found = []
    for index in range(n):
        for source in (1, 2):
            before = dict(zip(DEFAULT_MEASURES, rng.normal(1, 0.3, 6), strict=True))
            after = {m: v + (rng.normal(gain_db, 3) if "s" in m[:2] else 0.3) for m, v in before.items()}
            if index == 3 and source == 1:
                after["pesq"] = math.nan
            row = Row(
                separator=separator,
                mixture_id=f"m{index:02d}",
                source=source,
                n_sources=2,
                seconds=2.0,
                sample_rate=RATE,
                status=status,
                reason=reason,
                permutation=source if status == "ok" else None,
                scores=after if status == "ok" else {},
                mixture_scores=before,
                compute_seconds=0.5 + 0.01 * index if status == "ok" else None,
                peak_memory_mb=100.0 + index if status == "ok" else None,
                parameters=1_234_567,
                role=role,
                sexes=("f+f", "f+m", "m+m")[index % 3],
                overlap=0.5 + 0.01 * index,
                level_difference_db=(index - 15) / 4 * (3 - 2 * source),
                two_thread_seconds=0.25 + 0.005 * index if status == "ok" and index < 4 else None,
                macs_per_second=(index + 1) * 1e9 if status == "ok" and index < 4 else None,
            )
            found.append(row)
    return found


def write(folder: Path, found: Sequence[Row]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "rows.csv"
    path.unlink(missing_ok=True)
    rows_file.append(path, found, DEFAULT_MEASURES)
    return path


def independent_means(path: Path, separator: str, column: str, minus: str | None = None) -> list[float]:
    """Straight from the file with the csv module: the mean of each mixture."""
    by_mixture: dict[str, list[float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["separator"] == separator and row["status"] == "ok" and row[column]:
                value = float(row[column]) - (float(row[minus]) if minus else 0)
                by_mixture.setdefault(row["mixture_id"], []).append(value)
    return [statistics.fmean(values) for values in by_mixture.values()]


def test_the_numbers_are_those_of_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path, [*some_rows("one", 1), *some_rows("two", 2, gain_db=12.0)])
    report(path)
    page = check_links(tmp_path)
    markdown = (tmp_path / "report.md").read_text()
    for name in ("one", "two"):
        cells = page.cells(name)
        columns = [
            ("si_sdr", "si_sdr_mixture", 2),
            ("sdr", None, 1),
            ("sdr", "sdr_mixture", 1),
            ("pesq", None, 2),
            ("estoi", None, 3),
        ]
        for cell, (column, minus, digits) in zip(cells, columns, strict=False):
            values = independent_means(path, name, column, minus)
            mean, low, high = (
                float(word.replace("\N{MINUS SIGN}", "-")) for word in cell.split() if word != "to"
            )
            half = 1.96 * statistics.pstdev(values) / math.sqrt(len(values))
            assert mean == pytest.approx(statistics.fmean(values), abs=0.5001 * 10**-digits)
            assert low == pytest.approx(mean - half, abs=0.2 * half + 10**-digits)
            assert high == pytest.approx(mean + half, abs=0.2 * half + 10**-digits)
            assert f" {mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] |" in markdown
        # 1.2 M parameters; median of (0.5 ... 0.79) s over 2 s; the highest of 100 ... 129 MiB
        # counted in 4 mixtures: a median of 2.5 G; on two threads half of the time
        assert cells[7:] == ["1.23", "2.5", "0.32 0.13 on two", "129", "60", "0"]
        gains = independent_means(path, name, "si_sdr", "si_sdr_mixture")
        assert cells[5].split()[0] == f"{statistics.median(gains):.2f}"
        low, high = sorted(gains)[9], sorted(gains)[20]  # of 30: the 10th and the 21st (Conover, table A3)
        assert cells[5].split()[1:] == [f"{low:.2f}", "to", f"{high:.2f}"]
        assert f"{statistics.median(gains):.2f} [{low:.2f}, {high:.2f}] | 100 [89, 100] |" in markdown
        assert cells[6] == "100 89 to 100"
    assert "two improves most" in page.text
    assert "one: PESQ is undefined for 1 of 60 sources" in " ".join(page.text.split())


def test_the_floor_is_first_the_ceiling_last_and_the_best_method_before_the_others(tmp_path: Path) -> None:
    found = [
        *some_rows("ideal mask", 1, 9.0, role="ceiling"),
        *some_rows("refuses", 2, status="cannot_separate", reason="one channel is too few: add one"),
        *some_rows("weak", 3, 2.0),
        *some_rows("strong", 4, 12.0),
        *some_rows("mixture", 5, 0.0, role="floor"),
    ]
    order = ["mixture", "strong", "weak", "refuses", "ideal mask"]
    assert [line.name for line in lines(found)] == order
    report(write(tmp_path, found))
    page = check_links(tmp_path)
    names = [row[0] for row in page.rows[2:7]]
    assert all(name in cell for name, cell in zip(order, names, strict=True))
    refused = page.cells("refuses")
    assert refused[0] == "refused: one channel is too few"  # in the place of the scores
    assert refused[1:] == ["1.23", DASH, DASH, DASH, "0", "60 refused"]
    assert "refused 60 sources: one channel is too few: add one" in " ".join(page.text.split())
    assert "has no" not in page.text  # neither floor nor ceiling is missing


@pytest.mark.parametrize(("highest_db", "left_out"), [(60.0, True), (20.0, False)])
def test_a_ceiling_far_above_all_else_does_not_squeeze_the_figures(
    tmp_path: Path, highest_db: float, left_out: bool
) -> None:
    found = [
        *some_rows("magnitudes", 1, 13.0, role="ceiling"),
        *some_rows("phases too", 2, highest_db, role="ceiling"),
        *some_rows("good", 3, 11.0),
    ]
    report(write(tmp_path, found))
    page = check_links(tmp_path)
    assert page.cells("phases too")  # the table tells it all the same
    drawn = " ".join(image["alt"] or "" for image in page.images)
    assert ("phases too" not in drawn) == left_out
    assert ("The ceiling, magnitudes, is at" in page.text) == left_out
    assert ("leave out the ceiling phases too, which is far above" in page.text) == left_out
    assert "good" in drawn
    assert "magnitudes" in drawn


def test_the_order_of_the_rows_changes_no_table(tmp_path: Path) -> None:
    found = [*some_rows("one", 1), *some_rows("two", 2)]
    report(write(tmp_path / "a", found))
    report(write(tmp_path / "b", [*found[40:60], *found[:40], *found[:59:-1]]))
    assert (tmp_path / "a" / "summary.md").read_text() == (tmp_path / "b" / "summary.md").read_text()


def test_means_over_different_mixtures_are_told_apart(tmp_path: Path) -> None:
    report(write(tmp_path, [*some_rows("all", 1), *some_rows("half", 2, n=15)]))
    page = check_links(tmp_path)
    assert "different mixtures and cannot be compared directly: half 15, others 30" in page.text
    assert "no floor" in page.text
    assert "no ceiling" in page.text


def test_nothing_and_nothing_but_failures_make_a_report_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with pytest.raises(SepnetError, match="run the evaluation"):
        report(path)
    for content in ("", ",".join(rows_file.columns(DEFAULT_MEASURES)) + "\n"):
        path.write_text(content)
        report(path)
        assert "no rows" in check_links(tmp_path).text
        assert "no rows" in (tmp_path / "report.md").read_text()
    report(write(tmp_path, some_rows("broken", 0, status="failed", reason="RuntimeError: <b>&")))
    page = check_links(tmp_path)
    assert "No source was scored" in page.text
    assert "failed 60 sources: RuntimeError: <b>&" in " ".join(page.text.split())  # escaped, then read back
    assert not page.images


def test_numbers_are_set_as_a_reader_expects() -> None:
    values = (1.25, -3.04, -0.04, 0.0, math.nan)
    assert [number(value, 1) for value in values] == ["1.2", f"{MINUS}3.0", "0.0", "0.0", DASH]
    assert number(12.6, 0) == "13"
    assert factor(0.0) == "0"
    assert [factor(v) for v in (0.0001, 0.0123, 1.26, 12.6, 345.0, math.nan)] == [
        "< 0.001",
        "0.012",
        "1.3",
        "13",
        "345",
        DASH,
    ]


@dataclass(frozen=True)
class Tones:
    """Two tones a mixture; ``peak`` is the level of the mixture."""

    n: int = 4
    peak: float = 0.5
    fingerprint: str = "tones"

    def __len__(self) -> int:
        return self.n

    def id(self, index: int) -> str:
        return f"tones {index}"

    def __getitem__(self, index: int) -> Mixture:
        phase = 2 * math.pi * torch.arange(4000) / RATE
        references = torch.stack([torch.sin(phase * 440), torch.sin(phase * (1000 + 100 * index))])
        references *= self.peak / 2
        return Mixture(references.sum(0, keepdim=True), RATE, n_sources=2, references=references)


class Filter:
    """Splits at 700 Hz and leaks: the better, the lower the second tone is. Gives the second tone first."""

    info = SeparatorInfo()

    def __init__(self, *, leak: float = 0.1) -> None:
        self.leak = leak

    def separate(self, mixture: Mixture) -> Separation:
        spectrum = torch.fft.rfft(mixture.audio[0])
        frequencies = torch.fft.rfftfreq(mixture.audio.shape[-1], 1 / RATE)
        low = torch.fft.irfft(spectrum * (frequencies < 700), mixture.audio.shape[-1])
        leak = self.leak * float(frequencies[spectrum.abs()[frequencies > 700].argmax()]) / 100 + self.leak
        high = mixture.audio[0] - low
        return Separation(torch.stack([high + leak * low, low + leak * high]))


def contenders(leak: float = 0.1) -> list[Contender]:
    return [Contender("mixture", Identity), Contender(HOSTILE, partial(Filter, leak=leak))]


def test_an_evaluation_from_end_to_end(tmp_path: Path) -> None:
    folder = evaluate(
        contenders(), Tones(), tmp_path / "out", n_processes=0, measures=("si_sdr", "sdr"), progress=False
    )
    page = check_links(folder)
    assert not (folder / "examples/mixture").exists()  # the floor has nothing to show
    assert len([link for link in page.links if link.endswith(".wav")]) == 3 * 5
    assert HOSTILE in page.text
    assert "fingerprint tones, 4 mixtures" in page.text
    found = read_examples(folder / "examples" / HOSTILE)
    gained = independent_means(folder / "rows.csv", HOSTILE, "si_sdr", "si_sdr_mixture")
    assert [example.kind for example in found] == ["best", "median", "worst"]
    assert [example.si_sdr_improvement for example in found] == pytest.approx(
        [max(gained), sorted(gained)[1], min(gained)]
    )
    assert not any(example.differs for example in found)
    assert f"Best: SI-SDRi {max(gained):.1f} dB" in page.text
    # Once more: the same page from the same rows.
    before = (folder / "report.html").read_bytes(), (folder / "figures/improvement.svg").read_bytes()
    report(folder / "rows.csv")
    assert (
        (folder / "report.html").read_bytes(),
        (folder / "figures/improvement.svg").read_bytes(),
    ) == before


def test_examples_hold_what_was_separated_at_its_level(tmp_path: Path) -> None:
    for peak in (0.5, 1.6):
        mixtures, contender = Tones(n=1, peak=peak), contenders(leak=0.01)[1]
        folder = evaluate(
            [contender],
            mixtures,
            tmp_path / str(peak),
            n_processes=0,
            measures=("si_sdr",),
            progress=False,
            settings=PipelineSettings(consistent=False),
        )
        (example,) = read_examples(folder / "examples" / HOSTILE)
        mixture = mixtures[0]
        assert mixture.references is not None
        highest = float(mixture.audio.abs().max())
        assert example.gain == pytest.approx(1.0 if peak < 1 else 0.99 / highest, rel=1e-2)
        wanted = {
            "mixture": mixture.audio[0],
            "estimate_1": Filter(leak=0.01).separate(mixture).sources[1],  # the filter gives it second
            "estimate_2": Filter(leak=0.01).separate(mixture).sources[0],
            "reference_1": mixture.references[0],
            "reference_2": mixture.references[1],
        }
        assert set(example.signals) == set(wanted)
        for name, signal in wanted.items():
            samples, rate = audio.read(folder / "examples" / HOSTILE / "best" / f"{name}.wav")
            assert rate == RATE
            assert np.abs(samples[0] - example.gain * signal.numpy()).max() <= 2**-15
        told = "multiplied by" in Page(folder / "report.html").text
        assert told == (peak > 1)


def test_examples_that_are_not_what_was_scored_are_remarked_on_and_old_ones_go(tmp_path: Path) -> None:
    folder = evaluate(
        contenders(), Tones(), tmp_path, n_processes=0, measures=("si_sdr",), progress=False, limit=2
    )
    stale = folder / "examples" / HOSTILE / "stale"
    stale.mkdir()
    examples(folder / "rows.csv", contenders(leak=0.3)[1], Tones())
    assert not stale.exists()
    found = read_examples(stale.parent)
    assert [example.kind for example in found] == ["best", "worst"]  # two mixtures have no middle
    assert all(example.differs for example in found)
    report(folder / "rows.csv")
    assert "is not deterministic or has changed" in Page(folder / "report.html").text


def test_the_picked_mixtures_do_not_depend_on_the_order_of_the_rows() -> None:
    found = some_rows("any", 0, n=7)
    assert pick(found, "any") == pick(found[::-1], "any")
    assert len(set(pick(found, "any").values())) == 3
    assert pick(found, "other") == {}
    assert list(pick(some_rows("any", 0, n=1), "any")) == ["best"]


def test_all_spectrograms_of_an_example_share_their_scale(tmp_path: Path) -> None:
    from sepnet.evaluation.figures import spectrograms

    tone = torch.sin(2 * math.pi * 1000 * torch.arange(8000) / RATE)
    spectrograms(tmp_path, {"loud": tone, "soft": 0.01 * tone, "silent": 0 * tone}, RATE)
    spectrograms(tmp_path / "alone", {"soft": 0.01 * tone}, RATE)
    assert (tmp_path / "soft.svg").read_text() != (tmp_path / "alone/soft.svg").read_text()
    assert "currentColor" in (tmp_path / "loud.svg").read_text()


def test_provenance_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, some_rows("one", 1, n=2))
    report(path)
    assert "no provenance.json" in Page(tmp_path / "report.html").text
    run = {
        "written": "2026-01-02T03:04:05+00:00",
        "packages": {"torch": "9.9"},
        "python": "3.12",
        "git_commit": "0123456789" * 4 + "+changes",
        "platform": "Linux",
        "cpu": "Abacus",
        "cpus": 2,
        "gpu": None,
        "processes": 2,
        "threads_per_process": 1,
    }
    settings = {
        "chunk_seconds": 45.0,
        "overlap_seconds": 3.0,
        "full_band": True,
        "consistent": False,
        "device": "cpu",
    }
    content = {
        "data_fingerprint": "f00",
        "mixtures": 2,
        "measures": ["si_sdr"],
        "versions": {"one": "v7"},
        "pipeline": settings,
        "runs": [run, run],
    }
    (tmp_path / "provenance.json").write_text(json.dumps(content))
    report(path)
    text = Page(tmp_path / "report.html").text
    assert text.count("torch 9.9, Python 3.12") == 2
    origin = "Data f00; commit 012345678901+changes; torch 9.9; Abacus, 2 cores; weights: one v7."
    source = (tmp_path / "report.html").read_text()
    assert text.count(origin) == source.count("<table") > 1  # under each
    markdown = (tmp_path / "report.md").read_text()
    assert markdown.count(origin) == markdown.count("\n|:--")
    told = (
        "chunks of 45 s that overlap by 3 s; estimates share the band above a model's own; estimates need not"
    )
    assert told in text
    assert told in markdown
    assert all(
        word in text for word in ("f00", "v7", "012345678901+changes", "Abacus", "2026-01-02 03:04:05 UTC")
    )
