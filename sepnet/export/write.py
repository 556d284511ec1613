"""One file of a separator: traced, described, written, opened again and compared; or nothing at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sepnet.data.audio import replacing
from sepnet.export.choosing import graph_of
from sepnet.export.formats import SUFFIXES, opened, program
from sepnet.export.graphs import Graph
from sepnet.export.parity import require_parity
from sepnet.types import Separator, SepnetError


@dataclass(frozen=True)
class Exported:
    """What was written. deviation: for each length in samples how far the file is from the model, of full
    scale; None where the package that runs the file is not installed."""

    path: Path
    metadata: Mapping[str, Any]
    n_bytes: int
    deviation: Mapping[int, float] | None


def export(
    separator: Separator,
    out: str | Path,
    *,
    name: str = "",
    config: Mapping[str, Any] | None = None,
    head: bool = False,
    step: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a trained separator as a file that other programs run: ``.onnx`` or ``.pt2``.

    Input ``mixture`` (batch, time), output ``sources`` (batch, source, time), both float32 at the model's
    rate; any number of clips of any length from one sample. What answers to a query has the input ``query``
    (batch, query_time), too. The file is opened again and compared with the separator on five lengths.

    name, config: of the model, for the metadata. head: of deep clustering take the mask head. step: of a
    causal model take the step that serves live audio: its input is a hop (1, hop_samples) and a state, zeros
    at first, its output a hop of each source and the new state, in the same order; the first ``lag_samples``
    that come out stand for nothing.

    Raises SepnetError for what can't be exported, with the reason; for a file that exists, unless
    ``overwrite``; for a folder that can't be written to; and where the file deviates from the model by more
    than 1e-4. Nothing is left then.
    """
    path = Path(out)
    kind = checked(path, overwrite=overwrite)
    graph = graph_of(separator, head=head, step=step)
    told = metadata(graph, name=name, config=config)
    file = program(graph, kind, told)
    with replacing(path) as draft:
        draft.write_bytes(file)
        run = opened(draft.read_bytes(), kind)
        found = None if run is None else require_parity(graph, run)
    return Exported(path, told, len(file), found)


def metadata(graph: Graph, *, name: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the file says of itself."""
    told = {
        "model": name,
        "sample_rate": graph.sample_rate,
        "sources": list(graph.sources),
        "latency_seconds": graph.latency_seconds,
        "sepnet_version": version("sepnet"),
        "config_fingerprint": None if config is None else fingerprint(config),
    }
    if graph.hop_samples is not None:
        told |= {"hop_samples": graph.hop_samples, "lag_samples": graph.lag_samples}
    return told


def fingerprint(config: Mapping[str, Any]) -> str:
    """Twelve digits that change with any setting of a model."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def checked(path: Path, *, overwrite: bool) -> str:
    """The kind of file that a suffix stands for. Raises SepnetError for another, and a taken place."""
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise SepnetError(f"{path}: the suffix {path.suffix!r} says no format: take {' or '.join(SUFFIXES)}")
    if path.is_dir() or (path.exists() and not overwrite):
        raise SepnetError(f"{path} exists already: give overwrite=true, or another name with out=")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise SepnetError(f"can't write {path}: {above} is no folder that may be written to, choose another")
    return kind
