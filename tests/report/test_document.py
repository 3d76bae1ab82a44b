from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.pipeline import BuildResult
from edgeqwt.report.details import written
from edgeqwt.report.document import document, largest_steps, variants
from edgeqwt.report.files import details
from edgeqwt.report.pages import build_page
from edgeqwt.verify.bitexact import Difference
from tests.report.conftest import build, with_detail
from tests.reports import problems

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "report.schema.json").read_text(encoding="utf-8"))


def objects(value: Any, where: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every JSON object in a value, with its path."""
    if isinstance(value, dict):
        yield where, value
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from objects(part, f"{where}.{key}")


@pytest.mark.parametrize("name", ["report", "details"])
def test_every_field_of_the_schema_is_described(name: str) -> None:
    schema = json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))
    groups = [field for _, value in objects(schema) for field in [value.get("properties")] if isinstance(field, dict)]
    fields = [(name, field) for group in groups for name, field in group.items()]
    assert len(fields) > 30
    assert [name for name, field in fields if not field.get("description")] == []
    open_ones = [where for where, v in objects(schema) if "properties" in v and v["additionalProperties"] is not False]
    assert open_ones == []


@pytest.mark.parametrize("fixture", ["result", "plain_result"])
def test_details_are_what_their_schema_says(fixture: str, request: pytest.FixtureRequest) -> None:
    found = json.loads(written(details(build_page(request.getfixturevalue(fixture)))))
    assert problems(found, "details") == []
    assert "CONV_2D" in {op["kind"] for op in found["ops"]}


@pytest.mark.parametrize("fixture", ["result", "plain_result"])
def test_a_report_is_what_its_schema_says(fixture: str, request: pytest.FixtureRequest) -> None:
    report = document(request.getfixturevalue(fixture))
    assert problems(report) == []
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_schema_refuses_what_is_no_report(result: BuildResult) -> None:
    report = document(result)
    for spoiled, where in ((report | {"more": 1}, "$"), (report | {"version": 1}, "$.version")):
        assert problems(spoiled) == [where]
    report = copy.deepcopy(report)
    report["layers"][0]["sqnr_db"]["before"] = "loud"
    del report["kept"]
    assert sorted(problems(report)) == ["$", "$.layers[0].sqnr_db.before"]


def test_a_report_tells_what_was_measured(result: BuildResult) -> None:
    report = document(result)
    assert report["widths"]["wide"] == {}
    assert sum(report["widths"]["narrow"].values()) == len(result.graph.ops)
    assert report["runtimes"]["xnnpack"]["not_taken"] == {"SOFTMAX on int8": 1}
    assert result.outcome is not None
    assert [row["name"] for row in report["layers"]] == ["features", "mask", "logits"]
    for row, change in zip(report["layers"], result.outcome.changes, strict=True):
        k = result.outcome.changes.index(change)
        plain, compensated = (result.quality[name].layers[k] for name in ("uncompensated", "compensated"))
        assert row["kind"] == change.kind
        assert row["sqnr_db"] == {"before": plain.closeness.sqnr_db, "after": compensated.closeness.sqnr_db}
        assert row["fit"]["gain"] == [change.gain_low, change.gain_high]
        message = [(s.channels, s.reason) for s in result.outcome.skips if s.name == change.name]
        assert [(s["channels"], s["reason"]) for s in row["skipped"]] == message
    assert [row["name"] for row in report["outputs"]["uncompensated"]] == ["classes", "mask"]
    assert report["outputs"]["uncompensated"][0]["judged_at"]["tensor"] == "logits"
    assert report["outputs"]["compensated"][1]["cosine"] == result.quality["compensated"].outputs[1].closeness.cosine
    numbers = {"calibration": 24, "held_out": 6, "layers": 6, "evaluation": 6}
    assert report["samples"] == {**numbers, "warnings": list(result.warnings)}
    assert "24 calibration samples" in result.warnings[0]
    assert report["outputs"]["uncompensated"][0]["samples"] == 6
    assert report["sources"]["model"].endswith("model.tflite")
    assert report["sources"] | {"model": ""} == {
        "model": "", "calibration": "arrays", "evaluation": "arrays", "metric": "metrics",
    }  # fmt: skip
    assert report["seconds"].keys() == result.seconds.keys()
    listed = {technique["name"]: technique for technique in report["recipe"]["techniques"]}
    assert listed["equalization"]["samples"] == 64
    rule = {"candidates": 128, "clipping": 2.0, "margins": True, "tails": 0.0}
    assert listed["mse_ranges"] == {"name": "mse_ranges", **rule}
    assert [message["name"] for message in report["techniques"]] == [step.technique.name for step in result.made.steps]
    assert report["techniques"][-1]["data"]["samples"] == 18  # of 24, a quarter is held out
    assert report["versions"]["python"].startswith("3.")


def test_equal_cost_is_visible(result: BuildResult) -> None:
    report = document(result)
    assert report["cost_of_compensation"] == {"ops": 0, "bytes": 0, "same_order_of_ops": True}
    assert report["ops"]["uncompensated"] == report["ops"]["compensated"]
    assert report["ops"]["uncompensated"]["kinds"]["CONV_2D"] == 1
    for name, graph in variants(result).items():
        assert report["bytes"][name] == len(flatbuffer.to_bytes(graph))
        assert report["ops"][name]["total"] == len(graph.ops)


def test_without_compensation_there_is_nothing_after(plain_result: BuildResult) -> None:
    report = document(plain_result)
    assert report["cost_of_compensation"] is None
    assert report["kept"]["name"] == "uncompensated"
    assert {row["sqnr_db"]["after"] for row in report["layers"]} == {None}
    assert [row["fit"] for row in report["layers"]] == [None] * 3
    assert report["outputs"].keys() == {"plain", "uncompensated"}
    assert report["scores"] == {}


def test_float_borders(plain_result: BuildResult) -> None:
    report = document(plain_result)
    files = [end["file"] for end in (*report["model"]["inputs"], *report["model"]["outputs"])]
    assert [(f["dtype"], f["scale"]) for f in files] == [("float32", None)] * 3
    assert report["ops"]["uncompensated"]["kinds"]["DEQUANTIZE"] == 2
    # At the outputs there are no steps to count, within the model there are.
    assert report["runtimes"]["xnnpack"]["largest_steps_at_outputs"] is None
    units = {row["tensor"]: row["unit"] for row in report["runtimes"]["xnnpack"]["tensors"]}
    assert (units["mask"], units["features"]) == ("real", "steps")


def test_steps_are_those_of_integer_tensors(result: BuildResult) -> None:
    found = [Difference(0, "CONV_2D", "features", 9, 1, 2.0), Difference(3, "FULLY_CONNECTED", "logits", 9, 1, 3.0)]
    assert largest_steps(result.graph, found) == 3
    assert largest_steps(variants(result)["float"], found) is None
    assert largest_steps(result.graph, []) is None


def test_what_is_not_finite_becomes_null(result: BuildResult) -> None:
    assert set(document(result)["scores"]["float"]) == {"mean", "nothing"}
    assert document(result)["scores"]["float"]["nothing"] is None
    exact = replace(result.quality["uncompensated"].layers[0].closeness, sqnr_db=float("inf"), max_abs=float("nan"))
    quality = result.quality["uncompensated"]
    spoiled = replace(quality, layers=(replace(quality.layers[0], closeness=exact), *quality.layers[1:]))
    report = document(replace(result, quality={**result.quality, "uncompensated": spoiled}))
    assert report["layers"][0]["sqnr_db"]["before"] is None
    assert problems(report) == []


def test_an_op_that_was_left_alone_has_its_row(result: BuildResult) -> None:
    assert result.outcome is not None
    change = result.outcome.changes[1]
    skip = replace(result.outcome.skips[0], name=change.name, kind=change.kind, channels=6, reason="no partner")
    outcome = replace(result.outcome, changes=result.outcome.changes[::2], skips=(skip,))
    qualities = {n: replace(q, layers=q.layers[::2]) for n, q in result.quality.items()}
    row = document(replace(result, made=with_detail(result.made, outcome), quality=qualities))["layers"][1]
    assert row == {
        "name": "mask",
        "location": "",
        "kind": "DEPTHWISE_CONV_2D",
        "sqnr_db": {"before": None, "after": None},
        "fit": None,
        "skipped": [{"channels": 6, "reason": "no partner"}],
    }


def test_the_same_build_gives_the_same_report(result: BuildResult, tmp_path: Path) -> None:
    first, second = (document(build(tmp_path)) for _ in range(2))
    for measured in ("seconds", "peak_mib", "layer_costs"):
        assert first.pop(measured).keys() == second.pop(measured).keys()
    assert first == second
    assert first["layers"] == document(result)["layers"]


def test_every_top_level_field_is_explained() -> None:
    page = (DOCS / "report.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(SCHEMA["properties"])
