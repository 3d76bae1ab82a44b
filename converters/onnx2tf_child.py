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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROUNDS = 3  # onnx2tf's own number
POSITIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softplus", "Abs", "Exp", "Softmax"})
"""Ops whose values are at least 0."""
ON_ELEMENTS = frozenset({"Cast", "Add", "Sub", "Mul", "Div"})
"""What is done to pixels before their axes are moved."""
SPATIAL = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Resize", "LRN"}
    | {"BatchNormalization", "InstanceNormalization", "GroupNormalization", "DepthToSpace", "SpaceToDepth"}
)
"""Ops whose input has its channels at axis 1."""

FLATBUFFER = "flatbuffer_direct"
"""onnx2tf's backend that is used: it needs no TensorFlow, and writes the correspondence report."""


def main(model: str, *options: str) -> None:
    """Simplifies a model in its place, and converts it."""
    import onnx2tf.onnx2tf as tool

    try:
        simplify(Path(model))
    except (Exception, SystemExit):
        traceback.print_exc()
        print("Failed to optimize the onnx file.")  # as onnx2tf says it, and goes on
    kept = channels_last(Path(model))
    if FLATBUFFER in options:
        end_before_float16()
    sys.argv = ["onnx2tf", "-i", model, "-nuo", *options, *(["-kat", *kept] if kept else [])]
    tool.main()


def end_before_float16() -> None:
    """Lets onnx2tf's flatbuffer backend end where it would write the model again, in float16, which nobody reads.

    The float32 file and the report on its tensors are written by then. Of an unrolled recurrent layer, the second file
    takes as long as the first.
    """
    from onnx2tf import tflite_builder

    def end(model: object) -> None:
        sys.stdout.flush()
        raise SystemExit(0)

    if hasattr(tflite_builder, "clone_model_ir_with_float16"):  # another version may have no such step
        tflite_builder.clone_model_ir_with_float16 = end


def simplify(model: Path) -> None:
    """What the program onnxsim makes of a file, in the file's place."""
    new = model.with_suffix(".simple.onnx")
    skipped = ("--skip-optimization", "fuse_pad_into_pool") if zeros_around_max_pools(model) else ()
    try:
        _rounds(model, new, skipped)
    except (Exception, SystemExit):  # its passes may fail on what its folding of constants and its shapes get right
        traceback.print_exc()
        _rounds(model, new, ("--skip-optimization",))


def _rounds(model: Path, new: Path, options: Sequence[str]) -> None:
    """Until there is nothing left to simplify."""
    from onnxsim import onnx_simplifier

    for _ in range(ROUNDS):
        sys.argv = ["onnxsim", str(model), str(new), *options]
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


def channels_last(model: Path) -> list[str]:
    """Inputs whose channels are last already, as a camera gives them: one of their readers moves channels to axis 1.

    onnx2tf takes every input of three and more axes for one with channels first, and would turn these once more. What
    is convolved or pooled as it comes has its channels first, whatever else is done to it.
    """
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {i.name for i in graph.initializer} | {n.output[0] for n in graph.node if n.op_type == "Constant"}

    def reached(name: str) -> Iterator[Any]:
        """What reads a tensor, or what is done to each of its elements before."""
        for node in readers.get(name, []):
            yield from reached(node.output[0]) if node.op_type in ON_ELEMENTS else (node,)

    def moves(node: Any, rank: int) -> bool:
        wanted = [0, rank - 1, *range(1, rank - 1)]
        return node.op_type == "Transpose" and [list(a.ints) for a in node.attribute if a.name == "perm"] == [wanted]

    found = []
    for given in graph.input:
        rank, ends = len(given.type.tensor_type.shape.dim), list(reached(given.name))
        spatial = any(node.op_type in SPATIAL for node in ends)
        if rank > 2 and given.name not in constants and not spatial and any(moves(node, rank) for node in ends):
            found.append(given.name)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
