"""Where gradients are computed: what a user may choose, and that nothing is left on another device.

No test has a CUDA device. Torch's meta device stands for one: it has shapes and no values, and torch refuses to
compute with tensors of it and of the processor together, as it does for CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")

import edgeqwt  # noqa: E402
from edgeqwt.autograd.evaluate import as_tensor  # noqa: E402
from edgeqwt.autograd.output_sensitivity import output_sensitivity  # noqa: E402
from edgeqwt.autograd.weighted import weighted  # noqa: E402
from edgeqwt.calibration.observe import observe  # noqa: E402
from edgeqwt.errors import InputError  # noqa: E402
from edgeqwt.prepare.prepare import prepare  # noqa: E402
from edgeqwt.reconstruct.learned_rounding import Reconstruction  # noqa: E402
from edgeqwt.reconstruct.reconstruct import reconstruct  # noqa: E402
from edgeqwt.runtime.device import chosen_device, device_now, on_device  # noqa: E402
from tests import small  # noqa: E402
from tests.chain import samples  # noqa: E402
from tests.prepare import toy  # noqa: E402
from tests.reconstruct.nets import FOUR, inputs, lowered, residual  # noqa: E402


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gradients on the meta device, whose tensors come back as ones."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: torch.ones(self.shape, dtype=self.dtype))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: 1.0)
    with on_device("meta"):
        yield


def test_a_choice_that_is_none() -> None:
    with pytest.raises(InputError, match="there is no device 'tpu' to compute on"):
        chosen_device("tpu")


def test_cuda_where_there_is_none_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch finds no CUDA device") as caught:
        edgeqwt.build(small.write(tmp_path).model, calibration=small.images(8), device="cuda")
    assert "--device cpu" in caught.value.hint
    assert chosen_device("auto") == "cpu"


def test_cuda_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [chosen_device(name) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]


def test_the_setting_ends_with_its_block() -> None:
    before = torch.backends.cudnn.allow_tf32
    with on_device("meta"):
        assert as_tensor(np.zeros(2)).device.type == "meta"
        assert not torch.backends.cudnn.allow_tf32
    assert (device_now(), torch.backends.cudnn.allow_tf32) == ("cpu", before)
    assert as_tensor(np.zeros(2)).device.type == "cpu"


@pytest.mark.parametrize("name", ["language", "vision"])
def test_gradients_of_outputs_are_computed_there(name: str, elsewhere: None) -> None:
    graph = prepare({"language": toy.language, "vision": toy.vision}[name](1)).graph
    data = samples(graph, 3)
    found = output_sensitivity(graph, data, graph.outputs)
    assert {float(values.max()) for values in found.values()} == {1 / 6}  # ones, by 3 samples with 2 draws each
    assert weighted(graph, data, graph.outputs, observe(graph, data)[0])


@pytest.mark.parametrize("rounding", ["progressive", "straight", "soft"])
def test_rounding_is_learned_there(rounding: str, elsewhere: None) -> None:
    graph = residual()
    data = inputs(graph, 16)
    rule = Reconstruction(iterations=2, finish=2, batch=4, threads=1, rounding=rounding, fisher=True)
    found = reconstruct(lowered(graph, data), graph, data, rule, FOUR)
    assert {block.reason for block in found.blocks} <= {"", "no better on samples that it did not learn from"}
