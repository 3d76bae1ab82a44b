"""Integer graphs in LiteRT's reference kernels, XNNPACK and TFLite Micro, against exact arithmetic and each other.

    python -m tests.fuzz.differential --count 20000       # what errs beyond the op table; --all: the worst of every op

Every op of a random graph is judged by itself, on the integers that it was given there: how far its result is from
exact arithmetic, and how far TFLite Micro's is from the reference kernels' where both were given the same.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass

import numpy as np

from edgeqwt.errors import ToolError
from edgeqwt.extras import MissingPackageError
from edgeqwt.graph.graph import Array
from edgeqwt.graph.opset16 import bits_of, rule_at
from edgeqwt.runtime.boundary import limits
from edgeqwt.runtime.runners import RUNNERS, Values
from tests.fuzz.forked import each
from tests.fuzz.integer_graphs import Made, activated, in_steps, random_graph, real

SECONDS = 30  # for one graph
TOLERANCE = 2e-3
"""Of a step: the kernels' multipliers have 31 bits, the float32 scales of files 24."""


@dataclass(frozen=True)
class Found:
    """What a runtime made of one op.

    Attributes:
        kind, bits: of the op.
        runtime: which; "process" where the process ended.
        error: largest difference from exact arithmetic, in steps of the output.
        bound: what the op table allows.
        micro: largest difference of TFLite Micro from the reference kernels on the same integers, in steps.
        what: the op in words.
    """

    kind: str
    bits: int
    runtime: str
    error: float
    bound: float
    micro: float
    what: str

    @property
    def wrong(self) -> bool:
        """Whether it is more than the op table allows."""
        return self.error > self.bound + TOLERANCE or self.micro > rule_at(self.kind, self.bits).micro


def differences(made: Made) -> Iterator[Found]:
    """Every op in every runtime that has it."""
    values: dict[str, Values] = {}
    for runtime, factory in RUNNERS.items():
        if runtime == "tflm" and not all(rule_at(s.op.kind, bits_of(made.graph, s.op)).tflm for s in made.steps):
            continue
        try:
            values[runtime] = {**made.feed, **factory(made.graph).run(made.feed)}
        except MissingPackageError:
            continue
        except ToolError as error:
            yield _ended(made, runtime, str(error))
    for k, step in enumerate(made.steps):
        (out,) = step.op.outputs
        bits, what, bound = bits_of(made.graph, step.op), described(made, k), allowed(made, k)
        for runtime, found in values.items():
            error = float(np.abs(found[out].astype(np.float64) - exactly(made, k, found)).max(initial=0))
            micro = _apart(made, k, values) if runtime == "tflm" else 0.0
            yield Found(step.op.kind, bits, runtime, error, bound, micro, what)


def _ended(made: Made, runtime: str, said: str) -> Found:
    """A graph that a runtime refuses, or that ends the process: which op does it is not known."""
    kinds, op = ", ".join(step.op.kind for step in made.steps), made.steps[0].op
    return Found(op.kind, bits_of(made.graph, op), runtime, math.inf, 0.0, 0.0, f"{kinds}: {said}")


def _apart(made: Made, k: int, values: dict[str, Values]) -> float:
    """Steps between TFLite Micro and the reference kernels, where both were given the same integers."""
    step = made.steps[k]
    if "reference" not in values:
        return 0.0
    ours, theirs = values["tflm"], values["reference"]
    if not all(np.array_equal(ours[t], theirs[t]) for t in step.reads):
        return 0.0
    (out,) = step.op.outputs
    return float(np.abs(ours[out].astype(np.int64) - theirs[out].astype(np.int64)).max(initial=0))


def allowed(made: Made, k: int) -> float:
    """The op table's bound, in steps, with what its notes say of sizes."""
    step, tensors = made.steps[k], made.graph.tensors
    bits = bits_of(made.graph, step.op)
    bound, shape = rule_at(step.op.kind, bits).bound, tensors[step.op.outputs[0]].shape
    if step.op.kind == "SOFTMAX" and bits == 16:
        return max(bound, 2.0 * shape[-1])
    if step.op.kind == "RESIZE_BILINEAR":  # 255 steps from a pixel to the next at most
        pairs = list(zip(tensors[step.op.inputs[0]].shape[1:3], shape[1:3], strict=True))
        return bound + sum(255 * out / 2048 for size, out in pairs if 1024 * size % out)
    return bound


def exactly(made: Made, k: int, values: Values) -> Array:
    """What an op should give for the integers that it was given, in steps, saturated, not rounded."""
    step, tensors = made.steps[k], made.graph.tensors
    out = tensors[step.op.outputs[0]]
    assert out.quantization is not None
    reals = [real(tensors[t], values[t]) for t in step.reads]
    steps = in_steps(activated(step.exact(*reals), step.op.activation), out.quantization)
    found: Array = np.clip(steps, *limits(out.dtype))
    return found


def described(made: Made, k: int) -> str:
    """An op with what is special about it."""
    op, tensors = made.steps[k].op, made.graph.tensors
    parts = []
    for t in (*op.inputs, *op.outputs):
        q = tensors[t].quantization
        parts.append(f"{tensors[t].shape}" + ("" if q is None else f" {q.scale.min():.3g} {int(q.zero_point[0])}"))
    options = ", ".join(f"{name}={value}" for name, value in op.options.items())
    return f"{op.kind} {tensors[op.outputs[0]].dtype} [{'; '.join(parts)}] {options}"


def hunt(seed: int, numbers: range, seconds: float = math.inf) -> Iterator[tuple[int, list[Found]]]:
    """What the runtimes make of the graphs of those numbers.

    Args:
        seed: of all of them.
        numbers: one for each graph.
        seconds: after which no further graph is tried.
    """

    def told(index: int, folder: object) -> str:
        return json.dumps([astuple(f) for f in differences(random_graph(np.random.default_rng((seed, index))))])

    for index, said in each(told, numbers, SECONDS, time.monotonic() + seconds):
        if said.startswith("["):
            yield index, [Found(*fields) for fields in json.loads(said)]
        else:
            yield index, [_ended(random_graph(np.random.default_rng((seed, index))), "process", said)]


def main() -> int:
    """Prints the worst of every op that errs beyond the table, or of every op; 1 where one does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="graphs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first graph")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which it stops")
    parser.add_argument("--all", action="store_true", help="ops that err no more than the table says, too")
    options = parser.parse_args()
    rows: dict[tuple[int, str, str], list[tuple[Found, int]]] = {}
    start, done = time.monotonic(), 0
    for index, found in hunt(options.seed, range(options.first, options.first + options.count), options.seconds):
        done += 1
        for f in found:
            rows.setdefault((f.bits, f.kind, f.runtime), []).append((f, index))
    wrong = 0
    for (bits, kind, runtime), each_found in sorted(rows.items()):
        worst, index = max(each_found, key=lambda row: (row[0].wrong, row[0].error - row[0].bound))
        micro, count = max(f.micro for f, _ in each_found), sum(f.wrong for f, _ in each_found)
        wrong += count
        if count or options.all:
            print(
                f"{bits:2} {kind:20} {runtime:9} {count} of {len(each_found)} wrong, {worst.error:.3f} of "
                f"{worst.bound:.3g} steps, TFLite Micro {micro:g} apart; graph {index}: {worst.what}"
            )
    print(f"{done} graphs, {wrong} results beyond the op table, {time.monotonic() - start:.0f} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
