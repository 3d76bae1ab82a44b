"""Fixtures that every test may use: the real data beside the checkout, and a marker for optional packages."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.converters.tools import FOLDER_VARIABLE, TOOLS, find, how_to_get
from edgeqwt.runtime.vendors import VENDORS


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests of what is not installed (`requires`, `tool`), and slow ones that nobody asked for."""
    if item.get_closest_marker("slow") and "slow" not in item.config.getoption("markexpr"):
        pytest.skip("takes minutes: run it with -m slow")
    needed = [name for marker in item.iter_markers("requires") for name in marker.args]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    for name in [name for marker in item.iter_markers("tool") for name in marker.args]:
        if find(name).version is None:
            pytest.skip(f"no {name}: {how_to_get(name)}")


os.environ["EDGEQWT_CACHE"] = "off"  # tests convert, and leave the user's cache alone


@pytest.fixture(autouse=True)
def _no_other_tools(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converters of other environments stay out of tests that do not ask for them: they are slow."""
    if request.node.get_closest_marker("tool") is None:
        monkeypatch.setenv(FOLDER_VARIABLE, os.devnull)
        for tool in TOOLS.values():
            monkeypatch.delenv(tool.variable or "EDGEQWT_NO_TOOL", raising=False)
        for variable in [name for vendor in VENDORS.values() for name in vendor.variables]:
            monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real models and data: $EDGEQWT_SHARED, or `shared` beside the checkout."""
    named = os.environ.get("EDGEQWT_SHARED")
    if named:
        folder = Path(named)
        if not folder.is_dir():
            pytest.fail(f"EDGEQWT_SHARED={named} is not a folder")
        return folder
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("real models and data are not here: put them in ../shared or name their folder in EDGEQWT_SHARED")
    return folder


@pytest.fixture(scope="session")
def cifar10(shared: Path) -> Mapping[str, npt.NDArray[Any]]:
    """CIFAR-10, read-only: calibration_images and test_images (n, 32, 32, 3) uint8, calibration_labels, test_labels."""
    with np.load(shared / "data" / "cifar10.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


@pytest.fixture(scope="session")
def photos(shared: Path) -> tuple[Path, ...]:
    """300 photographs as JPEG files, shorter side 256."""
    return tuple(sorted((shared / "data" / "photos").glob("*.jpg")))


@pytest.fixture(scope="session")
def mlperf_tiny(shared: Path) -> Path:
    """The folder with MLPerf Tiny's float and int8 reference models."""
    return shared / "models" / "mlperf_tiny"
