"""The cost of separating one mixture: multiply-accumulates, and seconds on two threads.

torch.utils.flop_counter counts the multiply-accumulates (MACs) while the method runs, so restarts,
iterations, and the forward and backward passes of an optimisation at test time are included. It counts matrix
products, convolutions and recurrent layers of PyTorch. It does not count Fourier transforms, factorisations,
solutions of linear systems, elementwise arithmetic, and other libraries (NumPy, SciPy). A complex MAC counts
as one.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from sepnet.types import Mixture, SeparationWarning, Separator, visible_hints

THREADS = 2
COST_MIXTURES = 3  # of a test set; each is separated three times: to count, to time, and to score


@dataclass(frozen=True)
class Cost:
    """The cost of separating one mixture.

    Attributes:
        macs_per_second: Multiply-accumulates for a second of audio; None: unknown.
        two_thread_seconds: Wall time on two threads; None: unknown.
    """

    macs_per_second: float | None = None
    two_thread_seconds: float | None = None


def visible_copy(separator: Separator, mixture: Mixture) -> Mixture:
    """Copy the part of a mixture that a separator may see, so that it cannot change the signals of others.

    Args:
        separator: The separator that is evaluated.
        mixture: The mixture with every hint that the test set has.

    Returns:
        The mixture with the hints that the separator declares.

    Raises:
        CannotSeparate: The mixture lacks a hint.
    """
    visible = visible_hints(separator, mixture)
    references = None if visible.references is None else visible.references.clone()
    return replace(visible, audio=visible.audio.clone(), references=references)


def measure(separator: Separator, mixture: Mixture) -> Cost:
    """Measure the cost of separating a mixture, in this process and with its number of threads.

    Args:
        separator: The separator that is evaluated.
        mixture: The mixture with every hint that the test set has.

    Returns:
        The cost; unknown if separating fails.
    """
    macs = _or_none(lambda visible: count_macs(lambda: separator.separate(visible)), separator, mixture)
    # Timed after the first call, which has made what is only made once.
    seconds = _or_none(lambda visible: _seconds(lambda: separator.separate(visible)), separator, mixture)
    return Cost(None if macs is None else macs * mixture.sample_rate / mixture.audio.shape[-1], seconds)


def _or_none(measured: Callable[[Mixture], float], separator: Separator, mixture: Mixture) -> float | None:
    """A measurement; None if separating fails, for which scoring will give the reason."""
    try:
        with warnings.catch_warnings(action="ignore", category=SeparationWarning):
            return measured(visible_copy(separator, mixture))
    except Exception:
        return None


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def count_macs(call: Callable[[], object]) -> float:
    """Count the multiply-accumulates of a call; the module's docstring says which are counted."""
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        call()
    return float(counter.get_total_flops()) / 2  # a MAC is two operations


def _vector_product_flops(first: torch.Size, second: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of dot(first, second) and mv(first, second): each number of ``first`` is multiplied once."""
    return 2 * math.prod(first)


def _addmv_flops(start: torch.Size, first: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of addmv(start, first, second)."""
    return 2 * math.prod(first)


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    """Both products of an attention."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _recurrent_flops(
    sequence: torch.Size, from_input: torch.Size, from_state: torch.Size, *_: Any, **__: Any
) -> int:
    """One direction of a layer: both matrices (gate * hidden, ...) once for each step of each sequence."""
    steps = sequence[0] * sequence[1]
    return 2 * steps * (math.prod(from_input) + math.prod(from_state))


def _recurrent_backward_flops(*shapes: Any, **named: Any) -> int:
    """The gradients of the input and of the weights each take as many products as the forward pass."""
    return 2 * _recurrent_flops(*shapes, **named)


_FORMULAS: dict[Any, Any] = {
    torch.ops.aten.dot: _vector_product_flops,
    torch.ops.aten.vdot: _vector_product_flops,
    torch.ops.aten.mv: _vector_product_flops,
    torch.ops.aten.addmv: _addmv_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops,  # what nn.LSTM is on a CPU
    torch.ops.aten.mkldnn_rnn_layer_backward: _recurrent_backward_flops,
}
