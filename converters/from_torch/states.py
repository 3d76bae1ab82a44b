"""TorchScript modules that keep a state in their attributes from one call to the next: it becomes inputs and outputs.

A file computes what its inputs say and forgets the rest. Streaming networks (voice activity, wake words) write what
they have to remember into attributes of the module: `self._state = new`. Such a module is traced as a function of the
attributes' values, which returns those that it leaves; calibration samples are taken for one stream, in their order.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from edgeqwt.calibration.arrays import NAMELESS
from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.converters.from_torch.repeats import refuse_draws
from edgeqwt.converters.states import STATES, words
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

CONFIRMED = 3
"""Samples in a row on which the module and what was traced of it have to agree."""
TOLERANCE = 1e-4
"""Of the largest value: what float32 leaves where ops of one expression are computed in another order."""


@dataclass(frozen=True, eq=False)
class Lifted:
    """A module whose state goes in and comes out.

    Attributes:
        module: takes forward's tensors and the state, and returns a dict of outputs and the new state.
        initial: the state before the first call, by the input's name.
        after: the output's name of each of these inputs.
        constants: forward's parameters that are no tensors: their values are a part of the module.
        note: a sentence on what was done.
    """

    module: torch.nn.Module
    initial: Mapping[str, Array]
    after: Mapping[str, str]
    constants: Mapping[str, Array]
    note: str

    def samples(self, samples: Samples) -> Samples:
        """Samples with the state before each of them, as a stream leaves it; those that have one keep it.

        Raises:
            InputError: while it is read, where a parameter that is no tensor changes.
        """
        known = [self.initial]

        def opened() -> Iterator[Sample]:
            for k, sample in enumerate(samples):
                given = {name: value for name, value in sample.items() if name not in self.constants}
                for name, value in self.constants.items():
                    if name in sample and not np.array_equal(np.ravel(sample[name]), np.ravel(value)):
                        raise InputError(
                            f"{samples.origin}: forward takes {name!r} as a number, not as a tensor: it is a part of "
                            "the model, and samples have several values of it",
                            "Give samples of one value, and build one model for each.",
                        )
                if not given.keys() >= self.initial.keys():
                    given = {**given, **known[k]}
                if k + 1 == len(known):
                    result = _called(self.module, given)
                    known.append({name: result[after] for name, after in self.after.items()})
                yield given

        return replace(samples, open=opened)


def lifted(what: str, module: Any, samples: Samples) -> Lifted | None:
    """The module with its state as inputs and outputs; None where forward keeps none.

    Args:
        what: how messages name it.
        module: TorchScript, as it was loaded; it is not called.
        samples: calibration samples, in the order of a stream.

    Raises:
        InputError: the state cannot be taken out.
    """
    paths = _written(module)
    if not paths:
        return None
    fresh, used = _copy(module), _copy(module)
    some = [_named(module, sample) for sample in islice(samples, CONFIRMED)]
    tensors, constants = _arguments(what, fresh, some[0])
    with torch.no_grad():
        called = [used(**_given(tensors, constants, sample)) for sample in some[:1]]
        before, after = ([_value(each, path) for path in paths] for each in (fresh, used))
    kept = {
        path: (old, new)
        for path, old, new in zip(paths, before, after, strict=True)
        if isinstance(new, torch.Tensor) and new.is_floating_point()
    }
    if not kept:
        return None
    names = {path: _name(path) for path in kept}
    if len({*names.values()} | {*tensors}) < len(kept) + len(tensors):
        raise _refused(what, names, "their names are those of inputs")
    states = {
        path: old.detach().clone()
        if isinstance(old, torch.Tensor) and old.shape == new.shape
        else torch.zeros_like(new)
        for path, (old, new) in kept.items()
    }
    traced = _traced(what, used, tensors, constants, names, states, some[0], called[0])
    found = Lifted(
        traced,
        {names[path]: state.numpy() for path, state in states.items()},
        {name: f"{name}_out" for name in names.values()},
        {name: np.asarray(some[0][name]) for name in constants},
        _note(names),
    )
    _confirm(what, fresh, found, tensors, constants, some, names)
    return found


def require_none(what: str, module: torch.nn.Module, run: Callable[[], Mapping[str, Array]]) -> None:
    """Refuses a module whose outputs depend on what it wrote into its attributes at the call before.

    Args:
        what: how messages name it.
        module: in evaluation mode, called once already: what is computed once and kept is there.
        run: calls it, on one and the same sample.

    Raises:
        InputError: naming the attributes, or what draws random numbers.
    """
    first, before = run(), _tensors(module)
    kept = {path: _version(value) for path, value in before.items()}
    second, after = run(), _tensors(module)
    if all(np.array_equal(first[name], value, equal_nan=True) for name, value in second.items()):
        return
    written = [p for p, value in after.items() if value is not before.get(p) or _version(value) != kept[p]]
    if not written:
        refuse_draws(what, run, first, second)
    if written:
        raise InputError(
            f"{what}: forward keeps a state in its attributes ({', '.join(written)}), which a file forgets: it returns "
            "something else when it is called again",
            "Let forward take it as an argument and return the new one; or return torch.jit.script(module), of which "
            "the state becomes inputs and outputs by itself.",
        )


def _version(value: torch.Tensor) -> int:
    """How often a tensor was written; those of inference mode do not count it."""
    return 0 if value.is_inference() else value._version


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Buffers, and tensors that are attributes, by their path."""
    return {
        f"{name}.{key}".lstrip("."): value
        for name, part in module.named_modules()
        for key, value in {**vars(part), **vars(part).get("_buffers", {})}.items()
        if isinstance(value, torch.Tensor)
    }


def _written(module: torch.jit.ScriptModule) -> tuple[str, ...]:
    """The attributes that forward assigns to, by their path from the module, each once."""

    def path(value: Any) -> list[str]:
        node = value.node()
        return [*path(node.inputsAt(0)), node.s("name")] if node.kind() == "prim::GetAttr" else []

    graph: Any = module.inlined_graph  # its nodes live as long as it does
    nodes = graph.findAllNodes("prim::SetAttr")
    return tuple(dict.fromkeys(".".join([*path(node.inputsAt(0)), node.s("name")]) for node in nodes))


def _copy(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    stored = io.BytesIO()
    torch.jit.save(module, stored)  # a deep copy would share the code
    stored.seek(0)
    copied: torch.jit.ScriptModule = torch.jit.load(stored)  # type: ignore[no-untyped-call]
    return copied.eval()


def _place(module: Any, path: str) -> tuple[Any, str]:
    """The part of a module that has an attribute, and the attribute's name."""
    *parts, name = path.split(".")
    for part in parts:
        module = getattr(module, part)
    return module, name


def _value(module: Any, path: str) -> Any:
    holder, name = _place(module, path)
    return getattr(holder, name)


def _name(path: str) -> str:
    """An input's name that tells a state: `_context` is state_context."""
    clean = re.sub(r"[\W_]+", "_", path).strip("_")
    return clean if words(clean) & STATES else f"state_{clean}"


def _named(module: torch.jit.ScriptModule, sample: Sample) -> dict[str, Array]:
    first = module._c._get_method("forward").schema.arguments[1].name
    return {first if name == NAMELESS else name: np.asarray(value) for name, value in sample.items()}


def _arguments(what: str, module: torch.jit.ScriptModule, sample: Sample) -> tuple[list[str], list[str]]:
    """Names of forward's parameters that the sample gives: tensors, and numbers.

    Raises:
        InputError: it does not give one that forward needs.
    """
    arguments = module._c._get_method("forward").schema.arguments[1:]
    if missing := [a.name for a in arguments if not a.has_default_value() and a.name not in sample]:
        raise InputError(
            f"{what}: forward takes {', '.join(a.name for a in arguments)}; the samples have no {missing[0]!r}",
            "Name the calibration arrays as forward's parameters.",
        )
    given = [a for a in arguments if a.name in sample]
    tensors = [a.name for a in given if str(a.type) in ("Tensor", "Optional[Tensor]")]
    return tensors, [a.name for a in given if a.name not in tensors]


def _given(tensors: list[str], constants: list[str], sample: Sample) -> dict[str, Any]:
    arrays = {name: torch.from_numpy(np.array(sample[name])) for name in tensors}
    arrays = {name: value.float() if value.is_floating_point() else value for name, value in arrays.items()}
    return {**arrays, **{name: np.asarray(sample[name]).reshape(-1)[0].item() for name in constants}}


def _traced(
    what: str, module: torch.jit.ScriptModule, tensors: list[str], constants: list[str], names: Mapping[str, str],
    states: Mapping[str, torch.Tensor], sample: Sample, result: object,
) -> torch.nn.Module:  # fmt: skip
    """The module as a function of its tensors and states.

    Raises:
        InputError: torch cannot trace it.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    from edgeqwt.converters.from_torch.source import flattened

    given = _given(tensors, constants, sample)
    numbers = {name: given[name] for name in constants}
    outputs = [*flattened(result, what), *(f"{name}_out" for name in names.values())]

    def function(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for path, value in zip(names, values[len(tensors) :], strict=True):
            holder, name = _place(module, path)
            setattr(holder, name, value)
        found = module(**dict(zip(tensors, values, strict=False)), **numbers)
        return *flattened(found, what).values(), *(_value(module, path) for path in names)

    try:
        with torch.no_grad():
            traced = make_fx(torch.func.functionalize(function))(*(given[name] for name in tensors), *states.values())
    except Exception as error:  # torch raises anything here
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise _refused(what, names, f"torch cannot trace it: {reason}") from error
    graph = traced.graph
    graph.eliminate_dead_code()
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    for node, name in zip(inputs, [*tensors, *names.values()], strict=True):
        node.target = node.name = name
    (end,) = (node for node in graph.nodes if node.op == "output")
    end.args = (dict(zip(outputs, end.args[0], strict=True)),)
    traced.recompile()
    return traced


def _called(module: torch.nn.Module, sample: Sample) -> dict[str, Array]:
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in sample.items()}
    with torch.no_grad():
        return {name: value.numpy() for name, value in module(**tensors).items()}


def _confirm(
    what: str, module: torch.jit.ScriptModule, found: Lifted, tensors: list[str], constants: list[str],
    some: list[dict[str, Array]], names: Mapping[str, str],
) -> None:  # fmt: skip
    """Whether the traced module computes what the module itself does, call after call.

    Raises:
        InputError: it does not: forward keeps more than it assigns, or goes another way at the first call.
    """
    from edgeqwt.converters.from_torch.source import flattened

    state = found.initial
    for k, sample in enumerate(some):
        with torch.no_grad():
            wanted = flattened(module(**_given(tensors, constants, sample)), what)
        result = _called(found.module, {**{name: sample[name] for name in tensors}, **state})
        state = {name: result[after] for name, after in found.after.items()}
        for name, value in wanted.items():
            size = float(value.abs().max()) if value.numel() else 0.0
            if not np.allclose(result[name], value.numpy(), rtol=0, atol=TOLERANCE * max(size, 1e-6)):
                raise _refused(what, names, f"call {k} differs from the module's own at output {name!r}")


def _refused(what: str, names: Mapping[str, str], why: str) -> InputError:
    listed = ", ".join(names)
    return InputError(
        f"{what}: forward keeps its state in attributes ({listed}), which a file forgets, and they cannot be made "
        f"inputs and outputs: {why}",
        "Wrap the module in one whose forward takes the state as an argument and returns the new one.",
    )


def _note(names: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{path} (input {name!r}, output {name + '_out'!r})" for path, name in names.items())
    return (
        f"forward keeps its state in attributes: {pairs}. The application feeds it back; calibration samples are taken "
        "for one stream, in their order"
    )
