"""The optimizer: against torch's Muon and AdamW, each on the parameters that are theirs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sepnet.training import muon
from sepnet.training.muon import Muon, orthogonalise

SETTINGS = {"lr": 0.02, "weight_decay": 0.1}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def descend(optimizer: torch.optim.Optimizer, parameter: Tensor, steps: int = 6) -> Tensor:
    """The parameter after steps along gradients that are the same for every optimizer."""
    for step in range(steps):
        parameter.grad = noise(*parameter.shape, seed=step + 1)
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (6, 6)])
def test_matrices_go_as_by_torch(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "has_fast_bfloat16", lambda device: True)  # as torch has it everywhere
    ours, theirs = nn.Parameter(noise(*shape)), nn.Parameter(noise(*shape))
    peer = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **SETTINGS)
    torch.testing.assert_close(descend(Muon([ours], **SETTINGS), ours), descend(peer, theirs))


@pytest.mark.parametrize("shape", [(7,), (1, 9), (9, 1, 3), ()])
def test_the_rest_goes_as_by_adamw(shape: tuple[int, ...]) -> None:
    ours, theirs = nn.Parameter(noise(*shape)), nn.Parameter(noise(*shape))
    peer = torch.optim.AdamW([theirs], **SETTINGS)
    torch.testing.assert_close(descend(Muon([ours], **SETTINGS), ours), descend(peer, theirs))


def test_a_kernel_goes_as_its_matrix() -> None:
    kernel, matrix = nn.Parameter(noise(8, 5, 3)), nn.Parameter(noise(8, 5, 3).flatten(1))
    mover, peer = Muon([kernel], **SETTINGS), Muon([matrix], **SETTINGS)
    for step in range(4):
        kernel.grad = noise(8, 5, 3, seed=step + 1)
        matrix.grad = kernel.grad.flatten(1)
        mover.step()
        peer.step()
    torch.testing.assert_close(kernel.flatten(1), matrix)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_orthogonalise_keeps_the_directions_and_levels_the_singular_values(
    shape: tuple[int, int], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "has_fast_bfloat16", lambda device: fast)
    left, _ = torch.linalg.qr(noise(shape[0], min(shape)))
    right, _ = torch.linalg.qr(noise(shape[1], min(shape), seed=1))
    matrix = left @ torch.diag(torch.linspace(0.05, 3.0, min(shape))) @ right.T
    levelled = left.T @ orthogonalise(matrix) @ right
    assert (levelled.diagonal() > 0.6).all()
    assert (levelled.diagonal() < 1.25).all()
    assert (levelled - torch.diag(levelled.diagonal())).abs().max() < 0.05


def test_it_goes_on_from_its_state() -> None:
    """Stopped in the middle and read into a fresh one, the steps are the same."""
    whole = [nn.Parameter(noise(4, 6)), nn.Parameter(noise(4))]
    halves = [nn.Parameter(noise(4, 6)), nn.Parameter(noise(4))]
    steady, first = Muon(whole, **SETTINGS), Muon(halves, **SETTINGS)
    for step in range(6):
        if step == 3:
            state = first.state_dict()
            first = Muon(halves, **SETTINGS)
            first.load_state_dict(state)
        for parameter in (*whole, *halves):
            parameter.grad = noise(*parameter.shape, seed=step + 1)
        steady.step()
        first.step()
    for one, other in zip(whole, halves, strict=True):
        assert torch.equal(one, other)


def test_parameters_without_a_gradient_stay() -> None:
    idle = nn.Parameter(noise(3, 3))
    Muon([idle], **SETTINGS).step()
    assert torch.equal(idle, noise(3, 3))


def test_a_closure_is_called_with_gradients() -> None:
    weight = nn.Parameter(noise(3, 3))
    optimizer = Muon([weight], **SETTINGS)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    losses = [optimizer.step(closure).item() for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]
