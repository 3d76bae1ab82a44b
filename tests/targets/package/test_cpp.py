from __future__ import annotations

import ast
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Quantization, Tensor
from edgeqwt.target.package import cpp
from edgeqwt.target.package.details import Port


def test_arrays_hold_little_endian_bytes_16_to_a_line() -> None:
    text = cpp.byte_array("kName", np.array([1, -2, 300], ">i4"))
    assert text == (
        "alignas(16) const unsigned char kName[12] = {\n"
        "    0x01, 0x00, 0x00, 0x00, 0xfe, 0xff, 0xff, 0xff, 0x2c, 0x01, 0x00, 0x00,\n"
        "};"
    )
    assert cpp.byte_rows(bytes(range(17))).count("\n") == 1


@pytest.mark.parametrize(
    "text", ["plain", 'a "quote"', "back\\slash", "what??!", "tab\tnewline\n", "größe", "日本", ""]
)
def test_strings_stay_themselves(text: str) -> None:
    literal = cpp.string(text)
    assert literal.isascii()
    assert "??" not in literal  # a trigraph
    assert ast.literal_eval(f"b{literal}") == text.encode()  # octal escapes are C's


def test_no_comment_runs_into_the_next_line() -> None:
    assert cpp.comment("one\ntwo \\") == "one two /"
    for name in ("ends ??/", "???/", "a\x0b#error x", "a\x0c#b", "a\x85b", "a\u2028b", "\x1b[2J", "\u202ea", "a\r#b"):
        written = cpp.comment(name)
        assert written.isprintable()
        assert "??" not in written
        assert not written.endswith("\\")


def test_a_row_says_the_scale_exactly() -> None:
    scale = np.float32(0.1) / 3
    tensor = Tensor("x", (1, 2, 3), "int16", quantization=Quantization.per_tensor(scale, 0))
    row = cpp.port_row(Port("x", (1, 2, 3)), tensor)
    assert row.startswith('    {"x", 6, 6 * sizeof(std::int16_t), ')
    assert np.float32(row.split(", ")[3].removesuffix("f")) == scale


@pytest.mark.parametrize(
    ("scale", "text"), [(1.0, "1.0f"), (0.5, "0.5f"), (2.0**-40, "9.09494702e-13f"), (3e9, "3e+09f")]
)
def test_scales_are_float_literals(scale: float, text: str) -> None:
    tensor = Tensor("x", (1,), "int8", quantization=Quantization.per_tensor(scale, -1))
    assert f", {text}, -1}}" in cpp.port_row(Port("x", (1,)), tensor)


def test_a_type_without_a_name_in_cpp_is_refused() -> None:
    tensor = Tensor("x", (1,), "complex64")
    with pytest.raises(UnsupportedError, match="inputs and outputs of type complex64"):
        cpp.port_row(Port("x", (1,)), replace(tensor))
