"""Properties of corrections, chosen by hypothesis: what is folded is the line, what is kept is no worse."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeqwt.compensation.fold import fold
from edgeqwt.compensation.solve import Correction
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset16 import rule_at
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.scales.weights import bias_quantization
from edgeqwt.verify.choice import choose
from edgeqwt.verify.quality import layer_quality
from edgeqwt.widths.precision import Precision
from tests.chain import Chain
from tests.compensation.nets import KINDS, Case, conv, dense, made, mean, outputs, probed, run, stored

# The same cases at every run, as many as a second or two takes.
QUIET = settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
CHANNELS = 8
magnitudes = st.floats(-3, 3).map(lambda e: 10.0**e)
gains = st.lists(st.tuples(st.sampled_from((-1, 1)), magnitudes), min_size=CHANNELS, max_size=CHANNELS)
offsets = st.lists(st.one_of(st.floats(-3, 3), st.floats(-1e3, 1e3)), min_size=CHANNELS, max_size=CHANNELS)


@cache
def single(kind: str, bits: int) -> Case:
    """A layer in integers."""
    return made(KINDS[kind](), count=3, precision=Precision(activation_bits=bits))


@settings(QUIET, max_examples=40)
@given(kind=st.sampled_from(sorted(KINDS)), bits=st.sampled_from((8, 16)), gain=gains, offset=offsets)
def test_a_folded_line_is_computed_and_a_refused_one_leaves_its_channel(
    kind: str, bits: int, gain: list[tuple[int, float]], offset: list[float]
) -> None:
    case = single(kind, bits)
    wanted = Correction(np.array([sign * size for sign, size in gain]), np.array(offset), {})
    folded, done = fold(case.integer, 0, wanted)
    kept = (done.gain == wanted.gain) & (done.offset == wanted.offset)
    assert (done.gain[~kept] == 1).all()
    assert (done.offset[~kept] == 0).all()
    assert sum(done.refused.values()) == (~kept).sum()
    op, s = case.integer.ops[0], slots(case.integer.ops[0])
    x_scale, w, q = (folded.tensors[t].quantization for t in (s.data, s.weight, s.output))
    assert x_scale is not None
    assert w is not None
    assert q is not None
    step = bias_quantization(x_scale.scale[0], w.scale).scale / q.scale[0]
    # The kernel's bound, half of the bias's step, and what float32 of a large probe leaves of an output's step.
    (feed,) = run(case.integer, case.samples[:1], [s.data])
    line = done.gain * probed(case.integer, 0, feed[s.data]) + done.offset
    bound = rule_at(op.kind, bits).bound + 0.5 * step + 2.0**-22 * np.abs(line).max() / q.scale[0]
    exact = stored(line, op.activation, q, folded.tensors[s.output].dtype)
    (found,) = run(folded, case.samples[:1])
    assert (np.abs(found[s.output] - exact) <= bound).all()


def random_net(rng: np.random.Generator) -> Graph:
    """One to three convolutions, a mean, a dense layer."""
    chain, seed = Chain(), int(rng.integers(1, 100))
    x = chain.input((1, 6, 6, int(rng.integers(1, 5))))
    for k in range(int(rng.integers(1, 4))):
        x = conv(chain, x, int(rng.integers(2, 9)), seed + k, str(rng.choice(["NONE", "RELU", "RELU6"])))
    return chain.graph(dense(chain, mean(chain, x), int(rng.integers(2, 6)), seed + 9))


@settings(QUIET, max_examples=6)
@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from((3, 4, 8)))
def test_what_is_kept_errs_no_more_on_samples_that_chose_it(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    case = made(random_net(rng), count=24, bits=bits, seed=seed)
    held_out = [
        {t: rng.standard_normal(case.floating.tensors[t].shape).astype(np.float32) for t in case.floating.inputs}
        for _ in range(12)
    ]
    graphs = {"plain": case.integer, "compensated": case.compensated().graph}
    kept = choose(layer_quality(case.floating, graphs, held_out, threads=1)).name
    wanted = np.stack([sample[case.floating.outputs[0]] for sample in run_float(case.floating, held_out)])

    def error(name: str) -> float:
        return float(np.square(wanted - outputs(graphs[name], held_out)).sum())

    assert error(kept) <= error("plain") * (1 + 1e-6)  # sums in another order


def run_float(graph: Graph, samples: list[dict[int, Array]]) -> list[dict[int, Array]]:
    """A float graph's outputs."""
    runner = xnnpack(graph)
    return [runner.run(sample) for sample in samples]
