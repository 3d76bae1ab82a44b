"""Other widths for some layers, from TOML, Python and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgeqwt
from edgeqwt.commands.options import layer_widths
from edgeqwt.errors import InputError, RecipeError
from edgeqwt.recipe.recipe import load, with_precision
from edgeqwt.widths.precision import LayerWidths, Precision, Widths, with_layers
from tests import small

NAMES = {"wa/conv1": "features.0", "wa/conv2": "features.1", "wa/logits": "head.fc"}


def test_patterns_name_tensors_or_modules_and_later_ones_count() -> None:
    layers = [LayerWidths("features.*", "w4a8"), LayerWidths("wa/conv2", "w8a16")]
    found = with_layers(Precision(), layers, NAMES)
    assert found.layers == {"wa/conv1": Widths(4, 8), "wa/conv2": Widths(8, 16)}
    assert found.pack_int4
    assert not with_layers(Precision(), layers[1:], NAMES).pack_int4


def test_a_pattern_that_names_nothing_says_what_is_close() -> None:
    with pytest.raises(RecipeError, match=r"'haed\.\*' names no op") as caught:
        with_layers(Precision(), [LayerWidths("haed.*", "w4a8")], NAMES)
    assert "'head.fc'" in caught.value.hint
    with pytest.raises(RecipeError, match="no precision 'w9a8'"):
        with_layers(Precision(), [LayerWidths("*", "w9a8")], NAMES)


def test_recipes_have_layers(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[[layers]]\nmatch = "head.*"\nprecision = "w8a16"\n')
    recipe = load(str(tmp_path / "mine.toml"))
    assert recipe.layers == (LayerWidths("head.*", "w8a16"),)
    with pytest.raises(RecipeError, match="mixed precision chooses"):
        with_precision(recipe, "mixed", edgeqwt.Mixed(max_size=1))
    for text in ("layers = 3", '[[layers]]\nmatch = "a"', '[[layers]]\nmatch = "a"\nprecision = "w1a1"'):
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(RecipeError):
            load(str(tmp_path / "mine.toml"))


def test_the_command_line_has_layers() -> None:
    assert layer_widths(["head.*=w8a16", "a=b=w4a8"]) == {"head.*": "w8a16", "a=b": "w4a8"}
    for wrong in ("head", "=w8a8", "head="):
        with pytest.raises(InputError, match="--layer"):
            layer_widths([wrong])


def test_a_build_uses_them(tmp_path: Path) -> None:
    files = small.write(tmp_path)
    result = edgeqwt.build(
        files.model, calibration=files.samples, recipe="fast", layers={"feat*": "w8a16"}, accept=True
    )
    kinds = {tensor.name: tensor.dtype for tensor in result.graph.tensors if not tensor.is_constant}
    assert kinds["features"] == "int16"
    assert kinds["logits"] == "int8"
