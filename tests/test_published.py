"""Models of other toolkits: what their own code computed, and files that a stranger may have written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import sepnet
from sepnet import artifact
from sepnet.artifact import formats
from sepnet.artifact.formats import convert, pickled
from sepnet.artifact.formats.plain_yaml import Tagged, read_plain_yaml
from sepnet.evaluation.contenders import contender
from sepnet.types import Batch, Mixture, Separator, SepnetError

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = sorted(path.name for path in GOLDEN.iterdir() if formats.is_published(path))
MAX_ERROR = 1e-5  # of the largest sample of an output
each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert.constants, "HF_HOME", str(tmp_path / "home"))


def load(family: str) -> nn.Module:
    separator = sepnet.load(GOLDEN / family)
    assert isinstance(separator, nn.Module)
    return separator


@each_family
@pytest.mark.parametrize("which", ["short", "long", "batch"])
def test_the_output_is_that_of_the_toolkit(family: str, which: str) -> None:
    arrays = np.load(GOLDEN / family / "golden.npz")
    signal, expected = (torch.from_numpy(arrays[f"{which}_{kind}"]) for kind in ("input", "output"))
    with torch.no_grad():
        output: Tensor = load(family)(signal).sources
    assert output.shape == expected.shape
    assert expected.abs().amax() > 1e-3
    torch.testing.assert_close(output, expected, atol=MAX_ERROR * float(expected.abs().max()), rtol=0)


@each_family
def test_separation_differs_from_the_network_in_level_alone(family: str) -> None:
    separator = load(family)
    assert isinstance(separator, Separator)
    signal = 0.3 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(2))
    sample_rate = separator.info.sample_rate
    assert sample_rate is not None
    sources = separator.separate(Mixture(signal, sample_rate)).sources
    # A network that does not normalise its input is given the level of its training.
    input_level = separator.input_rms / signal.square().mean().sqrt() if separator.input_rms != 1.0 else 1.0
    with torch.no_grad():
        outputs = separator(signal * input_level).sources[0]
    assert len(sources) == separator.info.n_sources
    gains = (sources * outputs).sum(dim=-1, keepdim=True) / outputs.square().sum(dim=-1, keepdim=True)
    torch.testing.assert_close(sources, gains * outputs, atol=2e-4 * float(sources.abs().max()), rtol=0)


# What else is done with them


def test_they_say_what_they_need_and_leave_out() -> None:
    clean, noisy, single = (
        load(f"asteroid_{name}").info for name in ("conv_tasnet", "conv_tasnet_v1", "conv_tasnet_enhsingle")
    )
    assert (clean.n_sources, clean.sample_rate, clean.covers_mixture) == (2, 8000, True)
    assert (noisy.n_sources, noisy.sample_rate, noisy.covers_mixture) == (3, 8000, False)
    assert (single.n_sources, single.sample_rate, single.covers_mixture) == (1, 16000, False)


def test_one_source_is_not_made_to_be_the_mixture() -> None:
    recording = 0.1 * torch.randn(1, 9000, generator=torch.Generator().manual_seed(0))
    enhanced = sepnet.separate(recording, 22050, model=GOLDEN / "asteroid_conv_tasnet_enhsingle").sources
    assert enhanced.shape == recording.shape
    assert (enhanced - recording).square().sum() > 0.01 * recording.square().sum()
    two = sepnet.separate(recording, 22050, model=GOLDEN / "asteroid_conv_tasnet").sources
    torch.testing.assert_close(two.sum(dim=0, keepdim=True), recording, atol=1e-5, rtol=0)


@each_family
def test_they_are_saved_as_run_folders(family: str, tmp_path: Path) -> None:
    sepnet.Pretrained.from_pretrained(GOLDEN / family).save_pretrained(tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert names == {"README.md", "config.yaml", "model.safetensors", "provenance.json"}
    origin = json.loads((tmp_path / "copy" / "provenance.json").read_text())["published"]
    assert origin["licence"] in {"cc-by-sa-4.0", "apache-2.0"}
    assert origin["licence"] in (tmp_path / "copy" / "README.md").read_text()
    copy = sepnet.load(tmp_path / "copy")
    assert isinstance(copy, nn.Module)
    for name, tensor in load(family).state_dict().items():
        assert torch.equal(copy.state_dict()[name], tensor)


@each_family
def test_they_learn(family: str) -> None:
    separator = load(family).train()
    info = separator.info
    sources = 0.1 * torch.randn(2, info.n_sources, 800, generator=torch.Generator().manual_seed(0))
    batch = Batch(sources.sum(dim=1, keepdim=True), sources, ("a", "b"), info.sample_rate)
    separator.loss(batch)["loss"].backward()
    for name, parameter in separator.named_parameters():
        assert parameter.grad is not None, name


def test_a_contender_bears_its_licence() -> None:
    assert "licence: cc-by-sa-4.0" in contender(GOLDEN / "asteroid_conv_tasnet").config


def test_a_folder_is_converted_once_and_again_where_it_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(GOLDEN / "asteroid_conv_tasnet", folder)
    first = artifact.resolve(folder).path
    assert capsys.readouterr().err == f"{folder}: ConvTasNet of asteroid, licence: cc-by-sa-4.0\n"
    assert artifact.resolve(folder).path == first
    assert capsys.readouterr().err == ""
    change(folder, lambda package: package["state_dict"]["masker.mask_net.1.bias"].add_(1.0))
    assert artifact.resolve(folder).path != first


def sepformer(tmp_path: Path, **edits: tuple[str, str]) -> Path:
    """The golden folder of SepFormer with edited files, by their names without suffix."""
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "speechbrain_sepformer", folder)
    for name, (old, new) in edits.items():
        path = next(folder.glob(f"{name}.*"))
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    return folder


def test_noise_is_left_out_by_what_was_trained_on_it(tmp_path: Path) -> None:
    assert load("speechbrain_sepformer").info.covers_mixture
    assert not load("speechbrain_sepformer_enhancement").info.covers_mixture
    assert not sepnet.load(sepformer(tmp_path, README=("Libri2Mix", "WHAMR!"))).info.covers_mixture


# What a stranger may have written


class Mischief:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "pytorch_model.bin"
    package = torch.load(path, weights_only=False)
    edit(package)
    torch.save(package, path)


def setting(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda package: package["model_args"].update(values)


def trained_at(sample_rate: object) -> Callable[[dict[str, Any]], object]:
    """The rate of the training configuration, which counts where the settings have none."""

    def edit(package: dict[str, Any]) -> None:
        package["model_args"].pop("sample_rate")
        package["infos"]["training_config"]["data"]["sample_rate"] = sample_rate

    return edit


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another network": (
        lambda package: package.update(model_name="DCUNet"),
        "holds asteroid's DCUNet, which sepnet does not have: it reads ConvTasNet",
    ),
    "no settings": (lambda package: package.pop("model_args"), "not model_name, model_args, state_dict"),
    "settings that are none": (lambda package: package.update(model_args=3), "has to be a mapping"),
    "a name that is no text": (
        lambda package: package.update(model_name=["ConvTasNet"]), "which sepnet does not have: it reads",
    ),
    "no rate": (trained_at(float("nan")), "sample_rate=nan has to be a number from 1 to 768000"),
    "half a sample": (trained_at(8000.5), "sample_rate=8000.5 has to be a number from 1 to 768000"),
    "an unknown setting": (setting(attention=True), "the setting 'attention' is unknown"),
    "too many layers": (setting(n_repeats=10**9), "n_repeats=1000000000 has to be a number from 1 to 256"),
    "too many filters": (setting(n_filters=10**7), "n_filters=10000000 has to be a number from 1 to 8192"),
    "no number": (setting(bn_chan="8"), "bn_chan=8 has to be a number"),
    "another norm": (setting(norm_type="BN"), "norm_type=BN is not supported; known are gLN"),
    "other filters": (setting(fb_name="stft"), "fb_name=stft is not supported; known are free"),
    "another size": (setting(hid_chan=24), r"is \(12, 8, 1\), not \(24, 8, 1\)"),
    "fewer blocks": (setting(n_blocks=2), "has beyond its settings network.blocks.4"),
    "more blocks": (setting(n_blocks=4), "lacks network.blocks.6"),
    "a tensor beyond": (
        lambda package: package["state_dict"].update(surprise=torch.zeros(1)),
        "holds a tensor 'surprise', which its architecture doesn't have",
    ),
    "no tensors": (
        lambda package: package.update(state_dict=[1]), "holds a list in place of tensors by name",
    ),
    "words for tensors": (
        lambda package: package["state_dict"].update(a="b"), "holds a str as a, not a tensor",
    ),
    "a tensor without numbers": (
        lambda package: package["state_dict"].update(a=torch.zeros(1, device="meta")),
        "holds a tensor a that is not of real numbers",
    ),
    "a sparse tensor": (
        lambda package: package["state_dict"].update(a=torch.eye(2).to_sparse()),
        "holds a tensor a that is not of real numbers",
    ),
    "complex numbers": (
        lambda package: package["state_dict"].update(a=torch.zeros(1, dtype=torch.complex64)),
        "holds a tensor a that is not of real numbers",
    ),
    "quantised numbers": (
        lambda package: package["state_dict"].update(
            a=torch.quantize_per_tensor(torch.zeros(1), 0.1, 0, torch.qint8)
        ),
        "a tensor a that is not of real numbers, one by one",
    ),
    "a tensor larger than its file": (
        lambda package: package["state_dict"].update(huge=torch.zeros(1).expand(10**12)),
        "the tensors of .* would take 4000.0 GB: refused",
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_other_contents_are_refused_in_a_sentence(edit: str, tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "asteroid_conv_tasnet", folder)
    alter, reason = EDITS[edit]
    change(folder, alter)
    with pytest.raises(SepnetError, match=reason) as raised:
        sepnet.load(folder)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "home").rglob("*.safetensors"))


@pytest.mark.parametrize("key", ["task", "dataset", "licenses"])
def test_remarks_that_are_no_text_are_left_out(key: str, tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "asteroid_conv_tasnet", folder)
    (folder / "README.md").unlink()
    odd = torch.zeros(2)
    change(folder, lambda package: package.update({key: [{"license": odd}] if key == "licenses" else odd}))
    path = artifact.resolve(folder).path
    origin = json.loads((path / "provenance.json").read_text())["published"]
    assert key not in origin
    assert origin["licence"] == ("unknown" if key == "licenses" else "derived from data under CC BY 4.0")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "asteroid_conv_tasnet", folder)
    change(folder, lambda package: package.update(infos=Mischief(tmp_path / "ran")))
    with pytest.raises(SepnetError, match=r"holds pickled code \(\w+\.system\), which is never run"):
        sepnet.load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "asteroid_conv_tasnet", folder)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(SepnetError, match=r"can't be read as a file of torch\.save: fetch it again"):
        sepnet.load(folder)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "asteroid_conv_tasnet", folder)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(SepnetError, match="is a compressed archive"):
        sepnet.load(folder)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("MAX_FILE_BYTES", "more than the 0.0 GB allowed"), ("MAX_PICKLE_BYTES", "MB beside its tensors")],
)
def test_a_file_that_is_too_large_is_refused(
    limit: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickled, limit, 1000)
    with pytest.raises(SepnetError, match=reason):
        load("asteroid_conv_tasnet")


def test_an_unknown_format_is_refused_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(
        SepnetError, match=r"holds model.onnx, but neither config.yaml \(sepnet\) nor pytorch_model"
    ):
        sepnet.load(tmp_path)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(SepnetError, match="No space left on device"):
            load("asteroid_conv_tasnet")
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.suffix != ".lock"]
    load("asteroid_conv_tasnet")


def test_what_differs_from_the_hub_s_checksum_is_refused(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    shutil.copy(GOLDEN / "asteroid_conv_tasnet" / "pytorch_model.bin", blob)
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "pytorch_model.bin").symlink_to(blob)
    with pytest.raises(SepnetError, match="its SHA-256 is not the one that the hub announced"):
        sepnet.load(tmp_path / "snapshot")
    announced = blob.with_name(hashlib.sha256(blob.read_bytes()).hexdigest())
    blob.rename(announced)
    (tmp_path / "snapshot" / "pytorch_model.bin").unlink()
    (tmp_path / "snapshot" / "pytorch_model.bin").symlink_to(announced)
    sepnet.load(tmp_path / "snapshot")


DUAL_PATH = "speechbrain.lobes.models.dual_path"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            f"!new:{DUAL_PATH}.Dual_Path_Model",
            "!new:os.system",
            "masknet is a os.system, which sepnet does not have",
        ),
        (
            f"!new:{DUAL_PATH}.Encoder",
            f"!apply:{DUAL_PATH}.Encoder",
            "encoder is not made by !new: of a class",
        ),
        ("norm_before: true", "norm_before: false", "norm_before=False is not supported"),
        ("num_layers: 1", "num_layers: 1000000", "num_layers=1000000 has to be a number from 1 to 256"),
        ("num_layers: 1", "num_layers: 2", "lacks network.across.1"),
        ("K: 10", "K: 11", "chunk_frames is 11, but has to be even"),
        ("norm: ln", "norm: gln", "norm=gln is not supported"),
        ("norm: ln", "norm: ln\n  surprise: 1", "the setting 'surprise' is unknown"),
        ("encoder: !ref <Encoder>", "encoder: !ref <Encoder", "the reference <Encoder leads nowhere"),
        ("N_encoder_out: 16", "N_encoder_out: !ref <N_encoder_out>", "leads in a circle"),
        ("bias: false", "bias: true", "bias=True is not supported"),
        ("  masknet: !ref <MaskNet>", "  other: 1", "masknet is not made by"),
        ("modules:", "others:", "has no modules by name"),
        ("sample_rate: 8000", "sample_rate: fast", "sample_rate=fast has to be a number"),
        ("num_spks: 2", "num_spks: 99", "num_spks=99 has to be a number from 1 to 16"),
    ],
)
def test_other_settings_of_speechbrain_are_refused(old: str, new: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match=reason) as raised:
        sepnet.load(sepformer(tmp_path, hyperparams=(old, new)))
    assert "\n" not in str(raised.value)


RESEPFORMER_EDITS = [
    ("mem_type: 'av'", "mem_type: 'hc'", "mem_type=hc is not supported"),
    ("causal: False", "causal: True", "causal=True is not supported"),
    ("use_norm: True", "use_norm: False", "use_norm=False is not supported"),
    ("layer: 2", "layer: 3", "lacks network.memories.1"),
    ("num_spk: !ref <num_spks>", "num_spk: 3", r"is \(16, 8, 1\), not \(24, 8, 1\)"),
    ("  mem_type", "  nonlinear: tanh\n  mem_type", "nonlinear=tanh is not supported"),
    ("input_dim: !ref <N_encoder_out>", "input_dim: 4", "d_model differs from the 4 channels"),
    ("segment_size: 10", "segment_size: 0", "segment_size=0 has to be a number"),
    ("seg_model: !ref <intra_mdl>", "seg_model: !new:os.system", "seg_model is not made by"),
]


@pytest.mark.parametrize(("old", "new", "reason"), RESEPFORMER_EDITS)
def test_other_settings_of_resepformer_are_refused(old: str, new: str, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "speechbrain_resepformer", folder)
    path = folder / "hyperparams.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SepnetError, match=reason) as raised:
        sepnet.load(folder)
    assert "\n" not in str(raised.value)


def test_a_network_that_does_not_normalise_gets_the_level_of_its_training() -> None:
    assert load("speechbrain_resepformer").input_rms == 0.12
    assert load("speechbrain_sepformer").input_rms == 1.0


TIGER_EDITS = [
    ('"win": 640', '"win": 320', "take a longer window"),
    ('"win": 640', '"win": 642', r"network.inlets.66.0.weight is \(2,\), not \(4,\)"),
    ('"win": 640', '"win": 640, "surprise": 1', "the setting 'surprise' is unknown"),
    ('"stride": 160', '"stride": 400', "longer than half the window"),
    (
        '"upsampling_depth": 3',
        '"upsampling_depth": 4',
        "lacks network.along_bands.multi_scale.combinations.2",
    ),
    ('"upsampling_depth": 3', '"upsampling_depth": 1', "upsampling_depth=1 has to be a number from 2 to 256"),
    ('"att_n_head": 2', '"att_n_head": 3', "has to be a multiple of n_heads=3"),
    ('"att_n_head": 2', '"att_n_head": "two"', "att_n_head=two has to be a number"),
    ('"num_sources": 2', '"num_sources": 4', "network.outlets"),
    ("{", "[", "but neither config.yaml"),
]


@pytest.mark.parametrize(("old", "new", "reason"), TIGER_EDITS)
def test_other_settings_of_tiger_are_refused(old: str, new: str, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "look2hear_tiger", folder)
    path = folder / "config.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SepnetError, match=reason) as raised:
        sepnet.load(folder)
    assert "\n" not in str(raised.value)


def test_other_tensors_of_tiger_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "look2hear_tiger", folder)
    path, content = folder / "model.safetensors", load_file(GOLDEN / "look2hear_tiger" / "model.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SepnetError, match="can't be read as safetensors"):
        sepnet.load(folder)
    save_file({**content, "surprise": torch.zeros(1)}, path)
    with pytest.raises(SepnetError, match="holds a tensor 'surprise'"):
        sepnet.load(folder)
    head = "separator.freq_path.1.Queries.1.conv.weight"
    save_file({name: tensor for name, tensor in content.items() if name != head}, path)
    with pytest.raises(SepnetError, match="does not hold the weights of the TIGER"):
        sepnet.load(folder)
    save_file({**content, head: torch.zeros(3, 1, 1, 1)}, path)
    with pytest.raises(SepnetError, match="the same tensors for all heads"):
        sepnet.load(folder)


SUDORMRF_EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another hop": (setting(stride=3), "the stride 3 is not half of kernel_size=10"),
    "a rectified encoder": (setting(encoder_activation="relu"), "encoder_activation=relu is not supported"),
    "more resolutions": (setting(upsampling_depth=5), "lacks network.blocks.0.scales.4"),
    "too many resolutions": (
        setting(upsampling_depth=99),
        "upsampling_depth=99 has to be a number from 1 to 16",
    ),
    "an unknown setting": (setting(attention=True), "the setting 'attention' is unknown"),
}


@pytest.mark.parametrize("edit", SUDORMRF_EDITS)
def test_other_settings_of_sudormrf_are_refused(edit: str, tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "asteroid_sudormrf_improved", folder)
    alter, reason = SUDORMRF_EDITS[edit]
    change(folder, alter)
    with pytest.raises(SepnetError, match=reason):
        sepnet.load(folder)


def mossformer(tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """The golden folder of MossFormer2 with an edited package."""
    folder = tmp_path / "stranger"
    shutil.copytree(GOLDEN / "clearvoice_mossformer2", folder)
    path = folder / "last_best_checkpoint.pt"
    package = torch.load(path, weights_only=True)
    torch.save(edit(package) or package, path)
    return folder


@pytest.mark.parametrize(
    "wrap",
    [
        lambda package: package["model"],
        lambda package: {"model": {f"module.{name}": each for name, each in package["model"].items()}},
    ],
)
def test_tensors_of_clearvoice_are_found_however_they_were_saved(
    wrap: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    expected, separator = load("clearvoice_mossformer2"), sepnet.load(mossformer(tmp_path, wrap))
    assert isinstance(separator, nn.Module)
    assert separator.info == expected.info
    for name, tensor in expected.state_dict().items():
        assert torch.equal(separator.state_dict()[name], tensor)


def tensor(name: str, value: Tensor | None) -> Callable[[dict[str, Any]], object]:
    """Replace a tensor, or take it away."""

    def edit(package: dict[str, Any]) -> None:
        package["model"].pop(name, None)
        if value is not None:
            package["model"][name] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            tensor("generator.0.weight", torch.zeros(3)),
            "holds a tensor 'generator.0.weight', which its archi",
        ),
        (tensor("enc.conv1d.weight", None), "it lacks filterbank.encoder"),
        (tensor("mask_net.prelu.weight", None), "lacks network.sources.0.weight"),
        (tensor("enc.conv1d.weight", torch.zeros(0, 1, 16)), r"or its shape is \(0, 1, 16\)"),
        (tensor("mask_net.conv1d_out.bias", torch.zeros(12 * 99)), "a network for 99 sources: at most 16"),
        (tensor("mask_net.conv1d_out.bias", torch.zeros(3 * 12)), r"is \(24, 12, 1\), not \(36, 12, 1\)"),
        (lambda package: {"model": [1]}, "holds a list in place of tensors by name"),
        (lambda package: [1], "holds a list in place of tensors by name"),
    ],
)
def test_other_tensors_of_clearvoice_are_refused(
    edit: Callable[[dict[str, Any]], object], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(SepnetError, match=reason) as raised:
        sepnet.load(mossformer(tmp_path, edit))
    assert "\n" not in str(raised.value)


# YAML


def test_tags_are_data() -> None:
    values = read_plain_yaml("a: !new:os.system\n  command: ls\nb: !ref <a>\nc: !apply:os.getcwd []", "here")
    assert values["a"] == Tagged("new:os.system", {"command": "ls"})
    assert values["b"] == Tagged("ref", "<a>")
    assert values["c"] == Tagged("apply:os.getcwd", [])


BOMB = "a: &a [x]\n" + "\n".join(
    f"{new}: &{new} [{', '.join(9 * [f'*{old}'])}]" for old, new in pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "it has aliases"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("[" * 5000, "can't be read as settings"),
        ("- 1", "holds a list, not settings by name"),
        ("a: 'b", "can't be read as settings"),
        ("a: !!int ''", "can't be read as settings"),
        ("a: !!bool maybe", "can't be read as settings"),
        ("a: !!timestamp now", "can't be read as settings"),
        (f"a: {'x' * 2**20}", "too much for settings"),
    ],
)
def test_hostile_yaml_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SepnetError, match=reason):
        read_plain_yaml(text, "here")
