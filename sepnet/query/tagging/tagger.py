"""A tagger of sounds: an Audio Spectrogram Transformer (``model=ast_tagger``).

Y. Gong, Y.-A. Chung, J. Glass, "AST: audio spectrogram transformer", Interspeech 2021. Log-mel features are
cut into patches, each of which is a token with a position in (frequency, time); two more tokens collect the
input of the classifier.

A window is processed at its own length. The network has learnt position embeddings for a grid as long as its
training sounds (12 x 101 for 10.24 s); a shorter window uses the middle columns of that grid. The two other
ways fail silently: ``max_length`` given to ``from_pretrained`` replaces the learnt positions by new ones, and
a second that is padded to ten becomes a window of which nine tenths are a constant sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from sepnet.dsp.kaldi_fbank import SAMPLE_RATE, kaldi_fbank, min_samples_of, n_frames
from sepnet.paths import local_run_folder
from sepnet.query.query_audio import MAX_QUERY_SECONDS, MIN_QUERY_SECONDS
from sepnet.query.tagging.ast_network import AstNetwork, middle_positions, new_ast
from sepnet.query.tagging.augmentation import Augmentation
from sepnet.query.tagging.pretrained import read_public_tagger, read_sepnet_tagger
from sepnet.query.tagging.tags import ClipTags, TagTrack, WindowTags
from sepnet.query.windowing import end_aligned_windows
from sepnet.ranges import Decibels, Depth, Dropout, LayerSize, PositiveInt, SampleRate
from sepnet.types import Batch, Mixture, SepnetError

POSITIONS = "embeddings.position_embeddings"
SILENT_RMS = 1e-6
QUIET_WINDOW_RATIO = 10 ** (-30 / 20)  # of the loudest window's RMS; quieter windows are left out of a clip
WINDOWS_PER_BATCH = 32  # in one forward pass over a recording


class Tagger(nn.Module):
    """An AST with its features. It is not a separator; query by example uses it to find sounds.

    Args:
        pretrained: A network of transformers, by its name on the hub or its folder; or one that sepnet has
            trained, by the name of shipped weights or its run folder. None for a new network.
        labels: The classes of a new network.
        sample_rate: In Hz; a tagger works at 16 kHz only.
        n_mels: Mel bands of the features of a new network; their frames are 10 ms apart.
        patch: Side of a patch, in bands and in frames.
        frequency_stride: Distance between two patches, in bands.
        time_stride: Distance between two patches, in frames.
        hidden: Size of the embeddings.
        n_layers: Transformer layers.
        n_heads: Attention heads of each layer.
        dropout: Probability of dropout in training.
        max_seconds: Length of the longest window of a new network.
        augmentation: The augmentation of training examples; None for the default one.
        audible_dbfs: The RMS level at which a source counts as present in training, in dB of full scale.

    Raises:
        SepnetError: The pretrained network cannot be read, or the sizes do not fit together.

    Example:
        >>> tagger = Tagger(pretrained="ast-tagger-esc10")
        >>> tagger.tag_clip(torch.randn(16000)).label in tagger.labels
        True
    """

    score_name: ClassVar[str] = "accuracy"

    def __init__(
        self,
        *,
        pretrained: str | None = None,
        labels: Sequence[str] | None = None,
        sample_rate: SampleRate = SAMPLE_RATE,
        n_mels: LayerSize = 64,
        patch: PositiveInt = 16,
        frequency_stride: int = 16,
        time_stride: int = 16,
        hidden: int = 144,
        n_layers: Depth = 4,
        n_heads: LayerSize = 4,
        dropout: Dropout = 0.0,
        max_seconds: float = 1.0,
        augmentation: Augmentation | None = None,
        audible_dbfs: Decibels = -50.0,
    ) -> None:
        super().__init__()
        self.network: Any
        self.labels: tuple[str, ...]
        self.n_mels: int
        if sample_rate != SAMPLE_RATE:
            raise SepnetError(
                f"sample_rate={sample_rate}: a tagger works at {SAMPLE_RATE} Hz only, so resample the sounds"
            )
        self.sample_rate, self.audible_dbfs = sample_rate, audible_dbfs
        self.augmentation = augmentation or Augmentation()
        weights: dict[str, Tensor] | None = None
        if pretrained is None:
            ast = new_ast(
                tuple(labels or ()), n_mels=n_mels, patch=patch, frequency_stride=frequency_stride,
                time_stride=time_stride, hidden=hidden, n_layers=n_layers, n_heads=n_heads, dropout=dropout,
                max_frames=n_frames(round(max_seconds * sample_rate)),
            )  # fmt: skip
        elif labels is not None:
            raise SepnetError(f"{pretrained!r} has classes of its own: leave out labels")
        elif folder := local_run_folder(pretrained):
            arguments, weights = read_sepnet_tagger(folder)
            new: Tagger = Tagger(**{**arguments, "augmentation": None})
            ast = AstNetwork(new.network, new.labels, new.n_mels)
        else:
            ast = read_public_tagger(pretrained)
        self.network, self.labels, self.n_mels = ast.network, ast.labels, ast.n_mels
        self.mean_log_power, self.std_log_power = ast.mean, ast.std
        if weights is not None:
            _load_weights(self, weights, str(pretrained))

    @property
    def min_samples(self) -> int:
        """The number of samples of the shortest window, which is one patch long."""
        return min_samples_of(self.network.config.patch_size)

    @property
    def max_seconds(self) -> float:
        """The length in seconds of the longest window for which the network has positions."""
        # The last frame is 15 ms longer than a hop.
        return float(self.network.config.max_length * 10 + 15) / 1000

    def class_index(self, label: str | None) -> int | None:
        """Return the index of a class by its name; None if the tagger does not know it."""
        return self.labels.index(label) if label in self.labels else None

    def features(self, windows: Float[Tensor, "window sample"]) -> Float[Tensor, "window frame mel"]:
        """Compute normalised log-mel features, (x - mean) / (2 std), in full precision."""
        with torch.autocast(windows.device.type, enabled=False):
            log_powers = kaldi_fbank(windows, n_mels=self.n_mels)
        return (log_powers - self.mean_log_power) / (2 * self.std_log_power)

    def tag_windows(self, windows: Float[Tensor, "window sample"]) -> WindowTags:
        """Tag windows of one length; the result is differentiable with respect to them.

        Args:
            windows: (window, sample) at 16 kHz.

        Returns:
            Their tags, in float32.

        Raises:
            SepnetError: The windows are shorter than a patch, or longer than the network has positions for.
        """
        logits, embeddings, patches = self._forward(self.features(windows))
        return WindowTags(logits.float().sigmoid(), embeddings.float(), patches.float())

    @torch.no_grad()
    def tag_track(
        self, signal: Float[Tensor, " time"], *, window_seconds: float = 1.0, hop_seconds: float = 0.5
    ) -> TagTrack:
        """Tag a recording over time.

        Args:
            signal: (time,) at 16 kHz, of any length. One that is shorter than a window is tagged as one
                window, and repeated where it is shorter than a patch.
            window_seconds: Length of the windows.
            hop_seconds: Distance between their starts; the last window ends with the recording.

        Returns:
            The tags of each window, with its times.

        Raises:
            SepnetError: As ``tag_windows``.
        """
        windows, starts = end_aligned_windows(
            signal, round(window_seconds * self.sample_rate), round(hop_seconds * self.sample_rate)
        )
        length = windows.shape[-1]
        windows = self.repeat_to_min_samples(windows)
        tags = [self.tag_windows(batch) for batch in torch.split(windows, WINDOWS_PER_BATCH)]
        times = torch.stack([starts, starts + length], dim=1) / self.sample_rate
        return TagTrack(times, WindowTags.concatenate(tags))

    @torch.no_grad()
    def tag_clip(self, clip: Float[Tensor, " time"], *, window_seconds: float = 1.0) -> ClipTags:
        """Tag a whole clip: the mean over its windows, except those 30 dB quieter than the loudest.

        Args:
            clip: (time,) at 16 kHz, 0.1 to 30 s long.
            window_seconds: Length of the windows, which overlap by half.

        Returns:
            Its class probabilities, its embedding, and its most probable class.

        Raises:
            SepnetError: The clip is shorter, longer or silent.
        """
        seconds = len(clip) / self.sample_rate
        if not MIN_QUERY_SECONDS <= seconds <= MAX_QUERY_SECONDS:
            raise SepnetError(
                f"the query is {seconds:.2f} s long, but has to be {MIN_QUERY_SECONDS:g} to "
                f"{MAX_QUERY_SECONDS:g} s long: cut an example of this length"
            )
        if float(clip.square().mean().sqrt()) < SILENT_RMS:
            raise SepnetError("the query is silent: give an example that contains the sound")
        track = self.tag_track(clip, window_seconds=window_seconds, hop_seconds=window_seconds / 2)
        spans = (track.times * self.sample_rate).round().long().tolist()
        rms = torch.stack([clip[start:end].square().mean().sqrt() for start, end in spans])
        loud = rms >= QUIET_WINDOW_RATIO * rms.max()
        probabilities = track.tags.probabilities[loud].mean(dim=0)
        return ClipTags(
            probabilities, track.tags.embeddings[loud].mean(dim=0), self.labels[int(probabilities.argmax())]
        )

    def repeat_to_min_samples(
        self, windows: Float[Tensor, "window sample"]
    ) -> Float[Tensor, "window min_sample"]:
        """Repeat windows that are shorter than a patch until they are as long as one."""
        length = windows.shape[-1]
        if length >= self.min_samples:
            return windows
        return windows.repeat(1, -(-self.min_samples // length))[:, : self.min_samples]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the binary cross-entropy of each class.

        Args:
            batch: Mixtures with one source for each class, in the order of ``labels``; a source below
                ``audible_dbfs`` is absent. In training mode, windows and features are augmented.

        Returns:
            ``loss``, a scalar.
        """
        windows, targets = batch.mixture[:, 0], audible_sources(batch.sources, self.audible_dbfs)
        if self.training:
            windows, targets = self.augmentation.augment_windows(windows, targets)
        features = self.features(windows)
        if self.training:
            features = self.augmentation.augment_features(features, log_power_unit=2 * self.std_log_power)
        logits = self._forward(features)[0].float()
        return {"loss": functional.binary_cross_entropy_with_logits(logits, targets)}

    def score(self, mixture: Mixture) -> Tensor | None:
        """Score a mixture of one sound: 1 if its class is the most probable one, else 0.

        Args:
            mixture: A mixture with labels.

        Returns:
            The score; None for several sounds, and for a class that the tagger does not know.
        """
        label = mixture.labels[0] if mixture.labels and len(mixture.labels) == 1 else None
        index = self.class_index(label)
        if index is None:
            return None
        device = next(self.parameters()).device
        tags = self.tag_clip(mixture.audio[0].to(device))
        return (tags.probabilities.argmax() == index).float()

    def _forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (window, class), embeddings (window, embedding), and patches as in ``WindowTags``."""
        transformer, config = self.network.audio_spectrogram_transformer, self.network.config
        n_columns = (features.shape[1] - config.patch_size) // config.time_stride + 1
        n_rows, max_columns = transformer.embeddings.get_shape(config)
        if not 1 <= n_columns <= max_columns:
            raise SepnetError(
                f"a window has {features.shape[1]} frames of 10 ms, but the tagger takes {config.patch_size} "
                f"to {config.max_length}: change window_seconds"
            )
        positions = middle_positions(
            transformer.embeddings.position_embeddings, n_rows=n_rows, n_columns=n_columns
        )
        output = functional_call(transformer, {POSITIONS: positions}, (features,))
        tokens: Tensor = output.last_hidden_state  # (window, 2 + token, embedding)
        patches = tokens[:, 2:].reshape(len(tokens), n_rows, n_columns, -1)
        return self.network.classifier(output.pooler_output), output.pooler_output, patches


def audible_sources(
    sources: Float[Tensor, "batch source time"], min_level_dbfs: float
) -> Float[Tensor, "batch source"]:
    """Tell which sources are audible: 1 if the RMS level is at least ``min_level_dbfs``, else 0."""
    rms = sources.square().mean(dim=-1).sqrt()
    return (rms >= 10 ** (min_level_dbfs / 20)).to(sources)


def _load_weights(tagger: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    try:
        tagger.load_state_dict(weights)
    except RuntimeError as error:
        raise SepnetError(
            f"{name} holds weights of another architecture than its configuration describes "
            f"({' '.join(str(error).split())[:160]}): copy it again"
        ) from error
