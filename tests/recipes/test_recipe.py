from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgeqwt.autograd.weighted import Weighting
from edgeqwt.compensate.solve import Options
from edgeqwt.equalize.equalize import Equalization
from edgeqwt.errors import RecipeError
from edgeqwt.quantize.curves import Curves
from edgeqwt.quantize.islands import Islands
from edgeqwt.quantize.joins import Joins
from edgeqwt.quantize.precision import Mixed, Pace, Precision
from edgeqwt.quantize.ranges import RULES, MinMax, Mse
from edgeqwt.quantize.rounding import ROUNDINGS, Gptq, Nearest
from edgeqwt.quantize.search import SEARCHES
from edgeqwt.quantize.search_layers import EasyQuant, HessianGuided
from edgeqwt.quantize.search_outputs import Lapq
from edgeqwt.quantize.weight_scales import WEIGHT_RULES, MseWeights
from edgeqwt.recipes.recipe import FOLDER, LIMITS, Verify, checked, load, names, range_rule
from edgeqwt.reconstruct.rule import ORDERS, SCOPES, Reconstruction
from edgeqwt.verify.bar import Bar
from tests.small import ROOT

DOCUMENT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def written(folder: Path, text: str) -> str:
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return str(folder / "mine.toml")


@pytest.mark.parametrize("name", names())
def test_a_named_recipe_loads_and_is_documented(name: str) -> None:
    assert load(name).name == name
    assert f"| `{name}` |" in DOCUMENT


def test_balanced_is_what_an_empty_file_says(tmp_path: Path) -> None:
    # So the defaults in the documentation and those of the default recipe are one set, but for GPTQ's extras.
    empty = load(written(tmp_path, ""))
    rounding = Gptq(float_targets=True, scales=8, refine=True)
    assert dataclasses.replace(empty, name="balanced", rounding=rounding) == load("balanced")
    assert isinstance(empty.ranges, Mse)


def test_every_key_arrives(tmp_path: Path) -> None:
    recipe = load(
        written(
            tmp_path,
            """
            ranges = { rule = "mse", candidates = 7 }
            precision = "w3a16"
            equalize = { samples = 3, limit = 2, steps = 5 }
            weights = { rule = "mse", candidates = 5 }
            search = { rule = "hessian", samples = 6, widest = 2 }
            rounding = { rule = "nearest" }
            reconstruct = { enabled = true, scope = "block", iterations = 3, fisher = true }
            report = { leave_one_out = 9 }
            compensate = { enabled = false, gain = false, gain_limit = 2, rewrite_outputs = true }
            io = { float = true }
            verify = { parity_samples = 1, runtime_samples = 2 }
            """,
        )
    )
    assert recipe.name == "mine"
    assert recipe.ranges == Mse(candidates=7)
    assert recipe.precision == Precision(weight_bits=3, activation_bits=16, pack_int4=True)
    assert recipe.equalization == Equalization(3, 2, 5)
    assert recipe.weights == MseWeights(candidates=5)
    assert recipe.search == HessianGuided(samples=6, widest=2)
    assert recipe.rounding == Nearest()
    assert recipe.reconstruction == Reconstruction("block", iterations=3, fisher=True)
    assert recipe.leave_one_out == 9
    assert recipe.compensate is False
    assert recipe.compensation == Options(gain=False, gain_limit=2, rewrite_outputs=True)
    assert recipe.float_io is True
    assert recipe.verify == Verify(1, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[range]\nrule = 'mse'", r"mine\.toml: unknown key 'range'"),
        ("[ranges]\nstep = 1", r"mine\.toml \[ranges\]: unknown key 'step'"),
        ("[ranges]\nrule = 'minmax'\ncandidates = 3", r"mine\.toml \[ranges\]: unknown key 'candidates'"),
        ("[ranges]\nrule = 'guess'", r"mine\.toml \[ranges\]: there is no rule 'guess'"),
        ("[ranges]\nrule = ['mse']", r"mine\.toml \[ranges\]: there is no rule \['mse'\]"),
        ("[weights]\nrule = 'guess'", r"mine\.toml \[weights\]: there is no rule 'guess'"),
        ("[search]\nrule = 'guess'", r"mine\.toml \[search\]: there is no rule 'guess'"),
        ("[search]\nsamples = 4", r"mine\.toml \[search\]: unknown key 'samples'"),
        ("[search]\nrule = 'lapq'\nrounds = 4", r"mine\.toml \[search\]: unknown key 'rounds'"),
        ("[rounding]\nrule = 'up'", r"mine\.toml \[rounding\]: there is no rule 'up'"),
        ("ranges = 'mse'", r"mine\.toml: ranges must be a table"),
        ("precision = 8", r"mine\.toml: precision = 8"),
        ("precision = 'w9a8'", r"'w9a8'"),
        ("[equalize]\nenabled = 'no'", r"mine\.toml: \[equalize\] enabled = 'no'"),
        ("[reconstruct]\nenabled = true\nscope = 'tensor'", r"mine\.toml \[reconstruct\]: scope = 'tensor'"),
        ("[reconstruct]\nenabled = true\nrounding = 'up'", r"mine\.toml \[reconstruct\]: rounding = 'up'"),
        ("[report]\nleave_one_out = true", r"mine\.toml \[report\]: leave_one_out = True"),
        ("[compensate]\nenabled = 1", r"mine\.toml: \[compensate\] enabled = 1"),
        ("[compensate]\ngain_limit = nan", r"mine\.toml \[compensate\]: gain_limit = nan"),
        ("[io]\nfloat = 'no'", r"mine\.toml \[io\]: float = 'no'"),
        ("[io]\nint8 = true", r"mine\.toml \[io\]: unknown key 'int8'"),
        ("[precision", r"mine\.toml: Expected"),
        ("[io]\nfloat = \0", r"mine\.toml: .*line 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        load(written(tmp_path, text))
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name, said in [
        ("secret", r"there is no recipe 'secret'"),
        ("missing.toml", r"there is no recipe 'missing\.toml'"),
        (str(tmp_path / "folder.toml"), r"folder\.toml cannot be read: Is a directory"),
        (str(tmp_path / "bytes.toml"), r"bytes\.toml: .*decode"),
    ]:
        with pytest.raises(RecipeError, match=said):
            load(name)


ONE_OF = ("max_size", "max_latency", "min_sqnr")

SECTIONS = {
    "Mixed": ("mixed", ""),
    "Pace": ("mixed.pace", ""),
    "Equalization": ("equalize", ""),
    "Islands": ("islands", ""),
    "Joins": ("joins", ""),
    "Curves": ("curves", ""),
    "Weighting": ("weighted_ranges", ""),
    "_Report": ("report", ""),
    "Options": ("compensate", ""),
    "Reconstruction": ("reconstruct", ""),
    "Verify": ("verify", ""),
    "Bar": ("quality", ""),
    **{rule.__name__: ("ranges", name) for name, rule in RULES.items()},
    **{rule.__name__: ("weights", name) for name, rule in WEIGHT_RULES.items()},
    **{rule.__name__: ("search", name) for name, rule in SEARCHES.items()},
    **{rule.__name__: ("rounding", name) for name, rule in ROUNDINGS.items()},
}


@pytest.mark.parametrize(("place", "limits"), LIMITS.items(), ids=lambda value: " ".join(map(str, value)))
def test_limits(tmp_path: Path, place: tuple[str, str], limits: tuple[float, float]) -> None:
    section, rule = SECTIONS[place[0]]
    named = f'rule = "{rule}"\n' if rule else "enabled = true\n" if section == "reconstruct" else ""

    def attempt(value: float) -> None:
        before = f"[{section}]\n{named}"
        if section.startswith("mixed"):
            # Of its limits exactly one is to be other than 0.
            other = "" if place[1] in ONE_OF and value else f"{next(n for n in ONE_OF if n != place[1])} = 1\n"
            before = f'precision = "mixed"\n[mixed]\n{other}' + ("[mixed.pace]\n" if place[0] == "Pace" else "")
        load(written(tmp_path, f"{before}{place[1]} = {value!r}\n"))

    for inside in limits:
        if inside != float("inf"):
            attempt(inside)
    for outside in (limits[0] - 1, limits[1] + 1):
        if outside != float("inf"):
            with pytest.raises(RecipeError, match=f"{place[1]} = "):
                attempt(outside)


def test_a_recipe_made_in_python_is_checked() -> None:
    recipe = load("fast")
    assert checked(recipe) is recipe
    with pytest.raises(RecipeError, match="recipe fast: limit = 0"):
        checked(dataclasses.replace(recipe, equalization=Equalization(limit=0)))
    with pytest.raises(RecipeError, match="recipe fast: scope = 'tensor'"):
        checked(dataclasses.replace(recipe, reconstruction=Reconstruction(scope="tensor")))


def test_range_rule() -> None:
    assert range_rule("minmax") == MinMax()
    with pytest.raises(RecipeError, match="there is no rule 'guess'") as caught:
        range_rule("guess")
    assert all(name in caught.value.hint for name in RULES)


# -- documentation ---------------------------------------------------------------


def documented() -> dict[str, dict[str, Any]]:
    """The tables of docs/recipes.md: section -> key -> default."""
    parts = re.split(r"^### `\[(\w+)\]`", DOCUMENT, flags=re.MULTILINE)[1:]
    return {
        section: {
            key: tomllib.loads(f"value = {default.strip('`')}")["value"]
            for key, default in re.findall(r"^\| `(\w+)` \| (\S+) \|", text, re.MULTILINE)
        }
        for section, text in zip(parts[::2], parts[1::2], strict=True)
    }


def fields(*classes: type) -> dict[str, Any]:
    """Fields with their defaults."""
    return {field.name: field.default for cls in classes for field in dataclasses.fields(cls)}


def test_the_documentation_has_every_key_with_its_default() -> None:
    mixed = {name: default for name, default in fields(Mixed).items() if name != "pace"}
    assert all(f"`{name}` ({default}" in DOCUMENT for name, default in fields(Pace).items())
    assert documented() == {
        "mixed": mixed,
        "islands": {"enabled": True, **fields(Islands)},
        "joins": {"enabled": True, **fields(Joins)},
        "curves": {"enabled": True, **fields(Curves)},
        "weighted_ranges": {"enabled": True, **fields(Weighting)},
        "ranges": {"rule": "mse", **fields(*RULES.values())},
        "equalize": {"enabled": True, **fields(Equalization)},
        "weights": {"rule": "minmax", **fields(*WEIGHT_RULES.values())},
        # LAPQ needs more samples, which the text says.
        "search": {"rule": "none", **fields(*SEARCHES.values()), "samples": EasyQuant.samples},
        "rounding": {"rule": "gptq", **fields(*ROUNDINGS.values())},
        "reconstruct": {"enabled": False, **fields(Reconstruction)},
        "compensate": {"enabled": True, **fields(Options)},
        "io": {"float": False, "split_outputs": False, "standardize": False},
        "verify": fields(Verify),
        "quality": fields(Bar),
        "report": {"leave_one_out": 0, "ceiling": True},
    }


def test_the_documentation_names_every_rule() -> None:
    for name in (*RULES, *WEIGHT_RULES, *SEARCHES, *ROUNDINGS, *SCOPES, *ORDERS):
        assert f'`"{name}"`' in DOCUMENT
    assert f'{Lapq.samples} with `"lapq"`' in DOCUMENT


def test_the_documentations_examples_work(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert load(written(tmp_path, text)).precision.weight_bits == 4
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    space: dict[str, Any] = {}
    exec(code, space)
    assert space["recipe"].ranges == Mse(candidates=64)


def test_the_command_lines_help_names_every_recipe() -> None:
    text = (ROOT / "edgeqwt" / "commands" / "options.py").read_text(encoding="utf-8")
    assert re.findall(r'NAMED = "([\w, -]+), or a \.toml file', text) == ["balanced, int8-only, fast, best, plain"]
    assert names() == ("balanced", "best", "fast", "int8-only", "plain")
    assert (FOLDER / "balanced.toml").exists()
