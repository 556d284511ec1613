"""Trained separators as files for other programs: ONNX, and PyTorch's own exported programs.

from sepnet.export import export

export(sepnet.load("pit-2spk-8k"), "pit.onnx")

The file alone does what ``separate`` does at the model's rate: level, transform, network, masks, inverse and
mixture consistency are all in it, in real numbers.
"""

from __future__ import annotations

from sepnet.export.writing import Exported, export

__all__ = ["Exported", "export"]
