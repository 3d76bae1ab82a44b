"""Runs in onnx2tf's environment, as a program: ONNX to TFLite, in the current folder.

    python onnx2tf_child.py MODEL.onnx [options of onnx2tf]

It imports nothing of edgeqwt's, which need not be installed there. `python -m onnx2tf` starts the program `onnxsim`
three times, which takes longer than all else does for a small model. Here it runs in this process, as often, or until
nothing changes.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

ROUNDS = 3  # onnx2tf's own number


def main(model: str, *options: str) -> None:
    """Simplifies a model in its place, and converts it."""
    import onnx2tf.onnx2tf as tool

    try:
        simplify(Path(model))
    except (Exception, SystemExit):
        traceback.print_exc()
        print("Failed to optimize the onnx file.")  # as onnx2tf says it, and goes on
    sys.argv = ["onnx2tf", "-i", model, "-nuo", *options]
    tool.main()


def simplify(model: Path) -> None:
    """What the program onnxsim makes of a file, in the file's place."""
    from onnxsim import onnx_simplifier

    new = model.with_suffix(".simple.onnx")
    for _ in range(ROUNDS):
        sys.argv = ["onnxsim", str(model), str(new)]
        onnx_simplifier.main()
        same = new.read_bytes() == model.read_bytes()
        os.replace(new, model)
        if same:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
