"""What ops cost on this machine, measured: the op times by which a limit on latency is reckoned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgeqwt.benchmark import host_tasks
from edgeqwt.disk import TemporaryFolder
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.runtime.child import in_child
from edgeqwt.widths.precision import OpTimes

CHANNELS, SIDE = 32, 16
CONVOLVED, ADDED = (1, SIDE, SIDE, CHANNELS), (1, 4 * SIDE, 4 * SIDE, CHANNELS)
"""Shapes of what convolutions and other ops work on; smaller ones measure what it costs to call an op."""
FEW, MANY = 1, 5
"""How many ops the two graphs of a kind have: the difference of their times is that of the ops between."""
RUNS, SECONDS = 300, 60.0
LEAST = 0.01  # OpTimes wants positive times; differences of minima can be none on a machine that is busy
KINDS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "w8a8": ("CONV_2D", "int8", "int8"),
        "w4a8": ("CONV_2D", "int8", "int4"),
        "w8a16": ("CONV_2D", "int16", "int8"),
        "w4a16": ("CONV_2D", "int16", "int4"),
        "element": ("ADD", "int8", ""),
        "element16": ("ADD", "int16", ""),
        "copy": ("ROUND", "int8", ""),
    }
)
"""By the names of `OpTimes`: op, type of its activations, of its weights."""


def measure(runs: int = RUNS, seconds: float = SECONDS) -> OpTimes:
    """Op times of LiteRT with XNNPACK, one thread: 3x3 convolutions, additions, copies between 8 and 16 bits.

    All graphs run in turn, and the quickest run of each counts: what else the machine does only makes runs slower.

    Args:
        runs: of each graph, at most.
        seconds: for all of them, at most.
    """
    graphs = {(name, count): _graph(*kind, count) for name, kind in KINDS.items() for count in (FEW, MANY)}
    with TemporaryFolder() as folder:
        paths = [str(folder / f"{name}-{count}.tflite") for name, count in graphs]
        for path, graph in zip(paths, graphs.values(), strict=True):
            flatbuffer.write(graph, Path(path))
        found: list[list[float]] = in_child(
            host_tasks.latencies, paths, "xnnpack", 1, [_inputs(graph) for graph in graphs.values()], runs, seconds
        )
    least = {key: min(times) for key, times in zip(graphs, found, strict=True)}
    return OpTimes(**relative({name: (least[name, MANY] - least[name, FEW]) / (MANY - FEW) for name in KINDS}))


def relative(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of one op of each of KINDS as `OpTimes` has them, rounded to what they are good for."""
    multiplications = 9 * CHANNELS * int(np.prod(CONVOLVED))
    one = max(seconds["w8a8"], 1e-9) / multiplications
    parts = {name: multiplications if name.startswith("w") else int(np.prod(ADDED)) for name in KINDS if name != "w8a8"}
    parts["copy"] *= 2  # there and back
    return {name: max(float(f"{seconds[name] / count / one:.2g}"), LEAST) for name, count in parts.items()}


def _inputs(graph: Graph) -> dict[int, Array]:
    rng = np.random.default_rng(0)
    return {t: rng.integers(-100, 100, graph.tensors[t].shape).astype(graph.tensors[t].dtype) for t in graph.inputs}


def _graph(kind: str, activations: str, weights: str, count: int) -> Graph:
    """Ops of one kind in a row; ROUND is the way to 16 bits and back, as lowering writes it."""
    tensors, ops = [_activation("x", CONVOLVED if kind == "CONV_2D" else ADDED, activations)], list[Op]()

    def then(
        kind: str, dtype: str, constants: Sequence[Tensor] = (), others: Sequence[int] = (), first: bool = False
    ) -> None:
        more = tuple(range(len(tensors), len(tensors) + len(constants)))
        inputs = (*more, len(tensors) - 1) if first else (len(tensors) - 1, *others, *more)
        shape = tensors[-1].shape
        tensors.extend([*constants, _activation(f"y{len(ops)}", shape, dtype)])
        ops.append(_op(kind, inputs, len(tensors) - 1, dtype))

    for k in range(count):
        if kind == "CONV_2D":
            then(kind, activations, _constants(k, weights, activations))
        elif kind == "ADD":
            then(kind, activations, others=(0,))
        else:
            then("CAST", "int32")
            then("ADD", "int32", [Tensor(f"shift{k}", (), "int32", np.array(128, np.int32))])
            then("GATHER", "int16", [_table(k)], first=True)
            then("QUANTIZE", "int8")
    return Graph(tuple(tensors), tuple(ops), (0,), (len(tensors) - 1,))


def _activation(name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
    scale, zero = (0.05, -3) if dtype == "int8" else (0.0002, 0)
    quantization = None if dtype == "int32" else Quantization.per_tensor(scale, zero)
    return Tensor(name, shape, dtype, quantization=quantization)


def _table(k: int) -> Tensor:
    """The 16-bit values of all 8-bit ones."""
    values = (250 * np.arange(-125, 131)).astype(np.int16)
    return Tensor(f"table{k}", (256,), "int16", values, Quantization.per_tensor(0.0002, 0))


def _constants(k: int, dtype: str, activations: str) -> tuple[Tensor, Tensor]:
    """Weights and biases of a convolution whose outputs stay about as large as its inputs."""
    rng, bound = np.random.default_rng(k), 7 if dtype == "int4" else 127
    scales = np.full(CHANNELS, 0.1 / bound, np.float32)
    kernel = rng.integers(-bound, bound + 1, (CHANNELS, 3, 3, CHANNELS)).astype(np.int8)
    biases = np.zeros(CHANNELS, np.int32 if activations == "int8" else np.int64)
    x = 0.05 if activations == "int8" else 0.0002
    return (
        Tensor(f"w{k}", kernel.shape, dtype, kernel, Quantization.per_channel(scales, 0)),
        Tensor(f"b{k}", biases.shape, biases.dtype.name, biases, Quantization.per_channel(scales * np.float32(x), 0)),
    )


def _op(kind: str, inputs: tuple[int, ...], output: int, dtype: str) -> Op:
    ones = dict.fromkeys(("strideH", "strideW", "dilationHFactor", "dilationWFactor"), 1)
    fused = {"fusedActivationFunction": "NONE"}
    options: Mapping[str, Mapping[str, object]] = {
        "CONV_2D": {"padding": "SAME", **ones, **fused},
        "ADD": {**fused, "potScaleInt16": False},
        "CAST": {"inDataType": "INT8", "outDataType": "INT32"},
        "GATHER": {"axis": 0, "batchDims": 0},
        "QUANTIZE": {},
    }
    versions = {"CONV_2D": 7, "ADD": {"int8": 2, "int16": 3}.get(dtype, 1), "CAST": 1, "GATHER": 4, "QUANTIZE": 2}
    kinds = {"CONV_2D": "Conv2DOptions"}
    extra = {"optionsType": kinds.get(kind, f"{kind.capitalize()}Options")}
    return Op(kind, inputs, (output,), options[kind], versions[kind], extra=extra)
