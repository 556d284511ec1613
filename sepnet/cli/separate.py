"""python scripts/separate.py: separates sound files with any method."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from sepnet import artifact, inference
from sepnet.cli import app
from sepnet.data import audio
from sepnet.types import Separator, SepnetError


def main() -> None:
    """The command line: bare words are files, name=value are settings."""
    words = sys.argv[1:]
    files = [word for word in words if not word.startswith("-") and "=" not in word]
    settings = [word for word in words if word not in files]
    if files:
        quoted = ",".join("'" + name.replace("'", "\\'") + "'" for name in files)
        settings.append(f"files=[{quoted}]")
    sys.argv[1:] = settings
    app.run(separate, "separate")


def separate(config: DictConfig) -> None:
    """Write one file for each source of each file. Raises SepnetError, nothing written, if one can't be."""
    if not config.files:
        raise SepnetError("no sound file was given: python scripts/separate.py mix.wav")
    name = config.model or artifact.newest_run(Path(config.runs))
    separator = artifact.load(name)
    query = None
    if config.query is not None:
        sound, rate = audio.read(config.query)
        query = (sound.mean(axis=0), rate)
    for file in config.files:
        _one(config, separator, Path(file), query, name)


def _one(
    config: DictConfig, separator: Separator, file: Path, query: tuple[np.ndarray, int] | None, name: str | Path
) -> None:
    sound, rate = audio.read(file)
    mixture = _channels(sound, config.channels, file)
    separation = inference.separate(mixture, rate, separator, n_sources=config.n_sources, query=query)
    labels = separation.labels or tuple(f"s{k + 1}" for k in range(len(separation.sources)))
    folder = Path(config.out) if config.out else file.parent
    targets = [folder / f"{file.stem}_{label}.wav" for label in labels]
    standing = [str(path) for path in targets if path.exists()]
    if standing and not config.overwrite:
        raise SepnetError(f"{', '.join(standing)} exist already: give overwrite=true, or another folder with out=")
    folder.mkdir(parents=True, exist_ok=True)
    for target, source in zip(targets, separation.sources, strict=True):
        audio.write(target, source.cpu().numpy(), rate, subtype=config.subtype)
    left_over = mixture[0] - separation.sources.sum(dim=0).cpu().numpy()
    residual_db = 10 * np.log10((np.square(left_over).mean() + 1e-20) / (np.square(mixture[0]).mean() + 1e-20))
    print(
        f"{file}: {mixture.shape[-1] / rate:.2f} s at {rate} Hz, {len(targets)} sources by {name} -> "
        f"{', '.join(str(path) for path in targets)} (their sum is {residual_db:.0f} dB from the mixture)"
    )


def _channels(sound: np.ndarray, wanted: str | int, file: Path) -> np.ndarray:
    """(channel, time) as asked for; tells when channels are brought together."""
    if wanted == "all" or len(sound) == 1:
        return sound
    if wanted == "mean":
        print(f"{file}: {len(sound)} channels, averaged to one (channels=all keeps them, channels=0 takes the first)")
        return sound.mean(axis=0, keepdims=True)
    if isinstance(wanted, int) and 0 <= wanted < len(sound):
        return sound[wanted : wanted + 1]
    raise SepnetError(f"{file} has {len(sound)} channels, so channels={wanted} can't be: mean, all, or 0 to {len(sound) - 1}")
