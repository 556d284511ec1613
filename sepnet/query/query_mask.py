"""A network that masks everything but the sound of an example (``model=query_mask``).

    example -> log-mel -> encoder -> embedding
    mixture -> log-mel -> network, conditioned by the embedding -> mel mask -> linear mask x mixture

It is trained with triples (example, mixture, target) that are drawn on the fly from recordings of classes, as
in J. Lee et al., "Audio query-based music source separation", ISMIR 2019, and K. Chen et al., "Zero-shot
audio source separation through query-based learning from weakly-labeled data", AAAI 2022; the conditioning is
FiLM, see sepnet.networks.conditioned. The encoder of examples is trained with the network and independent of
any tagger: so the network works with every tagger, and no clip that a tagger was trained with has influenced
it through that tagger. The loss is the negated thresholded SNR of the target
(sepnet.metrics.thresholded_snr), which is defined for a silent target, too.
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
from sepnet.networks.conditioned import ConditionedTCN, ExampleEncoder
from sepnet.query.mel_masking import MelMasking
from sepnet.query.query_audio import MAX_QUERY_SECONDS, MIN_QUERY_SECONDS
from sepnet.ranges import Dropout, LayerSize, NonNegativeFloat, PositiveFloat, SampleRate
from sepnet.separators.checks import require_rate
from sepnet.separators.examples import checked_examples, example_labels
from sepnet.types import Batch, Mixture, Separation, SeparatorInfo, SepnetError

POWER_FLOOR = 1e-5  # is added to the mel powers of a mixture at unit level


def log_mels(powers: Float[Tensor, "batch frame mel"]) -> Float[Tensor, "batch mel frame"]:
    """Compute log-mel features, with mean and spread of about 1, from mel powers of signals at unit level."""
    return (torch.log10(powers + POWER_FLOOR) / 2 + 1).transpose(1, 2)


class QueryMask(nn.Module):
    """An encoder of examples, a network that it conditions, and their loss.

    Args:
        network: Called with (n_in, n_out, n_embedding=...); returns a module from features
            (batch, n_in, frame) and embeddings (batch, n_embedding) to (batch, n_out, frame).
        masking: The transform of masks; None: the default one at ``sample_rate``.
        sample_rate: In Hz.
        n_embedding: Size of the embedding of an example.
        n_encoder: Channels of the encoder.
        dropout: Probability of dropout in the encoder.
        labels: Classes that the embedding is also trained to classify; None: it is not.
        lambda_class: Weight of that classification in the loss.
        max_db: SNR in dB above which the loss hardly improves any more.

    Raises:
        SepnetError: ``masking`` has another sample rate.
    """

    def __init__(
        self,
        *,
        network: Callable[..., nn.Module] = ConditionedTCN,
        masking: MelMasking | None = None,
        sample_rate: SampleRate = 16000,
        n_embedding: LayerSize = 64,
        n_encoder: LayerSize = 128,
        dropout: Dropout = 0.1,
        labels: Sequence[str] | None = None,
        lambda_class: NonNegativeFloat = 1.0,
        max_db: PositiveFloat = 30.0,
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
        self.class_labels = tuple(labels or ())
        self.classifier = nn.Linear(n_embedding, len(self.class_labels)) if labels else None

    @property
    def info(self) -> SeparatorInfo:
        """The description of the separator: it needs an example of each sound."""
        return SeparatorInfo(needs=frozenset({"queries"}), sample_rate=self.sample_rate)

    def forward(
        self,
        spectrogram_power: Float[Tensor, "batch frame mel"],
        embedding: Float[Tensor, "batch n_embedding"],
    ) -> Float[Tensor, "batch frame mel"]:
        """Compute masks.

        Args:
            spectrogram_power: Mel powers of mixtures at unit level, (batch, frame, mel).
            embedding: Of the examples, (batch, n_embedding).

        Returns:
            The masks, (batch, frame, mel) in (0, 1).
        """
        logits: Tensor = self.network(log_mels(spectrogram_power), embedding)
        return logits.float().sigmoid().transpose(1, 2)  # (batch, mel, frame) to (batch, frame, mel)

    def embed(
        self, examples: Float[Tensor, "batch time"], n_samples: Sequence[int]
    ) -> Float[Tensor, "batch n_embedding"]:
        """Embed examples; their level makes no difference.

        Args:
            examples: (batch, time of the longest), filled up with zeros.
            n_samples: Length of each example; the padding has no influence.

        Returns:
            Their embeddings, (batch, n_embedding).
        """
        lengths = torch.tensor(n_samples, device=examples.device)
        level = (examples.square().sum(dim=-1) / lengths).sqrt().clamp_min(1e-8).unsqueeze(-1)
        powers = self.masking.mel_powers(examples / level)  # (batch, frame, mel)
        n_frames = torch.tensor([self.masking.stft.n_frames(n) for n in n_samples], device=examples.device)
        is_frame = torch.arange(powers.shape[1], device=examples.device) < n_frames.unsqueeze(-1)
        embedding: Tensor = self.encoder(log_mels(powers), is_frame)
        return embedding.float()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss of the targets, which are the first sources.

        Args:
            batch: Mixtures with an example of each target.

        Returns:
            ``loss``; the SI-SDR improvement ``si_sdri`` of the targets that are not silent, in dB; with a
            classifier also its cross-entropy ``class`` and the loss ``separation`` without it.

        Raises:
            SepnetError: The batch has no queries.
        """
        if batch.queries is None or batch.query_samples is None:
            raise SepnetError("the mixtures have no queries: set data.mixing.query_seconds=[1.0,3.0]")
        signal, level = unit_level(batch.mixture[:, 0])
        target = batch.sources[:, 0] / level
        embedding = self.embed(batch.queries, batch.query_samples)
        spectrogram = self.masking.stft.spectrogram(signal)  # (batch, bin, frame)
        mask = self(self.masking.mel_powers_of(spectrogram), embedding)
        shares = self.masking.shares.to(mask)
        estimate = self.masking.stft.invert(to_linear(mask, shares) * spectrogram, signal.shape[-1])
        separation = -thresholded_snr(estimate, target, max_db=self.max_db, mixture=signal).mean()
        losses = {"loss": separation}
        if self.classifier is not None and batch.labels is not None:
            classes = torch.tensor([self.class_labels.index(label) for label in batch.labels])
            class_loss = F.cross_entropy(self.classifier(embedding), classes.to(embedding.device))
            total = separation + self.lambda_class * class_loss
            losses = {"loss": total, "separation": separation, "class": class_loss}
        with torch.no_grad():
            gains = improvement(si_sdr, estimate, target, signal)
            audible = ~is_silent(target)
            losses["si_sdri"] = gains[audible].sum() / audible.sum().clamp_min(1)
        return losses

    @torch.no_grad()
    def separate(self, mixture: Mixture) -> Separation:
        """Separate the sound of each query from channel 0; with a single query also the residual.

        Raises:
            CannotSeparate: The mixture has another sample rate, or a query cannot be used.
        """
        require_rate(mixture, self.sample_rate, made="the network was")
        queries = checked_examples(mixture, min_seconds=MIN_QUERY_SECONDS, max_seconds=MAX_QUERY_SECONDS)
        signal = mixture.audio[0]
        masks = [self.mask(signal, query.audio) for query in queries]
        splits = [self.masking.split(signal, mask) for mask in masks]
        sources = [split.target for split in splits]
        if len(queries) == 1:
            sources.append(splits[0].residual)
        return Separation(torch.stack(sources), example_labels(queries))

    @torch.no_grad()
    def mask(
        self, signal: Float[Tensor, " time"], example: Float[Tensor, " example_time"]
    ) -> Float[Tensor, "frame mel"]:
        """Compute the mask of one mixture for one example.

        Args:
            signal: The mixture, (time,); its level makes no difference.
            example: (time,), at the same sample rate.

        Returns:
            The mask, (frame, mel) in (0, 1), on the device of the mixture.
        """
        device = next(self.parameters()).device
        embedding = self.embed(example[None].to(device), [len(example)])
        unit, _ = unit_level(signal[None].to(device))
        mask: Tensor = self(self.masking.mel_powers(unit), embedding)[0]
        return mask.to(signal.device)
