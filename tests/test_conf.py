"""Every file in conf/ composes, and every data and model file builds what it describes."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from sepnet import artifact
from sepnet.cli.overrides import check
from sepnet.data.mixing import Mixing
from sepnet.types import SepnetError

CONF = artifact.config_folder()
PRIMARY = sorted(path.stem for path in CONF.glob("*.yaml"))
IN_TRAINING = ("data", "experiment", "logger", "model", "optimizer", "trainer")
GROUPS = {
    group: [f"{group}={path.stem}" for path in sorted((CONF / group).glob("*.yaml"))] for group in IN_TRAINING
}
EXPERIMENTS = GROUPS.pop("experiment")  # which choose from the other groups
# As many compositions as the largest group has options: one of each group in each.
CHOICES = [
    [options[number % len(options)] for options in GROUPS.values()]
    for number in range(max(len(options) for options in GROUPS.values()))
]


@pytest.mark.parametrize("name", PRIMARY)
def test_primary_configuration_composes(name: str) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert hydra.compose(name)


@pytest.mark.parametrize("choices", [*CHOICES, *([one] for one in EXPERIMENTS)], ids=" ".join)
def test_options_compose(choices: list[str]) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", overrides=choices)
    assert {"model", "data", "optimizer", "trainer", "logger"} <= set(config)


@pytest.mark.parametrize("path", sorted((CONF / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_data_builds(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        node = hydra.compose("train", overrides=[f"data={path.stem}", f"data.corpus.root={tmp_path}"])
    if "noise" in node.data and node.data.noise is not None:
        node.data.noise.root = str(tmp_path)
    data = artifact.build(node.data)
    assert data.sample_rate == node.data.sample_rate
    known = {"speech8k_3mix": (3,), "speech8k_1to3": (1, 2, 3), "esc10": (5,), "esc10_tags": (10,)}
    known |= {"noisy_folder": (1,), "speech8k_noisy": (1,)}
    assert data.mixing.n_sources == known.get(path.stem, (2,))


# The YAML that says what a class of sepnet.data is by default, and where in it.
DATA_MAIN = {
    "folder": ("", "corpus", "mixing"),
    "multimic": ("mixing.responses",),
    "multimic_rooms": ("mixing.responses",),
}


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, places in DATA_MAIN.items() for place in places]
)
def test_the_defaults_of_data_are_those_of_its_main_yaml(name: str, place: str) -> None:
    config = OmegaConf.load(CONF / "data" / f"{name}.yaml")
    node = OmegaConf.to_container(OmegaConf.select(config, place) if place else config, resolve=False)
    assert isinstance(node, dict)
    module, _, target = node["_target_"].rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), target)).parameters
    n_compared = 0
    for key, value in node.items():
        if (
            key.startswith("_")
            or isinstance(value, dict)
            or parameters[key].default is inspect.Parameter.empty
        ):
            continue
        default = parameters[key].default
        assert value == (list(default) if isinstance(default, tuple) else default), key
        n_compared += 1
    assert n_compared >= 2
    if name == "folder":  # it shows every setting
        assert set(parameters) - set(node) <= {"progress"}


@pytest.mark.parametrize("name", ["toy", "librispeech", "librimix", "speech8k"])
def test_speech_is_mixed_alike_everywhere(name: str) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        node = hydra.compose("train", overrides=[f"data={name}"]).data
    assert artifact.build(node.mixing) == Mixing()


def test_no_setting_names_a_folder_outside_of_the_project() -> None:
    for path in CONF.rglob("*.yaml"):
        assert "../" not in path.read_text(), path


@pytest.mark.parametrize(("name", "variable"), [("speech8k", "SEPNET_SPEECH8K"), ("esc10", "SEPNET_ESC10")])
def test_a_corpus_that_no_variable_names_is_refused_with_the_remedy(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        node = hydra.compose("train", overrides=[f"data={name}"]).data
    with pytest.raises(
        SepnetError, match=rf"{variable} is not set: run `export {variable}=.*, or set .*corpus.root"
    ):
        artifact.build(node)
    monkeypatch.setenv(variable, "/somewhere")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        node = hydra.compose("train", overrides=[f"data={name}"])
    assert artifact.build(node.data).corpus.root == Path("/somewhere")


def test_a_folder_takes_the_place_of_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEPNET_ESC10", raising=False)
    check("train", ["data=esc10", "data.corpus.root=stems"])
    with pytest.raises(SepnetError, match="resample=7 is neither"):
        check("train", ["data=esc10", "data.corpus.root=stems", "data.resample=7"])


def test_a_sweep_can_go_to_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", overrides=["hydra/launcher=slurm"], return_hydra_config=True)
    launcher = config.hydra.launcher
    assert launcher._target_ == "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SepnetError, match="there is no srun here: leave it out"):
        check("train", ["hydra/launcher=slurm"], sweep=True)
    assert (launcher.gpus_per_node, launcher.timeout_min) == (1, 1440)


# Defaults: who builds a class in Python gets the method of its YAML

# The YAML that says what a class is by default, for every class that a YAML of conf/model builds.
MAIN = {
    "sepnet.separators.deep_clustering.DeepClustering": "deep_clustering",
    "sepnet.separators.energy.blind.Energy": "energy",
    "sepnet.separators.energy.descent.EnergyDescent": "energy",
    "sepnet.separators.energy.reference.EnergyReference": "energy_reference",
    "sepnet.separators.hpss.HPSS": "hpss",
    "sepnet.separators.ica.convolutive.AuxIVA": "auxiva",
    "sepnet.separators.ica.convolutive.ILRMA": "ilrma",
    "sepnet.separators.ica.fastica.FastICA": "fastica",
    "sepnet.separators.identity.Identity": "identity",
    "sepnet.separators.mask_estimator.model.MaskEstimator": "pit",
    "sepnet.separators.mask_estimator.objectives.SpectralObjective": "conv_autoencoder",
    "sepnet.separators.mask_estimator.objectives.WaveformObjective": "pit",
    "sepnet.separators.nmf.blind.NMF": "nmf",
    "sepnet.separators.nmf.online.OnlineNMF": "nmf_online",
    "sepnet.separators.nmf.supervised.SupervisedNMF": "nmf_supervised",
    "sepnet.separators.oracle.cells.OracleCells": "oracle_mel",
    "sepnet.separators.oracle.cells.OracleGate": "oracle_gate",
    "sepnet.separators.oracle.masks.OracleMask": "irm",
    "sepnet.separators.repet.REPET": "repet",
    "sepnet.networks.blstm.BLSTM": "pit_blstm",
    "sepnet.networks.conditioned.ConditionedTCN": "query_mask",
    "sepnet.networks.conv_autoencoder.ConvAutoencoder": "conv_autoencoder",
    "sepnet.networks.dprnn.DPRNN": "dprnn",
    "sepnet.networks.dprnn.GatedDPRNN": "dprnn_gated",
    "sepnet.networks.dptnet.DPTNet": "dptnet",
    "sepnet.networks.locoformer.Locoformer": "pit_locoformer",
    "sepnet.networks.mossformer2.MossFormer2": "mossformer2",
    "sepnet.networks.resepformer.ReSepFormer": "resepformer",
    "sepnet.networks.sepformer.SepFormer": "sepformer",
    "sepnet.networks.sudormrf.SuDoRMRF": "sudormrf",
    "sepnet.networks.tcn.TCN": "pit",
    "sepnet.networks.tiger.Tiger": "tiger",
    "sepnet.dsp.filterbank.CentredFilterbank": "sudormrf",
    "sepnet.dsp.filterbank.LearnedFilterbank": "conv_tasnet",
    "sepnet.dsp.filterbank.STFT": "pit",
    "sepnet.dsp.mirrored_stft.MirroredSTFT": "tiger",
    "sepnet.dsp.cells.mel_bands": "oracle_mel",
    "sepnet.dsp.cells.mel_blocks": "oracle_patches",
    "sepnet.dsp.masks.amplitude_mask": "iam",
    "sepnet.dsp.masks.complex_ratio_mask": "crm",
    "sepnet.dsp.masks.ideal_binary_mask": "ibm",
    "sepnet.dsp.masks.ideal_ratio_mask": "irm",
    "sepnet.dsp.masks.phase_sensitive_mask": "psm",
    "sepnet.dsp.masks.wiener_mask": "wiener",
    "sepnet.metrics.si_sdr": "pit",
    "sepnet.metrics.thresholded_snr": "pit_any",
}
# YAMLs that are no class's main one: they say in full what differs.
VARIANTS = {
    "enhance": "MaskEstimator of one voice, whose loss is of a voice against noise",
    "energy_live": "EnergyReference with few and long frames, for a short latency",
    "energy_reference_textbook": "EnergyReference as the idea is published",
    "energy_textbook": "Energy as the idea is published",
    "nmf_rank": "NMF with one component a source, as in the textbook",
    "oracle_linear": "OracleMask in the STFT of the masks by example",
    "pit_causal": "MaskEstimator whose output depends on the past alone",
    "pit_tcn": "MaskEstimator with learned filters, a smaller Conv-TasNet",
}


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """All nodes of a configuration that build something."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def model_nodes(name: str) -> list[dict[str, Any]]:
    """Those of a file of conf/model, without the ones of sepnet.query, which are tested on their own."""
    config = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    return [node for node in nodes(config) if not node["_target_"].startswith(NOT_HERE)]


NOT_HERE = ("sepnet.query.", "sepnet.artifact.")
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def test_every_class_has_a_main_yaml_and_every_yaml_a_place() -> None:
    used = {node["_target_"]: name for name in MODELS for node in model_nodes(name)}
    assert set(used) == set(MAIN)
    of_query = {name for name in MODELS if not model_nodes(name)}
    assert set(MODELS) - of_query - set(VARIANTS) == set(MAIN.values())


@pytest.mark.parametrize("target", MAIN, ids=lambda target: target.rpartition(".")[2])
def test_the_defaults_of_a_class_are_those_of_its_main_yaml(target: str) -> None:
    module, _, name = target.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    found = [node for node in model_nodes(MAIN[target]) if node["_target_"] == target]
    assert found
    for node in found:
        for key, value in node.items():
            if key.startswith("_") or (isinstance(value, dict) and "_target_" in value):
                continue
            default = parameters[key].default
            if default is inspect.Parameter.empty:  # it has to be given, in Python, too
                continue
            if isinstance(default, Sequence) and not isinstance(default, str):
                default = list(default)
            assert value == (dict(default) if isinstance(default, Mapping) else default), key


@pytest.mark.parametrize("name", MODELS)
def test_a_misspelt_key_is_refused_with_the_nearest(name: str) -> None:
    """In each node of each model: the last letter of a key is left out."""
    config = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    for number, node in enumerate(list(nodes(config))):
        keys = [key for key in node if not key.startswith("_")]
        if not keys or len(keys[0]) < 4:
            continue
        wrong = copy.deepcopy(config)
        changed = list(nodes(wrong))[number]
        changed[keys[0][:-1]] = changed.pop(keys[0])
        with pytest.raises(SepnetError, match=rf"no setting .*\b{keys[0][:-1]}: did you mean '{keys[0]}'"):
            artifact.build(OmegaConf.create(wrong))
