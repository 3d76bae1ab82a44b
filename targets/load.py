"""Read target profiles: TOML -> TargetProfile.

A profile may extend another one: what it does not say is as there; `limits`, `npu` and `plugin` are merged
key by key, and a limit set to false is lifted. A base that is named with .toml lies beside the file that names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from annotated_types import Gt

from edgeqwt import options, toml
from edgeqwt.errors import InputError
from edgeqwt.profile import Npu, Plugin, TargetProfile
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.runtime.vendors import VENDORS
from edgeqwt.target.constraints import CONSTRAINTS

FOLDER = Path(__file__).parent / "profiles"

REQUIRED = ("title", "runtimes", "notes")
TYPES: Mapping[type, Any] = MappingProxyType(
    {bool: bool, int: Annotated[int, Gt(0)], list: list[str], dict: dict[str, list[str]]}
)
"""What a limit may be, by the type that its constraint names."""


@dataclasses.dataclass(frozen=True)
class ProfileFile:
    """A profile's file; what it does not say is as in the one that it extends.

    Attributes:
        extends: a target's name, or a .toml file beside this one.
        title: one line for people.
        runtimes: what must load and run the model, of `runtime.runners.RUNNERS`.
        notes: sentences on what was verified and what was not.
        package: what `build --output` makes.
        npu: the NPU that Vela compiles for.
        plugin: the NPU that a plugin of LiteRT compiles for.
        limits: what the device does not take; false lifts a limit of the profile below.
    """

    extends: str = ""
    title: str = ""
    runtimes: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    package: Literal["tflite", "tflm", "ethos-u", "npu"] = "tflite"
    npu: dict[str, Any] = dataclasses.field(default_factory=dict)
    plugin: dict[str, Any] = dataclasses.field(default_factory=dict)
    limits: dict[str, Any] = dataclasses.field(default_factory=dict)


@cache
def _limits() -> type:
    """The table [limits] as a dataclass: each constraint with the type of its limit."""
    fields = [(name, TYPES[c.limit], dataclasses.field(default=None)) for name, c in CONSTRAINTS.items()]
    meanings = "".join(f"\n        {name}: {c.rule}" for name, c in CONSTRAINTS.items())
    return dataclasses.make_dataclass(
        "Limits", fields, frozen=True, namespace={"__doc__": f"Limits.\n\n    Attributes:{meanings}"}
    )


@cache
def _npu_table() -> type:
    """The table [npu] of a file that may extend another one."""
    fields: list[Any] = [
        (field.name, str, dataclasses.field(default="")) for field in dataclasses.fields(Npu) if field.name != "system"
    ]
    fields.append(("system", dict[str, str | int | float], dataclasses.field(default_factory=dict)))
    return dataclasses.make_dataclass("NpuTable", fields, frozen=True, namespace={"__doc__": Npu.__doc__})


@cache
def _plugin_table() -> type:
    """The table [plugin] of a file that may extend another one."""
    vendors: Any = Literal[("", *VENDORS)]
    fields = [(name, kind, dataclasses.field(default="")) for name, kind in (("vendor", vendors), ("soc", str))]
    return dataclasses.make_dataclass("PluginTable", fields, frozen=True, namespace={"__doc__": Plugin.__doc__})


def schema() -> dict[str, Any]:
    """The JSON Schema of a profile's file, for editors."""
    found = options.schema_of(ProfileFile)
    limits = options.schema_of(_limits())
    for row in limits["properties"].values():
        kind = {key: row.pop(key) for key in [*row] if key not in ("title", "description")}
        del kind["default"]
        row["anyOf"] = [{"const": False}, kind]
    tables = {"npu": _npu_table(), "plugin": _plugin_table()}
    found["properties"] |= {"limits": limits, **{name: options.schema_of(table) for name, table in tables.items()}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "edgeqwt target"}


def names() -> tuple[str, ...]:
    """The targets that there are."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load(name: str) -> TargetProfile:
    """A target by name, or from a TOML file of the user's.

    Raises:
        InputError: there is no such target, or its file has an unknown key or a wrong value.
    """
    if not name.endswith(".toml") and name not in names():
        raise InputError(f"there is no target {name!r}", f"Choose {', '.join(names())}, or name a .toml file.")
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    table = _merged(path, ())
    for key in REQUIRED:
        if not table.get(key):
            raise InputError(f"{path}: {key} is missing", "Write it, or name a profile that has it as `extends`.")
    package, npu, plugin = table.get("package", "tflite"), table.get("npu"), table.get("plugin")
    if package == "npu" and not (plugin and plugin.get("vendor") and plugin.get("soc")):
        raise InputError(f"{path}: [plugin] is missing", "The package npu needs the vendor and the soc to compile for.")
    if package == "ethos-u" and npu is None:
        raise InputError(f"{path}: [npu] is missing", "The package ethos-u needs the names that Vela knows the NPU by.")
    for runtime in table["runtimes"]:
        if runtime not in RUNNERS:
            raise InputError(f"{path}: there is no runtime {runtime!r}", f"Choose from {', '.join(RUNNERS)}.")
    return TargetProfile(
        name=path.stem,
        title=table["title"],
        runtimes=tuple(table["runtimes"]),
        notes=tuple(table["notes"]),
        package=package,
        npu=None if npu is None else _npu(npu, path),
        plugin=Plugin(plugin.get("vendor", ""), plugin.get("soc", "")) if plugin else None,
        limits=MappingProxyType({key: limit for key, limit in table.get("limits", {}).items() if limit is not False}),
    )


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A file's table, on top of that of the profile that it extends."""
    if path.resolve() in seen:
        raise InputError(f"{path} extends itself", "Name another profile as `extends`.")
    table = _read(path)
    base = table.pop("extends", None)
    if base is None:
        return table
    if not base.endswith(".toml") and base not in names():
        hint = f"Choose {', '.join(names())}, or a .toml file beside this one."
        raise InputError(f"{path}: extends = {base!r} names no target", hint)
    other = path.parent / base if base.endswith(".toml") else FOLDER / f"{base}.toml"
    below = _merged(other, (*seen, path.resolve()))
    if "npu" in table and ("system" in table["npu"] or "system_config" in table["npu"]):
        own = table["npu"].get("system", {})  # without it, another system config is one of Vela's own
        table["npu"]["system"] = {**below.get("npu", {}).get("system", {}), **own} if own else {}
    for part in ("npu", "plugin", "limits"):
        if part in below or part in table:
            table[part] = {**below.get(part, {}), **table.get(part, {})}
    return {**below, **table}


def _read(path: Path) -> dict[str, Any]:
    """One file's table, keys and types checked."""
    missing = (f"{path} does not exist", "Name a .toml file, or a target of `edgeqwt targets`.")
    table = toml.table(path, "Name a .toml file.", missing)
    options.filled(ProfileFile, table, str(path), InputError)
    options.filled(_npu_table(), table.get("npu", {}), f"{path} [npu]", InputError)
    options.filled(_plugin_table(), table.get("plugin", {}), f"{path} [plugin]", InputError)
    given = {
        key: limit for key, limit in table.get("limits", {}).items() if limit is not False or key not in CONSTRAINTS
    }
    options.filled(_limits(), given, f"{path} [limits]", InputError)
    return table


def _npu(table: Mapping[str, Any], path: Path) -> Npu:
    system = tuple((key, str(value)) for key, value in table.get("system", {}).items())
    npu = options.filled(Npu, {**table, "system": system}, f"{path} [npu]", InputError)
    if any("\n" in part for pair in (*system, (npu.system_config, "")) for part in pair):
        raise InputError(f"{path} [npu]: a name or a value has several lines", "Write each in one line.")
    known = [name for name in names() if name.startswith("ethos-u")]  # the profiles are called as Vela calls the NPUs
    if npu.accelerator not in known:
        raise InputError(f"{path} [npu]: accelerator = {npu.accelerator!r}", f"Choose one of {', '.join(known)}.")
    return npu
