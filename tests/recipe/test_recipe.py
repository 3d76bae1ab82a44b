from __future__ import annotations

import dataclasses
import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edgeqwt.errors import RecipeError
from edgeqwt.interface.options import Interface
from edgeqwt.options import model_of
from edgeqwt.passes.technique import Technique
from edgeqwt.recipe.layers import range_rule
from edgeqwt.recipe.recipe import FOLDER, Recipe, Verify, _Report, checked, load, names, schema
from edgeqwt.scales.ranges import MinMax
from edgeqwt.techniques.cwac import Cwac
from edgeqwt.techniques.equalization import Equalization
from edgeqwt.techniques.gptq import Gptq
from edgeqwt.techniques.hessian_guided import HessianGuided
from edgeqwt.techniques.ranges import MinMaxRanges, MseRanges
from edgeqwt.techniques.reconstruction import Reconstruction
from edgeqwt.techniques.registry import registered
from edgeqwt.verify.thresholds import Thresholds
from edgeqwt.widths.precision import Mixed, OpTimes, Precision
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
    empty = load(written(tmp_path, ""))
    assert dataclasses.replace(empty, name="balanced") == load("balanced")


def test_every_key_arrives(tmp_path: Path) -> None:
    recipe = load(
        written(
            tmp_path,
            """
            precision = "w3a16"
            techniques = [
                { name = "mse_ranges", candidates = 7 },
                { name = "equalization", samples = 3, limit = 2, steps = 5 },
                { name = "hessian_guided", samples = 6, widest = 2 },
                "gptq",
                { name = "reconstruction", scope = "block", iterations = 3, fisher = true },
                { name = "cwac", gain = false, gain_limit = 2, rewrite_outputs = true },
            ]
            report = { leave_one_out = 9 }
            io = { float = true }
            verify = { parity_samples = 1, runtime_samples = 2 }
            """,
        )
    )
    assert recipe == Recipe(
        name="mine",
        precision=Precision(weight_bits=3, activation_bits=16, pack_int4=True),
        techniques=(
            MseRanges(candidates=7),
            Equalization(3, 2, 5),
            HessianGuided(samples=6, widest=2),
            Gptq(),
            Reconstruction("block", iterations=3, fisher=True),
            Cwac(gain=False, gain_limit=2, rewrite_outputs=True),
        ),
        leave_one_out=9,
        float_io=True,
        interface=Interface(),
        verify=Verify(1, 2),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gptq]\nscales = 8", r"mine\.toml: unknown key 'gptq'"),
        ("techniques = 'gptq'", r"mine\.toml: techniques must be a list"),
        ("techniques = [3]", r"mine\.toml: techniques: entry 1, 3, names no technique"),
        ("techniques = [{ scales = 8 }]", r"mine\.toml: techniques: entry 1, .*names no technique"),
        ("techniques = ['guess']", r"mine\.toml: techniques: there is no technique 'guess'"),
        ("techniques = [{ name = 'mse_ranges', step = 1 }]", r"mine\.toml: techniques mse_ranges: unknown key 'step'"),
        ("techniques = [{ name = 'gptq', scales = 8.5 }]", r"techniques gptq: scales = 8.5"),
        ("techniques = [{ name = 'gptq', refine = 1 }]", r"techniques gptq: refine = 1"),
        ("techniques = [{ name = 'cwac', gain_limit = nan }]", r"techniques cwac: gain_limit = nan"),
        ("techniques = [{ name = 'reconstruction', scope = 'tensor' }]", r"reconstruction: scope = 'tensor'"),
        ("techniques = ['cwac', 'gptq']", r"techniques: gptq comes after cwac"),
        ("techniques = ['gptq', 'equalization']", r"techniques: equalization comes after gptq"),
        ("techniques = ['gptq', 'erq']", r"techniques: gptq and erq are both for rounding"),
        ("techniques = ['gptq', 'gptq']", r"techniques: gptq is listed twice"),
        ("precision = 8", r"mine\.toml: precision = 8"),
        ("precision = 'w9a8'", r"'w9a8'"),
        ("[report]\nleave_one_out = true", r"mine\.toml \[report\]: leave_one_out = True"),
        ("verify = 3", r"mine\.toml: verify must be a table"),
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


@pytest.mark.parametrize(
    "cls", [*registered().values(), Verify, Thresholds, _Report, OpTimes], ids=lambda cls: cls.__name__
)
def test_options_are_bounded_and_bounds_are_allowed(cls: type) -> None:
    for field in model_of(cls).model_fields.values():
        name = field.alias or ""
        default = getattr(cls(), name)
        lows = [m.ge for m in field.metadata if getattr(m, "ge", None) is not None]
        highs = [m.le for m in field.metadata if getattr(m, "le", None) is not None]
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert lows, f"{name} has no bounds"
        for bound, beyond in ((*lows, -1), (*highs, 1)) if lows and highs else ((*lows, -1),) if lows else ():
            fitting = type(default)(bound)
            model_of(cls)(**{name: fitting})
            with pytest.raises(ValueError, match=name):
                model_of(cls)(**{name: fitting + beyond})


def test_the_limit_of_mixed_precision(tmp_path: Path) -> None:
    assert load(written(tmp_path, 'precision = "mixed"\n[mixed]\nmax_size = 9\n')).mixed == Mixed(max_size=9)
    for wrong in (
        "max_size = -1",
        "max_size = 1\nsamples = 0",
        "max_latency = 1\n[mixed.op_times]\ncopy = 0",
        "wide = true",
    ):
        with pytest.raises(RecipeError):
            load(written(tmp_path, f'precision = "mixed"\n[mixed]\n{wrong}\n'))


def test_a_recipe_made_in_python_is_checked() -> None:
    recipe = load("fast")
    assert checked(recipe) is recipe
    with pytest.raises(RecipeError, match="recipe fast: equalization: limit = 0"):
        recipe.with_technique(Equalization(limit=0))
    with pytest.raises(RecipeError, match="recipe fast: reconstruction: scope = 'tensor'"):
        recipe.with_technique(Reconstruction(scope="tensor"))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="gptq comes after cwac"):
        checked(dataclasses.replace(recipe, techniques=(Cwac(), Gptq())))


def named(recipe: Recipe) -> list[str]:
    return [technique.name for technique in recipe.techniques]


def test_techniques_take_their_places() -> None:
    recipe = load("plain")
    assert named(recipe.with_technique(Cwac()).with_technique(Gptq())) == ["minmax_ranges", "gptq", "cwac"]
    assert named(recipe.with_technique(MseRanges())) == ["mse_ranges"]
    assert named(recipe.without("minmax_ranges").with_technique(Cwac()).with_technique(MinMaxRanges())) == [
        "minmax_ranges", "cwac",
    ]  # fmt: skip
    balanced = load("balanced")
    assert balanced.find(Gptq) == Gptq(float_targets=True, scales=8, refine=True)
    assert balanced.without("regions16").of_role("rounding of weights") is balanced.find(Gptq)
    assert not {"regions16", "regions16_review"} & {*named(balanced.without("regions16"))}
    assert recipe.without("minmax_ranges").ranges == MinMax()


def test_range_rule() -> None:
    assert range_rule("minmax") == range_rule("minmax_ranges") == MinMaxRanges()
    with pytest.raises(RecipeError, match="there is no range rule 'guess'") as caught:
        range_rule("guess")
    assert "percentile" in caught.value.hint


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
    mixed = {name: default for name, default in fields(Mixed).items() if name != "op_times"}
    assert all(f"`{name}` ({default}" in DOCUMENT for name, default in fields(OpTimes).items())
    assert documented() == {
        "mixed": mixed,
        "io": {"float": False, "split_outputs": False, "standardize": False},
        "outputs": {"axis": -1},
        "verify": fields(Verify),
        "quality": fields(Thresholds),
        "report": {"leave_one_out": 0, "ceiling": True},
    }


def test_the_page_of_techniques_and_the_schemas_are_as_their_script_writes_them() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "techniques_page.py"))
    assert (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8") == script["page"]()
    assert len(script["SCHEMAS"]) == 5
    for name, made in script["SCHEMAS"].items():
        written_down = json.loads((ROOT / "docs" / f"{name}.schema.json").read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(written_down)
        assert written_down == json.loads(json.dumps(made())), "run scripts/techniques_page.py"


def test_the_schema_takes_every_recipe() -> None:
    validator = Draft202012Validator(schema())
    for name in names():
        table = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        assert [*validator.iter_errors(table)] == []
    wrong = {"techniques": [{"name": "gptq", "scales": 999}]}
    assert [*validator.iter_errors(wrong)]


def test_every_option_of_every_technique_is_explained() -> None:
    page = (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8")
    for cls in registered().values():
        assert issubclass(cls, Technique)
        assert f"### `{cls.name}`" in page
    assert "| |\n" not in page


def test_the_documentations_examples_work(tmp_path: Path) -> None:
    text, *_ = texts = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert load(written(tmp_path, text)).precision.weight_bits == 4
    assert len(texts) == 3
    for other in texts[1:]:
        load(written(tmp_path, other))
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    space: dict[str, Any] = {}
    exec(code, space)
    assert space["recipe"].find(MseRanges) == MseRanges(candidates=64)


def test_the_command_lines_help_names_every_recipe() -> None:
    text = (ROOT / "edgeqwt" / "commands" / "options.py").read_text(encoding="utf-8")
    assert re.findall(r'NAMED = "([\w, -]+), or a \.toml file', text) == ["balanced, int8-only, fast, best, plain"]
    assert names() == ("balanced", "best", "fast", "int8-only", "plain")
    assert (FOLDER / "balanced.toml").exists()
