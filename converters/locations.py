"""Where in the source model a tensor is computed, for people to read."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeqwt.converters.onnx2tf_tool import spelled
from edgeqwt.graph.graph import Graph

if TYPE_CHECKING:
    import onnx

LAYOUT = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast"})
SCOPES = "pkg.torch.onnx.name_scopes"  # the newer exporter's record of the modules that a node is in


def locations(
    graph: Graph, model: onnx.ModelProto, sources: Mapping[str, tuple[str, ...]], *, from_torch: bool
) -> dict[str, str]:
    """Graph tensor name to the location in the source model that computes it.

    Args:
        graph: the converted graph.
        model: the ONNX model.
        sources: TFLite tensor name to the ONNX values that it carries, as onnx2tf spells them.
        from_torch: the model was exported from a module, and its nodes lie in modules.

    Returns:
        An ONNX node's name; for torch the module's path, with the op where the module holds
        several: `layer1.0.conv1`, `layer1.0 (Add)`. Ops that the converter put in have the location
        of the op that they serve, with their own kind: `layer1.0.conv1 (PAD)`.
    """
    of_value = _module_locations(model) if from_torch else _node_locations(model)
    kinds = {spelled(name): node.op_type for node in model.graph.node for name in node.output}
    result: dict[str, str] = {}
    for tensor in (graph.tensors[t].name for op in graph.ops for t in op.outputs):
        known = [value for value in sources.get(tensor, (tensor,)) if value in of_value]
        # Fused ops: the first that computes something is the one that people look for.
        computing = [value for value in known if kinds[value] not in LAYOUT]
        if known:
            result[tensor] = of_value[(computing or known)[0]]
    return _with_helpers(graph, result)


def module_path(node_name: str) -> tuple[str, str]:
    """The module and the op that a node's name speaks of, as the TorchScript exporter makes it.

    "/module/layer1/layer1.0/conv1/Conv" is ("layer1.0.conv1", "Conv"): a module's part
    repeats its parent's where the parent is a container that was indexed.
    """
    *scopes, op = node_name.strip("/").split("/")
    path: list[str] = []
    for scope in scopes[1:]:
        if path and scope.startswith(path[-1] + "."):
            path[-1] = scope
        else:
            path.append(scope)
    return ".".join(path), op


def _with_helpers(graph: Graph, known: Mapping[str, str]) -> dict[str, str]:
    result, consumers = dict(known), graph.consumers()
    for op in reversed(graph.ops):
        served = [o for t in op.outputs for c in consumers.get(t, ()) for o in graph.ops[c].outputs]
        locations = [result[name] for name in (graph.tensors[t].name for t in served) if name in result]
        for t in op.outputs if locations else ():
            result.setdefault(graph.tensors[t].name, f"{locations[0].split(' (')[0]} ({op.kind})")
    return result


def _node_locations(model: onnx.ModelProto) -> dict[str, str]:
    return {
        spelled(name): node.name or f"{node.op_type} -> {name}" for node in model.graph.node for name in node.output
    }


def _module_locations(model: onnx.ModelProto) -> dict[str, str]:
    found = {}
    for node in model.graph.node:
        if node.op_type != "Constant":
            found.update(dict.fromkeys(map(spelled, node.output), _scoped(node)))
    ops_in = Counter(path for path, _ in found.values())
    return {
        value: path if path and ops_in[path] == 1 else f"{path or 'forward'} ({op})"
        for value, (path, op) in found.items()
    }


def _scoped(node: onnx.NodeProto) -> tuple[str, str]:
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            *modules, _ = ast.literal_eval(entry.value) or [""]
            path = modules[-1] if modules else ""
            return path.removeprefix("module.").removeprefix("module"), node.op_type
    return module_path(node.name)
