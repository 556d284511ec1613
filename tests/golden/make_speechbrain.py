"""Golden folders of speechbrain: small networks of random weights, written by it as the hub has them.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.11.* torchaudio==2.11.* huggingface-hub
    /tmp/peer/bin/pip install speechbrain==1.1.*
    /tmp/peer/bin/python tests/golden/make_speechbrain.py [FAMILY ...]

Each folder holds hyperparams.yaml, the files of encoder, masknet and decoder, the card, and golden.npz: what
speechbrain's own interface gives for two lengths, alone and as a batch.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from arrays import draw_parameters, save_arrays
from hyperpyyaml import load_hyperpyyaml
from speechbrain.inference.separation import SepformerSeparation
from speechbrain.utils.checkpoints import torch_save

HERE = Path(__file__).parent
CARD = """---
tags: [source-separation, SepFormer]
license: apache-2.0
datasets: [{dataset}]
---
# A separator of random weights
"""
SEPFORMER = """num_spks: {n_sources}
sample_rate: {sample_rate}
N_encoder_out: 16
out_channels: 4
kernel_size: 16
kernel_stride: 8

Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
  kernel_size: !ref <kernel_size>
  out_channels: !ref <N_encoder_out>

SBtfintra: !new:speechbrain.lobes.models.dual_path.SBTransformerBlock
  num_layers: 2
  d_model: !ref <out_channels>
  nhead: 2
  d_ffn: 12
  dropout: 0
  use_positional_encoding: {positions}
  norm_before: true

SBtfinter: !new:speechbrain.lobes.models.dual_path.SBTransformerBlock
  num_layers: 2
  d_model: !ref <out_channels>
  nhead: 2
  d_ffn: 12
  dropout: 0
  use_positional_encoding: {positions}
  norm_before: true

MaskNet: !new:speechbrain.lobes.models.dual_path.Dual_Path_Model
  num_spks: !ref <num_spks>
  in_channels: !ref <N_encoder_out>
  out_channels: !ref <out_channels>
  num_layers: {n_blocks}
  K: 10
  intra_model: !ref <SBtfintra>
  inter_model: !ref <SBtfinter>
  norm: ln
  linear_layer_after_inter_intra: false
  skip_around_intra: true

Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
  in_channels: !ref <N_encoder_out>
  out_channels: 1
  kernel_size: !ref <kernel_size>
  stride: !ref <kernel_stride>
  bias: false

modules:
  encoder: !ref <Encoder>
  decoder: !ref <Decoder>
  masknet: !ref <MaskNet>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
  loadables:
    masknet: !ref <MaskNet>
    encoder: !ref <Encoder>
    decoder: !ref <Decoder>
"""
FAMILIES = {
    "sepformer": (SEPFORMER.format(n_sources=2, sample_rate=8000, n_blocks=1, positions="true"), "Libri2Mix"),
    "sepformer_enhancement": (
        SEPFORMER.format(n_sources=1, sample_rate=16000, n_blocks=2, positions="false"),
        "WHAM!",
    ),
}


def main() -> None:
    """Make the families that the command line names, or all."""
    for family in sys.argv[1:] or FAMILIES:
        make(HERE / f"speechbrain_{family}", *FAMILIES[family])


def make(folder: Path, settings: str, dataset: str) -> None:
    """Write one folder."""
    torch.manual_seed(0)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "hyperparams.yaml").write_text(settings)
    (folder / "README.md").write_text(CARD.format(dataset=dataset))
    for name, module in load_hyperpyyaml(settings)["modules"].items():
        draw_parameters(module)
        torch_save(module, folder / f"{name}.ckpt")
    model = SepformerSeparation.from_hparams(source=str(folder), savedir=str(folder))
    save_arrays(folder, lambda signal: model.separate_batch(signal).transpose(1, 2))


if __name__ == "__main__":
    main()
