"""Separation by energies, with an example of each source (``model=energy_reference``).

A clip of a speaker shows which frame energies, over which bands, that speaker has: its spectra are the
signatures. The mixture's energies are shared out by them, and an estimate is driven by gradient descent
until it has its share (sepnet.separators.energy.descent).

Limits: an energy says nothing of the phase, nor of the waveform within the frame. The estimate keeps those
of its start, so a start at random ends with the right energies and a wrong signal, and a start from the
mixture ends as a gain, over frames of 10 ms (textbook) or over bands. The clip is all that the method knows
of a speaker: two voices that share their spectra can't be told apart.

On mixtures of two speakers of speech8k (dev), with a query of 3 s for each source, mean SI-SDRi in dB with
its 95 % bootstrap interval, and as the textbook form the mean signatures and one energy a frame
(model=energy_reference_textbook):

    start                                                  this form           textbook form
    mixture, 100 mixtures                                  3.4 [2.9, 4.0]      0.2 [-0.1, 0.5]
    random (100; textbook: 40)                             -4.3 [-4.4, -4.1]   0.4 [0.1, 0.7]
    difference (40; reference aligned, in noise at 0 dB)   6.4 [5.9, 6.8]      0.8 [0.5, 1.2]
    mixture, one query (40)                                0.7 [0.2, 1.2]      -0.5 [-0.9, -0.1]

That the textbook form gains from noise is due to spectral subtraction, which takes the mixture's phase.
Real-time factor on one thread: 0.07, and 0.10.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.kmeans import kmeans
from sepnet.ranges import NonNegativeInt, Seed
from sepnet.separators.energy.descent import EnergyDescent
from sepnet.separators.energy.signatures import Signatures
from sepnet.separators.energy.step import EnergyStream
from sepnet.separators.examples import checked_examples, example_labels
from sepnet.separators.frame_stream import StreamSetup
from sepnet.types import CannotSeparate, Mixture, Query, Separation, SeparatorInfo, SepnetError

Start = Literal["random", "mixture", "difference"]
MIN_ALIGNED_CORRELATION = 0.1  # of an aligned reference and the mixture; other speech has some 0.03
MAX_WINDOWS = 2000  # of a query or a residual, evenly spaced
EXPLAINED_SHARE = 0.5  # of what the query explains, that is taken off the residual: it explains others, too
RESIDUAL_FLOOR = 1e-3  # the least amplitude of a residual, relative to a mean of 1


class EnergyReference:
    """Finds the sources that sound like the queries.

    With one query it returns that source and the residual; with several, one estimate for each, in order.

    Args:
        descent: How the estimates get their energies.
        start: Where the descent starts: ``mixture``; ``random``, white noise with the mixture's frame
            energies; or ``difference``, the mixture minus the reference, where the queries are the sources
            themselves, aligned to the mixture sample by sample, up to a gain. Their own energies are then
            the targets.
        n_signatures: The largest number of signatures of a query, evenly spaced; 0: their mean alone, as in
            the textbook form.
        n_residual: With one query: clusters of the mixture's spectra without what the query explains of
            them, the signatures of the residual.
        seed: Seed of the noise and of the clustering.

    Raises:
        SepnetError: A setting is out of range.
    """

    info = SeparatorInfo(needs=frozenset({"queries"}))

    def __init__(
        self,
        *,
        descent: EnergyDescent,
        start: Start = "mixture",
        n_signatures: NonNegativeInt = 256,
        n_residual: int = 16,
        seed: Seed = 0,
    ) -> None:
        if start not in get_args(Start):
            raise SepnetError(f"the start is {start!r}, but has to be one of {', '.join(get_args(Start))}")
        if n_signatures < 0 or n_residual < 1:
            raise SepnetError(
                f"n_signatures={n_signatures} and n_residual={n_residual}: 0 or more, 1 or more"
            )
        self.descent, self.start, self.seed = descent, start, seed
        self.n_signatures, self.n_residual = n_signatures, n_residual

    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0; the estimates are labelled by their queries.

        Raises:
            CannotSeparate: A query can't be used (sepnet.separators.examples), or is not aligned to the
                mixture although the descent starts from the difference.
        """
        queries = checked_examples(mixture)
        signal = mixture.audio[0]
        signatures = self.signatures(mixture)
        starts = self._starts(mixture)
        sources = self.descent.separate(
            signal, signatures, mixture.sample_rate, starts, aligned=self.start == "difference"
        )
        return Separation(sources, labels=example_labels(queries))

    @torch.no_grad()
    def signatures(self, mixture: Mixture) -> Signatures:
        """Return the signatures of each query; after a single one, those of the residual."""
        queries = checked_examples(mixture)
        frame = self.descent.frame_samples(mixture.sample_rate)
        shapes = [self._shapes(query.audio.to(mixture.audio.device), frame) for query in queries]
        if len(queries) == 1:
            shapes.append(self._residual_shapes(mixture.audio[0], frame, shapes[0]))
        counts = torch.tensor([len(source_shapes) for source_shapes in shapes], device=mixture.audio.device)
        owner = torch.repeat_interleave(torch.arange(len(shapes), device=counts.device), counts)
        shares = torch.nn.functional.one_hot(owner, len(shapes)).T.float()  # (source, signature)
        signatures = Signatures(torch.cat(shapes), shares)
        return signatures if self.n_signatures else signatures.pooled()

    def stream(self, setup: StreamSetup) -> EnergyStream:
        """Prepare separation frame by frame, with the signatures of the queries.

        With one query those of the residual come from an earlier recording.

        Raises:
            CannotSeparate: A query or the earlier recording is missing, or the descent starts elsewhere
                than at the mixture.
        """
        if self.start != "mixture":
            raise CannotSeparate(
                f"live the descent has to start from the mixture, but the start is {self.start!r}: "
                "take start=mixture"
            )
        if len(setup.queries) == 1 and setup.enrollment is None:
            raise CannotSeparate(
                "with one example the residual is learnt from the whole recording: give an example of each "
                "source, or an earlier recording (enrollment=...)"
            )
        rate = setup.resolve_rate(None)
        enrollment = torch.zeros(1) if setup.enrollment is None else setup.enrollment
        mixture = Mixture(enrollment[None], rate, queries=setup.queries)
        labels = example_labels(checked_examples(mixture))
        return EnergyStream(self.descent, self.signatures(mixture), rate, labels)

    def _shapes(self, audio: Tensor, frame: int) -> Float[Tensor, "signature bin"]:
        amplitudes, _ = self.descent.loud_windows(audio, frame, self.n_signatures or MAX_WINDOWS)
        return amplitudes / amplitudes.mean(dim=1, keepdim=True)

    def _residual_shapes(
        self, audio: Tensor, frame: int, query_shapes: Float[Tensor, "query bin"]
    ) -> Float[Tensor, "signature bin"]:
        """Cluster what spectral subtraction of the query leaves of the mixture's spectra."""
        amplitudes, _ = self.descent.loud_windows(audio, frame, MAX_WINDOWS)
        if not len(amplitudes):
            return torch.ones_like(query_shapes[:1])
        relative = amplitudes / amplitudes.mean(dim=1, keepdim=True)
        signatures = Signatures(query_shapes, query_shapes.new_ones(1, len(query_shapes)))
        windows = torch.arange(len(amplitudes)).to(amplitudes.device)
        energies = self.descent.explain(relative, signatures, windows)[0]
        explained = energies.pow(1 / (2 * self.descent.trust))
        residual = (relative - EXPLAINED_SHARE * explained).clamp_min(RESIDUAL_FLOOR)
        points = (residual / residual.mean(dim=1, keepdim=True)).sqrt()  # the roots, or peaks would decide
        n_clusters = min(self.n_residual, len(points))
        shapes = kmeans(points, n_clusters, n_restarts=1, seed=self.seed).centres.square()
        return shapes / shapes.mean(dim=1, keepdim=True)

    def _starts(self, mixture: Mixture) -> Float[Tensor, "source time"]:
        queries, signal = checked_examples(mixture), mixture.audio[0]
        n_sources = max(2, len(queries))
        if self.start == "mixture":
            return signal.expand(n_sources, -1)
        if self.start == "difference":
            references = torch.stack([_aligned(query, signal) for query in queries])
            if len(queries) == 1:
                return torch.stack([references[0], signal - references[0]])
            return signal - (references.sum(dim=0) - references)
        frame = self.descent.frame_samples(mixture.sample_rate)
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(n_sources, len(signal), generator=generator).to(signal)
        power = torch.nn.functional.avg_pool1d(
            signal.square()[None], frame, frame, ceil_mode=True, count_include_pad=False
        )[0]
        return noise * power.sqrt().repeat_interleave(frame)[: len(signal)]


def _aligned(query: Query, signal: Tensor) -> Tensor:
    """Bring a reference to its level in the mixture by least squares; CannotSeparate if not aligned."""
    reference = query.audio.to(signal.device)
    if reference.shape != signal.shape:
        raise CannotSeparate(
            f"start=difference needs a reference aligned to the mixture, of {len(signal)} samples, but the "
            f"query has {len(reference)}: take start=mixture"
        )
    inner, power = (reference * signal).sum(), reference.square().sum()
    cosine = float(inner / (power * signal.square().sum()).sqrt().clamp_min(1e-30))
    if cosine < MIN_ALIGNED_CORRELATION:
        raise CannotSeparate(
            f"start=difference needs a reference aligned to the mixture, but their correlation is "
            f"{cosine:.2f}, less than {MIN_ALIGNED_CORRELATION}: take start=mixture"
        )
    return reference * inner / power
