"""What a constraint is, and the table of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeqwt.target.model import Model

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Hit:
    """An op or tensor that breaks a constraint.

    Attributes:
        op: index of the op; -1 for the model as a whole.
        detail: what is there, the beginning of a sentence.
        tensor: index of the tensor at fault; -1 for the op's output.
        remedy: replaces the constraint's own where there is a better one.
        severity: replaces the constraint's own.
        fix: name of the rewrite that helps here.
    """

    op: int
    detail: str
    tensor: int = -1
    remedy: str = ""
    severity: str = ""
    fix: str = ""


Kinds = Mapping[str, list[str]]
"""Kinds of ops by the type of their activations."""

Find = Callable[[Model, Any], Iterator[Hit]]


@dataclass(frozen=True)
class Constraint:
    """One row of the table.

    Attributes:
        name: as in the profiles' `limits`.
        severity: "error" or "warning".
        limit: type of the limit.
        find: the function that looks for it.
        rule, remedy: its docstring's two parts.
    """

    name: str
    severity: str
    limit: type
    find: Find
    rule: str
    remedy: str


ENTERED: dict[str, Constraint] = {}
"""Every constraint by its name; filled by `constraint`."""


def constraint(severity: str, limit: type = bool) -> Callable[[Find], Find]:
    """Enters a function into the table under its own name."""

    def enter(find: Find) -> Find:
        rule, _, remedy = inspect.cleandoc(find.__doc__ or "").partition("\n\n")
        sentences = " ".join(rule.split()), " ".join(remedy.removeprefix("Remedy: ").split())
        ENTERED[find.__name__] = Constraint(find.__name__, severity, limit, find, *sentences)
        return find

    return enter
