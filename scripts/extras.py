"""What each extra weighs, as the table of docs/how-to/install.md: .venv/bin/python scripts/extras.py.

Counts files of the distributions that an extra brings besides those of no extra, in the environment that runs this; an
extra of which something is not installed there is left out.
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
GPU = re.compile(r"(nvidia|cuda|triton)\b|torch/lib/libtorch_(cuda|nvshmem)")
"""Distributions, and files of torch, that its builds for CPUs do not have."""


def main() -> None:
    """Prints the table."""
    print("| extra | MB besides those of no extra | of these for GPUs |\n|---|---|---|")
    for name, (size, gpu) in sizes().items():
        print(f"| {name} | {size:,} | {f'{gpu:,}' if gpu else ''} |")


def sizes() -> dict[str, tuple[int, int]]:
    """Megabytes of no extra (`none`) and of each that is installed whole, and those of them that only GPUs need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    base, _ = closure(map(Requirement, project["dependencies"]))
    found = {"none": base}
    for extra in extras:
        more, missing = closure(required(extra, extras))
        if not missing:
            found[extra] = more - base
    return {name: (megabytes(more), megabytes(more, GPU.match)) for name, more in found.items()}


def required(extra: str, extras: dict[str, list[str]]) -> Iterator[Requirement]:
    """What an extra asks for, with that of extras that it names."""
    for requirement in map(Requirement, extras[extra]):
        if requirement.name != "edgeqwt":
            yield requirement
        for other in requirement.extras if requirement.name == "edgeqwt" else ():
            yield from required(other, extras)


def closure(requirements: Iterable[Requirement]) -> tuple[set[str], set[str]]:
    """Distributions that requirements lead to: those that are installed, and those that are not."""
    found, missing = set[str](), set[str]()
    todo = [(requirement, "") for requirement in requirements]
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            further = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            missing.add(name)
            continue
        known, found = name in found, found | {name}
        wanted = [*requirement.extras, *([] if known else [""])]
        todo += [(Requirement(text), extra) for text in further for extra in wanted]
    return found, missing


def megabytes(names: Iterable[str], counted: Callable[[str], object] = lambda name: True) -> int:
    """Size of the files of installed distributions, where the distribution's or the file's name counts."""
    total = 0
    for name in names:
        for file in importlib.metadata.distribution(name).files or []:
            if counted(name) or counted(str(file)):
                with suppress(OSError):  # what was never compiled
                    total += Path(str(file.locate())).stat().st_size
    return round(total / 1e6)


if __name__ == "__main__":
    main()
