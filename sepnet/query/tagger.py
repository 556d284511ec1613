"""Says what is heard in a window of sound: an Audio Spectrogram Transformer (``model=ast_tagger``).

Y. Gong, Y.-A. Chung, J. Glass, "AST: audio spectrogram transformer", Interspeech 2021. Log-mel features are
cut into patches, each a token at a place in (frequency, time); two more tokens gather what the classifier
reads.

A window goes through at its own length. The network has learnt where a token is from a grid of positions as
long as its training sounds (12 x 101 for 10.24 s), and a shorter window is given the middle columns of that
grid. The two other ways fail without a word: ``max_length`` given to ``from_pretrained`` puts new positions
in the place of the learnt ones, and a second padded to ten becomes a window that is nine tenths a constant
sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from sepnet.dsp.kaldi_fbank import SAMPLE_RATE, kaldi_fbank, n_frames, n_samples
from sepnet.query.augment import Augment
from sepnet.query.body import MEAN, STD, Body, middle, new_body
from sepnet.query.pretrained import own_folder, read_own, read_public
from sepnet.query.queries import MAX_QUERY_SECONDS, MIN_QUERY_SECONDS
from sepnet.types import Batch, Mixture, SepnetError

POSITIONS = "embeddings.position_embeddings"
SILENT_RMS = 1e-6
QUIET = 10 ** (-30 / 20)  # windows that much below the loudest say nothing of a whole sound
AT_ONCE = 32  # windows in one forward pass of a track


@dataclass(frozen=True)
class Tags:
    """What a tagger makes of windows, all from one pass.

    probabilities: (batch, class), each class for itself. embeddings: (batch, dim), what the classifier reads.
    patches: (batch, frequency, time, dim), low frequencies first.
    """

    probabilities: Tensor
    embeddings: Tensor
    patches: Tensor


@dataclass(frozen=True)
class Track:
    """Tags of a sound's windows; times: (window, 2), where each begins and ends, in seconds."""

    times: Tensor
    tags: Tags


@dataclass(frozen=True)
class Heard:
    """A whole sound: probabilities (class,), embedding (dim,), and the likeliest class."""

    probabilities: Tensor
    embedding: Tensor
    label: str


class Tagger(nn.Module):
    """An AST and its features, from the config.

    pretrained: a network of transformers by its name on the hub or its folder, or one that sepnet has
    trained, by the name of shipped weights or its folder. Else a new one is made. labels: its classes.
    n_mels, patch, frequency_stride, time_stride: its features (bands and frames of 10 ms) and how patches are
    cut from them. hidden, n_layers, n_heads, dropout: its size. longest_seconds: of the windows that it has
    positions for. augment: of the training examples. audible_dbfs: the RMS above which a source counts as
    heard in training.

    Raises SepnetError for what is not to be had (see ``pretrained``) and for sizes that don't fit.
    """

    score_name: ClassVar[str] = "accuracy"

    def __init__(
        self,
        *,
        pretrained: str | None = None,
        labels: Sequence[str] | None = None,
        sample_rate: int = SAMPLE_RATE,
        n_mels: int = 64,
        patch: int = 16,
        frequency_stride: int = 16,
        time_stride: int = 8,
        hidden: int = 192,
        n_layers: int = 6,
        n_heads: int = 4,
        dropout: float = 0.1,
        longest_seconds: float = 1.0,
        augment: Augment | None = None,
        audible_dbfs: float = -50.0,
    ) -> None:
        super().__init__()
        self.network: Any
        self.labels: tuple[str, ...]
        self.n_mels: int
        if sample_rate != SAMPLE_RATE:
            raise SepnetError(
                f"a tagger hears {SAMPLE_RATE} Hz, not sample_rate={sample_rate}: resample the sounds"
            )
        self.sample_rate, self.augment, self.audible_dbfs = sample_rate, augment or Augment(), audible_dbfs
        weights: dict[str, Tensor] | None = None
        if pretrained is None:
            body = new_body(
                tuple(labels or ()), n_mels=n_mels, patch=patch, frequency_stride=frequency_stride,
                time_stride=time_stride, hidden=hidden, n_layers=n_layers, n_heads=n_heads, dropout=dropout,
                frames=n_frames(round(longest_seconds * sample_rate)),
            )  # fmt: skip
        elif labels is not None:
            raise SepnetError(f"{pretrained!r} has classes of its own: leave out labels")
        elif folder := own_folder(pretrained):
            arguments, weights = read_own(folder)
            described: Tagger = Tagger(**{**arguments, "augment": None})
            body = Body(described.network, described.labels, described.n_mels, MEAN, STD)
        else:
            body = read_public(pretrained)
        self.network, self.labels, self.n_mels = body.network, body.labels, body.n_mels
        self.mean_log_power, self.std_log_power = body.mean, body.std
        if weights is not None:
            _fill(self, weights, str(pretrained))

    @property
    def dim(self) -> int:
        """Of embeddings and patches."""
        return int(self.network.config.hidden_size)

    @property
    def shortest_samples(self) -> int:
        """Samples that one patch needs."""
        return n_samples(self.network.config.patch_size)

    @property
    def longest_seconds(self) -> float:
        """Of the windows that the network has positions for."""
        return (
            float(self.network.config.max_length * 10 + 15) / 1000
        )  # the last frame is 15 ms longer than a hop

    def index(self, label: str | None) -> int | None:
        """Which of the classes has this name; None for one that it does not know."""
        return self.labels.index(label) if label in self.labels else None

    def features(self, windows: Float[Tensor, "batch time"]) -> Float[Tensor, "batch frame mel"]:
        """Normalised log-mel features, (x - mean) / (2 std), computed in full precision."""
        with torch.autocast(windows.device.type, enabled=False):
            log_powers = kaldi_fbank(windows, n_mels=self.n_mels)
        return (log_powers - self.mean_log_power) / (2 * self.std_log_power)

    def tags(self, windows: Float[Tensor, "batch time"]) -> Tags:
        """Of windows at 16 kHz, all of one length; differentiable with respect to them.

        Raises SepnetError for windows shorter than a patch, or longer than the network has positions for.
        """
        logits, embeddings, tokens = self._forward(self.features(windows))
        return Tags(logits.float().sigmoid(), embeddings.float(), tokens.float())

    @torch.no_grad()
    def track(
        self, audio: Float[Tensor, " time"], *, window_seconds: float = 1.0, hop_seconds: float = 0.5
    ) -> Track:
        """Tags along a sound at 16 kHz of any length; the last window ends with the sound.

        A sound shorter than a window is one window, and repeated where it is shorter than a patch.
        """
        windows, starts = cut(
            audio, round(window_seconds * self.sample_rate), round(hop_seconds * self.sample_rate)
        )
        length = windows.shape[-1]
        if length < self.shortest_samples:
            windows = windows.repeat(1, -(-self.shortest_samples // length))[:, : self.shortest_samples]
        parts = [self.tags(chunk) for chunk in torch.split(windows, AT_ONCE)]
        tags = Tags(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Tags)))
        times = torch.stack([starts, starts + length], dim=1) / self.sample_rate
        return Track(times, tags)

    @torch.no_grad()
    def hear(self, audio: Float[Tensor, " time"], *, window_seconds: float = 1.0) -> Heard:
        """A whole sound of 0.1 to 30 s at 16 kHz, a query: the mean over its windows, quiet ones left out.

        Raises SepnetError for a sound that is shorter, longer or silent.
        """
        seconds = len(audio) / self.sample_rate
        if not MIN_QUERY_SECONDS <= seconds <= MAX_QUERY_SECONDS:
            raise SepnetError(
                f"the query is {seconds:.2f} s long: "
                f"give {MIN_QUERY_SECONDS:g} to {MAX_QUERY_SECONDS:g} s of it"
            )
        if float(audio.square().mean().sqrt()) < SILENT_RMS:
            raise SepnetError("the query is silent: give an example in which the sound is heard")
        track = self.track(audio, window_seconds=window_seconds, hop_seconds=window_seconds / 2)
        spans = (track.times * self.sample_rate).round().long().tolist()
        rms = torch.stack([audio[start:end].square().mean().sqrt() for start, end in spans])
        loud = rms >= QUIET * rms.max()
        probabilities = track.tags.probabilities[loud].mean(dim=0)
        return Heard(
            probabilities, track.tags.embeddings[loud].mean(dim=0), self.labels[int(probabilities.argmax())]
        )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Binary cross-entropy of each class in mixtures whose sources stand in the order of the labels.

        What is silent in a mixture is absent. ``loss`` is of the augmented mixtures in training.
        """
        windows, targets = batch.mixture[:, 0], audible(batch.sources, self.audible_dbfs)
        if self.training:
            windows, targets = self.augment.sounds(windows, targets)
        features = self.features(windows)
        if self.training:
            features = self.augment.features(features, unit=2 * self.std_log_power)
        logits = self._forward(features)[0].float()
        return {"loss": functional.binary_cross_entropy_with_logits(logits, targets)}

    def score(self, mixture: Mixture) -> Tensor | None:
        """1 where the likeliest class of a mixture of one sound is its own, else 0; None for others."""
        known = self.index(mixture.labels[0]) if mixture.labels and len(mixture.labels) == 1 else None
        if known is None:
            return None
        device = next(self.parameters()).device
        heard = self.hear(mixture.audio[0].to(device))
        return (heard.probabilities.argmax() == known).float()

    def _forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (batch, class), embeddings (batch, dim) and patches (batch, frequency, time, dim)."""
        body, config = self.network.audio_spectrogram_transformer, self.network.config
        n_columns = (features.shape[1] - config.patch_size) // config.time_stride + 1
        n_rows, most = body.embeddings.get_shape(config)
        if not 1 <= n_columns <= most:
            raise SepnetError(
                f"a window of {features.shape[1]} frames of 10 ms is not one of {config.patch_size} to "
                f"{config.max_length}, which the tagger has positions for: change window_seconds"
            )
        positions = middle(body.embeddings.position_embeddings, n_rows=n_rows, n_columns=n_columns)
        output = functional_call(body, {POSITIONS: positions}, (features,))
        tokens: Tensor = output.last_hidden_state  # (batch, 2 and token, dim)
        patches = tokens[:, 2:].reshape(len(tokens), n_rows, n_columns, -1)  # (batch, frequency, time, dim)
        return self.network.classifier(output.pooler_output), output.pooler_output, patches


def cut(
    audio: Float[Tensor, " time"], window_samples: int, hop_samples: int
) -> tuple[Float[Tensor, "window sample"], Tensor]:
    """Windows of a sound, and the samples that they start at; the last ends with the sound.

    A sound shorter than a window is one window. Raises SepnetError where either length is not positive.
    """
    if min(window_samples, hop_samples) < 1 or len(audio) < 1:
        raise SepnetError(
            f"{len(audio)} samples in windows of {window_samples} every {hop_samples}: give 1 or more each"
        )
    if len(audio) <= window_samples:
        return audio[None], torch.zeros(1)
    last = len(audio) - window_samples
    starts = torch.arange(0, last + 1, hop_samples)
    if int(starts[-1]) != last:
        starts = torch.cat([starts, torch.tensor([last])])
    place = starts[:, None] + torch.arange(window_samples)
    return audio[place.to(audio.device)], starts.float()


def audible(sources: Float[Tensor, "batch source time"], level_dbfs: float) -> Float[Tensor, "batch source"]:
    """1 for each source whose RMS is at least so high, 0 for the others."""
    rms = sources.square().mean(dim=-1).sqrt()
    return (rms >= 10 ** (level_dbfs / 20)).to(sources)


def _fill(tagger: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Raises SepnetError for weights of another architecture."""
    try:
        tagger.load_state_dict(weights)
    except RuntimeError as error:
        raise SepnetError(
            f"{name} holds weights of another architecture than its configuration describes "
            f"({' '.join(str(error).split())[:160]}): copy it again"
        ) from error
