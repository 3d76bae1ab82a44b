"""JSON Schemas of the files that a build writes, from the types that they are made of."""

from __future__ import annotations

import re
from typing import Any

from edgeqwt.options import meanings


def schema(of: type) -> dict[str, Any]:
    """The JSON Schema of a dataclass or TypedDict as `output.plain` and `output.finite` write it.

    Every key is there, no other is, what each means comes from the Attributes of docstrings, and a number that is not
    finite is null.

    Args:
        of: `body.Report` or `details.Details`.
    """
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class Described(GenerateJsonSchema):
        def float_schema(self, schema: Any) -> dict[str, Any]:
            return {"type": ["number", "null"]}

        def default_schema(self, schema: Any) -> dict[str, Any]:
            return self.generate_inner(schema["schema"])  # files have every key

        def dataclass_schema(self, schema: Any) -> dict[str, Any]:
            return _described(super().dataclass_schema(schema), schema["cls"])

        def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
            return _described(super().typed_dict_schema(schema), schema["cls"])

    found = TypeAdapter(of).json_schema(schema_generator=Described)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _described(found: dict[str, Any], cls: type) -> dict[str, Any]:
    for name, meaning in meanings(cls).items():
        found["properties"][name]["description"] = re.sub(r"\bNone\b", "null", meaning)
    first = (cls.__doc__ or "").partition("\n")[0]
    required = list(getattr(cls, "__required_keys__", found["properties"]))
    return {**found, "description": first, "required": sorted(required), "additionalProperties": False}
