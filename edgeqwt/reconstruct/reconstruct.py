"""Learned rounding: the integers of a block's weights are chosen together, looking at what the block computes.

AdaRound (Nagel et al. 2020) does so layer by layer, BRECQ (Li et al. 2021) and MREM (Bai et al. 2022)
block by block. Scales of weights and biases are learned as well: none of them costs anything when the
model runs. Whatever is learned is kept only where it helps on samples that nothing was learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch

from edgeqwt.autograd.evaluate import as_tensor, needed
from edgeqwt.autograd.kernels import missing
from edgeqwt.autograd.simulate import FakeQuantized, fake_quantized
from edgeqwt.graph.graph import Array, Graph, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.progress import Advance, quiet
from edgeqwt.reconstruct.block_data import BlockData
from edgeqwt.reconstruct.blocks import Block, blocks, layers, network
from edgeqwt.reconstruct.learn import Objective
from edgeqwt.reconstruct.learned_rounding import BlockResult, Reconstruction
from edgeqwt.reconstruct.modules import Setting, at_once, learned
from edgeqwt.reconstruct.variables import learnable
from edgeqwt.rounding.structure import UNSTRUCTURED, Structure
from edgeqwt.widths.precision import Precision

NO_GAIN = "no better on samples that it did not learn from"


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """The integer graph with learned weights, and the account of it."""

    graph: Graph
    blocks: tuple[BlockResult, ...]


def reconstruct(
    graph: Graph,
    reference: Graph,
    samples: Iterable[Mapping[int, Array]],
    rule: Reconstruction,
    precision: Precision,
    on_block: Advance = quiet,
    kept: Structure = UNSTRUCTURED,
) -> Reconstructed:
    """Learns the weights' integers, their scales and the biases of an integer graph, block after block.

    Args:
        graph: integer, lowered from `reference`, so that outputs have the same names.
        reference: float.
        samples: to fit on; real-valued inputs by the reference's input tensor index; read once. One in four
            (`calibration.samples.roles`) teaches nothing, and confirms what was learned from the others. The samples of
            the gate, which judges the whole file, choose no block.
        rule: how.
        precision: the weights' widths.
        on_block: called with linear ops, by the first output of the block that is done.
        kept: zeros that stay, and layers whose weights are clustered: those stay as they are.

    Raises:
        InputError: there are no samples.
    """
    pair = fake_quantized(graph, reference)
    free = learnable(graph, reference, pair, kept)
    planned = _planned(reference, sorted(free), rule)
    obstacles = {block: why for block in planned if (why := _obstacle(reference, pair, block))}
    able = [block for block in planned if block not in obstacles]
    results = [_result(graph, pair, block, np.nan, np.nan, why) for block, why in obstacles.items()]
    sizes = [len(block.linear) for block in able]
    setting = Setting(graph, reference, rule, precision, kept)
    given: Iterable[Mapping[int, Array]] = islice(samples, rule.samples)
    changes: list[dict[int, Tensor]] = []
    if rule.processes and able:
        given = [*given]  # read twice: blocks learn from them all at once, and are judged one by one
        changes = at_once(setting, able, given, partial(_weights, rule=rule), _counting(on_block, sizes))
    with ActivationStore() as store:
        block_data = BlockData(graph, reference, able, store)
        block_data.feed(graph, given)
        if rule.fisher:
            block_data.weigh(network(reference, ()).outputs, rule.rank)
        for k, block in enumerate(able):
            block_data.reach(k, graph)
            on_layer = _advance(on_block, sum(sizes[:k]), sizes[k], sum(sizes))
            if changes:
                candidate = graph.with_tensors(changes[k])
            else:
                candidate = _learned(replace(setting, graph=graph), block_data, k, on_layer)
            before, after = block_data.error(k, graph), block_data.error(k, candidate)
            results.append(_result(graph, pair, block, before, after, "" if after < before else NO_GAIN, candidate))
            graph = candidate if after < before else graph
            block_data.leave(k)
            if not changes:
                on_block(sum(sizes[: k + 1]), sum(sizes), reference.tensors[block.outputs[0]].name)
    return Reconstructed(graph, tuple(results))


def _counting(on_block: Advance, sizes: Sequence[int]) -> Callable[[int], None]:
    """Progress in blocks as progress in linear ops."""
    return lambda done: on_block(sum(sizes[:done]), sum(sizes))


def _advance(on_block: Advance, first: int, size: int, whole: int) -> Callable[[int, int], None]:
    """Progress within one block as progress in all: it begins after `first` linear ops and has `size` of `whole`."""
    return lambda done, total: on_block(first + done * size // total, whole)


def _planned(reference: Graph, linear: Sequence[int], rule: Reconstruction) -> tuple[Block, ...]:
    """The blocks of the rule's scope."""
    if not linear:
        return ()
    if rule.scope == "layer":
        return layers(reference, linear)
    return blocks(reference, linear, rule.largest) if rule.scope == "block" else (network(reference, linear),)


def _obstacle(reference: Graph, pair: FakeQuantized, block: Block) -> str:
    """Why a block cannot be learned; empty if it can."""
    ops, read = needed(reference, (*block.outputs, *block.taps), set(block.given))
    if kinds := missing(pair.graph, ops):
        return f"no gradients through {', '.join(kinds)}"
    boundary = [*block.outputs, *(t for t in read if reference.tensors[t].is_float)]
    lost = [reference.tensors[t].name for t in boundary if t not in pair.steps]
    return f"{lost[0]!r} is not in the integer graph" if lost else ""


def _learned(setting: Setting, block_data: BlockData, k: int, on_layer: Callable[[int, int], None]) -> Graph:
    """The integer graph with block k's weights learned from what the blocks before it hand on."""
    graph, block = setting.graph, block_data.blocks[k]
    weights, factors = _weights(block, block_data, setting.rule)
    objective = Objective(
        block=block,
        pair=fake_quantized(graph, setting.reference),
        inputs=lambda chosen: block_data.inputs(k, graph, chosen),
        floats=lambda chosen: block_data.inputs(k, graph, chosen, floating=True),
        targets=block_data.targets,
        weights=weights,
        factors=factors,
        count=len(block_data.fitted),
    )
    return learned(setting, objective, on_layer)


def _weights(
    block: Block, block_data: BlockData, rule: Reconstruction
) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
    """Of errors, elements by themselves and together: outputs count relative to their signal, all taps `rule.taps`."""
    found, factors = {}, {}
    for t in (*block.outputs, *block.taps):
        signal = float(block_data.signal[t][0]) / len(block_data.fitted) or 1.0
        share = 1.0 if t in block.outputs else rule.taps / len(block.taps)
        importance = as_tensor(block_data.importance.get(t, np.ones(())))
        found[t] = share / signal * importance
        if t in block_data.factors:
            together = block_data.factors[t]
            factors[t] = as_tensor(np.sqrt(share / signal / together.shape[1]) * together)
    return found, factors


def _result(
    graph: Graph,
    pair: FakeQuantized,
    block: Block,
    before: float,
    after: float,
    reason: str,
    candidate: Graph | None = None,
) -> BlockResult:
    ops = tuple(pair.partners[i] for i in block.linear)
    kept, changed = candidate is not None and not reason, 0.0
    if candidate is not None and kept:
        same = np.concatenate([_same(graph, candidate, slots(graph.ops[j]).weight) for j in ops])
        changed = float(1 - same.mean())
    name = pair.graph.tensors[block.outputs[-1]].name
    return BlockResult(name, ops, before, after, kept, reason, changed)


def _same(a: Graph, b: Graph, tensor: int) -> Array:
    """Which integers of a constant are the same in both graphs, flat."""
    ours, theirs = a.tensors[tensor].stored, b.tensors[tensor].stored
    return np.equal(ours, theirs).reshape(-1)
