"""What each extra weighs: the files of the distributions that it brings besides those of no extra, in megabytes.

    .venv/bin/python scripts/extras.py

Counts what is installed in the environment that runs it; an extra of which something is missing there is named so.
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
GPU = re.compile(r"nvidia-|cuda-|triton$")


def main() -> None:
    """Prints one line for each extra, and for no extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    base, missing = closure(map(Requirement, project["dependencies"]))
    print(f"{'none':12} {megabytes(base):7,}{'  incomplete' if missing else ''}")
    for extra in extras:
        found, missing = closure(required(extra, extras))
        more = found - base
        gpu = megabytes({name for name in more if GPU.match(name)})
        notes = [f"{gpu:,} for GPUs"] * bool(gpu) + [f"not installed: {', '.join(sorted(missing))}"] * bool(missing)
        print(f"{extra:12} {megabytes(more):7,}  {'; '.join(notes)}".rstrip())


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


def megabytes(names: Iterable[str]) -> int:
    """Size of the files of installed distributions."""
    total = 0
    for name in names:
        for file in importlib.metadata.distribution(name).files or []:
            with suppress(OSError):  # what was never compiled
                total += Path(str(file.locate())).stat().st_size
    return round(total / 1e6)


if __name__ == "__main__":
    main()
