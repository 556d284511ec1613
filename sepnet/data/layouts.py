"""How corpora lay their files out: from the list of a root's sound files to speaker, split and label.

Each layout is a pure function of the list (and of the tables that lie beside the files). A file that it
leaves out on purpose (a second microphone, a ready mixture) has no entry; one that it does not recognise is
listed in ``Places.unknown``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sepnet.data.table import read_table
from sepnet.types import SepnetError

SPLIT_NAMES = {
    "train": "train", "tr": "train", "training": "train",
    "dev": "dev", "valid": "dev", "val": "dev", "validation": "dev", "cv": "dev",
    "test": "test", "tt": "test", "eval": "test",
}  # fmt: skip
LIBRISPEECH_SUBSET = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")
ESC_NAME = re.compile(
    r"(?P<fold>\d)-(?P<recording>\d+)-[A-Z](-\d+)?"
)  # <fold>-<freesound id>-<take>[-<class>]
STEM_NAMES = frozenset({"mixture", "vocals"})  # one of them in most folders: these are tracks of stems
READY_MIXTURES = frozenset({"mixture", "mix", "linear_mixture"})
CLASS_TABLES = ("metadata.csv", "meta/esc50.csv", "metadata/UrbanSound8K.csv")
TABLES = (*CLASS_TABLES, "utterances.csv")  # what layouts read beside the list of files


@dataclass(frozen=True)
class Place:
    """Where a file belongs.

    Attributes:
        path: Relative to the root.
        speaker: The speaker, the recording or the track.
        split: The split; empty where there is none.
        label: The class or the stem; empty where there is none.
    """

    path: str
    speaker: str
    split: str = ""
    label: str = ""


@dataclass(frozen=True)
class Places:
    """What a layout makes of a list of files.

    Attributes:
        known: The place of each file that it recognises.
        unknown: (path, reason) of each file that it doesn't.
    """

    known: tuple[Place, ...]
    unknown: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        expects: The files that it expects, in words.
        matches: Whether a root and its files look like it.
        place: Where each file belongs.
        speech: Whether the speakers are people, so that one in two splits is an error.
    """

    expects: str
    matches: Callable[[Path, Sequence[str]], bool]
    place: Callable[[Path, Sequence[str]], Places]
    speech: bool = True


def choose_layout(root: Path, files: Sequence[str]) -> str:
    """Find the first layout that matches; the most specific ones come first.

    Args:
        root: The folder of the corpus.
        files: The relative paths of its sound files.

    Returns:
        A name of LAYOUTS.

    Raises:
        SepnetError: None matches, with what was tried.
    """
    for name, layout in LAYOUTS.items():
        if layout.matches(root, files):
            return name
    tried = "; ".join(f"{name}: {layout.expects}" for name, layout in LAYOUTS.items())
    raise SepnetError(
        f"{root} holds {len(files)} sound files ({', '.join(files[:3])}), but matches no known layout. "
        f"Put each speaker's files into a folder of the speaker's name, or name the layout. Tried {tried}"
    )


def _place_each(place: Callable[[PurePosixPath], Place | str | None], files: Sequence[str]) -> Places:
    """Place file by file: ``place`` returns a Place, a reason why there is none, or None to skip it."""
    outcomes = [(path, place(PurePosixPath(path))) for path in files]
    return Places(
        tuple(outcome for _, outcome in outcomes if isinstance(outcome, Place)),
        tuple((path, outcome) for path, outcome in outcomes if isinstance(outcome, str)),
    )


def _is_majority(matches: Iterable[bool]) -> bool:
    """True for more than half; a corpus may hold a few stray files."""
    results = list(matches)
    return sum(results) * 2 > len(results)


# Each layout below: how one file is placed, then whether a list of files looks like it.


def _librispeech_place(path: PurePosixPath) -> Place | str:
    subset = next((part for part in path.parts[:-3] if LIBRISPEECH_SUBSET.fullmatch(part)), None)
    if subset is None or path.parts.index(subset) != len(path.parts) - 4:
        return "is not <subset>/<speaker>/<chapter>/<utterance>"
    return Place(str(path), path.parts[-3], subset.split("-")[0])


def _vctk_place(path: PurePosixPath) -> Place | str | None:
    folder = path.parts[-3] if len(path.parts) >= 3 else ""
    if (
        folder == "wav48_silence_trimmed"
    ):  # both microphones are there; the first one is there for more speakers
        return Place(str(path), path.parts[-2]) if path.stem.endswith("_mic1") else None
    if folder == "wav48":
        return Place(str(path), path.parts[-2])
    return "is not in wav48_silence_trimmed/<speaker> or wav48/<speaker>"


def _speaker_place(path: PurePosixPath) -> Place | str:
    split, folders = _leading_split(path)
    return Place(str(path), folders[0], split) if folders else "is in no folder of a speaker"


def _stem_place(path: PurePosixPath) -> Place | str | None:
    split, folders = _leading_split(path)
    if not folders:
        return "is in no folder of a track"
    if path.stem.lower() in READY_MIXTURES:
        return None
    return Place(str(path), "/".join(folders), split, path.stem)


def _class_place(path: PurePosixPath) -> Place | str:
    split, folders = _leading_split(path)
    if not folders:
        return "is in no folder of a class"
    # Takes of one recording are never mixed with each other, so the recording is the "speaker".
    if name := ESC_NAME.fullmatch(path.stem):
        return Place(str(path), name["recording"], split or f"fold{name['fold']}", folders[-1])
    return Place(str(path), str(path.with_suffix("")), split, folders[-1])


def _leading_split(path: PurePosixPath) -> tuple[str, tuple[str, ...]]:
    """The split that the first folder names (or ""), and the other folders."""
    folders = path.parts[:-1]
    split = SPLIT_NAMES.get(folders[0].lower(), "") if folders else ""
    return split, folders[1:] if split else folders


def _speech8k(root: Path, files: Sequence[str]) -> Places:
    present = set(files)
    rows = [row for _, row in read_table(root / "utterances.csv", ("path", "speaker", "split"))]
    return Places(
        tuple(Place(row["path"], row["speaker"], row["split"]) for row in rows if row["path"] in present),
        tuple(
            (row["path"], "is in utterances.csv, but missing") for row in rows if row["path"] not in present
        ),
    )


def _classes(root: Path, files: Sequence[str]) -> Places:
    table = next((root / name for name in CLASS_TABLES if (root / name).is_file()), None)
    if table is None:
        return _place_each(_class_place, files)
    present, by_name = set(files), {PurePosixPath(path).name: path for path in files}
    places: list[Place] = []
    unknown: list[tuple[str, str]] = []
    for _, row in read_table(table, ("fold",)):
        listed = _cell(row, table, "path", "filename", "slice_file_name")
        path = listed if listed in present else by_name.get(PurePosixPath(listed).name)
        if path is None:
            unknown.append((listed, f"is in {table.name}, but missing"))
            continue
        recording = _cell(row, table, "freesound_id", "src_file", "fsID")
        places.append(Place(path, recording, f"fold{row['fold']}", _cell(row, table, "class", "category")))
    return Places(tuple(places), tuple(unknown))


def is_table(path: str) -> bool:
    """Whether a relative path is that of a table beside the sounds, of classes or of speakers."""
    return path in TABLES or PurePosixPath(path).name in SPEAKER_TABLES


def read_sexes(root: Path) -> dict[str, str]:
    """Read the sexes of the speakers from a corpus' own table.

    These are speakers.csv (columns speaker, gender) of speech8k, SPEAKERS.TXT of LibriSpeech and
    speaker-info.txt of VCTK, in the root, in a folder LibriSpeech in it, or beside it, where a subset is the
    root.

    Args:
        root: The folder of the corpus.

    Returns:
        f or m for each speaker; empty without a table.
    """
    for folder in (root, root / "LibriSpeech", root.parent):
        for name, read in SPEAKER_TABLES.items():
            if (folder / name).is_file():
                return {who: sex.lower() for who, sex in read(folder / name) if sex.lower() in ("f", "m")}
    return {}


def _sexes_csv(table: Path) -> list[tuple[str, str]]:
    return [(row["speaker"], row["gender"]) for _, row in read_table(table, ("speaker", "gender"))]


def _sexes_librispeech(table: Path) -> list[tuple[str, str]]:
    """Lines as ``14   | F | train-clean-360  | 25.03 | Kristin LeMoine``; those with ; are comments."""
    lines = table.read_text("utf-8", errors="replace").splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith(";")]
    return [(line[0], line[1]) for line in cells if len(line) > 2]


def _sexes_vctk(table: Path) -> list[tuple[str, str]]:
    """Lines as ``p225  23  F    English    Southern  England``; earlier releases leave out the p."""
    cells = [line.split() for line in table.read_text("utf-8", errors="replace").splitlines()]
    known = [(line[0], line[2]) for line in cells if len(line) > 2]
    return known + [(f"p{who}", sex) for who, sex in known if who.isdecimal()]


SPEAKER_TABLES: dict[str, Callable[[Path], list[tuple[str, str]]]] = {
    "speakers.csv": _sexes_csv,
    "SPEAKERS.TXT": _sexes_librispeech,
    "speaker-info.txt": _sexes_vctk,
}


def _cell(row: dict[str, str], table: Path, *names: str) -> str:
    for name in names:
        if row.get(name):
            return row[name]
    raise SepnetError(f"{table} has a row without {' or '.join(names)}; its columns are {list(row)}")


def _can_place(place: Callable[[PurePosixPath], Place | str | None], files: Sequence[str]) -> bool:
    return _is_majority(not isinstance(place(PurePosixPath(path)), str) for path in files)


def _are_classes(root: Path, files: Sequence[str]) -> bool:
    has_table = any((root / name).is_file() for name in CLASS_TABLES)
    return has_table or _is_majority(
        "/" in path and ESC_NAME.fullmatch(PurePosixPath(path).stem) is not None for path in files
    )


def _are_stems(root: Path, files: Sequence[str]) -> bool:
    paths = [PurePosixPath(path) for path in files]
    folders = {path.parent for path in paths}
    with_stems = {path.parent for path in paths if path.stem.lower() in STEM_NAMES}
    return _is_majority(folder in with_stems for folder in folders)


LAYOUTS: dict[str, Layout] = {
    "classes": Layout(
        f"one of the tables {', '.join(CLASS_TABLES)}, or <class>/*.wav with the names of ESC-50 (chosen by "
        "itself only with such names)",
        _are_classes,
        _classes,
        speech=False,
    ),
    "speech8k": Layout(
        "utterances.csv with the columns path, speaker and split",
        lambda root, files: (root / "utterances.csv").is_file(),
        _speech8k,
    ),
    "librispeech": Layout(
        "<subset>/<speaker>/<chapter>/*.flac with a subset as dev-clean",
        lambda root, files: _can_place(_librispeech_place, files),
        lambda root, files: _place_each(_librispeech_place, files),
    ),
    "vctk": Layout(
        "wav48_silence_trimmed/<speaker>/*_mic1.flac or wav48/<speaker>/*.wav",
        lambda root, files: _can_place(_vctk_place, files),
        lambda root, files: _place_each(_vctk_place, files),
    ),
    "stems": Layout(
        "[train|test/]<track>/<stem>.wav with a mixture or vocals in most folders",
        _are_stems,
        lambda root, files: _place_each(_stem_place, files),
        speech=False,
    ),
    "speakers": Layout(
        "[train|dev|test/]<speaker>/**/*.wav",
        lambda root, files: _can_place(_speaker_place, files),
        lambda root, files: _place_each(_speaker_place, files),
    ),
}
