"""Where an optional package is missing, the error says what to install; what can be done without it is done."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgeqwt import extras
from edgeqwt.converters.convert import convert
from edgeqwt.runtime.arena import measure_arena
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.verify.bitexact import compare_runtimes
from tests import small
from tests.small import Command, Small


@pytest.fixture
def files(tmp_path: Path) -> Small:
    return small.write(tmp_path)


@pytest.fixture
def edgeqwt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return small.command(tmp_path, monkeypatch, capsys)


def absent(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As where a package is not installed: what imported it before has to be imported again, too."""
    monkeypatch.setitem(sys.modules, package, None)
    for name, module in [*sys.modules.items()]:
        if name.startswith("edgeqwt.") and package in vars(module):
            parent, _, child = name.rpartition(".")
            monkeypatch.delitem(sys.modules, name)
            monkeypatch.delattr(sys.modules[parent], child)


def test_an_import_that_failed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(extras.MissingPackageError, match="the package torch is needed") as caught, extras.optional():
        import torch  # noqa: F401
    assert extras.CONVERT in caught.value.hint
    with pytest.raises(extras.MissingPackageError, match="torch"):
        extras.need("numpy", "torch")
    with pytest.raises(ModuleNotFoundError), extras.optional():
        import no_such_module  # noqa: F401
    assert extras.missing_package(ModuleNotFoundError("x", name="torch.nn")) is not None
    assert extras.missing_package(ValueError()) is None


@pytest.mark.parametrize(
    ("model", "package", "extra"),
    [
        ("model.py:create", "torch", extras.CONVERT),
        ("model.pt2", "torch", extras.CONVERT),
        ("m.onnx", "onnx", extras.ONNX),
    ],
)
def test_sources_that_need_what_is_not_there(
    edgeqwt: Command, files: Small, monkeypatch: pytest.MonkeyPatch, model: str, package: str, extra: str
) -> None:
    Path(model.partition(":")[0]).write_text("def create(): return 1\n")
    absent(monkeypatch, package)
    message = edgeqwt.refused(5, "build", model, "-c", files.samples, "-o", "out")
    assert f"the package {package} is needed, which is not installed" in message
    assert extra in message


def test_targets_that_need_what_is_not_there(edgeqwt: Command, files: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    monkeypatch.setitem(sys.modules, "ethosu", None)
    for target, package in (("tflm", "tflite-micro"), ("ethos-u55-128", "ethos-u-vela")):
        if target == "ethos-u55-128":
            monkeypatch.delitem(sys.modules, "tflite_micro")
        message = edgeqwt.refused(5, "build", files.model, "-c", files.samples, "-o", "out", "--target", target)
        assert f"the package {package} is needed" in message


def test_tflite_micro_is_reported_where_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeqwt.graph import flatbuffer
    from edgeqwt.runtime.subprocess_runners import Host, micro_host

    monkeypatch.setattr(micro_host(), "kinds", set())  # tests before this one have used it
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    graph = small.graph()
    for ask in (
        lambda: RUNNERS["tflm"](graph),
        lambda: Host("TFLite Micro").runner("tflm", graph),
        lambda: measure_arena(flatbuffer.to_bytes(graph)),
    ):
        with pytest.raises(extras.MissingPackageError, match="tflite-micro"):
            ask()
    found = compare_runtimes(graph, [{graph.inputs[0]: small.images(1)}], threads=1)
    assert found.unavailable == "the package tflite-micro is needed, which is not installed"
    assert found.ok
    assert found.ops == 0


def project() -> dict[str, Any]:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)["project"]
    return found


def test_each_hint_names_the_extra_that_brings_the_package() -> None:
    brought = {"onnx": "onnx2tf", "onnxruntime": "onnx2tf"}  # as dependencies of another one
    extra_of = {
        re.split(r"[^\w-]", requirement)[0]: name
        for name, requirements in project()["optional-dependencies"].items()
        for requirement in requirements
        if name != "dev"
    }
    for package, hint in extras.PACKAGES.values():
        named = re.search(r"edgeqwt\[(\w+)\]", hint)
        assert (named and named[1]) == extra_of.get(brought.get(package, package)), package


def test_every_package_is_one_that_can_be_installed() -> None:
    found = project()
    all_of_them = " ".join([*found["dependencies"], *(d for ds in found["optional-dependencies"].values() for d in ds)])
    known = {"onnx", "onnxruntime", "model_explorer", "pandas"}  # which onnx2tf brings, or who has it already
    assert all(package in all_of_them for module, (package, _) in extras.PACKAGES.items() if module not in known)
    micro = next(d for d in found["dependencies"] if d.startswith("tflite-micro"))
    assert micro.endswith("; sys_platform == 'linux' and platform_machine == 'x86_64'")


def test_converters_used_from_python_tell_it_too(files: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeqwt.calibration.sources import open_samples

    (tmp_path / "model.onnx").write_bytes(b"a model")
    absent(monkeypatch, "onnx")
    with pytest.raises(extras.MissingPackageError, match="onnx"):
        convert(tmp_path / "model.onnx", open_samples(files.samples), tmp_path / "work")
