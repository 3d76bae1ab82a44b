"""Figures of each op for ai-edge-model-explorer: one file of node data each, matched by output tensor.

The format is Model Explorer's: {graph: {"results": {output tensor: {"value": number}}, "gradient": [...]}}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeqwt.errors import InputError
from edgeqwt.extras import need
from edgeqwt.report.manifest import EXPLORER, MODEL
from edgeqwt.report.page import Page, accumulated_of, own_of

UNNAMED = "main"  # as its TFLite adapter calls a subgraph without a name
BAD_TO_GOOD, FEW_TO_MANY = ("#c22f2f", "#e0a63a", "#4cc38a"), ("#e9edf1", "#2166ac")


def node_data(page: Page, graph: str) -> dict[str, dict[str, Any]]:
    """Node data by file name, of the figures that are known; `graph` is the name of the subgraph in the model file."""
    found = {name: dict(values) for name, values in _figures(page).items()}
    return {
        name: {
            graph or UNNAMED: {
                "results": {tensor: {"value": value} for tensor, value in values.items()},
                "gradient": _gradient(BAD_TO_GOOD if name.endswith("_db") else FEW_TO_MANY),
            }
        }
        for name, values in found.items()
        if values
    }


def write_node_data(page: Page, graph: str, folder: Path) -> None:
    """Writes the files for the subgraph of that name; the folder's parent exists."""
    folder.mkdir()
    for name, data in node_data(page, graph).items():
        (folder / f"{name}.json").write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def explore(folder: Path) -> None:
    """Opens a build's model with its figures in Model Explorer; ends when that ends.

    Raises:
        InputError: the folder is no output of a build.
        MissingPackageError: Model Explorer is not installed; it says how to load both by hand.
    """
    files = sorted((folder / EXPLORER).glob("*.json"))
    if not (folder / MODEL).is_file() or not files:
        raise InputError(f"{folder} is no output folder of a build", "Name the folder that `edgeqwt build` made.")
    need("model_explorer")
    import model_explorer

    config = model_explorer.config()
    config.add_model_from_path(str(folder / MODEL))
    for file in files:
        config.add_node_data_from_path(str(file))
    model_explorer.visualize_from_config(config)


def _gradient(colours: Sequence[str]) -> list[dict[str, Any]]:
    return [{"stop": k / (len(colours) - 1), "bgColor": colour} for k, colour in enumerate(colours)]


def _figures(page: Page) -> Mapping[str, Iterator[tuple[str, float]]]:
    last = page.series[-1]
    cycles = () if page.npu is None else page.npu["ops"]
    ops = [op for op in page.ops if op["op"] is not None]
    return {
        "own_error_db": ((op["tensor"], db) for op in ops if (db := own_of(op, last)) is not None),
        "accumulated_db": ((op["tensor"], db) for op in ops if (db := accumulated_of(op, last)) is not None),
        "gain_range": (
            (op["tensor"], round(max(gain) - min(gain), 4)) for op in ops if (gain := op["channels"].get("gain"))
        ),
        "activation_bits": ((op["tensor"], float(bits)) for op in ops if (bits := _bits(op["dtype"])) is not None),
        "npu_cycles": ((op["name"], float(op["cycles"])) for op in cycles),
    }


def _bits(dtype: str) -> int | None:
    digits = dtype.lstrip("uintfloa")
    return int(digits) if digits.isdigit() else None
