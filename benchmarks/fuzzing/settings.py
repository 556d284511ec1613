"""Commands with one to three of their settings spoilt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import hydra
import numpy as np
from omegaconf import OmegaConf

from benchmarks import tiny
from benchmarks.fuzzing.commands import Workshop, run_command
from benchmarks.fuzzing.trial import Command, Outcome
from benchmarks.fuzzing.values import TYPED_VALUES, leaves
from sepnet.artifact import config_folder
from sepnet.cli.overrides import clashes, key_of

CPU_SECONDS = 15.0
FRESH_SHARE = 0.01  # in interpreters of their own
FLAGS = ("--help", "-h", "--cfg=job", "--info", "--config-name=eval", "--config-name=nothing", "--resolve",
         "--multirun", "-m", "--version", "--nonsense", "-cd=/nowhere", "--package=x", "-x")  # fmt: skip
Did = Callable[[str, frozenset[str]], bool]


@dataclass(frozen=True)
class Base:
    """A command that works.

    Attributes:
        command: Its name.
        config: The file in conf that its settings are in.
        words: What follows the name.
        did: As in ``Command``.
        weight: How often it is drawn.
        serves: Whether only Ctrl-C ends it.
        long: Whether settings can make it take any time.
    """

    command: str
    config: str
    words: tuple[str, ...]
    did: Did
    weight: float = 1.0
    serves: bool = False
    long: bool = False
    stdin: bytes = b""


def made(*ends: str) -> Did:
    """Whether a file with such a name was made or changed."""
    return lambda _, changed: any(name.endswith(ends) for name in changed)


def printed(*texts: str) -> Did:
    """Whether it printed one of these."""
    return lambda text, _: any(part in text for part in texts)


def bases(workshop: Workshop) -> list[Base]:
    """The commands with settings of every kind, on small inputs."""
    separated = made("_separation.json", "event.json")
    pcm = np.random.default_rng(0).integers(-9000, 9000, 4000, dtype=np.int16).tobytes()
    train = tuple(
        tiny.settings(workshop.corpus, workshop.base / "nowhere", "trainer.max_epochs=1", "runs=runs")
    )
    training = made("model.safetensors")
    data = tuple(word for word in train if word.startswith(("data", "+data")) and "epoch_size" not in word)
    score = ("separators=[identity,hpss]", "limit=1", "n_processes=0", "cost_mixtures=0", "out=scores")
    root = f"root={workshop.corpus}"
    return [
        Base("separate", "separate", ("mix.wav", "model=hpss"), separated, 2, long=True),
        Base("separate", "separate", ("folder", "model=nmf", "n_sources=2", "out=o"), separated, 2,
             long=True),
        Base("separate", "separate", ("mix.wav", "model=run", "chunk_seconds=0.3", "overlap_seconds=0.1"),
             separated,
             long=True),
        Base("separate", "separate", ("mix.wav", "model=energy_reference", "query=query.wav"), separated,
             long=True),
        Base("separate", "separate", ("mix.wav", "model=pit-2spk-8k", "gain=0.5", "format=flac"),
             separated, long=True),
        Base("separate", "separate", ("live=true", "model=pit-causal-2spk-8k"), printed("live: the input"), 2,
             stdin=pcm, long=True),
        Base("train", "train", train, training, 3, long=True),
        Base("train", "train", (*train, "trainer.strategy=auto", "ema_decay=0.9"), training, long=True),
        Base("train", "train", (*(w for w in train if not w.startswith("model.")), "model=nmf_supervised"),
             training,
             long=True),
        Base("train", "train", (*(w for w in train if not w.startswith("model.")), "ckpt=run"), training,
             long=True),
        Base("eval", "eval", (*score, *data), made("rows.csv", "report.html"), 2, long=True),
        Base("eval", "eval", (*score, *data, "out=results", "listen=1"), made("report.html", ".html"),
             long=True),
        Base("eval", "eval", ("compare=[results/rows.csv,results/rows.csv]", "out=joined"), made("rows.csv")),
        Base("serve", "serve", ("models=[hpss]", "port=0", "examples=false"), printed(" at http"),
             serves=True),
        Base("prepare", "prepare", ("corpus=folder", root, "corpus.index_dir=index"),
             printed("fingerprint"), 2),
        Base("prepare", "prepare", ("corpus=folder", root, "corpus.index_dir=index", "list.split=train",
                                    "list.csv=list.csv",
                                    "list.n_mixtures=3"), printed("fingerprint"), 1),
        Base("prepare", "prepare", ("corpus=librispeech", "root=libri", "fetch.url=http://127.0.0.1:9"),
             printed("fingerprint")),
        Base("export", "export", ("model=run", "out=x.onnx"), made(".onnx", ".pt2"), long=True),
        Base("export", "export", ("model=pit-causal-2spk-8k", "out=x.pt2", "step=true"), made(".onnx",
                                                                                              ".pt2"), 0.3,
             long=True),
        Base("publish", "publish", ("page=page.md", "evaluations={a: results}"), printed("is up to date"), 2),
        Base("publish", "publish", ("page=page.md", "curves=[run]", "variants=[run]", "figure=f.svg"),
             printed("is up to date")),
        Base("publish", "publish", ("weights=pit-2spk-8k", "weights.run=run", "weights.evaluation=results"),
             printed("is up to date")),
    ]  # fmt: skip


@cache
def _settings(config: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """The dotted names of the settings of a command."""
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        chosen = [word for word in words if "=" in word and not clashes(key_of(word), config)]
        composed = hydra.compose(config, overrides=chosen)
    return tuple(leaves(OmegaConf.to_container(composed, resolve=False)))


def spoilt(rng: np.random.Generator, base: Base) -> tuple[str, ...]:
    """The words of a command with one to three settings that are odd, doubled, removed, added or misspelt."""
    words = list(base.words)
    names = _settings(base.config, base.words)
    for _ in range(int(rng.choice((1, 1, 1, 2, 2, 3)))):
        name, value = str(rng.choice(names)), TYPED_VALUES[int(rng.integers(len(TYPED_VALUES)))]
        kind = rng.integers(24)
        if kind < 14:
            words.append(f"{name}={value}")
        elif kind == 14:
            words.append(f"{name}=[{value},{TYPED_VALUES[int(rng.integers(len(TYPED_VALUES)))]}]")
        elif kind == 15:
            words.append(f"+{name}.x={value}" if rng.random() < 0.5 else f"+unknown={value}")
        elif kind == 16:
            words.append(f"~{name}")
        elif kind == 17:
            words.append(f"{name[:-1]}={value}")
        elif kind == 18:
            words.append(value if value else "=")
        elif kind == 19:
            words.append(str(rng.choice(FLAGS)))
        elif kind == 20:
            words.append(f"{name.partition('.')[0]}={value}")
        elif kind == 21:
            other = str(rng.choice(names))
            words.append(f"{name}=${{{other}}}")
        elif kind == 22 and len(words) > 1:
            words.pop(int(rng.integers(len(words))))
        else:
            number = float(rng.choice((-1, 1))) * 10 ** rng.uniform(-12, 12)
            words.append(f"{name}={number if rng.random() < 0.5 else round(number)}")
    return tuple(word.replace("\0", "") for word in words)


def run(workshop: Workshop, number: int, rng: np.random.Generator) -> Outcome:
    """Run one command with settings that are spoilt."""
    choices = bases(workshop)
    weights = np.array([base.weight for base in choices])
    base = choices[int(rng.choice(len(choices), p=weights / weights.sum()))]
    words = (base.command, *spoilt(rng, base))
    asks = any(word in FLAGS for word in words)
    command = Command(
        words,
        (lambda text, _: bool(text.strip())) if asks else base.did,
        base.stdin,
        ready=b" at http" if base.serves else None,
        may_be_stopped=base.long,
        label=f"sepnet {' '.join(word[:200] for word in words)}",
    )
    with workshop.folder(f"settings-{number}") as work:
        workshop.furnish(work)
        return run_command(command, work, CPU_SECONDS, fresh=rng.random() < FRESH_SHARE)
