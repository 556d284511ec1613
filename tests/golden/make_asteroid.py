"""Golden folders of asteroid: small networks of random weights, written by asteroid as the hub has them.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.11.* asteroid-filterbanks pandas soundfile
    /tmp/peer/bin/pip install --no-deps asteroid==0.7.0 pytorch-lightning torch-optimizer pytorch-ranger \\
        julius torch-stoi pb-bss-eval
    /tmp/peer/bin/python tests/golden/make_asteroid.py [FAMILY ...]

Each folder holds pytorch_model.bin, the card, and golden.npz: what the network gives for two lengths, alone
and as a batch.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arrays import draw_parameters, save_arrays
from asteroid.models import (
    BaseModel,
    ConvTasNet,
    DPRNNTasNet,
    DPTNet,
    SuDORMRFImprovedNet,
    SuDORMRFNet,
    save_publishable,
)

HERE = Path(__file__).parent
FILTERS = {"n_filters": 16, "kernel_size": 16, "stride": 8}
TCN = {"bn_chan": 8, "hid_chan": 12, "n_blocks": 3, "n_repeats": 2}
U_BLOCKS = {"bn_chan": 8, "num_blocks": 2, "n_filters": 12}
LICENCES = [
    {
        "title": "LibriSpeech ASR corpus", "title_link": "http://www.openslr.org/12",
        "author": "Vassil Panayotov", "author_link": "https://github.com/vdp", "license": "CC BY 4.0",
        "license_link": "https://creativecommons.org/licenses/by/4.0/", "non_commercial": False,
    },
]  # fmt: skip
CARD = """---
tags: [asteroid, audio, {name}]
datasets: [Libri2Mix]
license: cc-by-sa-4.0
---
# {name}, of random weights
"""
FAMILIES: dict[str, tuple[type[BaseModel], dict[str, Any], str, int]] = {
    "conv_tasnet": (
        ConvTasNet,
        {"n_src": 2, "mask_act": "relu", "skip_chan": 10, **TCN, **FILTERS},
        "sep_clean",
        8000,
    ),
    "conv_tasnet_v1": (  # without skip connections, causal, with a rectified encoder
        ConvTasNet,
        {
            "n_src": 3, "mask_act": "sigmoid", "skip_chan": 0, "causal": True, "norm_type": "cgLN",
            "encoder_activation": "relu", **TCN, **FILTERS,
        },
        "sep_noisy",
        8000,
    ),
    "dprnn": (  # filters of two samples, and chunks that do not fit the clip
        DPRNNTasNet,
        {
            "n_src": 2, "mask_act": "sigmoid", "bn_chan": 8, "hid_size": 6, "chunk_size": 12, "n_repeats": 2,
            "n_filters": 16, "kernel_size": 4, "stride": 2,
        },
        "sep_clean",
        8000,
    ),
    "dptnet": (
        DPTNet,
        {"n_src": 2, "ff_hid": 6, "n_heads": 2, "chunk_size": 10, "n_repeats": 2, **FILTERS},
        "sep_clean",
        8000,
    ),
    "sudormrf": (  # an odd number of frames at the finer resolutions
        SuDORMRFNet,
        {"n_src": 2, "kernel_size": 21, "upsampling_depth": 3, **U_BLOCKS},
        "sep_clean",
        8000,
    ),
    "sudormrf_improved": (  # filters of an even length
        SuDORMRFImprovedNet,
        {"n_src": 3, "kernel_size": 10, "upsampling_depth": 4, **U_BLOCKS},
        "sep_noisy",
        16000,
    ),
    "conv_tasnet_enhsingle": (
        ConvTasNet,
        {
            "n_src": 1, "mask_act": "relu", "skip_chan": 10, **TCN,
            "n_filters": 16, "kernel_size": 32, "stride": 16,
        },
        "enh_single",
        16000,
    ),
}  # fmt: skip


def main() -> None:
    """Make the families that the command line names, or all."""
    for family in sys.argv[1:] or FAMILIES:
        network, settings, task, sample_rate = FAMILIES[family]
        make(HERE / f"asteroid_{family}", network(**settings, sample_rate=sample_rate), task, sample_rate)


def make(folder: Path, model: BaseModel, task: str, sample_rate: int) -> None:
    """Write one folder."""
    torch.manual_seed(0)
    draw_parameters(model)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    model.eval()
    package = model.serialize()
    package.update(dataset="Libri2Mix", task=task, licenses=LICENCES)
    # As the recipes do: the means of a table, numbers of numpy.
    metrics = {"si_sdr": np.float64(14.76), "si_sdr_imp": np.float64(14.77)}
    shutil.rmtree(folder, ignore_errors=True)
    settings = {"data": {"task": task, "sample_rate": sample_rate}}
    save_publishable(str(folder), package, metrics=metrics, train_conf=settings, recipe="asteroid/librimix")
    (folder / "model.pth").rename(folder / "pytorch_model.bin")
    (folder / "README.md").write_text(CARD.format(name=type(model).__name__))
    save_arrays(folder, model)


if __name__ == "__main__":
    main()
