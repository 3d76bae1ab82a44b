"""Output sensitivity against the squared Jacobian, element by element, for few enough outputs to compute it all."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")

from edgeqwt.autograd import output_sensitivity as module  # noqa: E402
from edgeqwt.autograd.evaluate import Program, as_tensor  # noqa: E402
from edgeqwt.autograd.kernels import missing  # noqa: E402
from edgeqwt.autograd.output_sensitivity import output_sensitivity  # noqa: E402
from edgeqwt.graph.graph import Array, Graph  # noqa: E402
from edgeqwt.prepare.prepare import prepare  # noqa: E402
from tests.chain import NONE, Chain, samples  # noqa: E402
from tests.prepare import toy  # noqa: E402

GRAPHS = {"language": toy.language, "vision": toy.vision}


def jacobian_squares(graph: Graph, data: list[dict[int, Array]]) -> dict[int, Array]:
    """The mean over samples of sum_j (dy_j / dx)^2, where x is not zero, by one backward pass for each output."""
    found: dict[int, Array] = {}
    (out,), program = graph.outputs, Program(graph, graph.outputs)
    for sample in data:
        kept: dict[int, torch.Tensor] = {}

        def hold(t: int, value: torch.Tensor, kept: dict[int, torch.Tensor] = kept) -> torch.Tensor:
            if value.is_floating_point():
                kept[t] = value if value.requires_grad else value.detach().requires_grad_()
            return kept.get(t, value)

        given = {t: as_tensor(sample[t]) for t in graph.inputs}
        (y,) = program.one({t: hold(t, v) for t, v in given.items()}, hook=hold).values()
        for j in range(y.numel()):
            found_j = torch.autograd.grad(y.reshape(-1)[j], list(kept.values()), retain_graph=True, allow_unused=True)
            for (t, value), gradient in zip(kept.items(), found_j, strict=True):
                if gradient is not None:
                    square = torch.where(value != 0, gradient, 0).detach().double().square().numpy() / len(data)
                    found[t] = found.get(t, 0) + square
    assert out in found
    return found


@pytest.mark.parametrize("name", GRAPHS)
def test_it_is_the_mean_squared_jacobian_of_prepared_transformers(name: str) -> None:
    graph = prepare(GRAPHS[name](1)).graph
    assert missing(graph) == ()
    data = samples(graph, 3)
    found, wanted = output_sensitivity(graph, data * 25, graph.outputs, draws=8), jacobian_squares(graph, data)
    assert set(wanted) <= set(found)
    assert all(t not in found for t in graph.inputs if not graph.tensors[t].is_float)  # token ids have none
    for t, values in wanted.items():
        assert np.isfinite(found[t]).all()
        # 200 draws for each sample: a relative standard deviation of at most sqrt(2 / 200), 0.1.
        assert found[t].sum() == pytest.approx(values.sum(), rel=0.2)
        np.testing.assert_allclose(found[t], values, rtol=0.6, atol=1e-3 * float(values.max()))


def test_many_elements_are_taken_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = prepare(toy.language(1)).graph
    data = samples(graph, 4)
    whole = output_sensitivity(graph, data * 4, graph.outputs, draws=8)
    monkeypatch.setattr(module, "ELEMENTS", 1)
    single = output_sensitivity(graph, data * 4, graph.outputs, draws=8)
    for t, values in whole.items():
        # Other signs for each sample, 128 of them in all: a relative standard deviation of at most sqrt(2 / 128).
        assert single[t].sum() == pytest.approx(values.sum(), rel=0.5)


def test_roots_of_zero_have_no_slope() -> None:
    """As distances of tokens to themselves: an infinite one would make NaN of all that leads there."""
    chain = Chain()
    x = chain.input((1, 3))
    square = chain.op("MUL", x, x, **NONE)
    graph = chain.graph(chain.op("SQRT", square))
    found = output_sensitivity(graph, [{x: np.array([[0, 2, -3]], np.float32)}], graph.outputs, draws=4)
    np.testing.assert_allclose(found[x], [[0, 1, 1]], atol=1e-6)  # of |x|, but where x is zero, which is exact
