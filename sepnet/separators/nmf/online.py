"""NMF frame by frame, with an example of each source (``model=nmf_online``).

Each query gives a dictionary of spectra (sepnet.dsp.nmf), and each frame of the mixture is explained by all
of them together, on its own. With one query the residual has a dictionary of its own, which is learnt from
the frames one after another (sepnet.dsp.nmf_online): semi-supervised, after Z. Duan, G. J. Mysore,
P. Smaragdis, "Online PLCA for real-time semi-supervised source separation", LVA/ICA 2012, with the updates of
Lefevre, Bach and Fevotte 2011. With the models V_i of the sources in a frame,

    Y_i = V_i^p / sum_j V_j^p  Y.

Nothing looks ahead, so the whole recording at once and frame by frame are the same algorithm: ``separate``
is the stream from end to end. The latency is the window.

On 30 mixtures of 4 s of two speakers of speech8k (dev), on which the settings were chosen, with a query of
3 s for each source: 2.9 +- 0.9 dB mean SI-SDRi; with one query 0.0 +- 0.8 dB, since the dictionary of one
voice already explains much of the other. Itakura-Saito is worse (two queries, 40 components, a
mask exponent of 1: 1.3 dB, where Kullback-Leibler has 2.8 dB).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sepnet.dsp import nmf
from sepnet.dsp.filterbank import STFT
from sepnet.ranges import LayerSize, NonNegativeInt, Seconds, Seed
from sepnet.separators.checks import require_positive
from sepnet.separators.examples import checked_examples, example_labels
from sepnet.separators.frame_stream import StreamSetup
from sepnet.separators.nmf.step import Dictionaries, NMFStream
from sepnet.types import Mixture, Query, Separation, SeparatorInfo, SepnetError

RESIDUAL_PRIOR_FRAMES = 5.0  # how many frames the random start of the residual's dictionary counts as
HOPS_PER_BLOCK = 256  # that ``separate`` works on at once
LEARN_ITERATIONS = 100  # for the dictionary of a query
SPECTRUM_FLOOR = 1e-6  # of a dictionary's mean, added to each spectrum
RESIDUAL_START_FLOOR = 0.1  # added to the random start, which is between 0 and 1


class OnlineNMF:
    """Finds the sources that sound like the queries; with one query, that source and the residual.

    Args:
        n_components: Spectra of each query.
        n_residual: Spectra of the residual.
        divergence: ``kullback_leibler`` (of magnitudes) or ``itakura_saito`` (of powers).
        n_iterations: Iterations for each frame.
        mask_exponent: p above.
        window_seconds: Length of the frames, which overlap by half: the latency.
        memory_seconds: Half-life of what the residual has learnt.
        update_frames: The dictionary of the residual is renewed once in so many frames.
        seed: Seed of the dictionaries' starts.

    Raises:
        SepnetError: A setting is out of range.
    """

    info = SeparatorInfo(needs=frozenset({"queries"}))

    def __init__(
        self,
        *,
        n_components: LayerSize = 8,
        n_residual: int = 20,
        divergence: nmf.Divergence = "kullback_leibler",
        n_iterations: NonNegativeInt = 20,
        mask_exponent: float = 0.7,
        window_seconds: Seconds = 0.032,
        memory_seconds: Seconds = 2.0,
        update_frames: int = 1,
        seed: Seed = 0,
    ) -> None:
        if divergence not in ("kullback_leibler", "itakura_saito"):
            raise SepnetError(f"divergence={divergence!r} is none of kullback_leibler, itakura_saito")
        require_positive(
            n_components=n_components,
            n_residual=n_residual,
            n_iterations=n_iterations,
            mask_exponent=mask_exponent,
            window_seconds=window_seconds,
            memory_seconds=memory_seconds,
            update_frames=update_frames,
        )
        self.n_components, self.n_residual, self.divergence = n_components, n_residual, divergence
        self.n_iterations, self.mask_exponent, self.seed = n_iterations, mask_exponent, seed
        self.window_seconds, self.memory_seconds = window_seconds, memory_seconds
        self.update_frames = update_frames

    @property
    def power(self) -> float:
        """The power of the magnitudes that is factorised."""
        return 2.0 if self.divergence == "itakura_saito" else 1.0

    @torch.no_grad()
    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0; the estimates are labelled by their queries.

        Raises:
            CannotSeparate: A query is missing or can't be used (sepnet.separators.examples).
        """
        stream = self._stream(mixture)
        signal = mixture.audio[0].cpu()
        block, state, parts = HOPS_PER_BLOCK * stream.hop_samples, stream.initial_state(), []
        padded = torch.nn.functional.pad(signal, (0, -len(signal) % stream.hop_samples))
        for hops in torch.split(padded, block):
            sources, state = stream.step(hops, state)
            parts.append(sources)
        estimates = torch.cat([*parts, stream.flush(state)], dim=1)[:, stream.lag_samples :]
        return Separation(estimates[:, : len(signal)].to(mixture.audio.device), stream.labels)

    @torch.no_grad()
    def stream(self, setup: StreamSetup) -> NMFStream:
        """Prepare separation frame by frame, with the dictionaries of the queries.

        Raises:
            CannotSeparate: A query is missing or can't be used.
        """
        return self._stream(Mixture(torch.zeros(1, 1), setup.resolve_rate(None), queries=setup.queries))

    def _stream(self, mixture: Mixture) -> NMFStream:
        queries = checked_examples(mixture)
        hop = max(1, round(self.window_seconds * mixture.sample_rate / 2))
        stft = STFT(window_samples=2 * hop, hop_samples=hop)
        dictionaries = [self._learn(query, stft, self.seed + k) for k, query in enumerate(queries)]
        n_free = 0
        if len(queries) == 1:
            generator, n_free = torch.Generator().manual_seed(self.seed), self.n_residual
            start = torch.rand(stft.n_bins, n_free, generator=generator) + RESIDUAL_START_FLOOR
            dictionaries.append(start / start.sum(dim=0))
        sources = torch.cat([torch.full((each.shape[1],), k) for k, each in enumerate(dictionaries)])
        return NMFStream(
            stft,
            Dictionaries(torch.cat(dictionaries, dim=1), sources, n_free),
            sample_rate=mixture.sample_rate,
            labels=example_labels(queries),
            divergence=self.divergence,
            power=self.power,
            n_iterations=self.n_iterations,
            mask_exponent=self.mask_exponent,
            forgetting=0.5 ** (hop / (self.memory_seconds * mixture.sample_rate)),
            update_frames=self.update_frames,
            prior_frames=RESIDUAL_PRIOR_FRAMES,
        )

    def _learn(self, query: Query, stft: STFT, seed: int) -> Tensor:
        """(bin, component), columns of sum 1, of a query at unit level."""
        audio = query.audio.cpu() / query.audio.abs().max().cpu()
        magnitudes = stft.spectrogram(audio).abs().pow(self.power)
        factors = nmf.factorise(
            magnitudes[None],
            n_components=self.n_components,
            divergence=self.divergence,
            n_iterations=LEARN_ITERATIONS,
            tolerance=0,
            seed=seed,
            solver="multiplicative",
        )
        spectra = factors.dictionary[0] + SPECTRUM_FLOOR * factors.dictionary[0].mean()
        return spectra / spectra.sum(dim=0)
