"""What is learned of a layer whose weights are sub-vectors from a codebook: codewords, and which of them a piece has.

VQ4DiT (Deng et al. 2024): a piece is the mean of its candidates, the codewords nearest to the real weights, by ratios
that are a softmax; what pulls one of the ratios to 1 and the others to 0 is sum(1 - sum of squared ratios). In the end
a piece is the candidate of the largest ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from edgeqwt.autograd.evaluate import as_array, as_tensor
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots
from edgeqwt.lowering.codebooks import looked_up
from edgeqwt.reconstruct.variables import Variables

LEAD = 1.0  # of the candidate that the graph has, before the softmax: a ratio of 0.73 beside one other


@dataclass(frozen=True, eq=False)
class Coded(Variables):
    """One layer's; `latent` are the ratios' logarithms, shape (rows, pieces, candidates).

    Attributes:
        codes: codewords in steps of the rows' scales, shape (count, length).
        candidates: the codewords that each piece may have, of the shape of `latent`.
        terms: of a row.
    """

    codes: torch.Tensor
    candidates: torch.Tensor
    terms: int

    def constants(self) -> dict[int, torch.Tensor]:
        """Weights and bias as the fake-quantized graph takes them."""
        mixed = (self.codes[self.candidates] * self.latent.softmax(-1)[..., None]).sum(-2)
        found = {self.weight: mixed.flatten(1)[:, : self.terms] * self.current_scale()}
        return found if self.bias < 0 else {**found, self.bias: self.current_bias()}

    def pull(self, done: float) -> torch.Tensor:
        """Sum over pieces of how far they are from one codeword."""
        return done * (1 - self.latent.softmax(-1).square().sum(-1)).sum()

    def integers(self) -> Array:
        """The weights' integers, int8: each piece at the candidate of the largest ratio."""
        chosen = self.candidates.gather(-1, self.latent.argmax(-1, keepdim=True))[..., 0]
        codes = self.codes.detach().round().clamp(-self.limit, self.limit)
        return np.ascontiguousarray(as_array(codes[chosen].flatten(1)[:, : self.terms]).astype(np.int8))


def coded(graph: Graph, v: Variables, real: Array, length: int, count: int) -> Variables:
    """A layer's variables with its codebook; as they are where its weights are not sub-vectors from one.

    Args:
        graph: integer.
        v: of kind "fixed".
        real: the layer's weights in the float graph, of the same shape.
        length: of sub-vectors.
        count: of candidates for each.
    """
    weight = graph.tensors[slots(graph.ops[v.integer]).weight]
    found = looked_up(weight, length) if len(weight.shape) == 2 else None
    if found is None or len(found.codes) < count:
        return v
    rows, pieces = found.indices.shape
    terms = weight.shape[1]
    padding = ((0, 0), (0, pieces * length - terms))
    wanted = np.pad(real / as_array(v.scale), padding).reshape(rows, pieces, length)
    counts = np.pad(np.ones_like(real), padding).reshape(rows, pieces, length)
    codes = found.codes.astype(np.float64)
    far = counts @ np.square(codes).T - 2 * (counts * wanted) @ codes.T
    far[np.arange(rows)[:, None], np.arange(pieces), found.indices] = -np.inf  # the graph's own comes first
    candidates = np.argsort(far, axis=-1, kind="stable")[..., :count]
    latent = torch.zeros(rows, pieces, count, device=v.scale.device)
    latent[..., 0] = LEAD
    return Coded(
        **{**vars(v), "kind": "codebook", "latent": latent.requires_grad_()},
        codes=as_tensor(codes).requires_grad_(),
        candidates=as_tensor(candidates),
        terms=terms,
    )
