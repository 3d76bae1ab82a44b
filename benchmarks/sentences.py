"""English sentences that are always at hand: those of the standard library's docstrings."""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SEED = 5
WORDS = (6, 40)
PROSE = re.compile(r"[A-Z][A-Za-z0-9 ,;:'\"()/-]+[.?!]")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sentences(*counts: int) -> tuple[list[str], ...]:
    """Disjoint lists of sentences, so many in each; the same for the same Python version.

    Raises:
        ValueError: there are fewer sentences.
    """
    found = sorted(set(_all()))
    if sum(counts) > len(found):
        raise ValueError(f"the standard library's docstrings hold {len(found)} sentences, not {sum(counts)}")
    random.Random(SEED).shuffle(found)
    taken = iter(found)
    return tuple([next(taken) for _ in range(count)] for count in counts)


def _all() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
                yield from _of(text)


def _of(text: str) -> Iterator[str]:
    """The sentences of a docstring that are prose; code and tables are left out."""
    for paragraph in text.split("\n\n"):
        for sentence in re.split(r"(?<=[.?!])\s+", " ".join(paragraph.split())):
            if PROSE.fullmatch(sentence) and WORDS[0] <= len(sentence.split()) <= WORDS[1]:
                yield sentence
