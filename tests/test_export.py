"""Files for other programs: run by onnxruntime or PyTorch they say what the separator says, or are not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

import sepnet
from sepnet.artifact import config_folder
from sepnet.cli import export as command
from sepnet.dsp.filterbank import STFT, LearnedFilterbank
from sepnet.export import Exported, export
from sepnet.export.formats import open_graph
from sepnet.export.graphs import MaskGraph
from sepnet.metrics import thresholded_snr
from sepnet.networks.blstm import BLSTM
from sepnet.networks.conditioned import ConditionedTCN
from sepnet.networks.dprnn import DPRNN
from sepnet.networks.locoformer import Locoformer
from sepnet.networks.sepformer import SepFormer
from sepnet.networks.tcn import TCN
from sepnet.query.mel_masking import MelMasking
from sepnet.query.query_mask import QueryMask
from sepnet.separators.deep_clustering import DeepClustering
from sepnet.separators.mask_estimator.model import MaskEstimator
from sepnet.separators.mask_estimator.objectives import WaveformObjective
from sepnet.types import Mixture, Query, Separator, SepnetError

RATE, WINDOW = 8000, 32
LENGTHS = (1, 15, 32, 33, 1001)  # shorter than a window, as long, longer, and odd
small_tcn = partial(TCN, n_channels=8, n_hidden=8, n_blocks=2, n_repeats=1, separable=True)


# While a graph is traced, numbers stand for any number: no int, to those who check annotations.
pytestmark = pytest.mark.usefixtures("unchecked_annotations")


def estimator(network: Callable[[int, int], nn.Module], **settings: Any) -> MaskEstimator:
    given: dict[str, Any] = {"filterbank": STFT(window_samples=WINDOW, hop_samples=16)}
    given |= {"objective": WaveformObjective()} | settings
    return MaskEstimator(network=network, **given)


def any_number() -> MaskEstimator:
    return estimator(
        partial(small_tcn, n_skip=8),
        filterbank=LearnedFilterbank(n_filters=12, window_samples=WINDOW, hop_samples=12, rectified=True),
        features="coefficients",
        activation="softmax",
        n_sources=3,
        source_count="given",
        objective=WaveformObjective(metric=partial(thresholded_snr, max_db=30.0), allow_silence=True),
    )


class Attention(nn.Module):
    """Self-attention over all frames: (batch, n_in, frame) -> (batch, n_out, frame)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.projections = nn.Linear(n_in, 3 * 8)
        self.output = nn.Linear(8, n_out)

    def forward(self, x: Tensor) -> Tensor:
        n_batch, _, n_frames = x.shape
        heads = self.projections(x.transpose(1, 2)).reshape(n_batch, n_frames, 3, 2, 4)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind()  # (batch, head, frame, channel)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.output(attended.transpose(1, 2).flatten(2)).transpose(1, 2)


class LevelBranch(nn.Module):
    """A network whose path depends on the samples."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.layer = nn.Conv1d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if float(x.mean()) > 0 else self.layer(-x)


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "causal": lambda: estimator(partial(small_tcn, causal=True, separable=False), level="running"),
    "complex": lambda: estimator(small_tcn, features="compressed", activation="complex"),
    "any number": any_number,
    "blstm": lambda: estimator(
        partial(BLSTM, n_hidden=6, n_layers=2), features="magnitude", activation="ratio"
    ),
    "dprnn": lambda: estimator(
        partial(DPRNN, n_channels=6, n_hidden=4, chunk_frames=6, n_blocks=1), features="coefficients"
    ),
    "filters within": lambda: MaskEstimator(
        filterbank=LearnedFilterbank(n_filters=16, window_samples=16, hop_samples=8, padded=False),
        network=partial(small_tcn, separable=True),
        objective=WaveformObjective(),
        sample_rate=RATE,
        features="coefficients",
        activation="relu",
        consistent=False,
        scale="least_squares",
    ),
    "sepformer": lambda: MaskEstimator(
        filterbank=LearnedFilterbank(
            n_filters=16, window_samples=16, hop_samples=8, rectified=True, padded=False
        ),
        network=partial(
            SepFormer, n_channels=8, n_hidden=8, n_heads=2, n_layers=1, chunk_frames=6, n_blocks=1
        ),
        objective=WaveformObjective(),
        sample_rate=RATE,
        features="coefficients",
        activation="relu",
        consistent=False,
        scale="least_squares",
    ),
    "attention": lambda: estimator(Attention),
    "locoformer": lambda: estimator(
        partial(Locoformer, n_channels=8, n_hidden=8, n_heads=2, n_groups=2, n_blocks=1),
        features="coefficients",
        activation="mapping",
    ),
}


def made(name: str) -> Any:
    torch.manual_seed(0)
    return MAKERS[name]().eval()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def session(path: Path) -> Callable[..., np.ndarray]:
    """The file in onnxruntime, as another program would have it: arrays in, the first output out."""
    opened = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in opened.get_inputs()]
    return lambda *arrays: opened.run(None, dict(zip(names, arrays, strict=True)))[0]


def program(path: Path) -> Callable[..., np.ndarray]:
    module = torch.export.load(path).module()
    return lambda *arrays: module(*(torch.from_numpy(each) for each in arrays)).numpy()


OPENED = {".onnx": session, ".pt2": program}


def separated(separator: Separator, mixture: np.ndarray, **hints: Any) -> np.ndarray:
    """(batch, time) to (batch, source, time), by the separator."""
    found = [
        separator.separate(
            Mixture(torch.from_numpy(each)[None], RATE, **hints).only(separator.info.needs)
        ).sources
        for each in mixture
    ]
    return torch.stack(found).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Exported]:
    """Writes a model once in each format; the values of its configuration differ from format to format."""

    @cache
    def write(name: str, suffix: str) -> Exported:
        path = tmp_path_factory.mktemp("exported") / f"a{suffix}"
        return export(made(name), path, name="mine", config={"a": 1, "b": {"c": suffix}})

    return write


QUICKLY_WRITTEN = {"causal", "blstm"}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *(
            pytest.param(name, ".onnx", marks=[pytest.mark.slow] * (name not in QUICKLY_WRITTEN))
            for name in MAKERS
        ),
        ("causal", ".pt2"),
        pytest.param("attention", ".pt2", marks=pytest.mark.slow),
        pytest.param("any number", ".pt2", marks=pytest.mark.slow),
    ],
)
def test_the_file_says_what_the_separator_says(
    name: str, suffix: str, exported: Callable[[str, str], Exported]
) -> None:
    separator, file = made(name), exported(name, suffix)
    assert file.deviation is not None
    assert len(file.deviation) == 5
    assert max(file.deviation.values()) < 1e-5
    run = OPENED[suffix](file.path)
    n_sources = separator.n_outputs
    for n_samples in LENGTHS:
        mixture = noise(3, n_samples, seed=n_samples)
        wanted = separated(separator, mixture, n_sources=n_sources)
        np.testing.assert_allclose(run(mixture), wanted, atol=1e-5)
        np.testing.assert_allclose(run(mixture[:1]), wanted[:1], atol=1e-5)
    for gain in (1e-3, 1e3):  # level-faithful
        np.testing.assert_allclose(run(gain * mixture), gain * wanted, atol=gain * 1e-4)
    mixture[1] = 0.0  # silence beside sound
    sources = run(mixture)
    assert np.isfinite(sources).all()
    assert not sources[1].any()
    np.testing.assert_allclose(sources[0], wanted[0], atol=1e-5)
    if separator.consistent:
        np.testing.assert_allclose(sources.sum(axis=1), mixture, atol=1e-5)
    if suffix == ".onnx":
        check_graph(file.path)


def check_graph(path: Path, instead: frozenset[str] | set[str] = frozenset()) -> None:
    """Real numbers, standard operators, and nothing of the machine that it was made on."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [each.version for each in model.opset_import if not each.domain] == [18]
    kinds = {node.op_type for node in model.graph.node}
    assert not {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    assert not model.functions
    assert not kinds & {"STFT", "DFT", "MelWeightMatrix", "HannWindow", "Loop", "Scan", "If"}
    assert kinds & instead or {"Conv", "ConvTranspose"} <= kinds
    types = {each.type.tensor_type.elem_type for each in (*model.graph.value_info, *model.graph.input)}
    assert not types & {onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}
    written = path.read_bytes()
    for private in (b"site-packages", b".py", str(Path.cwd()).encode()):
        assert private not in written


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".pt2", marks=pytest.mark.slow)])
def test_a_shipped_model_at_any_length(tmp_path: Path, suffix: str) -> None:
    """Lengths that fill blocks of the network evenly are no exception, in either format."""
    separator = sepnet.load("conv-autoencoder-esc10")
    run = OPENED[suffix](export(separator, tmp_path / f"a{suffix}").path)
    for n_samples in (1, 511, 15 * 256 - 256, 15 * 256 - 255, 8000):
        mixture = noise(1, n_samples)
        wanted = separator.separate(Mixture(torch.from_numpy(mixture), 16000)).sources
        np.testing.assert_allclose(run(mixture)[0], wanted.numpy(), atol=1e-5)


def test_the_file_says_what_it_is(exported: Callable[[str, str], Exported]) -> None:
    path = exported("causal", ".onnx").path
    told = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    found = {key: json.loads(value) for key, value in told.items()}
    files = {"sepnet.json": ""}
    torch.export.load(exported("causal", ".pt2").path, extra_files=files)
    also = json.loads(files["sepnet.json"])
    assert also.pop("config_fingerprint") != found.pop("config_fingerprint")
    assert (
        found
        == also
        == {
            "model": "mine",
            "sample_rate": RATE,
            "sources": ["s1", "s2"],
            "latency_seconds": WINDOW / RATE,
            "sepnet_version": sepnet.__version__,
        }
    )


def test_the_step_hop_by_hop_is_the_whole(tmp_path: Path) -> None:
    separator = made("causal")
    path = export(separator, tmp_path / "step.onnx", step=True).path
    check_graph(path, {"Gemm", "MatMul"})
    mixture = noise(1, 777)
    mixture[:, 300:] *= 30.0  # later sound must not reach back
    opened = onnxruntime.InferenceSession(path)
    told = {k: json.loads(v) for k, v in opened.get_modelmeta().custom_metadata_map.items()}
    assert (told["hop_samples"], told["lag_samples"], told["latency_seconds"]) == (16, 16, WINDOW / RATE)
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64}
    names = [each.name for each in opened.get_inputs()]
    assert [each.name for each in opened.get_outputs()] == ["sources", *(f"new_{n}" for n in names[1:])]
    state: list[Any] = [np.zeros(each.shape, kinds[each.type]) for each in opened.get_inputs()[1:]]
    parts = []
    for hop in np.split(np.pad(mixture, ((0, 0), (0, 16 * 50 - 777))), 50, axis=1):
        sources, *state = opened.run(None, dict(zip(names, [hop, *state], strict=True)))
        parts.append(sources)
    got = np.concatenate(parts, axis=2)[0, :, 16 : 16 + 777]
    np.testing.assert_allclose(got, separated(separator, mixture)[0], atol=1e-5)


def clustering(**settings: Any) -> DeepClustering:
    torch.manual_seed(0)
    bank = STFT(window_samples=WINDOW, hop_samples=16)
    return DeepClustering(filterbank=bank, network=small_tcn, n_dims=4, **settings).eval()


def test_of_deep_clustering_the_mask_head(tmp_path: Path) -> None:
    separator = clustering(head_sources=2)
    with pytest.raises(SepnetError, match=r"k-means.*head=true"):
        export(separator, tmp_path / "a.onnx")
    with pytest.raises(SepnetError, match=r"no mask head.*model\.head_sources=2"):
        export(clustering(), tmp_path / "a.onnx", head=True)
    run = session(export(separator, tmp_path / "a.onnx", head=True).path)
    assert not separator.use_head  # it was left alone
    separator.use_head = True
    for n_samples in LENGTHS:
        mixture = noise(2, n_samples)
        np.testing.assert_allclose(run(mixture), separated(separator, mixture, n_sources=2), atol=1e-5)
    assert not run(np.zeros((1, 500), np.float32)).any()


@pytest.mark.slow
def test_the_query_network_takes_mixture_and_query(tmp_path: Path) -> None:
    torch.manual_seed(0)
    separator = QueryMask(
        network=partial(ConditionedTCN, n_channels=8, n_blocks=1, n_repeats=1),
        masking=MelMasking(sample_rate=RATE, window_samples=64, hop_samples=32, n_mels=8, exponent=2.0),
        sample_rate=RATE,
        n_embedding=6,
        n_encoder=8,
    ).eval()
    exported = export(separator, tmp_path / "a.onnx")
    assert exported.metadata["sources"] == ["query", "residual"]
    run = session(exported.path)
    for n_samples, n_query in [(1, 800), (63, 1601), (1001, 999)]:
        mixture, query = noise(2, n_samples), noise(2, n_query, seed=1)
        for each in range(2):
            asked = (Query(torch.from_numpy(query[each]), RATE),)
            wanted = separated(separator, mixture[each : each + 1], queries=asked)
            got = run(mixture, query)[each]
            np.testing.assert_allclose(got, wanted[0], atol=1e-5)
            np.testing.assert_allclose(run(1e3 * mixture, 1e-3 * query)[each], 1e3 * got, atol=1e-2)
    assert not run(np.zeros((1, 500), np.float32), query[:1]).any()


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("nmf", {}, "without a trained network"),
        ("irm", {}, "needs the true sources"),
        ("pit-2spk-8k", {"step": True}, "can't go live"),
        ("pit-2spk-8k", {"head": True}, "leave it out"),
        ("query-mask-esc10", {"step": True}, "step=true is for causal mask estimators"),
    ],
)
def test_what_can_not_be_exported_says_why(
    name: str, settings: dict[str, bool], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(SepnetError, match=reason):
        export(sepnet.load(name), tmp_path / "deep" / "a.onnx", **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_parts_that_can_not_be_exported_are_named(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match=r"can't export a part of this model \(.+\): replace branches"):
        export(estimator(LevelBranch).eval(), tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def test_recurrent_networks_are_no_pt2(tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match=r"write \.onnx"):
        export(made("blstm"), tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


def test_a_file_that_says_something_else_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = MaskGraph.forward

    def wrong(self: MaskGraph, mixture: Tensor) -> Tensor:
        return right(self, mixture) * 1.002 + 2e-4

    monkeypatch.setattr(MaskGraph, "forward", wrong)
    path = tmp_path / "a.pt2"
    path.write_text("an older one")
    with pytest.raises(SepnetError, match=r"deviates from the model by more than 0\.0001"):
        export(made("causal"), path, overwrite=True)
    assert path.read_text() == "an older one"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_can_not_be_written_to(tmp_path: Path) -> None:
    separator = made("causal")
    file = tmp_path / "a.onnx"
    file.write_text("mine")
    with pytest.raises(SepnetError, match="exists already: give overwrite=true"):
        export(separator, file)
    with pytest.raises(SepnetError, match="is no folder"):
        export(separator, file / "b.onnx")
    with pytest.raises(SepnetError, match=r"'\.tflite' is no known format: use \.onnx or \.pt2"):
        export(separator, tmp_path / "a.tflite")
    (tmp_path / "b.pt2").mkdir()
    with pytest.raises(SepnetError, match="exists already"):
        export(separator, tmp_path / "b.pt2", overwrite=True)
    assert file.read_text() == "mine"


def test_packages_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(
            SepnetError, match=r"needs the package onnxscript: pip install 'sepnet\[export\]'"
        ):
            export(made("causal"), tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert open_graph(b"", "onnx") is None  # and the command says that nothing was compared


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def settings(**given: Any) -> Any:
        config = OmegaConf.load(config_folder() / "export.yaml")
        del config["defaults"]
        return OmegaConf.merge(config, {name: str(value) for name, value in given.items()})

    model = "conv-autoencoder-esc10"
    with pytest.raises(SepnetError, match=r"suffix than format=torch: name it a\.pt2"):
        command.write(settings(model=model, out=tmp_path / "a.onnx", format="torch"))
    with pytest.raises(SepnetError, match="format is 'tf': give onnx, torch or null"):
        command.write(settings(model=model, out=tmp_path / "a.onnx", format="tf"))
    with pytest.raises(SepnetError, match="out has no value"):
        command.write(settings(model=model))
    command.write(settings(model=model, out=tmp_path / "a.pt2"))
    said = capsys.readouterr().out
    assert "5 sources (dog_bark, rain, baby_cry, clock_tick, helicopter)" in said
    assert "largest deviation from the model: " in said
    assert "on 1, 257, 513, 16001, 48002 samples" in said
