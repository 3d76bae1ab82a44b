from __future__ import annotations

import time

from edgeqwt.progress import LayerCost, Stages, peak


def test_layers_take_what_passed_since_the_last_call() -> None:
    stages = Stages()
    with stages("round") as advance:
        time.sleep(0.03)
        advance(0, 2)
        for done, layer in enumerate(("a", "b", "a"), start=1):
            time.sleep(0.01)
            advance(done, 3, layer)
    costs = stages.layers["round"]
    assert [*costs] == ["a", "b"]
    assert costs["a"].seconds >= 0.02  # both times, and not what came before the first
    assert 0.01 <= costs["b"].seconds <= stages.seconds["round"] - 0.05
    assert sum(cost.seconds for cost in costs.values()) <= stages.seconds["round"] - 0.03
    assert costs["a"] == LayerCost(costs["a"].seconds, peak())


def test_stages_without_layers_have_none() -> None:
    stages = Stages()
    with stages("calibrate") as advance:
        advance(1, None)
    assert stages.layers == {}
