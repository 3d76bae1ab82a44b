from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgeqwt.benchmark.result import (
    EMULATED,
    ESTIMATED,
    MEASURED,
    SCHEMA,
    SIMULATED,
    VERSION,
    BenchResult,
    Check,
    Figure,
    OpCost,
    compare,
    document,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"

RESULT = BenchResult(
    file="a.tflite",
    bytes=1000,
    ops={"CONV_2D": 2},
    where="host",
    evidence=MEASURED,
    figures=(Figure("latency_min", "xnnpack", 0.002, "s"), Figure("arena", "tflm", 64, "B")),
    op_costs=(OpCost("CONV_2D", "y", "CPU", 0.001, "s"),),
    checks=(Check("it is so", True, "seen"),),
)


def valid(body: dict[str, Any]) -> dict[str, Any]:
    """The document as a reader of the file gets it, when the schema takes it."""
    schema = json.loads((DOCS / "bench.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    read: dict[str, Any] = json.loads(json.dumps(body, allow_nan=False))
    jsonschema.validate(read, schema)
    return read


def test_the_document_follows_the_schema() -> None:
    read = valid(document(RESULT))
    assert (read["schema"], read["version"]) == (SCHEMA, VERSION)
    assert read["figures"][0] == {"name": "latency_min", "kernels": "xnnpack", "value": 0.002, "unit": "s"}
    assert "compared" not in read


@pytest.mark.parametrize("evidence", [MEASURED, ESTIMATED, EMULATED, SIMULATED])
def test_a_comparison_follows_the_schema(evidence: str) -> None:
    other = replace(RESULT, bytes=500, figures=(Figure("latency_min", "xnnpack", 0.001, "s"),), evidence=evidence)
    read = valid(document(RESULT, other))
    assert read["compared"]["other"]["bytes"] == 500
    assert [(r["name"], r["ratio"]) for r in read["compared"]["ratios"]] == [("file", 2.0), ("latency_min", 2.0)]


def test_a_number_that_is_not_finite_is_null() -> None:
    read = valid(document(replace(RESULT, figures=(Figure("latency_min", "xnnpack", math.nan, "s"),))))
    assert read["figures"][0]["value"] is None


@pytest.mark.parametrize("change", [{"evidence": "guessed"}, {"version": 2}, {"surprise": 1}])
def test_the_schema_refuses_what_it_does_not_know(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        valid({**document(RESULT), **change})


def test_ratios_of_nothing_and_of_equals() -> None:
    zero = replace(RESULT, figures=(Figure("memory_dram", "", 0, "B"),))
    some = replace(RESULT, figures=(Figure("memory_dram", "", 7, "B"),))
    assert compare(zero, zero)[1].ratio == 1.0
    assert compare(some, zero)[1].ratio == math.inf
    assert compare(zero, some)[1].ratio == 0.0


def test_a_figure_by_name() -> None:
    assert RESULT.value("arena", "tflm") == 64
    with pytest.raises(KeyError):
        RESULT.value("arena")


def test_one_failed_check_is_not_ok() -> None:
    assert RESULT.ok
    assert not replace(RESULT, checks=(*RESULT.checks, Check("and so", False, "not"))).ok
