"""A network that is shown an example and masks all else (``model=query_mask``).

    example -> log-mel -> encoder -> embedding
    mixture -> log-mel -> network, conditioned by the embedding -> mel mask -> linear mask x mixture

Trained on (example, mixture, target) drawn on the fly from recordings of classes, as in J. Lee et al., "Audio
query-based music source separation", ISMIR 2019, and K. Chen et al., "Zero-shot audio source separation
through query-based learning from weakly-labeled data", AAAI 2022; with FiLM, see sepnet.networks.conditioned.
The example's embedding is the network's own, learnt with it, and not that of a tagger: so it works beside any
tagger, and has seen no embedding of a clip that a tagger was trained on. The loss is the negated thresholded
SNR of the target (sepnet.metrics.thresholded_snr), which is defined where the target does not sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.dsp.features import unit_level
from sepnet.dsp.mel import to_linear
from sepnet.metrics import improvement, is_silent, si_sdr, thresholded_snr
from sepnet.networks.conditioned import ExampleEncoder
from sepnet.query.applying import MelMasking
from sepnet.query.queries import MAX_QUERY_SECONDS, MIN_QUERY_SECONDS
from sepnet.separators.checks import require_rate
from sepnet.separators.examples import checked_examples, example_labels
from sepnet.types import Batch, Mixture, Separation, SeparatorInfo, SepnetError

FLOOR = 1e-5  # of mel powers, of a mixture at unit level


def log_mels(powers: Float[Tensor, "batch frame mel"]) -> Float[Tensor, "batch mel frame"]:
    """Log-mels of about unit scale."""
    return (torch.log10(powers + FLOOR) / 2 + 1).transpose(1, 2)


class QueryMask(nn.Module):
    """Encoder, conditioned network and loss, each from the config.

    network: called with (n_in, n_out, n_embedding=...), returns a module (batch, n_in, frame),
    (batch, n_embedding) -> (batch, n_out, frame). masking: the mel bands and the transform.
    n_embedding, n_encoder, dropout: of the encoder. labels: classes that the embedding is trained to tell
    apart as well, with the weight ``lambda_class``; None: it is not. max_db: where the SNR ceases to count.
    """

    def __init__(
        self,
        *,
        network: Callable[..., nn.Module],
        masking: MelMasking | None = None,
        sample_rate: int = 16000,
        n_embedding: int = 64,
        n_encoder: int = 128,
        dropout: float = 0.1,
        labels: Sequence[str] | None = None,
        lambda_class: float = 1.0,
        max_db: float = 30.0,
    ) -> None:
        super().__init__()
        self.masking = masking or MelMasking(sample_rate=sample_rate)
        if self.masking.sample_rate != sample_rate:
            raise SepnetError(
                f"sample_rate={sample_rate}, but masking.sample_rate={self.masking.sample_rate}: make them "
                "the same"
            )
        self.sample_rate, self.max_db, self.lambda_class = sample_rate, max_db, lambda_class
        n_mels = self.masking.n_mels
        self.encoder = ExampleEncoder(n_mels, n_embedding, n_channels=n_encoder, dropout=dropout)
        self.network = network(n_mels, n_mels, n_embedding=n_embedding)
        self.labels_learnt = tuple(labels or ())
        self.classifier = nn.Linear(n_embedding, len(self.labels_learnt)) if labels else None

    @property
    def info(self) -> SeparatorInfo:
        """It needs an example of each sound to find."""
        return SeparatorInfo(needs=frozenset({"queries"}), sample_rate=self.sample_rate)

    def forward(
        self,
        spectrogram_power: Float[Tensor, "batch frame mel"],
        embedding: Float[Tensor, "batch n_embedding"],
    ) -> Float[Tensor, "batch frame mel"]:
        """The mask, in (0, 1), from mel powers of mixtures at unit level."""
        logits: Tensor = self.network(log_mels(spectrogram_power), embedding)
        return logits.float().sigmoid().transpose(1, 2)  # (batch, mel, frame) to (batch, frame, mel)

    def embed(
        self, examples: Float[Tensor, "batch time"], n_samples: Sequence[int]
    ) -> Float[Tensor, "batch n_embedding"]:
        """Of examples of so many samples each; what follows these in the tensor does not count."""
        counts = torch.tensor(n_samples, device=examples.device)
        level = (examples.square().sum(dim=-1) / counts).sqrt().clamp_min(1e-8).unsqueeze(-1)
        powers = self.masking.powers(examples / level)  # (batch, frame, mel)
        frames = torch.tensor([self.masking.stft.n_frames(n) for n in n_samples], device=examples.device)
        there = torch.arange(powers.shape[1], device=examples.device) < frames.unsqueeze(-1)
        embedding: Tensor = self.encoder(log_mels(powers), there)
        return embedding.float()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the targets, and their SI-SDRi in dB. Raises SepnetError without queries."""
        if batch.queries is None or batch.query_samples is None:
            raise SepnetError("the mixtures come without queries: set data.mixing.query_seconds=[1.0,3.0]")
        signal, level = unit_level(batch.mixture[:, 0])
        target = batch.sources[:, 0] / level
        embedding = self.embed(batch.queries, batch.query_samples)
        spectrogram = self.masking.stft.spectrogram(signal)  # (batch, bin, frame)
        mask = self(self.masking.mel(spectrogram), embedding)
        shares = self.masking.shares.to(mask)
        estimate = self.masking.stft.invert(to_linear(mask, shares) * spectrogram, signal.shape[-1])
        fit = -thresholded_snr(estimate, target, max_db=self.max_db, mixture=signal).mean()
        losses = {"loss": fit}
        if self.classifier is not None and batch.labels is not None:
            classes = torch.tensor([self.labels_learnt.index(label) for label in batch.labels])
            wrong = F.cross_entropy(self.classifier(embedding), classes.to(embedding.device))
            losses = {"loss": fit + self.lambda_class * wrong, "fit": fit, "wrong_class": wrong}
        with torch.no_grad():
            gains = improvement(si_sdr, estimate, target, signal)
            sounds = ~is_silent(target)
            losses["si_sdri"] = gains[sounds].sum() / sounds.sum().clamp_min(1)
        return losses

    @torch.no_grad()
    def separate(self, mixture: Mixture) -> Separation:
        """What each query is an example of in channel 0; of a single query also the residual.

        Raises CannotSeparate at another sample rate, and for queries that can't be used.
        """
        require_rate(mixture, self.sample_rate, made="the network was")
        queries, signal = (
            checked_examples(mixture, min_seconds=MIN_QUERY_SECONDS, max_seconds=MAX_QUERY_SECONDS),
            mixture.audio[0],
        )
        masks = [self.mask(signal, query.audio) for query in queries]
        parted = [self.masking.part(signal, mask) for mask in masks]
        sources = [part.target for part in parted] + [part.residual for part in parted[: len(queries) == 1]]
        return Separation(torch.stack(sources), example_labels(queries))

    @torch.no_grad()
    def mask(
        self, signal: Float[Tensor, " time"], example: Float[Tensor, " example_time"]
    ) -> Float[Tensor, "frame mel"]:
        """The mask of one mixture for one example, on the device of the mixture."""
        device = next(self.parameters()).device
        embedding = self.embed(example[None].to(device), [len(example)])
        unit, _ = unit_level(signal[None].to(device))
        mask: Tensor = self(self.masking.powers(unit), embedding)[0]
        return mask.to(signal.device)
