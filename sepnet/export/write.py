"""Exporting a separator: tracing, writing, and comparing the file with the separator."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sepnet.atomic import replacing
from sepnet.export.build import build_graph
from sepnet.export.formats import SUFFIXES, encode_graph, open_graph
from sepnet.export.graphs import Graph
from sepnet.export.parity import require_parity
from sepnet.types import Separator, SepnetError


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: Where it is.
        metadata: What it says about itself.
        n_bytes: Its size.
        deviation: For each length in samples, the largest difference from the model relative to full scale;
            None if the package that runs the file is not installed.
    """

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
    """Write a trained separator as a file for other programs, ``.onnx`` or ``.pt2``.

    The input is ``mixture`` (batch, time), the output ``sources`` (batch, source, time), both float32 at the
    model's sample rate, for any number of clips of any length from one sample. A separator with queries has a
    second input, ``query`` (batch, query_time). The file is opened again and compared with the separator on
    clips of five lengths.

    Args:
        separator: A trained separator.
        out: The file.
        name: Of the model, for the metadata.
        config: Of the model, for the fingerprint in the metadata.
        head: Whether to export the mask head of deep clustering.
        step: Whether to export the step of a causal model, for live audio. Its inputs are a hop
            (1, hop_samples) and a state, zeros at first; its outputs are a hop of each source and the new
            state, in the same order. The first ``lag_samples`` of the output are to be dropped.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The file, its metadata, and how far it deviates from the model.

    Raises:
        SepnetError: The separator can't be exported, the file exists or can't be written, or it deviates from
            the model by more than 1e-4. No file is left then.

    Example:
        >>> import sepnet
        >>> from sepnet.export import export
        >>> export(sepnet.load("pit-2spk-8k"), "pit.onnx").metadata["sample_rate"]  # doctest: +SKIP
        8000
    """
    path = Path(out)
    file_format = check_path(path, overwrite=overwrite)
    graph = build_graph(separator, head=head, step=step)
    description = metadata(graph, name=name, config=config)
    content = encode_graph(graph, file_format, description)
    with replacing(path) as draft:
        draft.write_bytes(content)
        run = open_graph(draft.read_bytes(), file_format)
        deviation = None if run is None else require_parity(graph, run)
    return Exported(path, description, len(content), deviation)


def metadata(graph: Graph, *, name: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Describe a graph, for its file."""
    description = {
        "model": name,
        "sample_rate": graph.sample_rate,
        "sources": list(graph.sources),
        "latency_seconds": graph.latency_seconds,
        "sepnet_version": version("sepnet"),
        "config_fingerprint": None if config is None else fingerprint(config),
    }
    if graph.hop_samples is not None:
        description |= {"hop_samples": graph.hop_samples, "lag_samples": graph.lag_samples}
    return description


def fingerprint(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that change with any setting of a model."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def check_path(path: Path, *, overwrite: bool) -> str:
    """Check where a file is to be written, and return the format that its suffix stands for.

    Raises:
        SepnetError: The suffix is unknown, the file exists, or it can't be written.
    """
    file_format = SUFFIXES.get(path.suffix.lower())
    if file_format is None:
        raise SepnetError(
            f"{path}: the suffix {path.suffix!r} is no known format: use {' or '.join(SUFFIXES)}"
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise SepnetError(f"{path} exists already: give overwrite=true, or another name with out=")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SepnetError(
            f"can't write {path}: {parent} is no folder that you may write to; choose another with out="
        )
    return file_format
