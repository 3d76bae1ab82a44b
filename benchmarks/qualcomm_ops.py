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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeqwt.converters.tools import find, missing
from edgeqwt.errors import EdgeqwtError, ToolError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lower import Precision
from edgeqwt.runtime.qualcomm import Qnn, compile_model, located
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
    arguments = parser.parse_args()
    found = find("qualcomm")
    if found.version is None:
        raise missing(found)
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


def survey(cases: list[tuple[str, Graph]], soc: str, qnn: Qnn) -> Seen:
    """Compiles every graph."""

    def left(graph: Graph) -> set[int] | None:
        try:
            compiled = compile_model(flatbuffer.to_bytes(graph), outputs_of(graph), "Qualcomm", soc, qnn)
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
