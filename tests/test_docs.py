"""What README.md and docs/ show works: Python blocks run, options of shown commands exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer.main

import edgeqwt
from edgeqwt import cli

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks/README.md",
    ROOT / "examples/digits/README.md",
)
ELSEWHERE = {"calibration.md": "calibration", "sources.md": "converters"}  # pages with a test_docs.py of their own

MODEL = """
import torch
from torch import nn


def create():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
"""


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, list[str]]]:
    """Page and words of every edgeqwt command that is shown, lines that go on joined."""
    shown = []
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            lines = block.replace("\\\n", " ").splitlines()
            found = [re.sub(r"^\$ ", "", line) for line in lines]
            shown += [(page.name, shlex.split(line, comments=True)) for line in found if line.startswith("edgeqwt ")]
    return shown


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name, and a build's output."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "my_model.py").write_text(MODEL)
    images = np.random.default_rng(0).normal(size=(16, 3, 8, 6)).astype(np.float32)
    np.savez(folder / "samples.npz", input=images)
    edgeqwt.build(f"{folder}/my_model.py:create", calibration=folder / "samples.npz", output=folder / "out")
    return folder


def test_the_other_pages_have_tests() -> None:
    assert all((ROOT / "tests" / folder / "test_docs.py").is_file() for folder in ELSEWHERE.values())
    assert set(ELSEWHERE) <= {page.name for page in PAGES}


@pytest.mark.requires("torch", "onnx2tf")
@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in ELSEWHERE and blocks(p, "python")], ids=name)
def test_python_blocks_run(
    page: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    code = blocks(page, "python")
    for number, block in enumerate(code):
        exec(compile(block, f"{page.name}, block {number}", "exec"), {})
    assert bool(capsys.readouterr().out) == any("print(" in block for block in code)


def test_commands_name_options_that_exist() -> None:
    known = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert len(commands()) >= 4
    for page, (_, name, *words) in commands():
        options = {
            option for parameter in known[name].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= options, page


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target
