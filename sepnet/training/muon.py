"""Muon for the matrices of a network, AdamW for the rest, in one optimizer.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024
(https://kellerjordan.github.io/posts/muon); the size of the steps after J. Liu et al., "Muon is scalable
for LLM training", 2025, eq. 4. torch.optim.Muon takes two-dimensional parameters alone; here the kernel of
a convolution is the matrix (out channels, in channels x taps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sepnet.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, Probability
from sepnet.training.precision import has_fast_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, by Jordan et al.: steepest at zero


class Muon(Optimizer):
    """Steps of orthogonal matrices: the momentum U S V' of a weight becomes U V'.

    Biases, scales, and kernels of one channel in or out (depthwise ones, say) take AdamW's steps (betas,
    eps). lr and weight_decay serve both: a step of Muon is scaled to the RMS that AdamW's has. momentum: of
    Nesterov's kind. n_iterations: of Newton and Schulz.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 1e-2,
        momentum: Probability = 0.95,
        n_iterations: NonNegativeInt = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        every = list(params)
        matrices = [parameter for parameter in every if _is_matrix(parameter)]
        others = [parameter for parameter in every if not _is_matrix(parameter)]
        common = {"lr": lr, "weight_decay": weight_decay}
        groups: list[dict[str, Any]] = [
            {"params": matrices, "momentum": momentum, "n_iterations": n_iterations},
            {"params": others, "betas": betas, "eps": eps},
        ]
        super().__init__([group for group in groups if group["params"]], common)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step along the gradients; ``closure`` computes them, where given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            move = self._orthogonal_step if "momentum" in group else self._adamw_step
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    move(parameter, parameter.grad, group)
        return loss

    def _orthogonal_step(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
        scale = 0.2 * max(update.shape) ** 0.5
        update = orthogonalised(update, n_iterations=group["n_iterations"])
        parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * scale)

    def _adamw_step(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        count = float(state["step"])
        spread = (state["square"] / (1 - second**count)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(state["mean"], spread, value=-group["lr"] / (1 - first**count))


def orthogonalised(
    matrix: Float[Tensor, "row column"], *, n_iterations: int = 5
) -> Float[Tensor, "row column"]:
    """About U V' of the matrix U S V': singular values up to a hundred times apart are brought to 0.7 to 1.2.

    Smaller ones grow by the same factor, some 3.4 to the power of n_iterations. In bfloat16 where that is
    fast, which is as good here.
    """
    a, b, c = COEFFICIENTS
    x = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = x.bfloat16() if has_fast_bfloat16(matrix.device) else x.float()
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(n_iterations):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if matrix.shape[0] > matrix.shape[1] else x).to(matrix)


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and min(parameter.shape[:2]) > 1
