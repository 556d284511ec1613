"""Separation by clustering embeddings of time-frequency bins (``model=deep_clustering``).

J. Hershey, Z. Chen, J. Le Roux, S. Watanabe, "Deep clustering: discriminative embeddings for segmentation
and separation", ICASSP 2016; soft k-means after Y. Isik et al., "Single-channel multi-speaker separation
using deep clustering", Interspeech 2016; the other losses and the mask head after Z.-Q. Wang, J. Le Roux,
J. Hershey, "Alternative objective functions for deep clustering", ICASSP 2018 (Chimera++).

    mixture -> STFT -> log magnitudes -> network -> an embedding of unit length for each bin
            -> k-means of the loud bins -> masks by nearness to the centres -> inverse STFT

The embeddings do not say how many sources there are: any number of centres can be asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.features import log_magnitude, magnitude, unit_level
from sepnet.dsp.filterbank import STFT
from sepnet.dsp.kmeans import kmeans
from sepnet.dsp.masks import ideal_binary_mask
from sepnet.losses import affinity_loss, magnitude_mse, phase_sensitive_target, pit, whitened_kmeans_loss
from sepnet.metrics import pairwise
from sepnet.ranges import Depth, NonNegativeFloat, NonNegativeInt, PositiveFloat, SampleRate, Seed
from sepnet.separators.checks import require_rate
from sepnet.types import Batch, CannotSeparate, Mixture, Separation, SeparatorInfo, SepnetError

Clustering = Literal["affinity", "whitened_kmeans"]
SourceCount = Literal["given", "estimated"]
CountBy = Literal["eigenvalues", "head"]
LOSSES = {"affinity": affinity_loss, "whitened_kmeans": whitened_kmeans_loss}


class DeepClustering(nn.Module):
    """Filterbank, embedding network and clustering, from the configuration.

    Scaling the input scales the output; the estimates sum to the mixture.

    Args:
        filterbank: The STFT.
        network: Called with (n_in, n_out); makes a module (batch, n_in, frame) -> (batch, n_out, frame).
        n_dims: Dimensions of an embedding.
        sample_rate: In Hz; mixtures at another rate are refused.
        loss_function: ``affinity`` or ``whitened_kmeans``.
        quiet_db: Bins further below the loudest of the mixture are left out of loss and clustering.
        head_sources: Number of sources of a mask head that is trained beside the embeddings (Chimera++);
            0: no head.
        head_weight: Weight of the head's loss in the sum, 0 to 1.
        use_head: Whether the head's masks serve mixtures of ``head_sources`` sources.
        source_count: ``given`` by n_sources of the mixture, or ``estimated``.
        count_by: How sources are counted. ``eigenvalues``: by the eigenvalues of the embeddings' covariance,
            whose sum is 1, above ``min_eigenvalue``; k sources with orthogonal embeddings have k of them, of
            the size of their shares. ``head``: by the outputs of the head that are not quiet, which is at
            most ``head_sources``.
        min_eigenvalue: The least eigenvalue that counts as a source.
        quiet_output_db: How far below all outputs of the head together one is no source, in dB.
        max_sources: The largest number of sources that is counted by eigenvalues.
        n_points: The largest number of bins that are clustered, evenly spaced.
        n_restarts: Restarts of k-means.
        sharpness: kappa of the soft masks softmax_k(kappa <v, c_k>); infinity: the nearest centre alone.
        seed: Seed of the clustering.

    Raises:
        SepnetError: A setting is out of range, or the sources are to be counted by a head that is not there.
    """

    def __init__(
        self,
        *,
        filterbank: STFT,
        network: Callable[[int, int], nn.Module],
        n_dims: int = 20,
        sample_rate: SampleRate = 8000,
        loss_function: Clustering = "affinity",
        quiet_db: float = 40.0,
        head_sources: NonNegativeInt = 0,
        head_weight: NonNegativeFloat = 0.025,
        use_head: bool = False,
        source_count: SourceCount = "given",
        count_by: CountBy = "eigenvalues",
        min_eigenvalue: NonNegativeFloat = 0.15,
        quiet_output_db: PositiveFloat = 15.6,
        max_sources: int = 5,
        n_points: int = 20000,
        n_restarts: Depth = 3,
        sharpness: float = 4.0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        for value, choices in (
            (loss_function, get_args(Clustering)),
            (source_count, get_args(SourceCount)),
            (count_by, get_args(CountBy)),
        ):
            if value not in choices:
                raise SepnetError(f"{value!r} is none of {', '.join(choices)}")
        if not (
            n_dims > 1 and quiet_db > 0 and sharpness > 0 and n_points > max_sources > 0 and head_sources >= 0
        ):
            raise SepnetError(
                f"n_dims={n_dims}, quiet_db={quiet_db}, sharpness={sharpness}, n_points={n_points}, "
                f"max_sources={max_sources}, head_sources={head_sources}: 2 or more, positive, positive, "
                "more than max_sources, 1 or more, and not negative"
            )
        if count_by == "head" and head_sources < 2:
            raise SepnetError(
                f"count_by=head needs a head, but head_sources is {head_sources}: give 2 or more, or "
                "count_by=eigenvalues"
            )
        self.filterbank, self.sample_rate, self.n_dims = filterbank, sample_rate, n_dims
        self.loss_function, self.quiet_db = LOSSES[loss_function], quiet_db
        self.head_sources, self.head_weight, self.use_head = head_sources, head_weight, use_head
        self.count_by, self.min_eigenvalue, self.quiet_output_db = count_by, min_eigenvalue, quiet_output_db
        self.max_sources = max_sources
        self.n_points, self.n_restarts, self.sharpness, self.seed = n_points, n_restarts, sharpness, seed
        self.source_count = source_count
        self.network = network(filterbank.n_bins, filterbank.n_bins * (n_dims + head_sources))

    @property
    def info(self) -> SeparatorInfo:
        """It needs the number of sources, unless it estimates it."""
        needs = frozenset({"n_sources"}) if self.source_count == "given" else frozenset[str]()
        return SeparatorInfo(needs=needs, sample_rate=self.sample_rate, counts_sources=True)

    def forward(
        self, analysis: Float[Tensor, "batch channel frame"]
    ) -> tuple[Float[Tensor, "batch bin frame dim"], Float[Tensor, "batch source bin frame"]]:
        """Compute embeddings of any length, and the masks of the head (of 0 sources without one)."""
        output = self.network(log_magnitude(analysis)).float()
        output = output.unflatten(1, (-1, self.filterbank.n_bins))  # (batch, dim and source, bin, frame)
        return output[:, : self.n_dims].movedim(1, -1), output[:, self.n_dims :].softmax(dim=1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the clustering loss, to which a head adds its share of the masks' squared error.

        Outputs of the head that a mixture does not need are to be silent.

        Raises:
            SepnetError: A mixture has more sources than the head.
        """
        n_sources = batch.sources.shape[1]
        if 0 < self.head_sources < n_sources:
            raise SepnetError(
                f"the mixtures hold up to {n_sources} sources, but the head gives {self.head_sources}: raise "
                "model.head_sources, or lower data.mixing.n_sources"
            )
        signal, level = unit_level(batch.mixture[:, 0])
        analysis = self.filterbank.encode(signal)
        spectrograms = self.filterbank.spectrogram(batch.sources / level.unsqueeze(-1))
        embeddings, masks = self(analysis)
        labels = ideal_binary_mask(spectrograms)  # (batch, source, bin, frame)
        weights = self._weights(magnitude(analysis))
        clustering = self.loss_function(
            embeddings.flatten(1, 2), labels.flatten(2).mT, weights.flatten(1)
        ).mean()
        if not self.head_sources:
            return {"loss": clustering}
        targets = phase_sensitive_target(torch.complex(*analysis.chunk(2, dim=1)).unsqueeze(1), spectrograms)
        targets = F.pad(targets, (0, 0, 0, 0, 0, self.head_sources - n_sources))
        estimates = masks * magnitude(analysis).unsqueeze(1)
        head = pit(lambda a, b: pairwise(magnitude_mse, a, b), estimates, targets)[0].mean()
        loss = (1 - self.head_weight) * clustering + self.head_weight * head
        return {"loss": loss, "clustering": clustering, "head": head}

    @torch.no_grad()
    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into the given or estimated number of sources, in arbitrary order.

        Raises:
            CannotSeparate: The mixture is at another sample rate than the network's, or fewer bins hold
                sound than there are sources.
        """
        require_rate(mixture, self.sample_rate, made="the network was")
        device = next(self.parameters()).device
        signal, level = unit_level(mixture.audio[:1].to(device))
        analysis = self.filterbank.encode(signal)
        if not signal.any():
            return Separation(mixture.audio[:1].expand(mixture.n_sources or 1, -1).clone())
        embeddings, head = self(analysis)
        embeddings = torch.nn.functional.normalize(embeddings, dim=-1)
        points, weights = self._loud_bins(embeddings[0], magnitude(analysis)[0])
        n_sources = mixture.n_sources or self._count(points, weights, head[0] * magnitude(analysis)[0])
        if self.use_head and n_sources == self.head_sources:
            masks = head[0]
        else:
            masks = self._masks(embeddings[0], points, weights, n_sources)
        masked = masks.repeat(1, 2, 1) * analysis  # (source, channel, frame)
        sources = make_consistent(self.filterbank.decode(masked, signal.shape[-1]), signal[0]) * level
        return Separation(sources.to(mixture.audio.device))

    @torch.no_grad()
    def estimate_n_sources(self, mixture: Mixture) -> int:
        """Estimate the number of sources, at least 1.

        Raises:
            CannotSeparate: The mixture is at another sample rate than the network's.
        """
        require_rate(mixture, self.sample_rate, made="the network was")
        signal, _ = unit_level(mixture.audio[:1].to(next(self.parameters()).device))
        if not signal.any():
            return 1
        analysis = self.filterbank.encode(signal)
        embeddings, head = self(analysis)
        embeddings = torch.nn.functional.normalize(embeddings, dim=-1)
        points, weights = self._loud_bins(embeddings[0], magnitude(analysis)[0])
        return self._count(points, weights, head[0] * magnitude(analysis)[0])

    def _count(
        self,
        points: Float[Tensor, "point dim"],
        weights: Float[Tensor, " point"],
        outputs: Float[Tensor, "source bin frame"],
    ) -> int:
        """The number of sources, by the embeddings of loud bins or the magnitudes of the head's outputs."""
        if self.count_by == "head":
            powers = outputs.square().sum(dim=(1, 2))
            return max(1, int((powers > powers.sum() * 10 ** (-self.quiet_output_db / 10)).sum()))
        covariance = (points * weights[:, None]).T @ points / weights.sum()
        eigenvalues = torch.linalg.eigvalsh(covariance.double())
        return int((eigenvalues > self.min_eigenvalue).sum().clamp(1, self.max_sources))

    def _weights(self, magnitudes: Float[Tensor, "*batch bin frame"]) -> Float[Tensor, "*batch bin frame"]:
        """Magnitudes, and 0 for the quiet bins."""
        floor = magnitudes.amax(dim=(-2, -1), keepdim=True) * 10 ** (-self.quiet_db / 20)
        return magnitudes * (magnitudes > floor)

    def _loud_bins(
        self, embeddings: Float[Tensor, "bin frame dim"], magnitudes: Float[Tensor, "bin frame"]
    ) -> tuple[Float[Tensor, "point dim"], Float[Tensor, " point"]]:
        """At most ``n_points`` loud bins, evenly spaced, and their weights."""
        weights = self._weights(magnitudes).T.flatten()  # (frame and bin)
        loud = weights.nonzero().flatten()
        loud = loud[:: math.ceil(len(loud) / self.n_points)]
        frames, bins = loud // magnitudes.shape[0], loud % magnitudes.shape[0]
        return embeddings[bins, frames], weights[loud]

    def _masks(
        self, embeddings: Float[Tensor, "bin frame dim"], points: Tensor, weights: Tensor, n_sources: int
    ) -> Float[Tensor, "source bin frame"]:
        if n_sources > len(points):
            raise CannotSeparate(
                f"{n_sources} sources, but only {len(points)} bins of the mixture's spectrum hold sound: "
                "give a longer mixture"
            )
        centres = kmeans(
            points, n_sources, weights=weights, n_restarts=self.n_restarts, seed=self.seed
        ).centres
        directions = torch.nn.functional.normalize(centres, dim=-1)
        cosines = (embeddings @ directions.T).movedim(-1, 0)  # (source, bin, frame)
        if math.isinf(self.sharpness):
            nearest = cosines.argmax(dim=0)
            return torch.nn.functional.one_hot(nearest, n_sources).movedim(-1, 0).to(cosines)
        return (self.sharpness * cosines).softmax(dim=0)
