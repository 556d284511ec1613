"""Find out whether bfloat16 is fast on a device."""

from __future__ import annotations

import torch


def has_fast_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Tell whether a device multiplies bfloat16 in hardware.

    Args:
        device: The device. CPUs with AMX or AVX-512 BF16 do, and NVIDIA's GPUs from Ampere on.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return True
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
