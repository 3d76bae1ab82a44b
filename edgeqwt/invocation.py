"""By what command, or what call from Python, the running work was asked for: reports say how to do it again."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path

from edgeqwt.errors import InputError

_asked: ContextVar[str] = ContextVar("asked", default="")


def asked() -> str:
    """The command line or the call; empty outside of both."""
    return _asked.get()


@contextmanager
def command_line(arguments: Sequence[str]) -> Iterator[None]:
    """While the block runs, work is done for this command line.

    Args:
        arguments: without the program's name.
    """
    token = _asked.set(shlex.join(["edgeqwt", *arguments]))
    try:
        yield
    finally:
        _asked.reset(token)


def recorded[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """A public function that reports can name with its arguments, where no command called it."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        values = signature.bind(*args, **kwargs).arguments
        for name, value in values.items():
            _check(function.__name__, signature.parameters[name], value)
        if asked():
            return function(*args, **kwargs)
        given = [_argument(name, value) for name, value in values.items()]
        token = _asked.set(f"edgeqwt.{function.__name__}({', '.join(given)})")
        try:
            return function(*args, **kwargs)
        finally:
            _asked.reset(token)

    return call


KINDS: Mapping[str, type | tuple[type, ...]] = {
    "None": type(None), "str": str, "int": Integral, "float": Real, "bool": (bool, Integral), "Path": PathLike,
    "Sequence": Sequence, "Mapping": Mapping,
}  # fmt: skip
ANYTHING = ("object", "Any", "Source")  # or which is looked at where it is read


def _check(function: str, parameter: inspect.Parameter, value: object) -> None:
    """Refuses an argument of another type than the function says; what containers hold, it looks at itself.

    Raises:
        InputError: naming the argument, what it is, and what it should be.
    """
    kinds = [part.partition("[")[0].strip() for part in _parts(str(parameter.annotation))]
    if not any(kind in ANYTHING or _is_a(value, kind) for kind in kinds):
        raise InputError(
            f"{function}: {parameter.name} is of type {type(value).__name__}",
            f"Give {' or '.join(kinds)}; help(edgeqwt.{function}) says what it means.",
        )


def _parts(annotation: str) -> list[str]:
    """Alternatives of an annotation, without what stands within brackets."""
    while "[" in annotation:
        annotation = re.sub(r"\[[^\[\]]*\]", "", annotation)
    return annotation.split("|")


def _is_a(value: object, kind: str) -> bool:
    if kind == "Display":
        return callable(value)
    if kind in ("Sequence", "Mapping") and isinstance(value, str | bytes):
        return False
    # Other kinds are classes, by name: what they come from need not be imported for it.
    return isinstance(value, KINDS.get(kind, ())) or kind in {cls.__name__ for cls in type(value).__mro__}


def _argument(name: str, value: object) -> str:
    """An argument as Python writes it; what only the caller's program has is three dots."""
    plain = value is None or isinstance(value, str | int | float | bool)
    return f"{name}={value!r}" if plain else f"{name}={str(value)!r}" if isinstance(value, Path) else f"{name}=..."
