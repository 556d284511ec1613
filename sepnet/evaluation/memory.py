"""How much memory this process holds, and the most that it held."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_mb(field: str) -> float:
    """VmRSS (now) or VmHWM (highest since ``forget_peak``) of this process, in MiB.

    Linux also tells ru_maxrss, but a child begins with its parent's; elsewhere it is all there is.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        import resource  # not on every system either

        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest / (2**20 if sys.platform == "darwin" else 2**10)


def forget_peak() -> None:
    """Let VmHWM begin anew (proc(5), clear_refs); where that is not allowed, the peak only grows."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return
