"""TorchScript that keeps a state in attributes: what goes in and comes out is what the module itself computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.errors import InputError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.requires("torch")

from edgeqwt.converters.from_torch.states import lifted, require_none  # noqa: E402

WIDTH, RATE = 4, 16000


class Core(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.new, self.old = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self._memory = torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not len(self._memory):
            self._memory = torch.zeros_like(x)
        self._memory = torch.tanh(self.new(x) + self.old(self._memory))
        return self._memory


class Streaming(torch.nn.Module):
    """Two states, one of a part of it; numbers that say what is done."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.calls = Core(), 0
        self._context = torch.ones(1, WIDTH)

    def forward(self, x: torch.Tensor, rate: int) -> torch.Tensor:
        y = self.core(x + self._context) * (2 if rate == 16000 else 1)
        self._context = x
        self.calls = self.calls + 1
        return y


class Counting(torch.nn.Module):
    """What comes out depends on a number that it keeps, too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.last = 0, torch.zeros(1, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls = self.calls + 1
        self.last = x + self.last
        return self.last * self.calls


def scripted(module: torch.nn.Module) -> Any:
    torch.manual_seed(0)
    return torch.jit.script(module.eval())


def stream(count: int = 8, **more: Any) -> Samples:
    values = np.random.default_rng(0).normal(size=(count, 1, WIDTH)).astype(np.float32)
    kept: list[Sample] = [{"x": value, **more} for value in values]

    def opened() -> Iterator[Sample]:
        return iter(kept)

    return Samples("test", opened, count)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_states_are_inputs_and_outputs_of_the_same_stream() -> None:
    module, samples = scripted(Streaming()), stream(rate=np.array(RATE))
    found = lifted("net", module, samples)
    assert found is not None
    assert found.after == {"core_memory": "core_memory_out", "state_context": "state_context_out"}
    assert np.array_equal(found.initial["core_memory"], np.zeros((1, WIDTH)))
    assert np.array_equal(found.initial["state_context"], np.ones((1, WIDTH)))
    assert {name: int(value) for name, value in found.constants.items()} == {"rate": RATE}
    given = [*found.samples(samples)]
    assert all([*sample] == ["x", "core_memory", "state_context"] for sample in given)
    for before, sample in zip(samples, given, strict=True):
        with torch.no_grad():
            wanted = module(torch.from_numpy(before["x"]), RATE)
            result = found.module(**{name: torch.from_numpy(value) for name, value in sample.items()})
        # Sums of 4 products of size 1 in float32, in one order or another.
        assert np.allclose(result["output"], wanted, atol=1e-6)
    again = [*found.samples(samples)]
    assert all(np.array_equal(a["core_memory"], b["core_memory"]) for a, b in zip(given, again, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_number_is_one_and_the_same() -> None:
    found = lifted("net", scripted(Streaming()), stream(rate=np.array(RATE)))
    assert found is not None
    with pytest.raises(InputError, match="forward takes 'rate' as a number"):
        list(found.samples(stream(rate=np.array(8000))))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_taken_out_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"in attributes \(last\), .*: call . differs") as caught:
        lifted("net", scripted(Counting()), stream())
    assert "Wrap the module" in caught.value.hint


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modules_without_a_state_stay_as_they_are() -> None:
    assert lifted("net", scripted(torch.nn.Linear(WIDTH, WIDTH)), stream()) is None


class Written(torch.nn.Module):
    """A state in place, or as a new tensor; and what is computed once and kept, which is none."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.register_buffer("total", torch.zeros(1, WIDTH))
        self.grid: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.grid = torch.arange(WIDTH) * 1.0
        if self.way == "place":
            self.total.add_(x)
        elif self.way == "new":
            self.total = self.total + x
        return self.total + x * self.grid


@pytest.mark.parametrize("way", ["place", "new"])
def test_states_of_other_modules_are_named(way: str) -> None:
    with pytest.raises(InputError, match=r"m: forward keeps a state in its attributes \(.*total") as caught:
        require_none("m", *running(Written(way)))
    assert "torch.jit.script" in caught.value.hint


def test_what_is_computed_once_and_kept_is_no_state() -> None:
    require_none("m", *running(Written("")))


def running(module: torch.nn.Module) -> tuple[torch.nn.Module, Callable[[], dict[str, Any]]]:
    module(torch.ones(1, WIDTH))
    return module, lambda: {"output": module(torch.ones(1, WIDTH)).numpy()}


@pytest.mark.requires("onnx2tf")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_build_has_the_state_as_inputs_and_outputs_that_can_be_fed_back() -> None:
    result = edgeqwt.build(
        scripted(Streaming()), calibration=lambda: iter(stream(32, rate=np.array(RATE))), recipe="fast"
    )
    assert [binding.spec.name for binding in result.model.inputs] == ["x", "core_memory", "state_context"]
    assert len(result.model.graph.states) == 2
    assert [(c.name, c.values) for c in result.model.constants] == [("rate", (RATE,))]
    assert any("forward keeps its state in attributes: core._memory" in note for note in result.model.notes)
