"""What a type annotation allows a plain value of a configuration to be: checked, and in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

OBJECT = "a part of the configuration with a _target_"


@cache
def type_adapter(annotation: Any) -> Any:
    """Make what checks the values of a type.

    Args:
        annotation: The type.

    Returns:
        A TypeAdapter of the type, or of those of its alternatives that plain values can have; None where
        there are none.
    """
    try:
        return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))
    except (PydanticSchemaGenerationError, PydanticUserError):
        if get_origin(annotation) not in (Union, UnionType):
            return None
    plain = [part for part in get_args(annotation) if type_adapter(part) is not None]
    return type_adapter(Union[tuple(plain)]) if plain else None  # noqa: UP007


def describe(annotation: Any) -> str:
    """What a type allows, in words: ``a whole number from 1 to 64, or auto``."""
    adapter = type_adapter(annotation)
    if adapter is None:
        return OBJECT
    try:
        schema = adapter.json_schema()
    except PydanticInvalidForJsonSchema:
        return OBJECT
    return _join(list(dict.fromkeys(_phrases(schema, schema.get("$defs", {})))))


def _phrases(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    """What a JSON schema allows, in words, one for each alternative."""
    if "$ref" in schema:
        yield from _phrases(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    elif "anyOf" in schema:
        # Lists come last: "a list of values, each a text or null" would leave open what may be null.
        for part in sorted(schema["anyOf"], key=lambda part: part.get("type") == "array"):
            yield from _phrases(part, definitions)
    elif "enum" in schema or "const" in schema:
        yield from (str(value) for value in schema.get("enum", [schema.get("const")]))
    elif (kind := schema.get("type")) in ("integer", "number"):
        yield f"{'a whole number' if kind == 'integer' else 'a number'}{_range(schema)}"
    elif kind == "array":
        inner: Any = schema.get("items") or next(iter(schema.get("prefixItems", [])), {})
        items = f" of {_length(schema)}values, each {_join(list(_phrases(inner, definitions)))}"
        yield f"a list{items if inner else ''}"
    else:
        names = {"boolean": "true or false", "null": "null", "object": "a mapping", "string": _text(schema)}
        yield names.get(str(kind), OBJECT)


def _text(schema: Mapping[str, Any]) -> str:
    return {None: "a text", "path": "a path"}.get(schema.get("format"), str(schema.get("format")))


def _length(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minItems"), schema.get("maxItems")
    if low == high:
        return "" if low is None else f"{low} "
    return f"{low} or more " if high is None else f"{low or 0} to {high} "


def _range(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}"
    bounds = {" of at least": low, " above": above, " of at most": high, " below": below}
    return " and".join(f"{words} {_number(bound)}" for words, bound in bounds.items() if bound is not None)


def _number(value: float) -> str:
    return f"{int(value):,}" if math.isfinite(value) and value == int(value) else f"{value:g}"


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
