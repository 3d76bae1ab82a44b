"""Complex values of torch as pairs of real ones.

TFLite has no complex numbers that integers could stand for. While a module is traced, what gives complex values gives a
`Complex`: two real tensors, with the methods and functions that networks use on them. What is not here ends the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial, reduce
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

MOVES = frozenset(
    {
        "reshape", "view", "permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "flatten",
        "unflatten", "unsqueeze", "squeeze", "contiguous", "clone", "detach", "narrow", "select", "index_select",
        "expand", "expand_as", "repeat", "repeat_interleave", "tile", "sum", "mean", "cumsum", "roll", "flip", "rot90",
        "chunk", "split", "unbind", "diagonal", "t", "float", "resolve_conj", "resolve_neg",
    }
)  # fmt: skip
"""Methods and functions that do the same to real and imaginary parts."""
PRODUCTS = ("matmul", "bmm", "mm", "mv", "outer", "inner", "dot", "vdot", "kron")
"""Functions that are linear in each of two values."""
LAYERS = (F.linear, F.conv1d, F.conv2d, F.conv_transpose1d, F.conv_transpose2d)
"""Functions that are linear in a value and in their weights, and add a bias that may be None."""
MADE = ("zeros", "ones", "empty", "zeros_like", "ones_like", "empty_like", "new_zeros", "new_ones", "new_empty")
"""Functions that make values of a type."""
HIGHEST_POWER = 8


class Complex:
    """A complex tensor as two real ones of equal shape.

    Args:
        real: its real part.
        imag: its imaginary part.
    """

    dtype = torch.complex64
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, real: torch.Tensor, imag: torch.Tensor) -> None:
        self.real = real
        self.imag = imag

    @property
    def shape(self) -> torch.Size:
        """Of either part."""
        return self.real.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.real.ndim

    @property
    def device(self) -> torch.device:
        """Of either part."""
        return self.real.device

    @property
    def T(self) -> Complex:  # noqa: N802 (torch's name)
        """The axes in reverse order."""
        return self._each(lambda part: part.permute(*reversed(range(part.ndim))))  # type: ignore[no-any-return]

    @property
    def mT(self) -> Complex:  # noqa: N802 (torch's name)
        """The last two axes swapped."""
        return self._each(lambda part: part.transpose(-2, -1))  # type: ignore[no-any-return]

    @property
    def mH(self) -> Complex:  # noqa: N802 (torch's name)
        """The conjugate with the last two axes swapped."""
        return self.mT.conj()

    def __getattr__(self, name: str) -> Any:
        if name in MOVES:
            return lambda *args, **more: self._each(lambda part: getattr(part, name)(*args, **more))
        form = _functions().get(getattr(torch.Tensor, name, None))
        if form is None:
            raise _lacking(name)
        return lambda *args, **more: form(self, *args, **more)

    def __getitem__(self, index: Any) -> Any:
        return self._each(lambda part: part[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        real, imag = parts(value)
        self.real[index] = real
        self.imag[index] = 0.0 if imag is None else imag

    def __len__(self) -> int:
        return len(self.real)

    def _each(self, function: Callable[[torch.Tensor], Any]) -> Any:
        real, imag = function(self.real), function(self.imag)
        if isinstance(real, tuple | list):
            return tuple(Complex(r, i) for r, i in zip(real, imag, strict=True))
        return Complex(real, imag)

    def size(self, dim: int | None = None) -> Any:
        """Of all axes, or of one."""
        return self.real.size() if dim is None else self.real.size(dim)

    def dim(self) -> int:
        """Number of axes."""
        return self.real.dim()

    def is_complex(self) -> bool:
        """That it is."""
        return True

    def to(self, *args: Any, **more: Any) -> Complex:
        """As it is: there is one complex type here, and one device."""
        return self

    type = type_as = cfloat = cdouble = cpu = to

    def abs(self) -> torch.Tensor:
        """The magnitude."""
        return (self.real * self.real + self.imag * self.imag).sqrt()

    def angle(self) -> torch.Tensor:
        """The phase, in radians."""
        return torch.atan2(self.imag, self.real)

    def conj(self) -> Complex:
        """The complex conjugate."""
        return Complex(self.real, -self.imag)

    def exp(self) -> Complex:
        """e to it."""
        size = self.real.exp()
        return Complex(size * self.imag.cos(), size * self.imag.sin())

    def reciprocal(self) -> Complex:
        """One over it."""
        square = self.real * self.real + self.imag * self.imag
        return Complex(self.real / square, -self.imag / square)

    def __neg__(self) -> Complex:
        return Complex(-self.real, -self.imag)

    def __add__(self, other: Any) -> Complex:
        real, imag = parts(other)
        return Complex(self.real + real, self.imag if imag is None else self.imag + imag)

    def __sub__(self, other: Any) -> Complex:
        real, imag = parts(other)
        return Complex(self.real - real, self.imag if imag is None else self.imag - imag)

    def __rsub__(self, other: Any) -> Complex:
        return (-self).__add__(other)

    def __mul__(self, other: Any) -> Complex:
        return _bilinear(torch.mul, self, other)

    def __truediv__(self, other: Any) -> Complex:
        real, imag = parts(other)
        if imag is None:
            return Complex(self.real / real, self.imag / real)
        return _bilinear(torch.mul, self, _whole(other).reciprocal())

    def __rtruediv__(self, other: Any) -> Complex:
        return _bilinear(torch.mul, self.reciprocal(), other)

    def __pow__(self, exponent: Any) -> Complex:
        if exponent not in range(1, HIGHEST_POWER + 1):
            raise _lacking(f"power of {exponent}")
        return reduce(Complex.__mul__, [self] * int(exponent))

    def __matmul__(self, other: Any) -> Complex:
        return _bilinear(torch.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Complex:
        return _bilinear(torch.matmul, other, self)

    __radd__, __rmul__ = __add__, __mul__

    @classmethod
    def __torch_function__(
        cls, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Functions of torch that are given one."""
        name, form = getattr(func, "__name__", str(func)), _functions().get(func)
        if form is not None:
            return form(*args, **(kwargs or {}))
        if name in MOVES and isinstance(args[0], Complex):
            return getattr(args[0], name)(*args[1:], **(kwargs or {}))
        raise _lacking(name)


def _lacking(name: str) -> AttributeError:
    return AttributeError(
        f"complex values have no {name!r} while a module is traced: compute it of their .real and .imag"
    )


def parts(value: Any) -> tuple[Any, Any]:
    """Real and imaginary part; None for the latter where there is none. Complex tensors are taken for constants."""
    if isinstance(value, Complex | complex):
        return value.real, value.imag
    if isinstance(value, torch.Tensor) and value.is_complex():
        data = value.detach().resolve_conj().numpy()
        return torch.tensor(data.real.copy()), torch.tensor(data.imag.copy())
    return value, None


def _whole(value: Any) -> Any:
    """A complex tensor or number as a pair; others as they are, those of a list, too."""
    if isinstance(value, list | tuple):
        return [_whole(v) for v in value]
    real, imag = parts(value)
    return value if imag is None or isinstance(value, Complex) else Complex(*map(torch.as_tensor, (real, imag)))


def _both(value: Any) -> tuple[Any, Any]:
    real, imag = parts(value)
    return real, torch.zeros_like(real) if imag is None else imag


def _any(values: Sequence[Any]) -> bool:
    """Whether a value or one of a list is complex."""
    return any(
        _any(v) if isinstance(v, list | tuple) else isinstance(v, Complex | complex)
        or (isinstance(v, torch.Tensor) and v.is_complex())
        for v in values
    )  # fmt: skip


def _bilinear(function: Callable[[Any, Any], Any], a: Any, b: Any) -> Complex:
    """A function that is linear in each of two values, of which one is complex."""
    (real, imag), (other, turned) = parts(a), parts(b)
    if turned is None:
        return Complex(function(real, other), function(imag, other))
    if imag is None:
        return Complex(function(real, other), function(real, turned))
    return Complex(function(real, other) - function(imag, turned), function(real, turned) + function(imag, other))


def _summed(equation: str, *operands: Any) -> Complex:
    """An einsum: of several complex values it is the sum over all choices of their parts, each times its power of i."""
    given = operands[0] if isinstance(operands[0], list | tuple) else operands
    found: dict[bool, torch.Tensor] = {}
    for chosen in product(*([(p, k) for k, p in enumerate(parts(g)) if p is not None] for g in given)):
        turns = sum(k for _, k in chosen)
        term = torch.einsum(equation, *(p for p, _ in chosen))
        term = term if turns % 4 < 2 else -term
        odd = turns % 2 == 1
        found[odd] = found[odd] + term if odd in found else term
    return Complex(found[False], found[True])


def _layer(function: Callable[..., Any]) -> Callable[..., Any]:
    def form(x: Any, weight: Any, bias: Any = None, *args: Any, **more: Any) -> Complex:
        found = _bilinear(lambda a, b: function(a, b, None, *args, **more), x, weight)
        if bias is None:
            return found
        shape = (-1,) if function is F.linear else (-1, *(1,) * (weight.ndim - 2))
        return found + Complex(*(part.reshape(shape) for part in _both(bias)))

    return form


def _joined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of a list of values, some of them complex."""

    def form(values: Any, *args: Any, **more: Any) -> Complex:
        reals, imags = zip(*map(_both, values), strict=True)
        return Complex(function(reals, *args, **more), function(imags, *args, **more))

    return form


def _chosen(condition: torch.Tensor, a: Any, b: Any) -> Complex:
    (real, imag), (other, turned) = parts(a), parts(b)
    zero = 0.0
    return Complex(
        torch.where(condition, real, other),
        torch.where(condition, zero if imag is None else imag, zero if turned is None else turned),
    )


def _made(function: Callable[..., Any]) -> Callable[..., Any]:
    """What makes values of a complex type, or like complex ones; others are made as ever."""

    def form(*args: Any, dtype: torch.dtype | None = None, **more: Any) -> Any:
        like = isinstance(args[0], Complex) if args else False
        if not (like if dtype is None else dtype.is_complex):
            if like:
                return function(args[0].real, *args[1:], dtype=dtype, **more)
            return NotImplemented
        real = function(*map(_counted, args), dtype=torch.float32, **more)
        return Complex(real, torch.zeros([int(n) for n in real.shape]))

    return form


def _counted(value: Any) -> Any:
    """A size as a number: what a traced one makes would be written into at positions that no runtime knows."""
    if isinstance(value, tuple | list):
        return [int(n) for n in value]
    return value.real if isinstance(value, Complex) else int(value) if _is_size(value) else value


def _is_size(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 0 and not value.is_floating_point()


def _typed(x: Any, *args: Any, **more: Any) -> Any:
    """A real value as a complex one."""
    types = [a for a in (*args, *more.values()) if isinstance(a, torch.dtype)]
    if isinstance(x, Complex) or not any(t.is_complex for t in types) or x.is_complex():
        return x if isinstance(x, Complex) else NotImplemented
    return Complex(x.float(), torch.zeros_like(x, dtype=torch.float32))


def _where_complex(form: Callable[..., Any]) -> Callable[..., Any]:
    """A form that leaves what is given no complex value as it is."""

    def checked(*args: Any, **more: Any) -> Any:
        given = [*args, *more.values()]
        return form(*map(_whole, args), **{k: _whole(v) for k, v in more.items()}) if _any(given) else NotImplemented

    return checked


@cache
def _functions() -> Mapping[Any, Callable[..., Any]]:
    """What stands for functions of which something given is complex; torch's and a tensor's own count as two."""
    named: dict[str, Callable[..., Any]] = {
        "abs": lambda x: x.abs(),
        "absolute": lambda x: x.abs(),
        "__abs__": lambda x: x.abs(),
        "angle": lambda x: x.angle(),
        "conj": lambda x: x.conj(),
        "conj_physical": lambda x: x.conj(),
        "adjoint": lambda x: x.mH,
        "exp": lambda x: x.exp(),
        "neg": lambda x: -x,
        "square": lambda x: x * x,
        "reciprocal": lambda x: x.reciprocal(),
        "pow": lambda x, n: x**n,
        "__pow__": lambda x, n: x**n,
        "is_complex": lambda x: True,
        "real": lambda x: x.real,
        "imag": lambda x: x.imag,
        "view_as_real": lambda x: torch.stack((x.real, x.imag), -1),
        "einsum": _summed,
        "where": _chosen,
    }
    for names, form in (
        (("mul", "multiply", "__mul__", "__rmul__"), partial(_bilinear, torch.mul)),
        (("add", "__add__", "__radd__"), lambda a, b: a + b if isinstance(a, Complex) else b + a),
        (("sub", "subtract", "__sub__"), lambda a, b: a - b if isinstance(a, Complex) else -b + a),
        (("rsub", "__rsub__"), lambda a, b: b - a if isinstance(b, Complex) else -a + b),
        (("div", "divide", "true_divide", "__truediv__"), _divided),
        (("__rtruediv__", "__rdiv__"), lambda a, b: _divided(b, a)),
        (("__matmul__",), partial(_bilinear, torch.matmul)),
        (("__rmatmul__",), lambda a, b: _bilinear(torch.matmul, b, a)),
    ):
        named |= dict.fromkeys(names, form)
    for name in PRODUCTS:
        named[name] = partial(_bilinear, getattr(torch, name))
    named["vdot"] = lambda a, b: _bilinear(torch.dot, a.conj() if isinstance(a, Complex) else a, b)
    for name in ("cat", "concat", "concatenate", "stack", "hstack", "vstack"):
        named[name] = _joined(getattr(torch, name))
    found: dict[Any, Callable[..., Any]] = {function: _layer(function) for function in LAYERS}
    found[F.dropout] = lambda x, p=0.5, training=False, inplace=False: x
    for part in ("real", "imag"):
        found[getattr(torch.Tensor, part).__get__] = named[part]
    for name, form in named.items():
        found |= {getattr(owner, name): form for owner in (torch, torch.Tensor) if hasattr(owner, name)}
    found = {function: _where_complex(form) for function, form in found.items() if callable(function)}
    for name in MADE:
        found |= {f: _made(f) for owner in (torch, torch.Tensor) if (f := getattr(owner, name, None)) is not None}
    return found | dict.fromkeys((torch.Tensor.to, torch.Tensor.type), _typed)


def _divided(a: Any, b: Any) -> Complex:
    found: Complex = a / b if isinstance(a, Complex) else b.reciprocal() * a
    return found


@cache
def complex_forms() -> Mapping[Any, Callable[..., Any]]:
    """What stands for torch's functions, by function; see `forms.forms`."""
    return {
        **_functions(),
        torch.complex: lambda real, imag: Complex(real, imag),
        torch.polar: lambda size, angle: Complex(size * angle.cos(), size * angle.sin()),
        torch.view_as_complex: lambda x: Complex(x[..., 0], x[..., 1]),
    }
