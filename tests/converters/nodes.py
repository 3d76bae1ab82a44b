"""ONNX models of a few nodes."""

from __future__ import annotations

from typing import Any


def of_nodes(nodes: list[Any], ends: list[Any], held: list[Any]) -> Any:
    """A model of opset 17: its input, then its outputs; its constants."""
    from onnx import helper

    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
