"""Values of a training's settings are checked before anything is made."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from sepnet.training.settings import RANGES, check_settings
from sepnet.types import SepnetError


def nested(key: str, value: Any) -> dict[str, Any]:
    group, _, name = key.rpartition(".")
    return {group: {name: value}} if group else {name: value}


@pytest.mark.parametrize("key", RANGES)
def test_values_at_the_ends_of_a_range_are_taken_and_those_beyond_refused(key: str) -> None:
    allowed = RANGES[key]
    ends = [end for end in (allowed.low, allowed.high) if math.isfinite(end)]
    for value in [*ends, None]:
        check_settings(nested(key, value))
    beyond = [allowed.low - 1, allowed.high + 1, math.nan, math.inf, True, "3"]
    for value in [*beyond, *([0.5] if allowed.whole else [])]:
        with pytest.raises(SepnetError, match=re.escape(f"{key} is {value!r}: give {allowed}")):
            check_settings(nested(key, value))


@pytest.mark.parametrize("name", ["a/b", "../../escape", "/tmp/x", "a\\b", "a\0b", "x" * 201, "ü" * 101])
def test_names_that_are_no_part_of_a_folder_s_name_are_refused(name: str) -> None:
    with pytest.raises(SepnetError, match=r"^name (is|has) "):
        check_settings({"name": name})


@pytest.mark.parametrize("name", [None, "a", "two words", "..", 7, "x" * 200])
def test_other_names_are_taken(name: object) -> None:
    check_settings({"name": name})


def test_an_unknown_decay_is_refused() -> None:
    with pytest.raises(SepnetError, match=r"schedule\.decay is 'cosin': give one of cosine, linear, none"):
        check_settings({"schedule": {"decay": "cosin"}})
