"""Read a recipe: TOML -> frozen dataclasses, whose fields are the only keys there are."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from edgeqwt.autograd.weighted import Weighting
from edgeqwt.compensate.solve import Options
from edgeqwt.equalize.equalize import Equalization
from edgeqwt.errors import RecipeError
from edgeqwt.interface.options import KEYS, Interface, from_table
from edgeqwt.quantize.curves import Curves
from edgeqwt.quantize.islands import Islands
from edgeqwt.quantize.joins import Joins
from edgeqwt.quantize.precision import MIXED, Mixed, Pace, Precision, parse
from edgeqwt.quantize.ranges import RULES, RangeRule
from edgeqwt.quantize.rounding import ROUNDINGS, Nearest, RoundingRule
from edgeqwt.quantize.search import SEARCHES, Method, NoSearch
from edgeqwt.quantize.structure import KINDS
from edgeqwt.quantize.weight_scales import WEIGHT_RULES, MinMaxWeights, WeightRule
from edgeqwt.reconstruct.rule import LIMITS as RECONSTRUCTION
from edgeqwt.reconstruct.rule import ORDERS, SCOPES, Reconstruction
from edgeqwt.verify.bar import Bar

FOLDER = Path(__file__).parent

LIMITS: Mapping[tuple[str, str], tuple[float, float]] = MappingProxyType(
    {
        ("Equalization", "samples"): (1, math.inf),
        ("Equalization", "limit"): (1, math.inf),
        ("Equalization", "steps"): (1, math.inf),
        ("Equalization", "margin"): (0, 1),
        ("Islands", "min_gain"): (0, 100),
        ("Weighting", "samples"): (1, math.inf),
        ("Mse", "candidates"): (1, 4096),
        ("Mse", "clipping"): (1, 1000),
        ("Percentile", "percent"): (50, 100),
        ("Kl", "candidates"): (1, 4096),
        ("Lp", "p"): (1, 16),
        ("Lp", "candidates"): (1, 1024),
        ("MseWeights", "candidates"): (1, 1024),
        ("MseWeights", "narrowest"): (0.01, 1),
        ("PowerOfTwoWeights", "octaves"): (0, 16),
        **{
            (rule, name): limits
            for rule in ("EasyQuant", "HessianGuided")
            for name, limits in {
                "samples": (1, math.inf),
                "candidates": (1, 1024),
                "narrowest": (0.01, 1),
                "widest": (1, 4),
                "rounds": (1, 16),
            }.items()
        },
        ("Lapq", "samples"): (1, math.inf),
        ("Lapq", "evaluations"): (1, math.inf),
        ("Lapq", "step"): (0.001, 0.4),
        ("Gptq", "damping"): (1e-6, 1),
        ("Gptq", "samples"): (1, math.inf),
        ("Gptq", "ridge"): (0, 100),
        ("Gptq", "scales"): (0, 256),
        ("Erq", "damping"): (1e-6, 1),
        ("Erq", "samples"): (1, math.inf),
        ("Erq", "ridge"): (0, 100),
        ("Erq", "scales"): (0, 256),
        **{("Reconstruction", name): limits for name, limits in RECONSTRUCTION.items()},
        ("Options", "gain_limit"): (1, math.inf),
        ("Options", "margin"): (0, 1),
        ("Options", "gain_margin"): (0, 1),
        ("Mixed", "max_size"): (0, math.inf),
        ("Mixed", "max_latency"): (0, math.inf),
        ("Mixed", "min_sqnr"): (0, math.inf),
        ("Mixed", "samples"): (1, math.inf),
        **{("Pace", name.name): (1e-6, 1e6) for name in dataclasses.fields(Pace)},
        ("_Report", "leave_one_out"): (0, math.inf),
        ("Verify", "parity_samples"): (1, math.inf),
        ("Verify", "runtime_samples"): (1, math.inf),
        ("Bar", "min_db"): (-300, 300),
        ("Bar", "warn_db"): (-300, 300),
        ("Bar", "min_agreement"): (0, 1),
    }
)
"""Dataclass and field to the smallest and the largest value that makes sense, both allowed."""

CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {("Reconstruction", "scope"): SCOPES, ("Reconstruction", "rounding"): ORDERS}
)
"""Dataclass and field to the names that there are."""


@dataclass(frozen=True)
class Verify:
    """How much of the calibration data the proofs run on.

    Attributes:
        parity_samples: samples on which source and float model are compared.
        runtime_samples: held-out samples on which the runtimes are compared op by op.
    """

    parity_samples: int = 16
    runtime_samples: int = 32


@dataclass(frozen=True)
class Recipe:
    """What a build does.

    Attributes:
        name: for the report.
        ranges: how activation ranges are chosen.
        precision: widths.
        mixed: what a choice of widths layer by layer has to hold; None: `precision` is all there is.
        islands: when what lies between a transformer's matrix products has 16-bit activations; None: never.
        joins: when inputs of ops that join tensors keep finer scales of their own; None: never.
        curves: when TANH and LOGISTIC become tables with output scales of their own; None: never.
        equalization: how channels are equalized; None: not at all.
        weighting: whether ranges count values as the outputs feel them, and from how many samples; None: all alike.
        weights: how the scales of weights are chosen.
        search: how better scales are searched for, from those that `ranges` and `weights` choose.
        rounding: how weights are rounded.
        reconstruction: how the rounding is learned afterwards, several layers together; None: not at all.
        compensate: whether CWAC runs, and `compensation` how.
        float_io: inputs and outputs stay float32 (QUANTIZE and DEQUANTIZE at the borders), unless `interface` says
            otherwise.
        interface: what inputs and outputs are to be like.
        verify: how much is proved.
        bar: how close the result has to come to the float model.
        leave_one_out: calibration samples that every lever's gain is measured with; 0: not at all.
        ceiling: whether what activations of these widths leave at best is measured.
        preserve: what of the weights' structure stays: "sparsity", "clusters".
    """

    name: str
    ranges: RangeRule
    precision: Precision = field(default_factory=Precision)
    mixed: Mixed | None = None
    islands: Islands | None = None
    joins: Joins | None = None
    curves: Curves | None = None
    equalization: Equalization | None = None
    weighting: Weighting | None = None
    weights: WeightRule = field(default_factory=MinMaxWeights)
    search: Method = field(default_factory=NoSearch)
    rounding: RoundingRule = field(default_factory=Nearest)
    reconstruction: Reconstruction | None = None
    compensate: bool = True
    compensation: Options = field(default_factory=Options)
    float_io: bool = False
    interface: Interface = field(default_factory=Interface)
    verify: Verify = field(default_factory=Verify)
    bar: Bar = field(default_factory=Bar)
    leave_one_out: int = 0
    ceiling: bool = True
    preserve: tuple[str, ...] = KINDS


def names() -> tuple[str, ...]:
    """The recipes that come with edgeqwt."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load(name: str) -> Recipe:
    """A recipe by name, or from a TOML file of the user's.

    Raises:
        RecipeError: there is no such recipe, or it has an unknown key or a wrong value.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"there is no recipe {name!r}", f"Choose {', '.join(names())}, or name a .toml file."
        ) from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}", "Name a .toml file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: {error}", "Correct the TOML.") from None
    return _recipe(table, path.stem, str(path))


def checked(recipe: Recipe) -> Recipe:
    """The recipe, if the values of its parts make sense; for recipes made in Python.

    Raises:
        RecipeError: naming the first value that does not.
    """
    parts = (
        recipe.ranges, recipe.equalization, recipe.weights, recipe.search, recipe.rounding, recipe.reconstruction,
        recipe.compensation, recipe.verify, recipe.mixed, recipe.mixed and recipe.mixed.pace, recipe.islands,
        recipe.joins, recipe.curves,
        recipe.weighting, recipe.bar,
    )  # fmt: skip
    for part in parts:
        if part is not None:
            _check_limits(part, f"recipe {recipe.name}")
    return recipe


def range_rule(name: str) -> RangeRule:
    """A range rule by name, with its default options.

    Raises:
        RecipeError: there is no such rule.
    """
    return _rule(RULES, {"rule": name}, "", "ranges")


def _recipe(table: Mapping[str, Any], name: str, where: str) -> Recipe:
    known = {
        "precision", "mixed", "islands", "joins", "curves", "ranges", "weighted_ranges", "equalize", "weights",
        "search", "rounding", "reconstruct", "compensate", "io", "verify", "report", "quality", "preserve",
    }  # fmt: skip
    _reject_unknown(table, known, where)
    wide, islands = _switched(table, "islands", True, where)
    apart, joins = _switched(table, "joins", True, where)
    tabled, curves = _switched(table, "curves", True, where)
    weighted, weighting = _switched(table, "weighted_ranges", True, where)
    equalized, equalization = _switched(table, "equalize", True, where)
    learned, reconstruction = _switched(table, "reconstruct", False, where)
    enabled, options = _switched(table, "compensate", True, where)
    section = _section(table, "io", where)
    _reject_unknown(section, {"float", *KEYS}, f"{where} [io]")
    io = filled(_Io, {key: v for key, v in section.items() if key not in KEYS}, f"{where} [io]")
    report = filled(_Report, _section(table, "report", where), f"{where} [report]")
    precision, mixed = table.get("precision", "w8a8"), _section(table, "mixed", where)
    recipe = Recipe(
        name=name,
        ranges=_rule(RULES, _section(table, "ranges", where), "mse", f"{where} [ranges]"),
        islands=filled(Islands, islands, f"{where} [islands]") if wide else None,
        joins=filled(Joins, joins, f"{where} [joins]") if apart else None,
        curves=filled(Curves, curves, f"{where} [curves]") if tabled else None,
        weighting=filled(Weighting, weighting, f"{where} [weighted_ranges]") if weighted else None,
        equalization=filled(Equalization, equalization, f"{where} [equalize]") if equalized else None,
        weights=_rule(WEIGHT_RULES, _section(table, "weights", where), "minmax", f"{where} [weights]"),
        search=_rule(SEARCHES, _section(table, "search", where), "none", f"{where} [search]"),
        rounding=_rule(ROUNDINGS, _section(table, "rounding", where), "gptq", f"{where} [rounding]"),
        reconstruction=filled(Reconstruction, reconstruction, f"{where} [reconstruct]") if learned else None,
        compensate=enabled,
        compensation=filled(Options, options, f"{where} [compensate]"),
        float_io=io.float,
        interface=from_table(section, f"{where} [io]"),
        verify=filled(Verify, _section(table, "verify", where), f"{where} [verify]"),
        bar=filled(Bar, _section(table, "quality", where), f"{where} [quality]"),
        leave_one_out=report.leave_one_out,
        ceiling=report.ceiling,
        preserve=preserved(table.get("preserve", list(KINDS)), where),
    )
    if not isinstance(precision, str):
        raise RecipeError(f"{where}: precision = {precision!r}", 'Write it as a name, such as "w8a8".')
    return with_precision(recipe, precision, _mixed(mixed, f"{where} [mixed]") if mixed else None)


def with_precision(recipe: Recipe, name: str, mixed: Mixed | None = None) -> Recipe:
    """The recipe with other widths.

    Args:
        recipe: whose widths do not count.
        name: as `precision.parse` takes it.
        mixed: with the name "mixed", and only then: what the widths have to hold.

    Raises:
        RecipeError: there is no such precision, or a limit is missing or too many.
    """
    if name == MIXED and mixed is None:
        raise RecipeError("mixed precision needs a limit", "Give one of max_size, max_latency and min_sqnr.")
    if name != MIXED and mixed is not None:
        raise RecipeError(f"precision {name} takes no limit", 'Limits are for precision "mixed".')
    return replace(recipe, precision=parse(name), mixed=mixed)


def with_bar(recipe: Recipe, min_db: float | None, accept: bool | None) -> Recipe:
    """The recipe with another bar for its result; None leaves what the recipe says.

    Raises:
        RecipeError: the value makes no sense.
    """
    bar = recipe.bar if min_db is None else replace(recipe.bar, min_db=min_db)
    return checked(replace(recipe, bar=bar if accept is None else replace(bar, accept=accept)))


def preserved(names: object, where: str) -> tuple[str, ...]:
    """What of the weights' structure is to stay.

    Raises:
        RecipeError: it is no list of `structure.KINDS`.
    """
    if not isinstance(names, list | tuple) or not all(name in KINDS for name in names):
        raise RecipeError(f"{where}: preserve = {names!r}", f"Give a list of {', '.join(KINDS)}; [] for none.")
    return tuple(names)


def _mixed(section: Mapping[str, Any], where: str) -> Mixed:
    pace = filled(Pace, _section(section, "pace", where), f"{where} pace")
    return filled(Mixed, {**section, "pace": pace}, where)


@dataclass(frozen=True)
class _Io:
    """The section [io]."""

    float: bool = False


@dataclass(frozen=True)
class _Report:
    """The section [report]."""

    leave_one_out: int = 0
    ceiling: bool = True


def _switched(table: Mapping[str, Any], key: str, default: bool, where: str) -> tuple[bool, dict[str, Any]]:
    """Whether a section's lever is on, and its other options."""
    options = dict(_section(table, key, where))
    enabled = options.pop("enabled", default)
    if not isinstance(enabled, bool):
        raise RecipeError(f"{where}: [{key}] enabled = {enabled!r}", "Write true or false.")
    return enabled, options


def _rule[T](rules: Mapping[str, type[T]], section: Mapping[str, Any], default: str, where: str) -> T:
    """The rule that a section names, with its options, which are the section's other keys."""
    options = dict(section)
    name = options.pop("rule", default)
    if not isinstance(name, str) or name not in rules:
        raise RecipeError(f"{where}: there is no rule {name!r}", f"Choose one of {', '.join(rules)}.")
    return filled(rules[name], options, where)


def filled[T](cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """A dataclass from a table of its fields; checks keys and types.

    Raises:
        RecipeError: a key is no field, or a value has another type.
    """
    hints = get_type_hints(cls)
    _reject_unknown(table, {f.name for f in dataclasses.fields(cls)}, where)  # type: ignore[arg-type]
    for key, value in table.items():
        wanted = hints[key]
        accepted = (int, float) if wanted is float else (wanted,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
            raise RecipeError(f"{where}: {key} = {value!r}", f"It must be of type {wanted.__name__}.")
    part = cls(**table)
    _check_limits(part, where)
    return part


def _check_limits(part: object, where: str) -> None:
    for name, value in vars(part).items():
        low, high = LIMITS.get((type(part).__name__, name), (-math.inf, math.inf))
        # Not `value < low or ...`: NaN is refused too. Booleans and names have no limits.
        if isinstance(value, int | float) and not low <= value <= high:
            most = "" if high == math.inf else f" to {high:g}"
            raise RecipeError(f"{where}: {name} = {value!r}", f"Choose {low:g}{most or ' or more'}.")
        choices = CHOICES.get((type(part).__name__, name))
        if choices is not None and value not in choices:
            raise RecipeError(f"{where}: {name} = {value!r}", f"Choose {', '.join(choices)}.")


def _section(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    section = table.get(key, {})
    if not isinstance(section, dict):
        raise RecipeError(f"{where}: {key} must be a table", f"Write it as [{key}].")
    return section


def _reject_unknown(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            choices = ", ".join(sorted(known)) or "no keys"
            raise RecipeError(f"{where}: unknown key {key!r}", f"Known here: {choices}.")
