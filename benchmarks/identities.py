"""How well sources keep their outputs over long conversations: python benchmarks/run.py what=identities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig

from sepnet import artifact, inference
from sepnet.data import audio
from sepnet.data.dataset import MixtureData
from sepnet.data.manifest import Manifest
from sepnet.metrics import OutputTracking, output_tracking
from sepnet.types import Mixture, Separator

TURN_SECONDS, PAUSE_SECONDS, LONG_PAUSE_SECONDS = (2.0, 8.0), (0.2, 2.0), (5.0, 20.0)
P_LONG_PAUSE = 0.1  # of the pauses of a speaker
COMMON_PAUSE_SECONDS, COMMON_PAUSE_INTERVAL_SECONDS = (8.0, 14.0), (90.0, 150.0)  # both speakers are silent


def run(config: DictConfig) -> None:
    """Print the share of swapped seconds and SI-SDRi, separated in chunks and in one piece.

    Each conversation is of two speakers of ``config.split``, ``config.conversation_minutes`` long.
    """
    data: MixtureData = artifact.build(config.data)
    manifest = data.corpus.manifest().split(config.split)
    speakers = manifest.speakers
    rng = np.random.default_rng(0)
    separator = artifact.load("pit-2spk-8k")
    results = []
    for _ in range(config.n_conversations):
        pair = [speakers[k] for k in rng.choice(len(speakers), 2, replace=False)]
        seconds = 60.0 * config.conversation_minutes
        sources = conversation(manifest, pair, seconds, data.sample_rate, rng)
        in_one_piece, in_chunks = track_in_one_piece_and_in_chunks(separator, sources, data.sample_rate)
        results.append((*in_one_piece, *in_chunks))
        print(_describe(f"{pair[0]} and {pair[1]}", results[-1]), flush=True)
    print(_describe(f"mean of {len(results)}", np.mean(results, axis=0)))


def track_in_one_piece_and_in_chunks(
    separator: Separator, sources: Float[torch.Tensor, "source time"], rate: int
) -> tuple[OutputTracking, OutputTracking]:
    """Separate the sum of two sources in one piece and in chunks, and score both.

    Args:
        separator: Of two sources.
        sources: (source, time), the references.
        rate: Of ``sources``, Hz.

    Returns:
        The scores of the separation in one piece, and of the one in chunks.
    """
    mixture = Mixture(sources.sum(dim=0, keepdim=True), rate)
    in_one_piece = separator.separate(mixture).sources
    in_chunks = inference.separate(mixture.audio, rate, separator).sources
    return output_tracking(in_one_piece, sources, rate), output_tracking(in_chunks, sources, rate)


def conversation(
    manifest: Manifest, speakers: Sequence[str], seconds: float, rate: int, rng: np.random.Generator
) -> Float[torch.Tensor, "source time"]:
    """Let speakers talk in turns and over one another, with pauses of each and of all.

    Args:
        manifest: Where their utterances are.
        speakers: One a source.
        seconds: Length.
        rate: Hz, of the utterances, too.
        rng: Draws utterances, turns and pauses.

    Returns:
        (source, time), each turn at an RMS level of 0.05.
    """
    n_samples = round(seconds * rate)
    sources = np.zeros((len(speakers), n_samples), dtype=np.float32)
    for source, speaker in zip(sources, speakers, strict=True):
        files = [manifest.path(utterance) for utterance in manifest.by_speaker()[speaker]]
        clips = [audio.read(file, sample_rate=rate)[0][0] for file in files]
        position = 0
        while position < n_samples:
            clip = clips[rng.integers(len(clips))]
            length = min(len(clip), round(rng.uniform(*TURN_SECONDS) * rate))
            begin = rng.integers(len(clip) - length + 1)
            turn = clip[begin : begin + length]
            turn = 0.05 * turn / max(float(np.sqrt(np.square(turn).mean())), 1e-6)
            source[position : position + length] = turn[: n_samples - position]
            pause = LONG_PAUSE_SECONDS if rng.random() < P_LONG_PAUSE else PAUSE_SECONDS
            position += length + round(rng.uniform(*pause) * rate)
    position = round(rng.uniform(*COMMON_PAUSE_INTERVAL_SECONDS) * rate)
    while position < n_samples:
        sources[:, position : position + round(rng.uniform(*COMMON_PAUSE_SECONDS) * rate)] = 0.0
        position += round(rng.uniform(*COMMON_PAUSE_INTERVAL_SECONDS) * rate)
    return torch.from_numpy(sources)


def _describe(name: str, row: Sequence[float]) -> str:
    return (
        f"{name}: in one piece {100 * row[0]:.1f} % swapped, {row[1]:.2f} dB; "
        f"in chunks {100 * row[2]:.1f} % swapped, {row[3]:.2f} dB"
    )
