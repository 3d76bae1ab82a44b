"""The examples of docs/calibration.md run, and print what they say they print."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.calibration.images import ImageOptions
from edgeqwt.calibration.settings import parse_options
from edgeqwt.calibration.sources import open_samples

PAGE = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for number, block in enumerate(blocks("python")):
        if block.startswith("# data.py"):
            Path("data.py").write_text(block)
        exec(compile(block, f"calibration.md, block {number}", "exec"), {})
    expected = re.findall(r"print\(.*\)  # (.*)", PAGE)
    assert capsys.readouterr().out.splitlines() == expected
    assert len(expected) == 4

    [toml] = blocks("toml")
    Path("images.toml").write_text(toml)
    assert open_samples("images.toml").first()[""].shape == (1, 3, 224, 224)
    assert open_samples("samples.npy").count == 8
    np.testing.assert_array_equal(open_samples("data.py:samples").first()["x"].shape, (1, 3, 32, 32))


def test_the_command_line_says_what_the_toml_says(tmp_path: Path) -> None:
    command = blocks("sh")[-1]
    options = parse_options(re.findall(r"--image (\S+)", command))
    assert options == ImageOptions((224, 224), 256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def test_every_option_and_default_is_in_the_table() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    documented = {name: row[2] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert set(documented) == set(ImageOptions.__dataclass_fields__)
    defaults = ImageOptions(size=(4, 4))
    for name in ("crop", "layout", "color", "interpolation"):
        assert documented[name] == f'`"{getattr(defaults, name)}"`'
