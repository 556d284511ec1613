"""Commands that are killed at random moments and given again: python benchmarks/run.py what=kills.

After each kill (SIGKILL, which no program can answer) the same command is given again. It has to end with the
result of one that was never disturbed, and to leave no file that the other does not leave.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from huggingface_hub import constants
from omegaconf import DictConfig
from safetensors.torch import load_file

from benchmarks import tiny
from benchmarks.fuzzing import server
from benchmarks.fuzzing.commands import Workshop, program
from benchmarks.fuzzing.process import Process, prepare
from benchmarks.fuzzing.trial import tree
from sepnet.types import SepnetError

MAX_KILLS = 4  # of one sequence; then the command may end
WALL_SECONDS = 600.0
MAX_DIFFERENCE = 1e-6  # of weights
UNLIKE = ("compute_seconds", "two_thread_seconds", "peak_memory_mb")  # of rows: measured, not computed
SUBSET = "dev-clean"
FAULTY = 1


@dataclass(frozen=True)
class Activity:
    """A command to be killed.

    Attributes:
        words: The command for a working folder.
        again: What is added to it once it was killed.
        result: What has to be the same, of a working folder; compared by ``same``.
        is_waiting: Whether it waits more than it computes, so that the clock tells the moment of a kill.
    """

    words: Callable[[Path], list[str]]
    result: Callable[[Path], Mapping[str, Any]]
    again: tuple[str, ...] = ()
    is_waiting: bool = False


def run(config: DictConfig) -> None:
    """Kill each command ``n_kills`` times altogether, and print what became of it; exit with 1 for a fault.

    Args:
        config: ``n_kills``, ``activities`` and ``seed`` of benchmarks/benchmark.yaml.

    Raises:
        SepnetError: A command that is not disturbed does not end as it should.
    """
    faults = 0
    print("command          kills  sequences  another result  files left  other end   seconds")
    with tempfile.TemporaryDirectory(prefix="sepnet-kills-", ignore_cleanup_errors=True) as folder:
        workshop = Workshop(Path(folder).resolve())
        prepare()
        workshop.build()
        with server.serving(*served(workshop)) as address:
            for name, activity in activities(workshop, address).items():
                if config.activities is None or name in config.activities:
                    faults += storm(name, activity, workshop, int(config.n_kills), int(config.seed))
    if faults:
        sys.exit(FAULTY)


def activities(workshop: Workshop, address: str) -> dict[str, Activity]:
    """The commands by name."""
    shared = workshop.corpus.parent
    rng = np.random.default_rng(1)
    long = tiny.voice(9.0, rng) + tiny.voice(9.0, rng)
    soundfile.write(shared / "long.wav", long, tiny.RATE, subtype="FLOAT")
    score = [word for word in tiny.settings(workshop.corpus, shared) if word.startswith(("data", "+data"))]
    score = [word for word in score if "epoch_size" not in word]
    checksum = hashlib.sha256(_archive(workshop)).hexdigest()
    return {
        "separate": Activity(
            lambda work: ["separate", str(shared / "long.wav"), f"model={workshop.run}", "chunk_seconds=0.8",
                          "overlap_seconds=0.2", f"out={work / 'out'}"],
            lambda work: separated(work / "out"),
        ),
        "separate_folder": Activity(
            lambda work: ["separate", str(workshop.corpus / "train"), "model=hpss", "format=flac",
                          "subtype=PCM_16",
                          f"out={work / 'out'}"],
            lambda work: separated(work / "out"),
        ),
        "train": Activity(lambda work: ["train", *tiny.settings(workshop.corpus, work)], _trained,
                          ("resume=true",)),
        "eval": Activity(
            lambda work: ["eval", "separators=[identity,hpss,irm]", "limit=2", "n_processes=0",
                          "cost_mixtures=1",
                          "listen=1", *score, f"out={work / 'scores'}"],
            _scored,
        ),
        "fetch_corpus": Activity(
            lambda work: ["prepare", "corpus=librispeech", f"root={work / 'libri'}", f"subset={SUBSET}",
                          f"fetch.url={address}", f"+fetch.checksums={{{SUBSET}: '{checksum}'}}",
                          "corpus.index_dir=index",
                          "list.split=null"],
            partial(_contents, ignored=()),
            is_waiting=True,
        ),
        "fetch_weights": Activity(
            lambda work: [f"hub:{address}", "prepare", f"weights={server.MODEL}"],
            partial(_contents, ignored=(".locks",)),
            is_waiting=True,
        ),
    }  # fmt: skip


def storm(name: str, activity: Activity, workshop: Workshop, n_kills: int, seed: int) -> int:
    """Kill a command many times; print a line, and each fault; return the number of faults."""
    begin = time.monotonic()
    rng = np.random.default_rng([seed, sum(name.encode())])
    with workshop.folder(f"{name}-whole") as work:
        process = Process(_program(activity.words(work), work), work)
        process.wait(WALL_SECONDS, until=lambda: _spent(process, activity) < 0)
        spent = process.spent
        if process.kill() != 0:
            raise SepnetError(f"sepnet {' '.join(activity.words(work))} fails: {process.err[-1500:]}")
        expected, names = activity.result(work), _names(work)
    kills, sequences, faults = 0, 0, {"another result": 0, "files left": 0, "other end": 0}
    while kills < n_kills:
        sequences += 1
        with workshop.folder(f"{name}-{sequences}") as work:
            moments = rng.uniform(0, 1, min(MAX_KILLS, n_kills - kills)) * spent
            done, status, err = _sequence(activity, work, list(moments))
            kills += done
            if status != 0:
                kind, detail = "other end", f"{status}: {err[-1500:]}"
            elif difference := same(expected, activity.result(work)):
                kind, detail = "another result", difference
            elif left := sorted(_names(work) ^ names):
                kind, detail = "files left", str(left[:8])
            else:
                continue
            faults[kind] += 1
            print(f"{name}:{sequences}, killed at {moments.round(2)} of {spent:.2f} s: {kind}: {detail}")
    counts = "  ".join(
        str(count).rjust(width) for count, width in zip(faults.values(), (14, 10, 9), strict=True)
    )
    print(f"{name:16} {kills:5}  {sequences:9}  {counts}  {time.monotonic() - begin:8.0f}", flush=True)
    return sum(faults.values())


def _sequence(activity: Activity, work: Path, moments: list[float]) -> tuple[int, int, str]:
    """Give a command until it ends by itself; kill it at these moments. The kills, the status, the errors."""
    kills = 0
    words = first = activity.words(work)
    for moment in [*moments, float("inf")]:
        process = Process(_program(words, work), work)
        if process.wait(WALL_SECONDS, until=partial(_is_late, process, activity, moment)):
            status = process.kill()
            if status == 2 and "none of the" in process.err:  # killed before it had written that it began
                words = first
                continue
            return kills, status, process.err
        process.kill()
        kills += 1
        words = [*first, *activity.again]
    process = Process(_program(first, work), work)
    process.wait(WALL_SECONDS)
    return kills, process.kill(), process.err


def _is_late(process: Process, activity: Activity, moment: float) -> bool:
    return _spent(process, activity) >= moment


def _spent(process: Process, activity: Activity) -> float:
    """The seconds that a process has spent, of the clock or of the processor."""
    process.spent = time.monotonic() - process.begin if activity.is_waiting else process.cpu_seconds()
    return process.spent


def _program(words: list[str], work: Path) -> Callable[[], object]:
    """A command; ``hub:<address>`` before it names the server of the hub."""
    if not words[0].startswith("hub:"):
        return program(words)
    address = words[0].removeprefix("hub:")

    def run_command() -> object:
        home = work / "hub"
        constants.ENDPOINT, constants.HF_HOME, constants.HF_HUB_CACHE = address, str(home), str(home / "hub")
        constants.HUGGINGFACE_CO_URL_TEMPLATE = address + "/{repo_id}/resolve/{revision}/{filename}"
        constants.HF_HUB_DISABLE_XET = True
        return program(words[1:], is_offline=False)()

    return run_command


def _names(work: Path) -> frozenset[str]:
    """The names of all files, without what is named by the time or counted for each start."""
    names = set()
    for name in tree(work.parent):
        parts = name.split("/")
        if "csv" in parts or parts[0] in ("stdin", "stdout", "stderr"):
            continue
        if "runs" in parts and len(parts) > (place := parts.index("runs")) + 1 and "-pit" in parts[place + 1]:
            parts[place + 1] = "run"
        names.add("/".join(parts))
    return frozenset(names)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """How two results differ; empty: they do not."""
    if one.keys() != other.keys():
        return f"other parts: {sorted(one.keys() ^ other.keys())[:5]}"
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            if value.shape != other[name].shape or float((value - other[name]).abs().max()) > MAX_DIFFERENCE:
                return f"{name} differs by {float((value - other[name]).abs().max()):.2g}"
        elif value != other[name]:
            return f"{name}: {str(value)[:200]} and {str(other[name])[:200]}"
    return ""


def _contents(work: Path, ignored: tuple[str, ...]) -> dict[str, Any]:
    return {name: digest for name, digest in tree(work).items()
            if not any(part in name for part in ignored) and not name.endswith("index.json")}  # fmt: skip


def separated(folder: Path) -> dict[str, Any]:
    """The bytes of the sources, and the records without times."""
    result: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.endswith("_separation.json"):
            result[path.name] = {
                k: v for k, v in json.loads(path.read_text()).items() if k != "compute_seconds"
            }
        elif path.is_file():
            # A file of floats holds the time at which it was written.
            is_sound = path.suffix in (".wav", ".flac")
            result[path.name] = soundfile.read(path)[0].tobytes() if is_sound else path.read_bytes()
    return result


def _trained(work: Path) -> dict[str, Any]:
    """The weights of the best and of the last step, and the scores."""
    (folder,) = (work / "runs").iterdir()
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    metrics = json.loads((folder / "metrics.json").read_text())
    weights = {
        **load_file(folder / "model.safetensors"),
        **{f"last {k}": v for k, v in last["state_dict"].items()},
    }
    floats = {name: torch.tensor(value) for name, value in metrics.items() if isinstance(value, float)}
    return {
        **{k: v.float() for k, v in weights.items()},
        **floats,
        "step": metrics["step"],
        "steps": last["global_step"],
    }


def _scored(work: Path) -> dict[str, Any]:
    """The rows without times and memory."""
    with (work / "scores" / "rows.csv").open() as stream:
        rows = [
            {name: cell for name, cell in row.items() if name not in UNLIKE} for row in csv.DictReader(stream)
        ]
    return {f"row {number}": row for number, row in enumerate(rows)}


def _archive(workshop: Workshop) -> bytes:
    path = workshop.corpus.parent / "archive.tar.gz"
    if not path.exists():
        folder = workshop.corpus.parent / "LibriSpeech" / SUBSET
        rng = np.random.default_rng(0)
        for speaker in (84, 85, 86):
            place = folder / str(speaker) / "1"
            place.mkdir(parents=True)
            soundfile.write(place / f"{speaker}-1-0000.flac", tiny.voice(2.0, rng, 16000), 16000)
        path.write_bytes(server.packed(folder.parent, "LibriSpeech"))
        shutil.rmtree(folder.parent)
    return path.read_bytes()


def served(workshop: Workshop) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What the server of the storm holds: an archive, and the files of a model."""
    model = {path.name: path.read_bytes() for path in workshop.run.iterdir() if path.is_file()}
    return {f"/{SUBSET}.tar.gz": _archive(workshop)}, model
