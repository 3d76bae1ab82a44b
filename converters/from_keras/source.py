"""Keras models and SavedModels as sources: running and converting them, in TensorFlow's own environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.children import limit_memory
from edgeqwt.converters import child
from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import InputError, ToolError
from edgeqwt.graph.graph import Array
from edgeqwt.loading import is_trusted

CHILD = Path(__file__).with_name("child.py")
FILES = (".keras", ".h5", ".hdf5")
EXPORT = "Export a SavedModel (model.export), which holds the graph alone; or: "
TRUST = (
    "Give --trust if you know who made it, with the modules of its own layers beside the file: their code runs then."
)
HINTS = (
    (
        r"[Nn]o model config|in_metadata|metadata\.json|config\.json",
        "It holds weights alone, or is no Keras file. Make the model in Python, call load_weights, and save all of it: "
        "model.save('model.keras').",
    ),
    (
        r"BadZipFile|file signature not found|truncated file|DecodeError|Unable to (synchronously )?open file",
        "The file is damaged, cut short, or of another kind: save it again with model.save, and copy all of it.",
    ),
    (
        r"has no defined (inputs|outputs)|Layer count mismatch",
        "A layer of its own or a Lambda layer does not say its output's shape, or needs names that the file does not "
        "hold. Export a SavedModel (model.export), which holds the graph.",
    ),
    (
        r"Unknown (layer|object)|[Cc]ould not (locate|be) (class|deserialized)",
        "Export a SavedModel where its classes are defined (model.export), which holds the graph alone; or put a "
        "Python file that defines them beside the model, and give --trust: their code runs then.",
    ),
)
"""What errors of Keras' mean for the person who has the file: a pattern of the message, and what to do."""
MEMORY, THREADS, GROWTH = 16 << 30, 256 << 20, 64
"""Bytes of address space that TensorFlow may use, most of which it never touches: in all, for the threads of each
processor, and for each of a model's."""


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in (path, *path.rglob("*")) if part.is_file())


def is_saved_model(path: Path) -> bool:
    """Whether a folder is a SavedModel."""
    return (path / "saved_model.pb").is_file()


@dataclass(frozen=True, eq=False)
class KerasModel:
    """A model in a process of TensorFlow's, which ends with this object.

    Attributes:
        path: of the file or folder.
        inputs: by the model's names; None for dimensions that are open.
        outputs: their names.
        version: of TensorFlow.
        process: see `child`.
        folder: for arrays that go to and fro.
        log: what TensorFlow says.
    """

    path: Path
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    version: str
    process: subprocess.Popen[str]
    folder: Path
    log: Path

    @staticmethod
    def open(path: Path, python: str, log: Path) -> KerasModel:
        """Loads a model.

        Args:
            path: of a .keras or .h5 file, or a SavedModel's folder.
            python: an interpreter that has TensorFlow.
            log: what TensorFlow says is written to it.

        Raises:
            InputError: TensorFlow does not read it.
            ToolError: TensorFlow does not run.
        """
        temporary = TemporaryFolder()
        try:
            with log.open("wb") as said:
                process = subprocess.Popen(
                    [python, "-P", str(CHILD), str(path.absolute()), *(["trusted"] if is_trusted() else [])],
                    env=child.environment(python) | {"TMPDIR": str(temporary.path)},  # what it leaves goes with ours
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    text=True,
                    start_new_session=True,  # Ctrl-C is for this process, which then ends that one
                )
        except OSError as error:
            temporary.cleanup()
            raise ToolError("tensorflow", None, str(error), f"{python} does not run.") from error
        limit_memory(process.pid, MEMORY + THREADS * (os.cpu_count() or 1) + GROWTH * _size(path))
        try:
            reply = _ask(process, {"do": "describe"}, path, log)
        except BaseException:
            _end(process, temporary)
            raise
        inputs = tuple(InputSpec(s["name"], tuple(s["shape"]), s["dtype"]) for s in reply["inputs"])
        model = KerasModel(path, inputs, tuple(reply["outputs"]), reply["version"], process, temporary.path, log)
        weakref.finalize(model, _end, process, temporary)
        return model

    def run(self, sample: Sample) -> dict[str, Array]:
        """One sample's outputs by name.

        Raises:
            InputError: the model fails on it.
        """
        given, found = self.folder / "inputs.npz", self.folder / "outputs.npz"
        self._save(sample, given)
        _ask(self.process, {"do": "run", "inputs": str(given), "outputs": str(found)}, self.path, self.log)
        with np.load(found) as archive:
            return {name: archive[f"v{i}"] for i, name in enumerate(self.outputs)}

    def convert(self, sample: Sample, file: Path) -> None:
        """Writes a float TFLite file for inputs of a sample's shapes.

        Raises:
            InputError: TensorFlow's converter fails.
        """
        given = self.folder / "inputs.npz"
        self._save(sample, given)
        _ask(self.process, {"do": "convert", "inputs": str(given), "tflite": str(file)}, self.path, self.log)

    def _save(self, sample: Sample, path: Path) -> None:
        arrays: Mapping[str, Any] = {s.name: np.asarray(sample[s.name], np.dtype(s.dtype)) for s in self.inputs}
        np.savez(path, **arrays)


def _ask(process: subprocess.Popen[str], request: Mapping[str, str], path: Path, log: Path) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        raise ToolError("tensorflow", process.wait(), child.tail(log), f"It ended while it had {path}.")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        reason = " ".join(str(answer["error"]).split())[:400]
        what = {"describe": "load", "run": "run", "convert": "convert"}[request["do"]]
        hint = answer["hint"] or _said_of(reason) or (TRUST if path.is_dir() else EXPORT + TRUST)
        if "not loaded: " in reason and what == "load":
            raise InputError(f"{path} is {reason[reason.index('not loaded: ') :]}", hint)
        raise InputError(f"TensorFlow cannot {what} {path}: {reason}", hint if what == "load" else answer["hint"])
    return answer


def _said_of(reason: str) -> str:
    """What to do about an error of TensorFlow's that says what is wrong with the file; empty of others."""
    return next((hint for pattern, hint in HINTS if re.search(pattern, reason)), "")


def _end(process: subprocess.Popen[str], folder: TemporaryFolder) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    folder.cleanup()
