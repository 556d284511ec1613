"""ONNX Runtime is imported without its telemetry."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest

from sepnet.onnx import import_onnxruntime


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_telemetry_is_off_unless_the_user_chose(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if given is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", given)
    seen = []

    def import_module(name: str) -> ModuleType:
        seen.append((name, os.environ["ORT_DISABLE_TELEMETRY"]))
        return ModuleType(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    import_onnxruntime()
    assert seen == [("onnxruntime", expected)]
