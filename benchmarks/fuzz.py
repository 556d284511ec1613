"""Thousands of bad inputs, files, settings, calls and requests: python benchmarks/run.py what=fuzz.

Each input is drawn from its number and the seed, so that ``trial=settings:17`` repeats one alone. An input is
to be refused in one sentence or to be done; a traceback or any other error, a hang, a file that is left
behind, and an exit without an error with nothing done are faults.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from benchmarks.fuzzing import files, http, library, settings
from benchmarks.fuzzing.commands import Workshop
from benchmarks.fuzzing.process import prepare
from benchmarks.fuzzing.trial import FAULTS, Outcome, Verdict
from sepnet.types import SepnetError

Run = Callable[[Workshop, int, np.random.Generator], Outcome]
SURFACES: dict[str, Run] = {
    "files": files.run,
    "settings": settings.run,
    "library": library.run,
    "http": http.run,
}
FAULTY = 1  # the exit status


def run(config: DictConfig) -> None:
    """Print a table of what became of the inputs of each surface; exit with 1 if there was a fault.

    Args:
        config: ``n_inputs``, ``seed`` and ``trial`` of benchmarks/benchmark.yaml.

    Raises:
        SepnetError: A setting can't be used, or a command that should work does not.
    """
    chosen = {name: range(int(count)) for name, count in config.n_inputs.items()}
    if config.trial is not None:
        surface, _, number = str(config.trial).partition(":")
        if surface not in SURFACES or not number.isdigit():
            raise SepnetError(f"trial is {config.trial}: give the surface and the number, such as files:17")
        chosen = {surface: range(int(number), int(number) + 1)}
    outcomes = fuzz(chosen, int(config.seed), told=config.trial is not None)
    print(table(outcomes))
    if any(outcome.verdict in FAULTS for each in outcomes.values() for outcome in each):
        sys.exit(FAULTY)


def fuzz(chosen: dict[str, range], seed: int, *, told: bool = False) -> dict[str, list[Outcome]]:
    """Try the inputs with these numbers on each surface; print each fault.

    Args:
        chosen: The numbers of the inputs by surface.
        seed: Of all random choices.
        told: Whether outcomes that are no faults are printed, too.
    """
    outcomes: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory(prefix="sepnet-fuzz-", ignore_cleanup_errors=True) as folder:
        workshop = Workshop(Path(folder).resolve())
        prepare()
        workshop.build()
        for surface, numbers in chosen.items():
            begin = time.monotonic()
            outcomes[surface] = []
            for number in numbers:
                rng = np.random.default_rng([seed, list(SURFACES).index(surface), number])
                outcome = SURFACES[surface](workshop, number, rng)
                outcomes[surface].append(outcome)
                if outcome.verdict in FAULTS or told:
                    print(f"{surface}:{number} {outcome.verdict.value}: {outcome.input!r}")
                    print(f"    {outcome.detail}", flush=True)
            print(f"{surface}: {len(numbers)} inputs in {time.monotonic() - begin:.0f} s", flush=True)
    return outcomes


def table(outcomes: dict[str, list[Outcome]]) -> str:
    """How often each verdict was given, by surface."""
    columns = ["surface", "inputs", *(verdict.value for verdict in Verdict)]
    rows = []
    for surface, each in outcomes.items():
        counts = Counter(outcome.verdict for outcome in each)
        rows.append([surface, str(len(each)), *(str(counts[verdict]) for verdict in Verdict)])
    widths = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (columns, *rows)
    )
