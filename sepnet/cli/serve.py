"""``sepnet serve``: a web page and an API for the models in ``models``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le, Len
from omegaconf import DictConfig

from sepnet.cli import app
from sepnet.ranges import NameOrPath, PathSetting, Text
from sepnet.serving import Limits, serve
from sepnet.serving.screenshot import take_screenshots


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """The settings of conf/serve.yaml."""

    models: Annotated[list[NameOrPath], Len(1)]
    host: Text
    port: Annotated[int, Ge(0), Le(65_535)]
    examples: bool
    limits: Limits
    screenshot: PathSetting | None


def main() -> None:
    """Run the command line."""
    app.run(run, "serve", ServeSettings)


def run(config: DictConfig) -> None:
    """Serve until Ctrl-C, or take screenshots of the page.

    Args:
        config: conf/serve.yaml with the overrides of the command line.

    Raises:
        SepnetError: A setting can't be used.
    """
    settings = app.parse(ServeSettings, config)
    if settings.screenshot is not None:
        for path in take_screenshots(settings.screenshot, settings.models, settings.limits):
            print(path)
        return
    serve(
        settings.models,
        host=settings.host,
        port=settings.port,
        limits=settings.limits,
        examples=settings.examples,
    )


if __name__ == "__main__":
    main()
