from __future__ import annotations

import pytest

from edgeqwt.errors import InputError
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.targets.load import load, names


@pytest.mark.parametrize("name", names())
def test_every_profile_is_whole(name: str) -> None:
    profile = load(name)
    assert profile.name == name
    assert profile.title
    assert profile.runtimes
    assert set(profile.runtimes) <= set(RUNNERS)
    assert profile.notes
    assert all(note.endswith(".") for note in profile.notes)


def test_what_was_not_verified_is_said() -> None:
    assert all(any("ot verified" in note for note in load(name).notes) for name in names())


@pytest.mark.parametrize("name", ["toaster", "", "../profiles/tflite", "TFLITE"])
def test_an_unknown_target_names_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match="there is no target") as caught:
        load(name)
    assert all(known in caught.value.hint for known in names())
