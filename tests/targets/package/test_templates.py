from __future__ import annotations

from pathlib import Path

import pytest

from edgeqwt.errors import InvariantError
from edgeqwt.target.package import templates


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(templates, "FOLDER", tmp_path)
    return tmp_path


def test_placeholders_are_filled_in_and_nothing_else_is_touched(folder: Path) -> None:
    (folder / "x.txt").write_text("@name@ ${name} $name @Name@ a@b.c {{name}} @name", encoding="utf-8")
    assert templates.rendered("x.txt", {"name": "ü", "unused": ""}) == "ü ${name} $name @Name@ a@b.c {{name}} @name"


def test_a_value_is_not_filled_in_again(folder: Path) -> None:
    (folder / "x.txt").write_text("@a@", encoding="utf-8")
    assert templates.rendered("x.txt", {"a": "@b@ \\1"}) == "@b@ \\1"


def test_a_placeholder_without_a_value_is_a_bug(folder: Path) -> None:
    (folder / "x.txt").write_text("@nothing@", encoding="utf-8")
    with pytest.raises(InvariantError, match=r"x\.txt has the placeholder @nothing@"):
        templates.rendered("x.txt", {})


def test_names_of_files_and_folders_are_filled_in(folder: Path, tmp_path: Path) -> None:
    (folder / "tree" / "@name@").mkdir(parents=True)
    (folder / "tree" / "@name@" / "@name@.h").write_text("@name@", encoding="utf-8")
    templates.write_tree("tree", tmp_path / "out", {"name": "model"})
    assert (tmp_path / "out" / "model" / "model.h").read_text(encoding="utf-8") == "model"
