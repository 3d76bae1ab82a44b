"""What could help a model that comes out poor, by what is in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeqwt.graph.graph import Graph
from edgeqwt.verify.thresholds import FINE_DB
from tests.chain import NONE, Chain, noise
from tests.test_trials import DENSE, built


def generalized_mean() -> Graph:
    """The third root of means of cubes, of channels of all magnitudes, which the last layer makes alike again."""
    chain, sizes = Chain(), np.logspace(-1.5, 0, 12)
    relu, dense = {**DENSE, "fusedActivationFunction": "RELU"}, {**DENSE, "keepNumDims": False}
    rows, columns = noise(12, 8, seed=1) * sizes[:, None], noise(4, 12, seed=2) / sizes
    x = chain.op("FULLY_CONNECTED", chain.input((1, 6, 8), "x"), chain.constant(rows), -1, shape=(1, 6, 12), **relu)
    x = chain.op("MAXIMUM", x, chain.constant([1e-6]), shape=(1, 6, 12), name="clamped")
    cube = chain.op("MUL", chain.op("MUL", x, x, shape=(1, 6, 12), name="square", **NONE), x, name="cube", **NONE)
    mean = chain.op("MEAN", cube, chain.constant([1]), shape=(1, 12), name="mean")
    root = chain.op("POW", mean, chain.constant([1 / 3]), shape=(1, 12), name="root")
    return chain.graph(chain.op("FULLY_CONNECTED", root, chain.constant(columns), -1, shape=(1, 4), name="y", **dense))


def test_roots_of_means_of_powers_stay_float(tmp_path: Path) -> None:
    """In bytes and in 16 bits the small channels are lost, before POW or in its table."""
    names = ("root", "mean", "cube", "square", "clamped")
    expected = " ".join(f"--layer {name}=keep_float" for name in names)
    first = built(tmp_path, generalized_mean())
    assert first.quality[first.choice.name].worst_db < 20
    assert expected in first.remedy, first.remedy
    options = first.remedy.removeprefix("Build with ").split(": ")[0]
    second = built(tmp_path, generalized_mean(), options)
    assert second.quality[second.choice.name].worst_db >= FINE_DB


def spectra() -> Graph:
    """Logarithms of three spectra that span many orders of magnitude, side by side."""
    chain = Chain()
    x, logs = chain.input((1, 6, 8), "x"), []
    for k in range(3):
        rows = chain.constant(noise(12, 8, seed=k) * np.logspace(-4, 0, 12)[:, None])
        bands = chain.op("FULLY_CONNECTED", x, rows, -1, shape=(1, 6, 12), name=f"bands{k}", **DENSE)
        power = chain.op("MUL", bands, bands, shape=(1, 6, 12), name=f"power{k}", **NONE)
        above = chain.op("ADD", power, chain.constant(1e-10), shape=(1, 6, 12), name=f"above{k}", **NONE)
        logs.append(chain.op("LOG", above, shape=(1, 6, 12), name=f"log{k}"))
    both = chain.op("CONCATENATION", *logs, shape=(1, 6, 36), axis=2, name="both", **NONE)
    last = chain.constant(noise(4, 36, seed=3))
    return chain.graph(chain.op("FULLY_CONNECTED", both, last, -1, shape=(1, 6, 4), name="y", **DENSE))


def test_all_logarithms_that_are_lost_stay_float(tmp_path: Path) -> None:
    """Of a pitch detector's three spectra two stayed integers in what was tried, and cost as much as all."""
    remedy = built(tmp_path, spectra()).remedy
    assert " ".join(f"--layer upto:log{k}=keep_float" for k in range(3)) in remedy
