"""``sepnet prepare``: fetch weights; fetch a corpus, index it, and draw a fixed list from it."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.cli import app
from sepnet.data.corpus import Corpus
from sepnet.data.librimix import DrawnList
from sepnet.data.manifest import Manifest, summarize
from sepnet.types import SepnetError


def main() -> None:
    """Run the command line."""
    app.run(prepare, "prepare")


def prepare(config: DictConfig) -> None:
    """Fetch, index and draw by the settings of conf/prepare.yaml.

    Args:
        config: The settings.

    Raises:
        SepnetError: A setting is missing, or the corpus can't be fetched, indexed or drawn from.
    """
    if config.weights is not None:
        print(f"{config.weights} is in {artifact.resolve(config.weights).folder}")
        if OmegaConf.is_missing(config, "root"):
            return
    if OmegaConf.is_missing(config, "root"):
        raise SepnetError("root has no value: set root=/my/wavs, or choose corpus=librispeech or corpus=toy")
    _check_list(config.list)
    if config.fetch is not None:
        artifact.build(config.fetch)
    corpus: Corpus = artifact.build(config.corpus)
    manifest = corpus.manifest()
    print(summarize(manifest, corpus.skipped()))
    print(f"the index is in {corpus.index_dir}")
    if config.list.split is not None:
        _draw(config.list, manifest)


def _check_list(settings: DictConfig) -> None:
    if (settings.split is None) != (settings.csv is None):
        raise SepnetError(
            f"list.split is {settings.split} and list.csv is {settings.csv}: set both to draw a list"
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
