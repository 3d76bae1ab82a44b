"""A plan: models × targets × recipes × precisions × calibration sets, as TOML -> cells, one for each build."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, MinLen

from edgeqwt import options, toml
from edgeqwt.errors import EdgeqwtError, InputError
from edgeqwt.profile import TargetProfile
from edgeqwt.recipe import recipe as recipes
from edgeqwt.sweeps.contents import digest, digest_of, file_of, versions

Names = Annotated[list[str], MinLen(1)]
HINT = "Write it as in docs/sweeps.md."


@dataclass(frozen=True)
class Model:
    """A source model of a plan, a table of `[[models]]`.

    Attributes:
        source: as `build` takes it: file.py:function, .onnx, .pt2, .tflite, ...
        name: in the table; by default that of its file.
        calibration: its sets, in place of the plan's.
        samples: use at most so many of each set.
        batch_size: rows of the file's inputs.
        sequence_length: what sequences are cut or padded to; 0: they stay.
        converter: as of `build`.
        evaluation: labelled test samples.
        metric: what scores them.
        depends: other files that the source reads, such as weights.
        trust: let the file run code of its own while it is loaded.
    """

    source: str
    name: str = ""
    calibration: list[str] = field(default_factory=list)
    samples: Annotated[int, Ge(1)] | None = None
    batch_size: Annotated[int, Ge(1)] = 1
    sequence_length: Annotated[int, Ge(0)] = 0
    converter: str = "auto"
    evaluation: str = ""
    metric: str = ""
    depends: list[str] = field(default_factory=list)
    trust: bool = False


@dataclass(frozen=True)
class Plan:
    """What a sweep builds, and what each build needs. Paths are relative to the plan's folder.

    Attributes:
        models: sources, or tables with more about each.
        calibration: sets of samples, each used for every model that names none of its own.
        targets: names, or .toml profiles.
        recipes: names, or .toml files.
        precisions: such as w8a8; "" is what the recipe says.
        samples: use at most so many of each set.
        accept: write models below the quality thresholds, too.
        min_quality: decibels that outputs have to reach.
        latency: measure each file on the machine that built it.
        cores: that one build gets.
        memory_mib: that one build is expected to need: so many run at a time as fit; 0: not known.
        retries: how often a build is begun again whose process or machine was lost.
    """

    models: Annotated[list[str | dict[str, Any]], MinLen(1)]
    calibration: list[str] = field(default_factory=list)
    targets: Names = field(default_factory=lambda: ["tflite"])
    recipes: Names = field(default_factory=lambda: ["balanced"])
    precisions: Names = field(default_factory=lambda: [""])
    samples: Annotated[int, Ge(1)] | None = None
    accept: bool = True
    min_quality: Annotated[float, Ge(0)] | None = None
    latency: bool = False
    cores: Annotated[int, Ge(1)] = 1
    memory_mib: Annotated[int, Ge(0)] = 0
    retries: Annotated[int, Ge(0)] = 2


@dataclass(frozen=True)
class Cell:
    """One build of a plan.

    Attributes:
        key: SHA-256 of all that decides its result: contents of files, options, versions.
        model, calibration, target, recipe, precision: what people call its coordinates.
        options: keyword arguments of `edgeqwt.build`.
        files: what another machine needs for it.
        latency: whether the file is measured on the machine that built it.
        versions: of the packages that decide its result.
    """

    key: str
    model: str
    calibration: str
    target: str
    recipe: str
    precision: str
    options: Mapping[str, Any]
    files: tuple[str, ...]
    latency: bool
    versions: Mapping[str, str]

    @property
    def folder(self) -> str:
        """The name of its output folder: readable, and another one when anything about it changes."""
        parts = (self.model, self.calibration, self.target, self.recipe, self.precision, self.key[:10])
        return "-".join("".join(c if c.isalnum() or c in "_." else "_" for c in part) for part in parts if part)


def read(plan: str | Path | Mapping[str, Any]) -> tuple[Plan, str, Path]:
    """A plan from its file or, in Python, from a mapping with the same keys.

    Returns:
        The plan, what messages call it, and the folder that its paths are relative to.

    Raises:
        InputError: it cannot be read, has an unknown key or a wrong value.
    """
    if isinstance(plan, Mapping):
        return options.filled(Plan, plan, "plan", InputError), "plan", Path.cwd()
    path = Path(plan)
    table = toml.table(path, "Name the .toml file of a plan.")
    return options.filled(Plan, table, str(path), InputError), str(path), path.resolve().parent


def cells(plan: Plan, where: str, folder: Path, target_of: Callable[[str], TargetProfile]) -> tuple[Cell, ...]:
    """The builds of a plan, in its order; equal ones once.

    Args:
        plan: checked by itself.
        where: what messages call it.
        folder: that paths are relative to.
        target_of: loads a profile.

    Raises:
        InputError: a file, a recipe, a target or a precision of it does not exist; the message names plan and key.
    """
    models = list(_models(plan, where))
    found = _Contents(plan, where, folder, target_of)
    made = (
        found.cell(model, calibration, *axes)
        for model in models
        for axes in product(plan.targets, plan.recipes, plan.precisions)
        for calibration in model.calibration or plan.calibration
    )
    return tuple({cell.key: cell for cell in made}.values())


def _models(plan: Plan, where: str) -> Iterator[Model]:
    """Each with its name and its calibration sets."""
    for k, entry in enumerate(plan.models, start=1):
        table = {"source": entry} if isinstance(entry, str) else entry
        model = options.filled(Model, table, f"{where}: models, entry {k}", InputError)
        if not (model.calibration or plan.calibration):
            what = f"{where}: calibration is missing for model {model.source!r}"
            raise InputError(what, 'Write calibration = ["samples.npz"], for all models or in the table of this one.')
        yield model


class _Contents:
    """What the texts of a plan stand for, each read once.

    Args:
        plan: whose texts they are.
        where: what messages call it.
        folder: that paths are relative to.
        target_of: loads a profile.
    """

    def __init__(self, plan: Plan, where: str, folder: Path, target_of: Callable[[str], TargetProfile]) -> None:
        self.plan, self.where, self.folder, self.target_of = plan, where, folder, target_of
        self.known: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {}

    def cell(self, model: Model, calibration: str, target: str, recipe: str, precision: str) -> Cell:
        texts = {"models": model.source, "calibration": calibration, "targets": target, "recipes": recipe}
        texts |= {key: text for key in ("evaluation", "metric") if (text := getattr(model, key))}
        found = {key: self.read(key, text) for key, text in texts.items()}
        more = [self.read("depends", text) for text in model.depends]
        if precision:
            self.checked("precisions", recipes.with_precision, recipes.load(found["recipes"][0]), precision)
        used = versions(self.target_of(found["targets"][0]).npu is not None)
        chosen = self.options(model, precision)
        digests = {key: value[1] for key, value in found.items()}
        key = digest([digests, sorted(value[1] for value in more), chosen, self.plan.latency, used])
        named = {"model": "models", "calibration": "calibration", "target": "targets", "recipe": "recipes"}
        named |= {name: name for name in ("evaluation", "metric") if name in found}
        files = dict.fromkeys(path for value in (*found.values(), *more) for path in value[2])
        return Cell(
            key, model.name or _short(model.source), _short(calibration), _short(target), _short(recipe), precision,
            {**{name: found[key][0] for name, key in named.items()}, **chosen}, tuple(files), self.plan.latency, used,
        )  # fmt: skip

    def options(self, model: Model, precision: str) -> dict[str, Any]:
        """Arguments of `build` that are no files."""
        return {
            "precision": precision or None,
            "samples": model.samples or self.plan.samples,
            "batch_size": model.batch_size,
            "sequence_length": model.sequence_length or None,
            "converter": model.converter,
            "min_quality": self.plan.min_quality,
            "accept": self.plan.accept,
            "trust": model.trust,
        }

    def read(self, key: str, text: str) -> tuple[str, str, tuple[str, ...]]:
        """What `build` is given for a text, the digest of what it stands for, and the files that it needs."""
        if (key, text) not in self.known:
            named = key in ("recipes", "targets") and not text.endswith(".toml")
            full = text if named else file_of(text, self.folder)
            if key == "recipes":
                self.checked(key, recipes.load, full)
            if key == "targets":
                self.checked(key, self.target_of, full)
            self.known[key, text] = (full, *self.checked(key, digest_of, full))
        return self.known[key, text]

    def checked[**P, T](self, key: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except EdgeqwtError as error:
            raise InputError(f"{self.where}: {key}: {error.message}", error.hint or HINT) from None


def _short(text: str) -> str:
    """What people call a file: its name without folder and ending; "net.py:small" is net:small."""
    path, colon, function = text.rpartition(":") if ".py:" in text else (text, "", "")
    return f"{Path(path).name.removesuffix(Path(path).suffix)}{colon}{function}"
