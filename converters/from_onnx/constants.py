"""Inputs of ONNX models that have one value in all samples, lengths and rates as a rule, as constants of the model.

What is computed of them is then known before any sample is: which branch an If takes, where Slice begins, what Scatter
writes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.converters.from_onnx.edit import without_dead
from edgeqwt.converters.from_onnx.nodes import RANDOM
from edgeqwt.converters.from_onnx.source import OnnxRunner, input_specs, load, real_inputs
from edgeqwt.errors import EdgeqwtError, InputError
from edgeqwt.graph.graph import Array

LOOKED_AT = 32  # samples by which a hint says that an input has one value
SHOWN = 4  # values that a hint shows


def constants_in(path: Path, samples: Samples, names: Sequence[str], folder: Path) -> tuple[Path, Samples]:
    """A model whose inputs of some names are constants, and samples without them.

    Args:
        path: of an .onnx file.
        samples: the first one gives the values; others are held against it as they are read.
        names: of inputs.
        folder: the new file is written there.

    Raises:
        InputError: another source, a name that is no input, or a sample that has another value.
    """
    model = load(path)
    specs = {spec.name: spec for spec in input_specs(model)}
    first = samples.first()
    for name in names:
        if name not in specs or name not in first:
            raise InputError(f"there is no input {name!r}", f"There are: {', '.join(specs)}.")
    if len(specs) == len(set(names)):
        raise InputError("all inputs are to be constants", "Leave one out.")
    values = {name: first[name] for name in names}
    _fold(model, {name: _as_input(model, name, value) for name, value in values.items()})
    written = folder / f"{path.stem}.constants.onnx"
    onnx.save(model, written)
    return written, without(samples, values)


def without(samples: Samples, values: Sample) -> Samples:
    """The samples without some inputs, which have to have these values in every one.

    Raises:
        InputError: while it is read, where a sample has another value.
    """

    def change(sample: Sample) -> Sample:
        for name, value in values.items():
            if name in sample and not np.array_equal(sample[name], value):
                raise InputError(
                    f"{samples.origin}: input {name!r} is to be a constant, and samples have several values of it",
                    f"Leave out --input {name}=constant, or give samples of one value.",
                )
        return {name: array for name, array in sample.items() if name not in values}

    return samples.map(change)


def of_one_value(samples: Samples) -> Sample:
    """The integer inputs that have one value in the first samples, with it."""
    some = list(samples.head(LOOKED_AT))
    integers = {name: value for name, value in some[0].items() if value.dtype.kind in "iub"}
    return {n: value for n, value in integers.items() if all(np.array_equal(each[n], value) for each in some)}


def hint(path: Path, samples: Samples, already: Sequence[str] = ()) -> str:
    """Which integer inputs of an .onnx file have one value in the first samples, and what to do; empty: none has.

    Args:
        path: a model that was refused.
        samples: in its layout.
        already: inputs that are constants as it is.
    """
    try:
        real = real_inputs(load(path))
        found = of_one_value(samples)
        known = [value.name for value in real if value.name in found and value.name not in already]
    except EdgeqwtError:  # the error that is raised is the one that counts
        return ""
    if not known or len(known) == len(real):
        return ""
    said = ", ".join(f"{name!r} is {_shown(found[name])}" for name in known)
    options = " ".join(f"--input {name}=constant" for name in known)
    return f" In every sample {said}: where that always holds, try {options}, which makes it a part of the model."


def _shown(value: Array) -> str:
    several = sorted(set(value.ravel().tolist()))
    return ", ".join(map(str, several)) if len(several) <= SHOWN else "the same"


def _fold(model: onnx.ModelProto, constants: Sample) -> None:
    """Makes inputs constants, in place, and computes what depends on them and constants alone: inference does not."""
    graph = model.graph
    ends = {output.name for output in graph.output}
    known, depending = {"", *constants, *(tensor.name for tensor in graph.initializer)}, {*constants}
    computed: list[onnx.NodeProto] = []
    for node in graph.node:
        if set(node.input) <= known and not ends & {*node.output} and _repeats(node):
            known |= {*node.output}
            computed.append(node)
            if depending & {*node.input}:
                depending |= {*node.output}
    folded = [node for node in computed if depending & {*node.output}]
    values = {
        **constants,
        **_values(model, computed, [name for node in folded for name in node.output if name], constants),
    }
    for node in folded:
        graph.node.remove(node)
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    without_dead(model)


def _values(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], asked: Sequence[str], given: Sample) -> Sample:
    """What some nodes compute of inputs; of initializers, onnxruntime would know more and refuse more."""
    if not asked:
        return {}
    part = onnx.ModelProto()
    part.CopyFrom(model)
    for field in ("node", "input", "output", "value_info"):
        part.graph.ClearField(field)
    part.graph.node.extend(nodes)
    part.graph.input.extend(value for value in model.graph.input if value.name in given)
    part.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in asked)
    return OnnxRunner(part).run(given)


def _repeats(node: onnx.NodeProto) -> bool:
    """Whether a node computes the same of the same, and reads nothing but its inputs."""
    inner = any(a.HasField("g") or a.graphs for a in node.attribute)
    return not inner and not node.domain and node.op_type not in RANDOM | {"Dropout"}


def _as_input(model: onnx.ModelProto, name: str, value: Array) -> Array:
    """The value as the model's input has it: of its type, and of its rank where a batch dimension was put in front."""
    kind = next(i for i in model.graph.input if i.name == name).type.tensor_type
    value = value[0] if value.ndim == len(kind.shape.dim) + 1 and len(value) == 1 else value
    return value.astype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
