"""Which kernels a model needs, as calls of TFLite Micro's MicroMutableOpResolver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lookup_weights import DECODE

ETHOS_U = "ethos-u"

# Kinds whose method is not their name in camel case.
_IRREGULAR = {
    "BATCH_MATMUL": "BatchMatMul",
    "CONV_2D": "Conv2D",
    "CUMSUM": "CumSum",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "L2_POOL_2D": "L2Pool2D",
    "AVERAGE_POOL_2D": "AveragePool2D",
    "MAX_POOL_2D": "MaxPool2D",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}

_KINDS = """
ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER
GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND
LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD
PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR
RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH
SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV
UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
"""


def _method(kind: str) -> str:
    return "Add" + _IRREGULAR.get(kind, "".join(word.capitalize() for word in kind.split("_")))


METHODS: Mapping[str, str] = MappingProxyType({kind: _method(kind) for kind in _KINDS.split()})
"""TFLite's op kinds to methods of MicroMutableOpResolver (tensorflow/lite/micro/micro_mutable_op_resolver.h)."""

CUSTOM_METHODS: Mapping[str, str] = MappingProxyType(
    {
        ETHOS_U: "AddEthosU",
        "TFLite_Detection_PostProcess": "AddDetectionPostprocess",
        "CIRCULAR_BUFFER": "AddCircularBuffer",
        DECODE: "AddDecode",
    }
)
"""The same for custom ops, by their custom code."""


def methods(graph: Graph, target: str) -> tuple[str, ...]:
    """The resolver's methods for a model: each kernel once, in alphabetical order.

    Raises:
        UnsupportedError: TFLite Micro has no kernel for an op.
    """
    ops = [
        (op.kind, op.custom_code, part.describe(i)) for part in (graph, *graph.others) for i, op in enumerate(part.ops)
    ]
    return _methods(ops, target)


def methods_of_kinds(kinds: Iterable[tuple[str, str]], target: str) -> tuple[str, ...]:
    """The same for a compiled model, by the kind and custom code of its ops."""
    return _methods([(kind, code, f"{kind} #{i}") for i, (kind, code) in enumerate(kinds)], target)


def _methods(ops: Iterable[tuple[str, str, str]], target: str) -> tuple[str, ...]:
    found = set()
    for kind, code, described in ops:
        method = CUSTOM_METHODS.get(code) if kind == "CUSTOM" else METHODS.get(kind)
        if method is None:
            raise UnsupportedError(
                described,
                target,
                f"TFLite Micro has no kernel for {code or kind}",
                "`edgeqwt check` with this target says what to use in its place.",
            )
        found.add(method)
    return tuple(sorted(found))
