"""The largest batch, found on a pretended GPU whose memory ends where we say."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from training_fixtures import compose, make_corpus, only_run, settings

from sepnet import artifact
from sepnet.cli.train import train
from sepnet.data.dataset import MixtureData
from sepnet.training import run as training_run
from sepnet.training.batch_size import largest_batch
from sepnet.types import Batch, SeparatorInfo, SepnetError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("batches") / "wavs")


class Separator(torch.nn.Linear):
    """Runs out of memory with more mixtures than it has room for."""

    def __init__(self, room: int) -> None:
        super().__init__(1, 1)
        self.room: int = room
        self.sizes: list[int] = []

    info = SeparatorInfo()

    def separate(self, mixture: Any) -> Any: ...

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"loss": self(batch.mixture.mean().view(1, 1)).sum()}


@pytest.fixture(name="data")
def _data(corpus: Path, tmp_path: Path) -> MixtureData:
    built: MixtureData = artifact.build(compose(settings(corpus, tmp_path, "data.epoch_size=64")).data)
    return built


def find(separator: Any, data: MixtureData, **more: Any) -> int:
    return largest_batch(separator, data, device=torch.device("meta"), precision=nullcontext, **more)


@pytest.mark.parametrize(("room", "size"), [(5, 4), (9, 4), (10, 8), (20, 16), (79, 32), (2000, 1024)])
def test_it_is_the_largest_that_fits_with_room_to_spare(
    room: int, size: int, data: MixtureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Separator, "to", lambda self, device: self)
    monkeypatch.setattr(Batch, "to", lambda self, device: self)
    separator = Separator(room)
    before = separator.weight.clone()
    assert find(separator, data) == size
    assert all(one < other for one, other in pairwise(separator.sizes))
    assert torch.equal(separator.weight, before)
    assert separator.weight.grad is None
    assert find(Separator(1000), data, max_size=20) == 16
    with pytest.raises(SepnetError, match=r"an epoch of 64 mixtures has no batch of 4"):
        find(Separator(1000), data, max_size=3)
    with pytest.raises(SepnetError, match=r"not even 4 mixtures of 0\.25 s fit into the GPU"):
        find(Separator(3), data)


def test_on_a_cpu_it_wants_a_number(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match=r"loader\.batch_size=auto fills the memory of a GPU"):
        train(compose(settings(corpus, tmp_path, "loader.batch_size=auto")))
    assert not list(tmp_path.glob("runs/*"))


def test_a_run_keeps_the_size_that_was_found(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([8])
    monkeypatch.setattr(training_run, "largest_batch", lambda *_, **__: next(sizes))
    automatic = settings(corpus, tmp_path, "loader.batch_size=auto")
    train(compose([*automatic, "trainer.max_epochs=1"]))
    folder = only_run(tmp_path)
    assert artifact.read_config(folder).loader.batch_size == 8
    train(compose([*automatic, f"resume={folder}"]))  # asks nobody anew
    train(compose([*automatic, "resume=true"]))
    assert artifact.read_config(folder).loader.batch_size == 8
    assert len(list((tmp_path / "runs").iterdir())) == 1
