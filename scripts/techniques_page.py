"""Writes docs/techniques.md and the JSON Schemas of all files from the code: python scripts/techniques_page.py."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from edgeqwt.calibration import settings
from edgeqwt.options import meanings
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.recipe import recipe
from edgeqwt.recipe.recipe import load, names
from edgeqwt.report.body import Report
from edgeqwt.report.details import Details
from edgeqwt.report.schema import schema
from edgeqwt.target import load as target
from edgeqwt.techniques.registry import registered

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "techniques.md"
SCHEMAS = {
    "calibration": settings.schema,
    "recipe": recipe.schema,
    "target": target.schema,
    "report": partial(schema, Report),
    "details": partial(schema, Details),
}
"""By the name of the file in docs/, NAME.schema.json."""

HEAD = """\
<!-- Written by scripts/techniques_page.py from edgeqwt/techniques: edit the docstrings there. -->

# Techniques

A recipe lists techniques, and a build runs them in that order ([recipes.md](recipes.md)). Each takes the model as it
came out of the one before, and what it changes is kept where samples that nothing was fitted on say that it helps. The
report has what each did. In a recipe a technique is its name, `"gptq"`, or a table with options, `{ name = "gptq",
scales = 8 }`; options that are not given have the defaults below. In Python it is the class, `Gptq(scales=8)`.

Techniques of packages that are installed beside edgeqwt are known as well: [CONTRIBUTING.md](../CONTRIBUTING.md) says
how to write one. [glossary.md](glossary.md) has the words of this page.

"""

STAGES = {
    Works.FLOAT: "On the float graph: widths, ranges, equivalent rewrites",
    Works.SCALES: "On the scales that the graph is lowered with",
    Works.INTEGER: "On the integers of the weights",
    Works.CORRECTION: "On the integer graph's scales and biases",
}


def page() -> str:
    """The page."""
    found = registered()
    overview = ["| technique | made from | recipes |", "|---|---|---|"]
    users = {name: [r for r in names() if any(t.name == name for t in load(r).techniques)] for name in found}
    overview += [
        f"| [`{name}`](#{name}) | {cls.paper or 'edgeqwt'} | {', '.join(f'`{r}`' for r in users[name])} |"
        for name, cls in found.items()
    ]
    parts = [HEAD + "\n".join(overview)]
    for stage, title in STAGES.items():
        parts.append(f"## {title}")
        parts += ["\n\n".join(_section(cls)) for cls in found.values() if cls.works is stage]
    return "\n\n".join(parts) + "\n"


def _section(cls: type[Technique]) -> Iterator[str]:
    yield f"### `{cls.name}`"
    yield re.split(r"^Attributes:", inspect.cleandoc(cls.__doc__ or ""), flags=re.MULTILINE)[0].strip()
    if cls.paper:
        yield f"Made from: {cls.paper}."
    if cls.measured:
        yield f"Measured: {cls.measured}."
    described, hints = meanings(cls), get_type_hints(cls, include_extras=True)
    rows = [
        f"| `{f.name}` | {json.dumps(f.default)} | {_bounds(hints[f.name])} | {described[f.name]} |"
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
    ]
    if rows:
        yield "\n".join(["| option | default | allowed | meaning |", "|---|---|---|---|", *rows])


def _bounds(hint: Any) -> str:
    """What an option's annotation allows, in words."""
    if hint is bool:
        return "true, false"
    if getattr(hint, "__args__", ()) and not hasattr(hint, "__metadata__"):
        return ", ".join(json.dumps(value) for value in hint.__args__)
    for bound in getattr(hint, "__metadata__", ()):
        low, high = getattr(bound, "ge", None), getattr(bound, "le", None)
        return f"{low:g} or more" if high is None else f"{low:g} to {high:g}"
    return "" if hint is str else getattr(hint, "__name__", "")


def main() -> None:
    """Writes the page and the schemas."""
    PAGE.write_text(page(), encoding="utf-8")
    for name, made in SCHEMAS.items():
        (DOCS / f"{name}.schema.json").write_text(json.dumps(made(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
