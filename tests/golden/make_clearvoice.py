"""The golden folder of clearvoice: a small MossFormer2 of random weights, written and read by its own code.

    python -m venv /tmp/peer
    /tmp/peer/bin/pip install torch==2.11.* numpy einops rotary-embedding-torch torchinfo
    /tmp/peer/bin/pip install --no-deps clearvoice==0.1.*
    /tmp/peer/bin/python tests/golden/make_clearvoice.py

The folder holds last_best_checkpoint.pt, the card, and golden.npz: what the network gives for two lengths,
of which the longer one fills more than a group of frames, alone and as a batch. Of clearvoice the network
alone is imported: the whole package wants much that is not needed here.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import torch
from arrays import draw_parameters, save_arrays

package = importlib.util.find_spec("clearvoice")
assert package is not None
assert package.submodule_search_locations
sys.path.insert(0, package.submodule_search_locations[0])
from models.mossformer2_ss import mossformer2, mossformer2_block  # noqa: E402

HERE = Path(__file__).parent
FOLDER = HERE / "clearvoice_mossformer2"
CARD = """---
license: apache-2.0
tags: [speech separation]
---
# MossFormer2 of random weights
"""
SETTINGS = Namespace(
    encoder_embedding_dim=12,
    mossformer_sequence_dim=12,
    num_mossformer_layer=2,
    encoder_kernel_size=16,
    num_spks=2,
)
N_MEMORY, N_KEYS = 10, 36  # arguments that clearvoice leaves at 256 and 128


def main() -> None:
    """Make the folder."""
    torch.manual_seed(0)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    mossformer2_block.Gated_FSMN_Block_Dilated.__init__.__defaults__ = (N_MEMORY, 256, "scalenorm")
    mossformer2.MossFormerM.__init__.__defaults__ = (None, False, 256, N_KEYS, 4.0, 0.1)
    model = mossformer2.MossFormer2_SS_16K(SETTINGS).model
    frequencies = [each for name, each in model.named_parameters() if name.endswith("rotary_pos_emb.freqs")]
    kept = [each.detach().clone() for each in frequencies]
    draw_parameters(model)
    with torch.no_grad():
        for each, value in zip(frequencies, kept, strict=True):
            each.copy_(value)
    # As clearvoice's training does, and as its _load_model reads it: the tensors under "model".
    torch.save({"model": model.state_dict(), "epoch": 1, "step": 1}, FOLDER / "last_best_checkpoint.pt")
    (FOLDER / "last_best_checkpoint").write_text("last_best_checkpoint.pt\n")
    (FOLDER / "README.md").write_text(CARD)
    model.eval()
    save_arrays(FOLDER, lambda signal: torch.stack(model(signal), dim=1), lengths=(503, 2500))


if __name__ == "__main__":
    main()
