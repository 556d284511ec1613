"""The results of a tagger: of windows, of a recording over time, and of a whole clip."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class WindowTags:
    """What a tagger computes for a batch of windows, all in one forward pass.

    Attributes:
        probabilities: (window, class), each class on its own: several may be present.
        embeddings: (window, embedding), the input of the classifier.
        patches: (window, row, column, embedding), one embedding a patch of the spectrogram. Rows are bands,
            low frequencies first; columns are stretches of time.
    """

    probabilities: Float[Tensor, "window class"]
    embeddings: Float[Tensor, "window embedding"]
    patches: Float[Tensor, "window row column embedding"]

    @classmethod
    def concatenate(cls, batches: list[WindowTags]) -> WindowTags:
        """Join the tags of consecutive batches of windows."""
        return cls(*(torch.cat([getattr(batch, field.name) for batch in batches]) for field in fields(cls)))


@dataclass(frozen=True)
class TagTrack:
    """The tags of a recording over time.

    Attributes:
        times: (window, 2), the start and end of each window in seconds.
        tags: The tags of the windows.
    """

    times: Float[Tensor, "window 2"]
    tags: WindowTags


@dataclass(frozen=True)
class ClipTags:
    """The tags of a whole clip, such as a query.

    Attributes:
        probabilities: (class,), the mean over the windows that are not quiet.
        embedding: (embedding,), the same mean of their embeddings.
        label: The most probable class.
    """

    probabilities: Float[Tensor, " class"]
    embedding: Float[Tensor, " embedding"]
    label: str

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return float(self.probabilities.max())
