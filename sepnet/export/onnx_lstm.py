"""LSTMs as ONNX's own operator: traced as they are, PyTorch unrolls them to the length of the example."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn


class OnnxLSTM(nn.Module):
    """What an nn.LSTM computes from no state, as operators LSTM of ONNX, one a layer.

    Gates are in the order i, o, f, c there, and i, f, c, o in PyTorch. Only to be traced: it computes
    nothing itself.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.n_layers, self.hidden = lstm.num_layers, lstm.hidden_size
        self.n_directions = 2 if lstm.bidirectional else 1
        self.batch_first = lstm.batch_first
        for layer in range(lstm.num_layers):
            ways = [f"l{layer}", f"l{layer}_reverse"][: self.n_directions]
            for name in ("weight_ih", "weight_hh"):
                weights = torch.stack([_reordered(getattr(lstm, f"{name}_{way}")) for way in ways])
                self.register_buffer(f"{name}_{layer}", weights)  # (direction, 4 hidden, n_in)
            biases = [
                torch.cat([_reordered(getattr(lstm, f"{name}_{way}")) for name in ("bias_ih", "bias_hh")])
                for way in ways
            ]
            self.register_buffer(f"bias_{layer}", torch.stack(biases))  # (direction, 8 hidden)

    def forward(self, x: Float[Tensor, "one other n_in"]) -> tuple[Tensor, None]:
        """The states of all steps, in the axes of the input; the last state is not given."""
        states = x.transpose(0, 1) if self.batch_first else x  # (step, batch, n_in)
        steps, batch = states.shape[0], states.shape[1]
        for layer in range(self.n_layers):
            found = torch.onnx.ops.symbolic(
                "LSTM",
                (
                    states,
                    getattr(self, f"weight_ih_{layer}"),
                    getattr(self, f"weight_hh_{layer}"),
                    getattr(self, f"bias_{layer}"),
                ),
                {
                    "hidden_size": self.hidden,
                    "direction": "bidirectional" if self.n_directions == 2 else "forward",
                },
                dtype=x.dtype,
                shape=(steps, self.n_directions, batch, self.hidden),
            )
            states = found.transpose(1, 2).flatten(2)  # (step, batch, direction x hidden)
        return states.transpose(0, 1) if self.batch_first else states, None


def with_onnx_lstms(module: nn.Module) -> nn.Module:
    """A copy in which every LSTM is ONNX's."""
    replaced = copy.deepcopy(module)
    for parent in list(replaced.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LSTM) and child.bias and not child.proj_size:
                setattr(parent, name, OnnxLSTM(child))
    return replaced


def _reordered(gates: Tensor) -> Tensor:
    """(4 hidden, ...) from PyTorch's order to ONNX's."""
    into, forget, cell, out = gates.detach().chunk(4)
    return torch.cat([into, out, forget, cell])
