"""Values that a setting may be given by mistake, and the names of the settings of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WRONG_VALUES: tuple[Any, ...] = (None, "word", -1, 0, 1e9, float("nan"), [], {}, [None], {"a": 1})
"""For each setting of each command: of the wrong type, or far out of range."""
TYPED_VALUES = (
    *("null", "word", "''", "-1", "0", "1", "2", "3", "1.5", "1e9", "1e-30", "1e308", "nan", "inf", "-inf"),
    *("true", "false", "auto", "[]", "[null]", "[1,2]", "[a,b]", "{}", "{a: 1}", "[[]]", "${runs}", "${no}"),
    *(
        "a,b",
        "1,2",
        "10000000000000000000000000000000",
        "x" * 5000,
        "日本",
        "it's",
        "a b",
        "a/b",
        "../up",
        "~",
    ),
    *(
        "~/x",
        "/proc/x",
        "/dev/null/x",
        "-",
        "--",
        ".",
        "..",
        "[",
        "{",
        "'",
        '"',
        "\\",
        "a=b",
        "#",
        "%",
        "???",
    ),
    *(
        "${oc.env:NOPE}",
        "${oc.env:HOME}",
        "1:2:3",
        "0x10",
        "1_000",
        "٣",
        "é",
        "\n",
        "a\nb",
        "\t",
        "*",
        "é" * 200,
    ),
    *("mix.wav", "noise.bin", "empty", "folder", "run", "run/config.yaml", "results", "results/rows.csv"),
    *("hpss", "nmf", "pit-2spk-8k", "identity", "irm", "owner/name", "toy", "cpu", "float", "None", "True"),
)
"""As they are typed on a command line: words of every kind, files of every kind, and Hydra's own signs."""


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of the values in a container."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from leaves(value, f"{prefix}{name}.")
    else:
        yield prefix[:-1]
