"""What a scale for each position gives at best: a ViT's activations rounded to 8 bits, per tensor and per position.

Weights stay float, every activation is rounded where an op computes it, ranges are those of least squared error. In a
file a scale per position costs a MUL by a constant; here it costs nothing, so that no file can gain more by it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from common import at_hand, cifar10, normalized, show
from models import vit_cifar10
from qualcomm import varying_db

from edgeqwt.calibration.sources import open_samples
from edgeqwt.converters.convert import convert
from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.simulation.quantizers import Fitted, Uniform
from edgeqwt.simulation.simulate import Machine
from edgeqwt.simulation.sites import MOVES, sites

FITTED, JUDGED, BATCH = 256, 1000, 100  # images


def main() -> None:
    """Prints the table."""
    data, model = cifar10(), at_hand(vit_cifar10.create)
    known, new = normalized(data["calibration_images"][:FITTED]), normalized(data["test_images"][:JUDGED])
    with tempfile.TemporaryDirectory() as folder:
        graph = prepare(convert(model, open_samples({"x": known}), Path(folder)).graph).graph
    machine, fit, judged = Machine(graph), stacked(known), stacked(new)

    def positions(t: int) -> bool:
        shape = graph.tensors[t].shape
        return len(shape) > 2 and shape[-2] == vit_cifar10.TOKENS

    def stream(t: int) -> bool:
        return positions(t) and graph.tensors[t].shape[1:] == (vit_cifar10.TOKENS, vit_cifar10.WIDTH)

    sums = {
        op.outputs[0]
        for op in graph.ops
        if op.kind == "ADD" and not any(graph.tensors[t].is_constant for t in op.inputs)
    }
    read = {site.tensor for site in sites(graph) if site.linear}
    rows: dict[str, Callable[[int], bool]] = {
        "none": lambda t: False,
        "all that have positions": positions,
        "those as wide as the stream": stream,
        "residual sums": lambda t: stream(t) and t in sums,
        "what linear layers read": lambda t: positions(t) and t in read,
    }
    with torch.no_grad():
        exact = outputs(machine, {}, judged)
        cells = []
        for label, which in rows.items():
            rounding = fitted(machine, fit, which)
            count = sum(map(which, rounding))
            cells.append(
                (label, f"{count} of {len(rounding)}", f"{varying_db(exact, outputs(machine, rounding, judged)):.2f}")
            )
    title = f"ViT, a8, float weights, {FITTED} images to fit on, {JUDGED} test images"
    show(title, ("a scale for each position", "tensors", "dB of what varies"), cells)


def stacked(images: np.ndarray) -> torch.Tensor:
    """Images (n, 3, 32, 32) as the graph reads them, (n, 1, 32, 32, 3)."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 2, 3, 1))[:, None])


def fitted(machine: Machine, images: torch.Tensor, which: Callable[[int], bool]) -> dict[int, Fitted]:
    """How each activation is rounded, fitted to the float network's values.

    Args:
        machine: runs the graph.
        images: to fit on.
        which: activations get a scale for each position.
    """
    graph, found = machine.graph, dict[int, Fitted]()
    values = {graph.inputs[0]: images}
    for i, op in enumerate(graph.ops):
        computed = machine.run(i, machine.inputs(i, values))
        if op.kind not in MOVES:
            real = {t: x for t, x in computed.items() if graph.tensors[t].is_float}
            found |= {t: Uniform("mse", "position" if which(t) else "tensor").fit(x, 8) for t, x in real.items()}
        values |= computed
        machine.release(i, values)
    return found


def outputs(machine: Machine, rounding: Mapping[int, Fitted], images: torch.Tensor) -> np.ndarray:
    """The graph's outputs with some activations rounded, shape (images, classes)."""
    graph: Graph = machine.graph
    found = []
    for part in images.split(BATCH):
        values = {graph.inputs[0]: part}
        for i in range(len(graph.ops)):
            computed = machine.run(i, machine.inputs(i, values))
            values |= {t: rounding[t].rounds(x) if t in rounding else x for t, x in computed.items()}
            machine.release(i, values)
        found.append(values[graph.outputs[0]].reshape(len(part), -1).numpy())
    return np.concatenate(found)


if __name__ == "__main__":
    main()
