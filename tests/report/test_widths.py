from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.lowering.int4 import with_packed_weights
from edgeqwt.profile import TargetProfile
from edgeqwt.report.widths import Widths, int4_sentences, widths, widths_sentences
from edgeqwt.widths.precision import Precision
from tests.compensation.nets import made, plain_net


def test_ops_and_copies_are_counted_by_width() -> None:
    q = Quantization.per_tensor(0.1, 0)
    kinds = [
        ("int8", "TANH", "int8"),
        ("int8", "CAST", "int16"),  # a copy that is done
        ("int16", "TANH", "int16"),
        ("int16", "QUANTIZE", "int8"),
        ("int8", "CAST", "int16"),  # a copy that ADD completes
        ("int16", "ADD", "int16"),
        ("int16", "ADD", "int16"),  # two activations
        ("int16", "QUANTIZE", "int16"),  # no copy between widths
        ("int16", "CAST", "int32"),  # a conversion: it has a wide activation
        ("int32", "NEG", "int32"),
    ]
    names = [kinds[0][0], *(kind[2] for kind in kinds)]
    tensors = [Tensor(f"t{i}", (4,), dtype, None, q if dtype != "int32" else None) for i, dtype in enumerate(names)]
    tensors.append(Tensor("shift", (), "int16", np.array(3, np.int16), q))
    other = {5: len(tensors) - 1, 6: 6}
    ops = [Op(kind, (i, other[i]) if i in other else (i,), (i + 1,)) for i, (_, kind, _) in enumerate(kinds)]
    found = widths(Graph(tuple(tensors), tuple(ops), (0,), (len(kinds),)))
    assert found == Widths({"TANH": 1}, {"ADD": 1, "CAST": 1, "QUANTIZE": 1, "TANH": 1}, 1, 1, 2, 4)
    assert list(widths_sentences(found)) == [
        "4 of 5 ops: 1 ADD, 1 CAST, 1 QUANTIZE, 1 TANH",
        "copies between widths: 1 to 8 bits, 2 to 16 bits, 4 ops in all",
    ]


def test_nothing_is_said_of_8_bits_alone() -> None:
    assert list(widths_sentences(Widths({"TANH": 3}, {}, 1, 0, 0, 0))) == []


def test_where_4_bit_weights_take_4_bits_is_said() -> None:
    phone, npu = TargetProfile("phone", "", ("xnnpack",)), TargetProfile("npu", "", (), limits={"no_int4": True})
    plain = made(plain_net(), bits=4).integer
    kinds = [op.kind for op in plain.ops]
    assert (kinds.count("CONV_2D"), kinds.count("DEPTHWISE_CONV_2D"), kinds.count("FULLY_CONNECTED")) == (2, 1, 1)
    micro = TargetProfile("micro", "", ("tflm",))
    assert [*int4_sentences(with_packed_weights(plain), Precision(4), micro)] == [
        "3 of 4 layers' 4-bit weights are stored as int4",
        "1 FULLY_CONNECTED in 8 bits: TFLite Micro has no int4 for it with a scale per channel",
    ]
    assert [*int4_sentences(with_packed_weights(plain, tflm=False), Precision(4), phone)] == [
        "4 of 4 layers' 4-bit weights are stored as int4",
    ]
    assert [*int4_sentences(plain, Precision(4), npu)][1].endswith("in 8 bits: npu takes no int4")
    assert [*int4_sentences(plain, Precision(8), phone)] == []
    wide = made(plain_net(), precision=Precision(4, 16)).integer
    message = [*int4_sentences(wide, Precision(4, 16), micro)]
    assert "2 CONV_2D in 8 bits: kernels have no int4 for it beside 16-bit activations" in message
