"""Beginning from weights that are there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from training_fixtures import TINY_BLSTM, checkpoint, compose, logged, make_corpus, only_run, run, settings

import sepnet
from sepnet import artifact
from sepnet.artifact.folder import save
from sepnet.cli.train import train
from sepnet.cli.warm_start import adopt_model
from sepnet.training.warm_start import begin_from
from sepnet.types import SepnetError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("warm") / "wavs", dev=3)


@pytest.fixture(scope="module")
def base(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of two epochs."""
    home = tmp_path_factory.mktemp("base")
    train(compose(settings(corpus, home)))
    return only_run(home)


def test_fine_tuning_begins_with_the_weights_of_the_run(corpus: Path, base: Path, tmp_path: Path) -> None:
    """With a rate of nothing, what comes out is what went in."""
    still = ("optimizer.lr=1e-60", "optimizer.weight_decay=0", f"ckpt={base}")
    train(compose(settings(corpus, tmp_path, *still)))
    before, after = sepnet.load(base), sepnet.load(only_run(tmp_path))
    assert isinstance(before, torch.nn.Module)
    assert isinstance(after, torch.nn.Module)
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name]), name


@pytest.mark.parametrize("place", ["checkpoints/last.ckpt", ""])
def test_the_command_line_takes_the_model_of_the_run(
    place: str, corpus: Path, base: Path, tmp_path: Path
) -> None:
    """No setting of the model is given, and the default one would be three thousand times as large."""
    without_model = [word for word in settings(corpus, tmp_path) if not word.startswith("model")]
    done = run("train", [*without_model, f"ckpt={base / place}"], tmp_path)
    assert done.wait() == 0, done.told
    assert "beginning from" in done.out
    assert "new:" not in done.out
    model = (only_run(tmp_path) / "config.yaml").read_text().partition("model:")[2].partition("\ndata:")[0]
    assert model == (base / "config.yaml").read_text().partition("model:")[2].partition("\ndata:")[0]


def test_another_number_of_outputs_keeps_the_rest(corpus: Path, base: Path, tmp_path: Path) -> None:
    settled = settings(
        corpus, tmp_path, f"ckpt={base}", "data.mixing.n_sources=[3]", "data.valid.n_sources=3"
    )
    without_model = [word for word in settled if not word.startswith("model.")]
    done = run("train", [*without_model, "model.n_sources=3", "trainer.max_steps=1"], tmp_path)
    assert done.wait() == 0, done.told
    assert done.out.splitlines()[0].endswith("tensors; new: network.out.1; not used: network.out.1")
    weights = checkpoint(only_run(tmp_path))["state_dict"]
    assert weights["separator.network.out.1.weight"].shape[0] == 3 * 129


def test_a_named_model_is_kept(base: Path, corpus: Path, tmp_path: Path) -> None:
    config = compose(settings(corpus, tmp_path, f"ckpt={base}", base=TINY_BLSTM))
    assert adopt_model(config, ["model=pit_blstm"]).model == config.model
    assert adopt_model(config, [], chosen="pit_blstm").model == config.model  # by an experiment


def test_settings_of_the_adopted_model_can_be_changed(base: Path, corpus: Path, tmp_path: Path) -> None:
    """Those of the command line and those of an experiment, which are in the composed configuration alike."""
    plain = [word for word in settings(corpus, tmp_path, f"ckpt={base}") if not word.startswith("model.")]
    for word, value in (("model.level=running", "running"), ("+model.quiet_db=10.0", 10.0)):
        name = word.partition("=")[0].rpartition(".")[2]
        assert adopt_model(compose([*plain, word]), []).model[name] == value
    assert adopt_model(compose(plain), []).model.network.n_repeats == 1
    word = "model.network.n_repeats=2"  # as the default model
    assert adopt_model(compose([*plain, word]), [word]).model.network.n_repeats == 2
    deeper = adopt_model(compose([*plain, "model.network.n_repeats=4"]), []).model.network
    assert (deeper.n_repeats, deeper.n_channels) == (4, sepnet.load(base).network.bottleneck[1].out_channels)
    assert "kernel" not in adopt_model(compose([*plain, "~model.network.kernel"]), []).model.network


def test_a_stranger_s_run_builds_nothing_but_a_model(corpus: Path, tmp_path: Path) -> None:
    folder, victim = tmp_path / "theirs", tmp_path / "victim.csv"
    folder.mkdir()
    model = {"_target_": "sepnet.data.table.write_table", "csv": str(victim), "columns": ["a"], "rows": []}
    OmegaConf.save({"model": model}, folder / "config.yaml")
    with pytest.raises(
        SepnetError, match=r"'sepnet.data.table.write_table', which none of .* defines: refused"
    ):
        train(compose(settings(corpus, tmp_path, f"ckpt={folder}")))
    assert not victim.exists()


def test_a_run_goes_on_when_its_beginning_is_gone(base: Path, corpus: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    shutil.copytree(base, start)
    tuned = settings(corpus, tmp_path, f"ckpt={start}", "schedule.decay=none")
    train(compose([*tuned, "trainer.max_epochs=1"]))
    folder = only_run(tmp_path)
    shutil.rmtree(start)
    train(compose([*tuned, f"resume={folder}"]))
    assert checkpoint(folder)["global_step"] == 10


def test_weights_that_fit_nowhere_are_refused(base: Path, corpus: Path, tmp_path: Path) -> None:
    separator = torch.nn.Linear(3, 4)
    with pytest.raises(SepnetError, match=r"none of the \d+ tensors in .* fits the model"):
        begin_from(separator, str(base))


@pytest.mark.parametrize("name", ["pit-2spk-9k", "runs/nothing"])
def test_a_name_of_nothing_is_refused_before_there_is_a_run(name: str, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match="no run folder and no model is called"):
        train(compose(settings(corpus, tmp_path, f"ckpt={name}")))
    assert not list(tmp_path.glob("runs/*"))


def test_fine_tuning_adapts_to_other_voices(corpus: Path, base: Path, tmp_path: Path) -> None:
    """The loss at the start of fine-tuning is lower than that at the start of training from nothing."""
    for name, more in (("tuned", f"ckpt={base}"), ("new", "seed=7")):
        train(compose(settings(corpus, tmp_path / name, more)))
    first = [min(logged(only_run(tmp_path / name), "train/loss").items())[1] for name in ("tuned", "new")]
    assert first[0] < first[1]


def test_weights_of_another_width_are_not_taken_for_a_beginning() -> None:
    """Slopes and biases of the output fit, but are next to nothing."""
    separator = artifact.build(OmegaConf.load(artifact.config_folder() / "model" / "pit.yaml"))
    with pytest.raises(SepnetError, match=r"\d+ of the \d+ .* 0\.\d % of what it learns: leave out"):
        begin_from(separator, "pit-2spk-8k")


def test_a_causal_network_begins_with_the_past_of_a_centred_one(
    base: Path, corpus: Path, tmp_path: Path
) -> None:
    changes = ("model.level=running", "+model.network.causal=true")
    causal = artifact.build(compose(settings(corpus, tmp_path, *changes)).model)
    assert begin_from(causal, str(base)).endswith("21 of 21 tensors")
    centred = sepnet.load(base)
    assert isinstance(centred, torch.nn.Module)
    name = "network.blocks.1.body.0.weight"
    before, after = centred.state_dict()[name], causal.state_dict()[name]
    assert torch.equal(after[..., 1:], before[..., :2])
    assert not after[..., 0].any()


@pytest.mark.parametrize(
    ("deeper", "new"),
    [
        ("n_repeats=4", "network.blocks.4, network.blocks.5, network.blocks.6, network.blocks.7"),
        ("n_blocks=3", "network.blocks.2, network.blocks.5"),
    ],
)
@pytest.mark.parametrize("n_skip", [0, 5])
def test_a_deeper_network_begins_as_the_one_whose_weights_it_has(
    n_skip: int, deeper: str, new: str, corpus: Path, tmp_path: Path
) -> None:
    changes = (f"+model.network.n_skip={n_skip}", "model.network.n_repeats=2")
    config = compose(settings(corpus, tmp_path, *changes))
    shallow = artifact.build(config.model)
    save(shallow, tmp_path / "shallow", config=config, metrics={}, data_fingerprint="")
    deep = artifact.build(compose(settings(corpus, tmp_path, *changes, f"model.network.{deeper}")).model)
    features = torch.randn(2, 129, 40, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(shallow.network(features), deep.network(features))
    message = begin_from(deep, str(tmp_path / "shallow"))
    assert set(new.split(", ")) <= set(message.partition("new: ")[2].split(", "))
    assert torch.allclose(shallow.network(features), deep.network(features), atol=1e-6)
    deep.network(features).square().sum().backward()
    assert all(conv.weight.grad.abs().sum() > 0 for conv in deep.network.blocks[-1].exits)


def test_what_a_shallower_network_leaves_out_is_said(base: Path, corpus: Path, tmp_path: Path) -> None:
    shallow = artifact.build(compose(settings(corpus, tmp_path, "model.network.n_blocks=1")).model)
    assert begin_from(shallow, str(base)).endswith("14 of 14 tensors; not used: network.blocks.1")


def test_new_skip_connections_of_loaded_blocks_are_not_silent(
    base: Path, corpus: Path, tmp_path: Path
) -> None:
    """Else nothing at all would reach the output."""
    skipping = artifact.build(compose(settings(corpus, tmp_path, "+model.network.n_skip=5")).model)
    begin_from(skipping, str(base))
    assert all(block.skip.weight.abs().sum() > 0 for block in skipping.network.blocks)
