"""Read target profiles: TOML -> TargetProfile.

A profile may extend another one: what it does not say is as there; `limits` and `npu` are merged key by
key, and a limit set to false is lifted. A base that is named with .toml lies beside the file that names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeqwt import toml
from edgeqwt.errors import InputError
from edgeqwt.profile import Npu, TargetProfile
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.target.constraints import CONSTRAINTS

FOLDER = Path(__file__).parent / "profiles"

KEYS: Mapping[str, type] = MappingProxyType(
    {"extends": str, "title": str, "runtimes": list, "notes": list, "package": str, "npu": dict, "limits": dict}
)
PACKAGES = ("tflite", "tflm", "ethos-u")
REQUIRED = ("title", "runtimes", "notes")
WORDS: Mapping[type, str] = MappingProxyType(
    {str: "a text", list: "a list of texts", dict: "a table", bool: "true or false", int: "a whole number above 0"}
)


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
    package, npu = table.get("package", "tflite"), table.get("npu")
    if package not in PACKAGES:
        raise InputError(f"{path}: package = {package!r}", f"Choose one of {', '.join(PACKAGES)}.")
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
    for part in ("npu", "limits"):
        if part in below or part in table:
            table[part] = {**below.get(part, {}), **table.get(part, {})}
    return {**below, **table}


def _read(path: Path) -> dict[str, Any]:
    """One file's table, keys and types checked."""
    try:
        table = toml.read(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "Name a .toml file, or a target of `edgeqwt targets`.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "Name a .toml file.") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}", "Correct the TOML.") from None
    _check(table, KEYS, str(path))
    npu = {field.name: str for field in dataclasses.fields(Npu)}
    _check(table.get("npu", {}), npu, f"{path} [npu]")
    limits = table.get("limits", {})
    _check(limits, {name: c.limit for name, c in CONSTRAINTS.items()}, f"{path} [limits]")
    for name, limit in limits.items():
        if isinstance(limit, dict):
            _check(limit, dict.fromkeys(limit, list), f"{path} [limits.{name}]")
    return table


def _check(table: Mapping[str, Any], known: Mapping[str, type], where: str) -> None:
    """Raises InputError for a key that is not known or a value of another type."""
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}", f"Known here: {', '.join(sorted(known))}.")
        if where.endswith("[limits]") and value is False:
            continue
        if not _is(value, known[key]):
            raise InputError(f"{where}: {key} = {value!r}", f"It must be {WORDS[known[key]]}.")


def _is(value: object, wanted: type) -> bool:
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    if wanted is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, wanted)


def _npu(table: Mapping[str, str], path: Path) -> Npu:
    for field in dataclasses.fields(Npu):
        if field.name not in table:
            raise InputError(f"{path} [npu]: {field.name} is missing", "Write it as Vela calls it.")
    known = [name for name in names() if name.startswith("ethos-u")]  # the profiles are called as Vela calls the NPUs
    if table["accelerator"] not in known:
        raise InputError(f"{path} [npu]: accelerator = {table['accelerator']!r}", f"Choose one of {', '.join(known)}.")
    return Npu(**table)
