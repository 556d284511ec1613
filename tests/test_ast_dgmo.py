"""Query by example as a whole: first masks, events, settings that do not fit, and the command line."""

from __future__ import annotations

import inspect
import io
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import soundfile
import torch
import yaml
from hydra.utils import get_object
from torch import Tensor

import sepnet
from sepnet import artifact, inference
from sepnet.cli import separate as command
from sepnet.metrics import si_sdr
from sepnet.query.ast_dgmo import AstDgmo
from sepnet.query.context import QueryContext
from sepnet.query.detection.result import Detection
from sepnet.query.event import EventFinder
from sepnet.query.mel_masking import MelMasking
from sepnet.query.optimisation.dgmo import DGMO
from sepnet.query.starts.blended import BlendedStart
from sepnet.query.starts.contrast import SpectralContrast
from sepnet.query.starts.patches import PatchMask
from sepnet.query.starts.semantic import SemanticMask, gaussian_smooth
from sepnet.query.starts.start import QueryEmbedder, provides_embedder
from sepnet.query.starts.stitching import MelStitching
from sepnet.query.tagging.tagger import Tagger
from sepnet.query.tagging.tags import ClipTags, TagTrack, WindowTags
from sepnet.types import CannotSeparate, Mixture, Query, SepnetError

RATE = 16000
STARTS = [MelStitching(), SemanticMask(), PatchMask(), SpectralContrast()]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tagger() -> Tagger:
    torch.manual_seed(0)
    return Tagger(labels=("bark", "rain"), hidden=16, n_layers=1, n_heads=2, n_mels=32)


def finder(**settings: object) -> AstDgmo:
    """A method with an untrained tagger, and thresholds that every window passes."""
    everything = {"min_threshold": 1e-6, "max_threshold": 1e-5}
    given = {
        "tagger": tagger(), "start": MelStitching(), "detector": everything, "dgmo": None,
        "hop_seconds": 0.25, "loss_embedding": "tagger", **settings,
    }  # fmt: skip
    return AstDgmo(**given)  # type: ignore[arg-type]


def found(begin: float, end: float, seconds: float, similarity: Tensor | None = None) -> Detection:
    """A detection of one segment, with windows of 1 s every quarter."""
    starts = torch.arange(0, seconds - 1 + 1e-6, 0.25)
    centres = starts + 0.5
    inside = ((centres >= begin) & (centres <= end)).float() if similarity is None else similarity
    return Detection(
        times=torch.stack([starts, starts + 1], dim=1),
        probability=inside,
        similarity=inside,
        score=inside,
        gate=inside > 0.5,
        threshold=0.5,
        segments=((begin, end),),
        confidence=1.0,
        nearest_miss=None,
        seconds=seconds,
        sharpening=1.0,
    )


def scene(signal: Tensor, query: Tensor, detection: Detection, label: str = "thing") -> QueryContext:
    masking, net = MelMasking(), tagger().eval()
    track = net.tag_track(signal, hop_seconds=0.25)
    tags = ClipTags(torch.tensor([0.5, 0.5]), torch.ones(16), "bark")
    powers = masking.mel_powers(signal)
    return QueryContext(signal, powers, Query(query, RATE, label), tags, track, detection, net, masking)


# ---------------------------------------------------------------- starts


def test_stitching_keeps_the_active_frames_by_the_profile_of_their_bands() -> None:
    signal = noise(4 * RATE)
    given = scene(signal, noise(RATE), found(1.0, 2.0, 4.0))
    mask, gate = MelStitching(gamma_profile=0.25)(given), given.soft_gate()
    assert not mask[gate == 0].any()
    assert mask.max() <= 1
    profile = MelStitching().reference(given).mean(dim=0)
    ratio = mask[gate.argmax()] / mask[gate.argmax()].max()
    torch.testing.assert_close(ratio, (profile / profile.max()) ** 0.25, atol=1e-5, rtol=0)
    flat = MelStitching(gamma_profile=0.0)(given)
    torch.testing.assert_close(flat, gate[:, None].expand_as(flat))


def test_contrast_removes_what_sounds_without_the_query() -> None:
    time = torch.arange(6 * RATE) / RATE
    hum = 0.1 * torch.sin(2 * torch.pi * 300 * time)
    whistle = 0.1 * torch.sin(2 * torch.pi * 3000 * time) * ((time > 2) & (time < 4))
    given = scene(hum + whistle, whistle[2 * RATE : 3 * RATE], found(2.0, 4.0, 6.0))
    parted = given.masking.split(hum + whistle, SpectralContrast()(given))
    assert si_sdr(hum + whistle, whistle) < 0
    assert si_sdr(parted.target, whistle) > 20


def test_semantic_masks_follow_similarity_and_the_kind_of_sound() -> None:
    signal, similarity = noise(4 * RATE), torch.linspace(0, 1, 13)
    given = scene(signal, noise(RATE), found(0.0, 4.0, 4.0, similarity), label="music")
    mask = SemanticMask(semantic_blending=1.0, similarity_smoothing=0.0)(given)
    assert (mask.diff(dim=0) >= 0).all()  # louder with every window
    assert (mask[:, :1] == mask).all()  # music: all bands alike
    voice = SemanticMask().band_weights(replace(given, query=replace(given.query, label="baby_cry")))
    assert voice[0] < voice[20] == 1
    other = SemanticMask(depth=1.0).band_weights(replace(given, query=replace(given.query, label="saw")))
    assert other.max() == 1
    assert other.min() < 1


def test_smoothing_keeps_constants_and_symmetry() -> None:
    torch.testing.assert_close(gaussian_smooth(torch.full((9,), 0.3), 1.5), torch.full((9,), 0.3))
    peak = gaussian_smooth(torch.eye(9)[4], 1.0)
    assert peak.argmax() == 4
    torch.testing.assert_close(peak, peak.flip(0))


def test_patches_that_resemble_the_query_are_kept() -> None:
    """The lowest row equals that of the query, but only in the second half of the windows."""
    signal = noise(4 * RATE)
    given = scene(signal, noise(RATE), found(0.0, 4.0, 4.0))
    n_windows = len(given.mixture_tags.times)
    own = given.tagger.tag_track(given.query.audio).tags.patches  # (window, row, column, dim)
    n_rows, n_columns, dim = own.shape[1:]
    patches = -own[0].mean(dim=(0, 1)).expand(n_windows, n_rows, n_columns, dim).clone()
    patches[n_windows // 2 :, 0] = own[0, 0, 0]
    track = TagTrack(
        given.mixture_tags.times, WindowTags(torch.zeros(n_windows, 2), torch.zeros(n_windows, dim), patches)
    )
    mask = PatchMask(gated=False)(replace(given, mixture_tags=track))
    low = slice(0, given.masking.n_mels // (2 * n_rows))
    assert mask[-20:, low].mean() > mask[:20, low].mean() + 0.2
    assert mask[-20:, low].mean() > mask[-20:, -8:].mean() + 0.2


def test_a_blend_is_the_weighted_mean_of_its_starts() -> None:
    given = scene(noise(3 * RATE), noise(RATE, seed=1), found(1.0, 2.0, 3.0))
    one, other = SemanticMask(), SpectralContrast()
    blend = BlendedStart(starts=[one, other], weights=[3, 1])
    torch.testing.assert_close(blend(given), 0.75 * one(given) + 0.25 * other(given))
    assert blend.needs_detection
    assert not BlendedStart(starts=[other], weights=[1]).needs_detection
    with pytest.raises(SepnetError, match="2 starts have the weights"):
        BlendedStart(starts=[one, other], weights=[1])


@pytest.mark.parametrize("start", STARTS, ids=lambda start: type(start).__name__)
def test_starts_are_masks(start: object) -> None:
    given = scene(noise(3 * RATE), noise(RATE, seed=1), found(1.0, 2.0, 3.0))
    mask = start(given)  # type: ignore[operator]
    assert mask.shape == given.mel_powers.shape
    assert mask.isfinite().all()
    assert mask.min() >= 0
    assert mask.max() <= 1


# ---------------------------------------------------------------- the separator


def test_an_event_has_the_results_of_all_stages() -> None:
    signal = noise(3 * RATE)
    mixture = Mixture(signal[None], RATE, queries=(Query(noise(RATE, seed=1), RATE, "bark"),))
    method = finder(dgmo=DGMO(opt_steps=2))
    (event,) = method.find(mixture)
    torch.testing.assert_close(event.target + event.residual, signal, atol=1e-7, rtol=0)
    assert event.optimisation is not None
    assert len(event.optimisation.losses) == 2
    assert {"reference", "target", "residual", "tv", "sat"} <= set(event.optimisation.terms)
    assert event.name == "bark"
    spectrogram = method.masking.stft.spectrogram(signal)  # (bin, frame)
    target = method.masking.stft.invert(event.mask_linear * spectrogram, len(signal))
    torch.testing.assert_close(target, event.target)
    assert isinstance(method, EventFinder)
    assert set(event.compute_seconds) == {"tagging", "detection", "start", "optimisation"}
    separation = method.separate(mixture)
    assert separation.labels == ("bark", "residual")
    assert torch.equal(separation.sources[0], event.target)


def test_without_an_embedding_the_loss_has_no_embedding_terms() -> None:
    mixture = Mixture(noise(1, 2 * RATE), RATE, queries=(Query(noise(RATE, seed=1), RATE),))
    (event,) = finder(dgmo=DGMO(opt_steps=1), loss_embedding="none").find(mixture)
    assert event.optimisation is not None
    assert not {"target", "residual", "negative"} & set(event.optimisation.terms)


def test_a_sound_that_is_not_found_gives_a_silent_target() -> None:
    signal = noise(2 * RATE)
    mixture = Mixture(signal[None], RATE, queries=(Query(noise(RATE, seed=1), RATE, "bark"),))
    (event,) = finder(detector={"min_threshold": 1.1, "max_threshold": 1.2}, dgmo=DGMO()).find(mixture)
    assert not event.detection.found
    assert not event.target.any()
    assert torch.equal(event.residual, signal)
    assert event.optimisation is None
    assert event.detection.nearest_miss is not None


def test_an_uncertain_class_is_found_by_similarity() -> None:
    mixture = Mixture(noise(1, 2 * RATE), RATE, queries=(Query(noise(RATE, seed=1), RATE, "gong"),))
    (event,) = finder(min_probability=1.0).find(mixture)
    assert not event.class_known
    assert event.detection.probability is None
    assert event.name == "gong"


@pytest.mark.parametrize("n_samples", [1, 400, 8000, RATE + 1])
def test_mixtures_shorter_than_a_window(n_samples: int) -> None:
    signal = noise(1, n_samples)
    mixture = Mixture(signal, RATE, queries=(Query(noise(RATE, seed=1), RATE),))
    separation = finder(dgmo=DGMO(opt_steps=1)).separate(mixture)
    assert separation.sources.shape == (2, n_samples)
    torch.testing.assert_close(separation.sources.sum(dim=0), signal[0], atol=1e-6, rtol=0)


def test_each_of_several_queries_has_a_target() -> None:
    queries = tuple(Query(noise(RATE, seed=seed), RATE) for seed in (1, 2, 3))
    separation = finder().separate(Mixture(noise(1, RATE), RATE, queries=queries))
    assert separation.labels == ("query 1", "query 2", "query 3")
    assert separation.sources.shape == (3, RATE)


def test_masks_and_tagger_need_the_same_rate() -> None:
    with pytest.raises(SepnetError, match=r"masking\.sample_rate=16000"):
        finder(masking=MelMasking(sample_rate=8000, window_samples=256, hop_samples=128, n_mels=32))


def test_unknown_presets_and_numbers_are_refused() -> None:
    with pytest.raises(SepnetError, match="selektive"):
        finder(preset="selektive")
    with pytest.raises(SepnetError, match=r"no setting \['min_dur'\]"):
        finder(detector={"min_dur": 3})
    assert finder(preset="selective").detector.percentile == 96.0


def test_a_missing_embedding_of_the_start_is_refused() -> None:
    blend = BlendedStart(starts=[SpectralContrast(), MelStitching()], weights=[1, 1])
    for start in (SpectralContrast(), blend):
        assert not provides_embedder(start)
        with pytest.raises(SepnetError, match="has no embedding of its own: set loss_embedding=tagger"):
            finder(start=start, dgmo=DGMO(), loss_embedding="start")
        finder(start=start, dgmo=None, loss_embedding="start")  # nothing is optimised
    with pytest.raises((SepnetError, jaxtyping.TypeCheckError), match="network"):
        finder(loss_embedding="network")


def test_the_loss_uses_the_embedding_that_is_chosen() -> None:
    """A start whose embedder counts its calls, inside a blend."""

    class OwnEmbedding(SpectralContrast):
        provides_embedder = True

        def __init__(self) -> None:
            super().__init__()
            self.n_calls = 0

        def embedder(self, context: QueryContext) -> QueryEmbedder:
            def embed(windows: Tensor) -> Tensor:
                self.n_calls += 1
                return windows[:, :8]

            return QueryEmbedder(embed, torch.ones(8))

    start = OwnEmbedding()
    blend = BlendedStart(starts=[MelStitching(), start], weights=[1, 1])
    mixture = Mixture(noise(1, 2 * RATE), RATE, queries=(Query(noise(RATE, seed=1), RATE),))
    for loss_embedding, n_calls in (("tagger", 0), ("none", 0), ("start", 2)):
        finder(start=blend, dgmo=DGMO(opt_steps=2), loss_embedding=loss_embedding).find(mixture)
        assert start.n_calls == n_calls


def described_nodes(node: object) -> Iterator[dict[str, Any]]:
    """Each part of a configuration that names a class or function."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for child in node.values():
            yield from described_nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from described_nodes(child)


@pytest.mark.parametrize("name", ["ast_dgmo", "ast_tagger", "query_mask"])
def test_python_and_yaml_users_get_the_same_method(name: str) -> None:
    """Each setting in the main files of the methods is the default of the constructor."""
    config = yaml.safe_load((artifact.config_folder() / "model" / f"{name}.yaml").read_text())
    compared = 0
    for node in described_nodes(config):
        parameters = inspect.signature(get_object(node["_target_"])).parameters
        for key, value in node.items():
            if key.startswith("_") or key in ("pretrained", "labels"):  # which weights, which classes
                continue
            default = parameters[key].default
            if default in (inspect.Parameter.empty, None):
                continue
            if isinstance(value, dict):
                assert get_object(value["_target_"]) in (default, type(default))
            else:
                assert default == value, f"{node['_target_']}: {key}"
            compared += 1
    assert compared >= 10


# ---------------------------------------------------------------- at any rate, and the command line


def test_target_and_residual_have_the_rate_and_the_level_of_the_input() -> None:
    audio, query = noise(2, 44100), noise(22050, seed=2)
    event = inference.find(audio, 44100, (query, 22050), finder())
    assert event.target.shape == (44100,)
    torch.testing.assert_close(event.target + event.residual, audio[0], atol=1e-7, rtol=0)
    separation = sepnet.separate(audio, 44100, model=finder(), query=(query, 22050))
    assert separation.sources.shape == (2, 44100)
    with pytest.raises(SepnetError, match="does not say what it finds"):
        inference.find(audio, 44100, (query, 22050), "identity")


@pytest.fixture(name="sounds")
def _sounds(tmp_path: Path) -> Path:
    target, other = noise(2 * RATE, seed=1), noise(2 * RATE, seed=2)
    for name, sound in (("mix", target + other), ("gt", target), ("bark", noise(4 * RATE, seed=3))):
        soundfile.write(tmp_path / f"{name}.wav", sound.numpy(), RATE, subtype="FLOAT")
    return tmp_path


def separated(folder: Path, *words: str) -> None:
    command_line([folder / "mix.wav", *words])


def command_line(words: Sequence[str | Path]) -> None:
    before = sys.argv
    sys.argv = ["separate.py", *map(str, words)]
    torch.manual_seed(0)  # of a tagger that has learnt nothing
    try:
        command.main()
    finally:
        sys.argv = before


SEEN = "set={tagger:{pretrained:null,labels:[bark,rain],hidden:16,n_layers:1,n_heads:2,n_mels:32},detector:{min_threshold:1e-6,max_threshold:1e-5}}"  # noqa: E501


def test_the_command_writes_what_was_found(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=ast_contrast", f"query={sounds / 'bark.wav'}", f"reference={sounds / 'gt.wav'}", SEEN]
    separated(sounds, *words)
    told = capsys.readouterr().out
    assert "SI-SDR" in told
    (folder,) = (path for path in sounds.iterdir() if path.is_dir())
    name = folder.name.removeprefix("mix_")
    files = {"target.wav", "residual.wav", "event.json", f"{name}_comparison.png", f"{name}_timeline.png"}
    assert {path.name for path in folder.iterdir()} == files
    target, residual = (soundfile.read(folder / f"{part}.wav")[0] for part in ("target", "residual"))
    mixture, _ = soundfile.read(sounds / "mix.wav")
    assert abs(target + residual - mixture).max() < 1e-6
    event = json.loads((folder / "event.json").read_text())
    assert event["query_seconds"] == 3.0  # of four
    assert event["detection"]["found"]
    assert event["job"]["model_settings"]["detector"]["min_threshold"] == 1e-6
    assert event["scores"]["rating"] in ("poor", "fair", "good", "excellent")
    assert event["scores"]["si_sdr_improvement_db"] == pytest.approx(
        event["scores"]["si_sdr_db"] - event["scores"]["si_sdr_mixture_db"]
    )
    separated(sounds, *words)
    assert "found already" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        separated(sounds, *words, "subtype=PCM_24")
    assert "exists already: give overwrite=true" in capsys.readouterr().err


def test_folders_are_searched_and_written_with_their_structure(
    sounds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (sounds / "takes" / name).mkdir(parents=True)
        shutil.copy(sounds / "mix.wav", sounds / "takes" / name / "take.wav")
    words = ["model=ast_contrast", f"query={sounds / 'bark.wav'}", SEEN]
    for _ in range(2):  # what the first has written is not taken for recordings by the second
        command_line([sounds / "takes", *words])
        command_line([sounds / "takes", *words, f"out={sounds / 'out'}"])
        for place in ("takes", "out"):
            events = sorted((sounds / place).rglob("event.json"))
            assert [event.parent.parent.name for event in events] == ["a", "b"]
    assert capsys.readouterr().out.count("found already") == 4


def test_results_of_standard_input_go_to_the_current_folder(
    sounds: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    incoming = io.TextIOWrapper(io.BytesIO((sounds / "mix.wav").read_bytes()))
    monkeypatch.setattr(sys, "stdin", incoming)
    command_line(["-", "model=ast_contrast", f"query={sounds / 'bark.wav'}", SEEN])
    assert [path.parent.name.partition("_")[0] for path in here.glob("*/event.json")] == ["stdin"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give query=example.wav"),
        (["query=nothing.wav"], "nothing.wav"),
        (["query=SHORT"], "query 1 lasts 0.06 s"),
        (["query=QUERY", "reference=SHORT"], "has 1000 samples at 16000 Hz, but the mixture 32000"),
    ],
)
def test_bad_input_is_refused_and_leaves_no_files(
    sounds: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(sounds / "short.wav", noise(1000, seed=5).numpy(), RATE)
    places = {"SHORT": str(sounds / "short.wav"), "QUERY": str(sounds / "bark.wav")}
    given = [
        word.partition("=")[0] + "=" + places.get(word.partition("=")[2], word.partition("=")[2])
        for word in words
    ]
    with pytest.raises(SystemExit) as ended:
        separated(sounds, "model=ast_contrast", SEEN, *given)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert not [path for path in sounds.iterdir() if path.is_dir()]


def test_an_interrupted_run_leaves_no_partial_folder(
    sounds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=ast_contrast", f"query={sounds / 'bark.wav'}", SEEN]
    separated(sounds, *words)
    (folder,) = (path for path in sounds.iterdir() if path.is_dir())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sepnet.figures.query.timeline_figure", stop)
    with pytest.raises(SystemExit):
        separated(sounds, *words, "overwrite=true", "subtype=PCM_24")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path for path in sounds.iterdir() if path.is_dir()] == [folder]
    monkeypatch.undo()
    separated(sounds, *words, "overwrite=true", "subtype=PCM_24")
    assert soundfile.info(folder / "target.wav").subtype == "PCM_24"


def test_set_has_to_be_a_mapping(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        separated(sounds, "model=ast_contrast", f"query={sounds / 'bark.wav'}", "set=5")
    assert ended.value.code == 2
    assert "set is 5: give a mapping or null" in capsys.readouterr().err


def test_a_reference_needs_a_method_that_finds(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        separated(sounds, "model=hpss", f"reference={sounds / 'gt.wav'}")
    assert "ast_dgmo and other methods that find a sound" in capsys.readouterr().err


def test_settings_of_trained_models_are_refused(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        separated(sounds, "model=pit-2spk-8k", "set={n_sources:3}")
    assert "keeps the settings that it was trained with" in capsys.readouterr().err


def test_a_query_is_required() -> None:
    with pytest.raises(CannotSeparate, match="queries"):
        finder().find(Mixture(noise(1, RATE), RATE))
