from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeqwt.errors import EdgeqwtError, InputError, RecipeError
from edgeqwt.loading import calling, iterating, load_callable, place_in


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Writes a file of user code into the working folder; modules imported from there are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield write_file
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def refused(spec: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load_callable(spec, "model function")
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_function_of_a_file(write: Any) -> None:
    write("model.py", "def create(): return 42")
    assert load_callable("model.py:create", "model function")() == 42


def test_an_absolute_path(write: Any) -> None:
    path = write("folder/model.py", "def create(): return 42")
    assert load_callable(f"{path}:create", "model function")() == 42


def test_a_function_of_an_installed_module() -> None:
    import os.path

    assert load_callable("os.path:basename", "model function") is os.path.basename


def test_a_package_in_the_working_folder(write: Any) -> None:
    write("loading_pkg/__init__.py", "")
    write("loading_pkg/models.py", "def create(): return 7")
    assert load_callable("loading_pkg.models:create", "model function")() == 7


def test_neighbours_import_while_importing_and_while_running_and_sys_path_is_left_alone(write: Any) -> None:
    write("user/neighbour_a.py", "value = 1")
    write("user/neighbour_b.py", "value = 2")
    write(
        "user/model.py",
        "import neighbour_a\ndef create():\n    import neighbour_b\n    return neighbour_a.value + neighbour_b.value",
    )
    before = list(sys.path)
    create = load_callable("user/model.py:create", "model function")
    assert sys.path == before
    assert calling(create, "model function")() == 3
    assert sys.path == before


def test_a_generator_imports_its_neighbours_too(write: Any) -> None:
    write("user/neighbour_c.py", "value = 5")
    write("user/data.py", "def samples():\n    import neighbour_c\n    yield neighbour_c.value")
    samples = load_callable("user/data.py:samples", "calibration function")
    assert list(iterating(calling(samples, "data")(), "data", samples)) == [5]


def test_a_file_named_like_a_library_does_not_shadow_it(write: Any) -> None:
    import json

    write("json.py", "def create(): return 1")
    assert load_callable("json.py:create", "model function")() == 1
    assert sys.modules["json"] is json


def test_a_file_runs_once_until_it_changes(write: Any) -> None:
    path = write("model.py", "class Net: pass\ndef create(): return Net()")
    assert load_callable("model.py:create", "x") is load_callable("model.py:create", "x")
    path.write_text("def create(): return 'edited'")
    assert load_callable("model.py:create", "x")() == "edited"


def test_classes_of_a_file_find_their_module(write: Any) -> None:
    # A dataclass with postponed annotations looks its module up in sys.modules while it is made.
    write(
        "model.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass, KW_ONLY\n"
        "@dataclass\nclass Net:\n    _: KW_ONLY\n    width: int = 3",
    )
    assert load_callable("model.py:Net", "model function")().width == 3


@pytest.mark.parametrize("spec", ["model.py", "model.py:", ":create", "model.py:1x", "model.py:a-b", ""])
def test_not_of_the_form_file_function(write: Any, spec: str) -> None:
    write("model.py", "def create(): pass")
    assert "does not name a function" in refused(spec).message


def test_missing_file(write: Any) -> None:
    assert "there is no file absent.py" in refused("absent.py:create").message


def test_a_directory(write: Any) -> None:
    write("things/readme.txt", "")
    write("dir.py/readme.txt", "")
    assert "things is a directory" in refused("things:create").message
    assert "things is a directory" in refused("./things:create").message
    assert "dir.py is a directory" in refused("dir.py:create").message


def test_not_a_python_file(write: Any) -> None:
    write("model.txt", "def create(): pass")
    assert "model.txt is not a Python file" in refused("model.txt:create").message


def test_missing_module_of_a_package_spec(write: Any) -> None:
    error = refused("no_such_package_here.models:create")
    assert "there is no module 'no_such_package_here.models'" in error.message
    assert ".py" in error.hint


def test_missing_function_lists_what_there_is(write: Any) -> None:
    write("model.py", "from os.path import join\nvalue = 3\ndef create(): pass\ndef _hidden(): pass\nclass Net: pass")
    error = refused("model.py:crate")
    assert error.message == "model function 'model.py:crate': model.py has no function 'crate'"
    assert error.hint == "It has: create, Net."


def test_missing_function_in_an_empty_file(write: Any) -> None:
    write("model.py", "")
    assert refused("model.py:create").hint == "It has no public functions."


def test_not_callable(write: Any) -> None:
    write("model.py", "create = 3\ndef make(): pass")
    error = refused("model.py:create")
    assert "create is of type int, not a function" in error.message
    assert "make" in error.hint


def test_syntax_error_names_file_and_line(write: Any) -> None:
    write("model.py", "x = 1\n\ndef create(:\n    pass\n")
    assert "syntax error at model.py:3" in refused("model.py:create").message


def test_syntax_error_of_a_neighbour_names_the_neighbour(write: Any) -> None:
    write("user/broken_neighbour.py", "x = = 1\n")
    write("user/model.py", "import broken_neighbour\n")
    assert f"syntax error at {Path('user/broken_neighbour.py')}:1" in refused("user/model.py:create").message


def test_a_file_of_random_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_bytes(bytes(range(256)))
    assert "model.py" in refused(f"{path}:create").message


def test_raising_on_import_names_type_message_and_line(write: Any) -> None:
    write("model.py", "import os\n\nvalue = 1 / 0\n")
    error = refused("model.py:create")
    assert error.message == (
        "model function: importing model.py raised ZeroDivisionError: division by zero (model.py:3)"
    )
    assert not any(name.startswith("_edgeqwt_user_model") for name in sys.modules)


def test_raising_on_import_of_a_package(write: Any) -> None:
    write("raising_pkg/__init__.py", "")
    write("raising_pkg/models.py", "\nraise OSError('no weights')")
    error = refused("raising_pkg.models:create")
    assert "raised OSError: no weights" in error.message
    assert f"({Path('raising_pkg/models.py')}:2)" in error.message


def test_a_missing_dependency_of_the_users_file(write: Any) -> None:
    write("model.py", "import no_such_library_here\n")
    error = refused("model.py:create")
    assert "model.py:1" in error.message
    assert "Install no_such_library_here" in error.hint


def test_a_missing_dependency_of_the_users_package_is_not_the_package(write: Any) -> None:
    write("needy_pkg.py", "import no_such_library_here\n")
    error = refused("needy_pkg:create")
    assert "raised ModuleNotFoundError" in error.message
    assert "needy_pkg.py:1" in error.message


def test_a_script_that_exits_on_import(write: Any) -> None:
    write("model.py", "import sys\nsys.exit(3)\n")
    error = refused("model.py:create")
    assert "SystemExit: 3 (model.py:2)" in error.message
    assert "__main__" in error.hint


def test_a_call_names_the_line_in_the_users_file_and_not_in_the_library(write: Any) -> None:
    write("model.py", "import numpy as np\n\ndef create():\n    return np.zeros(3).reshape(2, 2)\n")
    create = load_callable("model.py:create", "model function")
    with pytest.raises(InputError, match=r"ValueError: cannot reshape.*\(model.py:4\)"):
        calling(create, "model function model.py:create")()


def test_a_call_names_the_innermost_line_that_is_the_users(write: Any) -> None:
    write("user/deep_neighbour.py", "def fail():\n    raise KeyError('deep')\n")
    write("user/model.py", "import deep_neighbour\ndef create():\n    deep_neighbour.fail()\n")
    create = load_callable("user/model.py:create", "model function")
    with pytest.raises(InputError, match=r"KeyError: 'deep' \(user.deep_neighbour.py:2\)"):
        calling(create, "model function")()


def test_wrong_arguments_name_the_definition(write: Any) -> None:
    write("model.py", "\n\ndef create(width): pass\n")
    with pytest.raises(InputError, match=r"missing 1 required positional argument: 'width' \(model.py:3\)"):
        calling(load_callable("model.py:create", "x"), "model function")()


def test_a_long_message_of_many_lines_becomes_one_short_line(write: Any) -> None:
    write("model.py", "def create(): raise ValueError('line\\n' * 1000)\n")
    with pytest.raises(InputError) as caught:
        calling(load_callable("model.py:create", "x"), "model function")()
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


def test_callables_without_a_file_of_their_own(write: Any) -> None:
    write("user/neighbour_d.py", "")
    write(
        "user/model.py",
        "from functools import partial\ndef make(n):\n    import neighbour_d\n    return 1 // n\n"
        "create = partial(make, 0)\n",
    )
    with pytest.raises(InputError, match=r"ZeroDivisionError: .* \(user.model.py:4\)"):
        calling(load_callable("user/model.py:create", "x"), "model function")()
    with pytest.raises(InputError, match=r"^model function raised IndexError: pop from empty list$"):
        calling([].pop, "model function")()


def test_edgeqwts_own_errors_and_interrupts_pass_unchanged() -> None:
    def own() -> None:
        raise RecipeError("mine")

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(RecipeError, match="mine"):
        calling(own, "model function")()
    with pytest.raises(KeyboardInterrupt):
        calling(interrupted, "model function")()


def test_an_error_in_the_middle_of_a_stream(write: Any) -> None:
    write("data.py", "def samples():\n    yield 1\n    raise RuntimeError('late')\n")
    samples = load_callable("data.py:samples", "calibration function")
    stream = iterating(samples(), "calibration function", samples)
    assert next(stream) == 1
    with pytest.raises(EdgeqwtError, match=r"RuntimeError: late \(data.py:3\)"):
        next(stream)


WEIGHTS = """
import torch

def net():
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))

def saved(prefix):
    return {prefix + name: value for name, value in net().state_dict().items()}

def parallel():
    return net().load_state_dict(saved("module."))

def compiled():
    return net().load_state_dict(saved("_orig_mod.model."))

def other():
    return net().load_state_dict({"body.weight": torch.zeros(3)})
"""


@pytest.mark.requires("torch")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("parallel", "load {name.removeprefix('module.'): value for name, value in weights.items()}"),
        ("compiled", "removeprefix('_orig_mod.model.')"),
        ("other", "Call it by itself"),
    ],
)
def test_weights_whose_names_have_a_prefix(write: Any, name: str, hint: str) -> None:
    write("model.py", WEIGHTS)
    with pytest.raises(InputError, match=r"Error\(s\) in loading state_dict") as caught:
        calling(load_callable(f"model.py:{name}", "x"), "model function")()
    assert hint in caught.value.hint


def test_the_users_line_is_found_in_what_another_program_printed(tmp_path: Path) -> None:
    text = f'Original traceback:\nFile "{tmp_path}/net.py", line 7, in forward\n  File "{json.__file__}", line 3, in x'
    assert place_in(text) == f"{tmp_path}/net.py:7"
    assert place_in("nothing") is None
