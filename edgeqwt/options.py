"""Options that people write down: a table of a TOML file becomes a frozen dataclass, checked by its annotations."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from edgeqwt.errors import EdgeqwtError, RecipeError

if TYPE_CHECKING:
    from pydantic import BaseModel


PREFIX = "option_"


@cache
def model_of(cls: type) -> type[BaseModel]:
    """A pydantic model with a dataclass's fields, their types, bounds and defaults; it takes no others.

    Bounds are annotations: `Annotated[int, annotated_types.Ge(1)]`.
    """
    from pydantic import ConfigDict, create_model

    hints = get_type_hints(cls, include_extras=True)
    # Under other names: a field such as `copy` would hide a method of the model's.
    fields: dict[str, Any] = {f"{PREFIX}{f.name}": (hints[f.name], _field(f)) for f in dataclasses.fields(cls)}
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    found: type[BaseModel] = create_model(cls.__name__, __config__=config, **fields)
    return found


def _field(field: dataclasses.Field[Any]) -> Any:
    from pydantic import Field

    if field.default is not dataclasses.MISSING:
        return Field(alias=field.name, default=field.default)
    if field.default_factory is not dataclasses.MISSING:
        return Field(alias=field.name, default_factory=field.default_factory)
    return Field(alias=field.name)


def filled[T](cls: type[T], table: Mapping[str, Any], where: str, raised: type[EdgeqwtError] = RecipeError) -> T:
    """A dataclass from a table of its fields; checks keys, types and bounds.

    Args:
        cls: a dataclass.
        table: as TOML has it.
        where: names the table in messages.
        raised: the class of the error.

    Raises:
        EdgeqwtError: of the class `raised`: a key is no field, a value has another type or is out of bounds.
    """
    from pydantic import ValidationError

    for key, value in table.items():
        if isinstance(value, int) and abs(value) > sys.maxsize:  # what counts does not take it; TOML ends there, too
            raise raised(f"{where}: {key} = {value}", f"It must be at most {sys.maxsize}.")
    try:
        found = model_of(cast(type, cls))(**table)
    except ValidationError as error:
        raise raised(*_said(error, cls, where)) from None
    return cls(**{field.name: getattr(found, f"{PREFIX}{field.name}") for field in dataclasses.fields(cls)})  # type: ignore[arg-type]


def meanings(cls: type) -> dict[str, str]:
    """What each field of a dataclass or TypedDict means, from the Attributes of its docstring or of its bases'."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        attributes = text.partition("Attributes:\n")[2].partition("\n\n")[0]
        for entry in re.split(r"\n(?= {4}\S)", attributes):
            keys, colon, meaning = entry.strip().partition(": ")
            if colon:
                found |= {key: " ".join(meaning.split()) for key in keys.split(", ")}
    names = [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else cls.__annotations__
    return {name: found.get(name, "") for name in names}


def schema_of(cls: type) -> dict[str, Any]:
    """The JSON Schema of a table that `filled` takes; bounds, defaults and what each key means."""
    found = model_of(cls).model_json_schema()
    for name, meaning in meanings(cls).items():
        if meaning:
            found["properties"][name]["description"] = meaning
    return found


def values_of(part: Any) -> dict[str, Any]:
    """A dataclass's fields by name, as they are."""
    return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}


def check(part: object, where: str) -> None:
    """Checks a dataclass that was made in Python.

    Raises:
        RecipeError: see `filled`.
    """
    if dataclasses.is_dataclass(part):
        filled(type(part), values_of(part), where)


def _said(error: Any, cls: type, where: str) -> tuple[str, str]:
    """The first thing that is wrong and what to do about it, in the words of this program."""
    found = error.errors()
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])  # the misspelling of what is missing
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function"))
    if first["type"] == "extra_forbidden":
        names = sorted(f.name for f in dataclasses.fields(cls))
        close = get_close_matches(key, names, 1)
        guess = f"Did you mean {close[0]!r}? " if close else ""
        return f"{where}: unknown key {key!r}", f"{guess}Known here: {', '.join(names) or 'no keys'}."
    if first["type"] == "missing":
        return f"{where}: {key} is missing", "Write it."
    hint = first["msg"].replace("Input should be", "It must be").rstrip(".")
    return f"{where}: {key} = {first['input']!r}", f"{hint}."
