"""Supervised NMF: a dictionary of spectra for each group of sounds, learnt from clips of single sources.

Smaragdis, Raj and Shashanka, "Supervised and semi-supervised separation of sounds from single-channel
mixtures", ICA 2007. Groups are classes or stems; or, for speech, speakers of the training set. The
mixture's magnitudes (bin, frame) are then explained by the dictionaries of the groups that are in it,

    |Y| = sum_g W_g H_g,   with W given and H found,

and each group gets its Wiener-like share of Y (see sepnet.separators.nmf.blind).

With as many sources as groups, all groups are in the mixture. With fewer sources the groups are chosen by
block sparsity, and a few training speakers represent any speaker: the universal speech model of Sun and
Mysore, "Universal speech models for speaker independent single channel source separation", ICASSP 2013.
That paper knows one of two sources; here neither is known, which is harder: one voice may take two groups.
On two-speaker mixtures of speech8k (data.valid) it gains 0.59 +- 0.22 dB SI-SDR on the 100 mixtures on which
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
from sepnet.dsp.blocks import excerpt_spectrogram, mask_in_blocks
from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.filterbank import STFT
from sepnet.ranges import LayerSize, NonNegativeFloat, NonNegativeInt, SampleRate, Seconds, Seed
from sepnet.separators.checks import require_n_sources, require_positive, require_rate
from sepnet.types import CannotSeparate, Mixture, Query, Separation, SeparatorInfo, SepnetError

UNKNOWN_LABEL = "unknown"
EXCERPT_SECONDS = 5.0  # length of the excerpts of a long mixture by which groups are chosen
MIN_RMS = 1e-10  # the smallest level that is divided by
MIN_NORM = 1e-20  # the smallest norm of a spectrum that is divided by


class SupervisedNMF(nn.Module):
    """Dictionaries (group, bin, component), each group's spectra of unit length; ``fit`` learns them.

    They are random until ``fit`` is called. Estimates are labelled where there are as many as labels (and the
    unknown), and in arbitrary order otherwise.

    Args:
        n_groups: Number of groups.
        n_components: Spectra of each group.
        labels: The labels of the groups, in the order of the estimates; None: the ``n_groups`` speakers with
            the most audio.
        unknown: Whether there is one further source, which has no dictionary.
        n_unknown_components: Spectra of that source.
        block_sparsity: The penalty by which groups are chosen; see sepnet.dsp.nmf.activate_groups.
        divergence: See sepnet.dsp.nmf, as ``sparsity`` and ``n_iterations``.
        magnitude_power: The magnitudes to this power are factorised.
        mask_exponent: p; see sepnet.separators.nmf.blind.
        sparsity: Penalty on the activations.
        n_iterations: Iterations for a mixture; learning takes twice as many.
        solver: ``multiplicative``, the updates of the textbooks, ``accelerated``, or ``auto``: the one that
            takes less time; see sepnet.dsp.nmf.
        fit_seconds: The most audio of each group that is learnt from.
        window_seconds: Length of the Hann window of the STFT, whose hop is a quarter of it.
        learn_seconds: Of a longer mixture, excerpts of this total length choose the groups.
        block_seconds: Length of the blocks in which a longer mixture is masked; bounds the memory.
        sample_rate: In Hz; mixtures at another rate are refused.
        seed: Seed of the dictionaries' starts.

    Raises:
        SepnetError: A setting is out of range, or the labels are not one for each group.
    """

    dictionaries: Tensor

    def __init__(
        self,
        *,
        n_groups: LayerSize,
        n_components: LayerSize,
        labels: Sequence[str] | None = None,
        unknown: bool = False,
        n_unknown_components: int = 20,
        block_sparsity: NonNegativeFloat = 0.1,
        divergence: nmf.Divergence = "kullback_leibler",
        magnitude_power: float = 1.0,
        mask_exponent: float = 1.0,
        sparsity: NonNegativeFloat = 0.0,
        n_iterations: NonNegativeInt = 60,
        solver: nmf.Solver = "auto",
        fit_seconds: Seconds = 60.0,
        window_seconds: Seconds = 0.128,
        learn_seconds: Seconds = 60.0,
        block_seconds: Seconds = 30.0,
        sample_rate: SampleRate = 8000,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        require_positive(
            n_groups=n_groups,
            n_components=n_components,
            n_unknown_components=n_unknown_components,
            n_iterations=n_iterations,
            magnitude_power=magnitude_power,
            mask_exponent=mask_exponent,
            fit_seconds=fit_seconds,
            window_seconds=window_seconds,
            learn_seconds=learn_seconds,
            block_seconds=block_seconds,
            sample_rate=sample_rate,
        )
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
        self.solver = solver
        self.fit_seconds, self.learn_seconds, self.block_seconds = fit_seconds, learn_seconds, block_seconds
        self.sample_rate = sample_rate
        hop = max(1, round(window_seconds * sample_rate / 4))
        self.stft = STFT(window_samples=4 * hop, hop_samples=hop, window="hann")
        generator = torch.Generator().manual_seed(seed)
        start = torch.rand(n_groups, self.stft.n_bins, n_components, generator=generator)
        self.register_buffer("dictionaries", start / start.norm(dim=1, keepdim=True))

    @property
    def info(self) -> SeparatorInfo:
        """It needs the number of sources; labelled where the groups are classes."""
        labels = None if self.labels is None else self.labels + (UNKNOWN_LABEL,) * self.unknown
        return SeparatorInfo(needs=frozenset({"n_sources"}), sample_rate=self.sample_rate, labels=labels)

    @torch.no_grad()
    def fit(self, clips: Iterable[Query]) -> dict[str, float]:
        """Learn the dictionaries.

        Args:
            clips: Labelled clips of single sources, which are read twice: to find the groups, and to learn.

        Returns:
            The number of groups, and the seconds of audio of all of them.

        Raises:
            SepnetError: The clips are an iterator, which can be read only once; a clip is at another rate;
                there are fewer groups than ``n_groups``; or a group is silent.
        """
        if isinstance(clips, Iterator):
            raise SepnetError("the clips are read twice: give a list of them, not an iterator")
        groups = self._choose(clips)
        magnitudes, n_samples = self._read(clips, groups)
        for number, group in enumerate(groups):
            if not magnitudes[group]:
                raise SepnetError(f"all clips of {group!r} are silent: there is nothing to learn from")
            factors = nmf.factorise(
                torch.cat(magnitudes.pop(group), dim=1)[None].to(self.dictionaries),
                n_components=self.n_components,
                divergence=self.divergence,
                n_iterations=2 * self.n_iterations,
                tolerance=0,
                sparsity=self.sparsity,
                seed=self.seed + number,
                solver=self.solver,
            )
            dictionary = factors.dictionary[0]
            self.dictionaries[number] = dictionary / dictionary.norm(dim=0).clamp_min(MIN_NORM)
        return {"groups": float(len(groups)), "seconds_of_audio": n_samples / self.sample_rate}

    def _read(self, clips: Iterable[Query], groups: Sequence[str]) -> tuple[dict[str, list[Tensor]], int]:
        """Magnitudes of each group's clips at unit level, and the samples of all, up to ``fit_seconds``."""
        magnitudes: dict[str, list[Tensor]] = {group: [] for group in groups}
        max_samples = round(self.fit_seconds * self.sample_rate)
        remaining = dict.fromkeys(groups, max_samples)
        for clip in clips:
            if clip.label in magnitudes and remaining[clip.label] > 0 and bool(clip.audio.any()):
                audio = clip.audio[: remaining[clip.label]]
                rms = audio.square().mean().sqrt().clamp_min(MIN_RMS)
                magnitudes[clip.label].append(self._magnitudes(audio / rms))
                remaining[clip.label] -= len(audio)
        return magnitudes, sum(max_samples - rest for rest in remaining.values())

    def _choose(self, clips: Iterable[Query]) -> list[str]:
        """The labels of the groups to learn, in order."""
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
                examples = ", ".join(sorted(lengths)[:10])
                raise SepnetError(
                    f"there are no clips of {', '.join(missing)}, but of {len(lengths)} labels ({examples}): "
                    "name these in model.labels"
                )
            return list(self.labels)
        if len(lengths) < self.n_groups:
            raise SepnetError(
                f"{self.n_groups} groups can't be learnt from {len(lengths)} speakers: lower model.n_groups"
            )
        # Among speakers with the same length the first name wins.
        return sorted(lengths, key=lambda label: (-lengths[label], label))[: self.n_groups]

    @torch.no_grad()
    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into ``n_sources``; the last one is the unknown source, if there is one.

        Raises:
            CannotSeparate: The mixture is at another rate, or has more sources than there are groups.
        """
        n_sources = self._check(mixture)
        signal = mixture.audio[0].to(self.dictionaries)
        peak = signal.abs().max()
        if peak > 0:
            signal = signal / peak
        spectrogram = excerpt_spectrogram(
            signal,
            self.stft,
            max_samples=round(self.learn_seconds * self.sample_rate),
            piece_samples=round(EXCERPT_SECONDS * self.sample_rate),
        )
        X = spectrogram.abs().pow(self.magnitude_power)[None]  # (1, bin, frame)
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
                solver=self.solver,
            )
            return nmf.source_masks(dictionary[0], activations[0], sources, n_sources, self.mask_exponent)

        block = round(self.block_seconds * self.sample_rate)
        estimates = mask_in_blocks(signal, self.stft, mask_of, block_samples=block)
        estimates = make_consistent((estimates * peak).to(mixture.audio), mixture.audio[0])
        labels = self.info.labels
        return Separation(estimates, labels if labels is not None and len(labels) == n_sources else None)

    def _check(self, mixture: Mixture) -> int:
        """The number of sources, once the dictionaries can serve the mixture."""
        require_rate(mixture, self.sample_rate, made="the dictionaries were")
        n_sources = require_n_sources(mixture)
        min_sources, max_sources = 1 + self.unknown, self.n_groups + self.unknown
        if not min_sources <= n_sources <= max_sources:
            unknown = " and one unknown source" * self.unknown
            raise CannotSeparate(
                f"the model has {self.n_groups} dictionaries{unknown}, so it separates {min_sources} to "
                f"{max_sources} sources, not {n_sources}"
            )
        return n_sources

    def _present(self, X: Tensor, n_present: int) -> Tensor:
        """The indices of the ``n_present`` groups (group,) that explain most of X, in ascending order."""
        if n_present == self.n_groups:
            return torch.arange(n_present, device=X.device)
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
        return torch.sort(shares.topk(n_present).indices).values

    def _with_unknown(self, X: Tensor, dictionary: Tensor) -> Tensor:
        """The dictionary, followed by ``n_unknown_components`` spectra that are learnt from X beside it."""
        n_known = dictionary.shape[-1]
        generator = torch.Generator().manual_seed(self.seed)
        start, activations = nmf.random_start(X, n_known + self.n_unknown_components, generator)
        start[:, :, :n_known] = dictionary
        factors = nmf.factorise_from(
            X,
            start,
            activations,
            divergence=self.divergence,
            n_iterations=self.n_iterations,
            tolerance=0,
            sparsity=self.sparsity,
            n_fixed=n_known,
            solver=self.solver,
        )
        return factors.dictionary

    def _magnitudes(self, signal: Tensor) -> Tensor:
        """(time,) to (bin, frame)."""
        return self.stft.spectrogram(signal.to(self.dictionaries)).abs().pow(self.magnitude_power)
