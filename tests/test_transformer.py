"""A transformer all the way: torch, token ids, sequences of several lengths, integers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeqwt import cli
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.boundary import to_real
from edgeqwt.runtime.runners import reference
from edgeqwt.verify.metrics import compare
from tests import reports
from tests.small import ROOT

pytestmark = pytest.mark.requires("torch", "onnx2tf")

LENGTHS = (8, 12)


def sentences(count: int, seed: int) -> list[Array]:
    """Token ids (1, n) of 4 to 14 tokens."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 100, (1, rng.integers(4, 15))) for _ in range(count)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a build for each length."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "data.py").write_text(
        "import numpy as np\nfrom tests.test_transformer import sentences\n\n\n"
        "def samples():\n"
        "    for ids in sentences(24, seed=0):\n"
        "        yield {'input_ids': ids, 'attention_mask': np.ones_like(ids)}\n"
    )
    lengths = ",".join(map(str, LENGTHS))
    words = ["--recipe", "fast", "--sequence-length", lengths, "--output", str(folder / "out")]
    assert cli.run(["build", f"{ROOT}/tests/bert.py:create", "-c", f"{folder}/data.py:samples", *words]) == 0
    return folder / "out"


@pytest.fixture(scope="module", params=LENGTHS)
def bucket(built: Path, request: pytest.FixtureRequest) -> Path:
    return built / f"seq{request.param}"


def graph(bucket: Path) -> Graph:
    return flatbuffer.read(bucket / "model.tflite")


def test_each_length_has_a_whole_folder(built: Path) -> None:
    assert sorted(path.name for path in built.iterdir() if path.is_dir()) == sorted(f"seq{n}" for n in LENGTHS)
    for n in LENGTHS:
        report = reports.read(built / f"seq{n}")
        assert [end["shape"] for end in report["model"]["inputs"]] == [[1, n], [1, n]]
        assert report["model"]["notes"][0].startswith(f"sequences are {n} long")
        assert report["model"]["notes"][1] == "input 'input_ids' int64 became int32"


def test_no_tensor_is_float_and_ids_are_32_bits(bucket: Path) -> None:
    found = graph(bucket)
    assert [tensor.name for tensor in found.tensors if tensor.is_float] == []
    assert [found.tensors[t].dtype for t in found.inputs] == ["int32", "int32"]
    words = [op for op in found.ops if op.kind == "GATHER" and found.tensors[op.inputs[0]].shape == (100, 16)]
    assert [found.tensors[op.inputs[0]].dtype for op in words] == ["int8"]


def test_every_op_is_proved_but_those_that_tflite_micro_does_not_have(bucket: Path) -> None:
    micro = reports.read(bucket)["runtimes"]["tflite_micro"]
    assert micro["ok"]
    assert {lack["kind"] for lack in micro["lacking"]} == {"GATHER", "GELU", "SQRT"}  # but for GELU, in 16 bits
    assert micro["ops"] + len(micro["lacking"]) == len(graph(bucket).ops)


def test_it_computes_what_the_module_does_without_padding(bucket: Path) -> None:
    import torch

    from tests.bert import create

    found, model = graph(bucket), create()
    length = found.tensors[found.inputs[0]].shape[1]
    runner, expected, computed = reference(found), [], []
    for ids in sentences(40, seed=1):
        ids = ids[:, :length]
        padding = ((0, 0), (0, length - ids.shape[1]))
        arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        padded = {name: np.pad(array, padding).astype(np.int32) for name, array in arrays.items()}
        values = runner.run({t: padded[found.tensors[t].name] for t in found.inputs})
        computed.append(to_real(found, found.outputs[0], values[found.outputs[0]]))
        with torch.no_grad():
            expected.append(model(torch.from_numpy(ids), torch.ones(ids.shape)).numpy())
    # 8-bit steps all along give about 30 dB; a mask or a lookup that is wrong gives less than 10.
    assert compare(np.concatenate(expected), np.concatenate(computed)).result().sqnr_db > 24
