"""The golden folder of look2hear: a small TIGER of random weights, written and read by its own code.

It is on no registry, so that a checkout of its repository is needed:

    git clone --depth 1 https://github.com/JusperLee/TIGER /tmp/TIGER
    python -m venv /tmp/peer
    /tmp/peer/bin/pip install torch==2.11.* numpy huggingface_hub safetensors
    /tmp/peer/bin/python tests/golden/make_look2hear.py /tmp/TIGER

The folder holds config.json and model.safetensors, as ``save_pretrained`` of the hub's mixin writes them, the
card, and golden.npz: what the network gives for two lengths, alone and as a batch.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import types
from pathlib import Path

import torch
from arrays import draw_parameters, save_arrays

HERE = Path(__file__).parent
FOLDER = HERE / "look2hear_tiger"
CARD = """---
license: apache-2.0
tags: [speech separation]
---
# TIGER of random weights
"""


def main() -> None:
    """Make the folder, with the network of a checkout."""
    torch.manual_seed(0)
    shutil.rmtree(FOLDER, ignore_errors=True)
    # The network's module alone: the whole package wants much that is not needed here.
    sys.path.insert(0, sys.argv[1])
    package = types.ModuleType("look2hear.models")
    package.__path__ = [f"{sys.argv[1]}/look2hear/models"]
    sys.modules["look2hear.models"] = package
    model = importlib.import_module("look2hear.models.tiger").TIGER(
        out_channels=8, in_channels=10, num_blocks=2, upsampling_depth=3, att_n_head=2, att_hid_chan=3,
        win=640, stride=160, num_sources=2, sample_rate=16000,
    )  # fmt: skip
    draw_parameters(model)
    model.save_pretrained(FOLDER)
    (FOLDER / "README.md").write_text(CARD)
    model.eval()
    save_arrays(FOLDER, lambda signal: model(signal[:, None]), lengths=(1503, 4000))


if __name__ == "__main__":
    main()
