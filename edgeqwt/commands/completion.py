"""What shells offer as values of options and arguments; where nothing fits, they go on with names of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import edgeqwt


def offered(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What typer asks for as `autocompletion`: those of the names that begin as what is typed.

    Args:
        names: gives them, and is called only while a shell asks.
    """

    def matching(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return matching


def among(*names: str) -> Callable[[str], list[str]]:
    """The same for names that are always these."""
    return offered(lambda: names)


def recipes() -> list[str]:
    """Recipes that come with edgeqwt."""
    from edgeqwt.recipe.recipe import names

    return list(names())


def recipes_and_techniques() -> list[str]:
    """What `edgeqwt recipes show` explains."""
    from edgeqwt.techniques.registry import registered

    return [*recipes(), *registered()]


def targets() -> list[str]:
    """Targets that come with edgeqwt."""
    return [profile.name for profile in edgeqwt.targets()]


def devices() -> list[str]:
    """What `edgeqwt bench` runs a file on."""
    from edgeqwt.benchmark.bench import BACKENDS

    return [*BACKENDS, *targets()]


def range_rules() -> list[str]:
    """Values of `--ranges`."""
    from edgeqwt.passes.technique import RANGES
    from edgeqwt.techniques.registry import of_role

    return [name.removesuffix("_ranges") for name in of_role(RANGES)]
