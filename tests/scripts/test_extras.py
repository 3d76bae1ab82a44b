"""The sizes in docs/how-to/install.md are those of what is installed."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
NOT_LISTED = {"dev", "demo", "minilm"}  # developers' tools, and two small packages that their pages name


def test_the_table_has_every_extra_and_its_size() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "extras.py"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    written = {
        name: int(size.replace(",", "")) for name, size in re.findall(r"^\| `?(\w+)`? \|.*?\| ([\d,]+)", page, re.M)
    }
    assert written.keys() == {"none", *project["optional-dependencies"]} - NOT_LISTED
    base, missing = script["closure"](map(Requirement, project["dependencies"]))
    vela, _ = script["closure"](script["required"]("vela", project["optional-dependencies"]))
    assert not missing
    # Files that are compiled at first use come and go: some percent.
    assert abs(script["megabytes"](base) - written["none"]) <= 0.2 * written["none"]
    assert abs(script["megabytes"](vela - base) - written["vela"]) <= 0.5 * written["vela"]


def test_what_only_gpus_need_is_told_by_names() -> None:
    gpu = runpy.run_path(str(ROOT / "scripts" / "extras.py"))["GPU"]
    assert all(map(gpu.match, ("nvidia-cublas", "cuda-toolkit", "triton", "torch/lib/libtorch_cuda_linalg.so")))
    assert not any(map(gpu.match, ("torch", "torch/lib/libtorch_cpu.so", "tritonclient")))
