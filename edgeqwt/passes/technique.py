"""What a technique is: a frozen dataclass whose fields are its options, with one method that takes a model further."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

from edgeqwt.errors import RecipeError

if TYPE_CHECKING:
    from edgeqwt.passes.context import Context
    from edgeqwt.passes.state import Account, State


RANGES = "ranges of activations"
"""The role of range rules: all that plain quantization has of a recipe."""

COMPENSATION = "compensation"
"""The role of what corrects an integer graph without changing its ops: it is judged by itself."""


class Works(IntEnum):
    """What a technique changes; techniques run in this order."""

    FLOAT = 1
    """The float graph, its statistics, widths and range rules."""
    SCALES = 2
    """The scales that the graph will be lowered with."""
    INTEGER = 3
    """The integers of the weights, and what goes with them."""
    CORRECTION = 4
    """The scales and biases of the integer graph; its weights' integers stay."""


class Technique(ABC):
    """One step from a float model to an integer one.

    Attributes:
        name: in recipes, in the report, on the command line.
        title: what progress shows while it runs.
        works: on what.
        role: techniques of one role exclude each other, such as two ways to round; empty: none.
        for_trained: whether it suits a model that was trained with quantization, whose scales and integers stay.
        for_dynamic: whether it suits activations that are quantized at run time, which have no scales to choose.
        keeps_clusters: whether weights of few distinct values have few afterwards.
        gradients: what it uses gradients for, for messages; empty: it uses none.
        part_of: the technique without which this one has nothing to do; empty: it stands for itself.
        slow: whether it takes minutes, so that it is left out where techniques are tried one by one.
        paper: what it is made from.
        measured: what it gained where it was measured, in a few words, with what says so.
        gains_db: decibels that it gained there with weights of 8 and of 4 bits, for its share of a limited time; None:
            it takes no time to speak of, or is not known to gain.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    works: ClassVar[Works]
    role: ClassVar[str] = ""
    for_trained: ClassVar[bool] = False
    for_dynamic: ClassVar[bool] = False
    keeps_clusters: ClassVar[bool] = True
    gradients: ClassVar[str] = ""
    part_of: ClassVar[str] = ""
    slow: ClassVar[bool] = False
    paper: ClassVar[str] = ""
    measured: ClassVar[str] = ""
    gains_db: ClassVar[tuple[float, float] | None] = None

    @property
    def stage(self) -> str:
        """What the stage is called in which it runs."""
        return self.title or self.name

    @abstractmethod
    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """The model after this technique, and what it did; the same state where that did not help.

        Args:
            state: what came out of the techniques before; `integer` is there where this one works on it.
            context: samples to fit on, the gate that knows others, and what else the model is about.
        """

    def memory(self, state: State) -> int:
        """Bytes that it needs beside the model, about; 0: little."""
        return 0


Techniques = tuple[Technique, ...]


def in_order(techniques: Iterable[Technique], where: str) -> Techniques:
    """The techniques, if they can run in this order.

    Args:
        techniques: as the user lists them.
        where: names the list in messages.

    Raises:
        RecipeError: one comes after another that works on what it makes, twice, or beside another of its role.
    """
    found = tuple(techniques)
    for k, technique in enumerate(found):
        for before in found[:k]:
            if before.works > technique.works:
                what = f"{where}: {technique.name} comes after {before.name}, which needs what it makes"
                raise RecipeError(what, f"List {technique.name} before {before.name}.")
            if technique.name == before.name:
                raise RecipeError(f"{where}: {technique.name} is listed twice", "Leave one of them out.")
            if technique.role and technique.role == before.role:
                what = f"{where}: {before.name} and {technique.name} are both for {technique.role}"
                raise RecipeError(what, "Leave one of them out.")
    return found


def without(techniques: Techniques, *names: str) -> Techniques:
    """The techniques but for some, and what is a part of those."""
    return tuple(technique for technique in techniques if not {technique.name, technique.part_of} & {*names})


def with_technique(techniques: Techniques, new: Technique) -> Techniques:
    """The techniques with one more: in the place of that of its name or role, or behind those it can follow."""
    same = [t.name == new.name or (bool(t.role) and t.role == new.role) for t in techniques]
    if any(same):
        k = same.index(True)
        return (*techniques[:k], new, *techniques[k + 1 :])
    k = sum(t.works <= new.works for t in techniques) if new.role != RANGES else 0
    return (*techniques[:k], new, *techniques[k:])


def plain(techniques: Techniques) -> Techniques:
    """Plain post-training quantization: of the techniques only the range rule."""
    return tuple(technique for technique in techniques if technique.role == RANGES)
