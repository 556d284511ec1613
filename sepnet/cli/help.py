"""What ``sepnet --help`` and ``sepnet <command> --help`` print."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import yaml

from sepnet.commands import command
from sepnet.paths import config_folder

SUMMARIES = {
    "separate": "separate recordings into their sources",
    "train": "train a model, and write a run folder",
    "eval": "compare methods on a test set: a table, a report, examples to hear",
    "serve": "open a web page and an API on this machine",
    "prepare": "fetch or index a corpus, and draw fixed lists of mixtures",
    "export": "write a model as one file for other programs (ONNX)",
}
USAGES = {"separate": "FILE... [NAME=VALUE...]"}
EXAMPLES = {
    "separate": (
        "mix.wav",
        "meeting.flac model=deep-clustering-8k n_sources=auto out=separated",
        "street.wav model=ast_dgmo query=bark.wav",
    ),
    "train": (
        "model=pit data=toy logger=csv",
        "model=pit data=folder data.corpus.root=/my/wavs",
        "ckpt=pit-2spk-8k data=folder data.corpus.root=/my/wavs optimizer.lr=3e-4",
    ),
    "eval": ("", "separators=[identity,nmf,pit-2spk-8k,irm] data=toy out=results limit=50"),
    "serve": ("", "models=[pit-2spk-8k,nmf] port=8080"),
    "prepare": ("corpus=folder root=/my/wavs", "corpus=librispeech subset=dev-clean"),
    "export": ("model=pit-2spk-8k out=pit.onnx", "model=pit-causal-2spk-8k step=true out=step.onnx"),
}
ASKS_FOR_HELP = ("-h", "--help")
WIDTH = 100
SETTING = re.compile(r"^(?P<indent> *)(?P<name>\w+):(?P<value>[^#]*)(?:#(?P<comment>.*))?$")
HIDDEN = ("defaults", "hydra")


def overview() -> str:
    """The help of ``sepnet`` itself."""
    lines = [f"  {name:<10} {summary}" for name, summary in SUMMARIES.items()]
    return "\n".join(
        [
            "sepnet: train, evaluate and run audio source separation",
            "",
            "usage: sepnet COMMAND [NAME=VALUE...]",
            "",
            *lines,
            "",
            "sepnet COMMAND --help lists a command's settings; sepnet --version tells the version.",
        ]
    )


def command_help(name: str) -> str:
    """The help of one command: its usage, examples, groups of settings, and settings.

    Args:
        name: The command, which is also the name of its file in conf.
    """
    file = config_folder() / f"{name}.yaml"
    call = command(name)
    return "\n".join(
        [
            f"{call}: {SUMMARIES[name]}",
            "",
            f"usage: {call} {USAGES.get(name, '[NAME=VALUE...]')}",
            "",
            "examples:",
            *(f"  {call} {words}".rstrip() for words in EXAMPLES[name]),
            *_groups(file),
            "",
            "settings, with their defaults:",
            *_settings(file),
        ]
    )


def _groups(file: Path) -> list[str]:
    """The groups that the file chooses from, with their options."""
    defaults = yaml.safe_load(file.read_text()).get("defaults", [])
    chosen = {
        key: value
        for entry in defaults
        if isinstance(entry, dict)
        for key, value in entry.items()
        if not key.startswith("override ")
    }
    lines = []
    for group, option in chosen.items():
        options = sorted(path.stem for path in (file.parent / group).glob("*.yaml"))
        text = f"{', '.join(options)} (default: {'none' if option is None else option})"
        lines += _entry(f"{group}=", text)
    return ["", "groups of settings, each a folder of files:", *lines] if lines else []


def _settings(file: Path) -> list[str]:
    """Each setting with its default and its comment; nested ones with dots."""
    values = yaml.safe_load(file.read_text())
    lines: list[str] = []
    parents: list[str] = []
    for line in file.read_text().splitlines():
        match = SETTING.match(line)
        if match is None:
            continue
        depth = len(match["indent"]) // 2
        parents = [*parents[:depth], match["name"]]
        if parents[0] in HIDDEN:
            continue
        value, comment = match["value"].strip(), (match["comment"] or "").strip()
        if depth == 0 and not value and isinstance(values[match["name"]], list):  # on the lines below
            value = f"[{','.join(values[match['name']][:3])},...]"
        if value or comment:
            lines += _entry(f"{'.'.join(parents)}={value}", comment)
    return lines


def _entry(name: str, text: str) -> list[str]:
    """A name, and its text in a column beside it, or below where the name is long."""
    column = 30
    wrapped = textwrap.wrap(text, WIDTH - column) or [""]
    first = f"  {name:<{column - 2}}"
    if not first.endswith(" "):
        return [first.rstrip(), *(" " * column + line for line in wrapped if line)]
    return [(first + wrapped[0]).rstrip(), *(" " * column + line for line in wrapped[1:])]
