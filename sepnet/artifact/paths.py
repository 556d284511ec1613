"""Where things lie, and what the files of a run folder are called."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CONFIG, WEIGHTS, METRICS, PROVENANCE, CARD = (
    "config.yaml",
    "model.safetensors",
    "metrics.json",
    "provenance.json",
    "README.md",
)
RUNS = Path("runs")
SHIPPED = PACKAGE / "weights"  # run folders that come with the package
DEFAULT = "pit-2spk-8k"  # of those, used where no model is named and no run exists


def config_folder() -> Path:
    """The folder of the YAML files: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"
