"""Manifests: each layout says who speaks where, bad files are listed, and a stale index is made again."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sepnet.data import audio, indexing
from sepnet.data.corpus import Corpus
from sepnet.data.indexing import index
from sepnet.data.librimix import DrawnList
from sepnet.data.manifest import Manifest, SkippedFile, Utterance, summarize
from sepnet.data.splits import assign_splits
from sepnet.types import SepnetError

SHARED = Path(__file__).parents[2] / "shared" / "audio"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real audio is not at {SHARED}")


def make(root: Path, *paths: str, seconds: float = 0.01, rate: int = 8000) -> Path:
    """Files of noise, each with its own samples."""
    for path in paths:
        seed = int.from_bytes(hashlib.sha1(path.encode()).digest()[:4], "big")
        samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)
        audio.write(root / path, samples, rate, subtype="PCM_16")
    return root


def rows(manifest: Manifest) -> set[tuple[str, str, str, str]]:
    return {(u.path, u.speaker, u.split, u.label) for u in manifest}


def indexed(root: Path, **settings: object) -> tuple[Manifest, tuple[SkippedFile, ...]]:
    return index(root, progress=False, **settings)  # type: ignore[arg-type]


# --- layouts ------------------------------------------------------------------------------------------

LAYOUTS = {
    "speakers": {
        "anna/a.wav": ("anna", "", ""),
        "anna/deep/er/b.flac": ("anna", "", ""),
        "ben/a.WAV": ("ben", "", ""),
    },
    "speakers with splits": {
        "train/anna/a.wav": ("anna", "train", ""),
        "Valid/ben/x/a.wav": ("ben", "dev", ""),
        "test/carl/a.wav": ("carl", "test", ""),
    },
    "librispeech": {
        "train-clean-100/19/198/19-198-0000.flac": ("19", "train", ""),
        "dev-other/84/121/84-121-0000.flac": ("84", "dev", ""),
        "test-clean/61/70/61-70-0000.flac": ("61", "test", ""),
    },
    "librispeech in a folder": {
        "LibriSpeech/dev-clean/84/121/84-121-0000.flac": ("84", "dev", ""),
        "LibriSpeech/dev-clean/85/121/85-121-0000.flac": ("85", "dev", ""),
    },
    "vctk": {
        "wav48_silence_trimmed/p225/p225_001_mic1.flac": ("p225", "", ""),
        "wav48_silence_trimmed/p225/p225_001_mic2.flac": None,
        "wav48_silence_trimmed/p226/p226_001_mic1.flac": ("p226", "", ""),
    },
    "old vctk": {
        "VCTK-Corpus/wav48/p225/p225_001.wav": ("p225", "", ""),
        "VCTK-Corpus/wav48/p226/p226_001.wav": ("p226", "", ""),
    },
    "stems": {
        "train/A - One/vocals.wav": ("A - One", "train", "vocals"),
        "train/A - One/drums.wav": ("A - One", "train", "drums"),
        "train/A - One/mixture.wav": None,
        "test/B - Two/vocals.wav": ("B - Two", "test", "vocals"),
        "test/B - Two/mixture.wav": None,
    },
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_auto_finds_the_layout_and_places_each_file(tmp_path: Path, kind: str) -> None:
    make(tmp_path, *LAYOUTS[kind])
    manifest, skipped = indexed(tmp_path)
    assert rows(manifest) == {(path, *place) for path, place in LAYOUTS[kind].items() if place is not None}
    assert skipped == ()


def test_speech8k_follows_its_table(tmp_path: Path) -> None:
    make(tmp_path, "train/1/a.flac", "dev/2/b.flac", "dev/2/unlisted.flac")
    (tmp_path / "utterances.csv").write_text(
        "split,speaker,utt,path\ntrain,one,a,train/1/a.flac\ndev,two,b,dev/2/b.flac\ndev,two,c,dev/2/c.flac\n"
    )
    manifest, skipped = indexed(tmp_path)
    assert rows(manifest) == {("train/1/a.flac", "one", "train", ""), ("dev/2/b.flac", "two", "dev", "")}
    assert skipped == (SkippedFile("dev/2/c.flac", "is in utterances.csv, but missing"),)


ESC_TABLES = {
    "metadata.csv": (
        "path,class,fold,freesound_id\n",
        "{folder}/{name},{label},{fold},{recording}\n",
        "{label}/",
    ),
    "meta/esc50.csv": ("filename,fold,category,src_file\n", "{name},{fold},{label},{recording}\n", "audio/"),
    "metadata/UrbanSound8K.csv": (
        "slice_file_name,fsID,fold,class\n",
        "{name},{recording},{fold},{label}\n",
        "audio/fold{fold}/",
    ),
}


@pytest.mark.parametrize("table", ESC_TABLES)
def test_classes_keep_the_takes_of_one_recording_together(tmp_path: Path, table: str) -> None:
    header, line, where = ESC_TABLES[table]
    content, wanted = header, set()
    for label, fold, recording, take in (("dog", 1, 77, "A"), ("dog", 1, 77, "B"), ("rain", 3, 78, "A")):
        facts = {
            "label": label,
            "fold": fold,
            "recording": recording,
            "name": f"{fold}-{recording}-{take}.wav",
        }
        folder = where.format(**facts).rstrip("/")
        make(tmp_path, f"{folder}/{facts['name']}")
        content += line.format(folder=folder, **facts)
        wanted.add((f"{folder}/{facts['name']}", str(recording), f"fold{fold}", label))
    (tmp_path / table).parent.mkdir(exist_ok=True)
    (tmp_path / table).write_text(content)
    assert rows(indexed(tmp_path)[0]) == wanted


def test_classes_without_a_table_are_folders(tmp_path: Path) -> None:
    make(tmp_path, "dog/1-77-A-0.wav", "dog/1-77-B-0.wav", "rain/x.wav", "sun/x.wav")
    assert rows(indexed(tmp_path, layout="classes")[0]) == {
        ("dog/1-77-A-0.wav", "77", "fold1", "dog"),
        ("dog/1-77-B-0.wav", "77", "fold1", "dog"),
        ("rain/x.wav", "rain/x", "", "rain"),
        ("sun/x.wav", "sun/x", "", "sun"),
    }


def test_a_layout_that_is_named_wins(tmp_path: Path) -> None:
    make(tmp_path, "one/vocals.wav", "one/mixture.wav")
    assert {u.label for u in indexed(tmp_path)[0]} == {"vocals"}
    assert {u.path for u in indexed(tmp_path, layout="speakers")[0]} == {"one/vocals.wav", "one/mixture.wav"}
    with pytest.raises(SepnetError, match=r"no layout 'speaker': .*speakers"):
        indexed(tmp_path, layout="speaker")


def test_an_undecidable_root_says_what_was_tried(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", "b.wav")
    with pytest.raises(
        SepnetError, match=r"2 sound files \(a.wav, b.wav\).*classes: .*librispeech: .*speakers: "
    ):
        indexed(tmp_path)


def test_a_stray_file_is_listed_and_hidden_and_excluded_ones_are_not(tmp_path: Path) -> None:
    make(tmp_path, "a/1.wav", "b/1.wav", "stray.wav", "a/._1.wav", ".trash/x/1.wav", "b/noise/1.wav")
    (tmp_path / "a" / "notes.txt").write_text("no sound")
    manifest, skipped = indexed(tmp_path, exclude=["*/noise/*"])
    assert [u.path for u in manifest] == ["a/1.wav", "b/1.wav"]
    assert [bad.path for bad in skipped] == ["stray.wav"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path / "real", "1.wav")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "anna").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "root")
    assert [u.path for u in indexed(tmp_path / "root")[0]] == ["anna/1.wav"]


# --- what the index says of a file --------------------------------------------------------------------


def test_a_row_holds_the_facts_of_the_file(tmp_path: Path) -> None:
    make(tmp_path, "a/1.wav", seconds=0.1)
    make(tmp_path, "b/1.flac", seconds=0.1, rate=44100)
    slow, fast = indexed(tmp_path)[0]
    assert (slow.sample_rate, slow.seconds, slow.frames) == (8000, 0.1, 800)
    assert (fast.sample_rate, fast.frames) == (44100, 4410)
    assert slow.sha1 == hashlib.sha1((tmp_path / "a/1.wav").read_bytes()).hexdigest()


def spoil(root: Path) -> None:
    (root / "a" / "empty.wav").write_bytes(b"")
    (root / "a" / "text.flac").write_bytes(b"not sound")
    whole = (root / "a" / "1.flac").read_bytes()
    (root / "a" / "cut.flac").write_bytes(whole[: len(whole) // 2])


def test_bad_files_are_left_out_and_listed_or_raise_when_strict(tmp_path: Path) -> None:
    make(tmp_path, "a/1.flac", "b/1.flac", seconds=1)
    spoil(tmp_path)
    manifest, skipped = indexed(tmp_path)
    assert [u.path for u in manifest] == ["a/1.flac", "b/1.flac"]
    assert [bad.path for bad in skipped] == ["a/cut.flac", "a/empty.wav", "a/text.flac"]
    assert "cut off" in skipped[0].reason
    with pytest.raises(SepnetError, match=r"a/cut\.flac"):
        indexed(tmp_path, strict=True)


def test_no_sound_and_no_good_sound_are_told(tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match="there is no folder"):
        indexed(tmp_path / "nowhere")
    with pytest.raises(SepnetError, match=r"no sound under .*\.flac"):
        indexed(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_bytes(b"")
    with pytest.raises(SepnetError, match=r"none of the 1 sound files .*empty"):
        indexed(tmp_path)


def test_a_speaker_in_two_splits_is_an_error_that_names_ten(tmp_path: Path) -> None:
    names = [f"s{number:02}" for number in range(12)]
    make(
        tmp_path, *(f"{split}/{name}/1.wav" for name in names for split in ("train", "test")), "dev/new/1.wav"
    )
    with pytest.raises(SepnetError, match=r"12 of 13 speakers .*s00, .*s09 and 2 more\."):
        indexed(tmp_path)


# --- manifests ----------------------------------------------------------------------------------------


def manifest_of(*speakers: str) -> Manifest:
    utterances = [
        Utterance(f"{speaker}/{take}.wav", speaker, "", "", 1.5, 8000, f"{speaker}{take}")
        for speaker in speakers
        for take in range(2)
    ]
    return Manifest(Path("/corpus"), tuple(utterances))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    before = manifest_of("anna", 'b"e,n', "c\u00e9line")
    before.write(tmp_path / "deep" / "m.csv")
    assert (tmp_path / "deep" / "m.csv").read_text().splitlines()[0] == (
        "path,speaker,split,label,seconds,sample_rate,sha1"
    )
    assert Manifest.read(tmp_path / "deep" / "m.csv", "/corpus") == before


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (",sha1\n", "\n", "lacks the columns sha1"),
        (",8000,", ",fast,", r"line 2: .*'fast'"),
        (",1.5,", ",", "line 2: the row does not have the 7 cells"),
    ],
)
def test_a_broken_manifest_names_the_line(tmp_path: Path, old: str, new: str, reason: str) -> None:
    manifest_of("anna").write(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text((tmp_path / "m.csv").read_text().replace(old, new))
    with pytest.raises(SepnetError, match=reason):
        Manifest.read(tmp_path / "m.csv", "/corpus")


def test_the_fingerprint_changes_with_every_fact_that_matters_and_with_no_other() -> None:
    base = manifest_of("anna", "ben")
    first = base.utterances[0]
    others = [
        replace(base, utterances=(replace(first, **change), *base.utterances[1:]))
        for change in ({"sha1": "0"}, {"path": "x.wav"}, {"split": "dev"}, {"speaker": "x"}, {"label": "x"})
    ]
    prints = {manifest.fingerprint for manifest in (base, *others, replace(base, utterances=(first,)))}
    assert len(prints) == 7
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in prints)
    same = Manifest(Path("/elsewhere"), tuple(reversed(base.utterances)))
    assert same.fingerprint == base.fingerprint


def test_a_split_is_its_part_and_an_unknown_one_names_the_others(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.wav", "dev/b/1.wav", "test/c/1.wav")
    manifest = indexed(tmp_path)[0]
    assert manifest.splits == ("dev", "test", "train")
    assert manifest.split("dev").speakers == ("b",)
    assert manifest.split("dev", "test").speakers == ("b", "c")
    assert list(manifest.by_speaker()) == ["a", "b", "c"]
    assert manifest.path(manifest.utterances[0]).is_file()
    with pytest.raises(SepnetError, match=r"no split valid: it has dev, test, train"):
        manifest.split("valid")


def test_splits_are_drawn_by_speaker_and_stay_when_speakers_come() -> None:
    few = manifest_of(*(f"s{number}" for number in range(200)))
    many = manifest_of(*(f"s{number}" for number in range(300)))
    fractions = {"train": 0.5, "dev": 0.3, "test": 0.2}
    drawn = assign_splits(few, fractions, seed=1)
    drawn.check_disjoint()
    for name, share in fractions.items():
        # 200 independent draws: five standard deviations of the share are at most 0.18.
        assert len(drawn.split(name).speakers) / 200 == pytest.approx(share, abs=0.18)
    later = {u.path: u.split for u in assign_splits(many, fractions, seed=1)}
    assert all(later[u.path] == u.split for u in drawn)
    assert assign_splits(few, fractions, seed=2) != drawn


def test_splits_that_cannot_be_drawn_are_refused() -> None:
    manifest = manifest_of("anna", "ben")
    with pytest.raises(SepnetError, match="sum to 1"):
        assign_splits(manifest, {"train": 0.5, "dev": 0.2})
    with pytest.raises(SepnetError, match="2 speakers are too few"):
        assign_splits(manifest, {"train": 0.8, "dev": 0.1, "test": 0.1})
    with pytest.raises(SepnetError, match="has the splits train already"):
        assign_splits(assign_splits(manifest, {"train": 1.0}))


def classes_of(clips: dict[str, int], takes: int = 1) -> Manifest:
    """So many recordings of each class, each in some takes."""
    rows = [
        Utterance(f"{label}/{n}-{take}.wav", f"{label}{n}", "", label, 1.0, 8000, "0")
        for label, count in clips.items()
        for n in range(count)
        for take in range(takes)
    ]
    return Manifest(Path("/nowhere"), tuple(rows))


def test_each_class_is_divided_on_its_own_and_a_recording_stays_together() -> None:
    fractions = {"train": 0.5, "dev": 0.25, "test": 0.25}
    for seed in range(20):
        divided = assign_splits(classes_of({"bell": 12, "rain": 8, "bark": 3}, takes=2), fractions, seed)
        divided.check_disjoint()
        counts = Counter((u.label, u.split) for u in divided)
        for label, expected in (("bell", (6, 3, 3)), ("rain", (4, 2, 2)), ("bark", (1, 1, 1))):
            assert tuple(counts[label, split] // 2 for split in fractions) == expected
    manifest = classes_of({"bell": 12, "rain": 8})
    assert assign_splits(manifest, fractions, 1) != assign_splits(manifest, fractions, 2)
    shuffled = replace(manifest, utterances=tuple(reversed(manifest.utterances)))
    assert (
        assign_splits(shuffled, fractions, 1).fingerprint == assign_splits(manifest, fractions, 1).fingerprint
    )


def test_the_stems_of_a_track_stay_together() -> None:
    stems = ("bass", "drums", "vocals")
    rows = [
        Utterance(f"{n}/{s}.wav", str(n), "", s, 1.0, 8000, "0") for n in range(8) for s in stems[n % 2 :]
    ]
    divided = assign_splits(
        Manifest(Path("/nowhere"), tuple(rows)), {"train": 0.5, "dev": 0.25, "test": 0.25}
    )
    divided.check_disjoint()
    assert [len(divided.split(name).speakers) for name in ("train", "dev", "test")] == [4, 2, 2]


def test_sounds_are_not_called_speakers() -> None:
    sounds = classes_of({"bell": 1, "rain": 1})
    with pytest.raises(SepnetError, match=r"2 recordings are too few .* nothing is in dev, test"):
        assign_splits(sounds)
    assert "2 recordings" in summarize(sounds)
    assert "2 speakers" in summarize(manifest_of("anna", "ben"))
    with pytest.raises(SepnetError, match="to divide the recordings"):
        sounds.split("dev")


# --- the stored index ---------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded since."""
    names: list[str] = []
    verify = audio.verify

    def watch(path: Path) -> audio.AudioInfo:
        names.append(Path(path).name)
        return verify(path)

    monkeypatch.setattr(indexing.audio, "verify", watch)
    return names


def open_corpus(root: Path, **settings: object) -> Corpus:
    index_dir = root.parent / "index"
    return Corpus(root=root, index_dir=index_dir, progress=False, **settings)  # type: ignore[arg-type]


def test_an_index_is_made_once_and_only_changed_files_again(tmp_path: Path, decoded: list[str]) -> None:
    root = make(tmp_path / "root", "a/1.wav", "b/2.wav")
    first = open_corpus(root).manifest()
    assert sorted(decoded) == ["1.wav", "2.wav"]
    decoded.clear()
    assert open_corpus(root).manifest() == first
    assert decoded == []

    make(root, "b/3.wav")
    make(root, "a/1.wav", seconds=0.02)
    again = open_corpus(root).manifest()
    assert sorted(decoded) == ["1.wav", "3.wav"]
    assert again == indexed(root)[0]
    (root / "b" / "3.wav").unlink()
    assert [u.path for u in open_corpus(root).manifest()] == ["a/1.wav", "b/2.wav"]


def test_a_file_rewritten_in_the_same_size_is_seen_by_its_time(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "a/1.wav", "b/2.wav")
    before = open_corpus(root).manifest()
    shutil.copyfile(root / "b" / "2.wav", root / "a" / "1.wav")
    os.utime(root / "a" / "1.wav", ns=(1, 1))
    assert open_corpus(root).manifest().fingerprint != before.fingerprint


def test_other_settings_and_a_changed_table_make_it_again(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "one/vocals.wav", "one/mixture.wav")
    assert len(open_corpus(root).manifest()) == 1
    assert len(open_corpus(root, layout="speakers").manifest()) == 2
    (root / "metadata.csv").write_text("path,class,fold,freesound_id\none/vocals.wav,voice,2,7\n")
    assert rows(open_corpus(root).manifest()) == {("one/vocals.wav", "7", "fold2", "voice")}
    (root / "metadata.csv").write_text("path,class,fold,freesound_id\none/vocals.wav,sound,2,7\n")
    assert open_corpus(root).manifest().labels == ("sound",)


@pytest.mark.parametrize("name", ["index.json", "manifest.csv"])
def test_a_spoilt_index_is_made_again(tmp_path: Path, name: str) -> None:
    root = make(tmp_path / "root", "a/1.wav", "b/2.wav")
    before = open_corpus(root).manifest()
    (tmp_path / "index" / name).write_text('{"half')
    assert open_corpus(root).manifest() == before


def test_what_is_left_out_is_logged_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make(tmp_path / "root", "a/1.flac", "b/1.flac", seconds=1)
    spoil(root)
    with caplog.at_level(logging.WARNING):
        manifest = open_corpus(root).manifest()
    assert "3 of 5 files" in caplog.text
    assert "a/cut.flac" in caplog.text
    assert [bad.path for bad in open_corpus(root).skipped()] == ["a/cut.flac", "a/empty.wav", "a/text.flac"]
    assert "left out: 3" in summarize(manifest, open_corpus(root).skipped())


def test_the_index_lies_under_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "root", "a/1.wav", "b/1.wav")
    root.chmod(0o555)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Corpus(root=root, progress=False, split_fractions={"train": 1.0}).manifest().split("train")
    assert [path.parts[:2] for path in Path().glob("**/manifest.csv")] == [("data", "index")]
    assert sorted(path.name for path in root.rglob("*")) == ["1.wav", "1.wav", "a", "b"]
    root.chmod(0o755)


def test_the_index_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "home" / "root", "a/1.wav", "b/1.wav")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Corpus(root="~/root", index_dir="~/index", progress=False).manifest()
    assert (tmp_path / "home" / "index" / "manifest.csv").is_file()
    assert not (tmp_path / "~").exists()


# --- real audio ---------------------------------------------------------------------------------------


@needs_shared
def test_real_speech_has_the_speakers_that_its_own_table_says(tmp_path: Path) -> None:
    (tmp_path / "dev").symlink_to(SHARED / "speech8k" / "dev")  # one split: all of it takes four seconds
    manifest, skipped = indexed(tmp_path)
    assert skipped == ()
    assert len(manifest.speakers) == 30
    assert manifest.seconds / 60 == pytest.approx(27, abs=0.5)


@needs_shared
def test_real_classes_have_folds_and_recordings() -> None:
    manifest, skipped = indexed(SHARED / "esc10_16k")
    assert (len(manifest), skipped, len(manifest.labels)) == (320, (), 10)
    assert manifest.splits == ("fold1", "fold2", "fold3", "fold4")
    manifest.check_disjoint()


# --- classes and links --------------------------------------------------------------------------------


def test_each_class_has_a_clip_in_each_split(tmp_path: Path) -> None:
    """36 clips of 12 classes, three of each: every class is in every split."""
    make(tmp_path, *(f"{name}/{take}.wav" for name in "abcdefghijkl" for take in range(3)))
    manifest = assign_splits(indexed(tmp_path, layout="classes")[0], {"train": 0.5, "dev": 0.2, "test": 0.3})
    for name in ("train", "dev", "test"):
        assert manifest.split(name).labels == tuple("abcdefghijkl")


def test_folders_of_classes_with_the_names_of_esc_are_no_speakers(tmp_path: Path) -> None:
    make(tmp_path, "dog/1-100-A-0.wav", "dog/2-101-A-0.wav", "rain/1-102-A-10.wav", "rain/3-103-B-10.wav")
    manifest, _ = indexed(tmp_path)
    assert manifest.labels == ("dog", "rain")
    assert manifest.splits == ("fold1", "fold2", "fold3")
    recipe = DrawnList(split="fold2", n_mixtures=1, n_sources=2, labels=("dog", "rain"), seed=0)
    with pytest.raises(SepnetError, match=r"\(split fold2\) has nothing of the class rain"):
        recipe.mixtures(manifest)


def test_links_that_lead_nowhere_are_listed(tmp_path: Path) -> None:
    make(tmp_path, "a/1.wav", "b/1.wav")
    (tmp_path / "a" / "2.wav").symlink_to("gone.wav")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    manifest = Corpus(root=tmp_path, index_dir=tmp_path / ".index", progress=False)
    assert [u.path for u in manifest.manifest()] == ["a/1.wav", "b/1.wav"]
    skipped = {bad.path: bad.reason for bad in manifest.skipped()}
    assert skipped["a/2.wav"] == "is a link to gone.wav, which does not exist"
    assert "which is searched already" in skipped["b/up"]


def test_a_name_that_is_not_utf8_is_left_out_and_listed(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "a/1.wav", "a/2.wav", "b/1.wav")
    (root / "a/2.wav").rename(root / "a/\udcff.wav")
    assert [u.path for u in open_corpus(root).manifest()] == ["a/1.wav", "b/1.wav"]
    (bad,) = open_corpus(root).skipped()
    assert bad.path == r"a/\udcff.wav"
    assert "is not UTF-8: rename the file" in bad.reason
