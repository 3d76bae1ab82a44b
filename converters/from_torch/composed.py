"""Functions that torch's first ONNX exporter does not know, composed of those that it knows.

Its second exporter knows many of them, but not what is written otherwise for the first (`forms.forms`), so that a
network with one function of either kind could not be exported at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

LEAST_LOGARITHM = -100.0  # of binary_cross_entropy, by its definition
SPECIAL = frozenset({"erfc", "erfinv", "exp2", "expm1", "xlogy"})  # that torch.special has, too
INVERSE_ERF = (
    (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 2.1858087e-04, -1.25372503e-03, -4.17768164e-03,
     2.46640727e-01, 1.50140941),
    (-2.00214257e-04, 1.00950558e-04, 1.34934322e-03, -3.67342844e-03, 5.73950773e-03, -7.6224613e-03, 9.43887047e-03,
     1.00167406, 2.83297682),
)  # fmt: skip
"""Polynomials for the middle and the ends: M. Giles, Approximating the erfinv function, GPU Computing Gems 2 (2012)."""
IGNORED = -100  # the class that cross_entropy leaves out if nobody says another


def functional_forms() -> Mapping[Any, Callable[..., Any]]:
    """Functions of torch.nn.functional and torch.linalg; see `forms.Form`."""
    return {
        F.affine_grid: _affine_grid,
        F.fold: _fold,
        F.rms_norm: _rms_norm,
        F.threshold: lambda x, threshold, value, inplace=False: torch.where(x > threshold, x, value),
        F.smooth_l1_loss: _smooth,
        F.huber_loss: _huber,
        F.binary_cross_entropy: _binary_cross_entropy,
        F.cross_entropy: _cross_entropy,
        torch.linalg.multi_dot: lambda tensors: reduce(torch.matmul, tensors),
        torch.linalg.matrix_power: _power,
        F.channel_shuffle: _shuffled,
        torch.special.ndtr: lambda x: 0.5 * (1 + (x * 0.5**0.5).erf()),
        torch.special.ndtri: lambda x: 2**0.5 * _inverse_erf(2 * x - 1),
        torch.special.entr: lambda x: -_log_product(x, x),
        **{getattr(torch.special, name): form for name, form in composed_forms().items() if name in SPECIAL},
    }


def composed_forms() -> Mapping[str, Callable[..., Any]]:
    """Functions of torch that most are a tensor's, too, by name; see `forms.Form`."""
    return {
        "acosh": lambda x: (x + (x * x - 1).sqrt()).log(),
        "addbmm": lambda x, a, b, *, beta=1, alpha=1: beta * x + alpha * (a @ b).sum(0),
        "addcdiv": lambda x, a, b, *, value=1: x + value * (a / b),
        "asinh": lambda x: x.sign() * (x.abs() + (x * x + 1).sqrt()).log(),
        "atanh": lambda x: 0.5 * ((1 + x) / (1 - x)).log(),
        "cdist": _distances,
        "channel_shuffle": _shuffled,
        "cosh": lambda x: 0.5 * (x.exp() + (-x).exp()),
        "count_nonzero": lambda x, dim=None: (x != 0).sum() if dim is None else (x != 0).sum(dim),
        "deg2rad": lambda x: x * float(np.pi / 180),
        "diag": _diagonal,
        "diag_embed": _on_a_diagonal,
        "diff": _differences,
        "dist": lambda x, y, p=2: torch.linalg.vector_norm(x - y, ord=p),
        "erfc": lambda x: 1 - x.erf(),
        "erfinv": _inverse_erf,
        "exp2": lambda x: (x * float(np.log(2))).exp(),
        "expm1": lambda x: x.exp() - 1,
        "fix": _truncated,
        "fliplr": lambda x: x.flip(1),
        "flipud": lambda x: x.flip(0),
        "frac": lambda x: x - _truncated(x),
        "heaviside": lambda x, values: torch.where(x == 0, values, (x > 0).to(x.dtype)),
        "inner": lambda x, y: torch.tensordot(x, y, dims=([-1], [-1])) if min(x.ndim, y.ndim) else NotImplemented,
        "isin": _is_in,
        "kron": _kronecker,
        "ldexp": lambda x, y: x * 2.0**y,
        "logaddexp": lambda x, y: x.maximum(y) + F.softplus(-(x - y).abs()),
        "matrix_power": _power,
        "msort": lambda x: x.topk(len(x), 0, largest=False)[0],
        "positive": lambda x: x,
        "quantile": _quantile,
        "rad2deg": lambda x: x * float(180 / np.pi),
        "ravel": lambda x: x.reshape(-1),
        "rms_norm": _rms_norm,
        "rot90": _turned,
        "sgn": lambda x: x.sign(),
        "sinh": lambda x: 0.5 * (x.exp() - (-x).exp()),
        "take_along_dim": _taken_along,
        "trace": lambda x: x.diagonal().sum(),
        "trapezoid": _trapezoid,
        "trapz": _trapezoid,
        "trunc": _truncated,
        "xlogy": _log_product,
    }


def _inverse_erf(x: torch.Tensor) -> torch.Tensor:
    w = -((1 - x) * (1 + x)).log()
    middle, ends = torch.zeros_like(x), torch.zeros_like(x)
    for a, b in zip(*INVERSE_ERF, strict=True):
        middle, ends = middle * (w - 2.5) + a, ends * (w.clamp(min=5).sqrt() - 3) + b
    return x * torch.where(w < 5, middle, ends)


def _truncated(x: torch.Tensor) -> torch.Tensor:
    return x.sign() * x.abs().floor()


def _log_product(x: Any, y: Any) -> Any:
    """x log y, which is 0 where x is."""
    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
        return NotImplemented
    return torch.where(x == 0, torch.zeros_like(x), x * torch.where(x == 0, torch.ones_like(y), y).log())


def _shuffled(x: torch.Tensor, groups: int) -> torch.Tensor:
    batch, channels, *sizes = (int(n) for n in x.shape)
    return x.reshape(batch, groups, channels // groups, *sizes).transpose(1, 2).reshape(batch, channels, *sizes)


def _diagonal(x: torch.Tensor, diagonal: int = 0) -> Any:
    return _on_a_diagonal(x, diagonal) if x.ndim == 1 else x.diagonal(diagonal)


def _on_a_diagonal(x: torch.Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """Vectors on the diagonals of matrices: products with ones there."""
    if offset or (dim1, dim2) != (-2, -1):
        return NotImplemented
    return x.unsqueeze(-1) * torch.eye(int(x.shape[-1]), dtype=x.dtype)


def _differences(x: torch.Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> torch.Tensor:
    given = [part for part in (prepend, x, append) if part is not None]
    x = torch.cat(given, dim) if len(given) > 1 else x
    for _ in range(n):
        count = int(x.shape[dim]) - 1
        x = x.narrow(dim, 1, count) - x.narrow(dim, 0, count)
    return x


def _distances(x: torch.Tensor, y: torch.Tensor, p: float = 2.0, compute_mode: Any = None) -> Any:
    """Of every row to every other: the exporter adds 1e-6 to differences, and forgets their signs where p is 1."""
    if p not in (1, 2):
        return NotImplemented
    difference = x.unsqueeze(-2) - y.unsqueeze(-3)
    return difference.abs().sum(-1) if p == 1 else (difference * difference).sum(-1).sqrt()


def _is_in(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    if not isinstance(elements, torch.Tensor) or not isinstance(test_elements, torch.Tensor):
        return NotImplemented
    found = (elements.unsqueeze(-1) == test_elements.reshape(-1)).any(-1)
    return ~found if invert else found


def _kronecker(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Every value of the first times all of the second."""
    rank = max(x.ndim, y.ndim)
    a, b = ([1] * (rank - t.ndim) + [int(n) for n in t.shape] for t in (x, y))
    left = x.reshape([n for size in a for n in (size, 1)])
    right = y.reshape([n for size in b for n in (1, size)])
    return (left * right).reshape([m * n for m, n in zip(a, b, strict=True)])


def _power(x: torch.Tensor, n: int) -> Any:
    return reduce(torch.matmul, [x] * n) if n > 0 else NotImplemented


def _turned(x: torch.Tensor, k: int = 1, dims: Any = (0, 1)) -> torch.Tensor:
    first, second = dims
    turned: dict[int, Callable[[], torch.Tensor]] = {
        0: lambda: x,
        1: lambda: x.flip(second).transpose(first, second),
        2: lambda: x.flip(first, second),
        3: lambda: x.flip(first).transpose(first, second),
    }
    return turned[k % 4]()


def _taken_along(x: torch.Tensor, indices: torch.Tensor, dim: int | None = None) -> Any:
    if dim is None:
        return x.reshape(-1).gather(0, indices.reshape(-1))
    shapes = [[int(n) for axis, n in enumerate(t.shape) if axis != dim % t.ndim] for t in (x, indices)]
    return x.gather(dim, indices) if shapes[0] == shapes[1] else NotImplemented


def _trapezoid(y: torch.Tensor, x: Any = None, *, dx: float = 1, dim: int = -1) -> Any:
    if x is not None:
        return NotImplemented
    count = int(y.shape[dim]) - 1
    return (y.narrow(dim, 1, count) + y.narrow(dim, 0, count)).sum(dim) * (0.5 * dx)


def _quantile(
    x: torch.Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Any:
    """Between two ranks of what is sorted."""
    if interpolation != "linear" or (isinstance(q, torch.Tensor) and q.ndim > 1):
        return NotImplemented
    given = torch.as_tensor(q).reshape(-1).tolist()
    if dim is None:
        x, dim, keepdim = x.reshape(-1), 0, False
    count, found = int(x.shape[dim]), []
    ordered = x.topk(count, dim, largest=False)[0]
    for one in given:
        low = min(int(one * (count - 1)), max(count - 2, 0))
        first, second = (ordered.narrow(dim, min(low + k, count - 1), 1) for k in (0, 1))
        value = first + (second - first) * (one * (count - 1) - low)
        found.append(value if keepdim else value.squeeze(dim))
    return torch.stack(found) if isinstance(q, torch.Tensor) and q.ndim else found[0]


# -- networks' own ---------------------------------------------------------------------


def _rms_norm(x: torch.Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> torch.Tensor:
    """What is left of values divided by the root of their mean square."""
    axes = list(range(x.ndim - len(normalized_shape), x.ndim))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    found = x * torch.rsqrt((x * x).mean(axes, keepdim=True) + eps)
    return found if weight is None else found * weight


def _affine_grid(theta: torch.Tensor, size: Any, align_corners: Any = None) -> Any:
    """Where each pixel is read, as spatial transformers have it: constant places times a matrix."""
    batch, _, *sizes = (int(n) for n in size)
    if len(sizes) != 2:
        return NotImplemented
    ends = [np.linspace(-1, 1, n) if align_corners else (2 * np.arange(n) + 1) / n - 1 for n in sizes]
    rows, columns = np.meshgrid(
        *(np.where(n == 1, 0.0, end) for n, end in zip(sizes, ends, strict=True)), indexing="ij"
    )
    places = np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3).astype(np.float32)
    return (torch.tensor(places) @ theta.transpose(1, 2)).reshape(batch, *sizes, 2)


def _fold(
    x: torch.Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    """Columns, (batch, channels * places of the window, windows), as a map in which windows add up.

    That is a transposed convolution with ones.
    """
    (height, width), (down, across), (step_y, step_x), (pad_y, pad_x), (stride_y, stride_x) = (
        (value, value) if isinstance(value, int) else tuple(int(n) for n in value)
        for value in (output_size, kernel_size, dilation, padding, stride)
    )
    if x.ndim != 3:
        return NotImplemented
    rows = (height + 2 * pad_y - step_y * (down - 1) - 1) // stride_y + 1
    columns = (width + 2 * pad_x - step_x * (across - 1) - 1) // stride_x + 1
    channels = int(x.shape[1]) // (down * across)
    stacked = x.reshape(int(x.shape[0]), -1, rows, columns)
    if (down, step_y, stride_y, pad_y, height) == (across, 1, down, 0, rows * down) and (
        (step_x, stride_x, pad_x, width) == (1, across, 0, columns * across)
    ):
        return F.pixel_shuffle(stacked, down)
    ones = torch.eye(down * across).reshape(1, down * across, 1, down, across) * torch.eye(channels).reshape(
        channels, 1, channels, 1, 1
    )
    whole = F.conv_transpose2d(
        stacked, ones.reshape(-1, channels, down, across), stride=(stride_y, stride_x), dilation=(step_y, step_x)
    )
    lacking = [
        max(0, pad + size - int(n))
        for pad, size, n in ((pad_y, height, whole.shape[2]), (pad_x, width, whole.shape[3]))
    ]
    whole = F.pad(whole, (0, lacking[1], 0, lacking[0])) if any(lacking) else whole
    return whole[:, :, pad_y : pad_y + height, pad_x : pad_x + width]


# -- differences as outputs, such as how unusual a sample is ---------------------------


def _reduced(values: torch.Tensor, reduction: str) -> torch.Tensor:
    return values if reduction == "none" else values.mean() if reduction == "mean" else values.sum()


def _smooth(
    x: torch.Tensor,
    y: torch.Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1,
) -> Any:
    if size_average is not None or reduce is not None or not beta:
        return NotImplemented
    return _reduced(_hubers(x - y, beta) / beta, reduction)


def _huber(x: torch.Tensor, y: torch.Tensor, reduction: str = "mean", delta: float = 1, weight: Any = None) -> Any:
    return NotImplemented if weight is not None else _reduced(_hubers(x - y, delta), reduction)


def _hubers(difference: torch.Tensor, delta: float) -> torch.Tensor:
    """Half of the square up to a limit, and a line beyond."""
    size = difference.abs()
    return torch.where(size < delta, 0.5 * size * size, delta * (size - 0.5 * delta))


def _binary_cross_entropy(
    x: torch.Tensor,
    y: torch.Tensor,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    if weight is not None or size_average is not None or reduce is not None:
        return NotImplemented
    one, other = (value.log().clamp(min=LEAST_LOGARITHM) for value in (x, 1 - x))
    return _reduced(-(y * one + (1 - y) * other), reduction)


def _cross_entropy(x: torch.Tensor, y: torch.Tensor, *args: Any, reduction: str = "mean", **more: Any) -> Any:
    """Of probabilities; the exporter takes them for classes, which it knows."""
    usual = not args and not more.pop("label_smoothing", 0.0) and all(v in (None, IGNORED) for v in more.values())
    if not y.is_floating_point() or x.ndim < 2 or not usual:
        return NotImplemented
    return _reduced(-(x.log_softmax(1) * y).sum(1), reduction)
