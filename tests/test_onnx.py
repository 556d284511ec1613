"""ONNX Runtime is imported without its telemetry."""

from __future__ import annotations

import importlib
import os

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
    monkeypatch.setattr(importlib, "import_module", lambda name: seen.append((name, dict(os.environ))))
    import_onnxruntime()
    assert [(name, values["ORT_DISABLE_TELEMETRY"]) for name, values in seen] == [("onnxruntime", expected)]
