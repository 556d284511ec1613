"""A run folder gives back what was saved, runs no code of a stranger, and says what is wrong with it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

import sepnet
from sepnet import artifact
from sepnet.dsp.masks import ideal_ratio_mask
from sepnet.networks.blstm import BLSTM
from sepnet.separators.identity import Identity
from sepnet.separators.mask_estimator.model import MaskEstimator
from sepnet.separators.oracle.masks import OracleMask
from sepnet.types import Mixture, SepnetError

SIZES: dict[str, dict[str, Any]] = {
    "pit": {"network": {"n_channels": 8, "n_hidden": 12, "n_blocks": 2, "n_repeats": 1}},
    "pit_blstm": {"network": {"n_hidden": 8, "n_layers": 1}},
    "pit_tcn": {
        "network": {"n_channels": 8, "n_hidden": 12, "n_blocks": 2, "n_repeats": 1},
        "filterbank": {"n_filters": 16},
    },
}


def settings(model: str = "pit", **changes: Any) -> DictConfig:
    node = OmegaConf.load(artifact.config_folder() / "model" / f"{model}.yaml")
    merged = OmegaConf.merge(node, SIZES[model], changes)
    config = OmegaConf.create({"rate": 8000, "model": merged, "data": {"sample_rate": "${rate}"}})
    assert isinstance(config, DictConfig)
    return config


def save(folder: Path, model: str = "pit", **changes: Any) -> MaskEstimator:
    config = settings(model, **changes)
    torch.manual_seed(1)
    separator = artifact.build(config.model)
    metrics = {"si_sdri_db": 7.123456, "step": 10}
    artifact.save(separator, folder, config=config, metrics=metrics, data_fingerprint="0123abcd")
    return separator.eval()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save(tmp_path / "runs" / "first")
    return tmp_path / "runs" / "first"


def mixture(time: int = 3001) -> Mixture:
    return Mixture(0.1 * torch.randn(1, time, generator=torch.Generator().manual_seed(0)), 8000)


# There and back


@pytest.mark.parametrize("model", SIZES)
def test_what_is_loaded_separates_bit_by_bit_as_what_was_saved(tmp_path: Path, model: str) -> None:
    saved = save(tmp_path / "run", model)
    loaded = sepnet.load(tmp_path / "run")
    assert isinstance(loaded, nn.Module)
    assert not loaded.training
    assert torch.equal(loaded.separate(mixture()).sources, saved.separate(mixture()).sources)
    assert torch.equal(
        sepnet.load(str(tmp_path / "run")).separate(mixture()).sources, saved.separate(mixture()).sources
    )


def test_a_run_folder_explains_itself(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "model.safetensors", "metrics.json", "provenance.json", "README.md",
    }  # fmt: skip
    assert artifact.read_config(run).data.sample_rate == 8000  # resolved
    assert "${" not in (run / "config.yaml").read_text()
    assert json.loads((run / "metrics.json").read_text()) == {"si_sdri_db": 7.123456, "step": 10}
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["data_fingerprint"] == "0123abcd"
    assert torch.__version__.startswith(provenance["packages"]["torch"])
    assert provenance["cpu"]
    card = (run / "README.md").read_text()
    for word in (
        "# first",
        "MaskEstimator",
        "si_sdri_db | 7.123 |",
        "step | 10 |",
        "0123abcd",
        "n_blocks: 2",
    ):
        assert word in card


def test_saving_again_replaces_all_or_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / "model.safetensors").read_bytes()

    def full_disk(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(SepnetError, match=r"can.t write .*model\.safetensors: No space left.*make room"):
        save(run)
    assert (run / "model.safetensors").read_bytes() == before
    sepnet.load(run)
    monkeypatch.undo()
    save(run, model="pit_blstm")
    assert isinstance(sepnet.load(run).network, BLSTM)
    assert len(list(run.iterdir())) == 5


def test_weights_can_be_read_by_those_who_can_read_the_other_files(run: Path) -> None:
    assert len({path.stat().st_mode for path in run.iterdir()}) == 1


@pytest.mark.parametrize("prefix", ["separator.", ""])
def test_checkpoints_are_loaded_by_their_run(run: Path, prefix: str) -> None:
    saved = sepnet.load(run)
    moved = {f"{prefix}{name}": tensor + 0.01 for name, tensor in saved.state_dict().items()}
    checkpoint = run / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    torch.save({"state_dict": moved, "global_step": 3}, checkpoint)
    loaded = sepnet.load(checkpoint)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor + 0.01)
    assert artifact.run_folder(checkpoint) == run
    assert artifact.run_folder(run) == run


# Names


def test_models_without_weights_are_loaded_by_name() -> None:
    assert isinstance(sepnet.load("identity"), Identity)
    oracle = sepnet.load("irm")
    assert isinstance(oracle, OracleMask)
    masks = torch.rand(2, 3, 4) + 0j
    assert torch.equal(oracle.mask(masks, masks.sum(dim=0)), ideal_ratio_mask(masks))


def test_a_folder_of_the_same_name_is_not_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "identity").mkdir()  # the results of it, say
    monkeypatch.chdir(tmp_path)
    assert isinstance(sepnet.load("identity"), Identity)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("irn", "no run folder and no model is called 'irn': did you mean 'irm'?"),
        ("pit_tnc", "did you mean 'pit_tcn'?"),
        ("runs/not-there", "there are .*identity.*irm"),
        ("pit", "'pit' has to be trained before it can separate: sepnet train model=pit"),
    ],
)
def test_names_that_can_not_be_loaded(name: str, message: str) -> None:
    with pytest.raises(SepnetError, match=message):
        sepnet.load(name)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(
        SepnetError,
        match=r"is no run folder and no model of another toolkit: it holds no files, .*neither config\.yaml",
    ):
        sepnet.load(tmp_path)
    with pytest.raises(SepnetError, match=r"there is no checkpoint .*last\.ckpt: name one that exists"):
        artifact.resolve(tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(SepnetError, match="is no run folder, and no checkpoint in one"):
        artifact.resolve(tmp_path / "last.ckpt")


def test_a_name_resolves_to_the_kind_of_its_source(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    kinds = artifact.SourceKind
    for name, kind, label in (
        (str(run), kinds.RUN, "first"),
        (str(checkpoint), kinds.CHECKPOINT, "first-last"),
        (artifact.DEFAULT, kinds.SHIPPED, artifact.DEFAULT),
        ("irm", kinds.SETTINGS, "irm"),
    ):
        source = artifact.resolve(name)
        assert (source.kind, source.label, source.is_trained) == (kind, label, kind is not kinds.SETTINGS)
        assert artifact.describe(source) == artifact.describe(name)
    assert artifact.resolve(run).provenance()["data_fingerprint"] == "0123abcd"
    with pytest.raises(SepnetError, match="irm is a file of conf/model, which has no weights"):
        _ = artifact.resolve("irm").folder


def test_the_newest_run_is_that_with_the_newest_weights(run: Path) -> None:
    for number, name in enumerate(("c", "a", "b")):
        save(run.parent / name)
        os.utime(run.parent / name / "model.safetensors", (1e9 + number, 1e9 + number))
    os.utime(run / "model.safetensors", (1e9 - 1, 1e9 - 1))
    (run.parent / "just begun").mkdir()
    assert artifact.newest_run(run.parent) == run.parent / "b"
    with pytest.raises(SepnetError, match=r"no run with weights lies under .*/nowhere"):
        artifact.newest_run(run.parent / "nowhere")


# Strangers


class Mischief:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


FOREIGN = [
    "os.system", "subprocess.run", "builtins.eval", "builtins.exec", "pathlib.Path", "torch.load",
    "torch.hub.load", "sepnet.artifact.provenance.subprocess.run", "sepnet.artifact.provenance.os.system",
    "sepnet.data.audio.np.load",
    "sepnet.artifact.build.hydra.utils.instantiate", "sepnet.artifact.provenance.subprocess",
    "sepnet.artifact.folder.load_file",
    "sepnet.networks.blstm.nn.Linear", "sepnet.networks.blstm.nn",
    "sepnet.separators.mask_estimator.model.partial",
    "sepnet", "sepnet.", "sepnet_evil.attack", "system", "",
]  # fmt: skip
OURS_BUT_NOT_FOR_STRANGERS = [
    "sepnet.artifact.folder.save", "sepnet.artifact.load", "sepnet.data.audio.write",
    "sepnet.data.corpus.Corpus",
    "sepnet.cli.app.run", "sepnet.cli.train.main", "torch.optim.AdamW",
]  # fmt: skip


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("place", ["top", "argument", "list", "interpolated"])
def test_only_sepnet_is_built(target: str, place: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    attack = {"_target_": target, "_args_": [f"touch {canary}"]}
    identity = "sepnet.separators.identity.Identity"
    node = {
        "top": attack,
        "argument": {"_target_": identity, "network": attack},
        "list": {"_target_": identity, "_args_": [[{"deep": attack}]]},
        "interpolated": {"_target_": identity, "name": target, "network": {**attack, "_target_": "${name}"}},
    }[place]
    with pytest.raises(SepnetError, match=r"refused|does not exist"):
        artifact.build(node)
    assert not canary.exists()


def test_a_package_of_a_similar_name_is_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    def attack() -> None:
        raise AssertionError("it was called")

    attack.__module__ = "sepnet_evil"
    module = types.ModuleType("sepnet_evil")
    monkeypatch.setattr(module, "attack", attack, raising=False)
    monkeypatch.setitem(sys.modules, "sepnet_evil", module)
    with pytest.raises(SepnetError, match="refused"):
        artifact.build({"_target_": "sepnet_evil.attack"})


@pytest.mark.parametrize("target", FOREIGN + OURS_BUT_NOT_FOR_STRANGERS)
def test_a_run_folder_of_a_stranger_runs_nothing(run: Path, tmp_path: Path, target: str) -> None:
    canary = tmp_path / "canary"
    config = OmegaConf.load(run / "config.yaml")
    for key in ("model", "model.network", "model.objective.metric"):
        OmegaConf.update(config, key, {"_target_": target, "_args_": [f"touch {canary}"]}, merge=False)
        OmegaConf.save(config, run / "config.yaml")
        with pytest.raises(SepnetError, match=r"refused|does not exist"):
            sepnet.load(run)
    assert not canary.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_checkpoints_of_a_stranger_run_nothing(run: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for checkpoint in (run / "torch.ckpt", run / "pickle.ckpt"):
        content = {"state_dict": {"weight": Mischief(f"touch {canary}")}}
        if checkpoint.stem == "torch":
            torch.save(content, checkpoint)
        else:
            checkpoint.write_bytes(pickle.dumps(content))
        with pytest.raises(SepnetError, match="can't be read"):
            sepnet.load(checkpoint)
    assert not canary.exists()
    pickle.loads((run / "pickle.ckpt").read_bytes())
    assert canary.exists()  # else this would prove nothing


# What is broken


def broken(run: Path, change: str) -> None:
    weights = load_file(run / "model.safetensors")
    name = min(weights)
    if change == "missing":
        del weights[name]
    elif change == "unknown":
        weights["surplus"] = torch.zeros(3)
    else:
        weights[name] = torch.zeros(2, 99)
    save_file(weights, run / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"1 missing \(.+\) of \d+ tensors"),
        ("unknown", r"1 unknown \(surplus\) of"),
        ("shape", r"1 of another shape \(.+ is \(2, 99\), not \(.+\)\) of"),
    ],
)
def test_weights_that_do_not_fit_are_refused(run: Path, change: str, message: str) -> None:
    broken(run, change)
    with pytest.raises(SepnetError, match=f"weights of another architecture.*{message}"):
        sepnet.load(run)


def test_another_architecture_is_refused(run: Path) -> None:
    OmegaConf.save(settings("pit", network={"n_blocks": 3}), run / "config.yaml")
    with pytest.raises(
        SepnetError, match=r"model.safetensors holds weights of another architecture.*missing"
    ):
        sepnet.load(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(run: Path, value: float) -> None:
    weights = load_file(run / "model.safetensors")
    name = max(weights)
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, run / "model.safetensors")
    with pytest.raises(SepnetError, match=rf"NaN or infinite in 1 of \d+ tensors \({name}\).*train anew"):
        sepnet.load(run)


@pytest.mark.parametrize("kept", [0, 5, 100, 3000, -1])
def test_weights_that_are_cut_off_are_refused(run: Path, kept: int) -> None:
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SepnetError, match=r"model.safetensors can't be read"):
        sepnet.load(run)


def test_weights_that_are_not_there_yet(run: Path) -> None:
    (run / "model.safetensors").unlink()
    with pytest.raises(SepnetError, match="has not finished its first validation"):
        sepnet.load(run)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip"])
def test_checkpoints_that_are_none(run: Path, content: bytes) -> None:
    (run / "last.ckpt").write_bytes(content)
    with pytest.raises(SepnetError, match=r"last.ckpt can't be read"):
        sepnet.load(run / "last.ckpt")
    torch.save({"weights": torch.zeros(3)}, run / "last.ckpt")
    with pytest.raises(SepnetError, match="holds no state_dict"):
        sepnet.load(run / "last.ckpt")


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_with_damaged_bytes_are_refused_or_read(zipped: bool, tmp_path: Path) -> None:
    """An unpickler may raise anything; where the damage is in a number, nothing shows it."""
    path, rng = tmp_path / "last.ckpt", np.random.default_rng(0)
    weights = {f"separator.{name}": torch.zeros(2) for name in "abc"}
    torch.save({"state_dict": weights, "global_step": 3}, path, _use_new_zipfile_serialization=zipped)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    messages: list[str] = []
    for _ in range(100):
        damaged = whole.copy()
        damaged[rng.integers(len(whole), size=4)] = rng.integers(256, size=4)
        path.write_bytes(damaged.tobytes())
        try:
            artifact.read_checkpoint(path)
        except SepnetError as error:
            messages.append(str(error))
    assert len(messages) > 5
    assert all(str(path) in message for message in messages)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [unclosed", "can't be read"),
        ("- a\n- list", "is a list"),
        ("", "describes no model"),
        ("data: 3", "describes no model"),
        ("model: pit", "describes no model"),
        ("model: {n_sources: 2}", "has no _target_ to build"),
        ("model: {_target_: sepnet.separators.identity.Identity, x: '${nowhere}'}", "settings can't be used"),
        ("model: {_target_: sepnet.separators.identity.Identiti}", "does not exist"),
        ("model: {_target_: sepnet.separators.identities.Identity}", "does not exist"),
    ],
)
def test_configurations_that_are_none(run: Path, text: str, message: str) -> None:
    (run / "config.yaml").write_text(text)
    with pytest.raises(SepnetError, match=message):
        sepnet.load(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"featurs": "coefficients"}, r"no setting MaskEstimator\.featurs: did you mean 'features'"),
        ({"network": {"n_block": 3}}, r"no setting MaskEstimator\.network\.n_block: did you mean 'n_blocks'"),
        ({"xyzzy": 1}, r"no setting MaskEstimator\.xyzzy: there are .*filterbank.*network"),
        ({"filterbank": {"hop_samples": 999}}, r"hop_samples=999"),
        ({"network": {"kernel": 2}}, r"kernel is 2"),
    ],
)
def test_settings_that_are_refused_name_the_right_one(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SepnetError, match=message):
        artifact.build(settings("pit", **changes).model)


# The front door


def test_importing_sepnet_is_light() -> None:
    code = (
        "import sys, sepnet; "
        "heavy = {'lightning', 'wandb', 'hydra', 'torch', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "sepnet.load, sepnet.separate; "
        "import sepnet.cli.separate; "
        "heavy = {'lightning', 'pytorch_lightning', 'wandb', 'gradio', 'matplotlib', 'transformers', "
        "'scipy.signal', 'scipy.stats', 'scipy.optimize'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'seperate'"):
        sepnet.seperate  # noqa: B018
