"""Fixed sets of mixtures with one query each, made in memory from a list: see sepnet.data.query_list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float

from sepnet.data.activity import Stretch
from sepnet.data.list_files import ListFiles
from sepnet.data.manifest import Manifest
from sepnet.data.query_drawing import QueryRecipe, draw_query_list
from sepnet.data.query_list import QueryMixture, read_query_list, render, write_query_list
from sepnet.paths import expand_home
from sepnet.types import Mixture, Query, SepnetError

QueryKind = Literal["target", "other", "absent"]
"""What the query is an example of: the target, the other source, or a class that is not in the mixture."""


class QuerySet:
    """Mixtures of a target and an interference, made on access, with one query each.

    The references are target and interference, in this order. Only the target is scored, whatever the
    query: a wrong query shows what a method does without a right one.

    Args:
        mixtures: The list.
        manifest: The corpus.
        sample_rate: Of the mixtures, in Hz; files of higher rates are resampled, files of lower ones refused.
        query: What the query is an example of.

    Raises:
        SepnetError: Files are missing, or ``query`` is unknown.
    """

    def __init__(
        self,
        *,
        mixtures: Sequence[QueryMixture],
        manifest: Manifest,
        sample_rate: int,
        query: QueryKind = "target",
    ) -> None:
        if query not in get_args(QueryKind):
            raise SepnetError(f"query is {query!r}, but has to be one of {', '.join(get_args(QueryKind))}")
        self.mixtures, self.sample_rate, self.query = tuple(mixtures), sample_rate, query
        paths = sorted({path for mixture in self.mixtures for path in mixture.paths})
        self._files = ListFiles(manifest, paths)

    def __len__(self) -> int:
        return len(self.mixtures)

    def __iter__(self) -> Iterator[Mixture]:
        return (self[index] for index in range(len(self)))

    def id(self, index: int) -> str:
        """Return the mixture_ID of the list."""
        return self.mixtures[index].id

    def labels(self, index: int) -> tuple[str, str]:
        """Return the classes of target and interference."""
        row = self.mixtures[index]
        return self._label(row.target[0].path), self._label(row.interference[0].path)

    def _label(self, path: str) -> str:
        return self._files.utterances[path].label

    def condition(self, index: int) -> str:
        """Return the level of the target over the interference, where the target is active."""
        return f"{self.mixtures[index].level_db:+g} dB".replace("+0 dB", "0 dB")

    def segments(self, index: int) -> tuple[Stretch, ...]:
        """Return when the target is active: (begin, end) in seconds, in order and apart."""
        return self.mixtures[index].segments

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the list, the settings and the sounds' bytes."""
        files = sorted((path, utterance.sha1) for path, utterance in self._files.utterances.items())
        content = [self.sample_rate, self.query, [repr(m) for m in self.mixtures], files]
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()[:16]

    def __getitem__(self, index: int) -> Mixture:
        row = self.mixtures[index]
        pieces = ((row.target, row.target_gain), (row.interference, row.interference_gain))
        target, interference = (
            np.float32(gain) * render(cuts, row.seconds, self.sample_rate, self._read)
            for cuts, gain in pieces
        )
        references = torch.from_numpy(np.stack([target, interference]))  # (source, time)
        return Mixture(
            audio=references.sum(dim=0, keepdim=True),
            sample_rate=self.sample_rate,
            n_sources=2,
            queries=(self._make_query(row),),
            references=references,
            labels=self.labels(index),
            is_target=(True, False),
        )

    def _read(self, path: str) -> Float[np.ndarray, " time"]:
        return self._files.read(path, self.sample_rate)

    def _make_query(self, row: QueryMixture) -> Query:
        cut = dict(zip(get_args(QueryKind), row.queries, strict=True))[self.query]
        begin = round(cut.start * self.sample_rate)
        excerpt = self._read(cut.path)[begin : begin + round(cut.seconds * self.sample_rate)]
        return Query(torch.from_numpy(excerpt.copy()), self.sample_rate, self._label(cut.path))


@dataclass(frozen=True, kw_only=True)
class QueryList(QueryRecipe):
    """A list drawn from a split.

    Args:
        split: The split to draw from.
        query: What the query is an example of (see ``QuerySet``); it does not change the list.
        csv: Where to keep the list, and to read it from again; None: it is drawn each time.
        limit: Number of mixtures to take, from the first on; None: all.

    The other arguments are those of ``sepnet.data.query_drawing.QueryRecipe``, which the list is drawn by.
    """

    split: str
    query: QueryKind = "target"
    csv: str | Path | None = None
    limit: int | None = None

    def mixtures(self, manifest: Manifest, sample_rate: int) -> list[QueryMixture]:
        """Return the list: read from ``csv`` if that file exists, else drawn and written there.

        Args:
            manifest: The corpus.
            sample_rate: Of the mixtures, in Hz.

        Raises:
            SepnetError: The list can't be drawn, or ``csv`` holds another number of mixtures, or others.
        """
        csv = None if self.csv is None else expand_home(self.csv)
        if csv is not None and csv.is_file():
            return self._read_kept(csv)
        part = manifest.split(self.split)
        files = ListFiles(part, (utterance.path for utterance in part))
        read = lru_cache(maxsize=256)(partial(files.read, sample_rate=sample_rate))
        drawn = draw_query_list(part, read, sample_rate, self)
        if csv is not None:
            write_query_list(csv, drawn)
        return drawn

    def _read_kept(self, csv: Path) -> list[QueryMixture]:
        mixtures = read_query_list(csv)
        kept = (len(mixtures), {m.seconds for m in mixtures}, {m.level_db for m in mixtures})
        levels_db = {float(level_db) for level_db in self.levels_db[: self.n_mixtures]}
        required = (self.n_mixtures, {self.seconds}, levels_db)
        if kept != required:
            raise SepnetError(
                f"{csv} holds {_describe(*kept)}, but {_describe(*required)} are required: delete it to "
                "draw anew, or name another csv"
            )
        return mixtures

    def fixed_set(self, manifest: Manifest, sample_rate: int) -> QuerySet:
        """Make the set of the list.

        Args:
            manifest: The corpus; the list is drawn from its split ``split``.
            sample_rate: Of the mixtures, in Hz.

        Raises:
            SepnetError: As ``mixtures`` does.
        """
        return QuerySet(
            mixtures=self.mixtures(manifest, sample_rate)[: self.limit],
            manifest=manifest.split(self.split),
            sample_rate=sample_rate,
            query=self.query,
        )


def _describe(n_mixtures: int, seconds: set[float], levels_db: set[float]) -> str:
    lengths = " or ".join(f"{length:g}" for length in sorted(seconds))
    return f"{n_mixtures} mixtures of {lengths} s at {', '.join(f'{db:g}' for db in sorted(levels_db))} dB"
