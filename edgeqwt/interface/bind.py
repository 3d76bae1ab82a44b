"""Inputs of a converted model as the file is to have them: pixels and other integers, standardized columns, types.

What normalized an input in training is written into the float graph, in front of everything; `fold` takes it into the
first layers. The source model and the samples stay as they are: a binding says how its values become the graph's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from edgeqwt.calibration.columns import as_rows, column_axis
from edgeqwt.calibration.deciding import Deciding
from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.converted import Affine, Binding, ConvertedModel
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor
from edgeqwt.graph.linear import along
from edgeqwt.graph.opset import MOVES
from edgeqwt.interface.options import ALL, Interface, Pixels
from edgeqwt.interface.real_outputs import SPANS, with_real_outputs
from edgeqwt.prepare.rewriting import NONE
from edgeqwt.widths.ports import Port, with_states
from edgeqwt.widths.precision import Precision

LOOKED_AT = 32  # samples that pixels are recognized in, and standardized by
WHOLE = 0.02  # of a pixel: how far from whole ones float32 and rounded means leave them

KNOWN: Mapping[str, Pixels] = {
    "0 to 255": Pixels(scale=1.0),
    "0 to 1": Pixels(),
    "-1 to 1": Pixels((0.5,), (0.5,)),
    "normalized as for ImageNet": Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""How pixels usually come; samples that are whole pixels by one of them are taken for such."""


@dataclass(frozen=True)
class Bound:
    """A model with inputs as the file is to have them.

    Attributes:
        model: its graph takes pixels, or standardized columns.
        ports: what inputs and outputs are to be like, by the graph's tensor names.
    """

    model: ConvertedModel
    ports: Mapping[str, Port]


def normalized(samples: Samples, interface: Interface) -> Samples:
    """The samples, with arrays of uint8 normalized as training did it, where the interface says how."""
    if not interface.pixels:
        return samples

    def change(sample: Sample) -> Sample:
        return {name: _normalized(interface, name, array) for name, array in sample.items()}

    return samples.map(change)


def bound(model: ConvertedModel, samples: Samples, interface: Interface) -> Bound:
    """The model with inputs and outputs as an interface asks for them; integers that it casts to reals are real now.

    Args:
        model: from a converter.
        samples: in the source's layout; they show what pixels are, and what columns are like.
        interface: what is asked for.

    Raises:
        InputError: a name that the model does not have, or samples that are no pixels by what is said of them.
    """
    model, ports = _with_real_inputs(model)
    model, bytes_out = with_real_outputs(model)
    ports |= bytes_out
    asked = _by_tensor(model.inputs, model.graph, interface.inputs, "input")
    pixels = _by_tensor(model.inputs, model.graph, interface.pixels, "input", images=True)
    columns = _by_tensor(model.inputs, model.graph, dict.fromkeys(interface.standardize, "yes"), "input")
    for t, kind in asked.items():
        name = model.graph.tensors[t].name
        given = ports.get(name, Port())
        ports[name] = Port(kind, given.span if kind != "float" else None)
    some = list(islice(samples, LOOKED_AT))
    notes = list[str]()
    for k, binding in enumerate(model.inputs):
        name = model.graph.tensors[binding.tensor].name
        found = pixels.get(binding.tensor)
        if name in ports and ports[name].span is not None and found is None:
            continue  # integers already
        if found is None and asked.get(binding.tensor) == "uint8":
            found = _recognized(binding, model.graph, some, notes)
        if found is not None:
            axis = _channel_axis(model.graph.tensors[binding.tensor].shape, found.channels, binding)
            factor, shift = _factors(found, len(model.graph.tensors[binding.tensor].shape), axis)
            kind = asked.get(binding.tensor, "uint8")
            ports[name] = Port(kind, None if kind == "float" else (0.0, 255.0))
        elif binding.tensor in columns:
            factor, shift = _standard(binding, model.graph, some)
        else:
            continue
        model = _with_affine(model, k, Affine(factor, shift, whole=found is not None))
        if found is not None:
            _check_pixels(model.inputs[k], model.graph, some)
        notes.append(_message(model.inputs[k], found))
    outputs = _by_tensor(model.outputs, model.graph, interface.outputs, "output")
    for t, kind in outputs.items():
        name = model.graph.tensors[t].name
        ports[name] = Port(kind, bytes_out[name].span if name in bytes_out and kind == bytes_out[name].type else None)
    return Bound(replace(model, notes=(*model.notes, *notes)), with_states(model.graph, ports))


def deciding(model: ConvertedModel, asked: Mapping[str, Deciding]) -> ConvertedModel:
    """The model with what decides in its outputs.

    Args:
        model: its outputs are as the file has them.
        asked: by name in the source model or the file, "" for all.

    Raises:
        InputError: a name that no output of real numbers has, or columns that one does not have.
    """
    found = _by_tensor(model.outputs, model.graph, asked, "output")
    ends = enumerate(model.outputs)
    resolved = {k: found[b.tensor].within(b.spec.shape, b.permutation) for k, b in ends if b.tensor in found}
    return replace(model, deciding=resolved)


def _with_real_inputs(model: ConvertedModel) -> tuple[ConvertedModel, dict[str, Port]]:
    """Integer inputs that CASTs to float alone read, moved or not, hold real numbers. Their CASTs go."""
    graph = model.graph
    integers = [t for t in graph.inputs if graph.tensors[t].dtype in SPANS and graph.tensors[t].quantization is None]
    behind = {t: found for t in integers if (found := _cast_behind(graph, t))}
    if not behind:
        return model, {}
    ports = {graph.tensors[t].name: Port(graph.tensors[t].dtype, SPANS[graph.tensors[t].dtype]) for t in behind}
    named = {*graph.outputs, *(t for s in graph.signatures for _, t in s.outputs)}
    editor, casts = Editor(graph), {i for found in behind.values() for i in found}
    gone = {graph.ops[i].outputs[0]: graph.ops[i].inputs[0] for i in casts if graph.ops[i].outputs[0] not in named}
    for t in {*behind, *gone.values()} | {graph.ops[i].inputs[0] for i in casts}:
        editor.tensors[t] = replace(graph.tensors[t], dtype="float32")
    for i, op in enumerate(graph.ops):
        if i in casts and op.outputs[0] in gone:
            continue
        if i in casts:  # an output of the model: the value itself
            op = Op("RESHAPE", op.inputs, op.outputs, {"newShape": graph.tensors[op.outputs[0]].shape})
        editor.add_op(replace(op, inputs=tuple(gone.get(t, t) for t in op.inputs)))
    return model.on(editor.finish()), ports


def _cast_behind(graph: Graph, t: int) -> list[int]:
    """The CASTs to float that read a tensor, directly or behind ops that move its values; none where others do."""
    found, readers, todo = list[int](), graph.consumers(), [t]
    while todo:
        t = todo.pop()
        for i in readers.get(t, []):
            op = graph.ops[i]
            if op.kind == "CAST" and graph.tensors[op.outputs[0]].is_float:
                found.append(i)
            elif op.kind in MOVES and op.inputs[0] == t and op.outputs[0] not in graph.outputs:
                todo.append(op.outputs[0])
            else:
                return []
    return found


def _by_tensor[T](
    bindings: Sequence[Binding], graph: Graph, by_name: Mapping[str, T], what: str, images: bool = False
) -> dict[int, T]:
    """What is said by name, by tensor; what is said of all holds for real ones, or for images alone.

    Raises:
        InputError: a name is none, or that of what holds no real numbers; nothing holds any.
    """
    names = {b.spec.name: b for b in bindings} | {graph.tensors[b.tensor].name: b for b in bindings}
    named = {b.spec.name: b for b in bindings}
    found: dict[int, T] = {}
    for name, value in by_name.items():
        if name == ALL:
            continue
        if name not in names:
            raise InputError(f"there is no {what} {name!r}", f"The model's {what}s: {', '.join(map(repr, named))}.")
        tensor = graph.tensors[names[name].tensor]
        if not tensor.is_float:
            raise InputError(f"{what} {name!r} holds {tensor.dtype}, which stays so", "Name one of real numbers.")
        found[names[name].tensor] = value
    if ALL in by_name:
        real = [b.tensor for b in bindings if graph.tensors[b.tensor].is_float]
        if images and len(real) > 1:
            real = [t for t in real if len(graph.tensors[t].shape) == 4] or real
        if not real and by_name[ALL] != "float":
            raise InputError(f"no {what} of the model holds real numbers", f"Leave the options for {what}s out.")
        found = {**dict.fromkeys(real, by_name[ALL]), **found}
    return found


def _factors(pixels: Pixels, rank: int, axis: int) -> tuple[Array, Array]:
    """The factor and the shift of a pixel, float32, broadcasting over the tensor: x = factor * pixel + shift."""
    mean, std = (np.array(v, np.float64) for v in (pixels.mean, pixels.std))
    factor, shift = np.broadcast_arrays(pixels.scale / std, -mean / std)
    return along(factor.astype(np.float32), axis, rank), along(shift.astype(np.float32), axis, rank)


def _channel_axis(shape: Sequence[int | None], channels: int, binding: Binding | None = None) -> int:
    """The axis of the channels: the last one of what was moved there, otherwise the one that has so many.

    Raises:
        InputError: there is none.
    """
    last = len(shape) - 1
    if channels == 1 or (binding is not None and binding.permutation is not None and shape[last] == channels):
        return last
    for axis in (last, 1, 0):
        if 0 <= axis <= last and shape[axis] == channels:
            return axis
    whose = f"input {binding.spec.name!r}" if binding is not None else "the input"
    raise InputError(
        f"{whose} of shape {tuple(shape)} has no axis of {channels} channels", "Give one value, or one per channel."
    )


def _normalized(interface: Interface, name: str, array: Array) -> Array:
    pixels = interface.pixels.get(name) or interface.pixels.get(ALL)
    if pixels is None or array.dtype != np.uint8 or array.ndim < 2:
        return array
    axis = 1 if array.ndim > 2 and array.shape[1] == pixels.channels else array.ndim - 1
    factor, shift = _factors(pixels, array.ndim, _channel_axis(array.shape, pixels.channels) if axis != 1 else 1)
    return np.asarray(array * factor + shift, np.float32)


def _recognized(binding: Binding, graph: Graph, samples: Sequence[Sample], notes: list[str]) -> Pixels | None:
    """What the samples say of how pixels were normalized; None where they are no pixels by any usual way."""
    arrays = [binding.to_graph(np.asarray(_value(sample, binding)), graph) for sample in samples]
    shape = graph.tensors[binding.tensor].shape
    for name, pixels in KNOWN.items():
        if pixels.channels not in (1, *shape[-1:], *shape[1:2]):
            continue
        factor, shift = _factors(pixels, len(shape), _channel_axis(shape, pixels.channels, binding))
        found = [(array - shift) / factor for array in arrays]
        whole = all(np.abs(f - np.rint(f)).max(initial=0.0) < WHOLE for f in found)
        within = all(f.min(initial=0.0) > -0.5 and f.max(initial=0.0) < 255.5 for f in found)
        if whole and within and max(f.max(initial=0.0) for f in found) > 1.5:
            notes.append(f"The samples of {binding.spec.name!r} are whole pixels {name}.")
            return pixels
    notes.append(
        f"The integers of input {binding.spec.name!r} are not pixels: no usual normalization makes the samples whole "
        "ones. Say how training normalized them: --pixels mean=... std=..."
    )
    return None


def _value(sample: Sample, binding: Binding) -> Array:
    return np.asarray(sample[binding.spec.name] if binding.spec.name in sample else next(iter(sample.values())))


def _standard(binding: Binding, graph: Graph, samples: Sequence[Sample]) -> tuple[Array, Array]:
    """Each column's standard deviation and mean in the samples, in the graph's layout."""
    arrays = [binding.to_graph(_value(sample, binding), graph) for sample in samples]
    axis = column_axis(arrays)
    rows = as_rows(arrays, axis)
    deviation = rows.std(axis=0)
    # A column that never changes has no deviation: its distance from the mean is taken as it is.
    factor = np.where(deviation > 1e-12 * np.maximum(np.abs(rows).max(axis=0), 1e-12), deviation, 1.0)
    shape = [1] * arrays[0].ndim
    shape[axis] = -1
    return factor.astype(np.float32).reshape(shape), rows.mean(axis=0).astype(np.float32).reshape(shape)


def _with_affine(model: ConvertedModel, index: int, affine: Affine) -> ConvertedModel:
    """The model whose graph takes z where it took x = factor * z + shift."""
    graph, binding = model.graph, model.inputs[index]
    editor, t = Editor(graph), binding.tensor
    tensor = graph.tensors[t]
    editor.tensors[t] = replace(tensor, name=f"{tensor.name}/normalized")
    new = editor.add_tensor(replace(tensor, name=f"{tensor.name}/new"))
    editor.tensors[new] = replace(editor.tensors[new], name=tensor.name)
    scaled = editor.add_tensor(Tensor(f"{tensor.name}/scaled", tensor.shape, "float32"))
    constants = [
        editor.add_tensor(Tensor(f"{tensor.name}/{what}", data.shape, "float32", data))
        for what, data in (("factor", affine.factor), ("shift", affine.shift))
    ]
    editor.add_op(Op("MUL", (new, constants[0]), (scaled,), NONE))
    editor.add_op(Op("ADD", (scaled, constants[1]), (t,), NONE))
    for op in graph.ops:
        editor.add_op(op)
    changed = model.on(editor.finish(inputs=[new if u == t else u for u in graph.inputs]))
    inputs = tuple(replace(b, affine=affine) if k == index else b for k, b in enumerate(changed.inputs))
    trace = model.trace_source

    def traced(sample: Sample) -> Mapping[str, Array]:
        assert trace is not None
        return {name: array for name, array in trace(sample).items() if name != tensor.name}

    return replace(changed, inputs=inputs, trace_source=None if trace is None else traced)


def _check_pixels(binding: Binding, graph: Graph, samples: Sequence[Sample]) -> None:
    """Whether the samples are pixels by what is said of them.

    Raises:
        InputError: they reach beyond 0 to 255.
    """
    for k, sample in enumerate(samples):
        values = binding.to_graph(_value(sample, binding), graph)
        low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        if low < -1 or high > 256:
            raise InputError(
                f"input {binding.spec.name!r} of sample {k} is no image by these pixels: its values would be pixels "
                f"from {low:.0f} to {high:.0f}",
                "Give mean, std and scale as the samples were normalized: x = (pixel * scale - mean) / std.",
            )


def _message(binding: Binding, pixels: Pixels | None) -> str:
    if pixels is None:
        return (
            f"Input {binding.spec.name!r} takes (x - mean) / std, column by column; io.json has both. The layers that "
            "read it take it back."
        )
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (pixels.mean, pixels.std))
    return (
        f"Input {binding.spec.name!r} takes pixels from 0 to 255; (pixel * {pixels.scale:.6g} - [{mean}]) / [{std}] is "
        "in the model."
    )


def coarse_inputs(model: ConvertedModel, precision: Precision) -> set[str]:
    """The inputs of 8 bits whose values go in as they are, by name: their columns may be standardized."""
    ports, bits = precision.ports, precision.activation_bits
    found = {b.spec.name: ports.get(model.graph.tensors[b.tensor].name) for b in model.inputs if b.affine is None}
    return {name for name, port in found.items() if (bits if port is None else port.bits(bits)) == 8}
