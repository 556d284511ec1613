"""Record with which software, and on which machine, something was made."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sepnet.paths import PACKAGE

PACKAGES = ("sepnet", "torch", "torchaudio", "lightning", "torchmetrics", "numpy", "pesq", "speechmos")


def describe_environment() -> dict[str, Any]:
    """Describe the software and the hardware of this process.

    Returns:
        The time, the commit of sepnet, the versions of packages, the system, the processor with its number of
        cores and threads, and the GPU, in plain containers for JSON.
    """
    cuda = torch.cuda.is_available()
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": _commit(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of sepnet's own checkout, with ``+changes`` if some are uncommitted; None if installed."""
    root = PACKAGE.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        # An installed package may lie inside the repository of another project.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        edited = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if edited else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
