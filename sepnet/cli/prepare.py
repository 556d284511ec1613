"""``sepnet prepare``: fetch weights; fetch a corpus, index it, and draw a fixed list from it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.cli import app
from sepnet.cli.prepare_settings import ListSettings, PrepareSettings
from sepnet.data.corpus import Corpus
from sepnet.data.librimix import DrawnList
from sepnet.data.manifest import Manifest, summarize
from sepnet.ranges import NameOrPath
from sepnet.settings import check_value
from sepnet.types import SepnetError
from sepnet.urls import local_path


def main() -> None:
    """Run the command line."""
    app.run(prepare, "prepare", PrepareSettings)


def prepare(config: DictConfig) -> None:
    """Fetch, index and draw by the settings of conf/prepare.yaml.

    Args:
        config: The settings.

    Raises:
        SepnetError: A setting is missing, or the corpus can't be fetched, indexed or drawn from.
    """
    weights = check_value("weights", NameOrPath | None, config.weights)
    if weights is not None:
        print(f"{weights} is in {artifact.resolve(weights).folder}")
        if OmegaConf.is_missing(config, "root"):
            return
    if OmegaConf.is_missing(config, "root"):
        raise SepnetError("root has no value: set root=/my/wavs, or choose corpus=librispeech or corpus=toy")
    settings = app.parse(PrepareSettings, config)
    if settings.fetch is not None:
        local_path(settings.root)  # nothing is fetched into a store
    corpus: Corpus = artifact.build(settings.corpus, key="corpus")
    if settings.fetch is not None:
        artifact.build(settings.fetch, key="fetch")
    manifest = corpus.manifest()
    print(summarize(manifest, corpus.skipped()))
    print(f"the index is in {corpus.index_dir}")
    if settings.list.split is not None and settings.list.csv is not None:
        _draw(settings.list, manifest, settings.list.split, settings.list.csv)


def _draw(settings: ListSettings, manifest: Manifest, split: str, csv: Path) -> None:
    drawn = DrawnList(
        split=split,
        n_mixtures=settings.n_mixtures,
        n_sources=settings.n_sources,
        seed=settings.seed,
        min_seconds=settings.min_seconds,
        csv=csv,
    )
    mixtures = drawn.mixtures(manifest)
    print(f"{len(mixtures)} mixtures of {settings.n_sources} sources of {split} are in {csv}")
