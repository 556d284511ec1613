"""Fixed sets of mixtures with one query each, made in memory from a list: see sepnet.data.query_list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float

from sepnet.data.activity import Stretch
from sepnet.data.corpus import Manifest
from sepnet.data.librimix import at_rate, locate, read_mono
from sepnet.data.query_list import (
    QueryMixture,
    draw_query_list,
    read_query_list,
    render,
    write_query_list,
)
from sepnet.data.table import named
from sepnet.types import Mixture, Query, SepnetError

Asked = Literal["target", "other", "absent"]
"""What the query is an example of: the target, the other source, or a class that is not in the mixture."""


@dataclass(frozen=True)
class Files:
    """Reads what a list names: path of the list -> samples at ``sample_rate``. located: path of each file."""

    root: Path
    located: dict[str, str]
    sample_rate: int

    def __call__(self, path: str) -> Float[np.ndarray, " time"]:
        samples, rate = read_mono(self.root / self.located[path])
        return at_rate(samples, rate, self.sample_rate, path)


class QuerySet:
    """Mixtures of a target and an interference, when asked for, with one query.

    mixtures: the list. manifest: the corpus. sample_rate: of the mixtures, in Hz; files of higher rates are
    resampled, files of lower ones refused. query: which example is handed out. The references are target and
    interference, in this order, and the target alone is asked for, whatever the query: with a wrong one it
    shows what a method does without a right one. Raises SepnetError if files are missing.
    """

    def __init__(
        self,
        *,
        mixtures: Sequence[QueryMixture],
        manifest: Manifest,
        sample_rate: int,
        query: Asked = "target",
    ) -> None:
        if query not in get_args(Asked):
            raise SepnetError(f"query is {query!r}, but has to be one of {', '.join(get_args(Asked))}")
        self.mixtures, self.sample_rate, self.query = tuple(mixtures), sample_rate, query
        meant = locate(manifest, sorted({path for mixture in self.mixtures for path in mixture.paths}))
        if missing := [path for path, located in meant.items() if located is None]:
            raise SepnetError(
                f"{len(missing)} files of the list are not among the {len(manifest)} of {manifest.root}: "
                f"{named(missing)}. Choose the corpus and the split that the list was made for"
            )
        located = {path: found for path, found in meant.items() if found is not None}
        self.files = Files(manifest.root, located, sample_rate)
        known = {utterance.path: utterance for utterance in manifest}
        self._label = {path: known[found].label for path, found in located.items()}
        self._sha1 = {path: known[found].sha1 for path, found in located.items()}

    def __len__(self) -> int:
        return len(self.mixtures)

    def __iter__(self) -> Iterator[Mixture]:
        return (self[index] for index in range(len(self)))

    def id(self, index: int) -> str:
        """The mixture_ID of the list."""
        return self.mixtures[index].id

    def labels(self, index: int) -> tuple[str, str]:
        """The classes of target and interference."""
        row = self.mixtures[index]
        return self._label[row.target[0].path], self._label[row.interference[0].path]

    def condition(self, index: int) -> str:
        """The level of the target over the interference, where the target is active."""
        return f"{self.mixtures[index].level_db:+g} dB".replace("+0 dB", "0 dB")

    def segments(self, index: int) -> tuple[Stretch, ...]:
        """When the target sounds: (begin, end) in seconds, in order and apart."""
        return self.mixtures[index].segments

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the list, the settings and the sounds' bytes."""
        content = [self.sample_rate, self.query, [repr(m) for m in self.mixtures], sorted(self._sha1.items())]
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()[:16]

    def __getitem__(self, index: int) -> Mixture:
        row = self.mixtures[index]
        target, interference = (
            np.float32(gain) * render(cuts, row.seconds, self.sample_rate, self.files)
            for cuts, gain in (
                (row.target, row.target_gain),
                (row.interference, row.interference_gain),
            )
        )
        references = torch.from_numpy(np.stack([target, interference]))  # (source, time)
        return Mixture(
            audio=references.sum(dim=0, keepdim=True),
            sample_rate=self.sample_rate,
            n_sources=2,
            queries=(self._query(row),),
            references=references,
            labels=self.labels(index),
            asked=(True, False),
        )

    def _query(self, row: QueryMixture) -> Query:
        cut = dict(zip(get_args(Asked), row.queries, strict=True))[self.query]
        begin = round(cut.start * self.sample_rate)
        excerpt = self.files(cut.path)[begin : begin + round(cut.seconds * self.sample_rate)]
        return Query(torch.from_numpy(excerpt.copy()), self.sample_rate, self._label[cut.path])


class QueryList:
    """A list drawn from a split; see ``sepnet.data.query_list.draw_query_list`` for what it is drawn by.

    seconds: of each mixture. active: interval of the share of it in which the target sounds. levels_db: of
    the target over the rest, in turn. query_seconds: interval of the length of a query. labels: the classes
    to draw from; None: all. csv: where to keep the list, and to read it from again. limit: the first so many
    rows. query: see ``QuerySet``; it does not change the list. Raises SepnetError for an interval that is not
    two numbers.
    """

    def __init__(
        self,
        *,
        split: str,
        n_mixtures: int,
        seconds: float,
        active: Sequence[float] = (1.0, 1.0),
        levels_db: Sequence[float] = (0.0,),
        query: Asked = "target",
        query_seconds: Sequence[float] = (1.0, 3.0),
        labels: Sequence[str] | None = None,
        seed: int = 0,
        csv: str | Path | None = None,
        limit: int | None = None,
    ) -> None:
        for name, ends in (("active", active), ("query_seconds", query_seconds)):
            if len(ends) != 2:
                raise SepnetError(f"{name} is {list(ends)}: give two numbers, in order")
        self.split, self.n_mixtures, self.seconds = split, n_mixtures, seconds
        self.active, self.query_seconds = (active[0], active[1]), (query_seconds[0], query_seconds[1])
        self.levels_db, self.query, self.seed, self.limit = tuple(levels_db), query, seed, limit
        self.labels = None if labels is None else tuple(labels)
        self.csv = None if csv is None else Path(csv).expanduser()

    def mixtures(self, manifest: Manifest, sample_rate: int) -> list[QueryMixture]:
        """The list: read where ``csv`` is there, else drawn, and written if ``csv`` is given.

        Raises SepnetError for a csv of another number of mixtures, length or levels than asked for.
        """
        if self.csv is not None and self.csv.is_file():
            return self._kept(self.csv)
        part = manifest.split(self.split)
        files = Files(part.root, {utterance.path: utterance.path for utterance in part}, sample_rate)
        drawn = draw_query_list(
            part,
            lru_cache(maxsize=256)(files.__call__),
            sample_rate,
            n_mixtures=self.n_mixtures,
            seconds=self.seconds,
            active=self.active,
            levels_db=self.levels_db,
            query_seconds=self.query_seconds,
            labels=self.labels,
            seed=self.seed,
        )
        if self.csv is not None:
            write_query_list(self.csv, drawn)
        return drawn

    def _kept(self, csv: Path) -> list[QueryMixture]:
        mixtures = read_query_list(csv)
        found = (len(mixtures), {m.seconds for m in mixtures}, {m.level_db for m in mixtures})
        asked = (self.n_mixtures, {self.seconds}, {float(db) for db in self.levels_db[: self.n_mixtures]})
        if found != asked:
            raise SepnetError(
                f"{csv} holds {_told(*found)}, but {_told(*asked)} are asked for: delete it to draw anew, or "
                "name another csv"
            )
        return mixtures

    def fixed_set(self, manifest: Manifest, sample_rate: int) -> QuerySet:
        """The mixtures of the list, at ``sample_rate`` Hz, from the files of ``manifest``."""
        return QuerySet(
            mixtures=self.mixtures(manifest, sample_rate)[: self.limit],
            manifest=manifest.split(self.split),
            sample_rate=sample_rate,
            query=self.query,
        )


def _told(count: int, seconds: set[float], levels_db: set[float]) -> str:
    long = " or ".join(f"{each:g}" for each in sorted(seconds))
    return f"{count} mixtures of {long} s at {', '.join(f'{each:g}' for each in sorted(levels_db))} dB"
