"""Where bfloat16 is fast."""

from __future__ import annotations

import torch


def has_fast_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether the device multiplies bfloat16 in hardware: with AMX several times faster."""
    if torch.device(device).type != "cpu":
        return True
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
