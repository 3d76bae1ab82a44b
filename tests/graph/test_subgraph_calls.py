"""Ops that run other subgraphs: files in which those are not there, do not fit, or run themselves are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from tests.graph.packed import add_constant, op, pack
from tests.graph.test_flatbuffer import while_model


def missing(packed: Any) -> None:
    packed.subgraphs[0].operators[0].builtinOptions.condSubgraphIndex = 2**31 - 1


def without_options(packed: Any) -> None:
    packed.subgraphs[0].operators[0].builtinOptions = None
    packed.subgraphs[0].operators[0].builtinOptionsType = 0


def more_inputs(packed: Any) -> None:
    packed.subgraphs[0].operators[0].inputs = [0, 0]


def endless(packed: Any) -> None:
    run = packed.subgraphs[0].operators[0]
    packed.subgraphs[2].operators[0] = op(0, [0], [1], run.builtinOptions)


def others_options(packed: Any) -> None:
    packed.subgraphs[2].operators[0] = op(2, [0, 0], [1], schema.MulOptionsT())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (missing, r"WHILE #0 .*condSubgraphIndex is 2147483647, the file has subgraphs 0 to 2"),
        (without_options, r"WHILE #0 .*condSubgraphIndex is None"),
        (more_inputs, r"WHILE #0 .*subgraph 1 has 1 inputs, where it needs 2"),
        (endless, r"subgraph 2 runs itself"),
        (others_options, r"the options of a ADD op are MulOptions, not AddOptions"),
    ],
)
def test_what_cannot_run_is_refused(change: Callable[[Any], None], said: str) -> None:
    packed = while_model()
    assert flatbuffer.from_bytes(pack(packed)).ops[0].kind == "WHILE"
    change(packed)
    with pytest.raises(InputError, match=said) as caught:
        flatbuffer.from_bytes(pack(packed))
    assert caught.value.hint


def test_an_op_may_lack_options_that_have_defaults() -> None:
    packed = add_constant(np.ones((1, 4), np.float32), (1, 4))
    packed.subgraphs[0].operators[0].builtinOptions = None
    packed.subgraphs[0].operators[0].builtinOptionsType = 0
    assert flatbuffer.from_bytes(pack(packed)).ops[0].kind == "ADD"


@pytest.mark.parametrize(("end", "what"), [("inputs", "input"), ("outputs", "output")])
def test_a_signature_of_what_the_file_does_not_take_or_give_is_refused(end: str, what: str) -> None:
    packed = add_constant(np.ones((1, 4), np.float32), (1, 4))
    ends = {"inputs": [schema.TensorMapT(name="in", tensorIndex=0)], "outputs": [schema.TensorMapT("out", 2)]}
    packed.signatureDefs = [schema.SignatureDefT(signatureKey="serve", subgraphIndex=0, **ends)]
    assert flatbuffer.from_bytes(pack(packed)).signatures
    getattr(packed.signatureDefs[0], end)[0].tensorIndex = 1
    with pytest.raises(InputError, match=rf"of signature 'serve' is no {what}"):
        flatbuffer.from_bytes(pack(packed))


def test_a_state_of_an_op_without_states_is_refused() -> None:
    packed = add_constant(np.ones((1, 4), np.float32), (1, 4))
    packed.subgraphs[0].tensors[1].isVariable = True
    packed.subgraphs[0].tensors[1].buffer = 0
    with pytest.raises(InputError, match=r"ADD #0 .* reads 'constant', which is a variable"):
        flatbuffer.from_bytes(pack(packed))


def test_a_result_of_an_impossible_type_is_refused() -> None:
    packed = while_model()
    packed.subgraphs[1].tensors[2].type = schema.TensorType.FLOAT32
    with pytest.raises(InputError, match=r"LESS #0 .* its results are of type bool"):
        flatbuffer.from_bytes(pack(packed))
