"""The embedded corpus (``data=toy``): the project's own sentences, spoken by 64 voices of eSpeak NG.

It needs no download and no account, is the same on every run, and is small enough for a laptop: it serves
tests, demonstrations and first experiments. Its voices are formant synthesis, more regular than any human
being: a score on it says that a method works, not how well it works on people.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, fields
from pathlib import Path

from tqdm import tqdm

from sepnet.atomic import replacing
from sepnet.data import audio
from sepnet.data.corpus import Corpus
from sepnet.data.manifest import Manifest
from sepnet.data.table import write_table
from sepnet.data.text_to_speech import HIGH_PASS_HZ, LEVEL_DB, MARGIN_SECONDS, SAMPLE_RATE, SILENCE_DB, speak
from sepnet.data.voices import SPLITS, Reading, Voice, plan_readings
from sepnet.paths import expand_home
from sepnet.types import SepnetError
from sepnet.urls import local_path

VERSION = 1


def fingerprint(readings: Iterable[Reading]) -> str:
    """Compute the SHA-256 of the recipe: version, settings, voices and sentences, in order."""
    settings = [VERSION, SAMPLE_RATE, HIGH_PASS_HZ, LEVEL_DB, SILENCE_DB, MARGIN_SECONDS]
    recipe = [settings, [asdict(reading) for reading in readings]]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def make_toy_corpus(root: str | Path, *, progress: bool = True, n_workers: int | None = None) -> Path:
    """Make the embedded corpus, unless it is there already.

    Args:
        root: The folder of the corpus.
        progress: Show a progress bar.
        n_workers: See ``write_corpus``.

    Returns:
        ``root``.

    Raises:
        SepnetError: As ``write_corpus`` does.
    """
    return write_corpus(root, plan_readings(), progress=progress, n_workers=n_workers)


class ToyCorpus(Corpus):
    """The embedded corpus as ``data=toy`` uses it, made at its first use.

    Args:
        root: The folder of the corpus.
    """

    def __init__(self, *, root: str | Path) -> None:
        super().__init__(root=local_path(root), layout="speakers")

    def manifest(self) -> Manifest:
        """Return the manifest, after the corpus is made.

        Raises:
            SepnetError: As ``make_toy_corpus`` does.
        """
        make_toy_corpus(self.root)
        return super().manifest()


def write_corpus(
    root: str | Path, readings: Sequence[Reading], *, progress: bool = True, n_workers: int | None = None
) -> Path:
    """Speak readings to ``root/<split>/<voice>/<sentence number>.flac`` (8 kHz, mono, 16 bits).

    ``root`` also gets ``voices.csv`` and, at the very end, ``complete.json`` with the recipe's fingerprint.
    A complete corpus is used as it is; one that was interrupted (``incomplete.json``) is continued: each
    file takes its name only when it is whole.

    Args:
        root: The folder of the corpus.
        readings: What to speak.
        progress: Show a progress bar.
        n_workers: Files spoken at the same time; None: one for each core. It changes no bit.

    Returns:
        ``root``.

    Raises:
        SepnetError: ``root`` holds the corpus of another recipe, or as ``speak`` does.
    """
    root = expand_home(root)
    workers = (os.cpu_count() or 1) if n_workers is None else n_workers
    if workers < 1:
        raise SepnetError(f"n_workers is {n_workers}: give 1 or more")
    stamp: dict[str, str | int] = {
        "version": VERSION,
        "fingerprint": fingerprint(readings),
        "files": len(readings),
    }
    _check_root(root, str(stamp["fingerprint"]))
    missing = [reading for reading in readings if not (root / reading.path).is_file()]
    complete, incomplete, table = (root / n for n in ("complete.json", "incomplete.json", "voices.csv"))
    if complete.is_file() and table.is_file() and not missing:
        return root
    _write_json(incomplete, stamp)
    _speak_all(root, missing, progress=progress, n_workers=workers)
    names = [field.name for field in fields(Voice)]
    voices = dict.fromkeys(reading.voice for reading in readings)
    write_table(table, ["voice", *names[1:]], [[getattr(v, n) for n in names] for v in voices])
    _write_json(complete, stamp | {"espeakng_loader": importlib.metadata.version("espeakng-loader")})
    incomplete.unlink(missing_ok=True)
    return root


def _check_root(root: Path, required: str) -> None:
    """Refuse a folder with audio of another recipe, or of an unknown one."""
    stamps = [path for path in (root / "complete.json", root / "incomplete.json") if path.is_file()]
    for path in stamps:
        try:
            present = json.loads(path.read_text("utf-8"))["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise SepnetError(
                f"{path} can't be read as a stamp ({error!r}): remove {root} and make it again"
            ) from error
        if present != required:
            raise SepnetError(
                f"{root} holds a corpus of another recipe ({present[:12]}, not {required[:12]}): "
                "remove it, or give another folder"
            )
    if not stamps and any((root / split).exists() for split in SPLITS):
        raise SepnetError(
            f"{root} holds audio but neither complete.json nor incomplete.json: give another folder"
        )


def _speak_all(root: Path, readings: Sequence[Reading], *, progress: bool, n_workers: int) -> None:
    # Threads suffice: the work is done in eSpeak's processes.
    with (
        ThreadPoolExecutor(n_workers) as pool,
        tqdm(
            total=len(readings), desc="eSpeak NG", unit="file", mininterval=1.0, disable=not progress
        ) as bar,
    ):
        try:
            for done in as_completed([pool.submit(_speak_one, root, reading) for reading in readings]):
                done.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _speak_one(root: Path, reading: Reading) -> None:
    speech = speak(reading.text, reading.voice)
    audio.write(root / reading.path, speech, SAMPLE_RATE, subtype="PCM_16")


def _write_json(path: Path, content: dict[str, str | int]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
