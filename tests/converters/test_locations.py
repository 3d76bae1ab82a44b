from __future__ import annotations

import pytest

from edgeqwt.converters.locations import module_path
from edgeqwt.converters.onnx2tf_tool import spelled


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("/module/conv1/Conv", ("conv1", "Conv")),
        ("/module/layer1/layer1.0/conv1/Conv", ("layer1.0.conv1", "Conv")),
        ("/module/layer1/layer1.0/Add", ("layer1.0", "Add")),
        ("/module/blocks.3/attention/Softmax", ("blocks.3.attention", "Softmax")),
        ("/module/stem/stem.0/stem.0.1/Relu_2", ("stem.0.1", "Relu_2")),
        ("/module/Flatten", ("", "Flatten")),
    ],
)
def test_module_paths(node: str, expected: tuple[str, str]) -> None:
    assert module_path(node) == expected


def test_names_as_onnx2tf_spells_them() -> None:
    assert spelled("/conv1/Conv_output_0") == "wa/conv1/Conv_output_0"
    assert spelled("onnx::MatMul_3") == "onnx____MatMul_3"
    assert spelled("output") == "output"
