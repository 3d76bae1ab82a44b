"""Float .tflite files as sources."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.converted import Binding
from edgeqwt.converters.closed import open_shape
from edgeqwt.errors import InputError, UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.lowering.fake_quant import is_fake_quantized
from edgeqwt.runtime.ended import KernelEndedError
from edgeqwt.runtime.foreign import read_foreign
from edgeqwt.runtime.misread import misread
from edgeqwt.runtime.native_log import captured_stderr
from edgeqwt.runtime.overwritten import overwritten, protected
from edgeqwt.runtime.runners import InterpreterError, Trial

ROUNDING = ("QUANTIZE", "FAKE_QUANT")
WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"})

FLEX = (
    "It is TensorFlow's own op (SELECT_TF_OPS). Give the .keras file or SavedModel that it was made from; or convert a "
    "function of fixed shapes, batch 1, with TFLITE_BUILTINS alone: recurrent layers then need no such op."
)
"""What to do about ops that the converter left to TensorFlow."""


def load(path: Path) -> Graph:
    """A float model from a file; one that was trained with quantization rounds on the way, and stays as it is.

    Raises:
        InputError: the file is no TFLite model, ends the process that runs it, is quantized already, or has weights
            that are NaN or infinite.
        UnsupportedError: it has a custom op.
    """
    graph = read_foreign(path)
    trained = is_fake_quantized(graph) and any(not _constant(graph, op) for op in graph.ops if op.kind in ROUNDING)
    for i, op in enumerate(graph.ops):
        if op.kind == "CUSTOM":
            raise UnsupportedError(
                graph.describe(i),
                "tflite",
                f"it is the custom op {op.custom_code!r}",
                FLEX
                if str(op.custom_code).startswith("Flex")
                else "Replace it in the model, or cut the model before it.",
            )
        for t in (*op.inputs, *op.outputs):
            if t >= 0 and graph.tensors[t].quantization is not None and not trained:
                raise _quantized_already(path, graph, t)
    check_weights(graph, str(path))
    return graph if trained else protected(graph)  # what the file means, not what LiteRT forgets of it


def _constant(graph: Graph, op: Op) -> bool:
    return graph.tensors[op.inputs[0]].is_constant


def _quantized_already(path: Path, graph: Graph, t: int) -> InputError:
    tensor = graph.tensors[t]
    if tensor.is_constant and all(graph.tensors[o].is_float for op in graph.ops for o in op.outputs):
        return InputError(
            f"{path}: the weights are quantized already (dynamic range): {tensor.name!r} is {tensor.dtype}",
            "Give the float model that it was made from: rounded weights cannot be rounded again without loss.",
        )
    return InputError(
        f"{path} is quantized already: tensor {tensor.name!r} is {tensor.dtype}",
        "Give the float model; an int8 file can be improved with `edgeqwt compensate`.",
    )


def check_weights(graph: Graph, what: str) -> None:
    """Refuses constants that no integer stands for; infinities only in the weights of linear ops.

    Raises:
        InputError: naming the first such tensor.
    """
    for op in graph.ops:
        for t in op.inputs:
            data = graph.tensors[t].data if t >= 0 else None
            if data is None or data.dtype.kind != "f":
                continue
            if np.isnan(data).any() or (op.kind in WEIGHTED and not np.isfinite(data).all()):
                raise InputError(
                    f"{what}: constant {graph.tensors[t].name!r} has NaN or infinite values",
                    "Train or convert the model again.",
                )


def bindings(graph: Graph) -> tuple[tuple[Binding, ...], tuple[Binding, ...]]:
    """Inputs and outputs by the names of the file's signature, or else of its tensors; None for open dimensions."""
    names = {t: graph.tensors[t].name for t in (*graph.inputs, *graph.outputs)}
    if len(graph.signatures) == 1:
        signature = graph.signatures[0]
        names |= {t: name for name, t in (*signature.inputs, *signature.outputs)}

    def bound(t: int) -> Binding:
        return Binding(InputSpec(names[t], open_shape(graph.tensors[t]), graph.tensors[t].dtype), t)

    return tuple(map(bound, graph.inputs)), tuple(map(bound, graph.outputs))


@dataclass(frozen=True)
class TfliteRunner:
    """The file itself, in LiteRT, untouched by edgeqwt's own reader and writer unless they had to repair it."""

    interpreter: Any
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    fresh: bool = False  # whether states begin anew in every run
    trial: Trial | None = None
    what: str = "the model"

    @staticmethod
    def open(path: Path, inputs: tuple[Binding, ...], outputs: tuple[Binding, ...]) -> TfliteRunner:
        """Loads the file; where it had to be repaired to be read (see `Graph.remarks`), what was made of it.

        Raises:
            InputError: LiteRT refuses it, or it ends LiteRT's process.
        """
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        # Else LiteRT forgets what is still needed, or XNNPACK computes something else.
        data = path.read_bytes()
        graph = flatbuffer.from_bytes(data, str(path))
        forgetful = bool(overwritten(graph))
        plain, usual = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, OpResolverType.AUTO
        # Not by its path: an op whose result has a constant value in the file writes into the file's memory.
        # LiteRT's Python package cannot say names that are no UTF-8, which are read as U+FFFD.
        repaired = graph.remarks or any("\ufffd" in tensor.name for tensor in graph.tensors)
        content = flatbuffer.to_bytes(graph) if repaired else data
        trial = None
        with contextlib.suppress(InterpreterError), _named(path):
            trial = Trial(graph, (), "xnnpack")
        with captured_stderr() as log, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that keeping all tensors is for debugging
            try:
                interpreter: Any = Interpreter(
                    model_content=content,
                    num_threads=1,
                    experimental_preserve_all_tensors=forgetful,
                    experimental_op_resolver_type=plain if misread(graph, any_size=True) else usual,
                )
                for binding, detail in zip(inputs, interpreter.get_input_details(), strict=True):
                    if None not in binding.spec.shape and tuple(detail["shape"]) != binding.spec.shape:
                        interpreter.resize_tensor_input(detail["index"], binding.spec.shape)
                interpreter.allocate_tensors()
                failure = None
            except (RuntimeError, ValueError) as error:
                failure = error
        if failure is not None:
            reason = " ".join(next((line for line in log if "ERROR" in line), str(failure)).split())
            raise InputError(f"LiteRT cannot load {path}: {reason}", "Convert the model again.") from failure
        return TfliteRunner(interpreter, inputs, outputs, trial=trial, what=str(path))

    def run(self, sample: Sample) -> dict[str, Array]:
        """One sample's outputs by name.

        Raises:
            InputError: LiteRT fails on it, or it ends LiteRT's process.
        """
        if self.fresh:
            self.interpreter.reset_all_variables()
        details, given = self.interpreter.get_input_details(), dict[int, Array]()
        for binding, detail in zip(self.inputs, details, strict=True):
            array = np.ascontiguousarray(sample[binding.spec.name], detail["dtype"])
            if array.size != np.prod(detail["shape"]):
                raise InputError(
                    f"{self.what}: LiteRT gives input {binding.spec.name!r} the shape {tuple(detail['shape'])}, "
                    f"samples have {array.shape}",
                    "Convert the model again.",
                )
            given[binding.tensor] = array.reshape(detail["shape"])
        try:
            if self.trial is not None and all(self.trial.graph.tensors[t].shape == v.shape for t, v in given.items()):
                with _named(self.what):
                    self.trial.run(given)
            for detail, array in zip(details, given.values(), strict=True):
                self.interpreter.set_tensor(detail["index"], array)
            self.interpreter.invoke()
        except (RuntimeError, ValueError, MemoryError, IndexError, InterpreterError) as error:
            raise InputError(
                f"LiteRT cannot run {self.what} on a sample: {' '.join(str(error).split())[:300]}",
                "The samples are beyond what an op takes, or the file is damaged: convert the model again.",
            ) from error
        found = self.interpreter.get_output_details()
        return {
            binding.spec.name: np.array(self.interpreter.get_tensor(detail["index"]))
            for binding, detail in zip(self.outputs, found, strict=True)
        }


@contextmanager
def _named(what: str | Path) -> Iterator[None]:
    """What ends LiteRT's process over somebody's file is the file's fault.

    Raises:
        InputError: it did.
    """
    try:
        yield
    except KernelEndedError as error:
        raise InputError(f"{what}: {error.message}", "The file is damaged: convert the model again.") from error
