"""``sepnet serve``: a web page and an API for the models in ``models``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from sepnet.cli import app
from sepnet.serving import Limits, serve
from sepnet.serving.screenshot import take_screenshots
from sepnet.types import SepnetError


def main() -> None:
    """The command line."""
    app.run(run, "serve")


def run(config: DictConfig) -> None:
    """Serve until Ctrl-C, or take screenshots of the page.

    Args:
        config: conf/serve.yaml with the overrides of the command line.

    Raises:
        SepnetError: A setting can't be used.
    """
    if not isinstance(config.models, ListConfig):
        raise SepnetError(f"models={config.models} is no list: write models=[{config.models}]")
    names, limits = [str(name) for name in config.models], Limits(**config.limits)
    if config.screenshot is not None:
        for path in take_screenshots(Path(config.screenshot), names, limits):
            print(path)
        return
    serve(names, host=config.host, port=config.port, limits=limits, examples=config.examples)


if __name__ == "__main__":
    main()
