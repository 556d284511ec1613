"""YAML that a stranger wrote, read as plain data: tags construct nothing, and aliases are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sepnet.artifact.build import shorten
from sepnet.paths import CARD
from sepnet.types import SepnetError

MAX_BYTES = 2**20


@dataclass(frozen=True)
class Tagged:
    """A value that bears a tag, such as ``!new:package.Class``.

    Attributes:
        tag: Without the exclamation mark.
        value: A mapping, a list, or a text.
    """

    tag: str
    value: Any


class _Loader(yaml.SafeLoader):
    """Keeps tags as data and refuses aliases, which can make a small file of many gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias, and compose any other node."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases, which settings do not need")
        return super().compose_node(parent, index)


def _keep(loader: _Loader, tag: str, node: yaml.Node) -> Tagged:
    if isinstance(node, yaml.MappingNode):
        return Tagged(tag, loader.construct_mapping(node, deep=True))
    if isinstance(node, yaml.SequenceNode):
        return Tagged(tag, loader.construct_sequence(node, deep=True))
    return Tagged(tag, str(node.value))


_Loader.add_multi_constructor("!", _keep)


def read_plain_yaml(text: str, place: str | Path) -> dict[str, Any]:
    """Read a mapping.

    Args:
        text: The YAML.
        place: Where it stands, for messages.

    Returns:
        The mapping, with ``Tagged`` values where there are tags.

    Raises:
        SepnetError: It is too long, not YAML, not a mapping, or uses aliases or Python's own tags.
    """
    if len(text) > MAX_BYTES:
        raise SepnetError(f"{place} has {len(text) / 1e6:.1f} MB, too much for settings: refused")
    try:
        values = yaml.load(text, Loader=_Loader)
    except Exception as error:  # a hostile text can raise any
        raise SepnetError(
            f"{place} can't be read as settings: {shorten(error) or type(error).__name__}"
        ) from error
    if not isinstance(values, Mapping):
        raise SepnetError(f"{place} holds a {type(values).__name__}, not settings by name")
    return {str(name): value for name, value in values.items()}


def read_card(folder: Path) -> dict[str, Any]:
    """The settings at the head of a model card, between two lines of dashes; empty where there are none."""
    card = folder / CARD
    if not card.is_file() or card.stat().st_size > MAX_BYTES:
        return {}
    text = card.read_text(errors="replace")
    if not text.startswith("---\n"):
        return {}
    head, end, _ = text.removeprefix("---\n").partition("\n---")
    try:
        return read_plain_yaml(head, card) if end else {}
    except SepnetError:
        return {}
