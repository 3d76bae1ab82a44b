from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import RecipeError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots
from edgeqwt.recipe.recipe import load
from edgeqwt.rounding.least_squares import Method, damped, half_by_half, one_by_one, refined
from edgeqwt.rounding.structure import CLUSTERS, KINDS, SPARSITY, Structure, clusters_of, structure, weight_scales
from edgeqwt.techniques.equalization import Equalization
from edgeqwt.widths.precision import parse
from tests.chain import noise
from tests.small import graph, images

BOOK = np.array([-0.9, -0.5, -0.2, 0.1, 0.35, 0.6, 1.0])


def clustered(channels: int, terms: int, seed: int = 0) -> Array:
    return BOOK[np.random.default_rng(seed).integers(0, len(BOOK), (channels, terms))]


def test_one_codebook_for_all_channels() -> None:
    found = clusters_of(clustered(6, 27).astype(np.float32))
    assert found is not None
    assert found.factors == pytest.approx(np.ones(6))
    assert found.entries == pytest.approx(BOOK)


def test_a_factor_for_each_channel_as_a_folded_batch_norm_gives() -> None:
    factors = np.random.default_rng(1).uniform(0.1, 30, 16)
    rows = (clustered(16, 40).astype(np.float32) * factors[:, None].astype(np.float32)).astype(np.float32)
    found = clusters_of(rows)
    assert found is not None
    # float32 rounds each weight to 2^-24.
    assert found.factors == pytest.approx(factors, rel=1e-6)
    for bits, values in ((8, len(BOOK)), (4, len(np.unique(np.rint(BOOK * 7))))):
        # At 8 bits -0.5 is half-way between two integers, which float32 would round either way.
        scale = weight_scales(Structure(clusters={"layer": found}), "layer", bits)
        assert scale is not None
        assert len(np.unique(np.rint(rows / scale[:, None]))) <= values
        assert np.abs(rows / scale[:, None]).max() <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize(
    "rows",
    [
        noise(16, 40),
        noise(16, 9),  # a depthwise layer: few values per channel, and nothing in common
        clustered(2, 9).astype(np.float32),  # too small to have structure
        np.zeros((8, 16), np.float32),
    ],
)
def test_what_is_not_clustered(rows: Array) -> None:
    assert clusters_of(rows) is None


def pruned(share: float, *shape: int, seed: int = 0) -> Array:
    weights = noise(*shape, seed=seed)
    weights[np.abs(weights) < np.quantile(np.abs(weights), share)] = 0
    return weights


@pytest.mark.parametrize(("how", "moves"), [(one_by_one, True), (half_by_half, False)])
def test_zeros_stay_through_rounding_that_moves_weights(how: Callable[[Array], Method], moves: bool) -> None:
    weights = pruned(0.6, 1, 4, 24).astype(np.float64)
    inputs = noise(24, 200, seed=3).astype(np.float64) + 3 * noise(1, 200, seed=4)  # so that errors are passed on
    hessian = damped((inputs @ inputs.T)[None], 0.01)
    scale, zeros = np.abs(weights).max(axis=2) / 127, weights == 0
    method = how(hessian)
    (free, _), (kept, _) = method(weights, scale, 127, None), method(weights, scale, 127, zeros)
    if moves:
        assert (free[zeros] != 0).any()  # otherwise this shows nothing
    assert (kept[zeros] == 0).all()
    assert (refined(weights, scale, kept, hessian, 127, zeros)[zeros] == 0).all()


def edited(name: str) -> Graph:
    def edit(constants: dict[str, Array]) -> None:
        if name == SPARSITY:
            constants["filter"][...] = pruned(0.6, 6, 3, 3, 3, seed=1) * 0.3
        else:
            factors = np.array([0.2, 0.5, 1, 2, 4, 0.1]).reshape(-1, 1, 1, 1)
            constants["filter"][...] = clustered(6, 27).reshape(6, 3, 3, 3) * factors

    return graph(edit)


def integers(built: Graph) -> Array:
    (conv,) = (op for op in built.ops if op.kind == "CONV_2D")
    data = built.tensors[slots(conv).weight].data
    assert data is not None
    return data


@pytest.mark.parametrize(("recipe", "precision"), [("balanced", "w8a8"), ("best", "w4a8")])
def test_builds_keep_what_training_put_into_weights(recipe: str, precision: str, tmp_path: Path) -> None:
    for kind in (SPARSITY, CLUSTERS):
        source = edited(kind)
        flatbuffer.write(source, tmp_path / "float.tflite")
        result = edgeqwt.build(
            tmp_path / "float.tflite", calibration={"image": images(32)}, recipe=recipe, precision=precision
        )
        (row,) = result.made.structure
        assert row.kept == (kind,)
        built = integers(result.made.graph)
        if kind == SPARSITY:
            assert (built[integers(source) == 0] == 0).all()
            assert row.zeros_after >= row.zeros_before > 0.5
        else:
            assert row.values_after == len(np.unique(built)) <= len(BOOK)


def test_structure_is_let_go_of_where_that_is_asked_for(tmp_path: Path) -> None:
    assert structure(edited(SPARSITY)).sparse == {"features"}
    assert structure(edited(SPARSITY), frozenset()).sparse == frozenset()
    flatbuffer.write(edited(CLUSTERS), tmp_path / "float.tflite")
    result = edgeqwt.build(tmp_path / "float.tflite", calibration={"image": images(32)}, recipe="fast", preserve=[])
    assert result.made.structure == ()
    with pytest.raises(RecipeError, match="preserve = "):
        edgeqwt.build(tmp_path / "float.tflite", calibration={"image": images(32)}, preserve=["zeros"])


@pytest.mark.requires("torch")
def test_gains_are_measured_with_the_structure_that_the_build_kept(tmp_path: Path) -> None:
    flatbuffer.write(edited(CLUSTERS), tmp_path / "float.tflite")
    recipe = replace(load("plain").with_technique(Equalization()), precision=parse("w4a8"), leave_one_out=24)
    gains = {}
    for preserve in (KINDS, ()):
        result = edgeqwt.build(
            tmp_path / "float.tflite", calibration={"image": images(32)}, recipe=recipe, preserve=preserve, accept=True
        )
        gains[preserve] = {gain.technique: gain.gain_db for gain in result.gains}["equalization"]
    # Clustered weights are not equalized: with them there is nothing to leave out.
    assert gains[KINDS] == 0
    assert gains[()] != 0
