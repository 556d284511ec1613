"""Speed of an exported ONNX file beside PyTorch, 10 s on one thread: python benchmarks/run.py what=export.

The two alternate, so that other load on the machine slows both. Wall-clock and processor time are printed;
the latter is meaningful on a busy machine, too.
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
from sepnet.export.build import build_graph
from sepnet.export.formats import ONNX, open_graph
from sepnet.types import SepnetError

MODEL, SECONDS = "pit-2spk-8k", 10


def run(config: DictConfig) -> None:
    """Print the seconds of both.

    Raises:
        SepnetError: onnxruntime is not installed.
    """
    torch.set_num_threads(1)
    separator = artifact.load(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        path = export(separator, Path(folder) / "a.onnx").path
        run_onnx = open_graph(path.read_bytes(), ONNX)
    if run_onnx is None:
        raise SepnetError("onnxruntime is not installed: pip install 'sepnet[export]'")
    graph = build_graph(separator)
    mixture = 0.1 * torch.randn(1, SECONDS * graph.sample_rate, generator=torch.Generator().manual_seed(0))
    runtimes: dict[str, Callable[[], object]] = {
        "PyTorch": lambda: graph.separate(mixture[0]),
        "ONNX": lambda: run_onnx([mixture]),
    }
    wall: dict[str, list[float]] = {name: [] for name in runtimes}
    processor: dict[str, list[float]] = {name: [] for name in runtimes}
    for repetition in range(config.repetitions + 2):
        for name, separate in runtimes.items():
            begin, begin_processor = time.perf_counter(), time.process_time()
            separate()
            if repetition > 1:  # the first two warm up
                wall[name].append(time.perf_counter() - begin)
                processor[name].append(time.process_time() - begin_processor)
    print(f"{MODEL}, {SECONDS} s at {graph.sample_rate} Hz, one thread, medians of {config.repetitions}")
    for name in runtimes:
        spread = f"{min(wall[name]):.3f} to {max(wall[name]):.3f}"
        print(
            f"{name:8s} {statistics.median(wall[name]):6.3f} s ({spread}), "
            f"processor {statistics.median(processor[name]):.3f} s"
        )
    ratio = statistics.median(processor["ONNX"]) / statistics.median(processor["PyTorch"])
    print(f"the ONNX file takes {ratio:.2f} times PyTorch's processor time")
