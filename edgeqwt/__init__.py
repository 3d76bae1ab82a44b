"""edgeqwt: PyTorch to proved, compensated full-integer TFLite models.

All that users touch is here; each name is imported on first use, so that `import edgeqwt` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeqwt.api import build
    from edgeqwt.api_files import compare, compensate, evaluate, export, inspect
    from edgeqwt.api_job import open_job
    from edgeqwt.api_study import study
    from edgeqwt.api_targets import bench, check, install_tool, targets, tools
    from edgeqwt.api_web import bundle_demo, demo_assets, serve_demo
    from edgeqwt.benchmark.bench import Options as BenchOptions
    from edgeqwt.benchmark.result import BenchResult
    from edgeqwt.calibration.deciding import Deciding
    from edgeqwt.calibration.images import ImageOptions
    from edgeqwt.calibration.observations import Observations
    from edgeqwt.calibration.samples import InputSpec, Samples
    from edgeqwt.calibration.sources import open_samples
    from edgeqwt.errors import (
        ConversionError,
        EdgeqwtError,
        InputError,
        InvariantError,
        ParityError,
        QualityError,
        RecipeError,
        TargetError,
        ToolError,
        UnsupportedError,
    )
    from edgeqwt.interface.options import Interface, Pixels
    from edgeqwt.job import Job
    from edgeqwt.output import progress_display
    from edgeqwt.pipeline import BuildResult
    from edgeqwt.profile import Budget, Finding, TargetProfile
    from edgeqwt.recipe.recipe import Recipe
    from edgeqwt.recipe.recipe import list_recipes as recipes
    from edgeqwt.recipe.recipe import load as load_recipe
    from edgeqwt.repair import CompensationResult
    from edgeqwt.simulation.study import Study
    from edgeqwt.sweeps.one_model import pareto
    from edgeqwt.sweeps.run import Sweep, sweep
    from edgeqwt.verify.compare import Comparison
    from edgeqwt.verify.scoring import Scores
    from edgeqwt.web.page import PageOptions
    from edgeqwt.widths.precision import Mixed, Precision

_NAMES_BY_MODULE = {
    "api": ("build",),
    "api_files": ("compare", "compensate", "evaluate", "export", "inspect"),
    "api_job": ("open_job",),
    "api_study": ("study",),
    "api_targets": ("bench", "check", "install_tool", "targets", "tools"),
    "api_web": ("bundle_demo", "demo_assets", "serve_demo"),
    "benchmark.bench": ("BenchOptions",),
    "benchmark.result": ("BenchResult",),
    "calibration.deciding": ("Deciding",),
    "calibration.images": ("ImageOptions",),
    "calibration.observations": ("Observations",),
    "calibration.samples": ("InputSpec", "Samples"),
    "calibration.sources": ("open_samples",),
    "errors": (
        "ConversionError", "EdgeqwtError", "InputError", "InvariantError", "ParityError", "QualityError", "RecipeError",
        "TargetError", "ToolError", "UnsupportedError",
    ),
    "job": ("Job",),
    "interface.options": ("Interface", "Pixels"),
    "output": ("progress_display",),
    "pipeline": ("BuildResult",),
    "widths.precision": ("Mixed", "Precision"),
    "recipe.recipe": ("Recipe", "load_recipe", "recipes"),
    "repair": ("CompensationResult",),
    "profile": ("Budget", "Finding", "TargetProfile"),
    "simulation.study": ("Study",),
    "sweeps.one_model": ("pareto",),
    "sweeps.run": ("Sweep", "sweep"),
    "verify.compare": ("Comparison",),
    "verify.scoring": ("Scores",),
    "web.page": ("PageOptions",),
}  # fmt: skip
"""Public names by the module that has them."""
_RENAMED = {"BenchOptions": "Options", "load_recipe": "load", "recipes": "list_recipes"}
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "BenchOptions", "BenchResult", "Budget", "BuildResult", "Comparison", "CompensationResult", "ConversionError",
    "Deciding", "EdgeqwtError", "Finding", "ImageOptions", "InputError", "InputSpec", "Interface",
    "InvariantError", "Job", "Mixed", "Observations", "PageOptions", "ParityError", "Pixels", "Precision",
    "QualityError", "Recipe", "RecipeError", "Samples", "Scores", "Study", "Sweep", "TargetError", "TargetProfile",
    "ToolError", "UnsupportedError", "__version__", "bench", "build", "bundle_demo", "check", "compare", "compensate",
    "demo_assets", "evaluate", "export", "inspect", "install_tool", "load_recipe", "open_job", "open_samples",
    "pareto", "progress_display", "recipes", "serve_demo", "study", "sweep", "targets", "tools",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from edgeqwt.extras import versions_of

        return versions_of("edgeqwt").get("edgeqwt", "0+unknown")  # an uninstalled checkout
    if name in _MODULES:
        return getattr(import_module(f"edgeqwt.{_MODULES[name]}"), _RENAMED.get(name, name))
    raise AttributeError(f"module 'edgeqwt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
