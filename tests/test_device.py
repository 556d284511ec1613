"""Networks on a GPU: followed without one, by tensors that know their device and have no values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import sepnet
from sepnet.cli.devices import check_devices
from sepnet.engines import EngineSettings
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.types import Mixture, SepnetError

ON_GPU = PipelineSettings(device="cuda")


class DevicesOnly(FakeTensorMode):
    """Refuses operations on tensors of two devices. Truth values that are asked for are true, numbers 0."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return args[0].dtype == torch.bool
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.mark.parametrize(
    "name", ["pit-2spk-8k", "pit-causal-2spk-8k", "pit-2spk-noisy-8k", "enhance-8k", "conv-autoencoder-esc10"]
)
def test_trained_networks_compute_on_the_gpu_and_give_sources_on_the_cpu(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PipelineSettings, "check_device", lambda settings: None)
    move = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, device: move(module, f"{device}:0"))
    mixture = Mixture(torch.randn(1, 44100), 44100)
    pipeline = Pipeline(sepnet.load(name), ON_GPU)
    assert isinstance(pipeline.separator, torch.nn.Module)
    with DevicesOnly(allow_non_fake_inputs=True):
        sources = pipeline.separate(mixture).sources
        assert sources.device.type == "cpu"
        assert {parameter.device.type for parameter in pipeline.separator.parameters()} == {"cuda"}
        with pytest.raises(RuntimeError, match="two different devices"):
            next(pipeline.separator.parameters()) + torch.ones(1)


def test_other_methods_compute_on_the_cpu() -> None:
    mixture = Mixture(torch.randn(1, 8000), 8000)
    assert Pipeline(sepnet.load("hpss"), ON_GPU).separate(mixture).sources.device.type == "cpu"


def test_without_a_gpu_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SepnetError, match=r"^device=cuda, but PyTorch finds no GPU on this machine: leave"):
        Pipeline(sepnet.load("pit-2spk-8k"), ON_GPU).separate(Mixture(torch.randn(1, 8000), 8000))
    with pytest.raises(SepnetError, match="finds no GPU"):
        check_devices(EngineSettings(), ON_GPU)


def test_workers_of_ray_have_a_gpu_where_networks_compute_on_it() -> None:
    check_devices(EngineSettings(engine="ray", gpus_per_worker=0.5), ON_GPU)
    with pytest.raises(SepnetError, match=r"device=cuda, but Ray .* add gpus_per_worker=1"):
        check_devices(EngineSettings(engine="ray"), ON_GPU)
    with pytest.raises(SepnetError, match=r"gpus_per_worker=0\.5 reserves GPUs, but device=cpu uses none"):
        check_devices(EngineSettings(engine="ray", gpus_per_worker=0.5), PipelineSettings())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", ["pit-2spk-8k", "deep-clustering-8k"])
def test_sources_are_those_of_the_cpu(name: str) -> None:
    mixture = Mixture(torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)), 8000, n_sources=2)
    on_cpu, on_gpu = (Pipeline(sepnet.load(name), s).separate(mixture).sources for s in (None, ON_GPU))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=0, atol=1e-3)
