"""CWAC in files with other targets than what the float layer computes: what corrections fitted to them gain."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from common import Array, show
from literature import NETWORKS, samples
from qualcomm import varying_db

from edgeqwt.calibration.sources import open_samples
from edgeqwt.calibration.validate import validated
from edgeqwt.compensation.channel_constants import channel_slots_of
from edgeqwt.compensation.fold import fold, headroom
from edgeqwt.compensation.layer import FOLDS
from edgeqwt.compensation.match import Pair, match
from edgeqwt.compensation.moments import Moments, evening
from edgeqwt.compensation.probe import unfused, with_probe
from edgeqwt.compensation.solve import Options, solve
from edgeqwt.converters.convert import convert
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import is_linear
from edgeqwt.graph.pairing import counterparts, op_counterparts
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import make
from edgeqwt.prepare.prepare import prepare
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import load
from edgeqwt.rounding.attention import attentions
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.target.load import load as load_target
from edgeqwt.verify.feeds import feed
from edgeqwt.widths.precision import parse

Feeds = Sequence[dict[int, Array]]
Sides = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Setting:
    """What corrections are fitted with.

    Attributes:
        reference: float.
        feeds: real inputs of the samples to fit on, by the reference's tensors.
        options: of the fit.
    """

    reference: Graph
    feeds: Feeds
    options: Options


def float_layer(setting: Setting, graph: Graph, pair: Pair) -> Sides:
    """CWAC's own target: what the float layer computes in the float network."""
    wide, before = unfused(setting.reference, [pair.reference])
    tap = before[pair.reference]
    float_side = xnnpack(wide, [tap])
    wanted = np.stack([float_side.run(values)[tap] for values in setting.feeds])
    return through(setting, graph, graph, pair.integer), wanted


def local(setting: Setting, graph: Graph, pair: Pair) -> Sides:
    """What the float layer computes of the integer layer's own input: errors of layers before stay out of it."""
    s, float_op = channel_slots_of(graph, pair.integer), setting.reference.ops[pair.reference]
    t = channel_slots_of(setting.reference, pair.reference)
    if not is_linear(float_op) or (s.bias >= 0) != (t.bias >= 0):
        return float_layer(setting, graph, pair)
    exact = {a: setting.reference.tensors[b] for a, b in ((s.weight, t.weight), (s.bias, t.bias)) if a >= 0}
    wanted = through(setting, graph, graph.with_tensors(exact), pair.integer)
    return through(setting, graph, graph, pair.integer), wanted


def stream(setting: Setting, graph: Graph, pair: Pair) -> Sides:
    """Before a residual sum the float layer's output and the shortcut's error: what the sum lacks."""
    found, wanted = float_layer(setting, graph, pair)
    readers = graph.consumers().get(graph.ops[pair.integer].outputs[0], [])
    following = graph.ops[readers[0]] if len(readers) == 1 else graph.ops[pair.integer]
    others = [t for t in following.inputs if t not in (*graph.ops[pair.integer].outputs, -1)]
    real = {b: a for a, b in counterparts(setting.reference, graph).items()}
    shortcut = others[0] if following.kind == "ADD" and len(others) == 1 else -1
    fused = graph.ops[pair.integer].activation != "NONE"
    if shortcut not in real or graph.tensors[shortcut].is_constant or fused:
        return found, wanted
    ours, theirs = xnnpack(graph, [shortcut]), xnnpack(setting.reference, [real[shortcut]])
    errors = [
        theirs.run(values)[real[shortcut]]
        - to_real(graph, shortcut, ours.run(feed_as(graph, setting.reference, values))[shortcut])
        for values in setting.feeds
    ]
    return found, wanted + np.stack(errors).reshape(wanted.shape)


def through(setting: Setting, graph: Graph, holder: Graph, i: int) -> Array:
    """The real output, before its activation, of op i of `holder` on what `graph` hands to it, of all samples."""
    x = channel_slots_of(graph, i).data
    piece, probe = with_probe(graph.slice([], [x], []), 0, holder, i)
    before, op = xnnpack(graph, [x]), xnnpack(piece, [probe])
    inputs = (before.run(feed_as(graph, setting.reference, values))[x] for values in setting.feeds)
    return np.stack([op.run({piece.inputs[0]: value})[probe] for value in inputs])


def corrected(setting: Setting, graph: Graph, i: int, sides: Sides, output: int) -> Graph:
    """The graph with op i's gain and offset per channel, as they fit one side to the other."""
    count = len(setting.feeds)
    stored, moments = graph.tensors[output].quantization, Moments.of(*sides)
    assert stored is not None
    weights, space = evening(moments, float(stored.scale[0])), headroom(graph, i)
    folds = [moments.total(weights * (np.arange(count) % FOLDS == k)) for k in range(FOLDS)]
    found = solve(folds, setting.options, space.gain, space.offset)
    return graph if found.is_identity else fold(graph, i, found)[0]


def products(setting: Setting, graph: Graph) -> Iterator[tuple[int, int, Callable[[Graph], Sides]]]:
    """Attention's products with the values: (the op, the layer of values, both sides of the product)."""
    reference, ours = setting.reference, op_counterparts(setting.reference, graph)
    layers = {reference.ops[j].outputs[0]: i for j, i in ours.items()}
    for attention in attentions(reference):
        product = reference.consumers()[attention.weights][0]
        real, stored = reference.ops[product].outputs[0], graph.ops[ours[product]].outputs[0]

        def sides(now: Graph, real: int = real, stored: int = stored) -> Sides:
            theirs, mine = xnnpack(reference, [real]), xnnpack(now, [stored])
            wanted = [theirs.run(values)[real] for values in setting.feeds]
            found = [to_real(now, stored, mine.run(feed_as(now, reference, v))[stored]) for v in setting.feeds]
            return by_channel(np.stack(found)), by_channel(np.stack(wanted))

        yield ours[product], layers[attention.values.output], sides


def by_channel(values: Array) -> Array:
    """(samples, 1, heads, tokens, channels) to (samples, tokens, heads * channels), as the layer of values has them."""
    heads = values.reshape(len(values), -1, *values.shape[-2:])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(len(values), heads.shape[2], -1)


Target = Callable[[Setting, Graph, Pair], Sides]


def compensated(setting: Setting, graph: Graph, target: Target, mixing: bool = False) -> Graph:
    """All corrections in the order of the graph.

    Args:
        setting: what to fit with.
        graph: integer.
        target: the two sides of a layer.
        mixing: also correct attention's products, through the weights and the bias of their values: rows of attention
            weights sum to 1, so that a gain and an offset per channel behind the product are those of the values.
    """
    waiting = sorted(products(setting, graph), key=lambda found: found[0]) if mixing else []
    for pair in (*match(graph, setting.reference)[0], None):
        while waiting and (pair is None or waiting[0][0] < pair.integer):
            product, layer, sides = waiting.pop(0)
            graph = corrected(setting, graph, layer, sides(graph), graph.ops[product].outputs[0])
        if pair is not None and is_linear(graph.ops[pair.integer]):
            sides_of = target(setting, graph, pair)
            graph = corrected(setting, graph, pair.integer, sides_of, graph.ops[pair.integer].outputs[0])
    return graph


def main() -> None:
    """Prints one table per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=["resnet20", "vit"])
    parser.add_argument("--precision", default="w4a8", choices=["w4a8", "w8a8"])
    parser.add_argument("--targets", nargs="+", default=["*"], help='such as "*products*" (default: all)')
    asked = parser.parse_args()
    for name in asked.networks:
        try:
            table(name, asked.precision, asked.targets)
        except FileNotFoundError as error:
            sys.exit(str(error))


def table(name: str, precision: str, wanted: Sequence[str]) -> None:
    """One network: recipe `fast` up to compensation, then each target whose name matches a pattern."""
    model = NETWORKS[name].create()
    calibration, test = samples(name, model, 10)
    opened = open_samples(calibration)
    with tempfile.TemporaryDirectory() as folder:
        source = convert(model, opened, Path(folder))
    graph, found = prepare(source.graph).graph, validated(opened, [b.spec for b in source.inputs])
    context = Context.of(source, graph, found, load_target("tflite"))
    made = make(context, load("fast").without("cwac").techniques, parse(precision), Stages())
    count = len(next(iter(test.values())))
    inputs = {k: v for k, v in test.items() if k != "labels"}
    judged = [feed(source, graph, {k: v[i : i + 1] for k, v in inputs.items()}) for i in range(count)]
    exact = run(graph, graph, judged)
    setting = Setting(made.reference, list(context.fit), Options())
    marginless = Setting(setting.reference, setting.feeds, Options(gain_margin=0.0))
    rows: dict[str, Callable[[], Graph]] = {
        "nothing": lambda: made.graph,
        "the float layer's output": lambda: compensated(setting, made.graph, float_layer),
        "the same, gains without a margin": lambda: compensated(marginless, made.graph, float_layer),
        "the float layer's output of the integer input": lambda: compensated(setting, made.graph, local),
        "with the shortcut's error before residual sums": lambda: compensated(setting, made.graph, stream),
    }
    if any(True for _ in attentions(made.reference)):
        rows["with attention's products, through values"] = lambda: compensated(setting, made.graph, float_layer, True)
    cells = []
    for label, build in rows.items():
        if not any(fnmatch(label, pattern) for pattern in wanted):
            continue
        cells.append((label, f"{varying_db(exact, run(build(), graph, judged)):.2f}"))
        print(f"{name}: {' | '.join(cells[-1])}", flush=True)
    title = f"{name}, {precision}, {len(setting.feeds)} samples to fit on, {count} test samples"
    show(title, ("target", "dB of what varies"), cells)


def run(graph: Graph, reference: Graph, judged: Feeds) -> Array:
    """The first output of each sample, as real values, shape (samples, values)."""
    output, runner = graph.outputs[0], xnnpack(graph)
    found = (runner.run(feed_as(graph, reference, values))[output] for values in judged)
    return np.stack([to_real(graph, output, value).reshape(-1) for value in found])


if __name__ == "__main__":
    main()
