"""The site's pages that are not in docs/: those of the repository's root and examples, and what code says of itself.

A hook of mkdocs (mkdocs.yml); `python scripts/site_pages.py commands` prints one generated page.
"""

from __future__ import annotations

import inspect
import json
import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

ELSEWHERE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    **{f"{path.parent.relative_to(ROOT)}/README.md": f"examples/{path.parent.name}.md"
       for path in sorted(ROOT.glob("examples/*/README.md"))},
}  # fmt: skip
"""Pages by their path in the repository, and where the site has them."""


# -- what code says of itself -----------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments and options, as typer has them."""
    import typer.main

    from edgeqwt import cli

    parts = ["# Commands\n\n`edgeqwt COMMAND --help` prints the same. Errors and exit codes: [errors](errors.md)."]
    parts += _command(typer.main.get_command(cli.app), "edgeqwt")
    return "\n\n".join(parts) + "\n"


def _command(command: Any, name: str) -> Iterator[str]:
    """Sections of a command and those below it."""
    from click import Context

    from edgeqwt.commands.panels import headed

    if name != "edgeqwt":
        yield f"## `{name}`"
        yield re.sub(r"\f.*", "", inspect.cleandoc(command.help or ""), flags=re.DOTALL).strip()
        for panel, group in headed(p for p in command.get_params(Context(command)) if p.name != "help").items():
            rows = [_parameter(parameter) for parameter in group if not getattr(parameter, "hidden", False)]
            heading = "argument or option" if panel == "Options" else panel
            yield "\n".join([f"| {heading} | default | meaning |", "|---|---|---|", *rows]) if rows else ""
    for below, inner in getattr(command, "commands", {}).items():
        yield from _command(inner, f"{name} {below}")


def _parameter(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    options = [*parameter.opts, *parameter.secondary_opts]
    names = [(parameter.metavar or parameter.name).upper()] if argument else options
    takes = "" if argument or getattr(parameter, "is_flag", False) or not parameter.metavar else f" {parameter.metavar}"
    given = parameter.default
    if parameter.required:
        default = "required"
    elif given in (None, False, (), []) or callable(given):
        default = ""
    else:
        default = f"`{getattr(given, 'value', given)}`"
    shown = ", ".join(f"`{name}{takes}`" for name in names)
    return f"| {shown} | {default} | {_cell(getattr(parameter, 'help', '') or '')} |".replace("| |", "|  |")


def errors() -> str:
    """The error tree, from its docstrings."""
    from edgeqwt import errors as tree
    from edgeqwt.commands.app import EXIT_CODES

    kinds = [kind for kind in vars(tree).values() if isinstance(kind, type) and issubclass(kind, tree.EdgeqwtError)]
    rows = [
        f"| `{kind.__name__}` | {kind.exit_code} | `{kind.__mro__[1].__name__}` | "
        f"{_cell(inspect.cleandoc(kind.__doc__ or '').partition(chr(10) * 2)[0])} |"
        for kind in kinds
    ]
    intro = (
        "Every error that edgeqwt raises on purpose says in one line what was wrong and where, and has a hint that "
        "says what to do. The command prints both on stderr and ends with the code below; in Python catch "
        "`edgeqwt.EdgeqwtError`, which has them as `message`, `hint` and `exit_code`."
    )
    table = "\n".join(["| in Python | exit code | is a | when |", "|---|---|---|---|", *rows])
    return "\n\n".join(["# Errors and exit codes", intro, table, EXIT_CODES]) + "\n"


def report_schema() -> str:
    """Every field of report.json, from its schema."""
    schema = json.loads((ROOT / "docs/report.schema.json").read_text(encoding="utf-8"))
    rows = list(_fields(schema, schema, ""))
    intro = "From docs/report.schema.json, against which tests check reports; [report.md](../report.md) explains them."
    table = "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])
    return f"# Schema of report.json\n\n{intro}\n\n{table}\n"


def _fields(part: dict[str, Any], schema: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, field in part.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        inner = _resolved(field, schema)
        choices = [_resolved(one, schema) for one in inner.get("anyOf", [])]
        types = [one.get("type", []) for one in (inner, *choices)]
        kind = ", ".join(dict.fromkeys(t for one in types for t in (one if isinstance(one, list) else [one])))
        said = field.get("description") or inner.get("description") or ""
        if "const" in inner:
            said = said or f"`{inner['const']}`"
        yield f"| `{path}` | {kind} | {_cell(said)} |"
        if path.count(".") < 2:
            for one in (inner, *choices):
                yield from _fields(one, schema, path)
            yield from _fields(_resolved(inner.get("items") or {}, schema), schema, f"{path}[]")
            extra = inner.get("additionalProperties")
            yield from _fields(_resolved(extra if isinstance(extra, dict) else {}, schema), schema, f"{path}.NAME")


def _resolved(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        found: Any = schema
        for key in part["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        part = {**found, **{key: value for key, value in part.items() if key != "$ref"}}
    return part


def api() -> str:
    """Every public name, for mkdocstrings."""
    import edgeqwt

    modules = edgeqwt._NAMES_BY_MODULE
    renamed = edgeqwt._RENAMED
    where = {name: f"edgeqwt.{module}.{renamed.get(name, name)}" for module, names in modules.items() for name in names}
    verbs = sorted(name for name in where if name[0].islower())
    kinds = sorted(name for name in where if not name[0].islower())
    parts = [
        "# Python API",
        "All of it is imported from `edgeqwt` itself: `import edgeqwt`. The command line calls these functions.",
    ]
    directive = "::: {}\n    options:\n      heading: edgeqwt.{}\n      toc_label: {}"
    parts += [directive.format(where[name], name, name) for name in verbs + kinds]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    """Text that fits into a table's cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*.", "\\*.")


GENERATED: dict[str, Callable[[], str]] = {
    "reference/api.md": api,
    "reference/commands.md": commands,
    "reference/errors.md": errors,
    "reference/report-schema.md": report_schema,
}
"""Pages that are written while the site is built."""


# -- mkdocs' hooks ----------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are not in docs/."""
    from mkdocs.structure.files import File

    sys.path.insert(0, str(ROOT))
    for source, place in ELSEWHERE.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for place, made in GENERATED.items():
        files.append(File.generated(config, place, content=made()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leads links to where the site has their pages; those to files that it does not have become plain text."""
    place = page.file.src_uri
    source = next((name for name, there in ELSEWHERE.items() if there == place), f"docs/{place}")
    return linked(with_formulas(with_fences(markdown)), source, place, {file.src_uri for file in files})


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Names of options stay whole where a command wraps: lines would else end behind their hyphens."""
    blocks = re.split(r'(<div class="language-sh highlight".*?</div>)', html, flags=re.DOTALL)
    option = r"(?<=[>\s])--[a-z][a-z0-9-]*"
    whole = '<span class="option">\\g<0></span>'
    return "".join(re.sub(option, whole, part) if index % 2 else part for index, part in enumerate(blocks))


def with_fences(markdown: str) -> str:
    """Blocks of commands that are to fail say so in their titles: what else stands there, Markdown takes for text."""
    return re.sub(r"^( *```\w+) exit=(\d+)$", r'\1 title="Ends with exit code \2"', markdown, flags=re.MULTILINE)


def with_formulas(markdown: str) -> str:
    """Formulas between $$ as MathML, which browsers draw without a script."""
    if "\n$$\n" not in markdown:
        return markdown
    from latex2mathml.converter import convert

    made = [
        f'\n<div class="formula">{convert(part.strip(), display="block")}</div>\n' if number % 2 else part
        for number, part in enumerate(re.split(r"^\$\$$", markdown, flags=re.MULTILINE))
    ]
    return "".join(made)


def linked(markdown: str, source: str, place: str, pages: set[str]) -> str:
    """Markdown of one page with its links as the site needs them.

    Args:
        markdown: the text.
        source: path of the page in the repository.
        place: its path in the site.
        pages: paths of the site's files.
    """

    def lead(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page = ELSEWHERE.get(there) or there.removeprefix("docs/")
        if page not in pages:
            return text
        way = posixpath.relpath(page, posixpath.dirname(place) or ".")
        return f"{match['mark']}[{text}]({way}{'#' + anchor if anchor else ''})"

    parts = re.split(r"(^ *```.*?^ *```)", markdown, flags=re.DOTALL | re.MULTILINE)
    pattern = r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)"
    return "".join(part if index % 2 else re.sub(pattern, lead, part) for index, part in enumerate(parts))


if __name__ == "__main__":
    sys.path.insert(0, os.fspath(ROOT))
    print(GENERATED[f"reference/{sys.argv[1]}.md"](), end="")
