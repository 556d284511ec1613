"""What separating one mixture costs: multiply-accumulates, and seconds on two threads.

Multiply-accumulates (MACs) are counted by torch.utils.flop_counter while the method works, so whatever it
does counts: restarts, iterations, and the forward and the backward passes of an optimisation at test time.
Counted are matrix products, convolutions and recurrent layers of PyTorch. Not counted are Fourier transforms,
factorisations and solutions of systems, elementwise arithmetic, and what other libraries (NumPy, SciPy)
compute. A complex MAC counts as one.
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
COSTED = 3  # mixtures of a set that are separated three times: to count, to time, and to score


@dataclass(frozen=True)
class Cost:
    """Of one mixture: MACs for a second of its audio, seconds of compute on two threads; None: unknown."""

    macs_per_second: float | None = None
    two_thread_seconds: float | None = None


def given_to(separator: Separator, mixture: Mixture) -> Mixture:
    """What a separator is shown: the hints that it declares, and copies, so that it changes nobody's signals.

    Raises CannotSeparate where the mixture lacks a hint.
    """
    given = visible_hints(separator, mixture)
    references = None if given.references is None else given.references.clone()
    return replace(given, audio=given.audio.clone(), references=references)


def measure(separator: Separator, mixture: Mixture) -> Cost:
    """The cost of a mixture in this process, with the threads that it has; unknown where separating fails."""
    macs = _or_none(lambda given: count_macs(lambda: separator.separate(given)), separator, mixture)
    seconds = _or_none(lambda given: _seconds(lambda: separator.separate(given)), separator, mixture)  # warm
    return Cost(None if macs is None else macs * mixture.sample_rate / mixture.audio.shape[-1], seconds)


def _or_none(take: Callable[[Mixture], float], separator: Separator, mixture: Mixture) -> float | None:
    """A measure of what the separator does with the mixture; scoring will say why where it does not."""
    try:
        with warnings.catch_warnings(action="ignore", category=SeparationWarning):
            return take(given_to(separator, mixture))
    except Exception:
        return None


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def count_macs(call: Callable[[], object]) -> float:
    """The multiply-accumulates of what ``call`` does; see the module's docstring for what counts."""
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        call()
    return float(counter.get_total_flops()) / 2  # a MAC is two operations


def _inner(first: torch.Size, second: torch.Size, *_: Any, **__: Any) -> int:
    """Of dot(first, second) and mv(first, second): each number of ``first`` is multiplied once."""
    return 2 * math.prod(first)


def _added(start: torch.Size, first: torch.Size, *_: Any, **__: Any) -> int:
    """Of addmv(start, first, second)."""
    return 2 * math.prod(first)


def _recurrent(
    sequence: torch.Size, from_input: torch.Size, from_state: torch.Size, *_: Any, **__: Any
) -> int:
    """One direction of one layer: both matrices (gate * hidden, ...) once for each step of each sequence."""
    steps = sequence[0] * sequence[1]
    return 2 * steps * (math.prod(from_input) + math.prod(from_state))


def _recurrent_backward(*shapes: Any, **named: Any) -> int:
    """Gradients of the input and of the weights: as many products as forwards, each."""
    return 2 * _recurrent(*shapes, **named)


_FORMULAS: dict[Any, Any] = {
    torch.ops.aten.dot: _inner,
    torch.ops.aten.vdot: _inner,
    torch.ops.aten.mv: _inner,
    torch.ops.aten.addmv: _added,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop_count,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,  # what nn.LSTM is on a CPU
    torch.ops.aten.mkldnn_rnn_layer_backward: _recurrent_backward,
}
