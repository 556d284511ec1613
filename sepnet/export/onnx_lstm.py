"""Write LSTMs as ONNX's operator; otherwise PyTorch would unroll them to the length of the example."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn


class OnnxLSTM(nn.Module):
    """An nn.LSTM without initial state as LSTM operators of ONNX, one for each layer.

    The order of the gates is i, o, f, c in ONNX, and i, f, c, o in PyTorch. The module can only be traced: it
    computes nothing itself.

    Args:
        lstm: An LSTM with biases, without projections.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.n_layers, self.hidden = lstm.num_layers, lstm.hidden_size
        self.n_directions = 2 if lstm.bidirectional else 1
        self.batch_first = lstm.batch_first
        for layer in range(lstm.num_layers):
            directions = [f"l{layer}", f"l{layer}_reverse"][: self.n_directions]
            for name in ("weight_ih", "weight_hh"):
                weights = torch.stack(
                    [_reordered(lstm.get_parameter(f"{name}_{direction}")) for direction in directions]
                )
                self.register_buffer(f"{name}_{layer}", weights)  # (direction, 4 hidden, n_in)
            biases = [
                torch.cat(
                    [_reordered(lstm.get_parameter(f"{name}_{direction}")) for name in ("bias_ih", "bias_hh")]
                )
                for direction in directions
            ]
            self.register_buffer(f"bias_{layer}", torch.stack(biases))  # (direction, 8 hidden)

    def forward(self, x: Float[Tensor, "one other n_in"]) -> tuple[Tensor, None]:
        """Return the outputs of all steps, with the axes of the input, and no final state."""
        states = x.transpose(0, 1) if self.batch_first else x  # (step, batch, n_in)
        steps, batch = states.shape[0], states.shape[1]
        for layer in range(self.n_layers):
            outputs = torch.onnx.ops.symbolic(
                "LSTM",
                (
                    states,
                    self.get_buffer(f"weight_ih_{layer}"),
                    self.get_buffer(f"weight_hh_{layer}"),
                    self.get_buffer(f"bias_{layer}"),
                ),
                {
                    "hidden_size": self.hidden,
                    "direction": "bidirectional" if self.n_directions == 2 else "forward",
                },
                dtype=x.dtype,
                shape=(steps, self.n_directions, batch, self.hidden),
            )
            states = outputs.transpose(1, 2).flatten(2)  # (step, batch, direction x hidden)
        return states.transpose(0, 1) if self.batch_first else states, None


def with_onnx_lstms(module: nn.Module) -> nn.Module:
    """Copy a module with every LSTM replaced by an ``OnnxLSTM``.

    Args:
        module: The module; it is not changed.

    Returns:
        The copy.
    """
    replaced = copy.deepcopy(module)
    for parent in list(replaced.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LSTM) and child.bias and not child.proj_size:
                setattr(parent, name, OnnxLSTM(child))
    return replaced


def _reordered(gates: Tensor) -> Tensor:
    """Reorder (4 hidden, ...) from PyTorch's gates to ONNX's."""
    input_gate, forget, cell, output_gate = gates.detach().chunk(4)
    return torch.cat([input_gate, output_gate, forget, cell])
