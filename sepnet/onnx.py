"""ONNX Runtime, without its telemetry."""

from __future__ import annotations

import importlib
import os
from types import ModuleType


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime so that it tells nobody about the models that it runs.

    Since 1.29 it sends the names and hashes of models to its makers unless this variable is set, and leaves a
    file in the temporary folder. A value that the user gave stays.

    Raises:
        ImportError: It is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")
