"""Laws of an evaluation run, on mixtures of orthogonal sources, whose scores are known in closed form."""

from __future__ import annotations

import csv
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sepnet.evaluation import provenance, rows, scoring
from sepnet.evaluation.attempt import count_parameters
from sepnet.evaluation.breakdown import breakdowns
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.examples import examples
from sepnet.evaluation.examples import read as read_examples
from sepnet.evaluation.run import run
from sepnet.evaluation.table import lines
from sepnet.inference.pipeline import PipelineSettings
from sepnet.separators.identity import Identity
from sepnet.training.task import si_sdr_gain
from sepnet.types import CannotSeparate, Mixture, Query, Separation, Separator, SeparatorInfo, SepnetError

RATE = 8000
TIMINGS = {"compute_seconds", "two_thread_seconds", "peak_memory_mb"}
FAST = ("si_sdr", "snr")
AS_GIVEN = PipelineSettings(consistent=False)


@dataclass(frozen=True)
class OrthogonalSet:
    """Mixtures of two orthogonal sources, the second ``index + 1`` dB weaker than the first, and noise."""

    n: int = 4
    fingerprint: str = "orthogonal-1"
    silent: tuple[int, ...] = ()  # mixtures whose second source is silent
    noise: float = 0.0  # level relative to the first source
    n_samples: int = 2000

    def __len__(self) -> int:
        return self.n

    def id(self, index: int) -> str:
        return f"mix,{index:03d}"  # a comma: the file has to quote it

    def __getitem__(self, index: int) -> Mixture:
        return orthogonal_mixture(index, self.n_samples, self.noise, index in self.silent)


@lru_cache  # the same tensors each time, as a set that lies in memory gives
def orthogonal_mixture(index: int, n_samples: int, noise: float, silent: bool) -> Mixture:
    draws = np.random.default_rng(index).standard_normal((n_samples, 3))
    orthogonal = torch.from_numpy(np.linalg.qr(draws)[0].T.copy()) * math.sqrt(n_samples) * 0.1
    levels = torch.tensor([[1.0], [0.0 if silent else 10 ** (-(index + 1) / 20)]], dtype=torch.float64)
    references = (orthogonal[:2] * levels).float()
    return Mixture(
        audio=references.sum(0, keepdim=True) + noise * orthogonal[2:].float(),
        sample_rate=RATE,
        n_sources=2,
        queries=tuple(Query(source, RATE) for source in references),
        references=references,
    )


class Leaky:
    """References with ``leak`` of the other source added; by hand swapped and labelled."""

    info = SeparatorInfo(needs=frozenset({"references"}))

    def __init__(self, *, leak: float = 0.1, swap: bool = False, labelled: bool = False) -> None:
        self.leak, self.swap, self.labelled = leak, swap, labelled

    def separate(self, mixture: Mixture) -> Separation:
        assert mixture.references is not None
        sources = mixture.references + self.leak * (mixture.audio - mixture.references)
        sources = sources.flip(0) if self.swap else sources
        return Separation(sources, ("first", "second") if self.labelled else None)


class Forger(Leaky):
    """Writes the mixture over the references, and returns it."""

    def separate(self, mixture: Mixture) -> Separation:
        assert mixture.references is not None
        mixture.references[:] = mixture.audio
        return Separation(mixture.references)


class Sleepy(Identity):
    """Stops to answer after some mixtures."""

    def __init__(self, mixtures: int) -> None:
        self.left = mixtures

    def separate(self, mixture: Mixture) -> Separation:
        if self.left == 0:
            time.sleep(300)
        self.left -= 1
        return super().separate(mixture)


class Blind:
    """Says in its output which hints it saw."""

    info = SeparatorInfo()

    def separate(self, mixture: Mixture) -> Separation:
        seen = [h for h in ("n_sources", "queries", "references") if getattr(mixture, h) is not None]
        if seen:
            raise RuntimeError(f"saw {seen}")
        return Separation(mixture.audio.expand(2, -1))


class Counted(Identity):
    """Adds a line to a file for each mixture; raises once that file has ``fails_at`` lines."""

    def __init__(self, log: Path, fails_at: int = -1, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.log, self.fails_at, self.error = log, fails_at, error

    def separate(self, mixture: Mixture) -> Separation:
        if self.calls() == self.fails_at:
            raise self.error
        with self.log.open("a") as file:
            file.write("x\n")
        return super().separate(mixture)

    def calls(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


class Naughty(Identity):
    """Misbehaves in one way."""

    def __init__(self, way: str) -> None:
        self.way = way

    def separate(self, mixture: Mixture) -> Separation:
        sources = super().separate(mixture).sources
        match self.way:
            case "refuse":
                raise CannotSeparate("one channel\nis too few")
            case "raise":
                raise RuntimeError("no\nluck")
            case "three":
                return Separation(sources[[0, 0, 0]])
            case "short":
                return Separation(sources[:, :-1])
            case "nan":
                sources[0, 3] = math.nan
            case "silent":
                sources[1] = 0
            case "labels":
                return Separation(sources, ("one",))
            case "overwrite":
                mixture.audio.zero_()
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "allocate":
                np.ones(200 * 2**20, dtype=np.uint8)
                self.way = "well"  # once
        return Separation(sources)


def unloadable() -> Separator:
    raise FileNotFoundError("no weights here")


def contender(name: str, kind: Any = Identity, **options: Any) -> Contender:
    return Contender(name, partial(kind, **options))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(path: Path) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name not in TIMINGS} for row in table(path)]


def here(contenders: Iterable[Contender], folder: Path, mixtures: Any = None, **options: Any) -> Path:
    """A run in this process, quick and quiet, in which estimates are left as the separators give them."""
    options = {"n_processes": 0, "measures": FAST, "progress": False, "cost_mixtures": 0, **options}
    options.setdefault("settings", AS_GIVEN)
    return run(tuple(contenders), mixtures or OrthogonalSet(), folder / "rows.csv", **options)


def test_scores_have_their_closed_form(tmp_path: Path) -> None:
    path = here([contender("leaky", Leaky, leak=0.1)], tmp_path)
    found = rows.read(path)
    assert len(found) == 8
    for row in found:
        weaker_db = int(row.mixture_id[-3:]) + 1
        input_db = weaker_db if row.source == 1 else -weaker_db
        assert row.mixture_scores["si_sdr"] == pytest.approx(input_db, abs=1e-3)
        assert row.scores["si_sdr"] == pytest.approx(input_db + 20, abs=1e-3)
        assert row.scores["snr"] == pytest.approx(input_db + 20, abs=1e-3)
        assert row.improvement("si_sdr") == pytest.approx(20, abs=1e-3)
        assert (row.status, row.permutation, row.role) == ("ok", row.source, "ceiling")
        assert (row.seconds, row.sample_rate, row.n_sources) == (0.25, RATE, 2)


def test_what_is_scored_is_what_the_pipeline_gives(tmp_path: Path) -> None:
    path = here([contender("leaky", Leaky, leak=0.1)], tmp_path, settings=PipelineSettings())
    for row in rows.read(path):  # s + 0.1 t becomes 0.95 s + 0.05 t, so that both sum to s + t
        improvement_db = 20 * math.log10(0.95 / 0.05)
        assert row.improvement("si_sdr") == pytest.approx(improvement_db, abs=1e-3)
        assert (row.status, row.role) == ("ok", "ceiling")
    assert provenance.read(path)["pipeline"] == {
        "channels": "all",
        "chunk_seconds": 45.0,
        "overlap_seconds": 3.0,
        "full_band": True,
        "device": "cpu",
        "consistent": True,
        "n_sources": None,
    }


class HalfRate(nn.Module):
    """Works at half the rate alone, and gives no more than 0.1 s: an oracle with a parameter."""

    info = SeparatorInfo(needs=frozenset({"references"}), sample_rate=RATE // 2)

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def separate(self, mixture: Mixture) -> Separation:
        assert mixture.references is not None
        if mixture.sample_rate != RATE // 2 or mixture.audio.shape[-1] > RATE // 20:
            raise CannotSeparate(f"{mixture.audio.shape[-1]} samples at {mixture.sample_rate} Hz")
        return Separation(mixture.references)


def test_a_model_of_another_rate_and_of_short_chunks_is_scored_as_it_would_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def equal_shares(sources: Tensor, mixture: Tensor, **_: object) -> Tensor:
        return sources + (mixture - sources.sum(dim=0)) / 2

    monkeypatch.setattr("sepnet.inference.stages.extend_to_full_band", equal_shares)
    chunks = replace(AS_GIVEN, chunk_seconds=0.1, overlap_seconds=0.02, full_band=False)
    half = [contender("half", HalfRate)]
    assert {row.status for row in rows.read(here(half, tmp_path / "long"))} == {"cannot_separate"}
    low = rows.read(here(half, tmp_path / "low", settings=chunks))
    for row in low:  # of white noise one half of the power lies below half the band
        assert (row.status, row.parameters, row.role) == ("ok", 1, "ceiling")
        assert row.scores["snr"] == pytest.approx(10 * math.log10(2), abs=0.5)
    full = rows.read(here(half, tmp_path / "full", settings=replace(chunks, full_band=True)))
    assert sum(row.scores["snr"] for row in full) > sum(row.scores["snr"] for row in low) + 1
    found = read_examples(examples(tmp_path / "full/rows.csv", half[0], OrthogonalSet()))
    assert len(found) == 3
    assert not any(example.differs for example in found)


def test_the_order_matters_only_where_outputs_have_labels(tmp_path: Path) -> None:
    kinds = {
        "plain": {},
        "swapped": {"swap": True},
        "labelled": {"labelled": True},
        "mislabelled": {"swap": True, "labelled": True},
    }
    path = here([contender(name, Leaky, **options) for name, options in kinds.items()], tmp_path)
    scores: dict[str, list[float]] = {name: [] for name in kinds}
    for row in rows.read(path):
        scores[row.separator].append(row.scores["si_sdr"])
        swapped = row.separator == "swapped"
        assert row.permutation == (3 - row.source if swapped else row.source)
    assert scores["plain"] == scores["swapped"] == scores["labelled"]
    # The wrong source at level 1, the right one at 0.1: 20 dB below the other source's level.
    expected = [sign * (index + 1) - 20 for index in range(4) for sign in (1, -1)]
    assert scores["mislabelled"] == pytest.approx(expected, abs=1e-3)


class Halves:
    """Knows that a mixture's first half is one source and its second half the other, and calls them so."""

    info = SeparatorInfo(n_sources=2)

    def separate(self, mixture: Mixture) -> Separation:
        half = mixture.audio.shape[1] // 2
        late = mixture.audio[0].clone()
        late[:half] = 0
        return Separation(torch.stack([late, mixture.audio[0] - late]), labels=("late", "early"))


class InTurns(OrthogonalSet):
    """The first source is heard in the first half alone, the second in the second."""

    def __getitem__(self, index: int) -> Mixture:
        references = torch.randn(2, 2000, generator=torch.Generator().manual_seed(index))
        references[0, 1000:], references[1, :1000] = 0, 0
        return Mixture(references.sum(dim=0, keepdim=True), RATE, n_sources=2, references=references)


def test_labels_of_a_method_that_was_not_shown_the_sources_leave_the_order_open(tmp_path: Path) -> None:
    for row in rows.read(here([contender("halves", Halves)], tmp_path, InTurns())):
        assert row.permutation == 3 - row.source
        assert row.scores["si_sdr"] > 60


class Counts(Identity):
    """Finds two sources whatever there is."""

    info = SeparatorInfo(needs=frozenset({"n_sources"}), counts_sources=True)

    def estimate_n_sources(self, mixture: Mixture) -> int:
        assert mixture.n_sources is None
        assert mixture.references is None
        return 2


def test_how_well_a_method_counts_is_told(tmp_path: Path) -> None:
    class TwoOrThree(InTurns):
        def __getitem__(self, index: int) -> Mixture:
            two = super().__getitem__(index)
            third = torch.cat([two.references, two.audio * 0.1])
            return two if index < 3 else replace(two, n_sources=3, references=third)

    path = here([contender("counts", Counts), contender("identity")], tmp_path, TwoOrThree())
    read = rows.read(path)
    assert {row.n_estimated for row in read if row.separator == "counts"} == {2}
    assert {row.n_estimated for row in read if row.separator == "identity"} == {None}
    told = {line.name: line.remarks(["si_sdr"]) for line in lines(read)}
    assert "counts correctly in 3 of 3 mixtures of 2 (100%)" in told["counts"]
    assert "counts correctly in 0 of 1 mixtures of 3 (0%)" in told["counts"]
    assert not any("counts" in remark for remark in told["identity"])


class Classes(Halves):
    """As Halves; of three classes it knows that the third is never there."""

    info = SeparatorInfo(n_sources=3, labels=("late", "early", "never"))

    def separate(self, mixture: Mixture) -> Separation:
        two = super().separate(mixture).sources
        return Separation(torch.cat([two, torch.zeros_like(two[:1])]), self.info.labels)


class Named(InTurns):
    """Mixtures whose references are named."""

    names: ClassVar[tuple[str, str]] = ("early", "late")

    def __getitem__(self, index: int) -> Mixture:
        return replace(super().__getitem__(index), labels=self.names)


class Misnamed(Named):
    names = ("late", "early")


class Unknown(Named):
    names = ("early", "elsewhere")


def test_outputs_that_stand_for_classes_are_taken_at_their_word(tmp_path: Path) -> None:
    contenders = [contender("classes", Classes), contender("halves", Halves)]
    for row in rows.read(here(contenders, tmp_path / "right", Named())):
        assert row.permutation == 3 - row.source
        assert row.scores["si_sdr"] > 60
    for row in rows.read(here(contenders, tmp_path / "wrong", Misnamed())):
        assert row.permutation == row.source
        assert row.scores["si_sdr"] < 0
    for row in table(here(contenders, tmp_path / "unknown", Unknown())):
        if row["separator"] == "classes":
            assert (row["status"], row["reason"]) == ("cannot_separate", "gives 3 sources, not 2")
        else:  # its two labels say nothing of these
            assert row["status"] == "ok"


def test_a_method_made_for_another_number_of_sources_refuses(tmp_path: Path) -> None:
    class Three(InTurns):
        def __getitem__(self, index: int) -> Mixture:
            two = super().__getitem__(index)
            return replace(two, n_sources=3, references=torch.cat([two.references, two.audio * 0.1]))

    for row in table(here([contender("halves", Halves)], tmp_path, Three())):
        assert (row["status"], row["reason"]) == ("cannot_separate", "gives 2 sources, not 3")


def test_a_perfect_estimate_is_at_the_ceiling_and_the_mixture_at_the_floor(tmp_path: Path) -> None:
    perfect, mixture = contender("perfect", Leaky, leak=0.0), contender("mixture")
    for row in rows.read(here([perfect, mixture], tmp_path)):
        if row.separator == "perfect":
            assert row.scores["si_sdr"] > 100
        else:
            assert row.role == "floor"
            assert row.improvement("si_sdr") == row.improvement("snr") == 0


def test_every_measure_is_computed_and_those_undefined_are_empty(tmp_path: Path) -> None:
    path = here(
        [contender("leaky", Leaky)], tmp_path, measures=(*scoring.DEFAULT_MEASURES, "sd_sdr"), limit=1
    )
    first = table(path)[0]
    # A quarter of a second is enough for the ratios, and too short for the perceptual measures.
    assert all(
        first[measure] and first[f"{measure}_mixture"] for measure in ("si_sdr", "sdr", "snr", "sd_sdr")
    )
    assert not any(first[measure] or first[f"{measure}_mixture"] for measure in ("stoi", "estoi"))
    assert list(first) == rows.columns((*scoring.DEFAULT_MEASURES, "sd_sdr"))


def test_hints_that_are_not_declared_are_not_there(tmp_path: Path) -> None:
    assert {row.reason for row in rows.read(here([contender("blind", Blind)], tmp_path))} == {""}


def test_a_method_that_writes_into_its_input_changes_no_score_but_its_own(tmp_path: Path) -> None:
    bad = [contender("naughty", Naughty, way="overwrite"), contender("forger", Forger)]
    found = rows.read(here([*bad, contender("floor")], tmp_path))
    floor = [row for row in found if row.separator == "floor"]
    for name in ("naughty", "forger"):
        for naughty, honest in zip((r for r in found if r.separator == name), floor, strict=True):
            assert naughty.mixture_scores == honest.mixture_scores == honest.scores == naughty.scores


@pytest.mark.parametrize(
    ("way", "status", "reason"),
    [
        ("refuse", "cannot_separate", "one channel is too few"),
        ("raise", "failed", "RuntimeError: no luck"),
        ("three", "failed", "(3, 2000)"),
        ("short", "failed", "(2, 1999)"),
        ("nan", "failed", "1 samples of 4000"),
        ("labels", "failed", "1 labels"),
    ],
)
def test_what_goes_wrong_is_a_row_and_the_run_goes_on(
    tmp_path: Path, way: str, status: str, reason: str
) -> None:
    path = here([contender("naughty", Naughty, way=way), contender("floor")], tmp_path)
    for row in table(path):
        if row["separator"] == "floor":
            assert row["status"] == "ok"
        else:
            assert row["status"] == status
            assert reason in row["reason"]
            assert row["si_sdr"] == row["permutation"] == row["compute_seconds"] == ""
            assert row["si_sdr_mixture"] != ""  # the mixture has its scores whatever the method does


def test_a_silent_reference_is_excluded_for_every_method_and_the_other_is_scored(tmp_path: Path) -> None:
    contenders = [
        contender("swapped", Leaky, leak=0.0, swap=True),
        contender("naughty", Naughty, way="raise"),
    ]
    found = rows.read(here(contenders, tmp_path, OrthogonalSet(silent=(1,), noise=0.5)))
    excluded = [row for row in found if row.status == "excluded"]
    assert [(row.separator, row.mixture_id, row.source) for row in excluded] == [
        ("swapped", "mix,001", 2),
        ("naughty", "mix,001", 2),
    ]
    assert all(math.isnan(value) for row in excluded for value in row.scores.values())
    assert "nan" not in (tmp_path / "rows.csv").read_text().lower()
    heard = next(r for r in found if (r.separator, r.mixture_id, r.source) == ("swapped", "mix,001", 1))
    assert heard.scores["si_sdr"] > 100
    assert heard.permutation == 2


def test_a_source_that_is_all_of_its_mixture_is_excluded(tmp_path: Path) -> None:
    path = here(
        [contender("floor")], tmp_path, OrthogonalSet(silent=(0, 3)), measures=scoring.DEFAULT_MEASURES
    )
    excluded = [row for row in rows.read(path) if row.status == "excluded"]
    assert all(math.isnan(value) for row in excluded for value in row.mixture_scores.values())
    found = [(row.mixture_id, row.source, row.reason) for row in excluded]
    reasons = ("the mixture holds nothing but this source", "the reference is silent")
    assert found == [(name, n + 1, reasons[n]) for name in ("mix,000", "mix,003") for n in (0, 1)]


def test_a_silent_estimate_is_scored_and_remarked_on(tmp_path: Path) -> None:
    found = rows.read(here([contender("naughty", Naughty, way="silent")], tmp_path, limit=1))
    silent = [row for row in found if row.permutation == 2]
    assert [(row.status, row.reason) for row in silent] == [("ok", "the estimate is silent")]
    assert silent[0].scores["si_sdr"] == pytest.approx(-120, abs=0.1)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    whole = here([contender("counted", Counted, log=log), contender("floor")], tmp_path / "whole")
    log.unlink()
    with pytest.raises(KeyboardInterrupt):
        here([contender("counted", Counted, log=log, fails_at=2), contender("floor")], tmp_path / "parts")
    assert {row.mixture_id for row in rows.read(tmp_path / "parts/rows.csv")} == {"mix,000", "mix,001"}
    parts = here([contender("counted", Counted, log=log), contender("floor")], tmp_path / "parts")
    assert untimed(parts) == untimed(whole)
    assert len(log.read_text().splitlines()) == 4  # none twice
    before = parts.read_bytes()
    here([contender("counted", Counted, log=log), contender("floor")], tmp_path / "parts")
    assert parts.read_bytes() == before
    assert len(provenance.read(parts)["runs"]) == 2  # the third had nothing to do


def test_a_limit_can_be_raised(tmp_path: Path) -> None:
    contenders = [contender("leaky", Leaky), contender("floor")]
    here(contenders, tmp_path / "parts", limit=2)
    parts, whole = here(contenders, tmp_path / "parts"), here(contenders, tmp_path / "whole")

    def key(row: dict[str, str]) -> tuple[str, ...]:
        return row["separator"], row["mixture_id"], row["source"]

    assert sorted(untimed(parts), key=key) == sorted(untimed(whole), key=key)


def test_a_mixture_that_was_written_in_part_is_dropped_and_computed_again(tmp_path: Path) -> None:
    contenders = [contender("leaky", Leaky)]
    path = here(contenders, tmp_path, OrthogonalSet(n=2))
    expected, content = untimed(path), path.read_bytes()
    lines = content.splitlines(keepends=True)
    last_mixture = len(content) - len(lines[-1]) - len(lines[-2])
    for cut in {0, 7, len(lines[0]), last_mixture, *range(last_mixture + 1, len(content), 13)}:
        path.write_bytes(content[:cut])
        kept = rows.read(path)
        assert [row.source for row in kept] == ([1, 2] if cut >= last_mixture else [])
        here(contenders, tmp_path, OrthogonalSet(n=2))
        assert untimed(path) == expected


def test_a_broken_line_in_the_middle_is_told_with_its_number(tmp_path: Path) -> None:
    path = here([contender("leaky", Leaky)], tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace("ok", "okay")
    path.write_text("".join(lines))
    with pytest.raises(SepnetError, match="line 4"):
        rows.read(path)


def test_rows_of_other_data_measures_settings_or_versions_are_refused(tmp_path: Path) -> None:
    first = Contender("floor", Identity, version="a")
    path = here([first], tmp_path)
    before = path.read_bytes()
    with pytest.raises(SepnetError, match=r"other data.*orthogonal-1.*orthogonal-2"):
        here([first], tmp_path, OrthogonalSet(fingerprint="orthogonal-2"))
    with pytest.raises(SepnetError, match="measures"):
        here([first], tmp_path, measures=("si_sdr",))
    with pytest.raises(SepnetError, match="consistent=False, but now it is consistent=True: give another"):
        here([first], tmp_path, settings=PipelineSettings())
    with pytest.raises(SepnetError, match="version 'a', but now it is 'b'"):
        here([Contender("floor", Identity, version="b")], tmp_path)
    provenance.beside(path).unlink()
    with pytest.raises(SepnetError, match=r"no provenance\.json"):
        here([first], tmp_path)
    assert path.read_bytes() == before


def test_arguments_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    floor = contender("floor")
    for match, contenders, options in (
        ("several are called", [floor, floor], {}),
        ("another process", [Contender("floor", lambda: Identity())], {}),
        ("no measure", [floor], {"measures": ("si_sdri",)}),
        ("nothing to score", [floor], {"limit": 0}),
        ("n_processes", [floor], {"n_processes": -1}),
    ):
        with pytest.raises(SepnetError, match=match):
            here(contenders, tmp_path, **options)
    assert not (tmp_path / "rows.csv").exists()
    for name in ("", "a/b", "..", "a\n"):
        with pytest.raises(SepnetError, match="file name"):
            contender(name)


def test_a_mixture_is_scored_once_for_all_separators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Tensor] = []
    original = scoring.MEASURES["snr"]

    def counting(estimates: Tensor, references: Tensor, sample_rate: int) -> list[float]:
        measured.append(estimates)
        return original(estimates, references, sample_rate)

    monkeypatch.setitem(scoring.MEASURES, "snr", counting)
    contenders = [contender(name, Leaky) for name in ("a", "b", "c")]
    here(contenders[:1], tmp_path)
    here(contenders, tmp_path)
    of_sources = [estimates for estimates in measured if len(estimates) == 2]  # the warm-ups have one
    assert len(of_sources) == 4 + 3 * 4
    found = rows.read(tmp_path / "rows.csv")
    assert [r.mixture_scores for r in found[:8]] == [r.mixture_scores for r in found[16:]]


def test_parameters_are_counted_once_through_any_wrapper() -> None:
    class Network(nn.Module):
        info = SeparatorInfo()

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)
            self.tied = self.layer

        def separate(self, mixture: Mixture) -> Separation:
            raise NotImplementedError

    class Wrapper(Identity):
        def __init__(self, *inner: Any) -> None:
            self.inner, self.itself = inner, self

    network = Network()
    assert count_parameters(network) == 16
    assert count_parameters(Wrapper(Wrapper(network), network, Network())) == 32
    assert count_parameters(Identity()) == 0


@pytest.fixture(name="preloaded")
def _preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes come from a server that has imported everything once; spawned, each imports it again."""
    context = multiprocessing.get_context("forkserver")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    )  # where the server, once started, looks for what it is to import
    context.set_forkserver_preload(["training_fixtures"])
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)


@pytest.mark.usefixtures("preloaded")
def test_processes_give_the_rows_of_one_process_and_a_killed_one_is_told(tmp_path: Path) -> None:
    mixtures, good = OrthogonalSet(silent=(2,)), contender("leaky", Leaky, swap=True)
    here([good], tmp_path / "here", mixtures)
    bad = [contender("killed", Naughty, way="die"), Contender("unloadable", unloadable)]
    with pytest.raises(SepnetError, match=r"killed: a process was.*; unloadable cannot.*: no weights here"):
        here([*bad, good], tmp_path / "there", mixtures, n_processes=2)
    assert untimed(tmp_path / "there/rows.csv") == untimed(tmp_path / "here/rows.csv")
    assert not multiprocessing.active_children()
    assert all(0 <= (row.peak_memory_mb or 0) < 30 for row in rows.read(tmp_path / "there/rows.csv"))


@pytest.mark.usefixtures("preloaded")
def test_ctrl_c_ends_the_processes_and_keeps_the_rows(tmp_path: Path) -> None:
    path, rows_before = tmp_path / "rows.csv", 1 + 2 * 30

    def interrupt() -> None:
        """As a terminal does, which signals children too: they leave it to the parent, and go on."""
        while not path.exists():
            time.sleep(0.01)
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGINT)
        while len(path.read_text().splitlines()) < rows_before:
            time.sleep(0.01)
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    interrupted: list[float] = []
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        here([contender("sleepy", Sleepy, mixtures=30)], tmp_path, OrthogonalSet(n=100), n_processes=1)
    assert time.monotonic() - interrupted[0] < 60
    assert not multiprocessing.active_children()
    assert [row.status for row in rows.read(path)] == ["ok"] * 60


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux alone")
def test_peak_memory_is_what_separating_took(tmp_path: Path) -> None:
    found = rows.read(here([contender("large", Naughty, way="allocate")], tmp_path, limit=2))
    assert [row.peak_memory_mb for row in found] == pytest.approx([200, 200, 0, 0], abs=10)


def test_the_cost_is_measured_on_the_first_mixtures_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    naughty = contender("naughty", Naughty, way="refuse")
    path = here([contender("counted", Counted, log=log), naughty], tmp_path, cost_mixtures=2)
    assert len(log.read_text().splitlines()) == 4 + 2 * 2  # two are separated twice more
    for row in rows.read(path):
        measured = row.separator == "counted" and row.mixture_id in ("mix,000", "mix,001")
        assert (row.two_thread_seconds is not None) == measured
        assert row.macs_per_second == (0 if measured else None)


@pytest.mark.usefixtures("preloaded")
def test_a_cost_is_measured_in_another_process_too(tmp_path: Path) -> None:
    path = here([contender("floor")], tmp_path, n_processes=1, cost_mixtures=1, limit=1)
    assert [row.macs_per_second for row in rows.read(path)] == [0, 0]
    assert all((row.two_thread_seconds or 0) > 0 for row in rows.read(path))


def test_rows_tell_what_the_mixture_is_like(tmp_path: Path) -> None:
    for row in rows.read(here([contender("floor")], tmp_path)):
        weaker_db = int(row.mixture_id[-3:]) + 1
        assert row.level_difference_db == pytest.approx(
            weaker_db if row.source == 1 else -weaker_db, abs=1e-3
        )
        assert (row.overlap, row.sexes) == (1, "")  # this set does not know who speaks


@dataclass(frozen=True)
class Voices(OrthogonalSet):
    """Knows who speaks in all mixtures but the first."""

    def sexes(self, index: int) -> tuple[str, ...]:
        return ("m", "f") if index else ("m", "")


def test_sexes_are_told_where_each_is_known(tmp_path: Path) -> None:
    found = rows.read(here([contender("floor")], tmp_path, Voices(n=2)))
    assert [row.sexes for row in found] == ["", "", "f+m", "f+m"]


@pytest.mark.parametrize(
    ("column", "other"), [("seconds", "minutes"), ("overlap,", ""), ("source", "source,more")]
)
def test_a_file_with_other_columns_is_refused(tmp_path: Path, column: str, other: str) -> None:
    contenders = [contender("leaky", Leaky)]
    path = here(contenders, tmp_path)
    path.write_text(path.read_text().replace(column, other, 1))
    before = path.read_bytes()
    with pytest.raises(SepnetError, match="made by another program"):
        rows.read(path)
    with pytest.raises(SepnetError, match="made by another program"):
        here(contenders, tmp_path)
    assert path.read_bytes() == before


def test_what_failed_is_tried_again_when_asked_for(tmp_path: Path) -> None:
    log, floor = tmp_path / "log", contender("floor")
    refusing = contender("refusing", Naughty, way="refuse")
    fails = contender("counted", Counted, log=log, fails_at=2, error=RuntimeError)  # at the third and fourth
    works = contender("counted", Counted, log=log)
    here([fails, refusing, floor], tmp_path)
    path = here([works, refusing, floor], tmp_path)
    before = rows.read(path)
    assert [row.status for row in before[:8]] == ["ok"] * 4 + ["failed"] * 4
    here([works, refusing, floor], tmp_path, retry_failed=True)
    after = rows.read(path)
    assert [(row.separator, row.status) for row in after[:8]] == [("counted", "ok")] * 8
    assert after[:4] + after[8:] == [row for row in before if row.status != "failed"]
    assert len(log.read_text().splitlines()) == 4


class Broken(Counts):
    """Separates, but can't count."""

    def estimate_n_sources(self, mixture: Mixture) -> int:
        raise RuntimeError("no fingers")


def test_a_failure_to_count_is_told_and_loses_no_score(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Broken cannot count: RuntimeError: no fingers"):
        read = rows.read(here([contender("broken", Broken)], tmp_path))
    assert {(row.status, row.n_estimated) for row in read} == {("ok", None)}


class Asked(OrthogonalSet):
    """Only the first source is asked for, by its query; made at two levels."""

    def __getitem__(self, index: int) -> Mixture:
        mixture = super().__getitem__(index)
        return replace(mixture, queries=mixture.queries[:1], is_target=(True, False))

    def condition(self, index: int) -> str:
        return ("+5 dB", "-5 dB")[index % 2]


class OneFound(Leaky):
    """Told one query: that source, with some of the other, and the residual."""

    info = SeparatorInfo(needs=frozenset({"queries"}))

    def separate(self, mixture: Mixture) -> Separation:
        assert mixture.queries is not None
        (query,) = mixture.queries
        assert mixture.is_target is None
        target = query.audio + self.leak * (mixture.audio[0] - query.audio)
        return Separation(torch.stack([target, mixture.audio[0] - target]), ("it", "residual"))


def test_only_what_is_asked_for_is_judged_for_every_method_alike(tmp_path: Path) -> None:
    contenders = [
        Contender("identity", Identity),
        Contender("one", OneFound),
        Contender("leaky", Leaky),
    ]
    found = rows.read(
        run(contenders, Asked(), tmp_path / "rows.csv", n_processes=0, measures=FAST, progress=False)
    )
    assert len(found) == 3 * 4 * 2
    for row in found:
        if row.source == 1:
            assert row.status == "ok"
        else:
            assert (row.status, row.reason) == ("excluded", "no query asks for this source")
            assert math.isnan(row.scores["si_sdr"])
    gains = {line.name: line.scores["si_sdr_improvement"] for line in lines(found)}
    assert gains["identity"].mean == pytest.approx(0.0, abs=1e-3)
    assert gains["one"].mean == pytest.approx(20.0, abs=1e-2)  # a leak of a tenth of the other
    assert gains["leaky"].n == 4


def test_conditions_are_told_and_break_the_table_down_by_their_number(tmp_path: Path) -> None:
    contenders = [Contender("identity", Identity), Contender("one", OneFound)]
    path = run(contenders, Asked(), tmp_path / "rows.csv", n_processes=0, measures=FAST, progress=False)
    found = rows.read(path)
    assert {row.mixture_id[-1]: row.condition for row in found} == {
        "0": "+5 dB",
        "1": "-5 dB",
        "2": "+5 dB",
        "3": "-5 dB",
    }
    part = next(part for part in breakdowns(lines(found)) if part.facet.key == "condition")
    assert [(each.label, each.n_mixtures) for each in part.bins] == [("-5 dB", 2), ("+5 dB", 2)]
    plain = run([Contender("identity", Identity)], OrthogonalSet(), tmp_path / "plain.csv", n_processes=0,
                measures=FAST, progress=False)  # fmt: skip
    assert {row.condition for row in rows.read(plain)} == {""}


def test_examples_and_training_judge_what_is_asked_for(tmp_path: Path) -> None:
    rows_csv = tmp_path / "rows.csv"
    contender = Contender("one", OneFound)
    run([contender], Asked(), rows_csv, n_processes=0, measures=FAST, progress=False)
    for example in read_examples(examples(rows_csv, contender, Asked())):
        assert not example.differs
        assert example.improvements[1] is None
    gain = si_sdr_gain(OneFound(), Asked()[1])
    assert float(gain) == pytest.approx(20.0, abs=1e-2)
