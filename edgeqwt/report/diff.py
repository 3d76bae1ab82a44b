"""Two output folders of builds side by side: figures, options, and the own error of every op that both have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeqwt.errors import InputError
from edgeqwt.output import show_table
from edgeqwt.regular_files import json_object
from edgeqwt.report.details import SCHEMA as DETAILS_SCHEMA
from edgeqwt.report.manifest import DETAILS, REPORT, SCHEMA

if TYPE_CHECKING:
    from rich.console import Console

MOST = 12  # ops that the terminal shows
VERSION, SAME = "version of ", "the same"


@dataclass(frozen=True)
class OpDifference:
    """An op's own error in both builds, in dB; ops correspond by their output's name."""

    kind: str
    tensor: str
    first: float
    second: float

    @property
    def gain(self) -> float:
        """Decibels by which the second is better."""
        return self.second - self.first


@dataclass(frozen=True)
class Difference:
    """Two builds side by side.

    Attributes:
        names: of the folders.
        rows: what is measured or chosen, and both values as people read them; versions where they differ.
        ops: what both have, the largest change first.
        alone: how many ops only the first has, and only the second.
    """

    names: tuple[str, str]
    rows: tuple[tuple[str, str, str], ...]
    ops: tuple[OpDifference, ...]
    alone: tuple[int, int]


def difference(first: Path, second: Path) -> Difference:
    """Two builds side by side.

    Raises:
        InputError: a folder holds no report of a build that can be read.
    """
    (a, more_a), (b, more_b) = _read(first), _read(second)
    values_a, values_b = (dict(_values(*pair)) for pair in ((a, more_a), (b, more_b)))
    rows = [(name, values_a.get(name, ""), values_b.get(name, "")) for name in dict.fromkeys((*values_a, *values_b))]
    shown = [(name, one, other) for name, one, other in rows if one != other or not name.startswith(VERSION)]
    if len(shown) < len(rows):
        other = "other " if any(name.startswith(VERSION) for name, _, _ in shown) else ""
        shown.append((f"{len(rows) - len(shown)} {other}versions", SAME, SAME))
    ops_a, ops_b = _own(more_a), _own(more_b)
    ops = [OpDifference(kind, name, db, ops_b[name][1]) for name, (kind, db) in ops_a.items() if name in ops_b]
    return Difference(
        (str(first), str(second)),
        tuple(shown),
        tuple(sorted(ops, key=lambda op: -abs(op.gain))),
        (len(ops_a.keys() - ops_b.keys()), len(ops_b.keys() - ops_a.keys())),
    )


def show_difference(out: Console, found: Difference) -> None:
    """Both builds, values that differ marked, and the ops that changed most."""
    rows = [(name, a, b, "" if a == b else "differs") for name, a, b in found.rows]
    show_table(out, "Two builds side by side", ("", *found.names, ""), rows, texts=3)
    ops = [
        (op.tensor, op.kind, f"{op.first:.1f}", f"{op.second:.1f}", f"{op.gain:+.1f}")
        for op in found.ops[:MOST]
        if abs(op.gain) >= 0.05
    ]
    if ops:
        header = ("tensor", "op", "own error\nof the first", "of the\nsecond", "change, dB")
        show_table(out, "The ops whose own error changed most", header, ops, texts=2)
    if any(found.alone):
        out.print(f"{found.alone[0]} ops are in the first only, {found.alone[1]} in the second only.")


def difference_html(found: Difference) -> str:
    """The same as one HTML file, with every op."""
    from edgeqwt.report.html import rendered

    return rendered("diff.html.j2", found=found)


def _read(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return _json(folder / REPORT, SCHEMA, folder), _json(folder / DETAILS, DETAILS_SCHEMA, folder)


def _json(path: Path, schema: str, folder: Path) -> Mapping[str, Any]:
    found = json_object(path)
    if found.get("schema") != schema:
        hint = "Name the output folder of `edgeqwt build`; builds of earlier versions have to be made again."
        raise InputError(f"{folder} has no {path.name} of a build", hint)
    return found


def _values(report: Mapping[str, Any], details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values, those that matter most first."""
    try:
        kept = report["kept"]["name"]
        for metric, value in report["scores"].get(kept, {}).items():
            yield metric, "none" if value is None else f"{value:.4f}"
        outputs = report["outputs"][kept]
        for output in outputs:
            where = f" at {output['tensor']!r}" if len(outputs) > 1 else ""
            db = output["judged_at"]["varying_db"]
            yield f"what varies{where}, dB", "none" if db is None else f"{db:.2f}"
            if output["top1"] is not None:
                yield f"same largest element{where}", f"{output['top1']:.4f}"
        yield "bytes", f"{report['bytes'][kept]:,}"
        yield "ops", f"{report['ops'][kept]['total']:,}"
        yield "bytes of activations", f"{details['memory']['bytes']:,}"
        yield "kept", kept
        yield "target", report["target"]["name"]
        recipe = report["recipe"]
        yield "recipe", recipe["name"]
        yield "widths", f"w{recipe['precision']['weight_bits']}a{recipe['precision']['activation_bits']}"
        yield "techniques", ", ".join(technique["name"] for technique in report["techniques"] if technique["kept"])
        yield "model", report["sources"]["model"]
        yield "calibration", f"{report['sources']['calibration']}, {report['samples']['calibration']} samples"
        yield "findings", str(len(report["findings"]))
        yield from ((f"{VERSION}{name}", version) for name, version in report["versions"].items())
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"a report lacks what every report has: {error}", "Build it again.") from None


def _own(details: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Kind and own error of the ops of the file that was kept, by output tensor."""
    try:
        last = details["series"][-1]
        errors = [(op["measured"], op["kind"], op["errors"].get(last)) for op in details["ops"]]
        return {
            name: (kind, float(error["own_db"]))
            for name, kind, error in errors
            if error is not None and not error["moves"] and error["own_db"] is not None
        }
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"a {DETAILS} lacks what every one has: {error}", "Build it again.") from None
