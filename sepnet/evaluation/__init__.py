"""Score separators on mixtures, and report the scores.

``evaluate`` does both; ``run``, ``examples`` and ``report`` are its stages, each in a module of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sepnet.evaluation.contender import Contender
from sepnet.types import Mixtures

if TYPE_CHECKING:
    from sepnet.evaluation.pipeline import evaluate

__all__ = ["Contender", "Mixtures", "evaluate"]


def __getattr__(name: str) -> Any:
    # Imported at first use: the processes of a run import this package, and need no Matplotlib.
    if name == "evaluate":
        from sepnet.evaluation.pipeline import evaluate

        return evaluate
    raise AttributeError(f"module 'sepnet.evaluation' has no attribute {name!r}")
