"""Finds techniques: those of this folder, and those of packages with an entry point `edgeqwt.techniques`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from types import MappingProxyType, ModuleType
from typing import Any

from edgeqwt import options, techniques
from edgeqwt.errors import RecipeError
from edgeqwt.passes.technique import Technique

GROUP = "edgeqwt.techniques"


@cache
def registered() -> Mapping[str, type[Technique]]:
    """Every technique by name: in the order of what they work on, then of their names.

    Raises:
        RecipeError: two have one name, or a package's entry point cannot be loaded.
    """
    found: dict[str, type[Technique]] = {}
    for cls in (*_own(), *_foreign()):
        other = found.setdefault(cls.name, cls)
        if other is not cls:
            where = f"{other.__module__} and {cls.__module__}"
            raise RecipeError(f"two techniques are called {cls.name!r}: {where}", "Uninstall one of the packages.")
    return MappingProxyType(dict(sorted(found.items(), key=lambda pair: (pair[1].works, pair[0]))))


def technique(name: str, table: Mapping[str, Any], where: str) -> Technique:
    """A technique by name, with its options.

    Args:
        name: as recipes have it.
        table: its options; defaults stand for what is missing.
        where: names the table in messages.

    Raises:
        RecipeError: there is no such technique, or an option is unknown, of another type or out of bounds.
    """
    known = registered()
    if name not in known:
        raise RecipeError(f"{where}: there is no technique {name!r}", f"Choose {', '.join(known)}.")
    return options.filled(known[name], table, f"{where} {name}")


def changed_options(technique: Technique) -> str:
    """The options of a technique that are not the defaults, as "name = value, ..."."""
    usual = options.values_of(type(technique)())
    return ", ".join(f"{key} = {value}" for key, value in options.values_of(technique).items() if value != usual[key])


def first_line(cls: type[Technique]) -> str:
    """What a technique does, in one sentence: the first of its docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def of_role(role: str) -> Mapping[str, type[Technique]]:
    """The techniques of a role, by name."""
    return {name: cls for name, cls in registered().items() if cls.role == role}


def _own() -> Iterator[type[Technique]]:
    for module in iter_modules(techniques.__path__):
        if module.name != "registry":
            yield from _in(import_module(f"{techniques.__name__}.{module.name}"))


def _foreign() -> Iterator[type[Technique]]:
    for entry in entry_points(group=GROUP):
        try:
            module = entry.load()
        except Exception as error:  # another's code, which may fail in any way
            what = f"the technique {entry.name!r} of {entry.value} cannot be loaded: {error}"
            raise RecipeError(what, "Correct that package, or uninstall it.") from error
        yield from _in(module) if isinstance(module, ModuleType) else [module]


def _in(module: ModuleType) -> Iterator[type[Technique]]:
    """The techniques that a module defines; what they have in common is none."""
    for cls in vars(module).values():
        own = isinstance(cls, type) and issubclass(cls, Technique) and cls.__module__ == module.__name__
        if own and "name" in vars(cls) and not inspect.isabstract(cls):
            yield cls
