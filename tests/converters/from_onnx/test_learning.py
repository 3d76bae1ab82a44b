"""What scikit-learn writes at the ends of its pipelines: ordinary ops, and outputs of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

from edgeqwt.converters.from_onnx.learning import of_numbers, without_learning_ops  # noqa: E402
from edgeqwt.converters.from_onnx.source import OnnxRunner  # noqa: E402
from tests.chain import noise  # noqa: E402

pytestmark = pytest.mark.requires("onnxruntime")

WEIGHTS, BIAS = noise(3, 4).ravel().tolist(), noise(3).tolist()
FLOATS = TensorProto.FLOAT


def model(kind: str, outputs: dict[str, int], opset: int = 17, more: Any = (), **given: Any) -> Any:
    """One node of ai.onnx.ml, and nodes behind it."""
    x = helper.make_tensor_value_info("x", FLOATS, [2, 4])
    ends = [helper.make_tensor_value_info(name, dtype, None) for name, dtype in outputs.items()]
    own = ["label", "y"] if kind == "LinearClassifier" else ["y"]
    node = helper.make_node(kind, ["x"], own, domain="ai.onnx.ml", **given)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(helper.make_graph([node, *more], "g", [x], ends), opset_imports=imports, ir_version=8)


@pytest.mark.parametrize(
    ("kind", "outputs", "opset", "given"),
    [
        ("Normalizer", {"y": FLOATS}, 17, {"norm": "L1"}),
        ("Normalizer", {"y": FLOATS}, 18, {"norm": "L2"}),
        ("LinearRegressor", {"y": FLOATS}, 17, {"coefficients": WEIGHTS, "intercepts": BIAS, "targets": 3}),
        ("LinearRegressor", {"y": FLOATS}, 17, {"coefficients": WEIGHTS[:4]}),
        *(
            (
                "LinearClassifier",
                {"label": TensorProto.INT64, "y": FLOATS},
                17,
                {"coefficients": WEIGHTS, "intercepts": BIAS, "classlabels_ints": [7, 3, 5], "post_transform": after},
            )
            for after in ("NONE", "SOFTMAX", "LOGISTIC")
        ),
    ],
)
def test_ordinary_ops_compute_the_same(kind: str, outputs: dict[str, int], opset: int, given: dict[str, Any]) -> None:
    source, sample = model(kind, outputs, opset, **given), {"x": noise(2, 4)}
    written = without_learning_ops(source)
    assert not any(node.domain == "ai.onnx.ml" for node in written.graph.node)
    wanted, found = OnnxRunner(source).run(sample), OnnxRunner(written).run(sample)
    for name in outputs:  # sums of four products in float32
        np.testing.assert_allclose(found[name], wanted[name].reshape(found[name].shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "given"),
    [("Normalizer", {"norm": "MAX"}), ("LinearRegressor", {"coefficients": WEIGHTS, "post_transform": "PROBIT"})],
)
def test_what_has_no_form_stays(kind: str, given: dict[str, Any]) -> None:
    written = without_learning_ops(model(kind, {"y": FLOATS}, **given))
    assert [node.op_type for node in written.graph.node] == [kind]


def test_dictionaries_become_arrays_and_texts_go() -> None:
    given = {"coefficients": WEIGHTS, "intercepts": BIAS, "classlabels_strings": ["a", "b", "c"]}
    zipped = helper.make_node("ZipMap", ["y"], ["p"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"])
    source = model("LinearClassifier", {"label": TensorProto.STRING, "p": FLOATS}, more=[zipped], **given)
    changed, notes = of_numbers(source)
    written = without_learning_ops(changed)
    assert [o.name for o in written.graph.output] == ["p"]
    assert notes == (
        "Output 'p' is an array, in the order a, b, c, and no dictionary.",
        "Output 'label' holds texts: the file does not have it.",
    )
    x = noise(2, 4)
    wanted = x @ np.array(WEIGHTS, np.float32).reshape(3, 4).T + np.array(BIAS, np.float32)
    np.testing.assert_allclose(OnnxRunner(written).run({"x": x})["p"], wanted, rtol=1e-5, atol=1e-6)


def test_models_of_numbers_stay_as_they_are() -> None:
    source = model("Normalizer", {"y": FLOATS}, norm="L1")
    assert of_numbers(source) == (source, ())
