"""Modules that PyTorch's export quantization (PT2E, torchao) has prepared: their rounding in a form that ONNX has.

Such a module computes in float and rounds on the way, by ops of the namespace `quantized_decomposed`. Activations get
`fake_quantize_per_tensor_affine`, which computes the same, weights become the floats that their integers stand for.
What was learned is found again in the converted graph (`lowering.fake_quant`).
"""

from __future__ import annotations

import copy
import warnings
from typing import TypeGuard

import torch
import torch.ao.quantization.fx._decomposed
from torch.fx import GraphModule, Node

from edgeqwt.errors import InputError

NAMESPACE = "quantized_decomposed"
EXPORTABLE = ((-128, 127), (0, 255))
"""Ranges of integers that ONNX's QuantizeLinear has."""


def register_ops() -> None:
    """Makes torch know the ops, which reading an exported program needs."""
    import torch.ao.quantization.fx._decomposed  # noqa: F401


def refuse_dynamic(what: str, module: torch.nn.Module) -> None:
    """Refuses layers that `quantize_dynamic` made: their weights are packed for one processor's kernels.

    Raises:
        InputError: naming the first one.
    """
    for name, part in module.named_modules():
        if ".quantized.dynamic" in type(part).__module__:
            raise InputError(
                f"{what}: {name or 'it'} is a layer of dynamic quantization, {type(part).__name__}",
                "Give the module as it was before quantize_dynamic: a build quantizes it, activations too.",
            )


def is_quantized(module: torch.nn.Module) -> TypeGuard[GraphModule]:
    """Whether a module rounds by PT2E's ops."""
    return isinstance(module, torch.fx.GraphModule) and any(_kind(node) for node in module.graph.nodes)


def as_fake_quantized(what: str, module: GraphModule) -> GraphModule:
    """The module with rounding that exporters know; the one that was given stays as it is.

    Raises:
        InputError: it rounds in a way that TFLite's 8 bits do not have.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its own trees
        module = copy.deepcopy(module)
    graph = module.graph
    for node in list(graph.nodes):
        kind = _kind(node)
        if node.op == "call_module" and node.target == "_guards_fn":
            graph.erase_node(node)
        elif kind.startswith("dequantize") and node.args[0].op == "get_attr":
            name = f"_real_{node.name}"
            module.register_buffer(name, _called(module, node))
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(name))
            graph.erase_node(node)
        elif kind == "dequantize_per_tensor":
            rounding = node.args[0]
            source, scale, zero_point, low, high = rounding.args[:5] if _kind(rounding) else (None,) * 5
            if source is None or (low, high) not in EXPORTABLE:
                raise _unknown(what, rounding)
            with graph.inserting_before(node):
                arguments = (source, scale, zero_point, low, high)
                node.replace_all_uses_with(graph.call_function(torch.fake_quantize_per_tensor_affine, arguments))
            graph.erase_node(node)
    graph.eliminate_dead_code()
    for node in graph.nodes:
        if _kind(node):
            raise _unknown(what, node)
    module.recompile()
    return module


def _kind(node: Node) -> str:
    """The op's name without its namespace and overload; empty for other nodes."""
    name = str(node.target)
    return name.split(".")[1] if node.op == "call_function" and name.startswith(f"{NAMESPACE}.") else ""


def _called(module: GraphModule, node: Node) -> torch.Tensor:
    """The value of a node all of whose inputs are the module's own tensors."""

    def value(argument: object) -> object:
        if isinstance(argument, torch.fx.Node):
            found = module
            for part in str(argument.target).split("."):
                found = getattr(found, part)
            return found
        return argument

    assert callable(node.target)
    result = node.target(*map(value, node.args), **node.kwargs)
    assert isinstance(result, torch.Tensor)
    return result.detach().to(torch.float32)


def _unknown(what: str, node: Node) -> InputError:
    return InputError(
        f"{what}: {node.name} rounds by {node.target}, with {', '.join(map(str, node.args[1:]))}",
        "Quantize activations per tensor to 8 bits with fixed scales, or give the float model.",
    )
