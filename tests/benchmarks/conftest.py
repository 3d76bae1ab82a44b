from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """benchmarks/NAME.py as its command sees it: with its own folder importable."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module
