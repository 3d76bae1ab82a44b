"""Writes docs/ops.md, the support table, from the op table: python scripts/ops_table.py."""

from __future__ import annotations

from pathlib import Path

from edgeqwt.graph.opset import ALL, RULES, Form, OpRule

PLACE = Path(__file__).resolve().parents[1] / "docs" / "ops.md"

HEAD = """\
<!-- Written by scripts/ops_table.py from edgeqwt/graph/opset.py: edit that table, not this file. -->

# Ops that can become integer

Every row is tested: generated models of the op are lowered to int8, loaded and run in LiteRT with its
reference kernels, in LiteRT as it runs by default (XNNPACK) and, where the table says so, in the TFLite Micro
interpreter, whose results equal the reference kernels' byte for byte (FULLY_CONNECTED: within one step).

- **Integer form**: see below the table.
- **Scales**: "one" means that inputs and outputs share one scale and zero point; a pair is the fixed
  (scale, zero point) of the output.
- **Error**: the largest error of the integer op, in steps of the output's scale, against exact arithmetic on
  the same (dequantized) integers. 0.5 is unavoidable where the result is rounded; 0 means exact.
- **TFLite Micro**: whether its interpreter has the integer form.

| Op | Integer form | Scales | Error | TFLite Micro | Notes |
|---|---|---|---|---|---|
"""

TAIL = """
## Integer forms

{forms}

A model with an op that is not in the table is refused; the message names the op and its place in the source model.
Ops on integers and booleans alone stay as they are.
"""


def scales(rule: OpRule) -> str:
    """The rules for the op's scales, in a few characters."""
    parts = []
    if rule.form is Form.COMPARE:
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


def row(rule: OpRule) -> str:
    """One line of the table."""
    cells = [
        rule.kind,
        rule.form.name.lower(),
        scales(rule),
        f"{rule.bound:g}",
        "yes" if rule.tflm else "no",
        rule.note,
    ]
    return f"| {' | '.join(cells)} |\n"


def document() -> str:
    """The whole file."""
    forms = "\n".join(f"- *{form.name.lower()}*: {form.value}." for form in Form)
    return HEAD + "".join(row(rule) for rule in RULES.values()) + TAIL.format(forms=forms)


if __name__ == "__main__":
    PLACE.write_text(document())
