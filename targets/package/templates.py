"""Text files with `@name@` placeholders, as in CMake's configure_file: nothing else in them is special."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from edgeqwt.errors import InvariantError

FOLDER = Path(__file__).parent / "templates"
_PLACEHOLDER = re.compile(r"@([a-z][a-z0-9_]*)@")


def rendered(template: str, values: Mapping[str, str]) -> str:
    """A template with its placeholders filled in.

    Args:
        template: path below the templates' folder.
        values: what stands for each placeholder; there may be more than the template has.

    Raises:
        InvariantError: the template has a placeholder without a value.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise InvariantError(f"template {template} has the placeholder {found[0]}, which has no value")
        return values[found[1]]

    return _PLACEHOLDER.sub(value, (FOLDER / template).read_text(encoding="utf-8"))


def files_below(folder: str) -> tuple[str, ...]:
    """Paths of the templates in a folder of them, relative to it, sorted."""
    root = FOLDER / folder
    return tuple(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))


def write_tree(template_folder: str, folder: Path, values: Mapping[str, str]) -> None:
    """Fills a folder with all files of a templates' folder; placeholders in file names are filled in too."""
    for name in files_below(template_folder):
        path = folder / _PLACEHOLDER.sub(lambda found: values[found[1]], name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered(f"{template_folder}/{name}", values), encoding="utf-8")
