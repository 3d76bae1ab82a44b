from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.errors import InputError, ToolError, UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.profile import Npu
from edgeqwt.runtime.vela import Placement, compile_model, placements
from tests.chain import CONV, Chain, noise

U55 = Npu("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram")
FAMILIES = (
    Npu("ethos-u65-256", "Ethos_U65_High_End", "Dedicated_Sram"),
    Npu("ethos-u85-512", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
)


def convolution(dtype: str = "float32") -> Graph:
    """One convolution of zeros' neighbours, its weights in a type of choice."""
    chain = Chain()
    x = chain.input((1, 8, 8, 3))
    w = chain.constant(noise(4, 3, 3, 3))
    graph = chain.graph(chain.op("CONV_2D", x, w, chain.constant(noise(4)), **CONV))
    if dtype == "float32":
        return graph
    tensor = replace(graph.tensors[w], dtype=dtype, data=np.zeros((4, 3, 3, 3), np.int8))
    return graph.with_tensors({w: tensor})


@pytest.mark.requires("ethosu")
@pytest.mark.parametrize(
    ("name", "cycles"),
    [("keyword_spotting", 89_900), ("visual_wake_words", 220_870), ("image_classification", 201_747)],
)
def test_estimates_of_mlperf_tiny(mlperf_tiny: Path, name: str, cycles: int) -> None:
    model = (mlperf_tiny / f"{name}_int8.tflite").read_bytes()
    found = compile_model(model, U55)
    # 2 %: what the issue asks for; Vela itself gives the same figure every time.
    assert found.cycles["total"] == pytest.approx(cycles, rel=0.02)
    assert found.seconds == pytest.approx(found.cycles["total"] / found.clock)
    assert found.clock == 500e6
    assert {op.where for op in found.ops} == {"NPU"}
    assert len(found.ops) <= len(flatbuffer.from_bytes(model).ops)
    assert sum(op.cycles for op in found.ops) == pytest.approx(found.cycles["total"])
    assert 0 < found.memory["sram"] < 103_680, "less than TFLite Micro's arena of the largest of the three"
    assert found.memory["off_chip_flash"] > 0
    assert found.macs > 1_000_000
    assert b"ethos-u" in found.model  # the name of the custom op that holds the NPU's commands
    assert found == compile_model(model, U55)


@pytest.mark.requires("ethosu")
@pytest.mark.parametrize("npu", FAMILIES, ids=lambda npu: npu.accelerator)
def test_other_families_compile(mlperf_tiny: Path, npu: Npu) -> None:
    found = compile_model((mlperf_tiny / "image_classification_int8.tflite").read_bytes(), npu)
    assert {op.where for op in found.ops} == {"NPU"}
    assert found.cycles["total"] > 0


@pytest.mark.requires("ethosu")
def test_what_falls_back_to_the_cpu_is_named() -> None:
    graph = convolution()
    found = compile_model(flatbuffer.to_bytes(graph), U55)
    name = graph.tensors[graph.outputs[0]].name
    assert found.ops == (Placement("Conv2D", name, "CPU", 0.0),)


def test_what_crashes_vela_is_refused_before_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("Vela was called")

    monkeypatch.setattr("subprocess.run", never)
    with pytest.raises(UnsupportedError, match=r"CONV_2D #0 .* ethos-u55-128: it has 4-bit weights") as caught:
        compile_model(flatbuffer.to_bytes(convolution("int4")), U55)
    assert "w8a8" in caught.value.hint


def test_bytes_that_are_no_model_are_an_input_error() -> None:
    with pytest.raises(InputError):
        compile_model(b"no model", U55)


@pytest.mark.requires("ethosu")
def test_what_vela_says_of_a_failure_is_reported() -> None:
    with pytest.raises(ToolError, match="no_such_config") as caught:
        compile_model(flatbuffer.to_bytes(convolution()), replace(U55, system_config="no_such_config"))
    assert "no_such_config" in caught.value.log_tail
    assert "no_such_config" in caught.value.hint


def rows(*steps: tuple[str, str, str, str, int]) -> list[dict[str, str]]:
    header = ("Original Operator", "NNG Operator", "Target", "Name", "Op Cycles")
    return [dict(zip(header, map(str, step), strict=True)) for step in steps]


def test_steps_of_one_op_are_one_entry() -> None:
    found = placements(
        rows(
            ("Conv2D", "Conv2D", "NPU", "a", 10),
            ("Conv2D", "Relu", "NPU", "a", 0),
            ("Conv2D", "Conv2D", "NPU", "b", 20),
            ("Softmax", "MaxPool", "NPU", "c_0", 1),
            ("Softmax", "Sub", "NPU", "c", 2),
            ("Custom", "Passthrough", "CPU", "d", 0),
            ("Custom", "Passthrough", "CPU", "e", 0),
        )
    )
    assert found == (
        Placement("Conv2D", "a", "NPU", 10),
        Placement("Conv2D", "b", "NPU", 20),
        Placement("Softmax", "c", "NPU", 3),
        Placement("Custom", "d", "CPU", 0),
        Placement("Custom", "e", "CPU", 0),
    )
