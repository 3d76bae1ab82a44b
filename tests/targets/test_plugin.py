from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.api_targets import target_of
from edgeqwt.calibration.observe import observe
from edgeqwt.errors import InputError, TargetError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.profile import Budget, kernels_of
from edgeqwt.runtime.runners import reference
from edgeqwt.scales.ranges import MinMax
from edgeqwt.target.budget import own_board
from edgeqwt.target.check import check
from edgeqwt.target.fix import fix
from edgeqwt.target.load import load
from edgeqwt.target.plugin import compiled_for
from tests import reports, small
from tests.chain import NONE, Chain, noise
from tests.one_op import lowered
from tests.one_op_specs import case

NAME = "qualcomm-sm8650"
X, Y = Quantization.per_tensor(0.06, 3), Quantization.per_tensor(0.03, -20)
SHAPE = (1, 4, 4, 8)
VALUES: Array = np.arange(-64, 64, dtype=np.int8).reshape(SHAPE)


def adding_zero(constant_first: bool = False) -> Graph:
    zero = Tensor("zero", (), "int8", np.array(3, np.int8), X)
    tensors = (Tensor("x", SHAPE, "int8", None, X), zero, Tensor("y", SHAPE, "int8", None, Y))
    op = Op("ADD", (1, 0) if constant_first else (0, 1), (2,), {**NONE, "potScaleInt16": False}, version=2)
    return Graph(tensors, (op,), (0,), (2,))


def casting() -> Graph:
    wide = Quantization.per_tensor(0.06, 0)
    tensors = (Tensor("x", SHAPE, "int8", None, X), Tensor("y", SHAPE, "int16", None, wide))
    return Graph(tensors, (Op("CAST", (0,), (1,), {"inDataType": "INT8", "outDataType": "INT16"}),), (0,), (1,))


def run(graph: Graph) -> Array:
    return reference(graph).run({graph.inputs[0]: VALUES})[graph.outputs[0]]


@pytest.mark.parametrize("constant_first", [False, True])
def test_an_add_of_zero_that_changes_the_scale_is_an_error_with_an_exact_fix(constant_first: bool) -> None:
    graph, profile = adding_zero(constant_first), load(NAME)
    (found,) = check(graph, profile)
    assert (found.rule, found.severity, found.fix) == ("plugin_zero", "error", "sub-of-zero")
    fixed, sentences = fix(graph, profile)
    assert [op.kind for op in fixed.ops] == ["SUB"]
    assert sentences == ("ADD of zero became SUB of zero: 'y'.",)
    assert check(fixed, profile) == ()
    np.testing.assert_array_equal(run(fixed), run(graph))


def test_an_add_of_zero_at_the_same_scale_is_none() -> None:
    graph = adding_zero()
    assert check(graph.with_tensors({2: replace(graph.tensors[2], quantization=X)}), load(NAME)) == ()


def test_a_cast_to_16_bits_is_left_over_and_becomes_a_table() -> None:
    graph, profile = casting(), load(NAME)
    (found,) = check(graph, profile)
    assert (found.rule, found.severity, found.fix) == ("plugin_ops", "warning", "cast-as-table")
    fixed, _ = fix(graph, profile)
    assert [op.kind for op in fixed.ops] == ["CAST", "ADD", "GATHER"]
    assert check(fixed, profile) == ()
    np.testing.assert_array_equal(run(fixed), run(graph))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["same", "relu", "three-inputs"])
def test_a_transposed_convolution_is_cut_by_a_slice(name: str, bits: int) -> None:
    one = case(f"TRANSPOSE_CONV/{name}")
    low, profile = lowered(one.graph, one.samples, precision=Precision(8, bits)), load(NAME)
    (found,) = check(low.graph, profile)
    assert (found.rule, found.fix) == ("plugin_forms", "transpose-conv-cut")
    fixed, _ = fix(low.graph, profile)
    assert [op.kind for op in fixed.ops] == ["TRANSPOSE_CONV", "SLICE"]
    assert check(fixed, profile) == ()
    before, after = reference(low.graph), reference(fixed)
    for values in low.inputs:
        feed = {new: values[old] for old, new in zip(low.graph.inputs, fixed.inputs, strict=True)}
        np.testing.assert_array_equal(after.run(feed)[fixed.outputs[0]], before.run(values)[low.graph.outputs[0]])


@pytest.mark.tool("qualcomm")
def test_the_compiler_takes_a_transposed_convolution_that_is_cut_by_a_slice() -> None:
    one = case("TRANSPOSE_CONV/same")
    fixed, _ = fix(lowered(one.graph, one.samples).graph, load(NAME))
    found = compiled_for(fixed, target_of(NAME))
    assert (found.partitions, found.left) == (1, ())


def in_integers(graph: Graph, target: str, precision: Precision) -> Graph:
    prepared = prepare(graph).graph
    feeds = [{prepared.inputs[0]: noise(1, 6, 6, 4, seed=k)} for k in range(4)]
    statistics, _ = observe(prepared, feeds, threads=1)
    return lower(prepared, statistics, MinMax(), precision, kernels_of(load(target)))


def clamped() -> Graph:
    chain = Chain()
    x = chain.input((1, 6, 6, 4), "x")
    return chain.graph(chain.op("RELU", chain.op("ABS", x), name="y"))


def test_a_relu_alone_is_written_as_sub_for_the_npu() -> None:
    assert "SUB" in [op.kind for op in in_integers(clamped(), NAME, Precision()).ops]
    assert "ADD" in [op.kind for op in in_integers(clamped(), "tflite", Precision()).ops]


def test_copies_to_16_bits_are_tables_with_the_same_values() -> None:
    chain = Chain()
    x = chain.input((1, 6, 6, 4), "x")
    graph = chain.graph(chain.op("MUL", chain.op("ABS", x), chain.op("SIN", x), name="y", **NONE))
    ours, usual = (in_integers(graph, target, Precision(8, 16)) for target in (NAME, "tflite"))
    assert not any(op.kind == "CAST" and ours.tensors[op.outputs[0]].dtype == "int16" for op in ours.ops)
    assert any(op.kind == "CAST" and usual.tensors[op.outputs[0]].dtype == "int16" for op in usual.ops)
    values = noise(1, 6, 6, 4, seed=9)
    found: list[Array] = []
    for made in (ours, usual):
        (scale, zero) = made.tensors[made.inputs[0]].quantization.broadcast(4)  # type: ignore[union-attr]
        feed = np.clip(np.rint(values / scale) + zero, -32768, 32767).astype(np.int16)
        out = reference(made).run({made.inputs[0]: feed})[made.outputs[0]]
        found.append(out * float(made.tensors[made.outputs[0]].quantization.scale[0]))  # type: ignore[union-attr]
    # Both round the same table's values to 16 bits, once in a table and once in ADD: a step of int8 at the most.
    assert np.abs(found[0] - found[1]).max() < 0.02


def test_partitions_are_no_budget_where_nothing_can_count_them() -> None:
    with pytest.raises(InputError, match="nothing here can tell the partitions on tflite"):
        own_board(load("tflite"), Budget(partitions=1))
    with pytest.raises(InputError, match="--max-partitions limits") as caught:
        own_board(target_of(NAME), Budget(partitions=1))
    assert "edgeqwt tools install qualcomm" in caught.value.hint


def test_without_the_compiler_tables_are_asked_and_that_is_said(tmp_path: Path) -> None:
    flatbuffer.write(casting(), tmp_path / "model.tflite")
    findings, _ = edgeqwt.check(tmp_path / "model.tflite", NAME)
    assert [found.rule for found in findings] == ["plugin_ops", "plugin"]
    assert "only tables" in findings[1].reason
    assert "edgeqwt tools install qualcomm" in findings[1].remedy


def test_other_vendors_need_their_own_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'extends = "qualcomm-sm8650"\ntitle = "Dimensity"\n[plugin]\nvendor = "MediaTek"\nsoc = "mt6991"\n'
    (tmp_path / "mine.toml").write_text(text)
    profile = target_of(str(tmp_path / "mine.toml"))
    assert profile.plugin is not None
    assert profile.plugin.toolchain is None
    assert profile.plugin.missing.startswith("Set EDGEQWT_MEDIATEK_SDK to the folder of MediaTek's SDK")
    monkeypatch.setenv("EDGEQWT_MEDIATEK_SDK", str(tmp_path))
    with pytest.raises(InputError, match="EDGEQWT_MEDIATEK_SDK"):
        target_of(str(tmp_path / "mine.toml"))
    (tmp_path / "libneuronusdk_adapter.mtk.so").touch()
    profile = target_of(str(tmp_path / "mine.toml"))
    assert profile.plugin is not None
    assert "edgeqwt tools install qualcomm" in profile.plugin.missing  # whose environment has all vendors' plugins
    rows = {row.tool: row for row in edgeqwt.tools()}
    assert (rows["MediaTek SDK"].problem, rows["MediaTek SDK"].where) == ("", "$EDGEQWT_MEDIATEK_SDK")
    assert (rows["Samsung SDK"].problem, rows["Samsung SDK"].where) == ("not named", "$EDGEQWT_SAMSUNG_SDK")
    assert "Qualcomm SDK" not in rows  # its libraries come with the tool qualcomm


def test_a_plugin_needs_its_names(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "tflite"\npackage = "npu"\n')
    with pytest.raises(InputError, match=r"\[plugin\] is missing"):
        load(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text('extends = "qualcomm-sm8650"\n[plugin]\nchip = "x"\n')
    with pytest.raises(InputError, match="unknown key 'chip'"):
        load(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text('extends = "qualcomm-sm8650"\n[plugin]\nvendor = "Nobody"\n')
    with pytest.raises(InputError, match=r"\[plugin\]: vendor = 'Nobody'") as caught:
        load(str(tmp_path / "mine.toml"))
    assert "MediaTek" in caught.value.hint


@pytest.mark.tool("qualcomm")
def test_a_build_compiles_counts_and_packs(tmp_path: Path) -> None:
    model = small.write(tmp_path)
    options: Mapping[str, object] = {"calibration": str(model.samples), "target": NAME, "recipe": "plain"}
    edgeqwt.build(str(model.model), output=tmp_path / "out", budget=Budget(partitions=1), **options)  # type: ignore[arg-type]
    report = reports.read(tmp_path / "out")
    assert report["npu"] == {"soc": "SM8650", "ops": len(report["npu"]["on_cpu"]) + 4, "partitions": 1, "on_cpu": []}
    assert report["target"]["plugin"] == {"vendor": "Qualcomm", "soc": "SM8650"}
    files = {path.name for path in (tmp_path / "out" / "package").iterdir()}
    assert {"model.tflite", "model_SM8650.tflite", "npu.json", "io.json", "README.md"} <= files
    facts = json.loads((tmp_path / "out" / "package" / "npu.json").read_text())
    assert (facts["partitions"], facts["compiled"]) == (1, "model_SM8650.tflite")


@pytest.mark.tool("qualcomm")
def test_what_the_compiler_leaves_is_a_finding_and_over_the_budget(tmp_path: Path) -> None:
    from edgeqwt.target.budget import require

    flatbuffer.write(casting(), tmp_path / "model.tflite")
    findings, _ = edgeqwt.check(tmp_path / "model.tflite", NAME)
    assert [(found.rule, found.op, found.fix) for found in findings] == [("plugin", "CAST 0", "cast-as-table")]
    findings, _ = edgeqwt.check(tmp_path / "model.tflite", NAME, fixed=tmp_path / "fixed.tflite")
    assert findings == ()
    with pytest.raises(TargetError, match="0 of 1 ops run on the NPU"):
        require(casting(), target_of(NAME), Budget(partitions=1))


@pytest.mark.tool("qualcomm")
@pytest.mark.requires("onnx")
def test_bench_runs_the_simulation(tmp_path: Path) -> None:
    graph = in_integers(clamped(), NAME, Precision())
    flatbuffer.write(graph, tmp_path / "model.tflite")
    (result,) = edgeqwt.bench([tmp_path / "model.tflite"], NAME)
    assert result.evidence == "simulated"
    assert result.ok
    assert result.value("partitions") == 1
    assert result.value("largest_difference", "reference") <= len(graph.ops)  # a step each
    # The form that the NPU takes for a copy of the integers is seen as what it is.
    flatbuffer.write(adding_zero(), tmp_path / "wrong.tflite")
    (wrong,) = edgeqwt.bench([tmp_path / "wrong.tflite"], NAME)
    assert [(d.kind, d.known, d.largest > 100) for d in wrong.differences] == [("ADD", False, True)]
