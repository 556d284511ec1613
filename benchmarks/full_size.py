"""What the published architectures cost at full size, with random weights.

python benchmarks/run.py what=full_size                 # all of them, each in a process of its own
python benchmarks/run.py what=full_size model=tiger
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.evaluation.cost import count_macs
from sepnet.types import Mixture

ARCHITECTURES = (
    "conv_tasnet", "dprnn_gated", "dptnet", "sudormrf", "sepformer", "resepformer", "mossformer2", "tiger"
)  # fmt: skip
SECONDS = 4.0
MIB = 2**20


def run(config: DictConfig) -> None:
    """Print parameters, GMAC and seconds for a second of sound, and memory, on one thread.

    Args:
        config: ``model`` of benchmarks/benchmark.yaml; None: all of ``ARCHITECTURES``.
    """
    if config.model is None:
        for name in ARCHITECTURES:
            program = Path(__file__).with_name("run.py")
            subprocess.run([sys.executable, str(program), "what=full_size", f"model={name}"], check=True)
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = _peak_mib()
    node = OmegaConf.load(artifact.config_folder() / "model" / f"{config.model}.yaml")
    assert isinstance(node, DictConfig)
    separator = artifact.build(node)
    rate = separator.info.sample_rate
    noise = 0.1 * torch.randn(1, round(SECONDS * rate))
    mixture = Mixture(noise, rate)
    macs = count_macs(lambda: separator.separate(mixture))
    begin = time.process_time()
    separator.separate(mixture)
    seconds = time.process_time() - begin
    n_parameters = sum(parameter.numel() for parameter in separator.parameters())
    cost = f"{macs / SECONDS / 1e9:.1f} GMAC/s, {seconds / SECONDS:.2f} s for a second of sound"
    memory = f"{_peak_mib() - before:.0f} MiB for {SECONDS:g} s"
    print(f"{config.model}: {n_parameters / 1e6:.2f} M parameters, {rate} Hz, {cost}, {memory}")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
