from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edgeqwt.compensation.cwac import Outcome
from edgeqwt.pipeline import BuildResult
from edgeqwt.progress import LayerCost
from edgeqwt.repair import CompensationResult
from edgeqwt.report import terminal
from edgeqwt.report.conversion import parity_sentence
from edgeqwt.report.variants import in_db
from edgeqwt.verify.bitexact import BitExactness, Difference, Lacking
from edgeqwt.verify.choice import Choice
from edgeqwt.verify.compare import Comparison, TensorComparison
from edgeqwt.verify.metrics import Sums
from edgeqwt.verify.op_errors import OpError, OwnErrors
from edgeqwt.verify.parity import OutputParity, Parity
from tests.report.conftest import with_detail

CONV = Difference(0, "CONV_2D", "features", 100, 0, 0.0)
CLOSE = Sums(1, 4, 1.0, 1.0, 1.0, 0.01, 0.1, 1, 1, 0.1).result()


def shown(show: Any, *arguments: Any, width: int = 80) -> list[str]:
    """The lines that a function prints."""
    out = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    show(out, *arguments)
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


def line_of(lines: list[str], start: str) -> str:
    (found,) = [line for line in lines if line.startswith(start)]
    return found


def test_the_layer_that_took_longest_is_named(result: BuildResult) -> None:
    costs = {"round": {"a": LayerCost(2.0, 100), "b": LayerCost(3.21, 100)}, "compensate": {"b": LayerCost(0.5, 100)}}
    slow = replace(result, seconds={"round": 6.0, "compensate": 1.0}, layer_costs=costs)
    assert terminal.time_sentence(slow) == "7.0 s: round 6.0 (layer 'b' 3.2), compensate 1.0"
    quick = replace(slow, layer_costs={"round": {"a": LayerCost(0.9, None)}})
    assert terminal.time_sentence(quick) == "7.0 s: round 6.0, compensate 1.0"


@pytest.mark.parametrize("width", [80, 100])
def test_a_build_is_shown_within_the_width(result: BuildResult, width: int) -> None:
    lines = shown(terminal.show_build, result, Path("out"), width=width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 88
    assert "…" not in "".join(lines)
    before, after = (result.quality[n].layers[0].closeness.sqnr_db for n in ("uncompensated", "compensated"))
    assert line_of(lines, "features").split()[:3] == ["features", f"{before:.1f}", f"{after:.1f}"]
    size = f"{result.sizes['uncompensated']:,}"
    assert line_of(lines, "bytes").split() == ["bytes", f"{result.sizes['float']:,}", size, size, size]
    # Softmax is lowered as it is: the integer models have the ops of the float model.
    assert line_of(lines, "ops").split() == ["ops", "5", "5", "5", "5"]
    assert line_of(lines, "kept").startswith(f"kept          {result.choice.name}: ")
    assert line_of(lines, "files").endswith("out/model.tflite, out/report.json, out/package/README.md")
    assert line_of(lines, "mask SQNR dB")
    assert line_of(lines, "  nothing").split() == ["nothing", "nan", "nan", "nan", "nan"]


def with_outcome(result: BuildResult, outcome: Outcome) -> BuildResult:
    """The result of a build whose compensation ended otherwise."""
    return replace(result, made=with_detail(result.made, outcome))


def test_a_build_without_compensation(plain_result: BuildResult) -> None:
    lines = shown(terminal.show_build, plain_result, Path("out"))
    assert line_of(lines, "kept").startswith("kept          uncompensated: SQNR of what varies at 'logits'")
    assert not any("Linear layers" in line for line in lines)
    assert "XNNPACK       " in "".join(lines)


def test_a_compensated_file(result: BuildResult) -> None:
    assert result.outcome is not None
    sizes = {name: result.sizes[name] for name in ("uncompensated", "compensated")}
    outcome = result.outcome
    quality = {name: result.quality[name] for name in sizes}
    found = CompensationResult(result.graph, result.uncompensated, outcome, result.choice, quality, sizes, {})
    lines = shown(terminal.show_compensation, found, Path("better.tflite"))
    assert line_of(lines, "ops").split() == ["ops", "5", "5"]
    assert lines[-2:] == [
        "file          better.tflite",
        "next          open better.report.html: where the error is born, op by op",
    ]


def test_of_many_layers_the_worst_are_shown(result: BuildResult) -> None:
    assert result.outcome is not None
    change, judged = result.outcome.changes[0], result.quality["uncompensated"].layers[0]

    def many(noise: float) -> Any:
        """41 layers, the later the better."""
        worse = [replace(CLOSE, sqnr_db=noise + i) for i in range(41)]
        return tuple(replace(judged, tensor=f"layer {i}", closeness=c) for i, c in enumerate(worse))

    changes = tuple(replace(change, name=f"layer {i}") for i in range(41))
    outcome = Outcome(result.graph, changes, (), 4)
    quality = {n: replace(q, layers=many(k)) for k, (n, q) in enumerate(result.quality.items(), start=-1)}
    lines = shown(terminal.show_build, with_outcome(replace(result, quality=quality), outcome), Path("out"))
    assert "The 20 worst of 41 linear layers" in "\n".join(lines)
    assert [line.split()[1:4] for line in lines if line.startswith("layer ")][1:] == [
        [str(i), f"{i}.0", f"{i + 1}.0"] for i in range(20)
    ]
    changes = changes[:40]
    lines = shown(terminal.show_build, with_outcome(result, replace(outcome, changes=changes)), Path("out"))
    assert len([line for line in lines if line.startswith("layer ")]) == 1 + 40  # the header and all layers


def test_what_was_skipped_is_counted_by_reason(result: BuildResult) -> None:
    assert result.outcome is not None
    change, skip = result.outcome.changes[0], result.outcome.skips[0]
    skips = (
        replace(skip, name="a", channels=3, reason="too small"),
        replace(skip, name="a", channels=1, reason="too large"),
        replace(skip, name="b", channels=4, reason="too small"),
        *(replace(skip, name=name, kind="CONV_2D", channels=9, reason="no partner") for name in "vwxyz"),
    )
    changes = tuple(replace(change, name=name, channels=10) for name in "ab")
    lines = shown(terminal.show_build, with_outcome(result, Outcome(result.graph, changes, skips, 4)), Path("out"))
    start = lines.index("skipped       7 of 20 channels: too small")
    assert lines[start + 1 : start + 3] == [
        "              1 of 20 channels: too large",
        "              CONV_2D 'v', CONV_2D 'w', CONV_2D 'x', and 2 more: no partner",
    ]


def test_long_names_show_both_ends_and_odd_names_are_printed_as_they_are() -> None:
    names = ["model/" + "block/" * 30 + "conv", "[bold]x[/bold] :smile:"]
    rows = tuple(TensorComparison(name, "CONV_2D", CLOSE) for name in names)
    lines = shown(terminal.show_comparison, Comparison(rows, rows[:1], 2, 7), Path("a.tflite"), Path("b.tflite"))
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("model/") and "…" in line and "block/conv" in line]) == 2
    assert line_of(lines, "[bold]x[/bold] :smile:").split()[-5:] == ["20.0", "nothing", "1.00000", "0.1", "1.0"]
    assert lines[-1] == "2 tensors of the first file are not in the second by name and shape."
    [said] = [line for line in lines if line.startswith("verdict")]
    assert re.fullmatch(r"verdict +[\d.]+ dB of what varies at the worst output: (good|poor)", said)


def bitexact(**fields: Any) -> BitExactness:
    message: dict[str, Any] = {
        "samples": 3, "ops": 5, "elements": 500, "differences": (), "lacking": (),
        "unavailable": None, "xnnpack": (CONV,), "xnnpack_outputs": (CONV,),
    }  # fmt: skip
    return BitExactness(**{**message, **fields})


def test_runtimes(result: BuildResult) -> None:
    def sentences(**fields: Any) -> dict[str, str]:
        message: dict[str, str] = {}
        name = ""
        for label, sentence in terminal.runtime_sentences(result.graph, bitexact(**fields)):
            name = label or name
            message[name] = f"{message.get(name, '')}|{sentence}".strip("|")
        return message

    same = "same bytes as LiteRT's reference kernels in 5 of 5 ops; 3 samples"
    assert sentences() == {"TFLite Micro": same, "XNNPACK": "identical to the reference kernels"}
    known = Difference(3, "FULLY_CONNECTED", "logits", 12, 2, 1.0)
    steps = "FULLY_CONNECTED #3 'logits': 2 of 12 values differ, by 1 at most"
    assert sentences(differences=(known,))["TFLite Micro"] == f"{same.replace(';', ' but for known steps;')}|{steps}"
    wrong = replace(known, kind="CONV_2D", largest=7.0)
    found = sentences(differences=tuple(replace(wrong, op=i) for i in range(5)))["TFLite Micro"].split("|")
    assert found[0] == "DIFFERENT bytes from LiteRT's reference kernels in 5 of 5 ops; 3 samples"
    assert found[-1] == "and 2 more"
    several = sentences(differences=(known, replace(known, op=4, differing=3), wrong))["TFLite Micro"].split("|")
    assert several[1] == "FULLY_CONNECTED, 2 ops: 5 of 24 values differ, by 1 at most"
    assert sentences(ops=0, elements=0, unavailable="it has state")["TFLite Micro"] == (
        "does not run the whole model: it has state"
    )
    lacks = [Lacking(i, "GELU", f"gelu{i}", "no such op") for i in range(5)]
    lacks.append(Lacking(7, "NEG", "minus", "no int16"))
    unavailable = sentences(ops=0, elements=0, unavailable=str(lacks[0]), lacking=tuple(lacks))["TFLite Micro"]
    assert unavailable == "does not have GELU #0, #1, #2, and 2 more: no such op|does not have NEG #7: no int16"
    apart = sentences(xnnpack=(replace(CONV, largest=4.0),), xnnpack_outputs=(replace(CONV, largest=1.0),))
    assert apart["XNNPACK"] == "up to 4 steps from the reference kernels, 1 at the outputs"
    one = sentences(xnnpack=(replace(CONV, largest=1.0),), xnnpack_outputs=())
    assert one["XNNPACK"] == "up to 1 step from the reference kernels"


def test_other_sentences() -> None:
    assert terminal.kept_sentence(Choice("uncompensated", "because")) == "uncompensated: because"
    outputs = (OutputParity("a", 0.5, 10.0, 0.05, 1.0, 0), OutputParity("b", 1e-7, 2e-7, 0.5, 1.0, 0))
    message = parity_sentence(Parity(9, outputs))
    assert message == "the float model is at most 1e-07 from it, where rounding explains 2e-07; 9 samples"
    values = [float("nan"), float("inf"), -float("inf"), 12.345]
    assert [terminal.decibels(value) for value in values] == ["NaN", "exact", "none", "12.3"]


def test_constants_per_channel_are_counted_and_not_in_the_table(result: BuildResult) -> None:
    assert result.outcome is not None
    first = result.outcome.changes[0]
    gamma = replace(first, name="norm/gamma", kind="MUL", channels=8, with_gain=3, with_offset=0)
    beta = replace(first, name="norm/beta", kind="ADD", channels=8, with_gain=0, with_offset=5)
    outcome = Outcome(result.graph, (*result.outcome.changes, gamma, beta), (), 4)
    lines = shown(terminal.show_build, with_outcome(result, outcome), Path("out"))
    assert not any("norm/" in line for line in lines)
    assert line_of(lines, "constants").split(maxsplit=1)[1] == "8 of 16 channels changed by 2 MUL and ADD"


def test_what_litert_writes_over_is_said(result: BuildResult) -> None:
    (sentence,) = [s for _, s in terminal.runtime_sentences(result.graph, replace(result.runtimes, overwritten=("y",)))
                   if "WRITES OVER" in s]  # fmt: skip
    assert "'y'" in sentence


def test_classes_won_and_lost_are_reported_with_their_probability(result: BuildResult) -> None:
    """Of the last variant, every sample's class is wrong that those before it had right."""
    last = [*result.quality][-1]
    quality = {
        name: replace(q, outputs=tuple(replace(o, agreeing=(int(name != last),) * 12) for o in q.outputs))
        for name, q in result.quality.items()
    }
    lines = shown(terminal.show_build, replace(result, quality=quality), Path("out"), width=100)
    message = [line.split()[-3:] for line in lines if line.startswith("  won, lost; by chance")]
    assert message
    assert all(row == ["0,", "12;", "0.00049"] for row in message)  # 2 / 2¹²


@pytest.mark.parametrize(("db", "said"), [(-3.6, "edgeqwt build a.tflite"), (3.6, "edgeqwt compensate b.tflite")])
def test_what_compensation_would_refuse_is_not_sent_there(db: float, said: str) -> None:
    closeness = replace(CLOSE, sqnr_db=db, varying_db=db)
    found = Comparison((), (TensorComparison("out", "FULLY_CONNECTED", closeness),), 8, 0)
    command, _ = terminal.next_command(found, "a.tflite", "b.tflite", ["-c", "s.npz"])
    assert command.startswith(said)


@pytest.mark.parametrize(
    ("db", "kind", "in_place"),
    [
        (5.0, "CONV_2D", "some layers in place"),
        (5.0, "INPUT", "in place, not that of the input"),
        (-1.0, "CONV_2D", ""),
    ],
)
def test_of_clipped_layers_a_new_file_is_proposed(
    db: float, kind: str, in_place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compensation in place beside it where that is not refused; an input counts however good it looks."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()  # an earlier build, which the command must not replace
    closeness = replace(CLOSE, sqnr_db=db, varying_db=db)
    ops = [
        OpError(k, "CONV_2D", f"y{k}", f"y{k}", 3.0, 3.0, 0.0, 1.0, 0.0, moves=False, median_used=None)
        for k in range(6)
    ]
    last = OpError(None, kind, "x", "x", 5.0, 5.0, 0.0, 1.0, 0.0, moves=False, median_used=None)
    rows = (TensorComparison("out", "FULLY_CONNECTED", closeness),)
    found = Comparison((), rows, 8, 0, OwnErrors(8, (*ops, last), 0))
    command, why = terminal.next_command(found, "a.tflite", "b.tflite", ["-c", "s.npz"])
    assert command == "edgeqwt build a.tflite -c s.npz -o out2"
    assert why.endswith(in_place or "hold these samples")


def test_what_is_exact_has_a_unit_in_sentences() -> None:
    said = [in_db(value) for value in (math.inf, -math.inf, 3.21)]
    assert said == [
        "∞ dB (no error)",
        "-∞ dB (values that are not finite)",
        "3.2 dB",
    ]


def test_layers_whose_outputs_hardly_change_are_told(result: BuildResult) -> None:
    """The whole of an output may be right where all that varies between samples is lost."""
    flat = replace(CLOSE, sqnr_db=41.0, varying_db=4.0)
    quality = {
        name: replace(q, layers=tuple(replace(layer, closeness=flat) for layer in q.layers))
        for name, q in result.quality.items()
    }
    said = " ".join(" ".join(shown(terminal.show_build, replace(result, quality=quality), Path("out"))).split())
    assert "the outputs of some layers hardly change; dB of what varies, as colours tell: '" in said
    assert "' 4.0" in said
    assert "hardly change" not in " ".join(shown(terminal.show_build, result, Path("out")))
