"""python scripts/publish.py: puts tables of evaluations into a page, and weights into the package."""

from __future__ import annotations

import json
import shutil
from itertools import dropwhile, takewhile
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import nn

from sepnet import artifact
from sepnet.cli import app
from sepnet.cli.evaluate import strip_time
from sepnet.cli.parts import halved, ship_part, without_paths
from sepnet.evaluation.curves import curves_figure, curves_table
from sepnet.evaluation.insert import insert
from sepnet.evaluation.variants import Variant, variants_table
from sepnet.types import Separator, SepnetError

MOST_BYTES = 12_000_000
HINTS = {"n_sources": "n_sources=2", "queries": "query=example.wav"}  # on the command line
CARD = """---
library_name: sepnet
license: mit
pipeline_tag: audio-to-audio
tags: [audio, source-separation]
---

# {name}

{parameters:.2f} M parameters in half precision, made with sepnet: `sepnet.load("{name}")`, or

    python scripts/separate.py mix.wav model={name}{hints}

## Learnt from

{data}

## How

`{recipe}`, which took {metrics[hours_of_audio]:.0f} hours of audio in {metrics[step]} steps, on
{made[cpu]} in {made[threads]} thread(s) (sepnet {made[git_commit]}, torch {made[packages][torch]}).
On the validation set it reached {metrics[si_sdri_db]:.2f} dB SI-SDRi.

## What it reaches

{table}

## Where it fails

{limits}

## Licence

{licence}

## Configuration

```yaml
{model}```
"""


def main() -> None:
    """The command line."""
    app.run(publish, "publish")


def publish(config: DictConfig) -> None:
    """Write what conf/publish.yaml asks for. Raises SepnetError for files or marks that are missing."""
    page = Path(config.page)
    evaluations = dict(config.evaluations or {})
    if config.evaluation is not None:
        evaluations["results"] = config.evaluation
    for mark, folder in evaluations.items():
        insert(page, mark, _table(Path(folder), full=config.full))
    if config.curves:
        folders = [Path(folder) for folder in config.curves]
        insert(page, "curves", curves_table(folders))
        curves_figure(folders, Path(config.figure))
    if config.get("variants"):
        insert(page, "variants", variants_table([_variant(Path(folder)) for folder in config.variants]))
    if config.get("weights"):
        app.require_all(config)
        ship(artifact.SHIPPED / config.weights.name, config.weights)
        print(f"{artifact.SHIPPED / config.weights.name} is up to date")
    if config.get("shipped"):
        insert(page, "weights", shipped_table())
    if evaluations or config.curves or config.get("shipped") or config.get("variants"):
        print(f"{page} is up to date")


def ship(folder: Path, described: DictConfig) -> None:
    """Copy a run folder into the package: weights in half precision, and a card that says what they are.

    described: a file of conf/weights, whose ``evaluation`` is a folder with the run in its table, or several;
    one with ``folds`` in its place is a part of a separator (see sepnet.cli.parts).
    Raises SepnetError for a run without weights, one that the evaluation
    has no row for, and weights of more than 12 MB.
    """
    if "folds" in described:
        ship_part(folder, described, most_bytes=MOST_BYTES)
        return
    run = Path(described.run)
    halves = halved(run, MOST_BYTES)
    config, separator = artifact.read_config(run), artifact.load(run)
    assert isinstance(separator, nn.Module)  # it has weights
    assert isinstance(separator, Separator)
    evaluations = [described.evaluation] if isinstance(described.evaluation, str) else described.evaluation
    tables = [_table_of(run, Path(evaluation)) for evaluation in evaluations]
    metrics = json.loads((run / artifact.METRICS).read_text())
    card = CARD.format(
        name=folder.name,
        hints="".join(f" {HINTS[need]}" for need in sorted(separator.info.needs)),
        parameters=sum(p.numel() for p in separator.parameters()) / 1e6,
        table="\n\n".join(tables),
        metrics=metrics,
        made=json.loads((run / artifact.PROVENANCE).read_text()),
        model=OmegaConf.to_yaml(config.model),
        **{key: described[key] for key in ("data", "limits", "licence", "recipe")},
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(halves, folder / artifact.WEIGHTS)
    OmegaConf.save(without_paths(config), folder / artifact.CONFIG)
    shutil.copyfile(run / artifact.PROVENANCE, folder / artifact.PROVENANCE)
    reached = _cells(tables[0], strip_time(run.name))
    told = {**metrics, "separates": described.separates, "tested_on": described.tested_on, "test": reached}
    (folder / artifact.METRICS).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    (folder / artifact.CARD).write_text(card)


def _variant(folder: Path) -> Variant:
    settings = OmegaConf.to_container(artifact.read_config(folder).model)
    assert isinstance(settings, dict)
    return Variant(folder, {str(key): value for key, value in settings.items()}, artifact.load(folder))


def shipped_table() -> str:
    """A line for each of the weights that come with sepnet."""
    lines = [
        "| Name | Separates | Tested on | SI-SDRi (dB) | Parameters (M) | MB |",
        "|:--|:--|:--|--:|--:|--:|",
    ]
    for name in artifact.shipped():
        folder = artifact.SHIPPED / name
        told = json.loads((folder / artifact.METRICS).read_text())
        if "test" not in told:
            raise SepnetError(f"{name} does not say what it reaches: ship it again (weights={name})")
        size = (folder / artifact.WEIGHTS).stat().st_size / 1e6
        card = f"[`{name}`](sepnet/weights/{name}/README.md)"
        lines.append(
            f"| {card} | {told['separates']} | {told['tested_on']} | {told['test']['SI-SDRi (dB)']} "
            f"| {told['test']['Parameters (M)']} | {size:.1f} |"
        )
    return "\n".join(lines)


def _cells(table: str, name: str) -> dict[str, str]:
    """The cells of a row of a Markdown table, by the names of its columns."""
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    (row,) = (row for row in rows if row[0].replace("\\", "") == name)
    return dict(zip(head, row, strict=True))


def _table_of(run: Path, evaluation: Path) -> str:
    """The rows of an evaluation's table for the floor, the run and the ceiling, and its sources."""
    lines = _table(evaluation, full=False).splitlines()
    head = [line for line in lines if line.startswith("|")][:2]
    names = (f"| {strip_time(run.name)} ", "| identity", "| ibm", "| irm")
    rows = [line for line in lines if line.replace("\\", "").startswith(names)]
    if not any(line.replace("\\", "").startswith(names[0]) for line in rows):
        raise SepnetError(
            f"the table of {evaluation} has no row {strip_time(run.name)}: evaluate the run first"
        )
    return "\n".join(head + rows)


def _table(folder: Path, *, full: bool) -> str:
    """The table of an evaluation, and where it comes from; full: with every column that the report has."""
    report = folder / ("report.md" if full else "summary.md")
    if not report.is_file():
        raise SepnetError(f"there is no {report}: run scripts/eval.py first")
    if not full:
        return report.read_text()
    lines = dropwhile(lambda line: not line.startswith("|"), report.read_text().splitlines())
    return "\n".join(takewhile(lambda line: not line.startswith("-"), lines))
