"""The commands of sepnet, and what the user types to run each of them."""

from __future__ import annotations

import sys
from pathlib import Path

SCRIPTS = {
    "train": "train.py",
    "eval": "eval.py",
    "separate": "separate.py",
    "serve": "serve.py",
    "prepare": "prepare_data.py",
    "export": "export.py",
}
"""The script of a checkout that runs each command."""


def command(name: str) -> str:
    """How the user runs a command, for messages.

    Args:
        name: A key of ``SCRIPTS``.

    Returns:
        ``python scripts/train.py`` where this program is a script of a checkout, else ``sepnet train``.
    """
    program = Path(sys.argv[0] if sys.argv else "")
    if program.parent.name == "scripts" and program.name in SCRIPTS.values():
        return f"python scripts/{SCRIPTS[name]}"
    return f"sepnet {name}"
