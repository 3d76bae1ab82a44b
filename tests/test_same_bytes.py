"""The same source, samples and recipe give the same files: on other cores, threads, hash seeds and in other folders."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests import small
from tests.small import tree

VARIANTS = {
    "one core": {"cores": 1, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
    "more threads than cores": {"OMP_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "3", "PYTHONHASHSEED": "4242"},
}


def built(folder: Path, variant: dict[str, object], recipe: str) -> dict[str, bytes | None]:
    """Everything that a build leaves, without the report's times."""
    shutil.copytree(folder.parent / "files", folder)
    cores = sorted(os.sched_getaffinity(0))[: int(str(variant.get("cores", 99)))]
    variables = {name: str(value) for name, value in variant.items() if name != "cores"}
    arguments = ["build", "float.tflite", "-c", "samples.npz", "-o", "out", "--recipe", recipe, "-q"]
    command = small.process(arguments, folder, variables=variables, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    assert command.communicate()[1] == ""
    found = tree(folder / "out")
    report = json.loads(found.pop("report.json") or b"")
    details = json.loads(found.pop("details.json") or b"")
    details["origin"] = [row for row in details["origin"] if row[0] != "time"]
    # The manifest has the report's hash, and the page shows all of it.
    del report["seconds"], report["peak_mib"], report["layer_costs"], found["edgeqwt.sha256"], found["report.html"]
    return {**found, "report.json": json.dumps(report).encode(), "details.json": json.dumps(details).encode()}


@pytest.mark.skipif(sys.platform != "linux", reason="cores are set as on Linux")
def test_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    small.write(tmp_path / "files")
    first, *others = (
        built(tmp_path / ("place" * (k + 1)), variant, "balanced") for k, variant in enumerate(VARIANTS.values())
    )
    assert len(first) > 4
    for name, other in zip(list(VARIANTS)[1:], others, strict=True):
        assert {k for k in first | other if first.get(k) != other.get(k)} == set(), name
