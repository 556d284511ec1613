"""``sepnet serve``: a web page and an API for the models that are named."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from sepnet.cli import app
from sepnet.serving import Limits, serve
from sepnet.serving.picture import take
from sepnet.types import SepnetError


def main() -> None:
    """The command line."""
    app.run(run, "serve")


def run(config: DictConfig) -> None:
    """Serve until Ctrl-C. Raises SepnetError for settings that can't be."""
    if not isinstance(config.models, ListConfig):
        raise SepnetError(f"models={config.models}: write models=[{config.models}]")
    names, limits = [str(name) for name in config.models], Limits(**config.limits)
    if config.picture is not None:
        for path in take(Path(config.picture), names, limits):
            print(path)
        return
    serve(names, host=config.host, port=config.port, limits=limits, examples=config.examples)


if __name__ == "__main__":
    main()
