"""python scripts/benchmark.py what=export: an ONNX file beside PyTorch, on 10 s and one thread.

Both take turns, so that whatever else the machine does falls on both. Seconds are of the wall clock; those of
the processor are told too, for a machine on which others are at work.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.export import export
from sepnet.export.choosing import graph_of
from sepnet.export.formats import ONNX, opened
from sepnet.types import SepnetError

MODEL, SECONDS = "pit-2spk-8k", 10


def exported(config: DictConfig) -> None:
    """Print the seconds of both. Raises SepnetError without onnxruntime."""
    torch.set_num_threads(1)
    separator = artifact.load(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        path = export(separator, Path(folder) / "a.onnx").path
        run = opened(path.read_bytes(), ONNX)
    if run is None:
        raise SepnetError("onnxruntime is not installed: pip install 'sepnet[export]'")
    graph = graph_of(separator)
    mixture = 0.1 * torch.randn(1, SECONDS * graph.sample_rate, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[], object]] = {
        "PyTorch": lambda: graph.separate(mixture[0]),
        "ONNX": lambda: run([mixture]),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(config.repetitions + 2):
        for name, way in ways.items():
            begin, begin_processor = time.perf_counter(), time.process_time()
            way()
            if repetition > 1:  # the first two warm up
                wall[name].append(time.perf_counter() - begin)
                processor[name].append(time.process_time() - begin_processor)
    print(f"{MODEL}, {SECONDS} s at {graph.sample_rate} Hz, one thread, medians of {config.repetitions}")
    for name in ways:
        spread = f"{min(wall[name]):.3f} to {max(wall[name]):.3f}"
        print(
            f"{name:8s} {statistics.median(wall[name]):6.3f} s ({spread}), "
            f"of the processor {statistics.median(processor[name]):.3f} s"
        )
    ratio = statistics.median(processor["ONNX"]) / statistics.median(processor["PyTorch"])
    print(f"the ONNX file takes {ratio:.2f} times PyTorch's time of the processor")
