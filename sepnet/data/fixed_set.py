"""Fixed sets of mixtures, made in memory from a list as LibriMix makes its files.

LibriMix (J. Cosentino et al., "LibriMix: An Open-Source Dataset for Generalizable Speech Separation",
2020) publishes lists of files and gains. It makes a mixture from a row in this way: each source times its
gain, resampled by ``scipy.signal.resample_poly``, cut to the shortest (min) or padded with zeros to the
longest (max), summed; the noise is the first channel of its file. Here that is done in memory, in
float32; LibriMix' own files are the same rounded to 16 bit. Beyond LibriMix, the sources may be placed in
rooms, and noise may be drawn for a list that has none (``sepnet.data.librimix``).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.data import audio
from sepnet.data.list_drawing import fit_lengths
from sepnet.data.list_files import ListFiles, read_mono, resample_down
from sepnet.data.manifest import Manifest, Utterance
from sepnet.data.mixture_list import FixedMixture
from sepnet.data.queries import QueryChooser, loudest, query_label
from sepnet.data.responses import Responses, mix_in_room
from sepnet.data.table import join_names
from sepnet.paths import expand_home
from sepnet.ranges import NonNegativeFloat
from sepnet.types import Mixture, Query, SepnetError
from sepnet.urls import local_path

MODES = ("min", "max")


@dataclass(frozen=True, kw_only=True)
class ListMixing:
    """How the mixtures of a list are made.

    Args:
        mode: "min": cut to the shortest source; "max": padded to the longest.
        with_noise: Add the noise of the list; it belongs to the audio and not to the references.
        noise_root: The folder that the paths of the noise are relative to.
        max_seconds: Keep only the beginning of each mixture; None: all.
        query_seconds: Length of the query for each source, from another recording of the speaker or class
            (see ``sepnet.data.queries``); None: no queries.
        responses: A room or a mixing matrix (``sepnet.data.rooms``), drawn anew for each mixture as a pure
            function of ``response_seed`` and its id; the mixture then has their channels, and the references
            are the sources' images at channel 0.
        response_seed: Another seed gives other rooms.
        early_seconds: How long after its direct path a reflection still belongs to a reference; None: all
            reflections do.

    Raises:
        SepnetError: The mode is unknown, a length is not positive, or there is no ``noise_root`` for the
            noise.
    """

    mode: str = "min"
    with_noise: bool = False
    noise_root: str | Path | None = None
    max_seconds: float | None = None
    query_seconds: float | None = None
    responses: Responses | None = None
    response_seed: int = 0
    early_seconds: NonNegativeFloat | None = None

    @property
    def list_name(self) -> str | None:
        """The name of a published list; None for one that is drawn here."""
        return None

    def __post_init__(self) -> None:
        if self.query_seconds is not None and self.query_seconds <= 0:
            raise SepnetError(
                f"query_seconds is {self.query_seconds}: give a positive length, or null for none"
            )
        if self.mode not in MODES:
            raise SepnetError(f"mode {self.mode!r} is not one of {', '.join(MODES)}")
        if self.with_noise and self.noise_root is None:
            raise SepnetError("with_noise needs noise_root: the folder that noise_path is relative to")


class FixedSet:
    """Mixtures made from a list on access: ``fixed_set[i]`` is a ``Mixture`` with its references.

    Args:
        mixtures: The list.
        manifest: The corpus of the sources.
        sample_rate: Of the mixtures, in Hz; files of higher rates are resampled, files of lower ones refused.
        mixing: How the mixtures are made.

    Raises:
        SepnetError: Files are missing, with the first ten names; or there is noise, which one microphone
            recorded, for responses to several.
    """

    def __init__(
        self,
        *,
        mixtures: Sequence[FixedMixture],
        manifest: Manifest,
        sample_rate: int,
        mixing: ListMixing | None = None,
    ) -> None:
        self.mixtures = tuple(mixtures)
        self.sample_rate = sample_rate
        self.mixing = mixing or ListMixing()
        paths = (source.path for mixture in self.mixtures for source in mixture.sources)
        self._files = ListFiles(manifest, paths)
        self._sexes = manifest.sexes
        self._queries: QueryChooser | None = None
        if self.mixing.query_seconds is not None:
            self._queries = QueryChooser(manifest, self.mixing.query_seconds)
        self._check_channels()
        self._noises: dict[str, Path] = {}
        if self.mixing.with_noise and self.mixing.noise_root is not None:
            self._noises = _locate_noises(self.mixtures, expand_home(local_path(self.mixing.noise_root)))

    def _check_channels(self) -> None:
        mixing = self.mixing
        if not mixing.with_noise or mixing.responses is None:
            return
        n_channels = mixing.responses.draw_responses(np.random.default_rng(0), 1, self.sample_rate).shape[1]
        if n_channels > 1:
            raise SepnetError(
                f"the mixtures have {n_channels} channels, but the noise was recorded by one microphone: "
                "leave out the noise, or give responses to one microphone"
            )

    def __len__(self) -> int:
        return len(self.mixtures)

    def __iter__(self) -> Iterator[Mixture]:
        return (self[index] for index in range(len(self)))

    @property
    def name(self) -> str | None:
        """The published list, how it is mixed, and the rate; None for a drawn list, or parts of mixtures."""
        mixing = self.mixing
        if mixing.list_name is None or mixing.max_seconds is not None or mixing.responses is not None:
            return None
        noise = ", with noise" if mixing.with_noise else ""
        return f"{mixing.list_name}, {mixing.mode}{noise}, {self.sample_rate / 1000:g} kHz"

    def id(self, index: int) -> str:
        """Return the mixture_ID of the list."""
        return self.mixtures[index].id

    def n_sources(self, index: int) -> int:
        """Return how many sources a mixture holds."""
        return len(self.mixtures[index].sources)

    def sexes(self, index: int) -> tuple[str, ...]:
        """Return f or m for the speaker of each source; empty where the corpus does not say."""
        return tuple(self._sexes.get(utterance.speaker, "") for utterance in self._utterances(index))

    def labels(self, index: int) -> tuple[str, ...] | None:
        """Return the class of each source; None where the corpus has none."""
        labels = tuple(utterance.label for utterance in self._utterances(index))
        return labels if all(labels) else None

    def _utterances(self, index: int) -> list[Utterance]:
        return [self._files.utterances[source.path] for source in self.mixtures[index].sources]

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the list, the settings and the bytes of the files."""
        mixing = self.mixing
        settings = (self.sample_rate, mixing.mode, mixing.with_noise, mixing.max_seconds)
        rows = [(m.id, m.sources, m.noise if mixing.with_noise else None) for m in self.mixtures]
        files = [utterance.sha1 for utterance in self._files.utterances.values()]
        content: list[object] = [settings, rows, files]
        if self._noises:
            content.append([_sha1(path) for _, path in sorted(self._noises.items())])
        if self._queries is not None:
            chosen = [self._choose_queries(mixture) for mixture in self.mixtures]
            content.append([self._queries.seconds, *([u.sha1 for u in queries or ()] for queries in chosen)])
        if mixing.responses is not None:
            content.append([repr(mixing.responses), mixing.response_seed])
            content += [] if mixing.early_seconds is None else [mixing.early_seconds]
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()[:16]

    def __getitem__(self, index: int) -> Mixture:
        row, mixing = self.mixtures[index], self.mixing
        signals, max_duration = [], Fraction(0)
        for path, gain in row.sources:
            samples, rate = self._files.read_native(path)
            max_duration = max(max_duration, Fraction(len(samples), rate))
            signals.append(resample_down(samples * np.float32(gain), rate, self.sample_rate, path))
        if mixing.with_noise and row.noise is not None:
            noise = self._read_noise(row.noise.path, row.noise.gain, max_duration)
            signals.append(noise[: max(len(signal) for signal in signals)])
        fitted = np.stack(fit_lengths(signals, mixing.mode))  # (source [+ noise], time)
        if mixing.max_seconds is not None:
            fitted = fitted[:, : max(1, round(mixing.max_seconds * self.sample_rate))]
        sources = np.ascontiguousarray(fitted[: len(row.sources)], dtype=np.float32)
        audio_channels, references = self._place_in_room(row, sources)  # (channel, time), (source, time)
        if len(fitted) > len(sources):
            audio_channels = audio_channels + torch.from_numpy(fitted[-1].astype(np.float32))
        queries, labels = self._make_queries(row), self.labels(index)
        return Mixture(audio_channels, self.sample_rate, len(row.sources), queries, references, labels)

    def _read_noise(self, path: str, gain: float, duration: Fraction) -> Float[np.ndarray, " time"]:
        """The first channel of a noise file, as LibriMix takes it, extended to ``duration`` seconds."""
        samples, rate = audio.read(self._noises[path])
        noise = extend_noise(samples[0], math.ceil(duration * rate), rate)
        return resample_down(noise * np.float32(gain), rate, self.sample_rate, path)

    def _place_in_room(
        self, row: FixedMixture, sources: Float[np.ndarray, "source time"]
    ) -> tuple[Tensor, Tensor]:
        """The mixture (channel, time) and the references (source, time); without responses as they are."""
        mixing = self.mixing
        if mixing.responses is None:
            return torch.from_numpy(sources.sum(axis=0, keepdims=True)), torch.from_numpy(sources)
        digest = hashlib.sha1(row.id.encode()).digest()
        rng = np.random.default_rng((mixing.response_seed, int.from_bytes(digest[:8])))
        responses = mixing.responses.draw_responses(rng, len(sources), self.sample_rate)
        mixture, heard = mix_in_room(
            sources, responses, early_seconds=mixing.early_seconds, sample_rate=self.sample_rate
        )
        return torch.from_numpy(mixture), torch.from_numpy(heard)

    def _choose_queries(self, row: FixedMixture) -> tuple[Utterance, ...] | None:
        if self._queries is None:
            return None
        return self._queries.choose(row.id, [self._files.utterances[s.path].path for s in row.sources])

    def _make_queries(self, row: FixedMixture) -> tuple[Query, ...] | None:
        chosen = self._choose_queries(row)
        if self._queries is None or chosen is None:
            return None
        n_samples = max(1, round(self._queries.seconds * self.sample_rate))
        queries = []
        for utterance in chosen:
            samples, rate = read_mono(self._files.root / utterance.path)
            excerpt = loudest(resample_down(samples, rate, self.sample_rate, utterance.path), n_samples)
            queries.append(Query(torch.from_numpy(excerpt.copy()), self.sample_rate, query_label(utterance)))
        return tuple(queries)


def _locate_noises(mixtures: Sequence[FixedMixture], root: Path) -> dict[str, Path]:
    """The file of each noise of a list."""
    if without_noise := [mixture.id for mixture in mixtures if mixture.noise is None]:
        raise SepnetError(
            f"{len(without_noise)} mixtures have no noise in the list: {join_names(without_noise)}"
        )
    noises = {mixture.noise.path: root / mixture.noise.path for mixture in mixtures if mixture.noise}
    if missing := [str(path) for path in noises.values() if not path.is_file()]:
        raise SepnetError(
            f"{len(missing)} noises of the list are missing: {join_names(missing)}; "
            "set noise_root to their folder"
        )
    return noises


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def extend_noise(
    noise: Float[np.ndarray, " time"], length: int, sample_rate: int
) -> Float[np.ndarray, " longer"]:
    """Return the first ``length`` samples of a noise, repeated as often as needed.

    Repetitions overlap by half a second, under the halves of a Hann window, as in LibriMix.

    Args:
        noise: (time,).
        length: Number of samples to return.
        sample_rate: In Hz.

    Raises:
        SepnetError: The noise would have to be repeated, but is shorter than the overlap.
    """
    overlap = sample_rate // 2 + 1
    if len(noise) < length and len(noise) <= overlap:
        raise SepnetError(
            f"a noise of {len(noise)} samples can't be repeated to {length}: "
            f"it has to be longer than {overlap}"
        )
    rising = np.hanning(2 * overlap - 1)[:overlap].astype(noise.dtype)
    longer = noise
    while len(longer) < length:
        joint = longer[-overlap:] * rising[::-1] + noise[:overlap] * rising
        longer = np.concatenate([longer[:-overlap], joint, noise[overlap:]])
    return longer[:length]
