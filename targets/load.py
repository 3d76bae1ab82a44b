"""Read target profiles: TOML -> TargetProfile."""

from __future__ import annotations

import tomllib
from pathlib import Path

from edgeqwt.errors import InputError
from edgeqwt.target import TargetProfile

FOLDER = Path(__file__).parent / "profiles"


def names() -> tuple[str, ...]:
    """The targets that there are."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load(name: str) -> TargetProfile:
    """A target by name.

    Raises:
        InputError: there is no such target.
    """
    if name not in names():
        raise InputError(f"there is no target {name!r}", f"Choose {', '.join(names())}.")
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return TargetProfile(name, table["title"], tuple(table["runtimes"]), tuple(table["notes"]))
