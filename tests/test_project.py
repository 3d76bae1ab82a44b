"""Rules for the project as a whole: what is imported when, what is packed, pinned and committed."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"edgeqwt": "edgeqwt", "converters": "edgeqwt.converters", "targets": "edgeqwt.target"}
"""The product's top-level folders and the packages that they are installed as."""
WHERE_THEY_ARE = r"import edgeqwt.converters as c, edgeqwt.target as t; print(c.__file__, t.__file__, sep='\n')"


def sources() -> dict[str, Path]:
    """Dotted module name to file, of all modules of the product; `rglob` does not follow the links."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def python(*arguments: str, cwd: Path, **environment: str) -> str:
    """Runs this interpreter in a fresh process and returns what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment or None, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(names: list[str]) -> set[str]:
    """The modules that importing `names` brings into a fresh interpreter."""
    code = (
        "import importlib, json, sys; before = set(sys.modules)\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    return set(json.loads(python("-c", code, *names, cwd=ROOT)))


def committed() -> list[Path]:
    """The files that git tracks; links and files that are deleted but not yet committed are left out."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in names.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


# -- imports ---------------------------------------------------------------------------------------


def test_the_core_imports_only_numpy_bounds_and_the_standard_library() -> None:
    outer = ("edgeqwt.converters", "edgeqwt.target", "edgeqwt.cli", "edgeqwt.commands")
    around_torch = ("edgeqwt.autograd", "edgeqwt.reconstruct", "edgeqwt.simulation")  # imported where they are called
    core = [name for name in sources() if not name.startswith((*outer, *around_torch))]
    assert "edgeqwt.graph.graph" in core
    loaded = loaded_by(core)
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert foreign == {"edgeqwt", "numpy", "annotated_types", "typing_extensions"}
    assert not {name for name in loaded if name.startswith(("edgeqwt.converters", "edgeqwt.target"))}


def test_the_command_line_starts_without_heavy_packages() -> None:
    loaded = {name.partition(".")[0] for name in loaded_by(["edgeqwt.cli"])}
    heavy = {
        *("torch", "onnx", "onnx2tf", "onnxruntime", "onnxscript", "tensorflow", "ai_edge_litert", "tflite_micro"),
        *("PIL", "scipy", "sklearn", "flatbuffers", "cv2", "ethosu", "pytest"),
    }
    assert loaded & heavy == set()


def test_a_build_starts_without_the_packages_of_sources_that_it_does_not_have() -> None:
    loaded = {name.partition(".")[0] for name in loaded_by(["edgeqwt.converters.convert", "edgeqwt.pipeline"])}
    assert loaded & {"torch", "onnx", "onnx2tf", "onnxruntime", "tensorflow"} == set()


def test_converters_and_targets_import_from_any_folder(tmp_path: Path) -> None:
    where = python(
        "-c", "import edgeqwt.converters as c, edgeqwt.target as t; print(c.__file__, t.__file__)", cwd=tmp_path
    )
    assert [Path(path).resolve() for path in where.split()] == [
        ROOT / "converters/__init__.py",
        ROOT / "targets/__init__.py",
    ]


# -- packing ---------------------------------------------------------------------------------------


def test_every_package_is_listed_for_packing() -> None:
    folders = {name if path.name == "__init__.py" else name.rpartition(".")[0] for name, path in sources().items()}
    assert sorted(folders) == PROJECT["tool"]["setuptools"]["packages"]


def test_a_wheel_holds_each_file_once_and_works_where_it_is_installed(tmp_path: Path) -> None:
    tree, site = tmp_path / "tree", tmp_path / "site"
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)

    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    python("-m", "pip", "wheel", *options, "--wheel-dir", str(tmp_path), str(tree), cwd=tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)

    expected = {"edgeqwt/py.typed"}
    for folder, package in FOLDERS.items():
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        data = {"templates", "pins", "static"}
        packed = [path for path in files if path.suffix in (".py", ".toml") or data & {*path.parts}]
        expected |= {f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}" for path in packed}
    assert sorted(name for name in names if ".dist-info/" not in name) == sorted(expected)
    # PYTHONPATH comes before the checkout that is installed in this environment.
    where = python("-c", WHERE_THEY_ARE, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()
    assert where == [f"{site}/edgeqwt/converters/__init__.py", f"{site}/edgeqwt/target/__init__.py"]


# -- pins ------------------------------------------------------------------------------------------


def pins() -> dict[str, str]:
    """Package name to version, from constraints.txt."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    exact = [re.fullmatch(r"([a-z0-9-]+)==([0-9a-z.]+)", line) for line in lines]
    assert all(exact), [line for line, match in zip(lines, exact, strict=True) if not match]
    versions = dict(match.groups() for match in exact if match)
    assert list(versions) == sorted(versions)
    return versions


def test_constraints_pin_exactly_what_the_set_up_installs() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    todo = [Requirement(line) for line in PROJECT["project"]["dependencies"] + extras["dev"]]
    needed: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        name, wanted = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        if name == "edgeqwt":
            todo += [Requirement(line) for extra in wanted for line in extras[extra]]
            continue
        installed = distribution(name)
        assert requirement.specifier.contains(installed.version, prereleases=True), (
            f"{requirement}: {installed.version}"
        )
        needed[name] = installed.version
        for line in installed.requires or ():
            dependency = Requirement(line)
            if dependency.marker is None or any(dependency.marker.evaluate({"extra": e}) for e in (*wanted, "")):
                todo.append(dependency)
    assert pins() == needed


# -- what is committed -----------------------------------------------------------------------------


def test_no_committed_file_names_a_machine_path_or_a_package_registry() -> None:
    forbidden = re.compile(
        r"(?<![\w.])/(?:work|root|farm|opt|home/\w+|Users/\w+)/"
        r"|\b(?:pypi|pythonhosted|npmjs|anaconda|crates|debian)\.(?:org|com|io)\b"
        r"|\b(?:index|find)[-_](?:url|links)\b|\bfile:///"
    )
    assert forbidden.search("cd /ro" + "ot/project")
    found = []
    for path in committed():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}:{i}: {line}" for i, line in enumerate(lines, 1) if forbidden.search(line)]
    assert found == []


def test_no_committed_file_is_large() -> None:
    assert [path for path in committed() if path.stat().st_size > 2_000_000] == []


def test_modules_stay_under_400_lines() -> None:
    lengths = {name: path.read_text().count("\n") for name, path in sources().items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


LONGEST = 50
"""Lines of a function's body: signature and docstring grow with what they explain, not with what it does."""


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From the first statement behind the docstring to the last one, comments and blank lines between them included."""
    first = 0 if ast.get_docstring(function) is None else 1
    return (function.end_lineno or 0) - function.body[first].lineno + 1 if len(function.body) > first else 0


def test_functions_do_not_count_what_explains_them() -> None:
    lines = [
        "def f(",
        "    a: int,",
        ") -> int:",
        '    """One.',
        "",
        '    Two."""',
        "    # why",
        "    b = a",
        "",
        "    return b",
    ]
    (function,) = ast.parse("\n".join(lines)).body
    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 3


def test_functions_stay_under_50_lines() -> None:
    found = {
        f"{name}.{node.name}": body_lines(node)
        for name, path in sources().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in found.items() if lines > LONGEST} == {}
