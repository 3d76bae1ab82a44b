"""CONTRIBUTING.md's walks for a range rule and a target; that for a technique is in examples/technique."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import edgeqwt
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.techniques.ranges import RangeTechnique
from tests import small


@dataclass(frozen=True)
class HalfRanges(RangeTechnique):
    """Half of what calibration saw.

    Attributes:
        share: of the extremes.
    """

    name: ClassVar[str] = "half_ranges"
    share: float = 0.5

    def choose(self, statistics: Statistics, levels: int) -> tuple[float, float]:
        return min(0.0, self.share * statistics.low), max(0.0, self.share * statistics.high)


def test_a_range_rule_is_one_class(tmp_path: Path) -> None:
    files = small.write(tmp_path)
    job = edgeqwt.open_job(files.model, calibration=files.samples, recipe="plain")
    state, _ = job.apply(HalfRanges(), job.start())
    whole = job.integer(job.start())
    half = job.integer(state)
    t = whole.inputs[0]
    q, p = whole.tensors[t].quantization, half.tensors[half.inputs[0]].quantization
    assert q is not None
    assert p is not None
    assert abs(float(p.scale[0]) / float(q.scale[0]) - 0.5) < 1e-3  # float32 scales of the same extremes


def test_a_target_is_one_file(tmp_path: Path) -> None:
    profile = tmp_path / "board.toml"
    profile.write_text('extends = "tflm-cortex-m4"\ntitle = "Board"\n\n[limits]\nflash = 100\n')
    files = small.write(tmp_path)
    findings, _ = edgeqwt.check(files.model, str(profile))
    assert "flash" in {finding.rule for finding in findings}
