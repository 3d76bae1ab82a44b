"""The public names, and what importing them costs."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys

import pytest

import edgeqwt
from tests.small import ROOT

HEAVY = (
    "PIL", "ai_edge_litert", "flatbuffers", "numpy", "onnx", "onnxruntime", "rich", "scipy", "tensorflow",
    "tflite_micro", "torch",
)  # fmt: skip


def test_public_names() -> None:
    # Python puts an imported submodule into its package's namespace: one named as a public function would hide it.
    assert not set(edgeqwt.__all__) & {module.name for module in pkgutil.iter_modules(edgeqwt.__path__)}
    assert dir(edgeqwt) == edgeqwt.__all__ == [
        "BenchOptions", "BenchResult", "Budget", "BuildResult", "Comparison", "CompensationResult",
        "ConversionError", "Deciding", "EdgeqwtError", "Finding", "ImageOptions", "InputError", "InputSpec",
        "Interface", "InvariantError", "Job", "Mixed", "Observations", "PageOptions", "ParityError", "Pixels",
        "Precision", "QualityError", "Recipe", "RecipeError", "Samples", "Scores", "Study", "Sweep",
        "TargetError", "TargetProfile", "ToolError", "UnsupportedError", "__version__", "bench", "build", "bundle_demo",
        "check", "compare", "compensate", "demo_assets", "evaluate", "export", "inspect", "install_tool", "load_recipe",
        "open_job", "open_samples", "pareto", "progress_display", "recipes", "serve_demo", "study", "sweep", "targets",
        "tools",
    ]  # fmt: skip
    assert edgeqwt.__version__ == "0.1.0"
    assert [recipe.name for recipe in edgeqwt.recipes()] == ["balanced", "best", "fast", "int8-only", "plain"]
    assert edgeqwt.load_recipe("fast") == edgeqwt.recipes()[2]


def test_public_names_are_explained() -> None:
    kinds = [(name, value) for name in edgeqwt.__all__ if callable(value := getattr(edgeqwt, name))]
    bare = [name for name, value in kinds if not vars(value).get("__doc__", value.__doc__)]
    methods = [
        f"{name}.{key}"
        for name, value in kinds
        if isinstance(value, type)
        for key, member in vars(value).items()
        if not key.startswith("_") and (isinstance(member, property) or callable(member)) and not member.__doc__
    ]
    assert bare + methods == []


def test_examples_and_docs_import_public_names_alone() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/*.py"), ROOT / "README.md"]
    imports = {
        name for page in pages for name in re.findall(r"^from (edgeqwt[\w.]*) import", page.read_text("utf-8"), re.M)
    }
    # What techniques are made of, and what only those need who convert or bind by themselves.
    inner = ("edgeqwt.techniques.", "edgeqwt.passes.", "edgeqwt.graph.", "edgeqwt.converters", "edgeqwt.calibration.")
    assert {name for name in imports if not name.startswith(inner)} == {"edgeqwt"}


def test_build_stays_a_function_after_the_pipeline_was_imported() -> None:
    # A submodule named like a function would take its place in the package on import.
    import edgeqwt.api
    import edgeqwt.pipeline

    assert all(callable(getattr(edgeqwt, name)) for name in edgeqwt.__all__ if name != "__version__")


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = edgeqwt.quantise


def imported_by(code: str) -> list[str]:
    """Names of all modules that a fresh Python has after running the code."""
    script = f"import sys\n{code}\nprint('\\n' + '\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_importing_the_package_imports_nothing_else() -> None:
    assert [name for name in imported_by("import edgeqwt") if name.split(".")[0] in ("edgeqwt", *HEAVY)] == ["edgeqwt"]


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["build", "--samples", "0"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    modules = imported_by(f"from edgeqwt import cli; cli.run({arguments!r})")
    assert not [name for name in modules if name.split(".")[0] in HEAVY]
    own = [name for name in modules if name.startswith("edgeqwt") and not name.startswith("edgeqwt.commands")]
    # What a process needs to end well, and to say so.
    light = {
        "signals",
        "disk",
        "children",
        "loading",
        "guard",
        "extras",
        "invocation",
        "output",
        "progress",
        "regular_files",
    }
    assert {*own} - {f"edgeqwt.{name}" for name in light} == {"edgeqwt", "edgeqwt.errors", "edgeqwt.cli"}


@pytest.mark.parametrize("module", ["edgeqwt.api", "edgeqwt.pipeline"])
def test_the_api_itself_needs_numpy_alone(module: str) -> None:
    modules = {name.split(".")[0] for name in imported_by(f"import {module}")}
    assert modules & set(HEAVY) <= {"numpy", "flatbuffers"}
