"""The examples of docs/sources.md run, and print what they say they print."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from edgeqwt.converters.resolve import TorchObject, resolve

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    model, *others = map(textwrap.dedent, blocks)
    Path("model.py").write_text(model)
    assert isinstance(resolve("model.py:create"), TorchObject)
    for number, code in enumerate(others):
        exec(compile(code, f"sources.md, block {number}", "exec"), {"__name__": "docs"})
    expected = re.findall(r"print\(.*\)  # (.*)", PAGE)
    assert capsys.readouterr().out.splitlines() == expected
    assert len(expected) == 4
