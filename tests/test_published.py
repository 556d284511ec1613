"""Models of other toolkits: what their own code computed, and files that a stranger may have written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sepnet
from sepnet.artifact.formats import convert
from sepnet.types import Mixture, Separator

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir() and path.name != "__pycache__")
MAX_ERROR = 1e-5  # of the largest sample of an output
each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert.constants, "HF_HOME", str(tmp_path / "home"))


def load(family: str) -> nn.Module:
    separator = sepnet.load(GOLDEN / family)
    assert isinstance(separator, nn.Module)
    return separator


@each_family
@pytest.mark.parametrize("which", ["short", "long", "batch"])
def test_the_output_is_that_of_the_toolkit(family: str, which: str) -> None:
    arrays = np.load(GOLDEN / family / "golden.npz")
    signal, expected = (torch.from_numpy(arrays[f"{which}_{kind}"]) for kind in ("input", "output"))
    with torch.no_grad():
        output: Tensor = load(family)(signal).sources
    assert output.shape == expected.shape
    assert expected.abs().amax() > 1e-3
    torch.testing.assert_close(output, expected, atol=MAX_ERROR * float(expected.abs().max()), rtol=0)


@each_family
def test_separation_differs_from_the_network_in_level_alone(family: str) -> None:
    separator = load(family)
    assert isinstance(separator, Separator)
    signal = 0.3 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(2))
    sample_rate = separator.info.sample_rate
    assert sample_rate is not None
    sources = separator.separate(Mixture(signal, sample_rate)).sources
    with torch.no_grad():
        outputs = separator(signal).sources[0]
    assert len(sources) == separator.info.n_sources
    gains = (sources * outputs).sum(dim=-1, keepdim=True) / outputs.square().sum(dim=-1, keepdim=True)
    torch.testing.assert_close(sources, gains * outputs, atol=2e-4 * float(sources.abs().max()), rtol=0)
