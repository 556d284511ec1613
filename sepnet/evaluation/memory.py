"""The resident memory of this process, now and at its peak."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_mb(field: str) -> float:
    """Measure the resident memory of this process.

    Args:
        field: ``VmRSS`` for the memory now, or ``VmHWM`` for its peak since ``forget_peak``.

    Returns:
        MiB. On other systems than Linux it is always the peak since the start of the process.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        # Not used on Linux, where the ru_maxrss of a child process starts at that of its parent.
        import resource  # missing on some systems

        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest / (2**20 if sys.platform == "darwin" else 2**10)


def forget_peak() -> None:
    """Reset VmHWM (proc(5), clear_refs); if that is not allowed, the peak only grows."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return
