"""What gradients take of memory, with torch and without."""

from __future__ import annotations

import sys

import pytest

from edgeqwt.autograd import memory as module
from edgeqwt.prepare.prepare import prepare
from tests.prepare import toy


def test_memory_counts_torch_until_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = prepare(toy.vision(1)).graph
    monkeypatch.setitem(sys.modules, "torch", sys)
    loaded = module.memory(graph)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    assert module.memory(graph) == loaded + module.TORCH
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module.memory(graph) == loaded
