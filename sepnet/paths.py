"""Where settings and weights lie, the names of the files in a run folder, and how a run folder is found."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CONFIG, WEIGHTS, METRICS, PROVENANCE, CARD = (
    "config.yaml",
    "model.safetensors",
    "metrics.json",
    "provenance.json",
    "README.md",
)
RUNS = Path("runs")  # trainings write their run folders here
SHIPPED = PACKAGE / "weights"  # the run folders that are part of the package
DEFAULT = "pit-2spk-8k"  # the shipped weights that are used if no model is named and there is no run


def config_folder() -> Path:
    """Locate the folder of the YAML files: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def shipped_names() -> list[str]:
    """List the names of all shipped weights, also of those that are only a part of a separator."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG}"))


def local_run_folder(name: str | Path) -> Path | None:
    """Find the run folder that a path or the name of shipped weights means.

    Args:
        name: The path of a run folder, or the name of shipped weights. A file or a folder of the same name in
            the working directory hides shipped weights.

    Returns:
        The run folder; None if there is none.
    """
    path = expand_home(name)
    if (path / CONFIG).is_file():
        return path
    if not path.exists() and str(name) in shipped_names():
        return SHIPPED / name
    return None


def expand_home(path: str | Path) -> Path:
    """Replace a leading ``~`` or ``~name`` by the home folder, as a shell does; not for an unknown user.

    Args:
        path: The path; it need not exist.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises an error there)


def real(path: str | Path) -> Path:
    """Follow all links of a path; unlike Path.resolve also where they lead back to themselves.

    Args:
        path: The path; it need not exist.
    """
    return Path(os.path.realpath(path))
