"""Types of inputs and outputs that are one state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Graph
from edgeqwt.widths.ports import Port, with_states
from tests.chain import NONE, Chain


def streaming() -> Graph:
    chain = Chain()
    x, before = chain.input((1, 4), "x"), chain.input((1, 4), "before")
    after = chain.op("ADD", x, before, name="after", **NONE)
    return replace(chain.graph(after), states=(("before", "after"),))


@pytest.mark.parametrize("end", ["before", "after"])
def test_both_ends_of_a_state_have_the_type_that_one_is_given(end: str) -> None:
    """A voice detector's context went in as float32 and came out as int16, and its bytes were to be copied."""
    found = with_states(streaming(), {"x": Port("int16"), end: Port("float")})
    assert found == {"x": Port("int16"), "before": Port("float"), "after": Port("float")}
    assert with_states(streaming(), {"x": Port("float")}) == {"x": Port("float")}


def test_unlike_types_are_refused() -> None:
    with pytest.raises(InputError, match=r"'before' float, 'after' int16") as caught:
        with_states(streaming(), {"before": Port("float"), "after": Port("int16")})
    assert "--state none" in caught.value.hint
