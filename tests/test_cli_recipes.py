"""`edgeqwt recipes`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeqwt.recipe.recipe import names
from edgeqwt.techniques.registry import registered
from tests import small
from tests.small import Command


@pytest.fixture
def edgeqwt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return small.command(tmp_path, monkeypatch, capsys)


def test_recipes_are_listed_with_their_techniques(edgeqwt: Command) -> None:
    code, out, err = edgeqwt("recipes")
    assert (code, err) == (0, "")
    assert all(any(line.startswith(f"{name} ") for line in out.splitlines()) for name in names())
    assert "hessian_guided" in out  # in no recipe
    code, out, _ = edgeqwt("recipes", "--json")
    found = json.loads(out)
    assert set(found["recipes"]) == {*names()}
    assert found["techniques"] == [*registered()]


@pytest.mark.parametrize("name", [*names(), *registered()])
def test_recipes_and_techniques_are_explained(edgeqwt: Command, name: str) -> None:
    code, out, err = edgeqwt("recipes", "show", name)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) >= 1
    if name == "balanced":
        assert "scales = 8" in out
    if name == "gptq":
        assert "[default: 0.01]" in out


def test_what_there_is_not(edgeqwt: Command) -> None:
    assert "there is no recipe 'guess'" in edgeqwt.refused(3, "recipes", "show", "guess")
