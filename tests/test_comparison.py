"""Pairs, parts and joined results against closed forms and independent counts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from sepnet.artifact import config_folder
from sepnet.cli import evaluate
from sepnet.evaluation import provenance
from sepnet.evaluation import rows as rows_file
from sepnet.evaluation.breakdown import FACETS, breakdowns, round_edges
from sepnet.evaluation.comparison import compare, holm, signed_rank
from sepnet.evaluation.join import join
from sepnet.evaluation.rows import Row
from sepnet.evaluation.statistics import summarise
from sepnet.evaluation.table import lines
from sepnet.evaluation.text import sentence
from sepnet.types import SepnetError

MEASURES = ("si_sdr",)


def scores(values: Sequence[float]) -> dict[str, float]:
    return {f"m{index}": float(value) for index, value in enumerate(values)}


# ---------------------------------------------------------------- pairs


def test_the_corrected_p_is_that_of_holms_own_steps() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with_nan = holm([0.01, math.nan, 0.03])
    assert with_nan[::2] == pytest.approx([0.02, 0.03])  # what is no test costs nothing
    assert math.isnan(with_nan[1])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_signed_rank_test_has_its_exact_p_in_small_samples() -> None:
    # All of n differences on one side: 2 of the 2^n ways to set the signs are as extreme.
    assert signed_rank(np.array([0.3, 1.0, 2.0, 0.1, 0.7])) == pytest.approx(2 / 2**5)
    # The smallest of four on the other side: rank sums 1 and 9, reached by 4 of 16 ways.
    assert signed_rank(np.array([-0.1, 1.0, 2.0, 3.0])) == pytest.approx(4 / 16)
    assert signed_rank(np.zeros(7)) == 1.0
    assert math.isnan(signed_rank(np.array([1.0])))


def test_a_pair_is_compared_on_the_mixtures_that_both_scored() -> None:
    first = scores(np.arange(10.0))
    second = {name: value - 1.25 for name, value in first.items()} | {"other": 99.0}
    del second["m3"]
    (pair,) = compare({"worse": second, "better": first})
    assert (pair.better, pair.worse, pair.n) == ("better", "worse", 9)
    assert (pair.mean, pair.low, pair.high) == pytest.approx((1.25, 1.25, 1.25))
    words = replace(pair, mean=1.26, low=-0.04, high=1.5)
    assert sentence(words) == "better beats worse by 1.3 dB [0.0, 1.5]"
    turned = pair.from_side_of("worse")
    assert (turned.mean, turned.better, turned.worse) == (-1.25, "worse", "better")
    assert turned.from_side_of("better") == pair
    assert compare({"first": first, "stranger": {"elsewhere": 1.0}}) == []


def test_the_interval_is_that_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 5, 80)  # a hard mixture is hard for both
    a, b = shared + rng.normal(1.0, 1, 80), shared + rng.normal(0, 1, 80)
    (pair,) = compare({"a": scores(a), "b": scores(b)})
    expected = summarise(a - b)
    assert (pair.mean, pair.low, pair.high) == pytest.approx((expected.mean, expected.low, expected.high))
    assert pair.high - pair.low < 0.7  # unpaired it would be 3.1
    assert pair.differs
    (again,) = compare({"b": scores(b), "a": scores(a)})
    assert (again.better, again.mean, again.p) == ("a", pytest.approx(pair.mean), pytest.approx(pair.p))


def test_what_does_not_differ_is_seldom_told_to_differ() -> None:
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(100):
        equals = {name: scores(rng.normal(size=25)) for name in "abcde"}
        wrong += any(pair.differs for pair in compare(equals))
    assert wrong <= 12  # 5 expected at most; without the correction 35 and more
    (pair,) = compare({"a": scores([1.0, 2.0, 3.0]), "b": scores([1.0, 2.0, 3.0])})
    assert sentence(pair) == "a and b do not differ significantly: 0.0 dB [0.0, 0.0]"


# ---------------------------------------------------------------- parts


def row(separator: str, index: int, source: int, gain: float, **facts: object) -> Row:
    return Row(
        **{  # type: ignore[arg-type]
            "separator": separator,
            "mixture_id": f"m{index}",
            "source": source,
            "n_sources": 2,
            "seconds": 3.0,
            "sample_rate": 8000,
            "status": "ok",
            "reason": "",
            "permutation": source,
            "scores": {"si_sdr": gain},
            "mixture_scores": {"si_sdr": 0.0},
            "compute_seconds": 1.0,
            "peak_memory_mb": 1.0,
            "parameters": 0,
            "role": "method",
        }
        | facts
    )


def test_a_table_is_broken_down_by_what_varies_alone() -> None:
    voices = ("f+f", "f+m", "m+m")
    found = [
        row("a", index, source, 10.0 * (index % 3) + index, sexes=voices[index % 3], overlap=0.5)
        for index in range(30)
        for source in (1, 2)
    ]
    (part,) = breakdowns(lines(found))
    assert (part.facet.key, [each.label for each in part.bins]) == ("sexes", list(voices))
    assert [each.n_mixtures for each in part.bins] == [10, 10, 10]
    # Mixtures k, k + 3, ... k + 27: 10 k and their own mean, k + 13.5
    assert [summary.mean for summary in part.scores["a"]] == pytest.approx([13.5, 24.5, 35.5])
    assert [summary.n for summary in part.scores["a"]] == [10, 10, 10]


def test_bins_of_numbers_hold_each_source_once_and_mixtures_as_they_are() -> None:
    rng = np.random.default_rng(0)
    seconds = rng.uniform(2, 12, 40)
    found = [
        row("a", index, source, seconds[index], seconds=seconds[index], overlap=seconds[index] / 20)
        for index in range(40)
        for source in (1, 2)
    ]
    found += [row("fails", 0, source, 0.0, status="failed") for source in (1, 2)]
    parts = {part.facet.key: part for part in breakdowns(lines(found))}
    assert set(parts) == {"seconds", "overlap"}
    assert set(parts["seconds"].scores) == {"a"}
    for part in parts.values():
        assert sum(each.n_mixtures for each in part.bins) == 40
        assert len(part.bins) == 4
        assert min(each.n_mixtures for each in part.bins) >= 5
    means = [summary.mean for summary in parts["seconds"].scores["a"]]
    edges = [float(each.label.split()[-2]) for each in parts["seconds"].bins[:-1]]
    assert edges == [float(f"{edge:g}") for edge in edges] == sorted(edges)
    bounds = [0.0, *edges, 99.0]
    expected = [seconds[(seconds >= low) & (seconds < high)].mean() for low, high in pairwise(bounds)]
    assert means == pytest.approx(expected)


def test_a_level_difference_is_of_a_source_and_not_of_its_mixture() -> None:
    found = [
        row("a", index, source, gain, level_difference_db=sign * (1 + index / 10))
        for index in range(20)
        for source, sign, gain in ((1, 1, 2.0), (2, -1, 8.0))
    ]
    (part,) = breakdowns(lines(found))
    assert part.facet.key == "level"
    means = [summary.mean for summary in part.scores["a"]]
    assert means == sorted(means, reverse=True)
    assert {2.0, 8.0} == set(means)  # no bin holds both
    assert sum(len(each.members) for each in part.bins) == 40


def test_edges_are_round_lie_inside_and_are_few_where_mixtures_are() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e4):
        values = rng.normal(size=300) * scale
        edges = round_edges(values, 300)
        assert len(edges) == 3
        assert all(len(f"{abs(edge):.3e}".split("e")[0].rstrip("0").rstrip(".")) <= 4 for edge in edges)
        counts = np.histogram(values, [-np.inf, *edges, np.inf])[0]
        assert min(counts) > 0.15 * 300
    assert len(round_edges(np.arange(10.0), 10)) == 1
    assert round_edges(np.arange(9.0), 9) == []
    assert round_edges(np.full(50, 0.1), 50) == []


def test_edges_are_found_where_the_range_of_the_quartiles_is_a_power_of_ten_but_for_rounding() -> None:
    values = np.repeat([1.03, 1.63], 20)
    assert (1.63 - 1.03) / 6 < 0.1  # the steps that its range would have
    assert round_edges(values, 40) == pytest.approx([1.3, 1.6])


def test_every_facet_can_be_told_from_a_row() -> None:
    told = row("a", 0, 1, 1.0, sexes="f+m", overlap=0.25, level_difference_db=-3.0, condition="0 dB")
    assert [facet.value(told) for facet in FACETS] == ["f+m", "0 dB", -3.0, 0.25, "2", 3.0]
    unknown = row("a", 0, 1, 1.0)
    assert [facet.value(unknown) for facet in FACETS][:3] == [None, None, None]


# ---------------------------------------------------------------- joined


def evaluation(folder: Path, found: Sequence[Row], **content: object) -> Path:
    folder.mkdir(parents=True)
    rows_file.append(folder / "rows.csv", found, MEASURES)
    names = {each.separator for each in found}
    origin = {
        "data_fingerprint": "f00",
        "mixtures": 3,
        "measures": list(MEASURES),
        "pipeline": {
            "chunk_seconds": 45.0, "overlap_seconds": 3.0, "full_band": True, "consistent": True,
            "device": "cpu",
        },
        "versions": {name: f"v-{name}" for name in names},
        "runs": [{"written": "2026-01-02", "packages": {"torch": "9.9"}, "python": "3.12", "git_commit": None,
                  "platform": "Linux", "cpu": "Abacus", "cpus": 2, "gpu": None, "processes": 1,
                  "threads_per_process": 1}],
    }  # fmt: skip
    provenance.write(folder / "rows.csv", origin | content)
    return folder / "rows.csv"


def three(separator: str, gain: float) -> list[Row]:
    return [row(separator, index, source, gain + index) for index in range(3) for source in (1, 2)]


def test_joined_results_are_the_rows_of_all_each_pair_once(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", [*three("floor", 0.0), *three("one", 5.0)])
    longer = [*three("floor", 0.0), row("floor", 9, 1, 1.0), row("floor", 9, 2, 1.0), *three("two", 7.0)]
    evaluation(tmp_path / "b", longer)
    (tmp_path / "b/examples/two").mkdir(parents=True)
    page = join([first, tmp_path / "b"], tmp_path / "both")
    found = rows_file.read(tmp_path / "both/rows.csv")
    assert sorted(map(repr, found)) == sorted(
        map(repr, [*three("floor", 0.0), *three("one", 5.0), *longer[6:]])
    )
    assert "two beats one" in page.read_text() or "two and one do not differ" in page.read_text()
    origin = provenance.read(page.with_name("rows.csv"))
    assert origin["versions"] == {"floor": "v-floor", "one": "v-one", "two": "v-two"}
    assert len(origin["runs"]) == 1  # the same in both
    assert (tmp_path / "both/examples/two").is_dir()
    before = (tmp_path / "both/rows.csv").read_bytes()
    join([first, tmp_path / "b"], tmp_path / "both")
    assert (tmp_path / "both/rows.csv").read_bytes() == before


def test_what_does_not_compare_is_not_joined(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", three("one", 5.0))
    other = evaluation(tmp_path / "b", three("two", 5.0), data_fingerprint="ba5")
    with pytest.raises(SepnetError, match=r"a/rows.csv.*f00.*b/rows.csv.*ba5"):
        join([first, other], tmp_path / "out")
    clash = evaluation(tmp_path / "c", three("one", 5.0), versions={"one": "v2"})
    with pytest.raises(SepnetError, match=r"one is version 'v-one' in .*a/rows.csv, but 'v2' in .*c/rows"):
        join([first, clash], tmp_path / "out")
    other = evaluation(
        tmp_path / "settings",
        three("two", 5.0),
        pipeline={"full_band": True, "consistent": False, "device": "cpu"},
    )
    with pytest.raises(
        SepnetError, match=r"settings of the pipeline than .*a/rows.csv \(.*consistent=False,"
    ):
        join([first, other], tmp_path / "out")
    with pytest.raises(SepnetError, match="no file"):
        join([first, tmp_path / "none"], tmp_path / "out")
    unknown = evaluation(tmp_path / "d", three("three", 5.0))
    provenance.beside(unknown).unlink()
    with pytest.raises(SepnetError, match=r"no provenance\.json"):
        join([first, unknown], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SepnetError, match="an evaluation that is no join"):
        join([first], tmp_path / "b")
    nameless = evaluation(tmp_path / "e", three("one", 5.0), versions={"one": ""})
    join([nameless, first], tmp_path / "out")  # a version that is not known clashes with none
    with pytest.raises(SepnetError, match="an evaluation that is no join"):
        join([tmp_path / "out", first], tmp_path / "out")


def test_measures_that_a_file_lacks_are_undefined_there(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", three("one", 5.0))
    folder = tmp_path / "b"
    folder.mkdir()
    both = [replace(each, scores={"si_sdr": 1.0, "snr": 2.0}) for each in three("two", 1.0)]
    rows_file.append(folder / "rows.csv", both, ("si_sdr", "snr"))
    origin = json.loads(provenance.beside(first).read_text()) | {"versions": {"two": ""}}
    provenance.write(folder / "rows.csv", origin)
    join([first, folder], tmp_path / "both")
    assert rows_file.measures_of(tmp_path / "both/rows.csv") == ("si_sdr", "snr")
    found = {each.separator: each.scores["snr"] for each in rows_file.read(tmp_path / "both/rows.csv")}
    assert math.isnan(found["one"])
    assert found["two"] == 2.0


def test_results_are_joined_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        str(evaluation(tmp_path / name, three(name, gain))) for name, gain in (("one", 5.0), ("two", 7.0))
    ]
    config = OmegaConf.load(config_folder() / "eval.yaml")
    del config["defaults"]
    config.compare = paths
    with pytest.raises(SepnetError, match="out="):
        evaluate.run(config)
    config.out = str(tmp_path / "both")
    evaluate.run(config)
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split()[1] for line in table[2:]] == ["two", "one"]
