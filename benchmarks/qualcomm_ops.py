"""Which ops LiteRT's plugin for Snapdragon's NPU takes, at 8 and 16 bits: the tables of targets/profiles.

Every case of the op table (tests/one_op_specs.py) is lowered, written to a file and compiled for a chip; an op counts
as taken where the plugin takes it in some case, and the cases in which it does not are listed. Needs `edgeqwt tools
install qualcomm`; 8 minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeqwt.converters.tools import find, missing
from edgeqwt.errors import EdgeqwtError, ToolError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lower import Precision
from edgeqwt.onnx_qdq.emitters import to_onnx
from edgeqwt.profile import kernels_of
from edgeqwt.runtime.htp import Job, simulate
from edgeqwt.runtime.qualcomm import Toolchain, compile_model, located
from edgeqwt.runtime.runners import reference
from edgeqwt.target.load import load
from edgeqwt.target.model import dtype_of
from edgeqwt.target.plugin import outputs_of
from tests.one_op import lowered
from tests.one_op_specs import SPECS, case

Seen = dict[tuple[str, str], tuple[list[str], list[str]]]
"""By kind and type: the cases in which the op is taken, and those in which it is not."""


def main() -> None:
    """Prints the tables, and in which cases a kind that is taken is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soc", default="SM8650", help="Qualcomm's name of the chip")
    parser.add_argument("--kinds", nargs="*", default=[], help="of float ops; all by default")
    parser.add_argument("--simulate", action="store_true", help="run one case of each kind in the NPU's simulation")
    arguments = parser.parse_args()
    found = find("qualcomm")
    if found.version is None:
        raise missing(found)
    if arguments.simulate:
        simulated(arguments.kinds, arguments.soc, located(found.python))
        return
    seen = survey(list(graphs(arguments.kinds)), arguments.soc, located(found.python))
    for dtype in sorted({dtype for _, dtype in seen}):
        kinds = sorted(kind for (kind, d), (taken, _) in seen.items() if d == dtype and taken)
        print(f"{dtype} = {kinds}".replace("'", '"'))
    print()
    for (kind, dtype), (taken, refused) in sorted(seen.items()):
        if refused:
            which = "never" if not taken else f"not in {len(refused)} of {len(taken) + len(refused)}"
            print(f"{kind} on {dtype}: {which}: {', '.join(refused)}")


def graphs(kinds: list[str]) -> Iterator[tuple[str, Graph]]:
    """The integer graphs of all cases, at both widths where they differ."""
    for name, spec in SPECS.items():
        if kinds and spec.kind not in kinds:
            continue
        for bits in (8, 16):
            try:
                graph = lowered(case(name).graph, case(name).samples, precision=Precision(8, bits)).graph
            except EdgeqwtError:
                continue
            if bits == 8 or any(t.dtype == "int16" for t in graph.tensors):
                yield f"{name}, {bits}", graph


def simulated(kinds: list[str], soc: str, toolchain: Toolchain) -> None:
    """Prints how far the simulation is from LiteRT's reference kernels, for the first case of each kind and width."""
    jobs, wanted, kernels = [], [], kernels_of(load("qualcomm-sm8650"))  # the forms that builds write
    for kind in kinds or dict.fromkeys(spec.kind for spec in SPECS.values()):
        name = next(name for name, spec in SPECS.items() if spec.kind == kind)
        for bits in (8, 16):
            try:
                low = lowered(case(name).graph, case(name).samples, precision=Precision(8, bits), kernels=kernels)
                content = to_onnx(low.graph, real_casts=True)
            except EdgeqwtError:
                continue
            if bits == 16 and not any(t.dtype == "int16" for t in low.graph.tensors):
                continue
            names = {t: low.graph.tensors[t].name for t in low.graph.inputs}
            jobs.append(Job(content, [{names[t]: np.asarray(v[t]) for t in names} for v in low.inputs]))
            runner = reference(low.graph)
            outs = [runner.run(values) for values in low.inputs]
            wanted.append((name, bits, low.graph, [[out[t] for t in low.graph.outputs] for out in outs]))
    for (name, bits, graph, exact), found in zip(wanted, simulate(jobs, soc, toolchain), strict=True):
        ops = ", ".join(op.kind for op in graph.ops)
        if found.refused:
            print(f"{name}, {bits} bits ({ops}): refused")
            continue
        off = [np.abs(a.astype(np.float64) - b) for x, y in zip(found.outputs, exact, strict=True)
               for a, b in zip(x, y, strict=True)]  # fmt: skip
        share = np.mean([np.mean(o > 0) for o in off])
        print(f"{name}, {bits} bits ({ops}): {max(o.max() for o in off):g} steps, {100 * share:.1f} % of values differ")


def survey(cases: list[tuple[str, Graph]], soc: str, toolchain: Toolchain) -> Seen:
    """Compiles every graph."""

    def left(graph: Graph) -> set[int] | None:
        try:
            compiled = compile_model(flatbuffer.to_bytes(graph), outputs_of(graph), "Qualcomm", soc, toolchain)
        except ToolError:
            return None
        return {op.op for op in compiled.left}

    seen: Seen = defaultdict(lambda: ([], []))
    with ThreadPoolExecutor(2) as pool:
        for (name, graph), stays in zip(cases, pool.map(left, [graph for _, graph in cases]), strict=True):
            if stays is None:
                print(f"the plugin fails on {name}: {', '.join(op.kind for op in graph.ops)}")
                continue
            for i, op in enumerate(graph.ops):
                seen[op.kind, dtype_of(graph, op)][i in stays].append(name)
    return seen


if __name__ == "__main__":
    main()
