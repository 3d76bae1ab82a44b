"""Image options as people write them: in a TOML file or on the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from edgeqwt import toml
from edgeqwt.calibration.images import CHOICES, ImageOptions
from edgeqwt.calibration.processors import read_processor
from edgeqwt.errors import InputError
from edgeqwt.options import meanings

PROCESSOR = "processor"
"""The key that names a processor's JSON file; other keys overrule what it says."""
KEYS = tuple(field.name for field in fields(ImageOptions))
EXAMPLE = 'e.g. [images] folder = "photos", size = [224, 224], mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5].'


def schema() -> dict[str, Any]:
    """The JSON Schema of such a file, for editors."""
    number = {"type": ["number", "string"]}
    numbers = {"anyOf": [number, {"type": "array", "items": number}]}
    kinds: dict[str, Any] = {
        "size": {"type": "array", "items": number, "minItems": 2, "maxItems": 2},
        "mean": numbers,
        "std": numbers,
        **{key: {"enum": list(choices)} for key, choices in CHOICES.items()},
    }
    options = {key: {**kinds.get(key, number), "description": said} for key, said in meanings(ImageOptions).items()}
    folder = {"type": "string", "description": "of the images; relative to the file."}
    processor = {"type": "string", "description": "a preprocessor_config.json; other keys overrule what it says."}
    table = {
        "type": "object",
        "additionalProperties": False,
        "required": ["folder"],
        "properties": {"folder": folder, PROCESSOR: processor, **options},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgeqwt calibration images",
        "type": "object",
        "additionalProperties": False,
        "required": ["images"],
        "properties": {"images": table},
    }


def read_toml(path: Path) -> tuple[Path, ImageOptions]:
    """The folder and the options that a TOML file's `[images]` table declares.

    Args:
        path: of the file; a relative `folder` in it is relative to the file.

    Raises:
        InputError: when the file is missing or no TOML, or has an unknown or unusable key.
    """
    try:
        text = toml.text(path)
        document = toml.parse(text)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}", "Check the path; it is relative to the working folder.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "Check the path and its permissions.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file", "It must be a TOML file in UTF-8.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid TOML: {error}", "Correct that line.") from error
    for key in document:
        if key != "images":
            raise InputError(f"{path}{_line(text, key)}: unknown key {key!r}", f"It has one table, {EXAMPLE}")
    table = document.get("images")
    if not isinstance(table, dict):
        raise InputError(f"{path} has no [images] table", f"Write one, {EXAMPLE}")
    settings = dict(table)
    folder = settings.pop("folder", None)
    if not isinstance(folder, str) or not folder:
        raise InputError(f"{path}: the [images] table names no folder", f"Add one, {EXAMPLE}")
    for key in settings:
        if key not in (*KEYS, PROCESSOR):
            raise _unknown(key, f"{path}{_line(text, key)}", ("folder", *KEYS, PROCESSOR))
    return path.parent / folder, make_options(settings, str(path), path.parent)


def parse_options(texts: Sequence[str]) -> ImageOptions:
    """The options of a command line: "size=96,96", "mean=0.485,0.456,0.406", "scale=1/255", ...

    Raises:
        InputError: when a text is not key=value, or a key or value cannot be used.
    """
    settings: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--image {text!r} is not key=value", "Write e.g. --image size=224,224.")
        if key in settings:
            raise InputError(f"--image {key} is given twice", "Leave one out.")
        parts = [part.strip() for part in value.replace("x", ",").split(",")] if key == "size" else value.split(",")
        settings[key] = parts if len(parts) > 1 else value
    return make_options(settings, "--image")


def make_options(settings: Mapping[str, object], where: str, folder: Path = Path()) -> ImageOptions:
    """Options from raw values: numbers may be texts such as "1/255", and lists stand for tuples.

    Args:
        settings: option name to value.
        where: what they come from, for messages.
        folder: what a processor's path is relative to.

    Raises:
        InputError: when a key is unknown or missing, or a value cannot be used.
    """
    values: dict[str, object] = {}
    if PROCESSOR in settings:
        file = settings[PROCESSOR]
        if not isinstance(file, str):
            raise InputError(f"{where}: {PROCESSOR} = {file!r} is no path", "Name a preprocessor_config.json.")
        settings = {**read_processor(folder / file), **{k: v for k, v in settings.items() if k != PROCESSOR}}
    for key, value in settings.items():
        if key not in KEYS:
            raise _unknown(key, where, (*KEYS, PROCESSOR))
        if key in ("size", "resize"):
            values[key] = _numbers(value, key, where, whole=True)
        elif key in ("mean", "std", "scale"):
            values[key] = _numbers(value, key, where, whole=False)
        else:
            values[key] = value
    for field in fields(ImageOptions):
        if field.default is MISSING and field.name not in values:
            raise InputError(f"{where}: the image option {field.name} is missing", f"Give it, {EXAMPLE}")
    if isinstance(values["size"], int):
        raise InputError(f"{where}: image option size = {values['size']} has one value", "Give height and width.")
    for key in ("mean", "std"):
        if key in values and not isinstance(values[key], tuple):
            values[key] = (values[key],)
    for key in ("resize", "scale"):
        if isinstance(values.get(key), tuple):
            raise InputError(f"{where}: image option {key} is a list", "Give one number.")
    try:
        return ImageOptions(**values)  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"{where}: {error.message}", error.hint) from error


def _numbers(value: object, key: str, where: str, whole: bool) -> object:
    """One number, or a tuple of them where `value` is a list."""
    if isinstance(value, list | tuple):
        return tuple(_numbers(part, key, where, whole) for part in value)
    if isinstance(value, bool) or not isinstance(value, str | int if whole else str | int | float):
        raise _not_a_number(value, key, where, whole)
    try:
        if whole:
            return int(value)
        # Fraction alone would compute 1e999999999 to its last digit.
        return float(Fraction(value)) if isinstance(value, str) and "/" in value else float(value)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise _not_a_number(value, key, where, whole) from error


def _not_a_number(value: object, key: str, where: str, whole: bool) -> InputError:
    kind = "a whole number" if whole else "a number"
    return InputError(f"{where}: image option {key}: {value!r} is not {kind}", "Write e.g. 224, 0.5 or 1/255.")


def _unknown(key: str, where: str, known: Sequence[str]) -> InputError:
    close = difflib.get_close_matches(key, known, 1)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return InputError(f"{where}: unknown image option {key!r}", f"{guess}Known: {', '.join(known)}.")


def _line(text: str, key: str) -> str:
    """The first line, as ":12", that sets the key or opens the table; tomllib keeps no positions."""
    pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    numbers = (number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line))
    number = next(numbers, None)
    return "" if number is None else f":{number}"
