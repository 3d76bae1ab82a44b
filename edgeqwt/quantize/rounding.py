"""How weights are rounded to integers: to nearest, or with later weights making up for earlier ones.

A rule is a frozen dataclass whose fields are its options; `ROUNDINGS` lists them by the name
that recipes use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from edgeqwt.graph.graph import Array


@dataclass(frozen=True)
class Nearest:
    """Each weight to the nearest integer."""

    samples: ClassVar[int] = 1  # its inputs do not matter to it

    def round(self, weights: Array, scale: Array, hessian: Array, limit: int) -> Array:
        """See Gptq.round; `hessian` is not looked at."""
        return np.clip(np.rint(weights / scale[:, None]), -limit, limit).astype(np.int8)


@dataclass(frozen=True)
class Gptq:
    """Second-order rounding: GPTQ (Frantar et al. 2022, algorithm 1), after Optimal Brain Surgeon.

    Weights are rounded one column at a time; the error of each is spread over the columns that are
    still real, so that the layer's output on the calibration inputs changes least.

    Attributes:
        damping: added to the Hessian's diagonal, as a share of its mean, so that it can be inverted
            and inputs that calibration hardly saw do not soak up the error.
        samples: how many samples the Hessian is summed over, at most.
    """

    damping: float = 0.01
    samples: int = 256

    def round(self, weights: Array, scale: Array, hessian: Array, limit: int) -> Array:
        """Integers for one group of output channels.

        Args:
            weights: real, shape (channels, terms).
            scale: of each channel, shape (channels,).
            hessian: sum of x x^T over the inputs that the weights meet, shape (terms, terms).
            limit: integers lie within +-limit.

        Returns:
            int8, shape (channels, terms).
        """
        diagonal = np.diag(hessian).astype(np.float64)
        if not diagonal.any():
            return Nearest().round(weights, scale, hessian, limit)
        # Columns of large inputs first: their errors can then still be made up for (the paper's "act order").
        order = np.argsort(-diagonal, kind="stable")
        damped = hessian[np.ix_(order, order)] + self.damping * diagonal.mean() * np.eye(len(order))
        inverse = np.linalg.cholesky(np.linalg.inv(damped)).T  # upper triangular: the paper's Cholesky form
        real, steps = weights[:, order].astype(np.float64), scale.astype(np.float64)
        integers = np.zeros(real.shape, np.int8)
        for k in range(len(order)):
            integers[:, k] = np.clip(np.rint(real[:, k] / steps), -limit, limit)
            error = (real[:, k] - integers[:, k] * steps) / inverse[k, k]
            real[:, k + 1 :] -= np.outer(error, inverse[k, k + 1 :])
        restored = np.empty_like(integers)
        restored[:, order] = integers
        return restored


RoundingRule = Nearest | Gptq

ROUNDINGS: Mapping[str, type[Nearest] | type[Gptq]] = MappingProxyType({"nearest": Nearest, "gptq": Gptq})
