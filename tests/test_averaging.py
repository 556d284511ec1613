"""The average of several runs of one model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from sepnet import artifact
from sepnet.artifact.averaging import average
from sepnet.types import SepnetError
from tests.separator_cases import TINY_TCN


def write_run(folder: Path, seed: int, **network: int) -> Path:
    node = OmegaConf.merge(OmegaConf.load(artifact.config_folder() / "model" / "pit.yaml"), TINY_TCN)
    node.network.update(network)
    torch.manual_seed(seed)
    separator = artifact.build(node)
    artifact.save(
        separator,
        folder,
        config={"model": node},
        metrics={"hours_of_audio": 1, "step": 2},
        data_fingerprint="d",
    )
    return folder


def test_an_average_is_the_weighted_mean_and_says_of_what(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, seed) for seed, name in enumerate(("first", "second"))]
    folder = average({runs[0]: 0.25, runs[1]: 0.75}, tmp_path / "both", {"si_sdri_db": 3.0})
    one, two, both = (artifact.load(path).state_dict() for path in (*runs, folder))
    for name, tensor in both.items():
        torch.testing.assert_close(tensor, 0.25 * one[name] + 0.75 * two[name])
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == {"si_sdri_db": 3.0, "shares": {"first": 0.25, "second": 0.75}}
    assert json.loads((folder / "provenance.json").read_text())["data_fingerprint"] == "d"


def test_what_can_not_be_averaged_is_refused(tmp_path: Path) -> None:
    first, other = write_run(tmp_path / "first", 0), write_run(tmp_path / "other", 1, n_channels=12)
    with pytest.raises(SepnetError, match=r"the shares sum to 0\.9"):
        average({first: 0.4, other: 0.5}, tmp_path / "both")
    with pytest.raises(SepnetError, match=r"first has other weights than .*other"):
        average({first: 0.4, other: 0.6}, tmp_path / "both")
    assert not (tmp_path / "both").exists()
