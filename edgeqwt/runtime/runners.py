"""Run a Graph in a real interpreter: LiteRT's reference kernels, LiteRT with XNNPACK, TFLite Micro.

A runner is prepared once for a graph and the tensors to look at (`taps`), and
then run sample by sample. Taps are made outputs of a copy of the graph, which
costs nothing and works alike in all interpreters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from edgeqwt.errors import EdgeqwtError, ToolError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.native_log import captured_stderr

Values = dict[int, Array]


class Runner(Protocol):
    """One prepared interpreter. Not for use by two threads at once."""

    def run(self, inputs: Mapping[int, Array]) -> Values:
        """Runs one sample.

        Args:
            inputs: by tensor index of the graph; shapes and element types as the graph's.

        Returns:
            The graph's outputs and taps by tensor index, as fresh arrays.
        """
        ...


class RunnerFactory(Protocol):
    """Makes a runner of one kind: what `RUNNERS` holds."""

    def __call__(self, graph: Graph, taps: Sequence[int] = ()) -> Runner:
        """Prepares a runner.

        Raises:
            ToolError: the interpreter refuses the model; its own words are in the message.
        """
        ...


class LiteRT:
    """LiteRT's interpreter on one thread, with one family of kernels."""

    def __init__(self, graph: Graph, taps: Sequence[int] = (), *, kernels: str = "xnnpack") -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {"reference": OpResolverType.BUILTIN_REF, "xnnpack": OpResolverType.BUILTIN}[kernels]
        self.graph, self.wanted = graph, list(dict.fromkeys((*graph.outputs, *taps)))
        content = flatbuffer.to_bytes(tapped(graph, self.wanted))
        with captured_stderr() as log:
            try:
                self.interpreter: Any = Interpreter(
                    model_content=content, num_threads=1, experimental_op_resolver_type=resolver
                )
                self.interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                failure = str(error)
            else:
                failure = ""
        if failure:
            raise refused(f"LiteRT ({kernels} kernels)", failure, log)

    def run(self, inputs: Mapping[int, Array]) -> Values:
        """See Runner."""
        for tensor, array in inputs.items():
            self.interpreter.set_tensor(tensor, array)
        self.interpreter.invoke()
        return {t: self.interpreter.get_tensor(t) for t in self.wanted}


class TFLiteMicro:
    """The TFLite Micro interpreter of the tflite-micro package: bit-true to the microcontroller's."""

    def __init__(self, graph: Graph, taps: Sequence[int] = ()) -> None:
        from tflite_micro import runtime

        self.graph, self.wanted = graph, list(dict.fromkeys((*graph.outputs, *taps)))
        content = flatbuffer.to_bytes(tapped(graph, self.wanted))
        # All activations at once, and some room for the interpreter's own records.
        arena = 2 * sum(t.size * 4 for t in graph.tensors if not t.is_constant) + 4096 * len(graph.ops) + (1 << 20)
        with captured_stderr() as log:
            try:
                self.interpreter: Any = runtime.Interpreter.from_bytes(content, arena_size=arena)
            except (RuntimeError, ValueError) as error:
                failure = str(error)
            else:
                failure = ""
        if failure:
            raise refused("TFLite Micro", failure, log)

    def run(self, inputs: Mapping[int, Array]) -> Values:
        """See Runner."""
        for position, tensor in enumerate(self.graph.inputs):
            self.interpreter.set_input(inputs[tensor], position)
        self.interpreter.invoke()
        return {t: np.array(self.interpreter.get_output(i)) for i, t in enumerate(self.wanted)}


def reference(graph: Graph, taps: Sequence[int] = ()) -> Runner:
    """LiteRT's reference kernels (BUILTIN_REF)."""
    return LiteRT(graph, taps, kernels="reference")


def xnnpack(graph: Graph, taps: Sequence[int] = ()) -> Runner:
    """LiteRT as it runs by default: XNNPACK, and optimized kernels for what it does not take."""
    return LiteRT(graph, taps, kernels="xnnpack")


RUNNERS: Mapping[str, RunnerFactory] = {"reference": reference, "xnnpack": xnnpack, "tflm": TFLiteMicro}


def tapped(graph: Graph, wanted: Sequence[int]) -> Graph:
    """The graph with the wanted tensors as its outputs and without signatures, which would no longer fit."""
    return replace(graph, outputs=tuple(wanted), signatures=(), metadata={}, others=graph.others)


def refused(interpreter: str, failure: str, log: Sequence[str]) -> EdgeqwtError:
    """The error for a model that an interpreter does not take, with the interpreter's reason."""
    lines = [line for line in (*log, *failure.splitlines()) if line.strip() and not line.startswith("INFO")]
    reason = next((line for line in lines if "ERROR" in line or "not" in line), lines[-1] if lines else failure)
    return ToolError(f"loading the model in {interpreter}", 1, "\n".join(lines), f"It said: {reason.strip()}")
