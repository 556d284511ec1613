"""Every file in conf/ composes, and every data and model file builds what it describes."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest

from sepnet import artifact
from sepnet.cli import app
from sepnet.types import SepnetError

CONF = artifact.config_folder()
PRIMARY = sorted(path.stem for path in CONF.glob("*.yaml"))
IN_TRAINING = ("data", "experiment", "logger", "model", "optimizer", "trainer")
OPTIONS = [f"{group}={path.stem}" for group in IN_TRAINING for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize("name", PRIMARY)
def test_primary_configuration_composes(name: str) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert hydra.compose(name)


@pytest.mark.parametrize("option", OPTIONS)
def test_option_composes(option: str) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", overrides=[option])
    assert {"model", "data", "optimizer", "trainer", "logger"} <= set(config)


@pytest.mark.parametrize("path", sorted((CONF / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_data_builds(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        node = hydra.compose("train", overrides=[f"data={path.stem}", f"++data.corpus.root={tmp_path}"])
    data = artifact.build(node.data)
    assert data.sample_rate == node.data.sample_rate
    known = {"speech8k_3mix": (3,), "speech8k_1to3": (1, 2, 3), "esc10": (5,), "esc10_tags": (10,)}
    assert data.mixing.n_sources == known.get(path.stem, (2,))


def test_a_sweep_can_go_to_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", overrides=["hydra/launcher=slurm"], return_hydra_config=True)
    launcher = config.hydra.launcher
    assert launcher._target_ == "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SepnetError, match="there is no srun here: leave it out"):
        app.check("train", ["hydra/launcher=slurm"], sweep=True)
    assert (launcher.gpus_per_node, launcher.timeout_min) == (1, 1440)
