"""Run one benchmark: python benchmarks/run.py what=mixing."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

FOLDER = Path(__file__).resolve().parent
if str(FOLDER.parent) not in sys.path:  # run as a script, Python looks in the script's own folder alone
    sys.path.insert(0, str(FOLDER.parent))

from benchmarks import (  # noqa: E402
    conditions,
    corpora,
    detection,
    engine_kills,
    engines,
    export,
    full_band,
    full_size,
    fuzz,
    gaussians,
    identities,
    kills,
    lengths,
    mixing,
    nmf,
    opinions,
    query,
    scoring,
    serving,
    streaming,
    training,
)
from sepnet.cli import app  # noqa: E402
from sepnet.types import SepnetError  # noqa: E402

BENCHMARKS = {
    "conditions": conditions.run,
    "corpora": corpora.run,
    "detection": detection.run,
    "engine_kills": engine_kills.run,
    "engines": engines.run,
    "export": export.run,
    "full_band": full_band.run,
    "full_size": full_size.run,
    "fuzz": fuzz.run,
    "gaussians": gaussians.run,
    "identities": identities.run,
    "kills": kills.run,
    "lengths": lengths.run,
    "mixing": mixing.run,
    "nmf": nmf.run,
    "opinions": opinions.run,
    "query": query.run,
    "scoring": scoring.run,
    "serving": serving.run,
    "streaming": streaming.run,
    "training": training.run,
}


def benchmark(config: DictConfig) -> None:
    """Run the benchmark ``config.what``, which prints its figures.

    Args:
        config: benchmarks/benchmark.yaml with the overrides of the command line.

    Raises:
        SepnetError: There is no benchmark of that name, or it can't run with these settings.
    """
    if config.what not in BENCHMARKS:
        raise SepnetError(f"there is no benchmark {config.what!r}: there are {', '.join(BENCHMARKS)}")
    BENCHMARKS[config.what](config)


if __name__ == "__main__":
    app.run(benchmark, "benchmark", folder=FOLDER)
