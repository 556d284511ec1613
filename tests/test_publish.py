"""Curves are read from what runs log, and tables land between their marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

import sepnet
from sepnet import artifact, paths
from sepnet.cli.publish import WeightsSettings, publish, ship
from sepnet.data.fixed_set import FixedSet
from sepnet.data.librimix import DrawnList, LibriMixList
from sepnet.data.manifest import Manifest, Utterance
from sepnet.evaluation import provenance
from sepnet.evaluation import rows as rows_file
from sepnet.evaluation.curves import curves_figure, curves_table, read_curve
from sepnet.evaluation.insert import insert
from sepnet.evaluation.publish import weights_table
from sepnet.evaluation.published import FIGURES, published_table
from sepnet.evaluation.report import report
from sepnet.evaluation.rows import Role, Row
from sepnet.evaluation.shipping import Bounds
from sepnet.evaluation.variants import changes
from sepnet.metrics import si_sdr
from sepnet.settings import parse
from sepnet.training.task import si_sdr_gain
from sepnet.types import Mixture, Query, SepnetError

SPEECH = Path(__file__).parents[2] / "shared" / "audio" / "speech8k"
HEADER = "epoch,step,train/audio_seconds_per_second,train/hours_of_audio,train/minutes,val/si_sdri\n"


def typed(weights: DictConfig) -> WeightsSettings:
    """The settings of a file of conf/weights."""
    container = OmegaConf.to_container(weights, resolve=True)
    return parse(WeightsSettings, {str(name): value for name, value in dict(container).items()})


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
    with pytest.raises(SepnetError, match="has no validation"):
        read_curve(tmp_path)


def settings(page: Path, **changes: object) -> DictConfig:
    """conf/publish.yaml for a page, with some other values."""
    config = OmegaConf.load(artifact.config_folder() / "publish.yaml")
    assert isinstance(config, DictConfig)
    del config["defaults"]
    config.page = str(page)
    return OmegaConf.merge(config, {"weights": None, **changes})  # type: ignore[return-value]


def scored_row(separator: str, mixture: int, source: int, gain_db: float, role: Role) -> Row:
    return Row(
        separator=separator,
        mixture_id=f"m{mixture}",
        source=source,
        n_sources=2,
        seconds=2.0,
        sample_rate=8000,
        status="ok",
        reason="",
        permutation=source,
        scores={"si_sdr": gain_db + mixture, "sdr": 2 * gain_db + 1},
        mixture_scores={"si_sdr": 0.0, "sdr": 1.0},
        compute_seconds=0.5,
        peak_memory_mb=12.4,
        parameters=0,
        role=role,
        macs_per_second=2e9,
    )


METHODS: dict[str, tuple[float, Role]] = {
    "identity": (-1.0, "floor"),
    "tiny": (5.0, "method"),
    "n_m_f": (3.0, "method"),
    "irm": (12.0, "ceiling"),
}


def evaluation(folder: Path, *names: str, n_mixtures: int = 3) -> Path:
    """Mixtures of two sources; the mean gain of three over identity's is that of METHODS plus one."""
    rows = [
        scored_row(name, mixture, source, *METHODS[name])
        for name in names or METHODS
        for mixture in range(n_mixtures)
        for source in (1, 2)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    rows_file.append(folder / "rows.csv", rows, ("si_sdr", "sdr"))
    run = {"written": "2026-01-02", "packages": {"torch": "9.9"}, "python": "3.12", "git_commit": "c0ffee",
           "platform": "Linux", "cpu": "Abacus", "cpus": 2, "gpu": None, "processes": 1,
           "threads_per_process": 1}  # fmt: skip
    origin = {
        "data_fingerprint": "f00",
        "mixtures": n_mixtures,
        "measures": ["si_sdr", "sdr"],
        "versions": {},
        "runs": [run],
    }
    provenance.write(folder / "rows.csv", origin)
    return folder


ORIGIN = "Data f00; commit c0ffee; torch 9.9; Abacus, 2 cores."
SUMMARY = [
    "| Method | SI-SDRi (dB) | SDRi (dB) | Parameters (M) | GMAC per s | Real-time factor "
    "| Memory (MiB) | Scored |",
    "|:--|--:|--:|--:|--:|--:|--:|--:|",
    "| identity (floor) | 0.00 [MINUS1.00, 1.00] | MINUS2.0 | 0.00 | 2 | 0.25 | 12 | 6 of 6 |",
    "| tiny | 6.00 [5.00, 7.00] | 10.0 | 0.00 | 2 | 0.25 | 12 | 6 of 6 |",
    "| n\\_m\\_f | 4.00 [3.00, 5.00] | 6.0 | 0.00 | 2 | 0.25 | 12 | 6 of 6 |",
    "| irm (ceiling) | 13.00 [12.00, 14.00] | 24.0 | 0.00 | 2 | 0.25 | 12 | 6 of 6 |",
]
SUMMARY = [line.replace("MINUS", "\N{MINUS SIGN}") for line in SUMMARY]


def between(page: Path, mark: str) -> list[str]:
    """The lines between two marks of a page."""
    return page.read_text().split(f"<!-- {mark} -->\n")[1].split(f"\n<!-- /{mark} -->")[0].splitlines()


def test_tables_go_between_their_marks_and_are_made_of_the_rows(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"before\n<!-- {mark} -->\nold\n<!-- /{mark} -->\nafter\n" for mark in "ab"))
    folders = {"a": evaluation(tmp_path / "one"), "b": evaluation(tmp_path / "two", "identity", "irm")}
    evaluations = {mark: str(folder) for mark, folder in folders.items()}
    publish(settings(page, evaluations=evaluations))
    assert between(page, "a") == [*SUMMARY, "", ORIGIN]
    assert between(page, "b") == [*SUMMARY[:3], SUMMARY[5], "", ORIGIN]
    assert page.read_text().startswith("before\n<!-- a -->")
    publish(settings(page, evaluations={"b": evaluations["a"]}, columns="full"))
    report(folders["a"] / "rows.csv")
    assert "\n".join(between(page, "b")) in (folders["a"] / "report.md").read_text()
    assert "OK | Excluded | Refused | Failed |" in between(page, "b")[0]
    assert "\n".join(SUMMARY) in (folders["a"] / "summary.md").read_text()
    assert between(page, "a") == [*SUMMARY, "", ORIGIN]
    with pytest.raises(SepnetError, match=r"rows\.csv: evaluate first \(sepnet eval\)"):
        publish(settings(page, evaluations={"a": str(tmp_path)}))


def test_a_short_table_has_the_methods_that_are_named_in_the_order_of_the_report(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- results -->\n<!-- /results -->\n")
    evaluations = {"results": str(evaluation(tmp_path / "one"))}
    publish(settings(page, evaluations=evaluations, columns="short", methods=["irm", "n_m_f", "identity"]))
    expected = [" | ".join(SUMMARY[k].split(" | ")[:6]) + " |" for k in (0, 2, 4, 5)]
    assert between(page, "results") == [expected[0], "|:--|--:|--:|--:|--:|--:|", *expected[1:], "", ORIGIN]
    with pytest.raises(
        SepnetError, match="has no row nmf: evaluate it first, or name some of identity, irm,"
    ):
        publish(settings(page, evaluations=evaluations, methods=["nmf"]))


# Variants

DENSE = {"_target_": "a.Dense", "width": 8, "kernel": 3}


@pytest.mark.parametrize(
    ("network", "features", "told"),
    [
        (DENSE, "magnitude", []),
        (DENSE | {"width": 16}, "magnitude", ["network.width=16"]),
        ({"_target_": "a.Dense", "width": 8}, "magnitude", ["network.kernel=None"]),
        (DENSE | {"depth": 2}, "log", ["network.depth=2", "features=log"]),
        ({"_target_": "b.Recurrent", "hidden": 4}, "magnitude", ["network=Recurrent"]),
    ],
)
def test_changes_are_what_differs(network: dict[str, object], features: str, told: list[str]) -> None:
    base = {"network": DENSE, "features": "magnitude"}
    assert list(changes(base, {"network": network, "features": features})) == told


def test_variants_come_with_what_they_reached_and_cost(
    tmp_path: Path, trained: tuple[Path, DictConfig]
) -> None:
    run, _ = trained
    start(run, 0, [(100, 5.0, 1.25), (200, 10.0, 2.5)])
    wide = tmp_path / "wide"
    config = artifact.read_config(run)
    config.model.network.n_channels = 16
    separator = artifact.build(config.model)
    artifact.save(separator, wide, config=config, metrics={}, data_fingerprint="f00")
    start(wide, 0, [(150, 10.0, 3.5)])
    page = tmp_path / "page.md"
    page.write_text("<!-- variants -->\n<!-- /variants -->\n")
    publish(settings(page, variants=[str(run), str(wide)]))
    _, _, _, best, second, _ = page.read_text().splitlines()
    assert best.startswith("| `network.n_channels=16` | 3.50 | 10.0 | 150 | ")
    assert second.startswith("| none | 2.50 | 10.0 | 200 | ")
    parameters = [float(line.split(" | ")[4]) for line in (best, second)]
    assert parameters[0] == round(sum(p.numel() for p in separator.parameters()) / 1e6, 2) > parameters[1]


def test_insert_replaces_between_the_marks_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- t -->\nold\n<!-- /t -->\nafter\n")
    insert(page, {"t": "new\n"})
    insert(page, {"t": "newer\n"})
    assert page.read_text() == "before\n<!-- t -->\nnewer\n<!-- /t -->\nafter\n"


@pytest.mark.parametrize(
    "content", ["", "<!-- t -->", "<!-- /t --><!-- t -->", "<!-- t --><!-- t --><!-- /t -->"]
)
def test_insert_refuses_a_page_without_its_marks(tmp_path: Path, content: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(content)
    with pytest.raises(SepnetError, match="needs the lines"):
        insert(page, {"t": "new"})
    assert page.read_text() == content


# Weights


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, DictConfig]:
    """A run folder, and how it is to be described."""
    run = tmp_path / "2026-01-02_03-04-05-tiny"
    node = OmegaConf.load(artifact.config_folder() / "model" / "pit.yaml")
    tiny = {"network": {"n_channels": 8, "n_hidden": 12, "n_blocks": 2, "n_repeats": 1}}
    config = OmegaConf.create({"model": OmegaConf.merge(node, tiny), "data": {"root": "/my/speech"}})
    torch.manual_seed(0)
    metrics = {"si_sdri_db": 7.5, "step": 10, "hours_of_audio": 12.0}
    artifact.save(artifact.build(config.model), run, config=config, metrics=metrics, data_fingerprint="f00")
    described = {"name": "tiny-8k", "run": str(run), "evaluation": str(evaluation(tmp_path / "evaluation"))}
    words = {
        key: f"the {key} of it" for key in ("recipe", "data", "limits", "licence", "separates", "tested_on")
    }
    return run, OmegaConf.create({**described, **words})


def test_a_card_lists_the_parts_of_the_training_and_the_kinds_of_recording(
    trained: tuple[Path, DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, described = trained
    monkeypatch.setattr(paths, "SHIPPED", tmp_path / "weights")
    parts = [
        {"settings": "experiment=first", "minutes": 60, "hours_of_audio": 10, "dev_db": 5.0},
        {"settings": "data.seed=1", "minutes": 60, "hours_of_audio": 12, "dev_db": 6.0, "test_db": 5.5},
        {"settings": "data.seed=2", "minutes": 120, "hours_of_audio": 20, "dev_db": 7.0},
    ]
    rows = [
        {"name": "in a room", "n": 9, "mean": -1.25, "low": -2.0, "high": 0.5, "below_percent": 40.0},
        {"name": "alone", "n": 9, "mean": -30.0, "low": -31.0, "high": -29.0, "below_percent": None},
    ]
    content = {"conditions": rows, "weights_sha1": artifact.resolve(run).weights_sha1()}
    (tmp_path / "conditions.json").write_text(json.dumps(content))
    described = OmegaConf.merge(described, {"parts": parts, "conditions": str(tmp_path / "conditions.json")})
    publish(settings(tmp_path / "page.md", weights=described))
    card = (tmp_path / "weights" / "tiny-8k" / "README.md").read_text()
    assert "| `data.seed=1` | 60 | 2.0 | 22 | 6.00 | 5.50 |" in card
    assert "| in a room | \N{MINUS SIGN}1.2 [\N{MINUS SIGN}2.0, 0.5] | 40.0 |" in card
    assert "| alone | \N{MINUS SIGN}30.0 [\N{MINUS SIGN}31.0, \N{MINUS SIGN}29.0] | \N{EN DASH} |" in card
    assert "\n\n\n" not in card
    (tmp_path / "page.md").write_text("<!-- parts -->\n<!-- /parts -->\n")
    figure = tmp_path / "parts.svg"
    publish(settings(tmp_path / "page.md", parts="tiny-8k", parts_figure=str(figure)))
    assert "| `data.seed=2` | 120 | 4.0 | 42 | 7.00 |" in (tmp_path / "page.md").read_text()
    assert figure.is_file()
    (tmp_path / "page.md").write_text("<!-- conditions -->\n<!-- /conditions -->\n")
    publish(settings(tmp_path / "page.md", conditions=["tiny-8k"]))
    page = (tmp_path / "page.md").read_text()
    assert "| Two voices: SI-SDRi, or level (dB) | `tiny-8k` |\n|:--|--:|" in page
    assert "| in a room | \N{MINUS SIGN}1.2 |\n| alone | \N{MINUS SIGN}30.0 |" in page
    with pytest.raises(SepnetError, match="no weights other ship: give one of tiny-8k"):
        publish(settings(tmp_path / "page.md", parts="other"))
    (tmp_path / "conditions.json").write_text(json.dumps(content | {"weights_sha1": "of another"}))
    with pytest.raises(SepnetError, match="was measured with other weights"):
        publish(settings(tmp_path / "page.md", weights=described))
    (tmp_path / "conditions.json").write_text("{}")
    with pytest.raises(SepnetError, match="holds no conditions"):
        publish(settings(tmp_path / "page.md", weights=described))
    (tmp_path / "conditions.json").unlink()
    with pytest.raises(SepnetError, match=r"there is no .*what=conditions"):
        publish(settings(tmp_path / "page.md", weights=described))


def test_weights_go_into_the_package(
    trained: tuple[Path, DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, described = trained
    monkeypatch.setattr(paths, "SHIPPED", tmp_path / "weights")
    publish(settings(tmp_path / "page.md", weights=described))
    folder = tmp_path / "weights" / "tiny-8k"
    assert artifact.shipped() == ["tiny-8k"]
    mixture = Mixture(0.1 * torch.randn(1, 3000, generator=torch.Generator().manual_seed(0)), 8000)
    shipped, whole = (artifact.load(which).separate(mixture).sources for which in ("tiny-8k", run))
    assert si_sdr(shipped, whole).min() > 40  # what half precision loses
    assert (folder / "model.safetensors").stat().st_size < 0.6 * (run / "model.safetensors").stat().st_size
    assert "/my/speech" not in "".join(
        path.read_text() for path in folder.iterdir() if path.suffix != ".safetensors"
    )
    card = (folder / "README.md").read_text()
    for words in (
        "# tiny-8k",
        SUMMARY[2],
        SUMMARY[3],
        SUMMARY[5],
        "7.50 dB",
        "the limits of it",
    ):
        assert words in card
    assert "m\\_f" not in card
    assert "By the kind of recording" not in card
    test = json.loads((folder / "metrics.json").read_text())["test"]
    assert (test["method"], test["n_mixtures"], test["parameters"]) == ("tiny", 3, 0)
    assert test["si_sdr_improvement"] == pytest.approx({"mean": 6.0, "low": 5.0, "high": 7.0})
    assert test["sdr_improvement"]["mean"] == 10.0
    (tmp_path / "page.md").write_text("<!-- weights -->\n<!-- /weights -->\n")
    publish(settings(tmp_path / "page.md", shipped=True))
    card = "`tiny-8k`"
    line = f"| {card} | the separates of it | the tested_on of it | 6.00 [5.00, 7.00] | 0.00 | 0.0 |"
    assert between(tmp_path / "page.md", "weights")[2:] == [line]


def test_tables_are_of_the_weights_that_ship_with_them(
    trained: tuple[Path, DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, described = trained
    monkeypatch.setattr(paths, "SHIPPED", tmp_path / "weights")
    page = tmp_path / "page.md"
    page.write_text("<!-- weights -->\n<!-- /weights -->\n")
    asked = {"shipped": True, "parts": "tiny-8k", "parts_figure": str(tmp_path / "parts.svg")}

    def ship_again(number: int) -> None:
        monkeypatch.setitem(METHODS, "tiny", (number, "method"))
        part = {"settings": "data.seed=1", "minutes": 60, "hours_of_audio": 12, "dev_db": number + 0.5}
        own = {"evaluation": str(evaluation(tmp_path / f"evaluation {number}")), "parts": [part] * 3}
        publish(settings(page, weights=OmegaConf.merge(described, own), **asked))

    with pytest.raises(SepnetError, match="needs the lines <!-- parts -->"):
        ship_again(1)
    assert not (tmp_path / "weights").exists()
    page.write_text(f"{page.read_text()}<!-- parts -->\n<!-- /parts -->\n")
    for number in (2, 3):
        ship_again(number)
        assert f"| the tested_on of it | {number + 1:.2f} [" in between(page, "weights")[2]
        assert f"| {number + 0.5:.2f} |" in between(page, "parts")[2]


def test_weights_that_were_tested_on_one_mixture_have_no_interval(
    trained: tuple[Path, DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, described = trained
    monkeypatch.setattr(paths, "SHIPPED", tmp_path / "weights")
    alone = evaluation(tmp_path / "alone", n_mixtures=1)
    publish(settings(tmp_path / "page.md", weights=OmegaConf.merge(described, {"evaluation": str(alone)})))
    assert "| the tested_on of it | 5.00 | 0.00 |" in weights_table()


def test_weights_that_are_not_there_too_large_or_not_evaluated_do_not_ship(
    trained: tuple[Path, DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, described = trained
    monkeypatch.setattr(paths, "SHIPPED", tmp_path / "weights")
    target = tmp_path / "weights" / "tiny"
    with pytest.raises(SepnetError, match="finished run"):
        ship(target, typed(OmegaConf.merge(described, {"run": str(tmp_path / "evaluation")})), Bounds())
    with pytest.raises(SepnetError, match=r"in half precision, but at most 0\.0001 MB ship"):
        ship(target, typed(described), Bounds(model_mb=1e-4))
    other = tmp_path / "weights" / "other" / artifact.WEIGHTS
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(3_000_000))
    with pytest.raises(SepnetError, match=r"all weights are 3\.0 MB, but at most 2 MB ship"):
        ship(target, typed(described), Bounds(total_mb=2.0))
    (tmp_path / "evaluation" / "rows.csv").unlink()
    evaluation(tmp_path / "evaluation", "identity", "irm")
    with pytest.raises(SepnetError, match="no row tiny: evaluate"):
        ship(target, typed(described), Bounds())
    assert not target.exists()


@pytest.mark.parametrize("name", artifact.shipped())
def test_shipped_weights_load_and_say_whose_they_are(name: str) -> None:
    folder = artifact.resolve(name).folder
    assert (folder / "model.safetensors").stat().st_size < 16.1e6
    card = (folder / "README.md").read_text()
    for words in ("## Training data", "CC BY ", "## Limitations", "## Licence", "SI-SDRi"):
        assert words in card
    separator = sepnet.load(name)
    sound = 0.1 * torch.randn(1, 3000, generator=torch.Generator().manual_seed(0))
    queries = (Query(sound[0, :2000], separator.sample_rate),)
    mixture = Mixture(sound, separator.sample_rate, n_sources=2, queries=queries)
    found = separator.separate(mixture.only(separator.info.needs)).sources
    assert bool(found.isfinite().all())
    if separator.info.covers_mixture:
        torch.testing.assert_close(found.sum(dim=0), mixture.audio[0], atol=1e-5, rtol=0)


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"real speech is not at {SPEECH}")
def test_the_default_weights_separate_real_voices() -> None:
    """On mixtures of dev they reach 6 dB; 24 of them have a standard error of about 1 dB."""
    files = tuple(
        Utterance(path.relative_to(SPEECH).as_posix(), path.parent.name, "dev", "", 4.0, 8000, "")
        for path in sorted((SPEECH / "dev").glob("*/*.flac"))
    )
    mixtures = DrawnList(split="dev", n_mixtures=24).fixed_set(Manifest(SPEECH, files), 8000)
    separator = sepnet.load(artifact.DEFAULT)
    gains = [gain for mixture in mixtures if (gain := si_sdr_gain(separator, mixture)) is not None]
    assert sum(gains) / len(gains) > 3.0


def test_shipped_weights_are_few() -> None:
    assert artifact.DEFAULT in artifact.shipped()
    sizes = [path.stat().st_size for path in artifact.SHIPPED.rglob("*.safetensors")]
    assert sum(sizes) < 64e6


@pytest.mark.parametrize("name", artifact.shipped())
def test_the_command_on_a_card_gives_what_the_separator_needs(name: str) -> None:
    if not artifact.is_separator(artifact.SHIPPED / name):
        return
    card = (artifact.SHIPPED / name / artifact.CARD).read_text()
    (command,) = (line for line in card.splitlines() if line.startswith("    sepnet separate "))
    given = {"n_sources": "n_sources=", "queries": "query="}
    assert {need for need, word in given.items() if word in command} == sepnet.load(name).info.needs


# Published figures


def of_set(folder: Path, name: str, gain_db: float, *, test_set: str | None, n_mixtures: int = 3) -> Path:
    """An evaluation of mixtures of a test set; the mean gain of three is ``gain_db`` +- 1 dB."""
    METHODS[name] = (gain_db - 1, "method")
    try:
        evaluation(folder, name, n_mixtures=n_mixtures)
    finally:
        del METHODS[name]
    origin = provenance.read(folder / "rows.csv")
    provenance.write(folder / "rows.csv", {**origin, "test_set": test_set})
    return folder


SET_2MIX = "libri2mix_test-clean, min, 8 kHz"
CONV_TASNET = "JorisCos-ConvTasNet_Libri2Mix_sepclean_8k"


def table_row(table: str, name: str) -> str:
    """The row of a model in the table of published figures."""
    return next(line for line in table.splitlines() if line.startswith(f"| `{name}`"))


def test_figures_that_nobody_has_measured_are_empty() -> None:
    table = published_table([])
    assert len(table.splitlines()) == len(FIGURES) + 2
    assert table_row(table, FIGURES[0].name).endswith("| model card |  |  |")


@pytest.mark.parametrize(("gain_db", "mark"), [(14.76, ""), (12.0, ", differs"), (17.0, ", differs")])
def test_measured_figures_come_from_the_rows(gain_db: float, mark: str, tmp_path: Path) -> None:
    folder = of_set(tmp_path, CONV_TASNET, gain_db, test_set=SET_2MIX)
    row = table_row(published_table([folder]), FIGURES[0].name)
    assert row.endswith(
        f"| 14.76 | model card | {gain_db:.2f} [{gain_db - 1:.2f}, {gain_db + 1:.2f}]{mark} | 3 |"
    )
    assert ("but 14.76 dB are published" in report(folder / "rows.csv").read_text()) == bool(mark)
    assert ("but 14.76 dB are published" in (folder / "report.md").read_text()) == bool(mark)


def test_of_one_mixture_nothing_is_said(tmp_path: Path) -> None:
    folder = of_set(tmp_path, CONV_TASNET, 13.0, test_set=SET_2MIX, n_mixtures=1)
    row = table_row(published_table([folder]), FIGURES[0].name)
    assert row.endswith("| 14.76 | model card | 12.00 | 1 |")  # without an interval, it differs from nothing
    assert "are published" not in report(folder / "rows.csv").read_text()


@pytest.mark.parametrize(
    "test_set", [None, "libri2mix_test-clean, max, 8 kHz", "libri2mix_test-clean, min, 16 kHz"]
)
def test_a_figure_counts_for_its_own_test_set(test_set: str | None, tmp_path: Path) -> None:
    folder = of_set(tmp_path, CONV_TASNET, 3.0, test_set=test_set)
    assert published_table([folder]) == published_table([])
    assert "are published" not in report(folder / "rows.csv").read_text()


def test_the_command_fills_the_table_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- published -->\n<!-- /published -->\n")
    folder = of_set(tmp_path / "run", CONV_TASNET, 14.5, test_set=SET_2MIX)
    publish(settings(page, published=[str(folder)]))
    assert "| 14.50 [13.50, 15.50] | 3 |" in page.read_text()


def test_the_table_in_the_docs_is_that_of_the_figures() -> None:
    page = (Path(__file__).parents[1] / "docs" / "published.md").read_text()
    table = page.partition("<!-- published -->\n")[2].partition("\n<!-- /published -->")[0].splitlines()
    for written, figures in zip(table, published_table([]).splitlines(), strict=True):
        assert written.split(" | ")[:4] == figures.split(" | ")[:4]


def test_a_list_is_named_unless_parts_of_its_mixtures_are_taken(tmp_path: Path) -> None:
    def name(sample_rate: int, **changes: object) -> str | None:
        mixing = LibriMixList(csv="lists/libri2mix_test-clean.csv", **changes)
        manifest = Manifest(root=tmp_path, utterances=())
        return FixedSet(mixtures=(), manifest=manifest, sample_rate=sample_rate, mixing=mixing).name

    assert name(8000) == SET_2MIX
    assert name(16000, mode="max") == "libri2mix_test-clean, max, 16 kHz"
    assert name(8000, max_seconds=3.0) is None
