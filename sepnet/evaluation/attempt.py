"""Load a separator and separate one mixture: estimates in the order of the references, or a reason."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from sepnet.evaluation.contender import Contender, LoadError
from sepnet.evaluation.cost import visible_copy
from sepnet.evaluation.memory import forget_peak, resident_mb
from sepnet.evaluation.rows import Role, Status
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.metrics import align, represents_all
from sepnet.separators.identity import Identity
from sepnet.types import CannotSeparate, Mixture, SeparationWarning, Separator, SepnetError

MAX_REASON_LENGTH = 300


@dataclass(frozen=True)
class LoadedContender:
    """A contender in memory.

    Attributes:
        pipeline: The pipeline around its separator.
        role: Whether it is a floor, a method or a ceiling.
        parameters: The number of parameters of its networks.
        loading_mb: The peak of the resident memory while it was loaded, above the memory before, in MiB.
        held_mb: The resident memory after loading, above the memory before, in MiB.
    """

    pipeline: Pipeline
    role: Role
    parameters: int
    loading_mb: float
    held_mb: float


@dataclass(frozen=True)
class Attempt:
    """The outcome of separating one mixture.

    Attributes:
        status: Of all sources of the mixture.
        reason: Why there are no estimates, or with which warnings they were made.
        estimates: (source, time), in the order of the references; None if there are none.
        order: For each reference, the index of the separator's output.
        compute_seconds: Processor time; on a GPU, wall time.
        peak_memory_mb: Peak of the resident memory while loading and separating, above that before, in MiB.
    """

    status: Status
    reason: str = ""
    estimates: Float[Tensor, "source time"] | None = None
    order: tuple[int, ...] = ()
    compute_seconds: float | None = None
    peak_memory_mb: float | None = None


def load_contender(contender: Contender, settings: PipelineSettings) -> LoadedContender:
    """Load a contender, and measure the memory that this takes.

    Args:
        contender: The separator to load.
        settings: The settings of the pipeline around it.

    Returns:
        The contender in memory.

    Raises:
        LoadError: It cannot be loaded.
    """
    idle_mb = resident_mb("VmRSS")
    forget_peak()
    try:
        pipeline = contender.pipeline(settings)
        pipeline.place()
        role, parameters = _role(pipeline.separator), count_parameters(pipeline.separator)
    except Exception as error:
        raise LoadError(f"{contender.name} cannot be loaded: {one_line(error)}") from error
    loading_mb, held_mb = (resident_mb(field) - idle_mb for field in ("VmHWM", "VmRSS"))
    return LoadedContender(pipeline, role, parameters, loading_mb, held_mb)


def attempt(loaded: LoadedContender, mixture: Mixture, references: Float[Tensor, "source time"]) -> Attempt:
    """Separate a mixture, and bring the estimates into the order of the references.

    Args:
        loaded: The contender.
        mixture: The mixture with every hint that the test set has.
        references: (source, time).

    Returns:
        The estimates, or the reason why there are none. No error is raised: it becomes the reason.
    """
    separator = loaded.pipeline
    n_outputs = separator.info.n_sources
    by_class = represents_all(separator.info.labels, mixture.labels)
    if n_outputs not in (None, len(references)) and not by_class:
        return Attempt(
            "cannot_separate",
            f"gives {n_outputs} source{'' if n_outputs == 1 else 's'}, not {len(references)}",
        )
    try:
        visible = visible_copy(separator, mixture)
        forget_peak()
        # Not the memory of the idle process: reading and scoring leave memory allocated.
        before_mb = resident_mb("VmRSS")
        # On one thread it equals wall time, unless other programs use the processor.
        clock = time.process_time if separator.settings.device == "cpu" else time.perf_counter
        begin = clock()
        with _collected_warnings() as messages:
            separation = separator.separate(visible)
        compute_seconds = clock() - begin
        taken_mb = resident_mb("VmHWM") - before_mb
        peak_mb = max(loaded.loading_mb, loaded.held_mb + taken_mb, 0.0)
        estimates, order = align(separation, references, needs=separator.info.needs, labels=mixture.labels)
    except CannotSeparate as error:
        return Attempt("cannot_separate", one_line(error))
    except Exception as error:
        return Attempt("failed", one_line(error))
    return Attempt("ok", "; ".join(messages), estimates, order, compute_seconds, peak_mb)


def estimate_n_sources(pipeline: Pipeline, mixture: Mixture) -> int | None:
    """Estimate the number of sources of a mixture, which the separator is not given here.

    Args:
        pipeline: The pipeline around the separator.
        mixture: The mixture; its hints are withheld.

    Returns:
        The number; None if the separator does not count, or fails to, which is a warning.
    """
    if not pipeline.info.counts_sources:
        return None
    try:
        return pipeline.estimate_n_sources(mixture.only(()))
    except CannotSeparate:
        return None  # the attempt to separate gives the reason
    except Exception as error:  # the scores of the mixture are kept
        warnings.warn(f"{type(pipeline.separator).__name__} cannot count: {one_line(error)}", stacklevel=2)
        return None


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Collect the messages of SeparationWarnings, each once; other warnings are shown as usual."""
    messages: dict[str, None] = {}
    collected: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SeparationWarning)
        yield collected
    for warning in caught:
        if issubclass(warning.category, SeparationWarning):
            messages[one_line(SepnetError(str(warning.message)))] = None
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    collected.extend(messages)


def _role(separator: Separator) -> Role:
    if "references" in separator.info.needs:
        return "ceiling"
    return "floor" if type(separator) is Identity else "method"


def count_parameters(separator: object) -> int:
    """Count the parameters of the networks of a separator and of the separators in it, each once."""
    sizes: dict[int, int] = {}
    seen: set[int] = set()
    queue = [separator]
    while queue:
        part = queue.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module):
            sizes |= {id(parameter): parameter.numel() for parameter in part.parameters()}
        elif isinstance(part, list | tuple):
            queue.extend(part)
        elif isinstance(part, Separator):
            queue.extend(vars(part).values())
    return sum(sizes.values())


def one_line(error: BaseException) -> str:
    """Write an exception as one short line, with its type unless it is sepnet's own."""
    kind = "" if isinstance(error, SepnetError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split())
    return text if len(text) <= MAX_REASON_LENGTH else text[: MAX_REASON_LENGTH - 1] + "…"
