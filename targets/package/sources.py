"""The C++ component: the values of its templates' placeholders."""

from __future__ import annotations

import textwrap

from edgeqwt.graph.graph import Graph, Tensor
from edgeqwt.output import markdown
from edgeqwt.target.package import cpp
from edgeqwt.target.package.details import Details
from edgeqwt.target.package.memory import ArenaSize
from edgeqwt.target.package.vectors import RUNTIME_TITLES, Vectors

UNKNOWN = "The model's origin is not known."
_WIDTH = 110  # of comments


def values(
    model: bytes, graph: Graph, details: Details, vectors: Vectors, methods: tuple[str, ...], arena: ArenaSize
) -> dict[str, str]:
    """What stands for the placeholders of the templates below `tflm/`.

    Args:
        model: the flatbuffer that the device runs.
        graph: whose inputs and outputs are the model's.
        details: of the source model.
        vectors: test vectors.
        methods: of the op resolver.
        arena: what the interpreter is given.
    """
    return {
        "name": details.name,
        "guard": details.name.upper(),
        "origin": cpp.comment(details.origin) or UNKNOWN,
        "origin_markdown": markdown(details.origin) or UNKNOWN,
        "model_size": str(len(model)),
        "model_bytes": cpp.byte_rows(model),
        "op_count": str(len(methods)),
        "add_ops": cpp.lines(f"  if (resolver.{m}() != kTfLiteOk) return kTfLiteError;" for m in methods),
        "op_list": ", ".join(m.removeprefix("Add") for m in methods),
        **_arena(arena),
        **_ports(graph, details),
        **_example(graph, details),
        **_vectors(vectors),
    }


def _arena(arena: ArenaSize) -> dict[str, str]:
    comment = [f"// {line}" for line in textwrap.wrap(arena.reason, _WIDTH)]
    return {"arena_comment": cpp.lines(comment), "arena_reason": arena.reason, "arena_size": str(arena.size)}


def _ports(graph: Graph, details: Details) -> dict[str, str]:
    inputs = [(p, graph.tensors[t]) for p, t in zip(details.inputs, graph.inputs, strict=True)]
    outputs = [(p, graph.tensors[t]) for p, t in zip(details.outputs, graph.outputs, strict=True)]
    return {
        "input_count": str(len(inputs)),
        "input_rows": cpp.lines(cpp.port_row(*pair) for pair in inputs),
        "input_comments": cpp.lines(cpp.port_comment("Input", i, *pair) for i, pair in enumerate(inputs)),
        "output_count": str(len(outputs)),
        "output_rows": cpp.lines(cpp.port_row(*pair) for pair in outputs),
        "output_comments": cpp.lines(cpp.port_comment("Output", i, *pair) for i, pair in enumerate(outputs)),
    }


def _example(graph: Graph, details: Details) -> dict[str, str]:
    """How the READMEs show the first input and output in use."""
    first, last = (graph.tensors[ts[0]] for ts in (graph.inputs, graph.outputs))
    kinds = {"input_type": cpp.CPP_TYPES[first.dtype], "output_type": cpp.CPP_TYPES[last.dtype]}
    quantize = f"{details.name}::Quantize<{kinds['input_type']}>(values[i], {details.name}::kInputs[0])"
    dequantize = f"{details.name}::Dequantize(output[0], {details.name}::kOutputs[0])"
    return {
        **kinds,
        "input_expression": quantize if _is_quantized(first) else "values[i]",
        "output_expression": dequantize if _is_quantized(last) else "output[0]",
    }


def _is_quantized(tensor: Tensor) -> bool:
    return tensor.quantization is not None and not tensor.is_float


def _vectors(vectors: Vectors) -> dict[str, str]:
    arrays, rows = [], []
    for v, vector in enumerate(vectors.items):
        names: dict[str, list[str]] = {"kInput": [], "kOutput": []}
        for prefix, group in (("kInput", vector.inputs), ("kOutput", vector.outputs)):
            for i, array in enumerate(group):
                names[prefix].append(f"{prefix}{v}_{i}")
                arrays.append(cpp.byte_array(names[prefix][-1], array))
        rows.append("    {" + ", ".join("{" + ", ".join(group) + "}" for group in names.values()) + "},")
    what = "random integers" if vectors.random else "samples given to the build"
    return {
        "vector_count": str(len(vectors.items)),
        "vector_arrays": cpp.lines(arrays),
        "vector_rows": cpp.lines(rows),
        "vectors_origin": f"{what}, outputs of {RUNTIME_TITLES[vectors.runtime]}",
    }
