"""``sepnet train``: train a model, and write a run folder."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sepnet.cli import app
from sepnet.cli.warm_start import adopt_model
from sepnet.training.run import Training
from sepnet.training.settings import TrainSettings
from sepnet.types import SepnetError


def main() -> None:
    """Run the command line."""
    app.run(train, "train", TrainSettings, sweeps=True)


def train(config: DictConfig) -> None:
    """Train what conf/train.yaml and the command line describe.

    Args:
        config: The composed configuration.

    Raises:
        SepnetError: A setting, the data or the weights to begin from can't be used, or the training diverges.
    """
    prepare(config).run()


def prepare(config: DictConfig) -> Training:
    """Check the settings and build all parts, without writing anything.

    Args:
        config: The composed configuration.

    Raises:
        SepnetError: A setting can't be used.
    """
    settings = app.parse(TrainSettings, config)
    if settings.ckpt is not None:
        try:
            config = adopt_model(config, _overrides(), chosen=_choice("model"))
        except SepnetError as error:
            if settings.resume is not True:
                raise
            raise SepnetError(
                f"{error}; to go on without these weights, name the run: resume=runs/..."
            ) from error
    return Training(app.parse(TrainSettings, config), app.plain(config), model_name=_choice("model") or "run")


def _choice(group: str) -> str | None:
    """The file of a folder in conf that the command line or its experiment chose, where there is one."""
    return HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None


def _overrides() -> list[str]:
    """The overrides of the command line, where there is one."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


if __name__ == "__main__":  # how Lightning starts the other processes of a training
    main()
