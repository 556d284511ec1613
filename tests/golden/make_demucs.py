"""The golden folder of Demucs: a small network of random weights, and what the package gives with it.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.11.* demucs==4.1.*
    /tmp/peer/bin/python tests/golden/make_demucs.py

The folder holds model.safetensors as the package keeps its networks on the hub, and golden.npz: what the
package's own Separator gives, without random shifts, for two lengths of stereo sound, alone and as a batch.
"""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from arrays import draw_parameters, save_arrays
from demucs import api, hf
from demucs.htdemucs import HTDemucs
from safetensors.torch import save_file
from torch import Tensor

FOLDER = Path(__file__).parent / "demucs_htdemucs"
SETTINGS: dict[str, Any] = {
    "sources": ["drums", "bass", "other", "vocals"], "channels": 4, "growth": 2, "depth": 2, "nfft": 256,
    "t_layers": 1, "t_heads": 2, "t_hidden_scale": 1.0, "bottom_channels": 8, "dconv_depth": 1,
    "dconv_comp": 2, "samplerate": 44100, "segment": Fraction(1, 40),
}  # fmt: skip


def main() -> None:
    """Make the folder."""
    torch.manual_seed(0)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    model = HTDemucs(**SETTINGS)
    draw_parameters(model)
    segment = SETTINGS["segment"]
    fraction = {"_type": "fraction", "numerator": segment.numerator, "denominator": segment.denominator}
    metadata = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": "[]",
        "kwargs": json.dumps({**SETTINGS, "segment": fraction}),
    }
    save_file(model.state_dict(), FOLDER / "model.safetensors", metadata)
    api.get_model = lambda **_: hf.load_safetensors_model(FOLDER / "model.safetensors").eval()
    separator = api.Separator(device="cpu", shifts=0)

    def separate(batch: Tensor) -> Tensor:
        """The stems (batch, source, channel, time)."""
        return torch.stack([torch.stack(list(separator.separate_tensor(song)[1].values())) for song in batch])

    save_arrays(FOLDER, separate, lengths=(600, 2000), n_channels=2)


if __name__ == "__main__":
    main()
