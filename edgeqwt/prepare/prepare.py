"""Float -> float rewrites that leave the function unchanged: the forms that lowering knows.

`PASSES` is the table: each pass takes a graph and returns it rewritten, with the ops
that it changed. They run in order, again and again until none finds anything.

Most are exact. Those that multiply constants together beforehand (a reciprocal, a
batch norm folded into weights) round once more or once less than the original: the
results differ in the last bits of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeqwt.errors import InvariantError, listed
from edgeqwt.graph.graph import Graph
from edgeqwt.prepare import (
    affine,
    canonical,
    centering,
    computed_kernels,
    constant_factors,
    constants,
    decomposed,
    fills,
    functions,
    fusion,
    integer_quotients,
    layer_norm,
    layer_splits,
    linear_forms,
    masks,
    moves,
    norm_forms,
    pools,
    product_layouts,
    quotients,
    repeats,
    shapes,
    slices,
    softmax,
    spectra,
    steps,
    tidy,
    transposes,
)
from edgeqwt.runtime.misread import MISREAD, read_rightly
from edgeqwt.runtime.overwritten import protected

Pass = Callable[[Graph], tuple[Graph, list[str]]]

NAMED = 4  # ops that a sentence names before it counts the rest

PASSES: Mapping[str, Pass] = MappingProxyType(
    {
        "Tensors that shared a name got names of their own": tidy.unique_names,
        "Shapes that were left open although the inputs' are fixed were closed": tidy.static_shapes,
        "Shapes that reductions do not have became those that they have": shapes.computed,
        "Ops with constant inputs were computed": constants.fold,
        "Ops whose results nothing uses were dropped": tidy.drop_dead,
        "Ops that compute the same became one": tidy.merge_equal,
        "Equal constants of integers became one": tidy.share_constants,
        "MUL by ones became BROADCAST_TO": repeats.by_ones,
        "BROADCAST_TO went where what reads it repeats values itself": repeats.needless,
        "RESHAPE, TRANSPOSE and SLICE that change nothing were dropped": tidy.drop_identities,
        "EXP divided by its sum became SOFTMAX": softmax.divided,
        "EXP times the reciprocal of its sum became SOFTMAX": softmax.multiplied,
        "Differences from the logarithm of a sum of EXP became LOG_SOFTMAX": softmax.logarithm,
        "Ops that compute GELU became GELU": functions.gelu,
        "Ops that compute HARD_SWISH became HARD_SWISH": functions.hard_swish,
        "Sums of which a condition leaves one term became SELECT_V2": decomposed.chosen,
        "CASTs in a row became one": decomposed.casts,
        "LOG of SOFTMAX became LOG_SOFTMAX": decomposed.log_softmax,
        "REVERSE_V2 became STRIDED_SLICE": decomposed.reverse,
        "CUMSUM became FULLY_CONNECTED": decomposed.running_sum,
        "RFFT2D became FULLY_CONNECTED for real and imaginary parts": spectra.transforms,
        "REDUCE_PROD became products of halves": decomposed.product,
        "LOCAL_RESPONSE_NORMALIZATION became CONV_2D of squares, and POW": decomposed.response_norm,
        "ONE_HOT became EQUAL": decomposed.one_hot,
        "REDUCE_ANY became REDUCE_ALL": decomposed.any_of,
        "DYNAMIC_UPDATE_SLICE became CONCATENATION": decomposed.update,
        "FULLY_CONNECTED with computed weights became BATCH_MATMUL": product_layouts.computed_weights,
        "CONV_2D with computed weights became BATCH_MATMUL": computed_kernels.convolutions,
        "DEPTHWISE_CONV_2D with computed weights became BATCH_MATMUL": computed_kernels.depthwise,
        "BATCH_MATMUL with a transposed vector on the left got a RESHAPE": product_layouts.lying_left,
        "BATCH_MATMUL reads the rows of its right side": product_layouts.lying_right,
        "RESHAPE and TRANSPOSE in a row became fewer": moves.shorten,
        "What does not depend on the order of axes is computed before TRANSPOSE": transposes.before_transposes,
        "What was picked out of a CONCATENATION is read where it was joined from": steps.pick_joined,
        "SLICE of a SLICE became one": slices.of_slices,
        "SLICE of a CONCATENATION reads what was joined": slices.of_joined,
        "SLICE of a padded tensor reads what was padded": slices.of_padded,
        "SLICEs of products' columns became products of what was joined": slices.of_products,
        "BATCH_MATMUL by a column of equal numbers became SUM": slices.by_equal,
        "SLICEs that divide a tensor became one SPLIT": steps.divide,
        "EMBEDDING_LOOKUP became GATHER": canonical.embedding,
        "GATHER of indices in a row became SLICE": canonical.pick,
        "SELECT became SELECT_V2": canonical.select,
        "SELECT_V2 of indices from the end became arithmetic": canonical.wrapped_index,
        "NEG became MUL by -1": canonical.negation,
        "RELU_0_TO_1 became RELU6 of 6 times the value, over 6": canonical.unit_clamp,
        "SQUARE became MUL": canonical.square,
        "POW by 2, 1/2 and -1/2 became MUL, SQRT and RSQRT": canonical.power,
        "Quotients of integers that are cut off became FLOOR_DIV": integer_quotients.cut_off,
        "Quotients of integers that are rounded down became FLOOR_DIV": integer_quotients.rounded_down,
        "DIV became MUL by the reciprocal": canonical.division,
        "Quotients of products are divided by the root twice": quotients.divided,
        "1 / SQRT became RSQRT": canonical.reciprocal_root,
        "MEAN and the RESHAPE behind it became a MEAN that keeps its axes": norm_forms.keep_axes,
        "LayerNorm that was multiplied out got its difference from the mean back": norm_forms.spread,
        "A norm's difference from the mean, multiplied out and moved about, was put together": norm_forms.gathered,
        "The difference of mean squares became the mean square of differences": norm_forms.difference_of_squares,
        "MEAN of squares became BATCH_MATMUL, which stores no squares": layer_norm.mean_square,
        "Scores replaced by a mask's constant got it added instead": masks.filled,
        "Masks' constants became the smallest that hide scores": masks.soften,
        "Masks' constants in sums that are only compared became small": masks.compared,
        "MAXIMUM with -infinity was dropped": fills.maximum,
        "MINIMUM with infinity was dropped": fills.minimum,
        "Limits behind windows became one for each channel": fills.per_channel,
        "Fill values that were multiplied by a mask are chosen instead": fills.computed,
        "Fill values that were added are chosen by MINIMUM or MAXIMUM": fills.added,
        "Constants that others are chosen over became fill values": fills.canonical,
        "PADV2 between two TRANSPOSEs moved behind them": pools.pads_between,
        "Max pools got their padding from themselves, or padding with zeros": pools.same_pools,
        "SUM became MEAN times the number of elements": canonical.summation,
        "AVERAGE_POOL_2D over whole maps became MEAN, whose scale is its own": canonical.whole_map_pool,
        "DEPTH_TO_SPACE became RESHAPE and TRANSPOSE": canonical.depth_to_space,
        "SPACE_TO_BATCH_ND got its padding from a PAD": canonical.space_to_batch,
        MISREAD: read_rightly,
        "Convolutions without a bias got one of zeros": linear_forms.zero_bias,
        "BATCH_MATMUL with constant weights became FULLY_CONNECTED": linear_forms.matmul,
        "One RESHAPE was enough around FULLY_CONNECTED": layer_splits.join_reshapes,
        "Layers whose outputs are taken apart became a layer for each part": layer_splits.split_layers,
        "Layers with equal weights read one tensor of them": steps.share_weights,
        "Constant factors went into weights": linear_forms.fold_scale,
        "Constant factors went into constants before or behind them": constant_factors.fold_factors,
        "Constant summands went into biases": linear_forms.fold_shift,
        "Constant summands went into the biases of the layers that read them": affine.fold_beta,
        "Residual streams lost the means that every LayerNorm on them subtracts": centering.center,
        "RELU, RELU6 and RELU_N1_TO_1 are computed before the RESHAPE between them and an op": fusion.past_moves,
        "RELU, RELU6 and RELU_N1_TO_1 were fused into the op before": fusion.activation,
    }
)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A float graph ready to be lowered.

    Attributes:
        graph: computes the same function; inputs and outputs keep order, shapes and names. LiteRT overwrites none of
            its integers too early; its real values XNNPACK keeps.
        changes: sentences that say what was rewritten, and where.
    """

    graph: Graph
    changes: tuple[str, ...]


def prepare(graph: Graph) -> Prepared:
    """The graph in canonical form; a graph in canonical form comes back as it is."""
    found: dict[str, list[str]] = {}
    for _ in range(len(graph.ops) + len(PASSES) + 1):
        before = graph
        for what, rewrite in PASSES.items():
            graph, names = rewrite(graph)
            if names:
                found.setdefault(what, []).extend(names)
        if graph is before:
            return Prepared(protected(graph.pruned()), tuple(sentence(what, names) for what, names in found.items()))
    raise InvariantError("preparation does not come to an end")


def sentence(what: str, names: list[str]) -> str:
    """What was done, and the first names of what it was done to."""
    return f"{what}: {listed([*map(repr, names)], NAMED)}."
