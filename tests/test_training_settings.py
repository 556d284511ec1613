"""Values of a training's settings are checked before anything is made."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from training_fixtures import compose

from sepnet.cli import app
from sepnet.training.settings import TrainSettings, trainer_arguments
from sepnet.types import SepnetError

CONFIG = compose(["data=toy"])
TRAINER = app.plain(CONFIG)["trainer"]


def parsed(override: str) -> TrainSettings:
    """As with this override on the command line, without composing all again."""
    config = copy.deepcopy(CONFIG)
    given = OverridesParser.create().parse_override(override)
    OmegaConf.update(config, given.key_or_group, given.value())
    return app.parse(TrainSettings, config)


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("seed", 0, 2**32 - 1),
        ("schedule.warmup_steps", 0, None),
        ("schedule.decay_from", 0, 1),
        ("schedule.final", 0, 1),
        ("checkpoints.every_n_steps", 1, None),
        ("checkpoints.best", 0, None),
        ("loader.n_workers", 0, 256),
        ("loader.n_valid", 1, None),
        ("early_stopping_patience", 1, None),
        ("ema_decay", 0, None),
    ],
)
def test_values_at_the_ends_of_a_range_are_accepted_and_those_beyond_refused(
    key: str, low: int, high: int | None
) -> None:
    for value in (low, *([] if high is None else [high])):
        parsed(f"{key}={value}")
    beyond = [
        str(low - 1),
        "nan",
        "inf",
        "true",
        "'3'",
        "[1]",
        "{a: 1}",
        *([] if high is None else [str(high + 1)]),
    ]
    for text in beyond:
        with pytest.raises(SepnetError, match=rf"^{key} is .+: give a (whole )?number"):
            parsed(f"{key}={text}")


@pytest.mark.parametrize("value", ["1", "1.5", "-0.1"])
def test_an_average_that_never_changes_is_refused(value: str) -> None:
    with pytest.raises(
        SepnetError, match=r"^ema_decay is .*: give a number of at least 0 and below 1 or null$"
    ):
        parsed(f"ema_decay={value}")


@pytest.mark.parametrize("name", ["a/b", "../../escape", "/tmp/x", "a\\b", "x" * 201, "ü" * 101])
def test_names_that_are_no_part_of_a_folder_s_name_are_refused(name: str) -> None:
    config = copy.deepcopy(CONFIG)
    config.name = name
    with pytest.raises(SepnetError, match=r"^name (is|has) "):
        app.parse(TrainSettings, config)


@pytest.mark.parametrize("name", [None, "a", "two words", "..", "x" * 200])
def test_other_names_are_accepted(name: str | None) -> None:
    config = copy.deepcopy(CONFIG)
    config.name = name
    assert app.parse(TrainSettings, config).name == name


def test_an_unknown_decay_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SepnetError, match=r"^schedule\.decay is 'cosin': give cosine, linear or none$"):
        parsed("schedule.decay=cosin")


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_time", 1), ("max_time", "soon"), ("max_steps", 0), ("precision", "8"), ("limit_val_batches", 1.5)],
)
def test_the_trainer_s_settings_are_checked(name: str, value: Any) -> None:
    with pytest.raises(SepnetError, match=rf"^trainer\.{name} is {value!r}: give "):
        trainer_arguments({**TRAINER, name: value})


def test_the_trainer_s_other_settings_may_be_added_where_it_has_them() -> None:
    assert trainer_arguments({**TRAINER, "overfit_batches": 2})["overfit_batches"] == 2
    with pytest.raises(SepnetError, match=r"no setting 'max_epoch': did you mean 'max_epochs'"):
        trainer_arguments({**TRAINER, "max_epoch": 2})


@pytest.mark.parametrize(("accelerator", "gpu_is_fast"), [("auto", True), ("gpu", True), ("gpu", False)])
def test_an_automatic_precision_asks_the_gpu_where_one_trains(
    accelerator: str, gpu_is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_is_fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: not gpu_is_fast)
    arguments = trainer_arguments({**TRAINER, "accelerator": accelerator, "precision": "auto"})
    assert arguments["precision"] == ("bf16-mixed" if gpu_is_fast else "32-true")


def test_trainings_on_gpus_have_hours() -> None:
    for name in ("gpu", "ddp"):
        assert compose([f"trainer={name}"]).trainer.max_time == "00:08:00:00"


@pytest.mark.parametrize("value", ["64-true", "bf16-true", "16-true", "64", "half"])
def test_a_precision_that_no_separator_learns_in_is_refused(value: str) -> None:
    with pytest.raises(SepnetError, match=r"trainer\.precision is .*: give auto, 32-true, 16-mixed"):
        parsed(f"trainer.precision={value}")
