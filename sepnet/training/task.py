"""The only LightningModule: it trains every module with a loss, and knows no separator by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sepnet.metrics import align, improvement, is_silent, si_sdr
from sepnet.types import Batch, Mixture, Scored, Separator, SepnetError, Trainable, visible_hints

SI_SDRI = "si_sdri"  # the validation score of separators
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class DivergedError(SepnetError):
    """The loss or its gradient is not finite or too large; the message names the step and the mixtures."""


class SeparationTask(pl.LightningModule):
    """Minimises ``separator.loss``, and validates with the same ``separate`` that users call.

    Logs ``train/*`` (all that the loss returns), ``train/grad_norm`` and ``val/si_sdri`` in dB: the mean over
    mixtures of the mean over sources, without silent references. A part of a separator (``Scored``) has its
    own score under ``val/``.

    Args:
        separator: The module to train.
        optimizer: Makes the optimizer from the parameters.
        max_loss: A training loss above this counts as divergence.

    Raises:
        SepnetError: The separator is no module, so it has nothing to train.
        DivergedError: In training: the loss or its gradient is not finite or too large.
    """

    def __init__(self, *, separator: Trainable, optimizer: OptimizerFactory, max_loss: float = 1e6) -> None:
        super().__init__()
        if not isinstance(separator, nn.Module):
            raise SepnetError(f"{type(separator).__name__} has nothing to train: choose a trainable model")
        self.separator = separator
        self.optimizer_factory, self.max_loss = optimizer, max_loss
        self._position = ""  # of the batch or mixture, for messages

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer_factory(p for p in self.parameters() if p.requires_grad)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        self._position = f"in the batch of [{', '.join(batch.ids)}]"
        with self._nan_as_divergence():
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
        is_scaled = self.trainer.precision == "16-mixed"  # its gradient scaler skips such steps
        if not bool(torch.isfinite(norm)) and not is_scaled:
            raise self._diverged(f"the norm of the gradient is {float(norm):.4g}")
        self.log("train/grad_norm", norm)

    def validation_step(self, mixture: Mixture, index: int) -> None:
        self._position = f"in mixture {index} of the validation"
        with self._nan_as_divergence():
            score = validation_score(self.separator, mixture)
        # With several processes, one that can't score any of its mixtures takes part in the sum all the same.
        # Lightning averages the weights over the processes, and rounds whole numbers down when it does.
        weight: Any = 0.0 if score is None else 1.0
        if score is not None or self.trainer.world_size > 1:
            self.log(
                f"val/{score_name(self.separator)}",
                0.0 if score is None else score,
                prog_bar=True,
                batch_size=weight,
                sync_dist=True,
            )

    def _diverged(self, reason: str) -> DivergedError:
        return DivergedError(f"{reason} at step {self.global_step}, {self._position}")

    @contextmanager
    def _nan_as_divergence(self) -> Iterator[None]:
        """Add step and batch to an error about NaN, which is raised where neither is known."""
        try:
            yield
        except SepnetError as error:
            if "NaN" not in str(error):
                raise
            raise self._diverged(f"an estimate is not a number ({error})") from error


def score_name(trained: object) -> str:
    """Return the name of the validation score of a module.

    Args:
        trained: A separator, whose score is ``si_sdri``, or a part of one with a score of its own.
    """
    return trained.score_name if isinstance(trained, Scored) else SI_SDRI


def validation_score(trained: object, mixture: Mixture) -> Tensor | None:
    """Score a module on one mixture.

    Args:
        trained: A separator, or a part of one with a score of its own.
        mixture: With references.

    Returns:
        The SI-SDRi in dB, or the module's own score; None if the mixture cannot be scored.
    """
    if not isinstance(trained, Scored):
        assert isinstance(trained, Separator)
        return si_sdr_gain(trained, mixture)
    with _full_precision(mixture):
        return trained.score(mixture)


@contextmanager
def _full_precision(mixture: Mixture) -> Iterator[None]:
    """Compute in full precision, and uncompiled, because each new length of a clip would be compiled."""
    with torch.autocast(mixture.audio.device.type, enabled=False), torch.compiler.set_stance("force_eager"):
        yield


def aligned_estimates(separator: Separator, mixture: Mixture) -> Float[Tensor, "source time"]:
    """Separate a mixture, and bring the estimates into the order of its references as an evaluation does.

    Args:
        separator: The separator.
        mixture: With references.

    Returns:
        (source, time).
    """
    assert mixture.references is not None
    with _full_precision(mixture):
        separation = separator.separate(visible_hints(separator, mixture))
    return align(separation, mixture.references, needs=separator.info.needs, labels=mixture.labels)[0]


def si_sdr_gain(separator: Separator, mixture: Mixture) -> Tensor | None:
    """Compute the mean SI-SDR improvement over the sources of a mixture.

    Silent sources, a source that is the whole mixture, and sources without a query are left out.

    Args:
        separator: The separator.
        mixture: With references.

    Returns:
        The mean in dB; None if no source is left.
    """
    references = mixture.references
    assert references is not None
    estimates, references = aligned_estimates(separator, mixture).double(), references.double()
    gains = improvement(si_sdr, estimates, references, mixture.audio[:1].double().expand_as(references))
    is_scored = ~(is_silent(references) | is_silent(mixture.audio[:1] - references))
    if mixture.is_target is not None:
        is_scored &= torch.tensor(mixture.is_target, device=is_scored.device)
    return gains[is_scored].mean() if bool(is_scored.any()) else None
