"""Every command in an environment that has edgeqwt and nothing that is optional, run as a program of its own.

    python installed.py [COMMAND...]

The command is how edgeqwt is called there; by default the one beside the interpreter. What is written goes into the
working folder. `tests/test_installed.py` makes such an environment.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

MODEL, SAMPLES, LABELLED = "float.tflite", "samples.npz", "labelled.npz"
BUILD = ("build", MODEL, "-c", SAMPLES, "-o")
MICRO, TORCH, VELA = (
    ("the package tflite-micro is", "pip install edgeqwt"),
    ("torch", "edgeqwt[convert]"),
    "edgeqwt[vela]",
)
ALWAYS: tuple[tuple[tuple[str, ...], int, tuple[str, ...]], ...] = (
    (("--version",), 0, ("edgeqwt",)),
    (("--help",), 0, ("build", "check")),
    ((*BUILD, "out"), 0, ("kept", "files")),
    ((*BUILD, "fast", "--recipe", "fast", "--evaluation", LABELLED), 0, ("top1",)),
    ((*BUILD, "w4", "--precision", "w4a8"), 0, ("kept",)),
    ((*BUILD, "int8-only", "--recipe", "int8-only"), 0, ("kept",)),
    (("check", "out/model.tflite", "--target", "tflite"), 0, ()),
    (("check", "out/model.tflite", "--target", "ethos-u55-128"), 0, ()),
    (("compare", MODEL, "out/model.tflite", "-c", SAMPLES), 0, ("SQNR",)),
    (("evaluate", MODEL, "out/model.tflite", "--data", LABELLED), 0, ("accuracy",)),
    (("inspect", "out/model.tflite"), 0, ("CONV_2D",)),
    (("compensate", "out/model.tflite", "--reference", MODEL, "-c", SAMPLES, "-o", "c.tflite"), 0, ("kept",)),
    (("bench", "out/model.tflite", "--on", "host"), 0, ("latency_min", "node 0")),
    (("targets",), 0, ("tflm-cortex-m55",)),
    (("tools",), 0, ("onnx2tf", "not installed")),
    (("build", "model.keras", "-c", SAMPLES, "-o", "x"), 5, ("edgeqwt tools install tensorflow",)),
)
"""Arguments, exit code, words in what is printed; whatever is installed besides."""
WITHOUT: dict[str, tuple[tuple[tuple[str, ...], int, tuple[str, ...]], ...]] = {
    "torch": (
        ((*BUILD, "again", "--overwrite"), 0, ("gradients need torch, which is not installed (pip install",)),
        ((*BUILD, "x", "--recipe", "best"), 2, TORCH),
        (("build", "model.pt2", "-c", SAMPLES, "-o", "x"), 5, TORCH),
        (("build", "model.py:create", "-c", SAMPLES, "-o", "x"), 5, TORCH),
    ),
    "onnx": ((("build", "model.onnx", "-c", SAMPLES, "-o", "x"), 5, ("the package onnx is needed", "edgeqwt[onnx]")),),
    "ethosu": (
        ((*BUILD, "x", "--target", "ethos-u55-128"), 5, (VELA,)),
        (("bench", "out/model.tflite", "--on", "ethos-u55-128"), 5, (VELA,)),
    ),
    "tflite_micro": (
        ((*BUILD, "x", "--target", "tflm"), 5, MICRO),
        (("bench", "out/model.tflite", "--on", "tflm"), 5, MICRO),
        (("check", "out/model.tflite", "--target", "tflm"), 0, MICRO),
        ((*BUILD, "again", "--overwrite"), 0, ("TFLite Micro", "the package tflite-micro is needed, which is not")),
    ),
}
"""The same where a module is not there."""


def prepare() -> None:
    """Writes the model, its samples, and sources that need what is not there."""
    from edgeqwt.graph import flatbuffer
    from edgeqwt.graph.graph import Graph, Op, Tensor

    chance = np.random.default_rng(0)
    tensors = (
        Tensor("image", (1, 8, 8, 3), "float32"),
        Tensor("filter", (6, 3, 3, 3), "float32", data=chance.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32)),
        Tensor("bias", (6,), "float32", data=chance.normal(0, 1, 6).astype(np.float32)),
        Tensor("features", (1, 8, 8, 6), "float32"),
        Tensor("axes", (2,), "int32", data=np.array([1, 2], np.int32)),
        Tensor("classes", (1, 6), "float32"),
    )
    options = {
        "padding": "SAME", "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1,
        "fusedActivationFunction": "RELU",
    }  # fmt: skip
    ops = (
        Op("CONV_2D", (0, 1, 2), (3,), options, 1),
        Op("MEAN", (3, 4), (5,), {"keepDims": False}, 1),
    )
    flatbuffer.write(Graph(tensors, ops, (0,), (5,)), Path(MODEL))
    images = chance.normal(0, 1, (48, 8, 8, 3)).astype(np.float32)
    np.savez(SAMPLES, image=images)
    np.savez(LABELLED, image=images[:8], labels=np.arange(8) % 6)
    for name in ("model.pt2", "model.onnx", "model.keras"):
        Path(name).write_bytes(b"a model")
    Path("model.py").write_text("def create():\n    return 1\n")


def main(command: list[str]) -> None:
    """Runs all that applies, says what came out otherwise, and ends with status 1 then."""
    prepare()
    missing = [module for module in WITHOUT if importlib.util.find_spec(module) is None]
    wrong = 0
    for arguments, code, words in (*ALWAYS, *(case for module in missing for case in WITHOUT[module])):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
        said = " ".join((done.stdout + done.stderr).split())
        if done.returncode != code or not all(word in said for word in words):
            wrong += 1
            print(f"edgeqwt {' '.join(arguments)}\n  exit code {done.returncode}, not {code}: {said[-600:]}")
    print(f"{len(missing)} of {len(WITHOUT)} packages are missing: {', '.join(missing)}; {wrong} commands went wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(sys.argv[1:] or [str(Path(sys.executable).with_name("edgeqwt"))])
