"""Separation by energies, told by example what to find (``model=energy_reference``).

A clip of a speaker tells which frame energies, over which bands, that speaker has: its spectra are the
signatures. The mixture's energies are shared out by them, and an estimate is driven by gradient descent
until it has its share (sepnet.separators.energy.descent).

What the method can't know: an energy says nothing of the phase, nor of the waveform within the frame. The
estimate keeps those of its start, so a start at random ends with the right energies and a wrong signal,
and a start from the mixture ends as a gain, over frames of 10 ms (textbook) or over bands. Beyond that it
knows no more of a speaker than the clip holds: two voices that share their spectra can't be told apart.

On mixtures of two speakers of speech8k (dev), with a query of 3 s for each source, mean SI-SDRi in dB with
its 95 % bootstrap interval, and as the textbook form the mean signatures and one energy a frame
(model=energy_reference_textbook):

    start                                                  this form           textbook form
    mixture, 100 mixtures                                  3.4 [2.9, 4.0]      0.2 [-0.1, 0.5]
    random (100; textbook: 40)                             -4.3 [-4.4, -4.1]   0.4 [0.1, 0.7]
    difference (40; reference aligned, in noise at 0 dB)   6.4 [5.9, 6.8]      0.8 [0.5, 1.2]
    mixture, one query (40)                                0.7 [0.2, 1.2]      -0.5 [-0.9, -0.1]

That the textbook form gains from noise is spectral subtraction's doing, which takes the mixture's phase.
Real-time factor on one thread: 0.07, and 0.10.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.kmeans import kmeans
from sepnet.separators.energy.descent import EnergyDescent, Signatures
from sepnet.separators.energy.step import EnergyStream
from sepnet.separators.examples import checked_examples, example_labels
from sepnet.separators.frame_stream import StreamSetup
from sepnet.types import CannotSeparate, Mixture, Query, Separation, SeparatorInfo, SepnetError

Start = Literal["random", "mixture", "difference"]
ALIGNED = 0.1  # correlation from which on a reference counts as aligned; other speech has some 0.03
MOST_FRAMES = 2000  # of a query or a residual, evenly spaced


class EnergyReference:
    """Finds the sources that sound as the queries do.

    With one query: that source and the residual; with several, one estimate for each, in their order.

    descent: how. start: ``mixture``; ``random``, white noise with the mixture's frame energies, of
    ``seed``; or ``difference``, the mixture minus the reference, where the queries are the sources
    themselves, aligned to the mixture sample by sample, up to a gain. Their own energies are then the
    targets. n_signatures: kept of a query, at most, evenly spaced; 0: their mean alone, as in the textbook
    form. n_residual: clusters of the mixture's spectra less what the query explains of them, that stand for
    whatever is not the one query.

    Raises CannotSeparate for no queries, one that is silent or at another rate, and, for ``difference``,
    one that is not aligned.
    """

    info = SeparatorInfo(needs=frozenset({"queries"}))

    def __init__(
        self,
        *,
        descent: EnergyDescent,
        start: Start = "mixture",
        n_signatures: int = 256,
        n_residual: int = 16,
        seed: int = 0,
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
        """The estimates, labelled by their queries."""
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
        """Of each query; with one query, of what in the mixture is not it."""
        queries = checked_examples(mixture)
        frame = self.descent.frame_samples(mixture.sample_rate)
        shapes = [self._shapes(query.audio.to(mixture.audio.device), frame) for query in queries]
        if len(queries) == 1:
            shapes.append(self._residual_shapes(mixture.audio[0], frame, shapes[0]))
        counts = torch.tensor([len(each) for each in shapes], device=mixture.audio.device)
        owner = torch.repeat_interleave(torch.arange(len(shapes), device=counts.device), counts)
        shares = torch.nn.functional.one_hot(owner, len(shapes)).T.float()  # (source, signature)
        found = Signatures(torch.cat(shapes), shares)
        return found if self.n_signatures else found.pooled()

    def stream(self, setup: StreamSetup) -> EnergyStream:
        """Frame by frame, with the signatures of the queries.

        With one query the residual's are of an earlier recording. Raises CannotSeparate for what is missing,
        and for another start than the mixture.
        """
        if self.start != "mixture":
            raise CannotSeparate(f"live only start=mixture is known, but the start is {self.start!r}")
        if len(setup.queries) == 1 and setup.enrollment is None:
            raise CannotSeparate(
                "with one example the rest is told from the whole recording: give an example of each source, "
                "or an earlier recording (enrollment=...)"
            )
        rate = setup.resolve_rate(None)
        heard = torch.zeros(1) if setup.enrollment is None else setup.enrollment
        mixture = Mixture(heard[None], rate, queries=setup.queries)
        return EnergyStream(
            self.descent, self.signatures(mixture), rate, example_labels(checked_examples(mixture))
        )

    def _shapes(self, audio: Tensor, frame: int) -> Float[Tensor, "signature bin"]:
        loud, _ = self.descent.loud_windows(audio, frame, self.n_signatures or MOST_FRAMES)
        return loud / loud.mean(dim=1, keepdim=True)

    def _residual_shapes(
        self, audio: Tensor, frame: int, shapes: Float[Tensor, "query bin"]
    ) -> Float[Tensor, "signature bin"]:
        """Clusters of what spectral subtraction leaves of the mixture's spectra."""
        loud, _ = self.descent.loud_windows(audio, frame, MOST_FRAMES)
        if not len(loud):
            return torch.ones_like(shapes[:1])
        relative = loud / loud.mean(dim=1, keepdim=True)
        known = Signatures(shapes, shapes.new_ones(1, len(shapes)))
        likely = self.descent.explain(relative, known, torch.arange(len(loud)).to(loud.device))[0]
        # Of a frame that the query explains well, little is left; half, for a query explains others, too.
        left = (relative - 0.5 * likely.pow(1 / (2 * self.descent.trust))).clamp_min(1e-3)
        points = (left / left.mean(dim=1, keepdim=True)).sqrt()  # the roots, or peaks would decide
        n_clusters = min(self.n_residual, len(points))
        found = kmeans(points, n_clusters, n_restarts=1, seed=self.seed).centres.square()
        return found / found.mean(dim=1, keepdim=True)

    def _starts(self, mixture: Mixture) -> Float[Tensor, "source time"]:
        queries, signal = checked_examples(mixture), mixture.audio[0]
        n_sources = max(2, len(queries))
        if self.start == "mixture":
            return signal.expand(n_sources, -1)
        if self.start == "difference":
            found = torch.stack([_aligned(query, signal) for query in queries])
            if len(queries) == 1:
                return torch.stack([found[0], signal - found[0]])
            return signal - (found.sum(dim=0) - found)
        frame = self.descent.frame_samples(mixture.sample_rate)
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(n_sources, len(signal), generator=generator).to(signal)
        power = torch.nn.functional.avg_pool1d(
            signal.square()[None], frame, frame, ceil_mode=True, count_include_pad=False
        )[0]
        return noise * power.sqrt().repeat_interleave(frame)[: len(signal)]


def _aligned(query: Query, signal: Tensor) -> Tensor:
    """The reference at its level in the mixture, by least squares. Raises CannotSeparate if not aligned."""
    reference = query.audio.to(signal.device)
    if reference.shape != signal.shape:
        raise CannotSeparate(
            f"start=difference wants a reference aligned to the mixture, of {len(signal)} samples, but the "
            f"query has {len(reference)}: take start=mixture"
        )
    inner, power = (reference * signal).sum(), reference.square().sum()
    likeness = float(inner / (power * signal.square().sum()).sqrt().clamp_min(1e-30))
    if likeness < ALIGNED:
        raise CannotSeparate(
            f"start=difference wants a reference aligned to the mixture, but their correlation is "
            f"{likeness:.2f}, less than {ALIGNED}: take start=mixture"
        )
    return reference * inner / power
