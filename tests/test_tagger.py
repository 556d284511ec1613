"""The tagger: transformers' network on windows of any length, without its two silent failures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from sepnet import artifact
from sepnet.dsp.kaldi_fbank import kaldi_fbank
from sepnet.query.tagging.ast_network import middle_positions
from sepnet.query.tagging.augmentation import Augmentation
from sepnet.query.tagging.tagger import Tagger, audible_sources
from sepnet.query.windowing import end_aligned_windows
from sepnet.types import Batch, Mixture, SepnetError

LABELS = ("bark", "rain", "saw")
SMALL = {"labels": LABELS, "hidden": 24, "n_layers": 2, "n_heads": 2, "n_mels": 32, "time_stride": 8}


def small(**settings: object) -> Tagger:
    torch.manual_seed(0)
    return Tagger(**{**SMALL, **settings}).eval()  # type: ignore[arg-type]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the format of the public models: 128 bands, 10.24 s, a patch of 16 every 10."""
    folder = tmp_path_factory.mktemp("ast")
    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        id2label={0: "Speech", 1: "Bark", 2: "Rain"},
        label2id={"Speech": 0, "Bark": 1, "Rain": 2},
    )
    torch.manual_seed(1)
    network = ASTForAudioClassification(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    network.save_pretrained(folder)
    ASTFeatureExtractor().save_pretrained(folder)
    return folder


# ---------------------------------------------------------------- one of transformers'


def test_a_full_window_has_the_tags_of_transformers(public: Path) -> None:
    tagger = Tagger(pretrained=str(public)).eval()
    sound = noise(2, 16000 * 10 + 3840)  # 1024 frames and no padding
    features = ASTFeatureExtractor()(list(sound.numpy()), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        wanted = ASTForAudioClassification.from_pretrained(public).eval()(**features).logits.sigmoid()
        got = tagger.tag_windows(sound)
    torch.testing.assert_close(got.probabilities, wanted, atol=1e-4, rtol=0)
    assert got.patches.shape == (2, 12, 101, 16)
    assert tagger.labels == ("Speech", "Bark", "Rain")
    assert (tagger.class_index("Bark"), tagger.class_index("Miaow"), tagger.class_index(None)) == (
        1,
        None,
        None,
    )


def test_a_second_uses_the_middle_of_the_learnt_positions(public: Path) -> None:
    """Against a network of nine columns into which they are copied one by one: not new ones, and not zero."""
    tagger = Tagger(pretrained=str(public)).eval()
    whole = ASTForAudioClassification.from_pretrained(public)
    short = ASTForAudioClassification(ASTConfig(**{**whole.config.to_dict(), "max_length": 98})).eval()
    weights = whole.state_dict()
    name = "audio_spectrogram_transformer.embeddings.position_embeddings"
    learnt = weights[name][0]
    rows = [learnt[0], learnt[1]]
    rows += [learnt[2 + row * 101 + column] for row in range(12) for column in range(46, 55)]
    short.load_state_dict({**weights, name: torch.stack(rows)[None]})
    sound = noise(3, 16000)
    features = (kaldi_fbank(sound) + 4.2677393) / (2 * 4.5689974)
    with torch.no_grad():
        wanted, got = short(features).logits.sigmoid(), tagger.tag_windows(sound).probabilities
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)
    zeros = {**weights, name: torch.zeros_like(torch.stack(rows)[None])}
    short.load_state_dict(zeros)
    with torch.no_grad():
        assert (short(features).logits.sigmoid() - got).abs().max() > 1e-3  # and the positions matter


def test_a_second_is_not_padded(public: Path) -> None:
    tagger = Tagger(pretrained=str(public)).eval()
    assert tagger.tag_windows(noise(1, 16000)).patches.shape[1:3] == (12, 9)
    features = tagger.features(noise(1, 16000))
    assert features.shape == (1, 98, 128)
    # The normalisation's own constant, which padding would be full of, is nowhere.
    padding = (0 - tagger.mean_log_power) / (2 * tagger.std_log_power)
    assert ((features - padding).abs() > 1e-3).float().mean() > 0.99


def test_the_middle_of_an_even_and_an_odd_grid() -> None:
    grid = torch.arange(2 * 6).reshape(2, 6)  # (row, column)
    positions = torch.cat([torch.tensor([-2, -1]), grid.flatten()])[None, :, None].float()
    got = middle_positions(positions, n_rows=2, n_columns=3)[0, :, 0].int().tolist()
    assert got == [-2, -1, 1, 2, 3, 7, 8, 9]
    torch.testing.assert_close(middle_positions(positions, n_rows=2, n_columns=6), positions)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"spoilt"), "no tagger can be read from"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "of the type 'bert'"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_sentence(public: Path, tmp_path: Path, spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    for path in public.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(tmp_path)
    with pytest.raises(SepnetError, match=says) as told:
        Tagger(pretrained=str(tmp_path))
    assert "\n" not in str(told.value)


def test_weights_without_a_classifier_are_refused(public: Path, tmp_path: Path) -> None:
    """transformers would draw the rest at random."""
    network = ASTForAudioClassification.from_pretrained(public)
    network.audio_spectrogram_transformer.save_pretrained(tmp_path)
    with pytest.raises(SepnetError, match=r"lacks \d+ of the weights of a tagger"):
        Tagger(pretrained=str(tmp_path))


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SepnetError, match=r"'nobody/nothing'.*name a folder") as told:
        Tagger(pretrained="nobody/nothing")
    assert "\n" not in str(told.value)


# ---------------------------------------------------------------- one of our own


def test_all_tags_come_from_one_pass_and_windows_are_independent() -> None:
    tagger, sound = small(), noise(3, 16000)
    calls = []
    tagger.network.audio_spectrogram_transformer.register_forward_hook(lambda *_: calls.append(1))
    tags = tagger.tag_windows(sound)
    assert len(calls) == 1
    assert tags.probabilities.shape == (3, 3)
    assert tags.embeddings.shape == (3, 24)
    assert tags.patches.shape == (3, 2, 11, 24)
    one = tagger.tag_windows(sound[1:2])
    for name in ("probabilities", "embeddings", "patches"):
        torch.testing.assert_close(getattr(tags, name)[1:2], getattr(one, name), atol=1e-5, rtol=0)
    logits = tagger.network.classifier(tags.embeddings)
    torch.testing.assert_close(logits.sigmoid(), tags.probabilities)


def test_patches_are_at_their_places() -> None:
    """Without attention between tokens, a change of one patch of the features changes that token alone."""
    tagger = small(n_layers=1, time_stride=16)
    with torch.no_grad():
        for name, parameter in tagger.network.named_parameters():
            if "o_proj" in name:
                parameter.zero_()
    features = tagger.features(noise(1, 16000))
    changed = features.clone()
    changed[0, 32:48, 16:32] += 1.0  # third in time, second in frequency
    moved = (tagger._forward(changed)[2] - tagger._forward(features)[2]).abs().sum(dim=-1)[0]
    assert moved[1, 2] > 0.1
    moved[1, 2] = 0
    assert moved.max() < 1e-6


def test_gradients_reach_the_sound() -> None:
    tagger, sound = small(), noise(2, 16000).requires_grad_()
    tags = tagger.tag_windows(sound)
    for part in (tags.probabilities, tags.embeddings, tags.patches):
        (gradient,) = torch.autograd.grad(part.square().sum(), sound, retain_graph=True)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum(dim=1).min() > 0


@pytest.mark.parametrize(
    ("n", "window", "hop", "starts"),
    [
        (10, 4, 2, [0, 2, 4, 6]),
        (11, 4, 2, [0, 2, 4, 6, 7]),
        (4, 4, 2, [0]),
        (3, 4, 2, [0]),
        (9, 2, 5, [0, 5, 7]),
    ],
)
def test_windows_cover_the_sound(n: int, window: int, hop: int, starts: list[int]) -> None:
    windows, found = end_aligned_windows(torch.arange(n).float(), window, hop)
    assert found.tolist() == starts
    assert windows.tolist() == [list(range(start, min(start + window, n))) for start in starts]


def test_a_track_is_the_tags_of_its_windows() -> None:
    tagger, sound = small(), noise(160000)
    track = tagger.tag_track(sound)
    assert len(track.times) == 19
    assert track.times[[0, 1, -1]].tolist() == [[0.0, 1.0], [0.5, 1.5], [9.0, 10.0]]
    seventh = tagger.tag_windows(sound[None, 6 * 8000 : 6 * 8000 + 16000])
    torch.testing.assert_close(track.tags.embeddings[6], seventh.embeddings[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", [1600, 2799, 2800, 15999])
def test_short_sounds_are_one_window(n: int) -> None:
    tagger, sound = small(), noise(n)
    track = tagger.tag_track(sound)
    assert track.times.tolist() == [[0.0, pytest.approx(n / 16000)]]
    if n >= tagger.min_samples:
        torch.testing.assert_close(track.tags.embeddings, tagger.tag_windows(sound[None]).embeddings)


def test_a_query_is_the_mean_of_its_windows_without_the_quiet_ones() -> None:
    tagger = small()
    sound = torch.cat([noise(16000), 1e-3 * noise(16000), torch.zeros(8000)])
    clip_tags = tagger.tag_clip(sound)
    wanted = tagger.tag_windows(torch.stack([sound[:16000], sound[8000:24000]]))
    torch.testing.assert_close(clip_tags.embedding, wanted.embeddings.mean(dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(clip_tags.probabilities, wanted.probabilities.mean(dim=0), atol=1e-6, rtol=0)
    assert clip_tags.label == LABELS[int(clip_tags.probabilities.argmax())]


@pytest.mark.parametrize(
    ("sound", "says"),
    [
        (noise(1599), "the query is 0.10 s long"),
        (torch.zeros(16000), "silent"),
        (noise(30 * 16000 + 1), "the query is 30.00 s long"),
    ],
)
def test_unusable_queries_are_refused(sound: torch.Tensor, says: str) -> None:
    with pytest.raises(SepnetError, match=says):
        small().tag_clip(sound)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sample_rate": 8000}, "works at 16000 Hz only"),
        ({"labels": ()}, "one or more labels, all different"),
        ({"labels": ("a", "a")}, "one or more labels, all different"),
        ({"hidden": 25}, "multiple of n_heads=2"),
        ({"patch": 40}, "patch=40 at most"),
        ({"pretrained": "somewhere"}, "leave out labels"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(SepnetError, match=says):
        small(**settings)


def test_a_window_that_has_no_positions_is_refused() -> None:
    with pytest.raises(SepnetError, match="has 198 frames of 10 ms, but the tagger takes 16 to 98"):
        small().tag_track(noise(48000), window_seconds=2.0)


# ---------------------------------------------------------------- its training


def batch(seconds: float = 0.4) -> Batch:
    """Four mixtures: the first and second class, the second alone, the third, nothing."""
    sources = torch.zeros(4, 3, round(16000 * seconds))
    for row, slot in ((0, 0), (0, 1), (1, 1), (2, 2)):
        sources[row, slot] = noise(sources.shape[-1], seed=10 * row + slot)
    sources[3, 0] = 1e-4 * noise(sources.shape[-1])  # the rustle behind a bark is no bark
    return Batch(sources.sum(dim=1, keepdim=True), sources, ("a", "b", "c", "d"), 16000)


TARGETS = torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])


def test_targets_follow_from_the_sources() -> None:
    torch.testing.assert_close(audible_sources(batch().sources, -50.0), TARGETS)
    tone = torch.full((1, 1, 100), 10 ** (-50 / 20))
    assert audible_sources(tone * 1.001, -50.0) == 1
    assert audible_sources(tone * 0.999, -50.0) == 0


def test_the_loss_is_the_cross_entropy_of_each_class() -> None:
    tagger = small(max_seconds=0.4)
    p = tagger.tag_windows(batch().mixture[:, 0]).probabilities
    wanted = -(TARGETS * p.log() + (1 - TARGETS) * (1 - p).log()).mean()
    torch.testing.assert_close(tagger.loss(batch())["loss"], wanted)


def test_it_learns_classes_of_tones() -> None:
    """Tones, a class each, from augmented mixtures; without augmentation it knows them."""
    torch.manual_seed(0)
    augmentation = Augmentation(mixup=0.2, gain_db=3, filter_db=2)
    tagger = small(max_seconds=0.4, dropout=0.0, augmentation=augmentation).train()
    t = torch.arange(6400) / 16000
    tones = 0.2 * torch.stack([torch.sin(2 * math.pi * f * t) for f in (300.0, 1000.0, 4000.0)])
    active = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]]
    )
    sources = active[:, :, None] * tones
    mixtures = sources.sum(dim=1, keepdim=True) + 1e-3 * noise(8, 1, 6400)
    given = Batch(mixtures, sources, tuple("abcdefgh"), 16000)
    optimizer = torch.optim.AdamW(tagger.parameters(), lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        tagger.loss(given)["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = tagger.eval().tag_windows(mixtures[:, 0]).probabilities > 0.5
    assert (found == active.bool()).float().mean() > 0.95


def test_augmented_training_is_a_function_of_torchs_generator() -> None:
    tagger = small(max_seconds=0.4, dropout=0.1).train()
    losses = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        losses.append(float(tagger.loss(batch())["loss"]))
    assert losses[0] == losses[1] != losses[2]


def test_a_mixed_window_has_the_classes_of_both() -> None:
    windows, targets = batch().mixture[:, 0], TARGETS
    torch.manual_seed(0)
    augmentation = Augmentation(mixup=1.0, mixup_db=0.0, rotate=False)
    mixed, classes = augmentation.augment_windows(windows, targets)
    for row in range(4):
        others = [k for k in range(4) if torch.allclose(mixed[row], windows[row] + windows[k], atol=1e-6)]
        assert any(torch.equal(classes[row], torch.maximum(targets[row], targets[k])) for k in others)
    same, kept = Augmentation(mixup=0.0, rotate=False).augment_windows(windows, targets)
    assert torch.equal(same, windows)
    assert torch.equal(kept, targets)


def test_a_rotated_window_has_the_same_samples() -> None:
    windows = batch().mixture[:, 0]
    rotated, _ = Augmentation(mixup=0.0).augment_windows(windows, TARGETS)
    assert not torch.equal(rotated, windows)
    torch.testing.assert_close(rotated.sort(dim=1).values, windows.sort(dim=1).values)
    place = int((rotated[0, :, None] == windows[0, 0]).nonzero()[0, 0])
    torch.testing.assert_close(rotated[0].roll(-place), windows[0])


def test_a_gain_of_the_features_is_that_of_the_sound() -> None:
    tagger, sound = small(), noise(1, 16000)
    augmentation = Augmentation(gain_db=6.0, filter_db=0.0, n_time_masks=0, n_mel_masks=0)
    unit = 2 * tagger.std_log_power
    torch.manual_seed(5)
    got = augmentation.augment_features(tagger.features(sound), log_power_unit=unit)
    torch.manual_seed(5)
    torch.randn(1, 1, 6)  # of the filter
    gain_db = 6.0 * float(torch.randn(1, 1, 1))
    torch.testing.assert_close(got, tagger.features(sound * 10 ** (gain_db / 20)), atol=1e-4, rtol=0)


def test_masked_stretches_have_all_allowed_widths() -> None:
    augmentation = Augmentation(gain_db=0, filter_db=0, max_time_mask_frames=5, max_mel_mask_bands=3)
    features = noise(200, 40, 20)
    holes = augmentation.augment_features(features, log_power_unit=1.0) != features
    columns, rows = holes.all(dim=2).sum(dim=1), holes.all(dim=1).sum(dim=1)
    assert set(columns.tolist()) == set(range(6))
    assert set(rows.tolist()) == set(range(4))
    assert (holes == holes.all(dim=2, keepdim=True) | holes.all(dim=1, keepdim=True)).all()
    with pytest.raises(SepnetError, match="mixup=2"):
        Augmentation(mixup=2.0)


def test_the_score_is_the_share_of_clips_that_it_names() -> None:
    tagger, sound = small(), noise(1, 20000)
    said = tagger.tag_clip(sound[0]).label
    scores = [tagger.score(Mixture(sound, 16000, labels=(label,))) for label in LABELS]
    assert [float(score) for score in scores if score is not None] == [
        float(label == said) for label in LABELS
    ]
    assert tagger.score(Mixture(sound, 16000, labels=("miaow",))) is None
    assert tagger.score(Mixture(sound, 16000, labels=("bark", "rain"))) is None
    assert tagger.score(Mixture(sound, 16000)) is None


# ---------------------------------------------------------------- its folders


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Tagger]:
    tagger = small()
    node = {"_target_": "sepnet.query.tagging.tagger.Tagger", **SMALL, "labels": list(LABELS)}
    config = OmegaConf.create({"model": node})
    metrics = {"score": "accuracy", "accuracy": 0.5, "step": 3, "hours_of_audio": 1.0}
    artifact.save(tagger, tmp_path / "run", config=config, metrics=metrics, data_fingerprint="f")
    return tmp_path / "run", tagger


def test_its_own_folder_opens_as_it_was_saved(saved: tuple[Path, Tagger]) -> None:
    folder, tagger = saved
    opened = Tagger(pretrained=str(folder)).eval()
    sound = noise(2, 16000)
    torch.testing.assert_close(
        opened.tag_windows(sound).probabilities, tagger.tag_windows(sound).probabilities
    )
    assert opened.labels == LABELS


def test_its_own_folder_damaged_is_refused_in_one_sentence(saved: tuple[Path, Tagger]) -> None:
    folder, _ = saved
    config = OmegaConf.load(folder / "config.yaml")
    for change, says in (
        ({"hidden": 48}, "another architecture"),
        ({"_target_": "sepnet.separators.identity.Identity"}, "not a tagger"),
        ({"_target_": "os.system"}, "not a tagger"),
    ):
        OmegaConf.save(OmegaConf.merge(config, {"model": change}), folder / "config.yaml")
        with pytest.raises(SepnetError, match=says):
            Tagger(pretrained=str(folder))
    OmegaConf.save(config, folder / "config.yaml")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SepnetError, match=r"has no model\.safetensors"):
        Tagger(pretrained=str(folder))


def test_a_tagger_is_no_separator(saved: tuple[Path, Tagger]) -> None:
    folder, _ = saved
    with pytest.raises(SepnetError, match="Tagger, which separates nothing by itself"):
        artifact.load(folder)
    with pytest.raises(SepnetError, match="train one"):
        artifact.newest_run(folder.parent)
    assert artifact.preferred(folder.parent) == artifact.SHIPPED / artifact.DEFAULT
    card = (folder / "README.md").read_text()
    assert "separate.py" not in card
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] == 0.5
