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
POSITIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softplus", "Abs", "Exp", "Softmax"})
"""Ops whose values are at least 0."""


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
    skipped = ("--skip-optimization", "fuse_pad_into_pool") if zeros_around_max_pools(model) else ()
    for _ in range(ROUNDS):
        sys.argv = ["onnxsim", str(model), str(new), *skipped]
        onnx_simplifier.main()
        same = new.read_bytes() == model.read_bytes()
        os.replace(new, model)
        if same:
            return


def zeros_around_max_pools(model: Path) -> bool:
    """Whether a max pool reads a Pad of values that may be negative.

    onnxsim takes such a Pad into the pool, around whose map is the lowest number then, and no longer zeros. Ports of
    EfficientDet pad so: `F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)`.
    """
    import onnx

    nodes = onnx.load(model, load_external_data=False).graph.node
    made = {name: node for node in nodes for name in node.output}
    padded = [made[node.input[0]] for node in nodes if node.op_type == "MaxPool" and node.input[0] in made]
    before = [made.get(node.input[0]) for node in padded if node.op_type == "Pad"]
    return any(node is None or node.op_type not in POSITIVE for node in before)


if __name__ == "__main__":
    main(*sys.argv[1:])
