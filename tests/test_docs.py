"""What the pages show works: blocks run, options of shown commands exist, links lead somewhere.

The blocks of a page run in order in one folder, which has the files that pages begin from. A block of `python` is
executed, in one namespace per page; each `edgeqwt` command of an `sh` block ends with exit code 0, or with the `exit=`
that stands beside the language; a `toml` is read; a block with a title is written to the file of that name, unless the
title says "Not run" and why. `text` behind python is what it prints; behind commands, how lines of the output begin.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

import edgeqwt
from edgeqwt import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (
    ROOT / "README.md",
    *sorted(DOCS.rglob("*.md")),
    ROOT / "benchmarks/README.md",
    *sorted(ROOT.glob("examples/*/README.md")),
)
ELSEWHERE = {"calibration.md": "calibration", "sources.md": "converters"}  # pages with a test_docs.py of their own
# Pages whose commands build from PyTorch, or build often: together they take minutes.
SLOW = {
    *("README.md", "docs/tutorial.md", "docs/explanation/what-limits-quality.md"),
    *(
        f"docs/how-to/{name}.md"
        for name in (
            *("4-bit-weights", "calibrate-from", "camera-bytes-in", "qat-and-pruned-models", "run-in-a-browser"),
            *("run-on-esp32", "run-on-ethos-u", "run-on-snapdragon", "run-on-stm32", "target-refuses-an-op"),
            *("yolo-scores-are-zero", "int8-model-is-wrong", "sensor-units"),
        )
    ),
}
NOT_RUN = "Not run"

MODEL = """
import torch
from torch import nn


def create():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, what stands beside it, its text."""

    language: str
    title: str
    exit_code: int
    code: str

    @property
    def runs(self) -> bool:
        """Whether something is to be done with it."""
        return self.language in ("python", "sh") and not self.title.startswith(NOT_RUN)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    fence = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
    for indent, language, beside, code in fence.findall(text):
        title = re.search(r'title="([^"]*)"', beside)
        code = re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
        ends = re.search(r"exit=(\d+)", beside)
        found.append(Block(language, title[1] if title else "", int(ends[1]) if ends else 0, code))
    return found


def lines_of(code: str) -> Iterator[list[str]]:
    """The words of each command of a shell block, lines that go on joined."""
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def parameters() -> Iterator[Any]:
    for page in PAGES:
        if page.name not in ELSEWHERE and any(block.runs for block in blocks(page)):
            yield pytest.param(page, id=name(page), marks=pytest.mark.slow if name(page) in SLOW else ())


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages begin from."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("docs")
    (folder / "my_model.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, 3, 8, 6)).astype(np.float32)
    np.savez(folder / "samples.npz", input=images)
    np.savez(folder / "test.npz", input=images, labels=rng.integers(0, 4, 16))
    np.savez(folder / "nhwc.npz", input=images.transpose(0, 2, 3, 1))
    np.savez(folder / "nhwc_test.npz", input=images.transpose(0, 2, 3, 1), labels=rng.integers(0, 4, 16))
    np.save(folder / "labels.npy", rng.integers(0, 4, 16))
    edgeqwt.build(
        f"{folder}/my_model.py:create", calibration=folder / "samples.npz", recipe="fast", output=folder / "out"
    )
    shutil.copy(folder / "out/float.tflite", folder)
    edgeqwt.build(folder / "float.tflite", calibration=folder / "nhwc.npz", recipe="plain", output=folder / "plain")
    for copy in ("int8.tflite", "other.tflite"):
        shutil.copy(folder / "plain/model.tflite", folder / copy)
    (folder / "photos").mkdir()
    for i in range(16):
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(folder / f"photos/{i}.png")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.mark.requires("torch", "onnx2tf")
@pytest.mark.parametrize("page", parameters())
def test_blocks_run(
    page: Path, begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(begun, tmp_path / "page", symlinks=True)
    if "float.tflite" in page.read_text(encoding="utf-8") and page.parent != ROOT:  # samples are in that file's layout
        shutil.copy(folder / "nhwc.npz", folder / "samples.npz")
        shutil.copy(folder / "nhwc_test.npz", folder / "test.npz")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    before, namespace, printed = set(sys.modules), {"__name__": "page"}, ""
    for number, block in enumerate(blocks(page)):
        where = f"{name(page)}, block {number}"
        if block.title and not block.title.startswith(NOT_RUN):
            Path(block.title).write_text(block.code)
        if block.language == "text" and printed:
            compared(block, printed, where)
        if not block.runs:
            continue
        capsys.readouterr()
        if block.language == "python":
            exec(compile(block.code, where, "exec"), namespace)
        else:
            for program, *arguments in lines_of(block.code):
                assert program == "edgeqwt", f"{where}: only edgeqwt runs here; say 'Not run' and why in its title"
                code = cli.run(arguments)
                assert code == block.exit_code, f"{where}: {arguments}\n{''.join(capsys.readouterr())[-3000:]}"
        printed = capsys.readouterr().out
    for module in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


def compared(block: Block, printed: str, where: str) -> None:
    """What a page says is printed: all of it behind python, how lines begin behind commands."""
    if block.code == printed:
        return
    begins = {line[:12].strip() for line in printed.splitlines()}
    assert {line[:12].strip() for line in block.code.splitlines() if line.strip(" .")} <= begins, f"{where}\n{printed}"


def test_the_other_pages_have_tests() -> None:
    assert all((ROOT / "tests" / folder / "test_docs.py").is_file() for folder in ELSEWHERE.values())
    assert set(ELSEWHERE) <= {page.name for page in PAGES}
    assert {name(page) for page in PAGES} >= SLOW


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        known = block.language in ("python", "sh", "toml", "text", "json", "js")
        assert known, f"{name(page)}: write a language behind ```, such as sh or text: {block.code[:80]!r}"
        if block.language == "toml":
            tomllib.loads(block.code)
        if block.language == "js":
            assert block.title.startswith(NOT_RUN)
        if block.title.startswith(NOT_RUN):
            assert re.match(rf"{NOT_RUN} by the tests( of documentation)?: .{{10,}}", block.title), block.title


def test_commands_name_options_that_exist() -> None:
    known = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    shown = [
        (page, words)
        for page in PAGES
        for block in blocks(page)
        if block.language == "sh"
        for words in lines_of(block.code)
        if words[0] == "edgeqwt"
    ]
    assert len(shown) >= 40
    for page, (_, command, *words) in shown:
        parts = (known[command], *getattr(known[command], "commands", {}).values())
        found = [parameter for part in parts for parameter in part.params]
        options = {option for parameter in found for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= options, page


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target
