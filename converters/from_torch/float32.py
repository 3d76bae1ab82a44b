"""torch modules in half precision or float64, and casts of their forward to such types, as float32.

TFLite's kernels compute in float32. What a module holds in half precision are float32's numbers, too; forward casts to
the type of its weights (`x.half()`, `x.to(self.dtype)`, autocast), and would meet float32 ones.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

from edgeqwt.errors import InputError

HALVES = frozenset({torch.float16, torch.bfloat16})
CASTS = {torch.float16: torch.Tensor.half, torch.bfloat16: torch.Tensor.bfloat16, torch.float64: torch.Tensor.double}
SCALAR_TYPES = {5: torch.float16, 7: torch.float64, 15: torch.bfloat16}  # c10/core/ScalarType.h
FLOAT32 = 6
NO_SCHEMA = "(no schema)"


@dataclass(frozen=True)
class Types:
    """Float types that are float32 in what a module computes."""

    kinds: frozenset[torch.dtype] = HALVES

    def name(self, dtype: str) -> str:
        """An input's element type: "float32" in place of one of these."""
        return "float32" if dtype in (str(kind).removeprefix("torch.") for kind in self.kinds) else dtype


def types_of(module: torch.nn.Module) -> Types:
    """Half precision, and float64 where the module holds any."""
    return Types(HALVES | ({torch.float64} & _held(module)))


def _held(module: torch.nn.Module) -> set[torch.dtype]:
    return {value.dtype for value in chain(module.parameters(), module.buffers())}


def holds(module: torch.nn.Module, types: Types) -> bool:
    """Whether the module has parameters or buffers of the types."""
    return bool(types.kinds & _held(module))


def in_float32(what: str, module: torch.nn.Module, types: Types) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """A module whose parameters and buffers are float32, and sentences on that; a copy, unless they are already.

    Args:
        what: how messages name it.
        module: TorchScript, too.
        types: those of the module, see `types_of`.

    Raises:
        InputError: it cannot be copied.
    """
    if not holds(module, types):
        return module, ()
    kinds = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in types.kinds & _held(module)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about its own trees and gradients
            made = _scripted(module, types) if isinstance(module, torch.jit.ScriptModule) else copy.deepcopy(module)
            return made.float(), (f"The source's {kinds} is computed in float32.",)
    except Exception as error:  # whatever the user's own __deepcopy__ or torch raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{what} holds {kinds}, and cannot be copied: {reason}", "Return it .float().") from error


@contextlib.contextmanager
def casts(types: Types) -> Iterator[None]:
    """While this is entered, casts to the types are casts to float32, and autocast does nothing."""
    known = {cast: torch.Tensor.float for kind, cast in CASTS.items() if kind in types.kinds}

    class _Casts(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, _: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            given = {name: _float32(value, types) for name, value in (kwargs or {}).items()}
            return known.get(func, func)(*(_float32(value, types) for value in args), **given)

    with _Casts(), mock.patch.object(torch, "set_autocast_enabled", _nothing):
        yield


def _nothing(*given: object) -> None:
    """Stands for `torch.set_autocast_enabled`: autocast works below what a TorchFunctionMode sees."""


def _float32(value: Any, types: Types) -> Any:
    return torch.float32 if isinstance(value, torch.dtype) and value in types.kinds else value


def _scripted(module: torch.jit.ScriptModule, types: Types) -> torch.jit.ScriptModule:
    """A copy of TorchScript in which types that ops are given as numbers are float32's."""
    stored = io.BytesIO()
    torch.jit.save(module, stored)  # a deep copy would share the code
    stored.seek(0)
    copied: torch.jit.ScriptModule = torch.jit.load(stored)  # type: ignore[no-untyped-call]
    for part in copied.modules():
        if hasattr(part, "graph"):
            _retype(part.graph, part.graph, types)
    return copied


def _retype(graph: Any, block: Any, types: Types) -> None:
    for node in block.nodes():
        schema = node.schema()
        names = [] if schema == NO_SCHEMA else [a.name for a in torch._C.parse_schema(schema).arguments]
        for place, (name, value) in enumerate(zip(names, node.inputs(), strict=False)):
            constant = name == "dtype" and value.node().kind() == "prim::Constant"
            if constant and SCALAR_TYPES.get(value.toIValue()) in types.kinds:
                made = graph.insertConstant(FLOAT32)
                made.node().moveBefore(node)
                node.replaceInput(place, made)
        for inner in node.blocks():
            _retype(graph, inner, types)
