"""ONNX models as sources: loading, making shapes static, and running in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import external_data_helper as external
from onnx import numpy_helper

from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.converters.from_onnx.float32 import foreign, in_float32
from edgeqwt.converters.from_onnx.old import LISTED, with_kernels
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array
from edgeqwt.loading import is_trusted

THREADS = 2  # waiting threads of onnxruntime spin: more of them take the processor away from everything else
LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def load(path: Path) -> onnx.ModelProto:
    """The model in an .onnx file, with weights that lie in files beside it; what is in half precision is float32.

    Raises:
        InputError: the file is no valid ONNX model, or weights of it are NaN or infinite.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        _check_weight_files(model, path)
        onnx.load_external_data_for_model(model, str(path.parent))
        _put_in_order(model.graph)
        model = with_kernels(model)
        if {i.name for i in model.graph.initializer} - {value.name for value in model.graph.input}:
            model.ir_version = max(model.ir_version, LISTED)  # runtimes ask for no weights among the inputs
        _check(model)
    except InputError:
        raise
    except Exception as error:  # protobuf, onnx and the operating system each raise their own
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{path} is not a readable ONNX model: {reason}", "Export it again, together with its external data files."
        ) from error
    check_weights(model)
    return in_float32(model, foreign(model))


def _check(model: onnx.ModelProto) -> None:
    """ONNX's own checks but for one: an output's shape may be missing, as where an If gives it; samples tell it."""
    types = [value.type.tensor_type for value in model.graph.output if value.type.HasField("tensor_type")]
    missing = [kind for kind in types if not kind.HasField("shape")]
    for kind in missing:
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    finally:
        for kind in missing:
            kind.ClearField("shape")


def _put_in_order(graph: onnx.GraphProto) -> None:
    """Puts nodes behind those that compute what they read, in place, as ONNX asks; onnxruntime runs any order."""
    unknown = {name for node in graph.node for name in node.output if name}
    waiting, ordered = list(graph.node), list[onnx.NodeProto]()
    while waiting:
        left = list[onnx.NodeProto]()
        for node in waiting:
            if unknown & _read(node):
                left.append(node)
            else:
                unknown -= {*node.output}
                ordered.append(node)
        if len(left) == len(waiting):
            return  # they wait for one another: the checker says so
        waiting = left
    if any(a is not b for a, b in zip(ordered, list(graph.node), strict=True)):
        del graph.node[:]
        graph.node.extend(ordered)


def _read(node: onnx.NodeProto) -> set[str]:
    """What a node reads, and what its graphs read of the values around it."""
    inner = [sub for a in node.attribute for sub in (*([a.g] if a.HasField("g") else []), *a.graphs)]
    return {*node.input, *(name for sub in inner for part in sub.node for name in _read(part))}


def _check_weight_files(model: onnx.ModelProto, path: Path) -> None:
    """Refuses weights that lie elsewhere than below the model's folder, wherever symbolic links lead.

    Raises:
        InputError: naming the first.
    """
    if is_trusted():
        return
    folder = path.parent.resolve()
    for tensor in external._get_all_tensors(model):
        if not external.uses_external_data(tensor):
            continue
        location = external.ExternalDataInfo(tensor).location
        target = (folder / location).resolve()
        if not target.is_relative_to(folder) or (target.exists() and not target.is_file()):
            raise InputError(
                f"{path}: weight {tensor.name!r} lies in {location!r}, which is no file below the model's folder",
                "Copy the file beside the model, or give --trust if you know who made the model.",
            )


def check_weights(model: onnx.ModelProto) -> None:
    """Refuses weights that no integer stands for.

    Infinities are refused in the weights of linear ops only: attention masks hold them on purpose.

    Raises:
        InputError: naming the first initializer with NaN or infinite values.
    """
    linear = {name for node in model.graph.node if node.op_type in LINEAR for name in node.input[1:]}
    for initializer in model.graph.initializer:
        try:
            array = numpy_helper.to_array(initializer)
        except Exception as error:  # onnx raises what numpy does: too few bytes, an unknown type, no external file
            raise InputError(
                f"weight {initializer.name!r} of the ONNX model cannot be read: {_reason(error)}",
                "Export the model again, and keep its external data files beside it.",
            ) from error
        if array.dtype.kind != "f":
            continue
        if np.isnan(array).any() or (initializer.name in linear and not np.isfinite(array).all()):
            raise InputError(
                f"weight {initializer.name!r} has NaN or infinite values", "Train or export the model again."
            )


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs that a caller must give: older files list the weights as inputs too."""
    weights = {i.name for i in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def input_specs(model: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """Name, shape (None for dynamic dimensions) and type of each input.

    Raises:
        InputError: an input is no tensor, or its number of dimensions is not known.
    """
    return tuple(_spec(value) for value in real_inputs(model))


def output_names(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the graph's outputs, in order."""
    return tuple(value.name for value in model.graph.output)


def with_static_shapes(model: onnx.ModelProto, sample: Sample) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with every dynamic input dimension fixed to its size in a sample.

    What the file states about shapes is kept only where inference agrees with it.

    Args:
        model: is not changed.
        sample: arrays by the model's input names.

    Returns:
        The model with all shapes inferred again, and a sentence for each input that was fixed.

    Raises:
        InputError: the sample contradicts the model's shapes.
    """
    fixed, notes, sizes = onnx.ModelProto(), list[str](), dict[str, tuple[int, str]]()
    fixed.CopyFrom(model)
    for value in real_inputs(fixed):
        shape = np.shape(sample[value.name])
        dims = value.type.tensor_type.shape.dim
        before = _shape(value)
        _check_shape(value.name, before, shape)
        for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
            if dim.dim_param:
                notes.extend(_one_symbol(sizes, dim.dim_param, size, value.name, axis))
            dim.dim_value = size
        if None in before:
            notes.append(f"input {value.name!r} with dynamic shape {_written(before)} was fixed to {tuple(shape)}")
    # What the file says about intermediate shapes was true of the dynamic model, if at all.
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    if not notes and _agrees(model, inferred):
        return model, ()
    return _with_output_shapes(inferred, sample), tuple(notes)


def _one_symbol(sizes: dict[str, tuple[int, str]], symbol: str, size: int, name: str, axis: int) -> Iterator[str]:
    """Notes down the size of a symbolic dimension; a sentence where the symbol has another size elsewhere.

    Some exporters write one symbol on every axis that they leave open, so that it says nothing of their sizes.

    Raises:
        InputError: inputs of one sample have batches of different sizes.
    """
    here = f"axis {axis} of input {name!r}"
    first, where = sizes.setdefault(symbol, (size, here))
    if first == size:
        return
    if axis == 0 and where.startswith("axis 0 "):
        raise InputError(
            f"input {name!r}: dimension {symbol!r} is {size} here and {first} in an earlier input of the same sample",
            "Make the calibration arrays agree with each other.",
        )
    yield f"dimension {symbol!r} is {first} on {where} and {size} on {here}: the two were taken for different ones"


def _agrees(model: onnx.ModelProto, inferred: onnx.ModelProto) -> bool:
    """Whether what a model states about the shapes of values is fixed, and nowhere else than what inference finds."""
    graph = inferred.graph
    found = {v.name: _shape(v) for v in (*graph.value_info, *graph.output) if v.type.tensor_type.HasField("shape")}
    if any(not value.type.tensor_type.HasField("shape") for value in model.graph.output):
        return False
    for value in (*model.graph.value_info, *model.graph.output):
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            continue
        stated = _shape(value)
        here = found.get(value.name, stated)
        if None in stated or (None not in here and here != stated):
            return False
    return True


AS_WRITTEN = frozenset({"If", "QuantizeLinear"})
"""What onnxruntime 1.26 rewrites into something else: what is chosen by constant conditions it cannot load then, and
layers between integers become integer kernels whose sums saturate on processors without VNNI."""


class OnnxRunner:
    """An ONNX model in onnxruntime.

    Args:
        model: with static shapes.
        everything: return all intermediate values as well, with onnxruntime's own rewriting off.
    """

    def __init__(self, model: onnx.ModelProto, *, everything: bool = False) -> None:
        model = _with_all_outputs(model) if everything else model
        self.specs = input_specs(model)
        try:
            self.session: Any = _session(
                model, plain=everything or any(n.op_type in AS_WRITTEN for n in model.graph.node)
            )
        except Exception as error:  # onnxruntime's exceptions have no common base but this
            raise InputError(f"onnxruntime cannot load the model: {_reason(error)}", "Export it again.") from error
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, sample: Sample) -> dict[str, Array]:
        """One sample's outputs by name.

        Raises:
            InputError: the model fails on this sample.
        """
        feeds = {spec.name: np.asarray(sample[spec.name], np.dtype(spec.dtype)) for spec in self.specs}
        try:
            values = self.session.run(self.names, feeds)
        except Exception as error:  # as above
            raise InputError(
                f"the ONNX model fails on a sample: {_reason(error)}", "Run it on that sample in onnxruntime."
            ) from error
        return dict(zip(self.names, (np.asarray(v) for v in values), strict=True))


def _session(model: onnx.ModelProto, *, plain: bool) -> Any:
    """A session on the CPU; `plain`: without onnxruntime's own rewriting."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = THREADS
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def versions() -> Mapping[str, str]:
    """Of the packages that this module uses."""
    return {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


# -- details ---------------------------------------------------------------------


def _with_output_shapes(model: onnx.ModelProto, sample: Sample) -> onnx.ModelProto:
    """The model with the shapes that its outputs have on a sample, where inference did not find them.

    It loses track in models that compute shapes from shapes, and onnxsim, which would fold all that,
    refuses models whose outputs have none.
    """
    lost = [output for output in model.graph.output if not output.type.tensor_type.HasField("shape")]
    if lost:
        values = OnnxRunner(model).run(sample)
        for output in lost:
            for size in values[output.name].shape:
                output.type.tensor_type.shape.dim.add().dim_value = size
            output.type.tensor_type.shape.SetInParent()  # a scalar has a shape, too
    return model


def _with_all_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = {v.name for v in inferred.graph.value_info if v.type.HasField("tensor_type")}
    known -= {v.name for v in (*inferred.graph.output, *inferred.graph.input, *inferred.graph.initializer)}
    produced = {name for node in inferred.graph.node for name in node.output}
    types = {v.name: v for v in inferred.graph.value_info}
    inferred.graph.output.extend(types[name] for name in sorted(known & produced))
    return inferred


def _spec(value: onnx.ValueInfoProto) -> InputSpec:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise InputError(f"input {value.name!r} of the ONNX model has no shape", "Export the model with shapes.")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except KeyError:
        raise InputError(
            f"input {value.name!r} of the ONNX model has the element type {tensor.elem_type}, which ONNX does not know",
            "The file is damaged: export the model again.",
        ) from None
    if dtype.kind not in "biuf":
        raise InputError(f"input {value.name!r} of the ONNX model holds {dtype}", "Only numbers can be converted.")
    return InputSpec(value.name, _shape(value), dtype.name)


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Sizes, None where a dimension is open: a symbol, nothing, or -1 or 0 as Paddle and others write it."""
    return tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim)


def _written(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def _check_shape(name: str, expected: Sequence[int | None], shape: Sequence[int]) -> None:
    fits = len(expected) == len(shape) and all(e in (None, s) for e, s in zip(expected, shape, strict=True))
    if not fits:
        raise InputError(
            f"input {name!r} takes shape {_written(expected)}, the first sample has {tuple(shape)}",
            "Give samples in the model's own layout, batch dimension included.",
        )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
