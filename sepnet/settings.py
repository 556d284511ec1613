"""Typed settings: dataclasses and constructors whose annotations say what a configuration may hold.

Every value of a configuration is checked by ``parse`` or ``check_arguments`` before anything is made, so that
all refusals read alike: the setting, its value, and what it may be. Ranges are in ``sepnet.ranges``.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from sepnet.annotations import describe, type_adapter
from sepnet.ranges import Verbatim
from sepnet.types import SepnetError
from sepnet.urls import is_url, shown

FLAT = {"flat": True}
"""The metadata of a field that is a dataclass whose own fields are settings of the same level."""
TARGET = "_target_"
T = TypeVar("T")
MAX_SHOWN = 80  # characters of a refused value


def parse(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Make a settings dataclass of plain values.

    Args:
        cls: A dataclass with annotated fields. A field that is a dataclass itself is a group of settings.
        values: The values by name, as plain containers. Names are not checked: see ``check_names``.
        prefix: What precedes the names in messages, with its dot.

    Returns:
        The settings.

    Raises:
        SepnetError: A value is missing, or is none that its field may have.
    """
    chosen: dict[str, Any] = {}
    for field in _fields(cls):
        annotation = _hints(cls)[field.name]
        if field.metadata.get("flat"):
            own = {each.name for each in _fields(cls)}
            shared = {name: value for name, value in values.items() if name not in own}
            chosen[field.name] = parse(annotation, shared, prefix)
        elif field.name not in values:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise SepnetError(f"{prefix}{field.name} has no value: give {prefix}{field.name}=...")
        elif _group(annotation) is not None and (values[field.name] is not None or _is_group(annotation)):
            group = check_value(f"{prefix}{field.name}", dict[str, Any], values[field.name])
            chosen[field.name] = parse(_group(annotation), group, f"{prefix}{field.name}.")
        else:
            chosen[field.name] = check_value(f"{prefix}{field.name}", annotation, values[field.name])
    return cls(**chosen)


def verbatim_names(cls: type[Any]) -> dict[str, bool]:
    """The settings of a dataclass whose values are typed as they are, such as paths.

    Args:
        cls: A dataclass of settings.

    Returns:
        Their dotted names, and whether each holds a list of such values.
    """
    names: dict[str, bool] = {}
    for field in _fields(cls):
        annotation = _hints(cls)[field.name]
        if (group := _group(annotation)) is not None:
            start = "" if field.metadata.get("flat") else f"{field.name}."
            nested = verbatim_names(group)
            names |= {f"{start}{name}": is_list for name, is_list in nested.items()}
        elif _is_verbatim(annotation):
            names[field.name] = "a list" in describe(annotation)
    return names


def check_arguments(
    target: Callable[..., Any], values: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    """Check the arguments of a constructor by its annotations.

    Args:
        target: A class or a function.
        values: Arguments by name. A mapping with a ``_target_`` stands for an object, and is not checked.
        prefix: What precedes the names in messages, with its dot.

    Returns:
        The arguments, converted to the types of the annotations.

    Raises:
        SepnetError: The target has no such argument, or an argument may not have such a value.
    """
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = _hints(target)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise SepnetError(f"{prefix}{name!r} is no name of a setting: give a text")
        if name not in parameters and not takes_any:
            raise SepnetError(
                f"there is no setting {prefix}{name}{nearest(name, parameters, n_listed=len(parameters))}"
            )
        described = _describes_objects(value)
        checked[name] = (
            value if described or name not in hints else check_value(f"{prefix}{name}", hints[name], value)
        )
    return checked


def check_value(key: str, annotation: Any, value: Any) -> Any:
    """Convert a plain value to an annotated type.

    Args:
        key: The setting, for messages.
        annotation: A type; see ``sepnet.ranges``.
        value: Numbers, texts, None, and lists and mappings of these.

    Returns:
        The value, with paths for texts and tuples for lists where the annotation says so.

    Raises:
        SepnetError: The annotation does not allow the value.
    """
    adapter = type_adapter(annotation)
    try:
        if adapter is not None:
            return adapter.validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError):
        pass
    if isinstance(value, str) and is_url(value):
        raise SepnetError(f"{key} can't be the URL {shown(value)}: give {describe(annotation)}")
    raise SepnetError(f"{key} is {_shown(value)}: give {describe(annotation)}")


def check_fields(instance: Any, prefix: str = "") -> None:
    """Check the fields of a settings dataclass by their annotations, for ``__post_init__``.

    Args:
        instance: Of the dataclass.
        prefix: What precedes the names in messages, with its dot.

    Raises:
        SepnetError: A field has a value that it may not have.
    """
    for field in _fields(instance):
        check_value(
            f"{prefix}{field.name}", _hints(type(instance))[field.name], getattr(instance, field.name)
        )


def nearest(name: str, known: Iterable[str], *, n_listed: int = 12) -> str:
    """Write the end of a sentence that says that there is no ``name``: the most similar, or what there is.

    Names may be dotted: one with the same last part comes first, and of more than ``n_listed`` those are
    listed that have no dot.
    """
    names = sorted(known)
    if not names:
        return ""
    tails = {one.rpartition(".")[2]: one for one in names}
    tail = name.rpartition(".")[2]
    near = [tails[tail]] if tail in tails else difflib.get_close_matches(name, names, 1)
    near = near or [tails[one] for one in difflib.get_close_matches(tail, sorted(tails), 1)]
    if near:
        return f": did you mean {near[0]!r}?"
    listed = [one for one in names if "." not in one] if len(names) > n_listed else []
    return f": there are {', '.join(listed or names)}"


def check_names(cls: type[Any], values: Mapping[str, Any], prefix: str = "") -> None:
    """Check that a dataclass has a field for each name, also in its groups.

    Raises:
        SepnetError: It has none, with the nearest that it has.
    """
    known: dict[str, Any] = {}
    for field in _fields(cls):
        annotation = _hints(cls)[field.name]
        if field.metadata.get("flat"):
            known |= {each.name: _hints(annotation)[each.name] for each in _fields(annotation)}
        else:
            known[field.name] = annotation
    for name, value in values.items():
        if name not in known:
            raise SepnetError(f"there is no setting {prefix}{name}{nearest(name, known)}")
        if (group := _group(known[name])) is not None and isinstance(value, Mapping):
            check_names(group, value, f"{prefix}{name}.")


def _fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def _is_group(annotation: Any) -> bool:
    """Whether a field is a group of settings: a dataclass."""
    return inspect.isclass(annotation) and dataclasses.is_dataclass(annotation)


def _group(annotation: Any) -> Any:
    """The dataclass of a field that is a group of settings, or that may also be null; None for others."""
    if _is_group(annotation):
        return annotation
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    groups = [part for part in parts if _is_group(part)]
    return groups[0] if len(groups) == 1 and len(parts) == 2 and type(None) in parts else None


def _hints(target: Any) -> dict[str, Any]:
    """The annotations of the fields of a dataclass, or of the arguments of a constructor or a function."""
    if inspect.isclass(target) and not dataclasses.is_dataclass(target):
        target = target.__init__
    return _resolved_hints(target)


@cache
def _resolved_hints(target: Any) -> dict[str, Any]:
    return get_type_hints(target, include_extras=True)


def _describes_objects(value: Any) -> bool:
    """Whether a value is, or holds, a mapping with a ``_target_``."""
    if isinstance(value, Mapping):
        return TARGET in value or any(_describes_objects(each) for each in value.values())
    return isinstance(value, list) and any(_describes_objects(each) for each in value)


def _is_verbatim(annotation: Any) -> bool:
    if any(isinstance(mark, Verbatim) for mark in getattr(annotation, "__metadata__", ())):
        return True
    if get_origin(annotation) in (None, dict):  # a mapping is written in Hydra's grammar
        return False
    return any(_is_verbatim(part) for part in get_args(annotation))


def _shown(value: Any) -> str:
    is_container = isinstance(value, list | dict) or value is None or isinstance(value, bool)
    text = json.dumps(value, ensure_ascii=False, default=str) if is_container else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
