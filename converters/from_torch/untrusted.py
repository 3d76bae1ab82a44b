"""What a model file of a stranger's may hold so that loading and running it executes nothing but a model.

torch.export's reader unpickles what it does not know, evaluates expressions of sizes as Python, calls whatever
function of torch's a node names, and loads shared libraries that lie in the archive. TorchScript has ops that write
files. Each is looked for before the file is loaded; what is not plain is refused, unless the user trusts it. What
TensorFlow reads is looked through in its own environment (`from_keras.untrusted`).
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeqwt.errors import InputError
from edgeqwt.loading import is_trusted

LARGEST_TEXT = 1 << 28
"""Bytes of a text inside an archive."""
UNREADABLE = (OSError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError)
"""What a damaged archive raises when it is read, too deep nesting and unknown compression included."""
TRUST = "Give the model's Python source, or --trust if you know who made the file: it may then run code of its own."

_MEMBERS = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|\.format_version|"
    r"models/[\w-]+\.json|data/weights/(weight_\d+|[\w-]+_weights_config\.json)|"
    r"data/constants/(tensor_\d+|[\w-]+_constants_config\.json)|data/sample_inputs/[\w-]+\.pt|"
    r"serialized_(exported_program\.json|state_dict\.(pt|json)|constants\.(pt|json)|example_inputs\.pt))"
    r"|version|serialized_(exported_program\.json|state_dict\.(pt|json)|constants\.(pt|json)|example_inputs\.pt)"
)
_NAMESPACES = r"(aten|prims|prim|higher_order|quantized_decomposed|quantized|torchvision|_c10d_functional|torchao)"
_TARGETS = re.compile(
    rf"torch\.ops\.{_NAMESPACES}\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+|torch\._sym_\w+|"
    r"torch\.utils\._sympy\.functions\.\w+|\w+"
)
_FILES = re.compile(r"from_file|_save|\bsave|\bload|system|exec|eval|open|import")
_EXPRESSION = re.compile(r"[\w\s+\-*/%(),<>=!&|~.]*")
_CALLS = re.compile(r"([A-Za-z_]\w*)\s*\(")
_FUNCTIONS = frozenset(
    {
        "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilDiv", "FloorToInt", "CeilToInt", "RoundToInt",
        "TruncToInt", "ToFloat", "IntTrueDiv", "FloatTrueDiv", "PowByNatural", "FloatPow", "floor", "ceiling", "Abs",
        "Eq", "Ne", "Gt", "Ge", "Lt", "Le", "Equality", "Unequality", "And", "Or", "Not", "Integer", "Float",
        "Rational", "Symbol", "Identity", "Where", "BitwiseFn_bitwise_and", "BitwiseFn_bitwise_or", "LShift", "RShift",
        "sqrt", "log", "exp", "Mul", "Add", "Pow", "LessThan", "GreaterThan", "StrictLessThan", "StrictGreaterThan",
        "Piecewise", "ExprCondPair", "Half", "One", "Zero", "NegativeOne",
    }
)  # fmt: skip
_TORCHSCRIPT = re.compile(rf"\b(torch\.(save|load|from_file|_\w*load\w*)|ops\.(?!{_NAMESPACES}\.)\w+\.\w+)\s*\(")


def check_program(path: Path) -> None:
    """Refuses an exported program (.pt2) that could run code when it is loaded or called.

    Raises:
        InputError: naming what it holds; not where the user trusts it.
    """
    if is_trusted():
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir() and not _MEMBERS.fullmatch(info.filename):
                    raise _refused(path, f"it holds {info.filename!r}, which is no part of a plain program")
            for info in archive.infolist():
                if info.filename.endswith(".json"):
                    _check_json(path, json.loads(_text(path, archive, info)))
    except UNREADABLE:
        return  # whoever loads it says what is wrong with it


def _text(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > LARGEST_TEXT:
        raise _refused(path, f"{info.filename!r} is larger than {LARGEST_TEXT} bytes")
    return archive.read(info)


def _check_json(path: Path, document: Any) -> None:
    for key, value in _strings(document):
        if key == "target" and (not _TARGETS.fullmatch(value) or _FILES.search(value)):
            raise _refused(path, f"it calls {value!r}, which is no op of a model")
        if key == "expr_str" and not _is_plain(value):
            raise _refused(path, f"a size in it is {value[:60]!r}, which is no plain expression")
        if "__enum__" in value or "default_factory_module" in value:
            raise _refused(path, "it asks for a Python module to be imported")


def _strings(document: Any) -> Iterator[tuple[str, str]]:
    """Every text in a JSON document with the key that it stands under, keys themselves under "expr_str"."""
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, dict):
            if key == "range_constraints":
                yield from (("expr_str", name) for name in value)
            waiting += [(str(name), item) for name, item in value.items()]
            yield from (("", str(name)) for name in value)
        elif isinstance(value, list):
            waiting += [(key, item) for item in value]


def _is_plain(expression: str) -> bool:
    """Whether an expression has nothing but numbers, names, operators and known functions."""
    expression = re.sub(r"\bSymbol\('(\w+)'", r"Symbol(\1", expression)
    return (
        bool(_EXPRESSION.fullmatch(expression))
        and "__" not in expression
        and not re.search(r"\.\s*[A-Za-z_]", expression)
        and set(_CALLS.findall(expression)) <= _FUNCTIONS
    )


@contextmanager
def plain_pickles() -> Iterator[None]:
    """Lets torch.load read tensors and containers of them only, unless the user trusts the file."""
    if is_trusted():
        yield
        return
    import torch

    before = torch.load

    def load(*args: Any, **options: Any) -> Any:
        return before(*args, **{**options, "weights_only": True})

    torch.load = load
    try:
        yield
    finally:
        torch.load = before


def check_torchscript(path: Path) -> None:
    """Refuses a TorchScript file whose code, which is not Python, reads or writes files or calls unknown ops.

    Raises:
        InputError: naming what it calls; not where the user trusts it.
    """
    if is_trusted():
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.filename.partition("/")[2].startswith("code/") or not info.filename.endswith(".py"):
                    continue
                if called := _TORCHSCRIPT.search(_text(path, archive, info).decode("utf-8", "replace")):
                    raise _refused(path, f"it calls {called[1]}, which is no op of a model")
    except UNREADABLE:
        return  # as above


def _refused(path: Path, why: str) -> InputError:
    return InputError(f"{path} is not loaded: {why}", TRUST)
