"""By what command, or what call from Python, the running work was asked for: reports say how to do it again."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path

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
        if asked():
            return function(*args, **kwargs)
        given = [_argument(name, value) for name, value in signature.bind(*args, **kwargs).arguments.items()]
        token = _asked.set(f"edgeqwt.{function.__name__}({', '.join(given)})")
        try:
            return function(*args, **kwargs)
        finally:
            _asked.reset(token)

    return call


def _argument(name: str, value: object) -> str:
    """An argument as Python writes it; what only the caller's program has is three dots."""
    plain = value is None or isinstance(value, str | int | float | bool)
    return f"{name}={value!r}" if plain else f"{name}={str(value)!r}" if isinstance(value, Path) else f"{name}=..."
