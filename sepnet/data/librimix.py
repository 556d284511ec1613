"""The lists that fixed sets are made from: LibriMix' own, and lists drawn from a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from sepnet.data.corpus import Corpus
from sepnet.data.fixed_set import FixedSet, ListMixing
from sepnet.data.list_drawing import ListRecipe, draw_list
from sepnet.data.manifest import Manifest
from sepnet.data.mixing import Interval
from sepnet.data.mixture_list import FixedMixture, read_list, write_list
from sepnet.data.noise_drawing import draw_noises
from sepnet.data.table import join_names
from sepnet.paths import expand_home
from sepnet.ranges import PositiveInt
from sepnet.types import SepnetError


@dataclass(frozen=True, kw_only=True)
class NoisyMixing(ListMixing):
    """How the mixtures of a list are made, with noise drawn for a list that has none.

    Args:
        noise: A corpus whose recordings are added to the mixtures; None: no noise, or that of the list.
        noise_snr_db: The interval of the ratio of all sources, outside of any room, to the noise, in dB.

    The other arguments are those of ``sepnet.data.fixed_set.ListMixing``.

    Raises:
        SepnetError: Noise is drawn for a list whose own noise is used.
    """

    noise: Corpus | None = None
    noise_snr_db: Interval = (0.0, 20.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.with_noise and self.noise is not None:
            raise SepnetError("with_noise=true takes the noise of the list, and noise another: leave one out")

    def noisy(
        self, mixtures: Sequence[FixedMixture], manifest: Manifest, *, seed: int, limit: int | None = None
    ) -> Sequence[FixedMixture]:
        """Draw the noise of a list; without a corpus of noise, its mixtures stay as they are.

        Args:
            mixtures: The list.
            manifest: The corpus of its sources.
            seed: Another seed gives other noise.
            limit: Number of mixtures to take, from the first on; None: all.

        Returns:
            The mixtures that are taken, each with a noise.

        Raises:
            SepnetError: As ``sepnet.data.noise_drawing.draw_noises`` does.
        """
        if self.noise is None:
            return mixtures[:limit]
        return draw_noises(
            mixtures,
            manifest,
            self.noise.manifest(),
            snr_db=self.noise_snr_db,
            mode=self.mode,
            seed=seed,
            limit=limit,
        )

    def with_drawn_noise(self) -> ListMixing:
        """Return how the mixtures are made once their noise is drawn: no published list's any more."""
        if self.noise is None:
            return self
        settings = {field.name: getattr(self, field.name) for field in fields(ListMixing)}
        return ListMixing(**settings | {"with_noise": True, "noise_root": self.noise.manifest().root})


@dataclass(frozen=True, kw_only=True)
class LibriMixList(NoisyMixing):
    """A list in a file, as LibriMix publishes them.

    Args:
        csv: The list.
        limit: Number of rows to take, from the first on; None: all.

    The other arguments are those of ``NoisyMixing``.
    """

    csv: str | Path
    limit: PositiveInt | None = None

    @property
    def list_name(self) -> str | None:
        """The name of its file, without the suffix."""
        return Path(self.csv).stem

    def fixed_set(self, manifest: Manifest, sample_rate: int) -> FixedSet:
        """Make the set of the list.

        Args:
            manifest: The corpus of the files.
            sample_rate: Of the mixtures, in Hz.

        Raises:
            SepnetError: The list can't be read, or its files are not in the corpus.
        """
        csv = expand_home(self.csv)
        if not csv.is_file():
            raise SepnetError(
                f"there is no list {csv}: get LibriMix' lists by `git clone "
                "https://github.com/JorisCos/LibriMix data/LibriMix`, or set csv to the path of yours"
            )
        mixtures = self.noisy(read_list(csv), manifest, seed=0, limit=self.limit)
        mixing = self.with_drawn_noise()
        return FixedSet(mixtures=mixtures, manifest=manifest, sample_rate=sample_rate, mixing=mixing)


@dataclass(frozen=True, kw_only=True)
class DrawnList(ListRecipe, NoisyMixing):
    """A list drawn from a split.

    Args:
        split: The split to draw from.
        csv: Where to keep the list, and to read it from again; None: it is drawn each time.
        limit: Number of mixtures to take, from the first on; None: all.

    The other arguments are those of ``sepnet.data.list_drawing.ListRecipe``, which the list is drawn by, and
    of ``NoisyMixing``.
    """

    split: str
    csv: str | Path | None = None
    limit: PositiveInt | None = None

    def mixtures(self, manifest: Manifest) -> Sequence[FixedMixture]:
        """Return what is taken of the list, which is read from ``csv`` if that file exists, else drawn.

        A list that is drawn for ``csv`` is written there as a whole.

        Args:
            manifest: The corpus.

        Raises:
            SepnetError: The list can't be drawn (see ``draw_list``), or ``csv`` holds a list of other counts
                or of other noise.
        """
        csv = None if self.csv is None else expand_home(self.csv)
        if csv is not None and csv.is_file():
            return self._read_kept(csv)[: self.limit]
        drawn = draw_list(manifest.split(self.split), self)
        if csv is None:
            return self.noisy(drawn, manifest, seed=self.seed, limit=self.limit)
        whole = self.noisy(drawn, manifest, seed=self.seed)
        write_list(csv, whole)
        return whole[: self.limit]

    def _read_kept(self, csv: Path) -> list[FixedMixture]:
        mixtures = read_list(csv)
        remedy = "delete it to draw anew, or name another csv"
        noises = [mixture.noise.path for mixture in mixtures if mixture.noise is not None]
        counts = sorted({len(mixture.sources) for mixture in mixtures})
        kept = (len(mixtures), counts, len(noises))
        has_noise = self.with_noise or self.noise is not None
        required = (self.n_mixtures, list(self.source_counts), self.n_mixtures if has_noise else 0)
        if kept != required:
            raise SepnetError(
                f"{csv} holds {_describe(*kept)}, but {_describe(*required)} are required: {remedy}"
            )
        if self.noise is not None:
            recordings = self.noise.manifest()
            if others := sorted({*noises} - {recording.path for recording in recordings}):
                raise SepnetError(
                    f"{csv} holds {len(others)} noises that are not among the {len(recordings)} of "
                    f"{recordings.described}: {join_names(others)}; {remedy}"
                )
        return mixtures

    def fixed_set(self, manifest: Manifest, sample_rate: int) -> FixedSet:
        """Make the set of the list.

        Args:
            manifest: The corpus; the list is drawn from its split ``split``.
            sample_rate: Of the mixtures, in Hz.

        Raises:
            SepnetError: As ``mixtures`` does.
        """
        return FixedSet(
            mixtures=self.mixtures(manifest),
            manifest=manifest.split(self.split),
            sample_rate=sample_rate,
            mixing=self.with_drawn_noise(),
        )


def _describe(n_mixtures: int, counts: Sequence[int], n_noises: int) -> str:
    return f"{n_mixtures} mixtures of {counts} sources, {n_noises or 'none'} of them with noise"
