"""Names, messages and pages use the words of docs/glossary.md, not those that this project once had to itself."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.small import ROOT

PRIVATE = {
    "lever", "levers", "felt", "island", "islands", "shore", "shores", "ground", "grounds", "twin", "twins", "told",
    "spoil", "spoils", "spoiled", "spoiling", "lesson", "lessons", "spool", "spools", "spooled", "stretch", "stretches",
    "stretched", "harm", "harms",
}  # fmt: skip
"""Technique, output sensitivity, 16-bit region, its boundary, state, counterpart, message, degrade, objective, store,
segment, degradation."""
ALLOWED = {
    ("stretch", "edgeqwt/reconstruct/variables.py"): "AdaRound's own word for how far its sigmoid reaches",
    ("stretch", "edgeqwt/calibration/processors.py"): "of pictures",
    ("stretch", "docs/calibration.md"): "of pictures",
    ("stretch", "edgeqwt/report/templates/report.css"): "a word of CSS",
    ("stretches", "docs/calibration.schema.json"): "of pictures",
    ("stretched", "edgeqwt/calibration/processors.py"): "of pictures",
    ("stretched", "edgeqwt/verify/worst_samples.py"): "of pictures",
    ("stretches", "edgeqwt/calibration/images.py"): "of pictures",
}
"""English uses."""
WHERE = re.compile(r"(edgeqwt|converters|targets|scripts|examples|docs)/|[A-Z]+\.md$")
SUFFIXES = (".py", ".md", ".toml", ".html", ".js", ".css", ".ipynb", ".json", ".cc", ".cpp", ".h", ".kt")


def words(text: str) -> set[str]:
    """All words, also those that names are joined of: SOME_words, SomeWords."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)}


def test_names_are_taken_apart() -> None:
    assert words("felt_at(OutputTwin, 'told', MAX_LEVER)") == {"felt", "at", "output", "twin", "told", "max", "lever"}


def test_no_private_words() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {
        (word, name)
        for name in names.split("\0")
        if WHERE.match(name) and name.endswith(SUFFIXES) and name != "CHANGELOG.md" and (ROOT / name).is_file()
        for word in words((ROOT / name).read_text(encoding="utf-8")) & PRIVATE
    }
    assert found == set(ALLOWED)


def test_the_glossary_leads_to_files_that_exist() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    paths = re.findall(r"`(\w+(?:/\w+)*(?:/|\.py))`", page)
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / "edgeqwt" / path).exists()] == []


WORDS = """
technique, pass, state, context, gate, output sensitivity, 16-bit region, boundary, counterpart, decision tensors,
headroom, segment, activation store, degradation, objective, location, plan, lowering, form, step, held out,
leave-one-out
"""


@pytest.mark.parametrize("word", re.split(r",\s*", WORDS.strip()))
def test_the_glossary_has_the_words_of_the_code(word: str) -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
    emphasized = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", page)
    assert any(word in entry for entry in (*rows, *emphasized))
