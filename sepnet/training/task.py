"""The one LightningModule: it trains whatever has a loss, and knows no separator by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sepnet.metrics import align, improvement, is_silent, si_sdr
from sepnet.types import Batch, Mixture, Scored, Separator, SepnetError, Trainable, visible_hints

SCORE = "si_sdri"  # what separators are validated by
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class DivergedError(SepnetError):
    """The loss or its gradient is no longer a number worth following: the step and the batch's ids."""


class SeparationTask(pl.LightningModule):
    """Minimises ``separator.loss`` and validates with the very ``separate`` that users call.

    optimizer: called with the parameters. max_loss: a training loss above this counts as exploded.

    Logs ``train/*`` (whatever the loss returns), ``train/grad_norm`` and ``val/si_sdri`` in dB: the mean
    over mixtures of the mean over sources, silent references left out. What is ``Scored`` instead of a
    separator has its own score under ``val/``. Raises DivergedError with the step and the mixtures' ids.
    """

    def __init__(self, *, separator: Trainable, optimizer: OptimizerFactory, max_loss: float = 1e6) -> None:
        super().__init__()
        if not isinstance(separator, nn.Module):
            raise SepnetError(f"{type(separator).__name__} has nothing to train: choose a trainable model")
        self.separator = separator
        self.optimizer_factory, self.max_loss = optimizer, max_loss
        self._where = ""

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer_factory(p for p in self.parameters() if p.requires_grad)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        self._where = f"in the batch of [{', '.join(batch.ids)}]"
        with self._found_where():
            losses = self.separator.loss(batch)
        loss = losses["loss"]
        value = float(loss.detach())
        if not math.isfinite(value) or value > self.max_loss:
            raise self._diverged(f"the loss is {value:.4g}")
        logged = {f"train/{name}": scalar.detach() for name, scalar in losses.items()}
        self.log_dict(logged, batch_size=len(batch))
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        scaled = self.trainer.precision == "16-mixed"  # its scaler leaves out such steps
        if not bool(torch.isfinite(norm)) and not scaled:
            raise self._diverged(f"the norm of the gradient is {float(norm):.4g}")
        self.log("train/grad_norm", norm)

    def validation_step(self, mixture: Mixture, index: int) -> None:
        self._where = f"in mixture {index} of the validation"
        with self._found_where():
            score = validation_score(self.separator, mixture)
        if score is not None:
            name = f"val/{score_name(self.separator)}"
            self.log(name, score, prog_bar=True, batch_size=1, sync_dist=True)

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(f"{what} at step {self.global_step}, {self._where}")

    @contextmanager
    def _found_where(self) -> Iterator[None]:
        """Say where NaN was found: an assignment of sources that meets it knows no step and no batch."""
        try:
            yield
        except SepnetError as error:
            if "NaN" not in str(error):
                raise
            raise self._diverged(f"an estimate is not a number ({error})") from error


def score_name(trained: object) -> str:
    """What a trained module is validated by: its own score, or for a separator ``si_sdri``."""
    return trained.score_name if isinstance(trained, Scored) else SCORE


def validation_score(trained: object, mixture: Mixture) -> Tensor | None:
    """Its own score of a mixture, or for a separator the SI-SDRi; None if there is nothing to judge."""
    if not isinstance(trained, Scored):
        assert isinstance(trained, Separator)
        return si_sdr_gain(trained, mixture)
    with _plainly(mixture):
        return trained.score(mixture)


@contextmanager
def _plainly(mixture: Mixture) -> Iterator[None]:
    """In full precision, and not compiled: clips have any length, and each would be compiled for anew."""
    with torch.autocast(mixture.audio.device.type, enabled=False), torch.compiler.set_stance("force_eager"):
        yield


def aligned(separator: Separator, mixture: Mixture) -> Tensor:
    """The estimates (source, time) of a mixture in the order of its references, as evaluated."""
    assert mixture.references is not None
    with _plainly(mixture):
        separation = separator.separate(visible_hints(separator, mixture))
    return align(separation, mixture.references, needs=separator.info.needs, labels=mixture.labels)[0]


def si_sdr_gain(separator: Separator, mixture: Mixture) -> Tensor | None:
    """The mean SI-SDR improvement in dB over a mixture's sources; None if there is nothing to judge.

    Left out are silent sources, one that is all of its mixture, and those that no query asks for.
    """
    references = mixture.references
    assert references is not None
    estimates, references = aligned(separator, mixture).double(), references.double()
    gains = improvement(si_sdr, estimates, references, mixture.audio[:1].double().expand_as(references))
    judged = ~(is_silent(references) | is_silent(mixture.audio[:1] - references))
    if mixture.is_target is not None:
        judged &= torch.tensor(mixture.is_target, device=judged.device)
    return gains[judged].mean() if bool(judged.any()) else None
