"""What a user asks of inputs and outputs, in TOML, on the command line or in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite
from types import MappingProxyType
from typing import Any

from edgeqwt.errors import InputError, RecipeError
from edgeqwt.widths.ports import BITS

ALL = ""
"""In place of a name: every input or output that holds real numbers."""

CONSTANT = "constant"
"""In place of an input's type: it is no input of the file, but has the value that it has in every sample."""

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Pixels:
    """How training made an input of pixels: x = (pixel * scale - mean) / std.

    Attributes:
        mean, std: one value, or one per channel.
        scale: what a pixel from 0 to 255 is multiplied by first.

    Raises:
        InputError: a value cannot be used.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1 / 255

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std), ("scale", (self.scale,))):
            if not values or not all(map(isfinite, values)):
                raise InputError(f"pixels: {name} = {values!r} is not made of numbers", "Write e.g. mean=0.5,0.5,0.5.")
            if name != "mean" and not all(v > 0 for v in values):
                raise InputError(f"pixels: {name} = {values!r} is not positive", "It is what training used.")
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            raise InputError(f"pixels have {len(self.mean)} means and {len(self.std)} stds", "Give one per channel.")

    @property
    def channels(self) -> int:
        """How many channels the values are for; 1 for any number."""
        return max(len(self.mean), len(self.std))


@dataclass(frozen=True)
class Interface:
    """What inputs and outputs are to be like.

    Attributes:
        inputs, outputs: element types (uint8, int8, int16, float), by name in the source model or the file; under the
            name "", of all that have none of their own. "constant": an input of an .onnx file that the file is not to
            have, because all samples have one value of it.
        pixels: how inputs of pixels were normalized in training, by name likewise. The file takes the pixels.
        split: whether what the last concatenations join becomes outputs of their own.
        standardize: inputs whose columns have ranges of their own: the application computes (x - mean) / std; by
            name likewise, "" for all.

    Raises:
        InputError: there is no such type.
    """

    inputs: Mapping[str, str] = NOTHING
    outputs: Mapping[str, str] = NOTHING
    pixels: Mapping[str, Pixels] = field(default_factory=dict)
    split: bool = False
    standardize: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (*self.inputs.items(), *self.outputs.items()):
            if kind not in BITS and not (name and kind == CONSTANT and self.inputs.get(name) == CONSTANT):
                whose = f" of {name!r}" if name else ""
                raise InputError(f"there is no type {kind!r}{whose}", f"Choose {', '.join(BITS)}.")

    @property
    def constants(self) -> tuple[str, ...]:
        """The names of inputs that are to be constants."""
        return tuple(name for name, kind in self.inputs.items() if kind == CONSTANT)

    def over(self, other: Interface) -> Interface:
        """What this one says, and the other where it says nothing."""
        return Interface(
            {**other.inputs, **self.inputs},
            {**other.outputs, **self.outputs},
            {**other.pixels, **self.pixels},
            self.split or other.split,
            self.standardize or other.standardize,
        )


def parse(
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    pixels: Sequence[str] = (),
    split: bool = False,
    standardize: Sequence[str] = (),
) -> Interface:
    """The interface that a command line asks for.

    Args:
        inputs: "uint8", or "NAME=uint8".
        outputs: likewise.
        pixels: "mean=0.485,0.456,0.406", "std=...", "scale=1/255", "input=NAME", each alone or several with
            spaces between; of the input NAME, or of all.
        split: see `Interface`.
        standardize: names; "all".

    Raises:
        InputError: a text is none of that.
    """
    named = tuple(ALL if name == "all" else name for name in standardize)
    return Interface(_types(inputs, "--input"), _types(outputs, "--output-type"), _pixels(pixels), split, named)


def from_table(table: Mapping[str, Any], where: str) -> Interface:
    """The interface that a recipe's section [io] asks for; `float` is not looked at.

    Raises:
        RecipeError: a value is none.
    """
    try:
        return _from_table(table, where)
    except InputError as error:
        said = error.message if where in error.message else f"{where}: {error.message}"
        raise RecipeError(said, error.hint) from None


def _from_table(table: Mapping[str, Any], where: str) -> Interface:
    pixels = table.get("pixels", {})
    if not isinstance(pixels, Mapping):
        raise InputError(f"{where}: pixels = {pixels!r}", "Write a table: pixels = {mean = [...], std = [...]}.")
    flat = set(pixels) <= {"mean", "std", "scale"}
    found = {ALL: pixels} if flat and pixels else pixels
    standardize = table.get("standardize", [])
    if standardize in (True, False):
        standardize = [ALL] if standardize else []
    if not isinstance(standardize, list) or not all(isinstance(name, str) for name in standardize):
        raise InputError(f"{where}: standardize = {standardize!r}", "Write true, or a list of inputs' names.")
    split = table.get("split_outputs", False)
    if not isinstance(split, bool):
        raise InputError(f"{where}: split_outputs = {split!r}", "Write true or false.")
    return Interface(
        _type_table(table.get("inputs", {}), f"{where} inputs"),
        _type_table(table.get("outputs", {}), f"{where} outputs"),
        {name: _from_values(values, f"{where} pixels") for name, values in found.items()},
        split,
        tuple(standardize),
    )


KEYS = ("inputs", "outputs", "pixels", "split_outputs", "standardize")
"""What `from_table` reads of a table."""


def _types(texts: Sequence[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, _, kind = text.rpartition("=")
        if name in found:
            raise InputError(f"{option} is given twice for {name or 'all'!r}", "Leave one out.")
        found[name] = kind
    return found


def _type_table(value: object, where: str) -> dict[str, str]:
    if isinstance(value, str):
        return {ALL: value}
    if not isinstance(value, Mapping) or not all(isinstance(kind, str) for kind in value.values()):
        raise InputError(f"{where} = {value!r}", f"Write one of {', '.join(BITS)}, or a table of names to these.")
    return dict(value)


def _pixels(texts: Sequence[str]) -> dict[str, Pixels]:
    values: dict[str, object] = {}
    for part in " ".join(texts).split():
        key, equals, value = part.partition("=")
        if not equals or key not in ("mean", "std", "scale", "input"):
            raise InputError(f"--pixels {part!r} is not mean=, std=, scale= or input=", "Write e.g. mean=0.5 std=0.25.")
        if key in values:
            raise InputError(f"--pixels {key} is given twice", "Normalizations of several inputs go into a recipe.")
        values[key] = value if key == "input" else value.split(",")
    if not values:
        return {}
    name = str(values.pop("input", ALL))
    return {name: _from_values(values, "--pixels")}


def _from_values(values: Mapping[str, object], where: str) -> Pixels:
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: {values!r}", "Write a table with mean, std and scale.")
    unknown = set(values) - {"mean", "std", "scale"}
    if unknown:
        raise InputError(f"{where}: unknown key {sorted(unknown)[0]!r}", "Known: mean, std, scale.")
    given = {
        key: tuple(_number(v, where, key) for v in (value if isinstance(value, list | tuple) else [value]))
        for key, value in values.items()
    }
    scale = given.get("scale", (Pixels().scale,))
    if len(scale) != 1:
        raise InputError(f"{where}: scale has {len(scale)} values", "Give one number.")
    return Pixels(given.get("mean", Pixels().mean), given.get("std", Pixels().std), scale[0])


def _number(value: object, where: str, key: str) -> float:
    try:
        if isinstance(value, str):
            return float(Fraction(value)) if "/" in value else float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, ZeroDivisionError, OverflowError):
        pass
    raise InputError(f"{where}: {key}: {value!r} is not a number", "Write e.g. 0.5 or 1/255.")
