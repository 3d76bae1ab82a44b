"""Small random graphs whose values are small integers, so that every kernel computes them exactly."""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Tensor

FULL, HALF = (4,), (2,)


def random_graph(rng: np.random.Generator, ops: int) -> Graph:
    """A random DAG of ops with one and two outputs, some read often, some not at all.

    Inputs and outputs are chosen at random; a tensor may be both, and may be an output twice.
    """
    tensors = [Tensor(f"input_{i}", FULL, "float32") for i in range(int(rng.integers(1, 4)))]
    inputs = tuple(range(len(tensors)))
    constant = len(tensors)
    tensors.append(Tensor("constant", FULL, "float32", np.array([1, -2, 3, 0], np.float32)))
    axis = len(tensors)
    tensors.append(Tensor("axis", (), "int32", np.array(0, np.int32)))
    known = [*inputs, constant]
    made: list[Op] = []

    def write(kind: str, reads: tuple[int, ...], shapes: list[tuple[int, ...]], **options: object) -> None:
        outputs = tuple(range(len(tensors), len(tensors) + len(shapes)))
        tensors.extend(Tensor(f"{kind}_{t}", shape, "float32") for t, shape in zip(outputs, shapes, strict=True))
        known.extend(outputs)
        made.append(Op(kind, reads, outputs, options, extra={"optionsType": OPTIONS[kind]}))

    for _ in range(ops):
        full = [t for t in known if tensors[t].shape == FULL]
        half = [t for t in known if tensors[t].shape == HALF]
        choice = rng.integers(4)
        if choice == 0:
            write("SPLIT", (axis, pick(rng, full)), [HALF, HALF], numSplits=2)
        elif choice == 1 and half:
            reads = (pick(rng, half), pick(rng, half))
            write("CONCATENATION", reads, [FULL], axis=0, fusedActivationFunction="NONE")
        else:
            same = half if half and choice == 2 else full
            write("SUB", (pick(rng, same), pick(rng, same)), [tensors[same[0]].shape], fusedActivationFunction="NONE")
    activations = [*inputs, *(t for op in made for t in op.outputs)]
    outputs = tuple(int(t) for t in rng.choice(activations, int(rng.integers(1, 4))))
    return Graph(tuple(tensors), tuple(made), inputs, outputs)


OPTIONS = {"SPLIT": "SplitOptions", "CONCATENATION": "ConcatenationOptions", "SUB": "SubOptions"}


def pick(rng: np.random.Generator, choices: list[int]) -> int:
    """One of the tensors, the latest ones more often."""
    return choices[max(len(choices) - 1 - int(rng.geometric(0.3) - 1), 0)]


def random_inputs(rng: np.random.Generator, graph: Graph) -> dict[int, Array]:
    """Values for the graph's inputs; sums and differences of them stay far below 2^24, so floats hold them exactly."""
    return {t: rng.integers(-3, 4, graph.tensors[t].shape).astype(np.float32) for t in graph.inputs}
