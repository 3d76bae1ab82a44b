"""Layers with so many terms that their second moment, of terms times terms, is not to be had.

Its blocks along the diagonal are: the terms are cut into parts, of which each makes up for its own errors alone. What
errors of two parts have in common at the output is left out. Memory is bounded whatever the number of terms: the more
there are, the smaller the parts.

Parts stand where groups of channels stand elsewhere (`least_squares`), except that one scale serves all.
"""

from __future__ import annotations

import math

import numpy as np

from edgeqwt.graph.graph import Array

MOST = 6144  # terms up to which a layer has its whole second moment: 300 MB in float64
ELEMENTS = 1 << 24  # of the second moments of all parts together: 134 MB
LEAST = 16  # terms of a part


def parts(terms: int) -> int:
    """Into how many parts a layer's terms are cut; 1: its second moment is whole."""
    if terms <= MOST:
        return 1
    return math.ceil(terms / max(LEAST, ELEMENTS // terms))


def cut(values: Array, count: int) -> Array:
    """Rows of terms, part by part: (1, rows, terms) to (count, rows, terms / count), zeros in the end."""
    if count == 1:
        return values
    _, rows, terms = values.shape
    width = math.ceil(terms / count)
    padded = np.zeros((rows, count * width), values.dtype)
    padded[:, :terms] = values[0]
    return np.ascontiguousarray(padded.reshape(rows, count, width).swapaxes(0, 1))


def joined(values: Array, terms: int) -> Array:
    """The inverse of `cut`."""
    return np.asarray(values.swapaxes(0, 1).reshape(1, values.shape[1], -1)[:, :, :terms])
