"""Supervised NMF: one dictionary of spectra a group of sounds, learnt from clips of single sources.

Smaragdis, Raj and Shashanka, "Supervised and semi-supervised separation of sounds from single-channel
mixtures", ICA 2007. Groups are classes or stems; or, for speech, speakers of the training set. The
mixture's magnitudes (bin, frame) are then explained by the dictionaries of the groups that are in it,

    |Y| = sum_g W_g H_g,   with W given and H found,

and each group gets its Wiener-like share of Y (see sepnet.separators.nmf.blind).

Which groups are in a mixture is known where there are as many sources as groups. Else it is found by block
sparsity, with a few training speakers standing for any speaker: the universal speech model of Sun and
Mysore, "Universal speech models for speaker independent single channel source separation", ICASSP 2013.
That paper knows one of two sources; here neither is known, which is harder: one voice may take two groups.
On two-speaker mixtures of speech8k (data.valid) it gains 0.59 +- 0.22 dB SI-SDR on the 100 mixtures by which
the settings were chosen and 0.04 +- 0.22 dB on the 100 others; other numbers of groups gave -0.9 to 0.5 dB.

With ``unknown`` one more source is learnt from the mixture itself, beside the given dictionaries:
semi-supervised, as in the first paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from sepnet.dsp import nmf
from sepnet.dsp.blocks import excerpt, mask_in_blocks
from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.filterbank import STFT
from sepnet.separators.checks import require_n_sources, require_rate
from sepnet.types import CannotSeparate, Mixture, Query, Separation, SeparatorInfo, SepnetError

UNKNOWN = "unknown"
PIECE_SECONDS = 5.0  # of a long mixture, when groups are chosen and the unknown is learnt from excerpts


class SupervisedNMF(nn.Module):
    """Dictionaries (group, bin, component), each group's spectra of unit length; ``fit`` learns them.

    labels: the groups' labels, in the order of the estimates; None: the ``n_groups`` speakers with the
    most audio. n_components: of each group. unknown: whether there is one further source, of
    ``n_unknown_components``. block_sparsity: the penalty by which groups are chosen, see
    sepnet.dsp.nmf.activate_groups. fit_seconds: of each group, at most. divergence, sparsity,
    n_iterations: see sepnet.dsp.nmf; magnitude_power, mask_exponent, learn_seconds, block_seconds: see
    sepnet.separators.nmf.blind.NMF. sample_rate: in Hz; mixtures at another are refused. Random until fitted.

    Estimates are labelled where there are as many as labels (and the unknown), and in no order otherwise.
    Raises SepnetError for settings that can't be; ``separate`` raises CannotSeparate at another rate and
    for more sources than groups.
    """

    dictionaries: Tensor

    def __init__(
        self,
        *,
        n_groups: int,
        n_components: int,
        labels: Sequence[str] | None = None,
        unknown: bool = False,
        n_unknown_components: int = 20,
        block_sparsity: float = 0.1,
        divergence: nmf.Divergence = "kullback_leibler",
        magnitude_power: float = 1.0,
        mask_exponent: float = 1.0,
        sparsity: float = 0.0,
        n_iterations: int = 100,
        fit_seconds: float = 60.0,
        window_seconds: float = 0.064,
        learn_seconds: float = 60.0,
        block_seconds: float = 30.0,
        sample_rate: int = 8000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        positive = {
            "n_groups": n_groups,
            "n_components": n_components,
            "n_unknown_components": n_unknown_components,
            "n_iterations": n_iterations,
            "magnitude_power": magnitude_power,
            "mask_exponent": mask_exponent,
            "fit_seconds": fit_seconds,
            "window_seconds": window_seconds,
            "learn_seconds": learn_seconds,
            "block_seconds": block_seconds,
            "sample_rate": sample_rate,
        }
        if wrong := [f"{name}={value}" for name, value in positive.items() if value <= 0]:
            raise SepnetError(f"{', '.join(wrong)}: give positive numbers")
        if labels is not None and (len(labels) != n_groups or len(set(labels)) != n_groups):
            raise SepnetError(
                f"{n_groups} groups can't have the labels {', '.join(labels) or '(none)'}: give a different "
                "one to each"
            )
        self.labels = None if labels is None else tuple(labels)
        self.n_groups, self.n_components, self.unknown = n_groups, n_components, unknown
        self.n_unknown_components, self.block_sparsity = n_unknown_components, block_sparsity
        self.divergence, self.magnitude_power, self.mask_exponent = divergence, magnitude_power, mask_exponent
        self.sparsity, self.n_iterations, self.seed = sparsity, n_iterations, seed
        self.fit_seconds, self.learn_seconds, self.block_seconds = fit_seconds, learn_seconds, block_seconds
        self.sample_rate = sample_rate
        hop = max(1, round(window_seconds * sample_rate / 4))
        self.stft = STFT(window_samples=4 * hop, hop_samples=hop, window="hann")
        generator = torch.Generator().manual_seed(seed)
        start = torch.rand(n_groups, self.stft.n_bins, n_components, generator=generator)
        self.register_buffer("dictionaries", start / start.norm(dim=1, keepdim=True))

    @property
    def info(self) -> SeparatorInfo:
        """It has to be told how many of its groups sound; labelled where the groups are classes."""
        labels = None if self.labels is None else self.labels + (UNKNOWN,) * self.unknown
        return SeparatorInfo(needs=frozenset({"n_sources"}), sample_rate=self.sample_rate, labels=labels)

    @torch.no_grad()
    def fit(self, clips: Iterable[Query]) -> dict[str, float]:
        """Learn the dictionaries; returns the groups' number, and seconds of audio, of all together.

        clips: gone through twice, to find the groups and to hear them. Raises SepnetError for a mere
        iterator, clips at another rate, and where there are fewer groups than wanted.
        """
        if isinstance(clips, Iterator):
            raise SepnetError("clips are gone through twice: give a list of them, not an iterator")
        groups = self._choose(clips)
        heard: dict[str, list[Tensor]] = {group: [] for group in groups}
        left = dict.fromkeys(groups, round(self.fit_seconds * self.sample_rate))
        for clip in clips:
            if clip.label in heard and left[clip.label] > 0 and bool(clip.audio.any()):
                audio = clip.audio[: left[clip.label]]
                heard[clip.label].append(
                    self._magnitudes(audio / audio.square().mean().sqrt().clamp_min(1e-10))
                )
                left[clip.label] -= len(audio)
        for number, group in enumerate(groups):
            if not heard[group]:
                raise SepnetError(f"all clips of {group!r} are silent: there is nothing to learn from")
            found = nmf.factorise(
                torch.cat(heard.pop(group), dim=1)[None].to(self.dictionaries),
                n_components=self.n_components,
                divergence=self.divergence,
                n_iterations=2 * self.n_iterations,
                tolerance=0,
                sparsity=self.sparsity,
                seed=self.seed + number,
            )
            dictionary = found.dictionary[0]
            self.dictionaries[number] = dictionary / dictionary.norm(dim=0).clamp_min(1e-20)
        wanted = round(self.fit_seconds * self.sample_rate)
        seconds = sum(wanted - rest for rest in left.values()) / self.sample_rate
        return {"groups": float(len(groups)), "seconds_of_audio": seconds}

    def _choose(self, clips: Iterable[Query]) -> list[str]:
        """The labels to learn, in order."""
        lengths: Counter[str] = Counter()
        for clip in clips:
            if clip.sample_rate != self.sample_rate:
                raise SepnetError(
                    f"a clip of {clip.label!r} is at {clip.sample_rate} Hz, but the dictionaries are for "
                    f"{self.sample_rate} Hz: set model.sample_rate to that of the data"
                )
            if clip.label is not None:
                lengths[clip.label] += len(clip.audio)
        if self.labels is not None:
            if missing := [label for label in self.labels if not lengths[label]]:
                known = ", ".join(sorted(lengths)[:10])
                raise SepnetError(
                    f"there are no clips of {', '.join(missing)}, but of {len(lengths)} labels ({known}): "
                    "name these in model.labels"
                )
            return list(self.labels)
        if len(lengths) < self.n_groups:
            raise SepnetError(
                f"{self.n_groups} groups can't be learnt from {len(lengths)} speakers: lower model.n_groups"
            )
        # Of speakers with the same length the one whose name comes first.
        return sorted(lengths, key=lambda label: (-lengths[label], label))[: self.n_groups]

    @torch.no_grad()
    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into ``n_sources``; the last is the unknown one, if there is one."""
        n_sources = self._check(mixture)
        signal = mixture.audio[0].to(self.dictionaries)
        peak = signal.abs().max()
        if peak > 0:
            signal = signal / peak
        heard = excerpt(
            signal,
            self.stft,
            max_samples=round(self.learn_seconds * self.sample_rate),
            piece_samples=round(PIECE_SECONDS * self.sample_rate),
        )
        X = heard.abs().pow(self.magnitude_power)[None]  # (1, bin, frame)
        groups = self._present(X, n_sources - self.unknown)
        dictionary = self.dictionaries[groups].movedim(0, 1).flatten(1)[None]  # (1, bin, component)
        sources = torch.arange(len(groups), device=X.device).repeat_interleave(self.n_components)
        if self.unknown:
            dictionary = self._with_unknown(X, dictionary)
            sources = nn.functional.pad(sources, (0, self.n_unknown_components), value=len(groups))

        def mask_of(spectrogram: Tensor) -> Tensor:
            activations = nmf.activate(
                spectrogram.abs().pow(self.magnitude_power)[None],
                dictionary,
                divergence=self.divergence,
                n_iterations=self.n_iterations,
                sparsity=self.sparsity,
            )
            return nmf.gains(dictionary[0], activations[0], sources, n_sources, self.mask_exponent)

        block = round(self.block_seconds * self.sample_rate)
        estimates = mask_in_blocks(signal, self.stft, mask_of, block_samples=block)
        estimates = make_consistent((estimates * peak).to(mixture.audio), mixture.audio[0])
        labels = self.info.labels
        return Separation(estimates, labels if labels is not None and len(labels) == n_sources else None)

    def _check(self, mixture: Mixture) -> int:
        """The number of sources, once the dictionaries can serve the mixture."""
        require_rate(mixture, self.sample_rate, made="the dictionaries were")
        n_sources = require_n_sources(mixture)
        most, least = self.n_groups + self.unknown, 1 + self.unknown
        if not least <= n_sources <= most:
            unknown = " and one unknown source" * self.unknown
            raise CannotSeparate(
                f"the model has {self.n_groups} dictionaries{unknown}, so it separates {least} to {most} "
                f"sources, not {n_sources}"
            )
        return n_sources

    def _present(self, X: Tensor, count: int) -> Tensor:
        """The indices of the ``count`` groups (group,) that explain most of X, in ascending order."""
        if count == self.n_groups:
            return torch.arange(count, device=X.device)
        dictionary = self.dictionaries.movedim(0, 1).flatten(1)[None]  # (1, bin, group x component)
        activations = nmf.activate_groups(
            X,
            dictionary,
            self.n_groups,
            penalty=self.block_sparsity,
            divergence=self.divergence,
            n_iterations=self.n_iterations,
        )
        parts = dictionary.sum(dim=1) * activations.sum(dim=2)  # (1, group x component): of the model
        shares = parts.reshape(self.n_groups, self.n_components).sum(dim=1)
        return torch.sort(shares.topk(count).indices).values

    def _with_unknown(self, X: Tensor, dictionary: Tensor) -> Tensor:
        """The dictionary and behind it ``n_unknown_components``, learnt from X beside the given ones."""
        known = dictionary.shape[-1]
        generator = torch.Generator().manual_seed(self.seed)
        start, activations = nmf.random_start(X, known + self.n_unknown_components, generator)
        start[:, :, :known] = dictionary
        learnt = nmf.descend(
            X,
            start,
            activations,
            divergence=self.divergence,
            n_iterations=self.n_iterations,
            tolerance=0,
            sparsity=self.sparsity,
            n_fixed=known,
        )
        return learnt.dictionary

    def _magnitudes(self, signal: Tensor) -> Tensor:
        """(time,) to (bin, frame)."""
        return self.stft.spectrogram(signal.to(self.dictionaries)).abs().pow(self.magnitude_power)
