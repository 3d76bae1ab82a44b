"""Run a Graph in a real interpreter of LiteRT's, in this process, once it is known not to end it.

Kernels end the process where a check of theirs fails, and a graph that a build makes may be one that no test of a
kernel's has seen. So each graph is loaded in another process first, and run there on the first sample: nearly all that
kernels check are shapes, types and scales. What ends the other process is an error that names the op. It costs one
inference and the sending of the graph; a graph whose ops all ran in others, as kernels' checks see them, is not tried.
Where a kernel checks values, too (`OpRule.longest_row`), all samples run in the other process: of the graphs that
builds make, classifiers of many classes alone have such an op.

A runner is prepared once for a graph and the tensors to look at (`taps`), and then run sample by sample.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.opset import ACTIVATION_LIMITS, RULES
from edgeqwt.runtime.child import EndedError, serving
from edgeqwt.runtime.ended import KernelEndedError, ending_op, first_ending
from edgeqwt.runtime.interpreters import InterpreterError, LiteRT, Runner, RunnerFactory, TFLiteMicro, Values
from edgeqwt.runtime.subprocess_runners import Hosted, litert_host

# Here too: who runs graphs need not know where the interpreters are.
__all__ = [
    "RUNNERS",
    "InterpreterError",
    "LiteRT",
    "Runner",
    "RunnerFactory",
    "TFLiteMicro",
    "Values",
    "reference",
    "xnnpack",
]

SMALL = 256  # elements of constants that say how values move
CHECKING_NOTHING = frozenset({"DEQUANTIZE", *ACTIVATION_LIMITS})
"""Kinds of ops that compute each float by itself, whatever the shape."""
Form = tuple[object, ...]
_survivors: set[Form] = set()  # forms of ops that ran in another process
_trials: weakref.WeakValueDictionary[frozenset[Form], Hosted] = weakref.WeakValueDictionary()  # that have not run yet


def reference(graph: Graph, taps: Sequence[int] = ()) -> LiteRT:
    """LiteRT's reference kernels (BUILTIN_REF)."""
    return _runner(graph, taps, "reference")


def xnnpack(graph: Graph, taps: Sequence[int] = ()) -> LiteRT:
    """LiteRT as it runs by default: XNNPACK, and optimized kernels for what it does not take."""
    return _runner(graph, taps, "xnnpack")


def _runner(graph: Graph, taps: Sequence[int], kernels: str) -> LiteRT:
    return LiteRT(graph, taps, kernels=kernels) if serving() else TriedLiteRT(graph, taps, kernels=kernels)


class Trial:
    """A graph that is loaded in another process, and runs there on the first sample; neither again if it survives.

    Where kernels check values, it runs there on every sample.

    Args:
        graph: any.
        taps: as for `Runner`.
        kernels: of LiteRT's: "reference", "xnnpack" or "builtin".

    Raises:
        KernelEndedError: it ended the process.
        InterpreterError: LiteRT refuses the model.
    """

    def __init__(self, graph: Graph, taps: Sequence[int], kernels: str) -> None:
        self.graph, self.kernels = graph, kernels
        self.forms, self.always = _forms(graph, kernels), kernels == "reference" and _checks_values(graph)
        self.there = None if self.always else _trials.get(self.forms)
        if self.there is not None or (self.forms <= _survivors and not self.always):
            return
        try:
            self.there = litert_host().runner(kernels, graph, taps)
        except EndedError as error:
            op = first_ending(graph, lambda part: litert_host().runner(kernels, part))
            raise KernelEndedError(graph, op, kernels, error, "when it is loaded") from error
        if not self.always:
            _trials[self.forms] = self.there

    def run(self, inputs: Mapping[int, Array]) -> Values | None:
        """What a sample gives there; None where it may run here.

        Raises:
            KernelEndedError: it ended the process.
            InterpreterError: it fails.
        """
        if self.there is None:
            return None
        with self.there.host.lock:
            try:
                found = self.there.run(inputs) if self.always or not self.forms <= _survivors else None
            except EndedError as error:
                op = ending_op(self.graph, inputs, self.kernels, litert_host())
                raise KernelEndedError(self.graph, op, self.kernels, error) from error
        if self.always:
            return found
        _survivors.update(self.forms)
        self.there = None
        return None  # what tried the forms may be of another graph that has the same ones


def _checks_values(graph: Graph) -> bool:
    """Whether an op is one whose kernels end the process on some values, whatever they did on others."""
    return any(
        op.kind in RULES
        and part.tensors[op.inputs[0]].dtype in ("int8", "uint8")
        and part.tensors[op.inputs[0]].shape[-1:] > (RULES[op.kind].longest_row,)
        for part in (graph, *graph.others)
        for op in part.ops
        if op.inputs
    )


def _forms(graph: Graph, kernels: str) -> frozenset[Form]:
    """Each op with all that a kernel checks: options, shapes, types, small constants such as axes, sizes of scales.

    Weights are not among it, and scales count by their powers of two: what a search tries one after the other, and the
    parts of a graph that ran as a whole, have one form each. So have layers of floats with other ends, and what only
    moves to floats or ends them has none.
    """
    forms = set[Form]()
    for part in (graph, *graph.others):
        tensors = {t: _form(part.tensors[t]) for t in {t for op in part.ops for t in op.tensors}}
        forms |= {
            (
                (kernels, op.kind, op.custom_code, op.version, op.extra.get("customOptions")),
                repr(sorted(_checked(part, op).items())),  # some are lists
                tuple(tensors.get(t) for t in (*op.inputs, -1, *op.outputs)),
            )
            for op in part.ops
            if not (op.kind in CHECKING_NOTHING and _gives_floats(part, op))
        }
    return frozenset(forms)


def _checked(graph: Graph, op: Op) -> dict[str, Any]:
    """An op's options but for how it ends floats."""
    ends = op.options.get("fusedActivationFunction") in ACTIVATION_LIMITS and _gives_floats(graph, op)
    return {key: value for key, value in op.options.items() if not (ends and key == "fusedActivationFunction")}


def _gives_floats(graph: Graph, op: Op) -> bool:
    return all(graph.tensors[t].dtype == "float32" for t in op.outputs)


def _form(tensor: Tensor) -> Form:
    q, data = tensor.quantization, tensor.data
    small = data is not None and q is None and data.dtype.kind in "iu" and data.size <= SMALL
    powers = None if q is None else (*np.frexp([q.scale.min(), q.scale.max()])[1].tolist(), q.axis)
    value = data.tobytes() if small and data is not None else data is None
    return tensor.shape, tensor.shape_signature, tensor.dtype, tensor.is_variable, value, powers


class TriedLiteRT(LiteRT):
    """LiteRT in this process, behind a trial in another one; in that one alone where kernels check values.

    Raises:
        KernelEndedError: a kernel ended the other process; also by `run`, on its first sample.
        InterpreterError: LiteRT refuses the model.
    """

    def __init__(self, graph: Graph, taps: Sequence[int] = (), *, kernels: str = "xnnpack") -> None:
        self.trial = Trial(graph, taps, kernels)
        super().__init__(graph, taps, kernels=kernels)

    def run(self, inputs: Mapping[int, Array]) -> Values:
        """See Runner."""
        found = self.trial.run(inputs)
        return super().run(inputs) if found is None else found

    def views(self, inputs: Mapping[int, Array]) -> Values:
        """See LiteRT."""
        found = self.trial.run(inputs)
        return super().views(inputs) if found is None else found


RUNNERS: Mapping[str, RunnerFactory] = {"reference": reference, "xnnpack": xnnpack, "tflm": TFLiteMicro}
