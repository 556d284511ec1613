"""Divide a corpus without splits into training, development and test."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from sepnet.data.manifest import Manifest, speaker_noun
from sepnet.types import SepnetError

DEFAULT_FRACTIONS = {"train": 0.8, "dev": 0.1, "test": 0.1}


def assign_splits(
    manifest: Manifest, fractions: Mapping[str, float] | None = None, seed: int = 0
) -> Manifest:
    """Divide the speakers, or the recordings of each class, of a manifest without splits.

    A speaker's split is a hash of its name and the seed, so that it stays when speakers are added, and the
    fractions hold only on average. Classes have few recordings each, so those of each class are divided on
    their own, in the order of their hashes, and the fractions hold to within one recording a class. Each
    split gets a recording of each class that has enough of them.

    Args:
        manifest: A corpus without splits.
        fractions: The share of each split; None: 80 % train, 10 % dev, 10 % test.
        seed: Another seed gives another division.

    Raises:
        SepnetError: The manifest has splits, the fractions are not positive or don't sum to 1, or a split
            gets nothing.
    """
    shares = dict(fractions or DEFAULT_FRACTIONS)
    if manifest.splits:
        raise SepnetError(
            f"{manifest.root} has the splits {', '.join(manifest.splits)} already: leave out split_fractions"
        )
    if min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise SepnetError(f"the fractions {shares} have to be positive and to sum to 1")
    if manifest.labels:
        chosen = _split_by_class(manifest, shares, seed)
    else:
        chosen = {speaker: _split_by_hash(speaker, shares, seed) for speaker in manifest.speakers}
    divided = replace(
        manifest, utterances=tuple(replace(u, split=chosen[u.speaker]) for u in manifest.utterances)
    )
    if empty := sorted(set(shares) - set(divided.splits)):
        raise SepnetError(
            f"{len(manifest.speakers)} {speaker_noun(manifest)} are too few for the fractions {shares}: "
            f"nothing is in {', '.join(empty)}. Give other fractions, another seed, or split folders"
        )
    return divided


def _hash(name: str, seed: int) -> float:
    """A number in [0, 1), uniform over names."""
    digest = hashlib.sha1(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _split_by_hash(speaker: str, shares: Mapping[str, float], seed: int) -> str:
    point, edge = _hash(speaker, seed), 0.0
    for name, share in shares.items():
        edge += share
        if point < edge:
            return name
    return name  # the sum fell short of 1 by rounding


def _split_by_class(manifest: Manifest, shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The split of each recording. A track of several stems counts with the first of its labels."""
    labels: dict[str, str] = {}
    for utterance in manifest:
        labels[utterance.speaker] = min(labels.get(utterance.speaker, utterance.label), utterance.label)
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for recording in sorted(labels, key=lambda name: (_hash(name, seed), name)):
        by_class[labels[recording]].append(recording)
    chosen: dict[str, str] = {}
    for recordings in by_class.values():
        start = 0
        for name, count in _apportion(len(recordings), shares).items():
            chosen |= dict.fromkeys(recordings[start : start + count], name)
            start += count
    return chosen


def _apportion(n_recordings: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers by the shares that sum to ``n_recordings``, none of them 0 if there are enough."""
    counts = {name: int(n_recordings * share + 1e-9) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - n_recordings * shares[name])
    for name in by_remainder[: n_recordings - sum(counts.values())]:
        counts[name] += 1
    while n_recordings >= len(counts) and min(counts.values()) == 0:
        counts[max(counts, key=lambda name: counts[name])] -= 1
        counts[min(counts, key=lambda name: counts[name])] += 1
    return counts
