"""One walk through a float graph that fits a whole simulation, and the simulation, which runs it on other samples.

Both networks, float and simulated, run side by side on all samples to fit on, op by op: a layer's quantizers are fitted
to the float network's values, its weights and its correction to what the simulated network really hands it. So each
layer meets the errors of those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from edgeqwt.autograd.call import Call
from edgeqwt.autograd.evaluate import as_tensor
from edgeqwt.autograd.kernels import kernel
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import slots
from edgeqwt.simulation.corrections import Corrected, Correction, confirmed
from edgeqwt.simulation.diffusion import LayerQuantizer, Met
from edgeqwt.simulation.methods import Method
from edgeqwt.simulation.quantizers import Fitted, Op, Quantizer
from edgeqwt.simulation.similarity import makes_scores
from edgeqwt.simulation.sites import Site, one_position, sites
from edgeqwt.simulation.weights import by_rows, rounded


class Machine:
    """Runs a float graph op by op, on samples that are stacked along a new first axis.

    Args:
        graph: float.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._kernels = [kernel(graph, op) for op in graph.ops]
        self._constants = {
            t: as_tensor(tensor.data) for t, tensor in enumerate(graph.tensors) if tensor.data is not None
        }
        last = {t: i for i, op in enumerate(graph.ops) for t in op.inputs}
        self._dead: dict[int, list[int]] = {}
        for t, i in last.items():
            if t >= 0 and t not in graph.outputs:
                self._dead.setdefault(i, []).append(t)

    def run(self, i: int, inputs: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """One op's outputs by tensor index.

        Args:
            i: index of the op.
            inputs: values by slot: activations with the samples' axis, and constants that take the place of the file's,
                without it.
        """
        op = self.graph.ops[i]
        read = {s: inputs[s] if s in inputs else self._constants[t] for s, t in enumerate(op.inputs) if t >= 0}
        stacked = [s for s, t in enumerate(op.inputs) if t >= 0 and not self.graph.tensors[t].is_constant]

        def one(*values: Tensor) -> tuple[Tensor, ...]:
            given = {**read, **dict(zip(stacked, values, strict=True))}
            found = self._kernels[i](Call(self.graph, op, [given.get(s) for s in range(len(op.inputs))]))
            return found if isinstance(found, tuple) else (found,)

        if not stacked:
            return dict(zip(op.outputs, one(), strict=True))
        outputs = torch.func.vmap(one)(*[read[s] for s in stacked])
        return dict(zip(op.outputs, outputs, strict=True))

    def inputs(self, i: int, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The activations that an op reads, by slot."""
        return {s: values[t] for s, t in enumerate(self.graph.ops[i].inputs) if t in values}

    def release(self, i: int, values: dict[int, Tensor]) -> None:
        """Forgets what nothing reads after an op."""
        for t in self._dead.get(i, ()):
            values.pop(t, None)


@dataclass(frozen=True, eq=False)
class Simulated:
    """What became of one op.

    Attributes:
        quantizers: of its operands, by slot.
        constants: in place of the file's, by slot.
        correction: of its output, from its first operand.
        block: the tensor that a correction of a block reads in place of that operand.
    """

    quantizers: Mapping[int, Fitted] = field(default_factory=dict)
    constants: Mapping[int, Tensor] = field(default_factory=dict)
    correction: Corrected | None = None
    block: int | None = None


@dataclass(frozen=True, eq=False)
class Simulation:
    """A float graph with simulated integers.

    Attributes:
        machine: runs the graph.
        ops: what became of its ops, by index.
    """

    machine: Machine
    ops: Mapping[int, Simulated]

    @property
    def parameters(self) -> int:
        """Numbers that corrections would add to a file."""
        return sum(op.correction.parameters for op in self.ops.values() if op.correction is not None)

    def __call__(self, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The graph's outputs, by tensor index, for inputs stacked along a first axis."""
        known, graph = dict(values), self.machine.graph
        blocks = {op.block for op in self.ops.values() if op.block is not None}
        kept: dict[int, Tensor] = {t: v for t, v in known.items() if t in blocks}
        for i in range(len(graph.ops)):
            found = _run(self.machine, i, known, self.ops.get(i), kept)
            known |= found
            kept |= {t: v for t, v in found.items() if t in blocks}
            self.machine.release(i, known)
        return {t: known[t] for t in graph.outputs}


def _run(
    machine: Machine, i: int, values: Mapping[int, Tensor], op: Simulated | None, kept: Mapping[int, Tensor]
) -> dict[int, Tensor]:
    """An op's corrected outputs."""
    found, first = _computed(machine, i, values, op)
    return found if op is None else _applied(op, found, first, kept)


def _computed(
    machine: Machine, i: int, values: Mapping[int, Tensor], op: Simulated | None
) -> tuple[dict[int, Tensor], Tensor | None]:
    """An op's outputs before their correction, and the first activation that it reads, as it reads it."""
    inputs = machine.inputs(i, values)
    if op is not None:
        inputs = {s: op.quantizers[s].rounds(v) if s in op.quantizers else v for s, v in inputs.items()}
    found = machine.run(i, inputs if op is None else {**inputs, **op.constants})
    return found, inputs[min(inputs)] if inputs else None


def _applied(
    op: Simulated, found: dict[int, Tensor], first: Tensor | None, kept: Mapping[int, Tensor]
) -> dict[int, Tensor]:
    if op.correction is None:
        return found
    read = first if op.block is None else kept[op.block]
    assert read is not None
    output = next(iter(found))
    return {**found, output: op.correction.apply(read, found[output])}


@dataclass(frozen=True)
class Bits:
    """Widths of a study.

    Attributes:
        weights, activations: in bits.
        ends: of the first and the last linear op.
    """

    weights: int
    activations: int
    ends: int


def exact_outputs(machine: Machine, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The float graph's outputs, by tensor index."""
    return Simulation(machine, {})(values)


def fitted(
    machine: Machine,
    method: Method,
    correction: Correction | None,
    bits: Bits,
    values: Mapping[int, Tensor],
    advance: Callable[[int, int | None], None],
) -> Simulation:
    """The simulation of a method with a correction.

    Args:
        machine: of the float graph.
        method: quantizers and rounding.
        correction: of linear ops or blocks; None for none.
        bits: widths.
        values: inputs of the samples to fit on, by tensor index, stacked.
        advance: shows the progress.
    """
    graph = machine.graph
    by_op: dict[int, list[Site]] = {}
    for site in sites(graph):
        by_op.setdefault(site.op, []).append(site)
    linear = [i for i, found in by_op.items() if graph.ops[i].kind != "BATCH_MATMUL"]
    ends = {linear[0], linear[-1]} if linear else set[int]()
    blocks = dict(block_ends(graph)) if correction is not None and correction.blocks else {}
    exact, known, ops = dict(values), dict(values), dict[int, Simulated]()
    kept: dict[int, Tensor] = dict(values)
    quantizers = dict[int, Fitted]()
    for i in range(len(graph.ops)):
        wanted = machine.run(i, machine.inputs(i, exact))
        wide = Bits(bits.ends, bits.ends, bits.ends) if i in ends else bits
        if i in by_op:
            ops[i] = _layer(machine, i, by_op[i], method, wide, (exact, known), quantizers)
        found, first = _computed(machine, i, known, ops.get(i))
        if correction is not None and (i in blocks if correction.blocks else i in linear):
            block, output = blocks.get(i), next(iter(found))
            read = first if block is None else kept[block]
            assert read is not None
            fit = confirmed(correction, read, found[output], wanted[output])
            ops[i] = replace(ops.get(i, Simulated()), correction=fit, block=block)
            found = _applied(ops[i], found, first, kept)
        exact |= wanted
        known |= found
        kept |= {t: value for t, value in found.items() if t in blocks.values()}
        machine.release(i, exact)
        machine.release(i, known)
        advance(i + 1, len(graph.ops))
    return Simulation(machine, ops)


def _layer(
    machine: Machine,
    i: int,
    found: list[Site],
    method: Method,
    bits: Bits,
    values: tuple[Mapping[int, Tensor], Mapping[int, Tensor]],
    known: dict[int, Fitted],
) -> Simulated:
    """An op's quantizers and weights; a tensor that several ops read is quantized once."""
    exact, simulated = values
    quantizers: dict[int, Fitted] = {}
    constants: dict[int, Tensor] = {}
    graph = machine.graph
    for site in found:
        if site.tensor not in known:
            known[site.tensor] = _fit(machine, site, method, bits, exact)
        quantizers[site.slot] = known[site.tensor]
        if graph.ops[i].kind != "BATCH_MATMUL":
            op, s = graph.ops[i], slots(graph.ops[i])
            slot, data = op.inputs.index(s.weight), graph.tensors[s.weight].stored
            fitted = quantizers[site.slot]
            read = fitted.rounds(simulated[site.tensor])
            fitted = fitted if site.linear else Fitted(fitted.rounds)
            constants[slot] = as_tensor(
                rounded(op, data, s.axis, bits.weights, method.weights, read, exact[site.tensor], fitted)
            )
    return Simulated(quantizers, constants)


def _reader(machine: Machine, site: Site, exact: Mapping[int, Tensor]) -> Op:
    """The op of a site in the float network, as a function of the site's activation."""
    inputs, output = machine.inputs(site.op, exact), machine.graph.ops[site.op].outputs[0]
    scores = makes_scores(machine.graph, site.op)
    return Op(lambda v: machine.run(site.op, {**inputs, site.slot: v})[output], scores)


def _fit(machine: Machine, site: Site, method: Method, bits: Bits, exact: Mapping[int, Tensor]) -> Fitted:
    """The quantizer of an activation that nothing was fitted to yet."""
    graph, x = machine.graph, exact[site.tensor]
    rule: Quantizer = method.quantizer(site.role)
    if not (isinstance(rule, LayerQuantizer) and site.linear):
        return rule.fit_output(x, bits.activations, _reader(machine, site, exact))
    weights = [
        as_tensor(data).flatten(0, -2)
        for other in sites(graph)
        if other.tensor == site.tensor and other.linear
        and (data := graph.tensors[slots(graph.ops[other.op]).weight].data) is not None
    ]  # fmt: skip
    met = Met(torch.cat(weights), lambda rows: by_rows(rows, bits.weights, method.weights))
    return rule.fit_layer(x, bits.activations, met)


def block_ends(graph: Graph) -> Iterator[tuple[int, int]]:
    """Blocks of a residual network: (the ADD that ends one, the tensor that it began with), of one shape.

    A sum is the end of a block where nothing else is alive behind it: all that follows depends on it alone, and on
    conditions that are the same for all positions, such as a diffusion transformer's time step.
    """
    last = {t: i for i, op in enumerate(graph.ops) for t in op.inputs}
    alive, begin = set(graph.inputs), None
    for i, op in enumerate(graph.ops):
        alive |= {*op.outputs}
        alive = {t for t in alive if last.get(t, -1) > i or t in graph.outputs}
        output = op.outputs[0]
        if {t for t in alive if t == output or not one_position(graph, t)} == {output} and not (
            one_position(graph, output) and len(alive) > 1
        ):
            wide = not one_position(graph, output)
            real = op.kind == "ADD" and not any(
                graph.tensors[t].is_constant or (wide and one_position(graph, t)) for t in op.inputs
            )
            if real and begin is not None and graph.tensors[begin].shape == graph.tensors[output].shape:
                yield i, begin
            begin = output
