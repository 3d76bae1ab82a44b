"""Arithmetic, activations, comparisons: element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from edgeqwt.autograd.call import Call, activate

Unary = Callable[[torch.Tensor], torch.Tensor]
Binary = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def unary(function: Unary) -> Callable[[Call], torch.Tensor]:
    """A kernel that applies a function to its one input."""
    return lambda call: function(call[0])


def binary(function: Binary) -> Callable[[Call], torch.Tensor]:
    """A kernel that applies a function to two inputs, then the fused activation."""
    return lambda call: call.activated(function(call[0], call[1]))


UNARY: Mapping[str, Unary] = MappingProxyType(
    {
        "LOGISTIC": lambda x: x.sigmoid(),
        "TANH": lambda x: x.tanh(),
        "HARD_SWISH": lambda x: x * F.relu6(x + 3) / 6,
        "RELU": lambda x: activate(x, "RELU"),
        "RELU6": lambda x: activate(x, "RELU6"),
        "RELU_N1_TO_1": lambda x: activate(x, "RELU_N1_TO_1"),
        "RELU_0_TO_1": lambda x: F.hardtanh(x, 0.0, 1.0),
        # Not exp(x) - 1 for all x: where x is large its gradient would be infinite times zero.
        "ELU": lambda x: x.clamp(min=0) + x.clamp(max=0).expm1(),
        "ABS": lambda x: x.abs(),
        "EXP": lambda x: x.exp(),
        "LOG": lambda x: x.log(),
        # Its slope at 0 would be infinite, and NaN times what does not matter: distances of tokens to themselves.
        "SQRT": lambda x: torch.where(x == 0, 1, x).sqrt() * (x != 0),
        "RSQRT": lambda x: x.rsqrt(),
        "SIN": lambda x: x.sin(),
        "COS": lambda x: x.cos(),
        "FLOOR": lambda x: x.floor(),
        "CEIL": lambda x: x.ceil(),
        "ROUND": lambda x: x.round(),
        "SIGN": lambda x: x.sign(),
        "SQUARE": lambda x: x * x,
        "NEG": lambda x: -x,
        "LOGICAL_NOT": lambda x: x.logical_not(),
    }
)

BINARY: Mapping[str, Binary] = MappingProxyType(
    {
        "ADD": lambda x, y: x + y,
        "SUB": lambda x, y: x - y,
        "MUL": lambda x, y: x * y,
        "DIV": lambda x, y: x / y,
        "POW": lambda x, y: x**y,
        "ATAN2": lambda x, y: x.atan2(y),
        "SQUARED_DIFFERENCE": lambda x, y: (x - y) * (x - y),
        "MAXIMUM": lambda x, y: x.maximum(y),
        "MINIMUM": lambda x, y: x.minimum(y),
        "EQUAL": lambda x, y: x == y,
        "NOT_EQUAL": lambda x, y: x != y,
        "GREATER": lambda x, y: x > y,
        "GREATER_EQUAL": lambda x, y: x >= y,
        "LESS": lambda x, y: x < y,
        "LESS_EQUAL": lambda x, y: x <= y,
        "FLOOR_DIV": lambda x, y: x // y,
        "FLOOR_MOD": lambda x, y: x % y,
        "LOGICAL_AND": lambda x, y: x.logical_and(y),
        "LOGICAL_OR": lambda x, y: x.logical_or(y),
    }
)


def gelu(call: Call) -> torch.Tensor:
    """Exact, or with tanh."""
    return F.gelu(call[0], approximate="tanh" if call.option("approximate") else "none")


def leaky_relu(call: Call) -> torch.Tensor:
    """x, or alpha · x below zero."""
    x = call[0]
    return x.clamp(min=0) + float(call.option("alpha", 0.0)) * x.clamp(max=0)


def prelu(call: Call) -> torch.Tensor:
    """x, or a slope of its own per channel times x below zero."""
    x = call[0]
    return x.clamp(min=0) + call[1] * x.clamp(max=0)


def select(call: Call) -> torch.Tensor:
    """SELECT: a condition of rank 1 chooses whole rows."""
    condition, x = call[0], call[1]
    condition = condition.reshape(*condition.shape, *[1] * (x.ndim - condition.ndim))
    return torch.where(condition, x, call[2])


def select_v2(call: Call) -> torch.Tensor:
    """SELECT_V2: all three broadcast."""
    return torch.where(call[0], call[1], call[2])


def cast(call: Call) -> torch.Tensor:
    """To the output's type; floats lose their fraction."""
    name = call.graph.tensors[call.op.outputs[0]].dtype
    if name == "float32":  # in whatever precision the graph runs
        return call[0].to(torch.get_default_dtype()) if not call[0].is_floating_point() else call[0]
    return call[0].to(getattr(torch, name))
