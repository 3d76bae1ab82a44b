"""Reports that builds wrote, held against the schemas in docs/ whenever a test reads one."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.small import ROOT


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "docs" / f"{name}.schema.json").read_text(encoding="utf-8")))


def problems(body: object, name: str = "report") -> list[str]:
    """Where a body breaks a schema, as JSON paths."""
    return [error.json_path for error in _validator(name).iter_errors(body)]


def read(folder: Path) -> Any:
    """The report of an output folder; it and details.json are JSON as the standard has it and as their schemas say."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    texts = {name: (folder / f"{name}.json").read_text(encoding="utf-8") for name in ("report", "details")}
    bodies = {name: json.loads(text, parse_constant=refuse) for name, text in texts.items()}
    assert {name: problems(body, name) for name, body in bodies.items()} == {"report": [], "details": []}
    return bodies["report"]
