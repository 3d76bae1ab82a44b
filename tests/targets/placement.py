"""Many small integer graphs as one, and where a real compiler or delegate puts their ops."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.lowering.lower import Precision
from edgeqwt.profile import TargetProfile
from edgeqwt.target.check import check
from tests.one_op import lowered
from tests.one_op_specs import SPECS, case

# Findings of these rules say that an op falls to the CPU.
TO_THE_CPU = {
    "npu_ops",
    "npu_scalars",
    "npu_mean",
    "npu_forward",
    "npu_resize",
    "npu_arg_max",
    "npu_gather",
    "npu_cast",
    "float_tensors",
}


class VelaStoppedError(Exception):
    """Vela ended without a result."""


@cache
def integer_cases(bits: int) -> Mapping[str, Graph]:
    """Every case of the op table's tests as an integer graph."""
    precision = Precision(activation_bits=bits)
    return {name: lowered(case(name).graph, case(name).samples, precision=precision).graph for name in SPECS}


def merged(graphs: Mapping[str, Graph]) -> Graph:
    """The graphs side by side, tensors named after their graph."""
    tensors: list[Tensor] = []
    ops: list[Op] = []
    inputs: list[int] = []
    outputs: list[int] = []
    for name, graph in graphs.items():
        new = {t: t + len(tensors) for t in range(len(graph.tensors))} | {-1: -1}
        tensors += [replace(t, name=f"{name}:{t.name}") for t in graph.tensors]
        ops += [op.remapped(new) for op in graph.ops]
        inputs += [new[t] for t in graph.inputs]
        outputs += [new[t] for t in graph.outputs]
    return Graph(tuple(tensors), tuple(ops), tuple(inputs), tuple(outputs))


def left_to_the_cpu(model: bytes) -> set[str]:
    """The outputs of the ops that Vela's result has beside the NPU's own."""
    compiled = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = compiled.subgraphs[0]
    cpu = [op for op in graph.operators if compiled.operatorCodes[op.opcodeIndex].customCode != b"ethos-u"]
    return {graph.tensors[t].name.decode() for op in cpu for t in op.outputs}


def placed(graph: Graph, profile: TargetProfile) -> set[str]:
    """The outputs of the ops that Vela leaves to the CPU."""
    assert profile.npu is not None
    npu = profile.npu
    # Not runtime.vela: Vela's report, which that reads, fails where most of a model's many parts are on one side.
    with tempfile.TemporaryDirectory() as folder:
        flatbuffer.write(graph, Path(folder) / "m.tflite")
        options = ["--accelerator-config", npu.accelerator, "--memory-mode", npu.memory_mode, "--output-dir", folder]
        options += ["--config", "Arm/vela.ini", "--system-config", npu.system_config, str(Path(folder) / "m.tflite")]
        done = subprocess.run([sys.executable, "-m", "ethosu.vela", *options], capture_output=True, text=True)
        if done.returncode:
            raise VelaStoppedError(done.stderr[-500:] + done.stdout[-500:])
        return left_to_the_cpu((Path(folder) / "m_vela.tflite").read_bytes())


def predicted(graph: Graph, profile: TargetProfile) -> set[str]:
    """The outputs of the ops that the findings say fall to the CPU."""
    named = {finding.tensor for finding in check(graph, profile) if finding.rule in TO_THE_CPU}
    outputs = [[graph.tensors[t].name for t in op.outputs] for op in graph.ops]
    return {name for names in outputs if names and names[0] in named for name in names}


def aborting(graphs: Mapping[str, Graph], profile: TargetProfile) -> set[str]:
    """The graphs at which the findings say that Vela stops."""
    return {name for name, graph in graphs.items() if rules(check(graph, profile)) & {"npu_aborts"}}


def rules(findings: Iterable[object]) -> set[str]:
    """The rules that findings name."""
    return {finding.rule for finding in findings}  # type: ignore[attr-defined]
