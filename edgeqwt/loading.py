"""Loads and runs the user's own Python code; what goes wrong in it becomes an error for the user.

For example `calling(load_callable("model.py:create", "model function"), "model function model.py:create")()`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeqwt.errors import EdgeqwtError, InputError, InvariantError
from edgeqwt.regular_files import regular

_PREFIX = "_edgeqwt_user_"
"""A file is a module under a private name, so that a user's `types.py` or `onnx.py` cannot shadow the real one."""

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_FORM = "Write file.py:function or package.module:function."


_trusted: ContextVar[bool] = ContextVar("edgeqwt_trusted", default=False)


@contextmanager
def trusting(files: bool) -> Iterator[None]:
    """Lets model files run code of their own while they are loaded, where `files` says so."""
    before = _trusted.set(files)
    try:
        yield
    finally:
        _trusted.reset(before)


def is_trusted() -> bool:
    """Whether the user trusts the model files that are loaded now."""
    return _trusted.get()


def load_callable(spec: str, what: str) -> Callable[..., Any]:
    """The function (or other callable) that a user names.

    A file is run once per process, unless it changed since, with its folder importable.

    Args:
        spec: "file.py:function" or "package.module:function"; packages are also looked for in the working folder.
        what: what the function is, for messages, e.g. "calibration function".

    Raises:
        InputError: when it cannot be found or imported; with the user's file and line where there is one.
    """
    location, _, name = spec.rpartition(":")
    if not location or not name.isidentifier():
        raise InputError(f"{what} {spec!r} does not name a function", _FORM)
    path = Path(location)
    if location.endswith(".py") or "/" in location or os.sep in location or path.is_file():
        module = _import_file(path, what)
    elif path.is_dir() and not (path / "__init__.py").exists():
        raise InputError(f"{what} {spec!r}: {location} is a directory", _FORM)
    else:
        module = _import_package(location, what)
    if not hasattr(module, name):
        raise InputError(f"{what} {spec!r}: {location} has no function {name!r}", _public_functions(module))
    function = getattr(module, name)
    if not callable(function):
        raise InputError(
            f"{what} {spec!r}: {name} is of type {type(function).__name__}, not a function", _public_functions(module)
        )
    found: Callable[..., Any] = function
    return found


def calling(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The function, with everything that it raises turned into an InputError (see `user_code`)."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with user_code(what, function):
            return function(*args, **kwargs)

    return call


def iterating(values: Iterable[Any], what: str, function: object) -> Iterator[Any]:
    """The values, with everything that is raised while they are made turned into an InputError.

    Args:
        values: what the user's code returned, often a generator of its own.
        what: for messages, as in `user_code`.
        function: the code that makes the values, as in `user_code`.
    """
    with user_code(what, function):
        iterator = iter(values)
    while True:
        with user_code(what, function):
            try:
                value = next(iterator)
            except StopIteration:
                return
        yield value


@contextmanager
def user_code(what: str, function: object) -> Iterator[None]:
    """Runs code of the user's: neighbours of its file can be imported, and its errors name its file and line.

    Args:
        what: what is running, for messages, e.g. "calibration function data.py:samples".
        function: the user's function, class or object that is running.

    Raises:
        InputError: for any exception but edgeqwt's own, and for `sys.exit()`.
    """
    while isinstance(function, functools.partial):
        function = function.func
    file = _source_file(function)
    loaded_from_file = str(getattr(function, "__module__", None)).startswith(_PREFIX)
    with _importable(file.parent if file and loaded_from_file else None):
        try:
            yield
        except (EdgeqwtError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit, and classes of the user's own
            raise _as_input_error(error, what, file, _definition(function, file)) from error


# -- importing -----------------------------------------------------------------


def _import_file(path: Path, what: str) -> ModuleType:
    if not path.exists():
        raise InputError(f"{what}: there is no file {path}", "Check the path; it is relative to the working folder.")
    if path.is_dir():
        raise InputError(f"{what}: {path} is a directory, not a Python file", _FORM)
    if path.suffix != ".py":
        raise InputError(f"{what}: {path} is not a Python file", _FORM)
    path = regular(path).resolve()
    status = path.stat()
    with _importable(path.parent):
        try:
            return _run_file(path, (status.st_mtime_ns, status.st_size))
        except (EdgeqwtError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise _as_input_error(error, f"{what}: importing {shown(path)}", path, shown(path)) from error


@functools.cache
def _run_file(path: Path, version: tuple[int, int]) -> ModuleType:
    """Runs a file as a module; `version` is part of the key so that an edited file is run again."""
    name = _PREFIX + path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvariantError(f"no loader for {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _import_package(name: str, what: str) -> ModuleType:
    folder = Path.cwd()
    with _importable(folder):
        try:
            return importlib.import_module(name)
        except (EdgeqwtError, KeyboardInterrupt):
            raise
        except BaseException as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing is not None and (name == missing or name.startswith(missing + ".")):
                raise InputError(
                    f"{what}: there is no module {name!r}",
                    "For a file write its name with .py, as in file.py:function; a package must be installed.",
                ) from error
            # find_spec would import the parents again: the file, if any, is found from the traceback.
            raise _as_input_error(error, f"{what}: importing {name}", None, name) from error


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Puts a folder first on sys.path, as Python does for a script, and takes it away again.

    Not for good: a neighbour named like a library that edgeqwt imports later would be taken for it.
    """
    entry = str(folder)
    if folder is None or entry in sys.path:
        yield
        return
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _public_functions(module: ModuleType) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    return f"It has: {', '.join(own)}." if own else "It has no public functions."


# -- where in the user's code ----------------------------------------------------


def shown(path: str | Path) -> str:
    """A path as messages show it: relative to the working folder where it lies in it."""
    absolute = Path(path).absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def _source_file(function: object) -> Path | None:
    for candidate in (function, type(function)):
        try:
            file = inspect.getsourcefile(inspect.unwrap(candidate))  # type: ignore[arg-type]
        except TypeError:
            continue
        return None if file is None else Path(file).resolve()
    return None


def _definition(function: object, file: Path | None) -> str:
    """Where the function is defined: the location to name when it failed before its first line ran."""
    code = getattr(function, "__code__", None)
    line = f":{code.co_firstlineno}" if code is not None else ""
    return f"{shown(file)}{line}" if file else ""


def _as_input_error(error: BaseException, what: str, file: Path | None, fallback: str) -> InputError:
    text = " ".join(said_by(error).split())
    text = text if len(text) <= 300 else text[:297] + "..."
    if isinstance(error, SyntaxError) and error.filename:
        location = f"{shown(error.filename)}:{error.lineno}" if error.lineno else shown(error.filename)
        return InputError(f"{what}: syntax error at {location}: {error.msg}", "Correct that line.")
    if isinstance(error, ModuleNotFoundError):
        hint = f"Install {error.name} in the environment that runs edgeqwt ({Path(sys.prefix).name})."
    elif isinstance(error, SystemExit):
        hint = 'Keep what a script does under `if __name__ == "__main__":`.'
    else:
        hint = _of_weights(said_by(error)) or "Call it by itself in Python to see the whole traceback."
    location = _innermost(error, file) or fallback
    raised = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return InputError(f"{what} raised {raised}" + (f" ({location})" if location else ""), hint)


def said_by(value: object) -> str:
    """What an object of the user's says of itself; its class where even that raises."""
    try:
        return str(value)
    except Exception:
        return f"{type(value).__name__} without a text"


def _of_weights(text: str) -> str:
    """What to do where load_state_dict misses names that are there behind a prefix; empty where that is not it."""
    listed, _, rest = text.partition("Unexpected key(s)")
    missing, unexpected = (set(re.findall(r'"([^"]+)"', part)) for part in (listed, rest))
    name = min(missing, default="")
    prefix = next((other.removesuffix(name) for other in sorted(unexpected) if other.endswith(f".{name}")), "")
    if not name or not prefix or not all(f"{prefix}{key}" in unexpected for key in missing):
        return ""
    return (
        f"The names of the weights begin with {prefix!r}, as DataParallel, Lightning or torch.compile write them: load "
        f"{{name.removeprefix({prefix!r}): value for name, value in weights.items()}}."
    )


def user_line() -> str | None:
    """file:line of the innermost frame, of those that run now, in code that is not a library's."""
    return _innermost_of(traceback.extract_stack(), None)


def user_place(error: BaseException) -> str | None:
    """file:line in code that is not a library's where an error or what caused it arose, or that its text names last."""
    found: BaseException | None = error
    while found is not None:
        if (place := _innermost(found, None) or place_in(said_by(found))) is not None:
            return place
        found = found.__cause__ or found.__context__
    return None


def place_in(text: str) -> str | None:
    """file:line of the last frame in code that is not a library's of the tracebacks in a text."""
    frames = [traceback.FrameSummary(file, int(line), "") for file, line in _FRAME.findall(text)]
    return _innermost_of(traceback.StackSummary.from_list(frames), None)


def _innermost(error: BaseException, file: Path | None) -> str | None:
    """file:line of the innermost frame in the user's file, or in other code that is not a library's."""
    return _innermost_of(traceback.extract_tb(error.__traceback__), file)


def _innermost_of(frames: traceback.StackSummary, file: Path | None) -> str | None:
    location = None
    for frame in frames:
        path = Path(frame.filename)
        if path == file or not (frame.filename.startswith("<") or _is_library(path)):
            location = f"{shown(path)}:{frame.lineno}"
    return location


def _is_library(path: Path) -> bool:
    return (
        "site-packages" in path.parts
        or path.is_relative_to(sysconfig.get_path("stdlib"))
        or path.is_relative_to(Path(__file__).parent)
    )
