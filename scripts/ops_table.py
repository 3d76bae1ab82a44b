"""Writes docs/ops.md, the support table, from the op table: python scripts/ops_table.py."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

from edgeqwt.graph.opset import ALL, RULES, Form, OpRule
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.prepare.kernel_forms import FORMS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "ops.md"

HEAD = """\
<!-- Written by scripts/ops_table.py from edgeqwt/graph/opset.py and opset16.py: edit those tables, not this file. -->

# Ops that can become integer

Every row is tested: generated models of the op are lowered, loaded and run in LiteRT with its reference
kernels, in LiteRT as it runs by default (XNNPACK) and, where the table says so, in the TFLite Micro interpreter.

- **Integer form**: see below the tables.
- **Scales**: "one" means that inputs and outputs share one scale and zero point; a pair is the fixed
  (scale, zero point) of the output.
- **Error**: the largest error of the integer op, in steps of the output's scale, against exact arithmetic on
  the same (dequantized) integers. 0.5 is unavoidable where the result is rounded; 0 means exact.
- **TFLite Micro**: whether its interpreter has the integer form. Its results equal the reference kernels' byte for
  byte, or differ by at most so many steps as are named.

## With 8-bit activations

"""

COLUMNS = """\
| Op | Integer form | Scales | Error | TFLite Micro | Notes |
|---|---|---|---|---|---|
"""

WIDE = """
## With 16-bit activations

Activations are int16 with zero point 0, weights int8 (or narrower integers) per channel, biases int64. A step is
1/256 of an 8-bit step of the same range. XNNPACK has none of these: LiteRT runs them with its built-in kernels,
convolutions many times slower than in int8.

{rows}
{narrow}

Where an op's width is not that of a tensor that it reads, a copy of the tensor goes in between, one for all such
readers: QUANTIZE from int16 to int8; from int8 to int16, which LiteRT's QUANTIZE cannot do, CAST, and an ADD for the
zero point unless it is 0. For targets that run in XNNPACK a table (CAST, ADD, GATHER in 32 bits) takes the ADD's place:
LiteRT's 16-bit ADD of a number takes three times as long. The wider copy is exact where it need not share another
tensor's scale. Ops that only move or pick values have the widest of their inputs' widths, or 16 bits where that saves a
copy.
"""

NARROW = """\
These ops become several that the table has: {written} (DIV by what is positive).
These stay at 8 bits in a 16-bit graph: {kinds}. So do those
that the table denies TFLite Micro, where that is the target.
"""

TAIL = """
## Integer forms

{forms}

A model with an op that is not in the tables is refused; the message names the op and its location in the source model.
Ops on integers and booleans alone stay as they are.
"""


def scales(rule: OpRule) -> str:
    """The rules for the op's scales, in a few characters."""
    parts = []
    if rule.form is Form.COMPARE and rule.same_scale:
        parts.append("one (inputs)")
    elif rule.same_scale == ALL or len(rule.same_scale) > 0:
        parts.append("one")
    if rule.fixed_output is not None:
        scale, zero_point = rule.fixed_output
        parts.append(f"({'1' if scale == 1 else f'1/{1 / scale:g}'}, {zero_point})")
    if rule.linear:
        parts.append("weights per channel")
    parts += [f"zero point 0 (input {slot})" for slot in rule.symmetric]
    return ", ".join(parts)


def micro(rule: OpRule) -> str:
    """Whether TFLite Micro has the op, and how far it is off the reference kernels."""
    if not rule.tflm:
        return "no"
    return f"yes, within {rule.micro}" if rule.micro else "yes"


def row(rule: OpRule) -> str:
    """One line of a table."""
    cells = [rule.kind, rule.form.name.lower(), scales(rule), f"{rule.bound:g}", micro(rule), rule.note]
    return f"| {' | '.join(cells)} |\n"


def document() -> str:
    """The whole file."""
    forms = "\n".join(f"- *{form.name.lower()}*: {form.value}." for form in Form)
    rows, wide = ("".join(row(rule) for rule in rules.values()) for rules in (RULES, RULES16))
    lacking = [kind for kind, rule in RULES.items() if kind not in RULES16 and rule.form is not Form.INTEGER]
    kept = ", ".join(kind for kind in lacking if kind not in FORMS)
    listed = WIDE.format(rows=COLUMNS + wide, narrow=fill(NARROW.format(kinds=kept, written=", ".join(FORMS)), 118))
    return HEAD + COLUMNS + rows + listed + TAIL.format(forms=forms)


if __name__ == "__main__":
    PAGE.write_text(document())
