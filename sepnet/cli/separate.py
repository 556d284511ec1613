"""python scripts/separate.py: separates sound files with any method."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from sepnet import artifact, inference
from sepnet.cli import app, live
from sepnet.cli.query import Sound, settings, write_event
from sepnet.data import audio
from sepnet.separators.query.ast_dgmo import AstDgmo
from sepnet.types import Separator, SepnetError

UNSAFE = re.compile(r"[^\w.-]+")  # in a label, for a file name: "query 1", "sea/waves"


def main() -> None:
    """The command line: bare words are files, name=value are settings."""
    words = get_args_parser().parse_args().overrides
    files = [word for word in words if "=" not in word or Path(word).is_file()]
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in files]
    app.run(partial(separate, files=files), "separate")


def separate(config: DictConfig, files: Sequence[str | Path] = ()) -> None:
    """Write one file for each source of each file. Raises SepnetError for what can't be.

    What does not look like a sound file is found before anything is written.
    """
    if config.live:
        live.live(config, files)
        return
    paths = [Path(file) for file in (*files, *config.files)]
    if not paths:
        raise SepnetError("no sound file was given: python scripts/separate.py mix.wav")
    for path in paths:
        audio.info(path)
    name = config.model or artifact.preferred(Path(config.runs))
    separator = artifact.load(name, settings(config))
    if config.model is None:
        print(f"model={name.name}, for none was named")
    query = None
    if config.query is not None:
        sound, rate = audio.read(config.query)
        query = (sound.mean(axis=0), rate)
    for path in paths:
        sound, rate = audio.read(path)
        mixture = _channels(sound, config.channels, path)
        if isinstance(separator, AstDgmo):
            write_event(config, separator, path, mixture, rate, query)
        else:
            _one(config, separator, path, mixture, rate, query)


def _one(
    config: DictConfig, separator: Separator, file: Path, mixture: np.ndarray, rate: int, query: Sound | None
) -> None:
    if config.reference is not None:
        raise SepnetError(f"reference= is for methods that find a query, as ast_dgmo: {config.model} is none")
    separation = inference.separate(mixture, rate, separator, n_sources=config.n_sources, query=query)
    sources = separation.sources.cpu().numpy()
    labels = separation.labels or tuple(f"s{k + 1}" for k in range(len(sources)))
    folder = Path(config.out) if config.out else file.parent
    targets = [folder / f"{file.stem}_{UNSAFE.sub('_', label)}.wav" for label in labels]
    standing = [str(path) for path in targets if path.exists()]
    if standing and not config.overwrite:
        raise SepnetError(
            f"{', '.join(standing)} exist already: give overwrite=true, or another folder with out="
        )
    for target, source in zip(targets, sources, strict=True):
        audio.write(target, source, rate, subtype=config.subtype)
    print(
        f"{file}: {mixture.shape[-1] / rate:.2f} s at {rate} Hz, {_quality(mixture[0], sources)} -> "
        f"{', '.join(str(path) for path in targets)}"
    )


def _quality(mixture: np.ndarray, sources: np.ndarray) -> str:
    """How far the sum of the sources (source, time) is from the mixture (time,)."""
    power = float(np.square(mixture, dtype=np.float64).mean())
    if power == 0.0:
        return "silent"
    left_over = float(np.square(mixture - sources.sum(axis=0), dtype=np.float64).mean())
    if left_over == 0.0:
        return "their sum is the mixture"
    return f"their sum is within {10 * np.log10(left_over / power):.0f} dB of the mixture"


def _channels(sound: np.ndarray, wanted: str | int, file: Path) -> np.ndarray:
    """(channel, time) as asked for; tells when channels are brought together."""
    if wanted == "all" or len(sound) == 1:
        return sound
    if wanted == "mean":
        print(f"{file}: {len(sound)} channels, averaged to one (channels=all keeps them, 0 takes the first)")
        return np.asarray(sound.mean(axis=0, keepdims=True))
    if isinstance(wanted, int) and 0 <= wanted < len(sound):
        return sound[wanted : wanted + 1]
    raise SepnetError(
        f"{file} has {len(sound)} channels, so channels={wanted} can't be: say mean, all, or a number below "
        f"{len(sound)}"
    )
