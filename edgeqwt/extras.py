"""Packages that are not always there: which command installs them, as an error that says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import MappingProxyType

from edgeqwt.errors import ToolError

CONVERT, ONNX = "pip install 'edgeqwt[convert]'", "pip install 'edgeqwt[onnx]'"
MICRO = "It has wheels for Linux on x86-64 alone, where it comes with edgeqwt: pip install edgeqwt."
PACKAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "torch": ("torch", f"Install it: {CONVERT}."),
        "onnx": ("onnx", f"Install it: {ONNX}."),
        "onnx2tf": ("onnx2tf", f"Install it: {ONNX}."),
        "onnxruntime": ("onnxruntime", f"Install it: {ONNX}."),
        "tflite_micro": ("tflite-micro", MICRO),
        "model_explorer": (
            "ai-edge-model-explorer",
            "Install it: pip install ai-edge-model-explorer; or open model.tflite in one that is installed elsewhere, "
            "and load the files of the folder model_explorer as its node data.",
        ),
        "pandas": ("pandas", "Install it: pip install pandas."),
        "ray": ("ray", "Install it on every machine of the cluster: pip install 'edgeqwt[ray]'."),
        "ethosu": ("ethos-u-vela", "Install it: pip install 'edgeqwt[vela]'."),
        "tensorflow": (
            "tensorflow",
            "Install it: pip install 'edgeqwt[tensorflow]', or `edgeqwt tools install tensorflow`.",
        ),
    }
)
"""By the name that is imported: the distribution, and what to do."""
NO_GRADIENTS = f"gradients need torch, which is not installed ({CONVERT})"


class MissingPackageError(ToolError):
    """A package that is needed is not installed.

    Args:
        module: a key of PACKAGES.
    """

    def __init__(self, module: str) -> None:
        package, hint = PACKAGES[module]
        super().__init__(package, None, "", hint)
        self.message = f"the package {package} is needed, which is not installed"
        self.args = (self.message,)


def versions_of(*packages: str) -> dict[str, str]:
    """Versions of installed packages; those that are not installed are left out."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def need(*modules: str) -> None:
    """Raises MissingPackageError for the first of the modules that is not there."""
    for module in modules:
        if find_spec(module) is None:
            raise MissingPackageError(module)


def missing_package(error: BaseException) -> MissingPackageError | None:
    """What a failed import means, where it is one of an optional package."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return MissingPackageError(name) if name in PACKAGES else None


@contextmanager
def optional() -> Iterator[None]:
    """Turns the failed import of an optional package into a MissingPackageError.

    Raises:
        MissingPackageError: one is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        raise missing from error
