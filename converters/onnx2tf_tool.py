"""Runs onnx2tf as a subprocess: ONNX to float TFLite.

A subprocess, because onnx2tf reseeds the process's random generators when it is imported,
pins its dependencies (so it may have to live in an environment of its own), and can be stopped.
It rewrites the ONNX file that it is given, so it is given a copy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeqwt.converters import child
from edgeqwt.converters.cache import Cache, key_of
from edgeqwt.converters.onnx2tf_child import FLATBUFFER
from edgeqwt.errors import ToolError
from edgeqwt.extras import ONNX

PYTHON_VARIABLE = "EDGEQWT_ONNX2TF_PYTHON"
"""Environment variable: the Python interpreter that has onnx2tf, when it is not the running one."""
TENSORFLOW = "tf_converter"
"""The backend that goes through TensorFlow."""
INSTALL = f"Install onnx2tf 2.6.9 ({ONNX}), or set {PYTHON_VARIABLE} to a Python that has it."
CHILD = Path(__file__).with_name("onnx2tf_child.py")
UNSIMPLIFIED = "Failed to optimize the onnx file"


@dataclass(frozen=True)
class Conversion:
    """What onnx2tf left behind.

    Attributes:
        tflite: the float32 model.
        log: everything that onnx2tf printed.
        version: onnx2tf's.
        sources: TFLite tensor name to the ONNX values that it carries, in the order of the ONNX
            nodes (several, where ops were fused); names as onnx2tf spells them, see `spelled`.
        simplified: whether onnxsim could simplify the model first.
        cached: whether an earlier run on the same file left it.
    """

    tflite: Path
    log: Path
    version: str
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    simplified: bool = True
    cached: bool = False


def spelled(name: str) -> str:
    """An ONNX name as onnx2tf writes it into the TFLite file."""
    return re.sub("^/", "wa/", name.replace(":", "__"))


def find_python(chosen: str | None) -> str:
    """The interpreter for onnx2tf: the argument, else the environment variable, else the running one.

    Raises:
        ToolError: there is no such program.
    """
    name = chosen or os.environ.get(PYTHON_VARIABLE) or sys.executable
    found = shutil.which(os.path.expanduser(name))
    if found is None:
        raise ToolError(name, None, "", f"There is no such Python interpreter. {INSTALL}")
    # Not resolved: a virtual environment's interpreter is a link, and its place is what makes it one.
    return os.path.abspath(found)


def run_onnx2tf(
    onnx_file: Path, workdir: Path, python: str | None = None, *, backend: str = FLATBUFFER, cache: Cache | None = None
) -> Conversion:
    """Converts an ONNX model with static shapes to float32 TFLite.

    Args:
        onnx_file: left as it is.
        workdir: everything is written below it.
        python: see `find_python`.
        backend: of onnx2tf.
        cache: where runs are kept; None: nowhere.

    Raises:
        ToolError: onnx2tf is missing, fails, or leaves no model.
    """
    python = find_python(python)
    folder = workdir / "onnx2tf"
    log = workdir / "onnx2tf.log"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    variables = child.environment(python)
    version = _version(python, variables)
    copy, tflite = folder / "model.onnx", folder / "out" / "model_float32.tflite"
    options = ("-o", "out", "-tb", backend, "-v", "info")
    key = "" if cache is None else key_of(onnx_file, python, CHILD.read_text("utf-8"), *options)
    if cache is not None and cache.restore(key, workdir):
        return _conversion(tflite, log, version, cached=True)
    shutil.copyfile(onnx_file, copy)
    status = child.run_logged([python, "-P", str(CHILD), copy.name, *options], folder, variables, log)
    if status < 0:  # a crash of onnxsim's, without which onnx2tf may go on
        shutil.copyfile(onnx_file, copy)
        status = child.run_logged([python, "-m", "onnx2tf", "-i", copy.name, *options], folder, variables, log)
    if status != 0 or not tflite.is_file():
        hint = (
            "If an op is not supported, replace it, or cut the model before it. "
            f"--work FOLDER keeps the whole log, as {log.name}."
        )
        raise ToolError("onnx2tf", status, child.tail(log), hint)
    if cache is not None:
        cache.keep(key, workdir, (tflite, log, *_reports(tflite.parent)))
    return _conversion(tflite, log, version)


# -- the child process -------------------------------------------------------------


def _version(python: str, variables: Mapping[str, str]) -> str:
    script = "import importlib.metadata as m; print(m.version('onnx2tf'))"
    try:
        done = subprocess.run([python, "-c", script], env=dict(variables), capture_output=True, text=True)
    except OSError as error:
        raise ToolError(python, None, str(error), INSTALL) from error
    if done.returncode != 0:
        raise ToolError(f"{python} -m onnx2tf", None, done.stderr.strip(), f"It has no onnx2tf. {INSTALL}")
    if shutil.which("onnxsim", path=variables["PATH"]) is None:
        raise ToolError("onnxsim", None, "", f"onnx2tf needs the program onnxsim beside it. {INSTALL}")
    return done.stdout.strip()


# -- what it wrote -----------------------------------------------------------------


def _conversion(tflite: Path, log: Path, version: str, cached: bool = False) -> Conversion:
    simplified = UNSIMPLIFIED not in log.read_text("utf-8")
    return Conversion(tflite, log, version, _sources(tflite.parent), simplified, cached)


def _reports(folder: Path) -> list[Path]:
    return sorted(folder.glob("*_tensor_correspondence_report.json"))


def _sources(folder: Path) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for report in _reports(folder):
        for record in json.loads(report.read_text("utf-8"))["records"]:
            # "inferred" is a guess through later ops: the tensor that it names holds another value.
            if record["exists_in_final_model"] and record["status"] != "inferred":
                found.setdefault(record["resolved_tflite_tensor_name"], []).append(record["onnx_output_name"])
    return {name: tuple(values) for name, values in found.items()}
