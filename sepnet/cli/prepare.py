"""python scripts/prepare_data.py: fetches a corpus, indexes it, and draws a fixed list from it."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.cli import app
from sepnet.data.corpus import Corpus, Manifest, summary
from sepnet.data.librimix import DrawnList
from sepnet.types import SepnetError


def main() -> None:
    """The command line."""
    app.run(prepare, "prepare")


def prepare(config: DictConfig) -> None:
    """Do what conf/prepare.yaml describes. Raises SepnetError for what can't be."""
    if OmegaConf.is_missing(config, "root"):
        raise SepnetError("which folder? Say root=/my/wavs, or choose corpus=librispeech or corpus=toy")
    _check_list(config.list)
    if config.fetch is not None:
        artifact.build(config.fetch)
    corpus: Corpus = artifact.build(config.corpus)
    manifest = corpus.manifest()
    print(summary(manifest, corpus.skipped()))
    print(f"the index is in {corpus.index_dir}")
    if config.list.split is not None:
        _draw(config.list, manifest)


def _check_list(settings: DictConfig) -> None:
    if (settings.split is None) != (settings.csv is None):
        raise SepnetError(
            f"list.split is {settings.split} and list.csv is {settings.csv}: give both to draw a list"
        )


def _draw(settings: DictConfig, manifest: Manifest) -> None:
    drawn = DrawnList(
        split=settings.split,
        n_mixtures=settings.n_mixtures,
        n_sources=settings.n_sources,
        seed=settings.seed,
        min_seconds=settings.min_seconds,
        csv=settings.csv,
    )
    mixtures = drawn.mixtures(manifest)
    print(
        f"{len(mixtures)} mixtures of {settings.n_sources} sources of {settings.split} are in {settings.csv}"
    )
