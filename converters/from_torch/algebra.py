"""Linear algebra of torch: inverses of small matrices as sums and products, of weights as constants; the rest refused.

A matrix's inverse, up to 4 x 4, is a polynomial in it: Faddeev and LeVerrier's method, which needs no pivots, and so
neither branches nor loops (U. Le Verrier, J. Math. Pures Appl. 5, 1840; D. K. Faddeev, V. N. Faddeeva, Computational
Methods of Linear Algebra, 1963, section 47). Decompositions go on until values say that they may end: no file can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.overrides import resolve_name

from edgeqwt.converters.converter import NoConverterError
from edgeqwt.loading import user_line

Form = Callable[..., Any]
LARGEST = 4
"""Rows of matrices that are inverted by arithmetic: each row more squares what float32 has to hold."""
ROTATION = " A rotation can be had without it, from two vectors that are normalized and made orthogonal."
ARGUMENTS = "input", "A", "B"  # torch's names of the matrices, in their order
_REFUSED = "svd svdvals qr eig eigh eigvals eigvalsh cholesky lstsq pinv matrix_exp lu lu_factor matrix_rank"
_OF_TORCH = "svd qr cholesky pinverse matrix_exp lu geqrf"


def algebra_forms() -> Mapping[Any, Form]:
    """By function; see `forms.Form`."""
    kinds: list[tuple[str, Form, tuple[object, ...]]] = [
        ("inverse", _inverse, (torch, torch.Tensor)),
        ("inv", _inverse, (torch.linalg,)),
        ("det", lambda x: _polynomial(x)[1], (torch, torch.Tensor, torch.linalg)),
        ("logdet", lambda x: _polynomial(x)[1].log(), (torch, torch.Tensor)),
        ("slogdet", _sign_and_size, (torch, torch.Tensor, torch.linalg)),
        ("solve", _solution, (torch.linalg,)),
        *((name, _none, (torch.linalg,)) for name in _REFUSED.split()),
        *((name, _none, (torch, torch.Tensor)) for name in _OF_TORCH.split()),
    ]
    functions = [(getattr(owner, name, None), form) for name, form, owners in kinds for owner in owners]
    return {func: partial(_run, func, form) for func, form in functions if func is not None}


def _run(func: Any, form: Form, *args: Any, **more: Any) -> Any:
    """Of weights the value, of what is small the form."""
    given = [x for x in (*args, *more.values()) if isinstance(x, torch.Tensor)]
    if all(isinstance(x, torch.nn.Parameter) for x in given):
        with _untraced():
            return func(*args, **more)
    args = (*args, *(more.pop(name) for name in ARGUMENTS if name in more))
    found = form(*args) if given[0].ndim >= 2 and given[0].shape[-1] <= LARGEST and not more else None
    if found is None:
        name, line = resolve_name(func) or getattr(func, "__name__", str(func)), user_line()
        sizes = " and ".join(str(tuple(int(size) for size in x.shape)) for x in given)
        what = f"{name} of {sizes}" + (f" ({line})" if line else "")
        raise NoConverterError(
            what,
            "tflite",
            f"how many steps it takes depends on the values; inverses up to {LARGEST} x {LARGEST} are arithmetic",
            "Return what it is given as an output of forward, and compute it in the application."
            + (ROTATION if "svd" in name or "qr" in name else ""),
        )
    return found


@contextmanager
def _untraced() -> Iterator[None]:
    """What is computed meanwhile is a constant of the trace."""
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


def _none(*args: Any, **more: Any) -> None:
    """There is no form."""


def _polynomial(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Adjugate and determinant of matrices, shape (..., n, n)."""
    size = int(x.shape[-1])
    one = torch.eye(size, dtype=x.dtype)
    adjugate, last = one.expand(x.shape), _trace(x, one)
    for k in range(2, size + 1):
        adjugate = (x if k == 2 else x @ adjugate) - last * one
        last = _trace(x @ adjugate, one) / k
    sign = -1.0 if size % 2 == 0 else 1.0
    return adjugate * sign, (last * sign)[..., 0, 0]


def _trace(x: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
    return (x * one).sum((-2, -1), keepdim=True)


def _inverse(x: torch.Tensor) -> torch.Tensor:
    adjugate, determinant = _polynomial(x)
    return adjugate / determinant[..., None, None]


def _sign_and_size(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    determinant = _polynomial(x)[1]
    found: tuple[torch.Tensor, torch.Tensor] = torch.return_types.slogdet((determinant.sign(), determinant.abs().log()))
    return found


def _solution(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Of one column, shape (..., n), or several, (..., n, k), as torch tells them apart."""
    column = right.ndim == 1 or (right.ndim == matrix.ndim - 1 and right.shape == matrix.shape[:-1])
    found = _inverse(matrix) @ (right.unsqueeze(-1) if column else right)
    return found.squeeze(-1) if column else found
