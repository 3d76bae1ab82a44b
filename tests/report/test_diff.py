from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from edgeqwt.errors import InputError
from edgeqwt.extras import MissingPackageError
from edgeqwt.graph import flatbuffer
from edgeqwt.output import ends_of
from edgeqwt.pipeline import BuildResult
from edgeqwt.report.diff import difference, difference_html, show_difference
from edgeqwt.report.files import write_build
from edgeqwt.report.model_explorer import explore
from edgeqwt.web import chromium
from tests.browsers import needs_chromium
from tests.report.test_html import CUT, HOSTILE, READY


@pytest.fixture(scope="module")
def folders(result: BuildResult, plain_result: BuildResult, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for folder, found in zip(made, (result, plain_result), strict=True):
        write_build(found, folder)
    return made


def test_two_builds_side_by_side(folders: list[Path], result: BuildResult, plain_result: BuildResult) -> None:
    found = difference(*folders)
    values = {name: (a, b) for name, a, b in found.rows}
    assert values["kept"] == (result.choice.name, plain_result.choice.name)
    sizes = tuple(f"{r.sizes[r.choice.name]:,}" for r in (result, plain_result))
    assert values["bytes"] == sizes
    versions = [(a, b) for name, a, b in found.rows if "version" in name]
    assert versions == [("the same", "the same")]  # one row, not one for each package
    own = {op.tensor: op.own_db for op in result.own.ops}
    assert {"features", "mask", "logits"} <= {op.tensor for op in found.ops}
    for op in found.ops:
        assert op.first == pytest.approx(own[op.tensor], abs=0.005)  # two digits are written
    changes = [abs(op.gain) for op in found.ops]
    assert changes == sorted(changes, reverse=True)


@needs_chromium
def test_a_phone_shows_both_builds(folders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "diff.html"
    path.write_text(difference_html(difference(*folders)), encoding="utf-8")
    with chromium.browser() as shown:
        shown.size(390, 800)
        shown.open(path.as_uri())
        shown.wait(READY)
        assert shown.value("document.documentElement.scrollWidth") <= 390
        assert shown.value(CUT) == 0


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_shows_whole_labels(folders: list[Path], width: int) -> None:
    found = difference(*folders)
    out = Console(width=width, file=io.StringIO(), force_terminal=False)
    longer = tuple((name, f"{a} " * 9, b) for name, a, b in found.rows)
    show_difference(out, replace(found, names=("a" * 60, "b"), rows=longer))
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for name, _, _ in found.rows:
        shown = {ends_of(name, space) for space in range(width // 3, width)}
        assert any(line.startswith(text) for line in lines for text in shown), name
    assert any(line.rstrip().endswith("differs") for line in lines)


def test_nothing_differs_from_itself(folders: list[Path]) -> None:
    found = difference(folders[0], folders[0])
    assert all(a == b for _, a, b in found.rows)
    assert {op.gain for op in found.ops} == {0.0}
    assert found.alone == (0, 0)


def test_names_are_data_there_too(folders: list[Path], tmp_path: Path) -> None:
    for name in ("report.json", "details.json"):
        text = (folders[0] / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace('"logits"', json.dumps(HOSTILE)), encoding="utf-8")
    text = difference_html(difference(tmp_path, tmp_path))
    assert "<img src=x" not in text
    assert text.count("</script>") == 1


@pytest.mark.parametrize("content", [None, "", "[]", '{"schema": "edgeqwt.report"}', '{"schema": "else"}'])
def test_folders_of_others_are_refused(folders: list[Path], tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
        (tmp_path / "details.json").write_text((folders[0] / "details.json").read_text(encoding="utf-8"))
    with pytest.raises(InputError):
        difference(folders[0], tmp_path)


def test_node_data_attaches_by_output_tensor(folders: list[Path]) -> None:
    graph = flatbuffer.read(folders[0] / "model.tflite")
    outputs = {graph.tensors[t].name for op in graph.ops for t in op.outputs}
    files = {path.stem: json.loads(path.read_text()) for path in (folders[0] / "model_explorer").iterdir()}
    assert {"own_error_db", "accumulated_db", "activation_bits"} <= files.keys()
    for data in files.values():
        assert data[graph.name or "main"]["results"].keys() <= outputs
    assert files["activation_bits"][graph.name or "main"]["results"]["features"] == {"value": 8.0}
    assert files["own_error_db"][graph.name or "main"]["results"].keys() >= {"features", "mask", "logits"}


def test_exploring_needs_a_build_and_model_explorer(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no output folder"):
        explore(tmp_path)
    with pytest.raises(MissingPackageError, match="ai-edge-model-explorer"):
        explore(folders[0])
