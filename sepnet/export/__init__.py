"""Write trained separators as files for other programs: ONNX, and exported programs of PyTorch.

    from sepnet.export import export

    export(sepnet.load("pit-2spk-8k"), "pit.onnx")

A file contains all that ``separate`` does at the model's sample rate: level normalisation, transform,
network, masks, inverse transform and mixture consistency, in real numbers.

build          a separator -> a graph, or the reason why it has none
graphs         the modules that are traced        live_step   the step of a causal model
formats        a graph -> the bytes of a file     onnx_lstm   LSTMs as ONNX's operator
parity         whether a file computes what the separator computes
write          all of this for one file
"""

from __future__ import annotations

from sepnet.export.write import Exported, export

__all__ = ["Exported", "export"]
