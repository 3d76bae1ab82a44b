"""Read a recipe: TOML -> frozen dataclasses, whose fields are the only keys there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, cast

from annotated_types import Ge

from edgeqwt import options, toml
from edgeqwt.calibration.deciding import Deciding
from edgeqwt.errors import RecipeError
from edgeqwt.interface.options import KEYS, Interface, from_table
from edgeqwt.notebook_display import Pictured
from edgeqwt.passes.technique import RANGES, Technique, Techniques, in_order, with_technique, without
from edgeqwt.recipe.layers import LayerSettings, layer_tables, settings
from edgeqwt.recipe.layers import checked as checked_layer
from edgeqwt.rounding.structure import KINDS
from edgeqwt.scales.ranges import MinMax, RangeRule
from edgeqwt.techniques import registry
from edgeqwt.verify.thresholds import Thresholds
from edgeqwt.widths.precision import MIXED, Mixed, OpTimes, Precision, parse

FOLDER = Path(__file__).parent
DEFAULT = "balanced"
TECHNIQUES = "techniques"
SETTINGS = ("precision", "mixed", "layers", TECHNIQUES, "io", "outputs", "verify", "report", "quality", "preserve")
"""The keys of a recipe's file."""


@dataclass(frozen=True)
class Verify:
    """How much of the calibration data the proofs run on.

    Attributes:
        parity_samples: samples on which source and float model are compared.
        runtime_samples: held-out samples on which the runtimes are compared op by op.
    """

    parity_samples: Annotated[int, Ge(1)] = 16
    runtime_samples: Annotated[int, Ge(1)] = 32


@dataclass(frozen=True)
class Recipe(Pictured):
    """What a build does.

    Attributes:
        name: for the report.
        techniques: what is done to the model, in this order.
        precision: widths.
        layers: what some layers have of their own: widths, a range rule, or that they stay float.
        mixed: what a choice of widths layer by layer has to hold; None: `precision` and `layers` are all there is.
        float_io: inputs and outputs stay float32 (QUANTIZE and DEQUANTIZE at the borders), unless `interface` says
            otherwise.
        interface: what inputs and outputs are to be like.
        outputs: what decides in outputs, by name in the source model or the file; "" for all.
        verify: how much is proved.
        quality: how close the result has to come to the float model.
        leave_one_out: calibration samples that every technique's gain is measured with; 0: not at all.
        ceiling: whether what activations of these widths leave at best is measured where nothing is poor, too.
        preserve: what of the weights' structure stays: "sparsity", "clusters".
    """

    name: str
    techniques: Techniques = ()
    precision: Precision = field(default_factory=Precision)
    layers: tuple[LayerSettings, ...] = ()
    mixed: Mixed | None = None
    float_io: bool = False
    interface: Interface = field(default_factory=Interface)
    outputs: Mapping[str, Deciding] = field(default_factory=dict)
    verify: Verify = field(default_factory=Verify)
    quality: Thresholds = field(default_factory=Thresholds)
    leave_one_out: int = 0
    ceiling: bool = True
    preserve: tuple[str, ...] = KINDS

    @property
    def ranges(self) -> RangeRule:
        """How ranges are chosen: by the extremes where no technique says otherwise."""
        found = self.of_role(RANGES)
        return MinMax() if found is None else cast(RangeRule, found)

    def find[T](self, kind: type[T]) -> T | None:
        """The technique of a class, or of one made from it; None where the recipe has none."""
        return next((technique for technique in self.techniques if isinstance(technique, kind)), None)

    def of_role(self, role: str) -> Technique | None:
        """The technique of a role; None where the recipe has none."""
        return next((technique for technique in self.techniques if technique.role == role), None)

    def without(self, *names: str) -> Recipe:
        """The recipe without some of its techniques."""
        return replace(self, techniques=without(self.techniques, *names))

    def with_technique(self, technique: Technique) -> Recipe:
        """The recipe with a technique, in the place of that of its name or role where there is one.

        Raises:
            RecipeError: an option makes no sense, or the technique has no place among the others.
        """
        return checked(replace(self, techniques=with_technique(self.techniques, technique)))


def names() -> tuple[str, ...]:
    """The recipes that come with edgeqwt."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def list_recipes() -> tuple[Recipe, ...]:
    """The recipes that come with edgeqwt."""
    return tuple(load(name) for name in names())


def load(name: str) -> Recipe:
    """A recipe by name, or from a TOML file of the user's.

    Raises:
        RecipeError: there is no such recipe, or it has an unknown key or a wrong value.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    return _recipe(_table(path, name), path.stem, str(path))


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe's file, for editors."""
    techniques = []
    for name, cls in registry.registered().items():
        table = options.schema_of(cls)
        properties = {"name": {"const": name}, **table.get("properties", {})}
        techniques.append({**table, "title": name, "properties": properties, "required": ["name"]})
    sections = {"mixed": Mixed, "verify": Verify, "report": _Report, "quality": Thresholds}
    listed = {"type": "array", "items": {"anyOf": [{"enum": list(registry.registered())}, *techniques]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgeqwt recipe",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "precision": {"type": "string", "default": "w8a8"},
            "layers": {"type": "array", "items": options.schema_of(LayerSettings)},
            TECHNIQUES: listed,
            "preserve": {"type": "array", "items": {"enum": list(KINDS)}},
            "io": {"type": "object"},
            "outputs": {"anyOf": [options.schema_of(Deciding), {"additionalProperties": options.schema_of(Deciding)}]},
            **{key: options.schema_of(cls) for key, cls in sections.items()},
        },
    }


def _table(path: Path, name: str) -> Mapping[str, Any]:
    missing = (f"there is no recipe {name!r}", f"Choose {', '.join(names())}, or name a .toml file.")
    return toml.table(path, "Name a .toml file.", missing, RecipeError)


def checked(recipe: Recipe) -> Recipe:
    """The recipe, if its techniques can run in their order and all values make sense; for recipes made in Python.

    Raises:
        RecipeError: naming the first that does not.
    """
    where = f"recipe {recipe.name}"
    in_order(recipe.techniques, where)
    for technique in recipe.techniques:
        options.check(technique, f"{where}: {technique.name}")
    for layer in recipe.layers:
        checked_layer(layer, f"{where}: layers")
    parts = (recipe.verify, recipe.quality, recipe.mixed, recipe.mixed and recipe.mixed.op_times)
    for part in (*parts, *recipe.outputs.values()):
        options.check(part, where)
    return recipe


def _recipe(table: Mapping[str, Any], name: str, where: str) -> Recipe:
    for key in table:
        if key not in SETTINGS:
            raise RecipeError(f"{where}: unknown key {key!r}", _known(key))
    section = _section(table, "io", where)
    io = options.filled(_Io, {key: v for key, v in section.items() if key not in KEYS}, f"{where} [io]")
    report = options.filled(_Report, _section(table, "report", where), f"{where} [report]")
    precision, mixed = table.get("precision", "w8a8"), _section(table, "mixed", where)
    listed = table[TECHNIQUES] if TECHNIQUES in table else _table(FOLDER / f"{DEFAULT}.toml", DEFAULT)[TECHNIQUES]
    recipe = Recipe(
        name=name,
        techniques=in_order(_techniques(listed, f"{where}: techniques"), f"{where}: techniques"),
        layers=tuple(layer_tables(table.get("layers", []), where)),
        float_io=io.float,
        interface=from_table(section, f"{where} [io]"),
        outputs=_outputs(_section(table, "outputs", where), f"{where} [outputs]"),
        verify=options.filled(Verify, _section(table, "verify", where), f"{where} [verify]"),
        quality=options.filled(Thresholds, _section(table, "quality", where), f"{where} [quality]"),
        leave_one_out=report.leave_one_out,
        ceiling=report.ceiling,
        preserve=preserved(table.get("preserve", list(KINDS)), where),
    )
    if not isinstance(precision, str):
        raise RecipeError(f"{where}: precision = {precision!r}", 'Write it as a name, such as "w8a8".')
    return with_precision(recipe, precision, _mixed(mixed, f"{where} [mixed]") if mixed else None)


def _outputs(section: Mapping[str, Any], where: str) -> dict[str, Deciding]:
    """What decides: of all outputs, or in a table for each by name."""
    if not any(isinstance(value, dict) for value in section.values()):
        return {"": options.filled(Deciding, section, where)} if section else {}
    return {name: options.filled(Deciding, table, f"{where} {name}") for name, table in section.items()}


def _known(key: str) -> str:
    """What may stand in the place of an unknown key."""
    technique = f'Techniques are listed: {TECHNIQUES} = ["{key}", …]. ' if key in registry.registered() else ""
    return f"{technique}Known here: {', '.join(sorted(SETTINGS))}."


def _techniques(listed: object, where: str) -> Iterator[Technique]:
    """Each a name, or a table with a name and options."""
    if not isinstance(listed, list):
        raise RecipeError(
            f"{where} must be a list", 'Write it as techniques = ["mse_ranges", { name = "gptq", scales = 8 }].'
        )
    for k, entry in enumerate(listed, start=1):
        table = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or not isinstance(table.get("name"), str):
            what = f"{where}: entry {k}, {entry!r}, names no technique"
            raise RecipeError(what, 'Write a name, or a table such as { name = "gptq", scales = 8 }.')
        yield registry.technique(table["name"], {key: v for key, v in table.items() if key != "name"}, where)


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
    return with_mixed(replace(recipe, precision=parse(name)), mixed)


def with_layers(recipe: Recipe, layers: Mapping[str, object]) -> Recipe:
    """The recipe with more settings of layers, which count before its own.

    Args:
        recipe: any.
        layers: by pattern, as `layers.settings` takes them.

    Raises:
        RecipeError: they make no sense, or the recipe chooses widths itself.
    """
    found = tuple(settings(match, value, "layers") for match, value in layers.items())
    return with_mixed(replace(recipe, layers=(*recipe.layers, *found)), recipe.mixed)


def with_mixed(recipe: Recipe, mixed: Mixed | None) -> Recipe:
    """The recipe with a limit within which widths are chosen layer by layer, or without.

    Raises:
        RecipeError: its layers have widths of their own.
    """
    if mixed is not None and any(layer.precision or layer.keep_float for layer in recipe.layers):
        raise RecipeError(
            "mixed precision chooses the widths of layers itself", "Leave precision and keep_float out of layers."
        )
    return replace(recipe, mixed=mixed)


def with_quality(recipe: Recipe, min_db: float | None, accept: bool | None) -> Recipe:
    """The recipe with other quality thresholds for its result; None leaves what the recipe says.

    Raises:
        RecipeError: the value makes no sense.
    """
    quality = recipe.quality if min_db is None else replace(recipe.quality, min_db=min_db)
    return checked(replace(recipe, quality=quality if accept is None else replace(quality, accept=accept)))


def preserved(names: object, where: str) -> tuple[str, ...]:
    """What of the weights' structure is to stay.

    Raises:
        RecipeError: it is no list of `structure.KINDS`.
    """
    if not isinstance(names, list | tuple) or not all(name in KINDS for name in names):
        raise RecipeError(f"{where}: preserve = {names!r}", f"Give a list of {', '.join(KINDS)}; [] for none.")
    return tuple(names)


def _mixed(section: Mapping[str, Any], where: str) -> Mixed:
    op_times = options.filled(OpTimes, _section(section, "op_times", where), f"{where} op_times")
    return options.filled(Mixed, {**section, "op_times": op_times}, where)


@dataclass(frozen=True)
class _Io:
    """The section [io]."""

    float: bool = False


@dataclass(frozen=True)
class _Report:
    """The section [report]."""

    leave_one_out: Annotated[int, Ge(0)] = 0
    ceiling: bool = True


def _section(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    section = table.get(key, {})
    if not isinstance(section, dict):
        raise RecipeError(f"{where}: {key} must be a table", f"Write it as [{key}].")
    return section
