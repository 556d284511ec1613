"""What a hyperparams.yaml of speechbrain describes: constructor calls, read as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepnet.artifact.build import shorten
from sepnet.artifact.formats.plain_yaml import Tagged
from sepnet.artifact.formats.settings import Settings
from sepnet.types import SepnetError

MODELS = "speechbrain.lobes.models."
DUAL_PATH = f"{MODELS}dual_path."
MAX_REFERENCES = 20  # from a setting to the value that it refers to


class Described:
    """What a hyperparams.yaml describes, with its references followed.

    Args:
        values: The content of the file.
        path: The file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.values, self.path = values, path

    def follow(self, value: object) -> object:
        """Replace ``!ref <name>`` by the value of that name."""
        for _ in range(MAX_REFERENCES):
            if not isinstance(value, Tagged) or value.tag != "ref":
                return value
            name = str(value.value).strip()
            if not (name.startswith("<") and name.endswith(">") and name[1:-1] in self.values):
                raise SepnetError(f"{self.path}: the reference {shorten(name)} leads nowhere: refused")
            value = self.values[name[1:-1]]
        raise SepnetError(f"{self.path}: a reference leads in a circle, or through too many others")

    def mapping(self, name: str) -> Mapping[str, Any]:
        """The mapping of a name."""
        value = self.follow(self.values.get(name))
        if not isinstance(value, Mapping):
            raise SepnetError(f"{self.path} has no {name} by name: it describes no separator of speechbrain")
        return value

    def constructed(self, values: Mapping[str, Any], name: str, targets: tuple[str, ...]) -> ConstructorCall:
        """The constructor call of a name, which has to be of one of several classes."""
        value = self.follow(values.get(name))
        if (
            not isinstance(value, Tagged)
            or not isinstance(value.value, Mapping)
            or not value.tag.startswith("new:")
        ):
            raise SepnetError(f"{self.path}: {name} is not made by !new: of a class")
        target = value.tag.removeprefix("new:")
        if target not in targets:
            raise SepnetError(
                f"{self.path}: {name} is a {shorten(target)}, which sepnet does not have: it reads "
                f"{', '.join(targets)}"
            )
        arguments = {key: self.follow(each) for key, each in value.value.items()}
        return ConstructorCall(target, arguments, f"{self.path}, {target.rpartition('.')[2]}")


class ConstructorCall(Settings):
    """The arguments of a constructor.

    Args:
        target: Its name, with those of its modules.
        arguments: By name, with references followed.
        place: Where they stand, for messages.
    """

    def __init__(self, target: str, arguments: Mapping[str, Any], place: str) -> None:
        super().__init__(arguments, place)
        self.target, self.arguments = target, arguments
