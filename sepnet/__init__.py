"""sepnet: train, evaluate and run audio source separation.

import sepnet

separation = sepnet.separate(audio, sample_rate, model="runs/my-run")
event = sepnet.find(audio, sample_rate, (query, sample_rate))
separator = sepnet.load("runs/my-run")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepnet.artifact import load
    from sepnet.artifact.pretrained import Pretrained
    from sepnet.inference.api import find, separate

__version__ = "0.1.0"
__all__ = ["Pretrained", "find", "load", "separate"]


def __getattr__(name: str) -> Any:
    # Imported at first use: `import sepnet.metrics` should not wait for Hydra.
    if name == "load":
        from sepnet.artifact import load

        return load
    if name == "Pretrained":
        from sepnet.artifact.pretrained import Pretrained

        return Pretrained
    if name in ("find", "separate"):
        from sepnet import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'sepnet' has no attribute {name!r}")
