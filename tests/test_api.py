"""The public names, pinned."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgeqwt


def test_public_names() -> None:
    assert edgeqwt.__all__ == ["build", "compare_files", "compensate_file", "inspect_file", "list_targets"]


def test_build_stays_a_function_after_the_pipeline_was_imported() -> None:
    # A submodule named like a function would take its place in the package on import.
    import edgeqwt.api
    import edgeqwt.pipeline  # noqa: F401

    assert all(callable(getattr(edgeqwt, name)) for name in edgeqwt.__all__)


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = edgeqwt.quantise


def test_targets() -> None:
    assert [profile.name for profile in edgeqwt.list_targets()] == ["tflite", "tflm"]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, edgeqwt.cli, typer.main; typer.main.get_command(edgeqwt.cli.app);"
        "print([m for m in ('torch', 'onnx', 'tensorflow', 'ai_edge_litert', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
