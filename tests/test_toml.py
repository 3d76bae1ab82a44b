from __future__ import annotations

from pathlib import Path

import pytest

from edgeqwt import toml


def test_what_people_write_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[a.b]\nc = [[1, 2], [3]]\nd = "é"\n')
    assert toml.read(tmp_path / "a.toml") == {"a": {"b": {"c": [[1, 2], [3]], "d": "é"}}}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"a = " + b"[" * 5000 + b"]" * 5000, "20 deep"),
        (b"[" + b"a." * 1000 + b"a]", "20 deep"),
        (b"a = " + b"{a=" * 400 + b"1" + b"}" * 400, "20 deep"),
        (b"#" * (toml.LARGEST + 1), "larger than"),
        (b"a = \xff", "utf-8"),
        (b"a = ", "Invalid value"),
    ],
    ids=["lists", "headers", "tables", "long", "bytes", "no value"],
)
def test_what_is_too_deep_too_long_or_no_toml_is_refused(tmp_path: Path, written: bytes, said: str) -> None:
    (tmp_path / "a.toml").write_bytes(written)
    with pytest.raises(ValueError, match=said):
        toml.read(tmp_path / "a.toml")
