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
from speechbrain.lobes.models import dual_path, resepformer
from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding
from speechbrain.utils.checkpoints import torch_save
from torch import Tensor

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
"""
RESEPFORMER = """num_spks: 2
sample_rate: 8000
N_encoder_out: 8
kernel_size: 16
kernel_stride: 8

Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
  kernel_size: !ref <kernel_size>
  out_channels: !ref <N_encoder_out>

intra_mdl: !new:speechbrain.lobes.models.resepformer.SBTransformerBlock_wnormandskip
  num_layers: 2
  d_model: !ref <N_encoder_out>
  nhead: 2
  d_ffn: 12
  dropout: 0
  use_positional_encoding: True
  norm_before: True
  use_norm: True
  use_skip: True

mem_mdl: !new:speechbrain.lobes.models.resepformer.SBTransformerBlock_wnormandskip
  num_layers: 2
  d_model: !ref <N_encoder_out>
  nhead: 2
  d_ffn: 12
  dropout: 0
  use_positional_encoding: True
  norm_before: True
  use_norm: True
  use_skip: False

MaskNet: !new:speechbrain.lobes.models.resepformer.ResourceEfficientSeparator
  input_dim: !ref <N_encoder_out>
  num_spk: !ref <num_spks>
  causal: False
  unit: 256
  segment_size: 10
  layer: 2
  mem_type: 'av'
  seg_model: !ref <intra_mdl>
  mem_model: !ref <mem_mdl>
"""
DECODER = """
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
    "resepformer": (RESEPFORMER, "WSJ0-2Mix"),
    "sepformer_enhancement": (
        SEPFORMER.format(n_sources=1, sample_rate=16000, n_blocks=2, positions="false"),
        "WHAM!",
    ),
}


N_POSITIONS = 200  # of the tables of sinusoids, which are saved, and else have up to 100,000 rows


class ShortTable(PositionalEncoding):
    """The encoding of positions, with a table that is long enough for these lengths."""

    def __init__(self, input_size: int, max_len: int = 0) -> None:
        super().__init__(input_size, max_len=N_POSITIONS)


for each in (dual_path, resepformer):
    each.PositionalEncoding = ShortTable


def main() -> None:
    """Make the families that the command line names, or all."""
    for family in sys.argv[1:] or FAMILIES:
        settings, dataset = FAMILIES[family]
        make(HERE / f"speechbrain_{family}", settings + DECODER, dataset)


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

    def separate(batch: Tensor) -> Tensor:
        # One by one, since speechbrain's RE-SepFormer mixes up the mixtures of a batch.
        sources = [model.separate_batch(signal[None]) for signal in batch]
        return torch.cat(sources).transpose(1, 2)

    save_arrays(folder, separate)


if __name__ == "__main__":
    main()
