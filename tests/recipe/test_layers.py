"""What single layers have of their own, from TOML, Python and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.commands.options import parse_layers
from edgeqwt.errors import InputError, RecipeError, TargetError
from edgeqwt.graph.graph import Graph
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe.layers import LayerSettings, pattern_of, resolved, settings
from edgeqwt.recipe.recipe import load, with_layers, with_precision
from edgeqwt.report.document import document
from edgeqwt.report.widths import float_sentences, widths
from edgeqwt.scales.ranges import MinMax, Mse, PerLayer, rule_for, with_default
from edgeqwt.target.load import load as load_target
from edgeqwt.widths.precision import Precision, Widths
from tests import small

NAMES = {"wa/conv1": "features.0", "wa/conv2": "features.1", "wa/logits": "head.fc"}
TFLITE = load_target("tflite")


def test_the_shortest_pattern_that_names_one_op() -> None:
    assert pattern_of("wa/conv2", NAMES) == "features.1"
    assert pattern_of("wa/conv2", {}) == "wa/conv2"
    assert pattern_of("a[0]", {}) == "a[[]0]"
    unrolled = {"cell/0": "cell", "cell/1": "cell"}  # one module, several ops
    assert pattern_of("cell/1", unrolled) == "cell/1"
    joined = {"model/relu;model/conv1": "", "model/relu;model/conv2": "", "other": "", "model/bn;model/conv2": ""}
    assert pattern_of("model/relu;model/conv1", joined) == "*;model/conv1"
    assert pattern_of("model/relu;model/conv2", joined) == "model/relu;model/conv2"
    for names in (NAMES, unrolled, joined):
        for name in names:
            found = resolved(Precision(), [LayerSettings(pattern_of(name, names), "w8a16")], names, TFLITE)
            assert found.precision.layers.keys() == {name}


def test_patterns_name_tensors_or_modules_and_later_ones_count() -> None:
    layers = [LayerSettings("features.*", "w4a8"), LayerSettings("wa/conv2", "w8a16")]
    found = resolved(Precision(), layers, NAMES, TFLITE).precision
    assert found.layers == {"wa/conv1": Widths(4, 8), "wa/conv2": Widths(8, 16)}
    assert found.pack_int4
    assert not resolved(Precision(), layers[1:], NAMES, TFLITE).precision.pack_int4


def test_each_setting_counts_by_itself() -> None:
    layers = [
        settings("features.*", "keep_float", ""),
        settings("*conv2", {"precision": "w8a8", "ranges": "minmax"}, ""),
        settings("head.*", {"ranges": {"name": "mse", "clipping": 1.5}}, ""),
    ]
    found = resolved(Precision(), layers, NAMES, TFLITE)
    assert found.precision.floats == {"wa/conv1"}
    assert found.ranges["wa/conv2"].choose is not None
    assert [type(found.ranges[name]).__name__ for name in ("wa/conv2", "wa/logits")] == ["MinMaxRanges", "MseRanges"]
    assert found.ranges["wa/logits"].clipping == 1.5  # type: ignore[attr-defined]


def test_what_names_or_sets_nothing_says_what_is_close() -> None:
    with pytest.raises(RecipeError, match=r"'haed\.\*' names no op") as caught:
        resolved(Precision(), [LayerSettings("haed.*", "w4a8")], NAMES, TFLITE)
    assert "'head.fc'" in caught.value.hint
    wrong: list[tuple[object, str]] = [
        ("w9a8", "no precision 'w9a8'"),
        ({}, "sets nothing"),
        ({"keep_float": False}, "sets nothing"),
        ({"precision": "w8a8", "keep_float": True}, "both widths and keep_float"),
        ({"ranges": "minmux"}, "no range rule 'minmux'"),
        ({"ranges": {"name": "mse", "cliping": 2.0}}, "unknown key 'cliping'"),
        ({"ranges": {"name": "mse", "clipping": -1.0}}, "clipping = -1.0"),
        ({"width": 8}, "unknown key 'width'"),
        (8, "= 8"),
    ]
    for value, message in wrong:
        with pytest.raises(RecipeError, match=message):
            settings("*", value, "layers")
    with pytest.raises(RecipeError, match="every op stays float"):
        resolved(Precision(), [LayerSettings("*", keep_float=True)], NAMES, TFLITE)


def test_targets_without_floats_refuse_them() -> None:
    for target in ("edgetpu", "ethos-u85-512"):
        with pytest.raises(TargetError, match=f"{target} takes no ops on floats: 'wa/logits'"):
            resolved(Precision(), [LayerSettings("head.*", keep_float=True)], NAMES, load_target(target))
    kept = resolved(Precision(), [LayerSettings("head.*", keep_float=True)], NAMES, load_target("tflm"))
    assert kept.precision.floats == {"wa/logits"}  # TFLite Micro has kernels for floats: a finding tells their price


def test_a_rule_holds_for_those_that_share_a_scale() -> None:
    rule = PerLayer(Mse(), {"b": MinMax()})
    assert rule_for(rule, ["a", "b"]) == MinMax()
    assert rule_for(rule, ["a"]) == Mse()
    assert with_default(rule, MinMax()) == replace(rule, default=MinMax())


def test_recipes_have_layers(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[[layers]]\nmatch = "head.*"\nprecision = "w8a16"\n[[layers]]\nmatch = "a"\nranges = { name = "kl" }\n'
    )
    recipe = load(str(tmp_path / "mine.toml"))
    assert recipe.layers == (LayerSettings("head.*", "w8a16"), LayerSettings("a", ranges={"name": "kl"}))
    with pytest.raises(RecipeError, match="mixed precision chooses"):
        with_precision(recipe, "mixed", edgeqwt.Mixed(max_size=1))
    mixed = with_precision(load("fast"), "mixed", edgeqwt.Mixed(max_size=1))
    assert with_layers(mixed, {"a": {"ranges": "minmax"}}).layers
    for text in ("layers = 3", '[[layers]]\nmatch = "a"', '[[layers]]\nmatch = "a"\nprecision = "w1a1"'):
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(RecipeError):
            load(str(tmp_path / "mine.toml"))


def test_the_command_line_has_layers() -> None:
    found = parse_layers(["head.*=w8a16", "a=b=w4a8", "c=keep_float", 'd={ranges = {name = "mse", clipping = 1.0}}'])
    ranges = {"ranges": {"name": "mse", "clipping": 1.0}}
    assert found == {"head.*": "w8a16", "a=b": "w4a8", "c": "keep_float", "d": ranges}
    for wrong in ("head", "=w8a8", "head=", "head={ranges"):
        with pytest.raises(InputError, match="--layer"):
            parse_layers([wrong])


@pytest.fixture
def files(tmp_path: Path) -> small.Small:
    return small.write(tmp_path)


def _built(files: small.Small, layers: Mapping[str, str | Mapping[str, object]], **rest: object) -> BuildResult:
    return edgeqwt.build(
        files.model, calibration=files.samples, recipe="fast", layers=layers, accept=True, **rest  # type: ignore[arg-type]
    )  # fmt: skip


def _types(graph: Graph) -> dict[str, str]:
    return {graph.tensors[t].name: graph.tensors[t].dtype for op in graph.ops for t in op.outputs}


def test_a_build_uses_widths(files: small.Small) -> None:
    kinds = _types(_built(files, {"feat*": "w8a16"}).graph)
    assert kinds["features"] == "int16"
    assert kinds["logits"] == "int8"


def test_ops_stay_float_between_integers(files: small.Small) -> None:
    result = _built(files, {"logits": "keep_float"})
    assert [op.kind for op in result.graph.ops] == [
        "CONV_2D", "MEAN", "DEQUANTIZE", "FULLY_CONNECTED", "QUANTIZE", "SOFTMAX",
    ]  # fmt: skip
    kinds = _types(result.graph)
    assert (kinds["mean"], kinds["logits"], kinds["classes"]) == ("int8", "float32", "int8")
    weights = next(t for t in result.graph.tensors if t.name == "weights")
    wanted = next(t for t in result.prepared.graph.tensors if t.name == "weights")
    assert weights.data is not None
    assert np.array_equal(weights.data, wanted.data)  # type: ignore[arg-type]
    assert result.runtimes.ok
    assert document(result)["widths"]["floats"] == [["FULLY_CONNECTED", "logits"]]
    assert list(float_sentences(widths(result.graph))) == ["1 op stays float32: FULLY_CONNECTED 'logits'"]


def test_float_outputs_of_float_ops_are_not_rounded(files: small.Small) -> None:
    result = _built(files, {"logits": "keep_float", "classes": "keep_float"}, float_io=True)
    assert [op.kind for op in result.graph.ops][-3:] == ["DEQUANTIZE", "FULLY_CONNECTED", "SOFTMAX"]
    # All that is rounded is behind the mean: each output is as the float ops make it of integers.
    inputs = _built(files, {"features": "keep_float"}, float_io=True).graph
    assert [op.kind for op in inputs.ops][:2] == ["CONV_2D", "QUANTIZE"]


def test_a_layer_has_its_own_range_rule(files: small.Small) -> None:
    rule = {"name": "percentile", "percent": 90.0}
    clipped, usual = (_built(files, layers) for layers in ({"logits": {"ranges": rule}}, {}))
    scales = [
        {t.name: float(t.quantization.scale[0]) for t in result.made.uncompensated.tensors if t.quantization}
        for result in (clipped, usual)
    ]
    assert scales[0]["logits"] < scales[1]["logits"]
    assert scales[0]["image"] == scales[1]["image"]


def test_all_that_leads_to_an_op_is_named_by_it() -> None:
    graph = small.graph()
    names = {graph.tensors[t].name: "" for op in graph.ops for t in op.outputs}
    found = resolved(Precision(), [settings("upto:me*", "keep_float", "")], names, TFLITE, graph)
    assert found.precision.floats == {"features", "mean"}
    with pytest.raises(RecipeError, match="'maen' names no op"):
        resolved(Precision(), [settings("upto:maen", "keep_float", "")], names, TFLITE, graph)
