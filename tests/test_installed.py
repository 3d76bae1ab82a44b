"""A wheel of edgeqwt in an environment that has nothing optional: every command works, or says what to install."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files that git knows, somewhere else: setuptools leaves a folder beside what it builds."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    copy = ["git", "checkout-index", "--all", f"--prefix={folder}/source/"]
    if subprocess.run(copy, cwd=ROOT, capture_output=True).returncode != 0:
        pytest.skip("this is no git checkout")
    build = ["-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", "."]
    subprocess.run([sys.executable, *build, "./source"], cwd=folder, check=True)
    (found,) = folder.glob("*.whl")
    return found


def needed(name: str, seen: dict[str, Distribution]) -> Iterator[Distribution]:
    """The distributions that one needs without extras, itself included."""
    from packaging.requirements import Requirement

    if name in seen:
        return
    seen[name] = distribution(name)
    yield seen[name]
    for text in seen[name].requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from needed(requirement.name, seen)


def environment(folder: Path, wheel: Path, without: str) -> Path:
    """Makes an environment with the wheel and what it needs; returns its interpreter. No network is needed.

    What this environment has is linked; nothing else of it can be imported.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for part in needed("edgeqwt", {}):
        for file in part.files or []:
            if file.parts[0] not in ("..", "__pycache__") and part.name not in ("edgeqwt", without):
                link = site / file.parts[0]
                if not link.exists():
                    link.symlink_to(Path(str(part.locate_file(file.parts[0]))))
    install = ["-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, *install, str(wheel)], check=True)
    return folder / "bin" / "python"


@pytest.mark.slow
def test_every_command_where_no_tflite_micro_is(tmp_path: Path, wheel: Path) -> None:
    """`make release-check` does the same where it is there."""
    python = environment(tmp_path / "environment", wheel, without="tflite_micro")
    (tmp_path / "work").mkdir()
    command = [str(python), "-I", str(ROOT / "tests" / "installed.py")]
    done = subprocess.run(command, cwd=tmp_path / "work", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 packages are missing" in done.stdout
