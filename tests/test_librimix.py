"""Fixed sets: mixed as LibriMix mixes, whatever the layout; lists drawn are fair and repeatable."""

from __future__ import annotations

import csv
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from sepnet.data import audio
from sepnet.data.fixed_set import FixedSet, ListMixing, extend_noise
from sepnet.data.indexing import index
from sepnet.data.librimix import DrawnList, LibriMixList
from sepnet.data.list_drawing import ListRecipe, draw_list
from sepnet.data.list_files import locate
from sepnet.data.manifest import Manifest
from sepnet.data.mixture_list import FileGain, FixedMixture, read_list, write_list
from sepnet.dsp.loudness import integrated_loudness
from sepnet.types import SepnetError

SHARED = Path(__file__).parents[2] / "shared" / "audio" / "speech8k"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real audio is not at {SHARED}")
LSB = 2.0**-15


def write(
    path: Path, frames: int, rate: int, *, channels: int = 1, level: float = 0.2, seed: int = 0
) -> np.ndarray:
    samples = (
        np.random.default_rng([seed, frames]).uniform(-level, level, (channels, frames)).astype(np.float32)
    )
    audio.write(path, samples, rate, subtype="FLOAT")
    return samples


def corpus(
    root: Path, n_speakers: int = 3, n_takes: int = 4, rate: int = 8000, split: str = "dev"
) -> Manifest:
    """Noise of 0.5 s and more, every file of another length and level."""
    for speaker in range(n_speakers):
        for take in range(n_takes):
            number = speaker * n_takes + take
            path = root / split / f"s{speaker}" / f"s{speaker}-{take}.wav"
            write(path, rate // 2 + 37 * number, rate, level=0.05 + 0.9 * number / (n_speakers * n_takes))
    return index(root, progress=False)[0]


def librispeech(root: Path, rate: int = 16000) -> tuple[Manifest, Path]:
    """Two utterances as LibriSpeech has them, a stereo noise, and the list of their mixture."""
    for speaker, frames in ((61, 12001), (84, 8000)):
        write(root / f"speech/test-clean/{speaker}/7/{speaker}-7-0000.wav", frames, rate, seed=speaker)
    write(root / "wham/tt/n.wav", 15000, rate, channels=2, seed=1)
    table = root / "list.csv"
    table.write_text(
        "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain,noise_path,noise_gain\n"
        "61_84,test-clean/61/7/61-7-0000.wav,0.75,test-clean/84/7/84-7-0000.wav,1.25,tt/n.wav,0.5\n"
    )
    return index(root / "speech", progress=False)[0], table


def official(
    paths: Sequence[Path], gains: Sequence[float], rate: int, mode: str
) -> tuple[np.ndarray, np.ndarray]:
    """A mixture and its parts by LibriMix' recipe, written in the plainest way: gain, resample, fit, sum."""
    sounds = [soundfile.read(path, always_2d=True, dtype="float64") for path in paths]
    longest = max(len(sound) for sound, _ in sounds[:2])
    parts = [
        resample_poly(sound[:longest, 0] * gain, rate, file_rate)
        for (sound, file_rate), gain in zip(sounds, gains, strict=True)
    ]
    length = (min if mode == "min" else max)(len(part) for part in parts)
    fitted = np.zeros((len(parts), length))
    for row, part in zip(fitted, parts, strict=True):
        row[: min(length, len(part))] = part[:length]
    return fitted.sum(axis=0), fitted


# --- mixing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 8000])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("with_noise", [False, True])
def test_mixtures_are_those_of_librimix(tmp_path: Path, rate: int, mode: str, with_noise: bool) -> None:
    manifest, table = librispeech(tmp_path)
    settings = {"with_noise": True, "noise_root": tmp_path / "wham"} if with_noise else {}
    (mixture,) = LibriMixList(csv=table, mode=mode, **settings).fixed_set(manifest, rate)  # type: ignore[arg-type]
    speech = tmp_path / "speech" / "test-clean"
    paths = [speech / "61/7/61-7-0000.wav", speech / "84/7/84-7-0000.wav", tmp_path / "wham/tt/n.wav"]
    count = 3 if with_noise else 2
    wanted, parts = official(paths[:count], (0.75, 1.25, 0.5)[:count], rate, mode)
    assert mixture.references is not None
    assert mixture.audio.shape == (1, len(wanted))
    assert len(wanted) == (8000 if mode == "min" else 12001) * rate // 16000 + (
        mode == "max" and rate == 8000
    )
    np.testing.assert_allclose(mixture.audio[0].numpy(), wanted, atol=LSB / 100)
    np.testing.assert_allclose(mixture.references.numpy(), parts[:2], atol=LSB / 100)
    assert (mixture.n_sources, mixture.sample_rate, mixture.queries) == (2, rate, None)


def test_a_corpus_at_the_target_rate_gives_the_same_mixture(tmp_path: Path) -> None:
    manifest, table = librispeech(tmp_path / "a")
    for utterance in manifest:
        samples, rate = audio.read(manifest.path(utterance))
        half = resample_poly(samples, 1, 2, axis=-1)
        new = tmp_path / "b" / "test" / utterance.speaker / Path(utterance.path).name
        audio.write(new, half, rate // 2)
    resampled = index(tmp_path / "b", progress=False)[0]
    (at_once,) = LibriMixList(csv=table).fixed_set(manifest, 8000)
    (before,) = LibriMixList(csv=table).fixed_set(resampled, 8000)
    torch.testing.assert_close(at_once.audio, before.audio, atol=LSB / 100, rtol=0)


def test_a_clean_mixture_is_the_sum_of_its_references_and_is_cut_from_the_front(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    mixtures = draw_list(manifest, ListRecipe(n_mixtures=5, n_sources=3))
    whole = FixedSet(mixtures=mixtures, manifest=manifest, sample_rate=8000)
    short = FixedSet(
        mixtures=mixtures, manifest=manifest, sample_rate=8000, mixing=ListMixing(max_seconds=0.25)
    )
    for long, cut in zip(whole, short, strict=True):
        assert long.references is not None
        assert torch.equal(long.audio[0], long.references.sum(dim=0))
        assert long.references.shape[0] == long.n_sources == 3
        assert torch.equal(cut.audio, long.audio[:, :2000])
    assert torch.equal(whole[0].audio, pickle.loads(pickle.dumps(whole))[0].audio)
    with pytest.raises(IndexError):
        whole[5]


def test_files_of_a_lower_rate_and_with_two_channels_are_refused(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    with pytest.raises(SepnetError, match=r"s\d-\d\.wav is at 8000 Hz, but .* 16000 Hz"):
        DrawnList(split="dev", n_mixtures=1).fixed_set(manifest, 16000)[0]
    mixtures = draw_list(manifest, ListRecipe(n_mixtures=1))
    write(manifest.root / mixtures[0].sources[0][0], 500, 8000, channels=2)
    with pytest.raises(SepnetError, match="2 channels"):
        FixedSet(mixtures=mixtures, manifest=manifest, sample_rate=8000)[0]


def test_noise_goes_on_without_a_click_or_a_dip(tmp_path: Path) -> None:
    rate, noise = 1000, np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    longer = extend_noise(noise, 30000, rate)
    assert longer.shape == (30000,)
    np.testing.assert_array_equal(longer[:3400], noise[:3400])
    np.testing.assert_array_equal(extend_noise(noise, 3000, rate), noise[:3000])
    constant = extend_noise(np.ones(4000, dtype=np.float32), 30000, rate)
    np.testing.assert_allclose(constant, 1, atol=1e-6)  # the two halves of the window sum to one
    # By hand, the first joint: half a second, and one sample, of the end under the beginning.
    fall = 0.5 * (1 + np.cos(np.pi * np.arange(501) / 500))
    np.testing.assert_allclose(longer[3499:4000], noise[3499:] * fall + noise[:501] * (1 - fall), atol=1e-5)
    np.testing.assert_array_equal(longer[4000:6998], noise[501:3499])
    with pytest.raises(SepnetError, match="longer than 501"):
        extend_noise(noise[:400], 1000, rate)


# --- finding the files --------------------------------------------------------------------------------


def test_paths_are_found_as_they_are_or_by_name(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    meant = locate(manifest, ["dev/s0/s0-1.wav", "test-clean/0/9/s1-2.flac", "test-clean/0/9/none.flac"])
    assert list(meant.values()) == ["dev/s0/s0-1.wav", "dev/s1/s1-2.wav", None]
    write(tmp_path / "dev/s1/again/s0-1.wav", 500, 8000)
    twice = index(tmp_path, progress=False)[0]
    assert locate(twice, ["dev/s0/s0-1.wav"]) == {"dev/s0/s0-1.wav": "dev/s0/s0-1.wav"}
    with pytest.raises(SepnetError, match=r"2 files there are named s0-1: dev/s0/s0-1\.wav, dev/s1/again"):
        locate(twice, ["elsewhere/s0-1.wav"])


def test_all_missing_files_are_told_at_once(tmp_path: Path) -> None:
    manifest, table = librispeech(tmp_path)
    mixtures = [FixedMixture(str(n), (FileGain(f"no/{n:02}.wav", 1.0),)) for n in range(14)]
    with pytest.raises(SepnetError, match=r"14 files of the list .*no/00\.wav, .*no/09\.wav and 4 more\."):
        FixedSet(mixtures=mixtures, manifest=manifest, sample_rate=8000)
    (tmp_path / "wham/tt/n.wav").unlink()
    noisy = LibriMixList(csv=table, with_noise=True, noise_root=tmp_path / "wham")
    with pytest.raises(SepnetError, match=r"1 noises .*n\.wav"):
        noisy.fixed_set(manifest, 8000)
    with pytest.raises(SepnetError, match="needs noise_root"):
        LibriMixList(csv=table, with_noise=True).fixed_set(manifest, 8000)
    with pytest.raises(SepnetError, match="mode 'mid'"):
        LibriMixList(csv=table, mode="mid").fixed_set(manifest, 8000)


def test_a_file_that_broke_since_is_named(tmp_path: Path) -> None:
    manifest, table = librispeech(tmp_path)
    fixed = LibriMixList(csv=table).fixed_set(manifest, 8000)
    path = tmp_path / "speech/test-clean/84/7/84-7-0000.wav"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SepnetError, match=r"84-7-0000\.wav is cut off"):
        fixed[0]


def test_the_fingerprint_follows_list_settings_and_bytes(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    mixtures = draw_list(manifest, ListRecipe(n_mixtures=3))
    path, gain = mixtures[0].sources[0]
    louder = [
        replace(mixtures[0], sources=(FileGain(path, gain * 2), *mixtures[0].sources[1:])),
        *mixtures[1:],
    ]
    changed = replace(
        manifest, utterances=tuple(replace(u, sha1="0") if u.path == path else u for u in manifest)
    )

    def print_of(**settings: object) -> str:
        defaults = {"mixtures": mixtures, "manifest": manifest, "sample_rate": 8000}
        return FixedSet(**{**defaults, **settings}).fingerprint  # type: ignore[arg-type]

    others: list[dict[str, object]] = [
        {"mixtures": mixtures[:2]}, {"mixtures": louder}, {"manifest": changed},
        {"mixing": ListMixing(mode="max")}, {"sample_rate": 4000}, {"mixing": ListMixing(max_seconds=0.1)},
    ]  # fmt: skip
    prints = [print_of(), *(print_of(**settings) for settings in others)]
    assert len(set(prints)) == 7
    assert print_of() == prints[0]
    noisy: dict[str, object] = {
        "mixtures": [replace(mixture, noise=FileGain("n.wav", 0.5)) for mixture in mixtures],
        "mixing": ListMixing(with_noise=True, noise_root=tmp_path),
    }
    for seed in (0, 1):
        write(tmp_path / "n.wav", 8000, 8000, seed=seed)
        prints.append(print_of(**noisy))
    assert len(set(prints)) == 9


# --- lists in files -----------------------------------------------------------------------------------


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    mixtures = [
        FixedMixture("a", (FileGain("x/1.wav", 0.123456), FileGain("y/2.wav", 1.0)), FileGain("n.wav", 0.5)),
        FixedMixture(
            "b", (FileGain("x/1.wav", 2.0), FileGain("y,2.wav", 1.0), FileGain("z/3.wav", 1e-3)), None
        ),
    ]
    write_list(tmp_path / "list.csv", mixtures)
    assert read_list(tmp_path / "list.csv") == mixtures
    write_list(tmp_path / "list.csv", [replace(mixtures[0], noise=None)])
    assert (tmp_path / "list.csv").read_text().splitlines()[0] == (
        "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty: give a header, such as mixture_ID"),
        ("mixture_ID,source_1_path\na,x\n", "lacks the columns source_1_gain"),
        ("mixture_ID,source_1_path,source_1_gain\n", "no rows"),
        ("mixture_ID,source_1_path,source_1_gain\na,x,loud\n", "line 2: source_1_gain is 'loud'"),
        ("mixture_ID,source_1_path,source_1_gain\na,,1\n", "line 2: no source"),
        ("mixture_ID,source_1_path,source_1_gain\na,x,1\na,y,1\n", "1 mixture_IDs more than once: a"),
    ],
)
def test_a_list_that_cannot_be_used_says_where(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(SepnetError, match=reason):
        read_list(tmp_path / "list.csv")


def test_a_drawn_list_is_kept_and_not_mistaken_for_another(tmp_path: Path) -> None:
    manifest, kept = corpus(tmp_path / "c"), tmp_path / "lists" / "dev.csv"
    drawn = DrawnList(split="dev", n_mixtures=6, csv=kept)
    first = drawn.mixtures(manifest)
    assert read_list(kept) == first
    write_list(kept, [*first[:5], replace(first[5], id="by hand")])
    assert drawn.fixed_set(manifest, 8000).id(5) == "by hand"
    assert len(DrawnList(split="dev", n_mixtures=6, csv=kept, limit=2).fixed_set(manifest, 8000)) == 2
    with pytest.raises(SepnetError, match=r"holds 6 mixtures of \[2\] sources, .* but 7 mixtures of \[2\]"):
        DrawnList(split="dev", n_mixtures=7, csv=kept).mixtures(manifest)
    with pytest.raises(SepnetError, match=r"but 6 mixtures of \[3\]"):
        DrawnList(split="dev", n_mixtures=6, n_sources=3, csv=kept).mixtures(manifest)
    with pytest.raises(SepnetError, match="no split test"):
        DrawnList(split="test", n_mixtures=6).mixtures(manifest)


# --- drawing ------------------------------------------------------------------------------------------


def test_a_draw_depends_on_the_seed_alone(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    first = draw_list(manifest, ListRecipe(n_mixtures=8, seed=3))
    shuffled = replace(manifest, utterances=tuple(reversed(manifest.utterances)))
    assert draw_list(shuffled, ListRecipe(n_mixtures=8, seed=3)) == first
    assert draw_list(manifest, ListRecipe(n_mixtures=8, seed=4)) != first
    assert draw_list(manifest, ListRecipe(n_mixtures=5, seed=3)) == first[:5]


@pytest.mark.parametrize("n_sources", [1, 2, 3])
def test_speakers_differ_and_utterances_are_used_evenly(tmp_path: Path, n_sources: int) -> None:
    manifest = corpus(tmp_path)
    mixtures = draw_list(manifest, ListRecipe(n_mixtures=20, n_sources=n_sources))
    used: Counter[str] = Counter()
    for mixture in mixtures:
        paths = [path for path, _ in mixture.sources]
        assert len({Path(path).parent for path in paths}) == len(paths) == n_sources
        used.update(paths)
    assert len(used) == len(manifest)
    assert max(used.values()) - min(used.values()) <= 2
    assert len({mixture.id for mixture in mixtures}) == 20


def test_loudness_and_peak_are_within_the_bounds_of_librimix(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, n_takes=8)
    levels, n_lowered = [], 0
    for mixture in draw_list(manifest, ListRecipe(n_mixtures=40)):
        loudness, sounds = [], []
        for path, gain in mixture.sources:
            samples = audio.read(manifest.root / path)[0][0] * gain
            loudness.append(integrated_loudness(samples, 8000))
            sounds.append(np.pad(samples, (0, 8000 - len(samples))))
        peak = np.abs(np.sum(sounds, axis=0)).max()
        assert peak <= 0.9 + 1e-5
        if peak < 0.9 - 1e-5:
            assert all(-33.001 < level < -24.999 for level in loudness)
            levels += loudness
        n_lowered += peak >= 0.9 - 1e-5
    assert n_lowered == 0  # noise at -25 LUFS is far from full scale
    # 80 uniform draws: their mean is within five of its standard deviations of -29, and they spread.
    assert np.mean(levels) == pytest.approx(-29, abs=5 * 8 / np.sqrt(12 * 80))
    assert np.ptp(levels) > 6


def test_a_peak_over_the_limit_lowers_all_gains_together(tmp_path: Path) -> None:
    for speaker, places in (("a", slice(None, None, 3000)), ("b", slice(1, None, 3000))):
        clicks = np.full(8000, 1e-3, dtype=np.float32)
        clicks[places] = 0.5  # quiet for the ear and high at the peak
        audio.write(tmp_path / speaker / f"{speaker}.wav", clicks, 8000)
    manifest = index(tmp_path, progress=False)[0]
    fixed = FixedSet(
        mixtures=draw_list(manifest, ListRecipe(n_mixtures=4)), manifest=manifest, sample_rate=8000
    )
    ratios = []
    for number, mixture in enumerate(fixed):
        assert float(mixture.audio.abs().max()) == pytest.approx(0.9, rel=1e-5)
        gains = dict(fixed.mixtures[number].sources)
        ratios.append(20 * np.log10(gains["a/a.wav"] / gains["b/b.wav"]))
    assert max(np.abs(ratios)) < 8.1  # the balance that was drawn stays
    assert np.ptp(ratios) > 0.1


def test_too_few_speakers_are_told_with_the_counts(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, n_speakers=1)
    with pytest.raises(SepnetError, match=r"2 speakers are needed .* has 1 \(4 files"):
        draw_list(manifest, ListRecipe(n_mixtures=1))
    several = corpus(tmp_path / "more", n_speakers=3)
    with pytest.raises(SepnetError, match=r"has 0 \(0 files of 9 s or more of 12\)"):
        draw_list(several, ListRecipe(n_mixtures=1, min_seconds=9))
    with pytest.raises(SepnetError, match="0 mixtures"):
        draw_list(several, ListRecipe(n_mixtures=0))


def classes(root: Path, labels: Sequence[str] = ("bark", "rain", "bell"), n_clips: int = 3) -> Manifest:
    """<class>/<clip>.wav in fold1, every clip of another level."""
    rows = []
    for place, label in enumerate(labels):
        for clip in range(n_clips):
            number = place * n_clips + clip
            write(root / label / f"{label}-{clip}.wav", 4000, 8000, level=0.05 + 0.02 * number, seed=number)
            rows.append(f"{label}/{label}-{clip}.wav,{label},1,{number}")
    (root / "metadata.csv").write_text("path,class,fold,freesound_id\n" + "\n".join(rows) + "\n")
    return index(root, layout="classes", progress=False)[0]


def test_sources_of_different_classes_at_the_same_power(tmp_path: Path) -> None:
    manifest = classes(tmp_path)
    mixtures = draw_list(manifest, ListRecipe(n_mixtures=12, labels=["bark", "rain"], equal_power=True))
    fixed = FixedSet(mixtures=mixtures, manifest=manifest, sample_rate=8000)
    for mixture in fixed:
        assert mixture.labels is not None
        assert sorted(mixture.labels) == ["bark", "rain"]
        powers = mixture.references.square().mean(dim=1)
        assert float(powers[0] / powers[1]) == pytest.approx(1.0, rel=1e-4)
    for mixture, row in zip(fixed, mixtures, strict=True):
        assert mixture.labels == tuple(path.split("/")[0] for path, _ in row.sources)
    with pytest.raises(SepnetError, match=r"nothing of the class howl; it has bark, bell, rain"):
        draw_list(manifest, ListRecipe(n_mixtures=1, labels=["bark", "howl"]))
    with pytest.raises(SepnetError, match=r"3 classes are needed .* has 2 \(6 files"):
        draw_list(manifest, ListRecipe(n_mixtures=1, n_sources=3, labels=["bark", "bell"]))


def test_a_list_of_several_numbers_of_sources(tmp_path: Path) -> None:
    manifest = corpus(tmp_path / "corpus")
    kept = DrawnList(split="dev", n_mixtures=8, n_sources=[1, 2, 3], csv=tmp_path / "list.csv")
    first = kept.mixtures(manifest)
    assert Counter(len(mixture.sources) for mixture in first) == {1: 3, 2: 3, 3: 2}
    assert kept.mixtures(manifest) == first  # read from the file
    assert [m.n_sources for m in kept.fixed_set(manifest, 8000)] == [1, 2, 3, 1, 2, 3, 1, 2]
    assert first[0].sources[0] != first[1].sources[0]
    assert len({mixture.id for mixture in first}) == 8


def test_speech_has_no_classes(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    fixed = FixedSet(
        mixtures=draw_list(manifest, ListRecipe(n_mixtures=1)), manifest=manifest, sample_rate=8000
    )
    assert fixed[0].labels is None


def test_silence_is_refused(tmp_path: Path) -> None:
    for speaker in "ab":
        audio.write(tmp_path / speaker / "1.wav", np.zeros(8000), 8000)
    with pytest.raises(SepnetError, match=r"a/1\.wav is too quiet|b/1\.wav is too quiet"):
        draw_list(index(tmp_path, progress=False)[0], ListRecipe(n_mixtures=1))


# --- the official lists on real audio -----------------------------------------------------------------


@pytest.fixture(scope="module")
def test_split(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("speech")
    (root / "test").symlink_to(SHARED / "test")
    return index(root, progress=False)[0]


@needs_shared
@pytest.mark.parametrize(("name", "rows", "n_sources"), [("libri2mix", 246, 2), ("libri3mix", 154, 3)])
def test_official_rows_are_rebuilt(test_split: Manifest, name: str, rows: int, n_sources: int) -> None:
    table = SHARED / f"{name}_test-clean_subset.csv"
    fixed = LibriMixList(csv=table).fixed_set(test_split, 8000)
    assert len(fixed) == rows
    with table.open() as stream:
        lines = list(csv.DictReader(stream))
    for number in range(0, rows, 23):
        line, mixture = lines[number], fixed[number]
        sources = []
        for source in range(1, n_sources + 1):
            _, speaker, _, file = line[f"source_{source}_path"].split("/")
            samples, _ = soundfile.read(SHARED / "test" / speaker / file)
            sources.append(samples * float(line[f"source_{source}_gain"]))
        length = min(map(len, sources))
        wanted = sum(source[:length] for source in sources)
        assert fixed.id(number) == line["mixture_ID"]
        assert mixture.references is not None
        assert mixture.references.shape == (n_sources, length)
        np.testing.assert_allclose(mixture.audio[0].numpy(), wanted, atol=LSB / 100)
        assert torch.equal(mixture.audio[0], mixture.references.sum(dim=0))
