"""Blocks that learn at the same time, each in a process of its own: MREM's parallel training (Bai et al. 2022, 3.2).

A block's inputs are what the integer graph computes before any block has learned, some of their elements the float
graph's (`drop`: the paper's teacher forcing). So no block waits for another one, and what it learns does not depend on
how many processes there are. Afterwards the blocks are judged one after the other, as if they had learned so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from edgeqwt.autograd.evaluate import as_array, as_tensor
from edgeqwt.autograd.simulate import fake_quantized
from edgeqwt.graph.graph import Array, Graph, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.reconstruct.block_data import BlockData
from edgeqwt.reconstruct.blocks import Block, network
from edgeqwt.reconstruct.codewords import coded
from edgeqwt.reconstruct.learn import Objective, learn
from edgeqwt.reconstruct.learned_rounding import Reconstruction
from edgeqwt.reconstruct.progressive import progressive
from edgeqwt.reconstruct.variables import variables, written
from edgeqwt.rounding.structure import Structure
from edgeqwt.runtime.child import Child
from edgeqwt.runtime.device import device_now, on_device
from edgeqwt.runtime.parallel import ordered
from edgeqwt.runtime.threads import torch_threads
from edgeqwt.widths.precision import Precision

Values = dict[int, torch.Tensor]
Weigh = Callable[[Block, BlockData], tuple[Values, Values]]


@dataclass(frozen=True, eq=False)
class Setting:
    """What all blocks have in common.

    Attributes:
        graph: integer.
        reference: float.
        rule: how they learn.
        precision: the weights' widths.
        kept: zeros that stay, and layers whose weights are clustered.
    """

    graph: Graph
    reference: Graph
    rule: Reconstruction
    precision: Precision
    kept: Structure


@dataclass(frozen=True, eq=False)
class Task:
    """A block with all that it learns from, as another process takes it; tensors by index, a row for each sample.

    Attributes:
        block: of the reference's ops.
        inputs, floats: of the block, in the integer and in the float graph.
        targets: its outputs and taps, in the float graph.
        weights, factors: see `Objective`.
    """

    block: Block
    inputs: Mapping[int, Array]
    floats: Mapping[int, Array]
    targets: Mapping[int, Array]
    weights: Mapping[int, Array]
    factors: Mapping[int, Array]


def learned(setting: Setting, objective: Objective, on_layer: Callable[[int, int], None]) -> Graph:
    """The integer graph with a block's weights learned.

    Args:
        setting: graphs and options.
        objective: what the block is to compute, and from what.
        on_layer: called with (layers done, layers in all).
    """
    graph, reference, rule = setting.graph, setting.reference, setting.rule
    kind = {"progressive": "free", "codebook": "fixed"}.get(rule.rounding, rule.rounding)
    found = []
    for i in objective.block.linear:
        bits = setting.precision.of(reference.tensors[reference.ops[i].outputs[0]].name).weights
        found.append(variables(graph, reference, objective.pair, i, 2 ** (bits - 1) - 1, kind, setting.kept))
        if rule.rounding == "codebook":
            real = reference.tensors[slots(reference.ops[i]).weight].stored
            found[-1] = coded(graph, found[-1], real, rule.length, rule.candidates)
    chooser = torch.Generator().manual_seed(rule.seed)
    with torch_threads(rule.threads):
        if rule.rounding == "progressive":
            found = progressive(graph, objective, found, rule, chooser, on_layer)
        else:
            learn(objective, found, rule, rule.iterations, chooser)
            on_layer(1, 1)
    return written(graph, found)


def at_once(
    setting: Setting,
    blocks: Sequence[Block],
    samples: Sequence[Mapping[int, Array]],
    weigh: Weigh,
    on_block: Callable[[int], None],
) -> list[dict[int, Tensor]]:
    """What each block's weights, scales and biases become, by the integer graph's tensors.

    Args:
        setting: graphs and options; `rule.processes` of them run.
        blocks: in order.
        samples: real-valued inputs by the reference's input tensor index.
        weigh: a block's weights and factors of errors.
        on_block: called with the number of blocks done.
    """
    rule, found = setting.rule, list[dict[int, Tensor]]()
    with ActivationStore() as store, ExitStack() as stack:
        data = BlockData(setting.graph, setting.reference, blocks, store)
        data.feed(setting.graph, samples)
        if rule.fisher:
            data.weigh(network(setting.reference, ()).outputs, rule.rank)
        children = [Child("learned rounding") for _ in range(rule.processes)]
        for child in children:
            stack.callback(child.end)

        def work(child: Child, task: Task) -> dict[int, Tensor]:
            answer: dict[int, Tensor] = child.call(in_process, setting, task, device_now())
            return answer

        for changes in ordered(children, work, _tasks(setting, data, weigh)):
            found.append(changes)
            on_block(len(found))
    return found


def _tasks(setting: Setting, data: BlockData, weigh: Weigh) -> Iterator[Task]:
    every = range(len(data.fitted))
    for k, block in enumerate(data.blocks):
        data.reach(k, setting.graph)
        floats = data.inputs(k, setting.graph, every, floating=True) if setting.rule.drop else {}
        values = data.inputs(k, setting.graph, every), floats, data.targets(every), *weigh(block, data)
        inputs, floats_, targets, weights, factors = ({t: as_array(v) for t, v in one.items()} for one in values)
        yield Task(block, inputs, floats_, targets, weights, factors)
        data.leave(k)


def in_process(setting: Setting, task: Task, device: str) -> dict[int, Tensor]:
    """What a block's weights, scales and biases become: the part that runs in another process."""
    with on_device(device):
        return _changed(setting, task)


def _changed(setting: Setting, task: Task) -> dict[int, Tensor]:
    def some(values: Mapping[int, Array]) -> Callable[[Sequence[int]], Values]:
        return lambda chosen: {t: as_tensor(v[list(chosen)]) for t, v in values.items()}

    objective = Objective(
        block=task.block,
        pair=fake_quantized(setting.graph, setting.reference),
        inputs=some(task.inputs),
        floats=some(task.floats),
        targets=some(task.targets),
        weights={t: as_tensor(v) for t, v in task.weights.items()},
        factors={t: as_tensor(v) for t, v in task.factors.items()},
        count=len(next(iter(task.targets.values()))),
    )
    graph = learned(setting, objective, lambda done, total: None)
    return {
        t: new for t, (old, new) in enumerate(zip(setting.graph.tensors, graph.tensors, strict=True)) if new is not old
    }
