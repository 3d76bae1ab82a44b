"""What a torch module is called with: forward's parameters, and which of a sample's arrays are theirs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch

from edgeqwt.calibration.arrays import NAMELESS
from edgeqwt.calibration.binding import bound, inputs_of
from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

ONE_FOR_ALL = (
    " Where {only} is a dict or list of tensors, give a module whose forward takes the tensors and calls yours with "
    "it: def forward(self, a, b): return self.model({{'a': a, 'b': b}})."
)


def given_inputs(what: str, module: torch.nn.Module, sample: Sample) -> tuple[dict[str, Array], bool]:
    """What the sample gives forward, in forward's order, and whether it goes by position."""
    named, required, variadic = _parameters(module)
    if not named and variadic:
        named = [name or "input" for name in sample]
        return dict(zip(named, inputs_of(bound(sample, named, named, what), named).values(), strict=False)), True
    if list(sample) == [NAMELESS]:
        only = required if required else named[:1]
        if len(only) != 1:
            raise InputError(
                f"{what}: forward takes {', '.join(required) or 'nothing'}, the samples have one array without a name",
                "Give an .npz file with one array per parameter.",
            )
        return {only[0]: sample[NAMELESS]}, False
    given = inputs_of(bound(sample, named, required, what), named)
    unknown = [name for name in given if name not in named]
    missing = [name for name in required if name not in given]
    if unknown or missing:
        raise InputError(
            f"{what}: forward takes {', '.join(named) or 'nothing'}; the samples have {', '.join(given) or 'nothing'}",
            "Name the calibration arrays as forward's parameters."
            + (ONE_FOR_ALL.format(only=named[0]) if len(named) == 1 and len(given) > 1 else ""),
        )
    return {name: given[name] for name in named if name in given}, False


def _parameters(module: torch.nn.Module) -> tuple[list[str], list[str], bool]:
    """Names of forward's parameters, those without a default, and whether it takes any number."""
    if isinstance(module, torch.jit.ScriptModule):  # what was traced has no signature that Python knows
        arguments = module._c._get_method("forward").schema.arguments[1:]
        names = [argument.name for argument in arguments]
        return names, [a.name for a in arguments if not a.has_default_value()], False
    kinds = inspect.Parameter
    parameters = inspect.signature(module.forward).parameters.values()
    named = [p.name for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    required = [p.name for p in parameters if p.name in named and p.default is kinds.empty]
    return named, required, any(p.kind == kinds.VAR_POSITIONAL for p in parameters)


def spec(name: str, array: Array, dtype: str | None) -> InputSpec:
    """An input as example arrays show it: their shape, and their element type where `dtype` names no other.

    numpy makes float64 where nobody asked for it; the parameters are float32.
    """
    return InputSpec(name, array.shape, dtype or ("float32" if array.dtype.kind == "f" else array.dtype.name))


def example_types(what: str, examples: object, names: Sequence[str]) -> dict[str, str]:
    """Element types of example inputs by input name."""
    if examples is None:
        return {}
    if isinstance(examples, torch.Tensor):
        examples = [examples]
    if isinstance(examples, (list, tuple)):
        examples = dict(zip(names, examples, strict=False))
    if not isinstance(examples, Mapping) or not all(isinstance(v, torch.Tensor) for v in examples.values()):
        raise InputError(
            f"{what}: the example inputs are {type(examples).__name__}",
            "Give a tensor, or a tuple or dict of tensors, one per parameter of forward.",
        )
    return {name: str(value.dtype).removeprefix("torch.") for name, value in examples.items()}
