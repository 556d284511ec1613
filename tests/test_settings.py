"""Typed settings: what a configuration may hold, for every leaf of every command and of every part."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Le
from omegaconf import DictConfig, OmegaConf
from training_fixtures import compose

from benchmarks.fuzzing.values import WRONG_VALUES, leaves
from sepnet import artifact
from sepnet.annotations import describe
from sepnet.artifact import hub
from sepnet.cli import app, export, publish, serve, train
from sepnet.cli.evaluate_settings import EvalSettings
from sepnet.cli.prepare_settings import PrepareSettings
from sepnet.cli.quoting import quoted, unquoted
from sepnet.cli.separate_settings import SeparateSettings
from sepnet.ranges import Location, NameOrPath, PathSetting, PositiveInt, Probability
from sepnet.settings import FLAT, check_arguments, check_names, check_value, parse, verbatim_names
from sepnet.types import SepnetError

CONF = artifact.config_folder()


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (bool, "true or false"),
        (PositiveInt | None, "a whole number from 1 to 1,000,000,000 or null"),
        (Probability, "a number from 0 to 1"),
        (Annotated[int, Ge(3)], "a whole number of at least 3"),
        (Annotated[float, Le(0.5)], "a number of at most 0.5"),
        (Literal["a", "b"] | int, "a, b or a whole number"),
        (tuple[float, float], "a list of 2 values, each a number"),
        (list[NameOrPath] | None, "null or a list of values, each a text"),
        (list[NameOrPath] | NameOrPath, "a text or a list of values, each a text"),
        (list[int | None] | bool, "true or false or a list of values, each a whole number or null"),
        (PathSetting, "a path"),
        (dict[str, Any], "a mapping"),
        (Callable[[int], int], "a part of the configuration with a _target_"),
    ],
)
def test_what_may_be_given_is_said_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


@pytest.mark.parametrize("value", [True, 1.5, "1", None, 0, [1], {}, float("nan"), float("inf")])
def test_a_value_of_another_type_is_refused_with_what_may_be_given(value: Any) -> None:
    with pytest.raises(SepnetError, match=r"^key is .+: give a whole number from 1 to 1,000,000,000$"):
        check_value("key", PositiveInt, value)


def test_values_become_what_the_annotation_says() -> None:
    assert check_value("key", tuple[float, float], [1, 2.5]) == (1.0, 2.5)
    assert check_value("key", PathSetting, "a/b") == Path("a/b")
    assert check_value("key", PathSetting, "~/a") == Path.home() / "a"
    assert check_value("key", PathSetting, "~nobody.wav") == Path("~nobody.wav")  # as a shell has it
    assert check_value("key", list[NameOrPath], ["~/a", "b~"]) == [str(Path.home() / "a"), "b~"]


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(SepnetError, match=r"^key is 'x{79}\.\.\.: give a whole number"):
        check_value("key", PositiveInt, "x" * 10_000)


@dataclass(frozen=True)
class Inner:
    depth: PositiveInt
    place: PathSetting | None = None


@dataclass(frozen=True)
class Outer:
    rate: Probability
    group: Inner
    names: Annotated[list[Annotated[str, Location()]], Ge(0)] | None = None
    shared: Inner = field(metadata=FLAT, default=Inner(1))


def test_groups_are_nested_and_flat_ones_are_not() -> None:
    parsed = parse(Outer, {"rate": 0.5, "group": {"depth": 2}, "depth": 3, "place": "x"})
    assert parsed == Outer(0.5, Inner(2), shared=Inner(3, Path("x")))
    with pytest.raises(SepnetError, match=r"^group\.depth is 0: give"):
        parse(Outer, {"rate": 0.5, "group": {"depth": 0}, "depth": 1})
    with pytest.raises(SepnetError, match=r"^group is 3: give a mapping"):
        parse(Outer, {"rate": 0.5, "group": 3, "depth": 1})
    with pytest.raises(SepnetError, match=r"^rate has no value: give rate=\.\.\."):
        parse(Outer, {"group": {"depth": 2}, "depth": 1})


def test_unknown_names_are_refused_with_the_nearest() -> None:
    check_names(Outer, {"rate": 1, "place": None, "group": {"depth": 2}})
    with pytest.raises(SepnetError, match=r"no setting rat: did you mean 'rate'"):
        check_names(Outer, {"rat": 1})
    with pytest.raises(SepnetError, match=r"no setting group\.deph: did you mean 'depth'"):
        check_names(Outer, {"group": {"deph": 1}})


def test_arguments_are_checked_by_the_constructor_s_annotations() -> None:
    class Part:
        def __init__(self, *, size: PositiveInt, inner: Inner | None = None, other=None) -> None: ...

    assert check_arguments(Part, {"size": 2, "inner": {"_target_": "x"}, "other": object}) is not None
    with pytest.raises(SepnetError, match=r"^part\.size is 0: give a whole number"):
        check_arguments(Part, {"size": 0}, "part.")
    with pytest.raises(SepnetError, match=r"no setting part\.sise: did you mean 'size'"):
        check_arguments(Part, {"sise": 0}, "part.")


# ---------------------------------------------------------------- every leaf


def try_every_leaf(config: Any, check: Callable[[dict[str, Any]], Any]) -> None:
    """Whatever is given for any setting, it is accepted, or refused in one short sentence."""
    for key in leaves(config):
        for value in WRONG_VALUES:
            changed = copy.deepcopy(config)
            *parents, name = key.split(".")
            node = changed
            for parent in parents:
                node = node[parent]
            node[name] = value
            sentence = ""
            try:
                check(changed)
            except SepnetError as error:
                sentence = str(error)
            except Exception as error:
                raise AssertionError(f"{key}={value!r}") from error
            assert "\n" not in sentence, (key, value)
            assert len(sentence) < 400, (key, value, sentence)


@pytest.mark.parametrize(
    ("name", "settings", "overrides"),
    [
        ("separate", SeparateSettings, []),
        ("eval", EvalSettings, ["data=toy"]),
        ("serve", serve.ServeSettings, []),
        ("prepare", PrepareSettings, ["corpus=toy"]),
        ("export", export.ExportSettings, []),
        ("publish", publish.PublishSettings, ["weights=pit-2spk-8k"]),
        ("train", train.TrainSettings, ["data=toy"]),
    ],
)
def test_no_setting_of_a_command_ends_in_a_traceback(
    name: str, settings: type[Any], overrides: list[str]
) -> None:
    config = compose(overrides, name)
    OmegaConf.set_struct(config, False)
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, "x.onnx")
    app.parse(settings, config)
    try_every_leaf(app.plain(config), lambda changed: parse(settings, changed))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if path.stem == "folder" else pytest.mark.slow)
        for path in sorted((CONF / "data").glob("*.yaml"))
    ],
    ids=lambda path: path.stem,
)
def test_no_setting_of_the_data_ends_in_a_traceback(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in re.findall(r"oc\.env:(\w+)", path.read_text()):
        monkeypatch.setenv(variable, "/nowhere")
    noise = ["data.noise.root=/nowhere"] if path.stem == "noisy_folder" else []
    config = compose([f"data={path.stem}", "data.corpus.root=/nowhere", *noise]).data
    try_every_leaf(OmegaConf.to_container(config, resolve=True), artifact.build)


LIGHT = {"pit", "nmf", "irm"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if path.stem in LIGHT else pytest.mark.slow)
        for path in sorted((CONF / "model").glob("*.yaml"))
    ],
    ids=lambda path: path.stem,
)
def test_no_setting_of_a_model_ends_in_a_traceback(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda name: (_ for _ in ()).throw(SepnetError("no network")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try_every_leaf(OmegaConf.to_container(OmegaConf.load(path)), artifact.build)


# ---------------------------------------------------------------- as people type them


def test_paths_and_other_texts_need_no_quotes() -> None:
    verbatim = verbatim_names(SeparateSettings)
    assert verbatim["out"] is False
    assert verbatim["files"] is True
    assert "n_sources" not in verbatim
    assert "evaluations" not in verbatim_names(publish.PublishSettings)
    for value in ("josé", "日本", "/home/me/Übung", "R&B", "it's", "a(b)", "a,b", "2024", "1e5", "x y", "[x]",
                  "c:\\new", "ends\\", "\\'", "{x", "a=b", "#1", "100%", "x: y", "!important"):  # fmt: skip
        config = compose_words([quoted(f"out={value}", verbatim)])
        assert config.out == value, value
    home = app.parse(SeparateSettings, compose_words([quoted("out=~/x", verbatim)])).out_place
    assert home == Path("~/x").expanduser()
    assert compose_words([quoted("files=[josé.wav, it's.wav]", verbatim)]).files == ["josé.wav", "it's.wav"]
    assert compose_words([quoted("files=R&B.wav", verbatim)]).files == "R&B.wav"


def compose_words(words: list[str]) -> DictConfig:
    return compose(words, "separate")


@pytest.mark.parametrize(
    "word",
    ["n_sources=2", "n_sources=auto", "out=null", "out='a b'", "gain=0.5", "plain", "~out", "set={a: 1}"],
)
def test_what_hydra_reads_stays_as_it_is(word: str) -> None:
    assert quoted(word, verbatim_names(SeparateSettings)) == word


def test_other_values_are_quoted_where_the_grammar_cannot_read_them() -> None:
    word = quoted("data.corpus.root=/home/me/Übung (neu)", {})
    assert compose(["data=folder", word]).data.corpus.root == "/home/me/Übung (neu)"
    assert quoted("runs=a,b", {"runs": False}, sweep=True) == "runs=a,b"


@pytest.mark.parametrize(
    ("typed", "value"),
    [("null", None), ("'a b'", "a b"), ('"a"', "a"), ("it's", "it's"), ("'", "'"), ("", "")],
)
def test_values_that_hydra_does_not_see_are_read_as_they_were_typed(typed: str, value: str | None) -> None:
    assert unquoted(typed) == value
