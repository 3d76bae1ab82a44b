"""Builds one network in a process of its own and writes down what came of it."""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
import traceback
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.zoo.networks import Network, make
from benchmarks.zoo.table import BELOW, BUILT, CONVERTED, EITHER, REFUSED, SMOOTH, UNCONVERTED, Row
from edgeqwt.progress import Advance, silent

AFTER_PARITY = "look at samples"
"""The first stage of a build after a converter's graph was proved."""


def row_of(name: str, options: argparse.Namespace) -> Row:
    """One network's row; `converted` says whether its float graph was proved to compute what the source does."""
    from benchmarks.zoo.data import noise_gain_db, samples, settle, smooth, standardized

    row: Row = {
        "name": name,
        "filters": options.filters,
        "recipe": options.recipe,
        "native": not options.small,
        "samples": options.samples,
    }
    start = time.perf_counter()
    try:
        network = make(name, not options.small)
        data = samples(network, options.samples)
        if network.vocabulary:
            row["filters"] = EITHER
        elif options.filters == SMOOTH:
            smooth(network)
        settle(network, data, 0.5 if options.filters == SMOOTH else 0.0)
        module = standardized(network, data)
        row["noise_gain_db"] = noise_gain_db(module, data)
    except Exception as error:  # the package refuses: nothing of ours
        return {**row, "status": "not made", "converted": False, "message": f"{type(error).__name__}: {error}"[:400]}
    row["make_seconds"] = round(time.perf_counter() - start, 1)
    row |= {"parameters": sum(p.numel() for p in module.parameters()), "shape": _shape(network)}
    start, seen = time.perf_counter(), list[str]()
    found = _build(module, data, options, seen)
    return {**row, "converted": AFTER_PARITY in seen, **found, "seconds": round(time.perf_counter() - start, 1)}


def _shape(network: Network) -> list[int]:
    return list(next(iter(network.inputs.values())))


class _ProvedError(Exception):
    """Ends a build whose conversion is all that is asked for."""


def _build(module: Any, data: list[Any], options: argparse.Namespace, seen: list[str]) -> Row:
    """What came of the build; the stages that it went through are appended to `seen`."""
    import edgeqwt
    from edgeqwt.errors import ConversionError, EdgeqwtError, ParityError
    from edgeqwt.recipe.recipe import load

    def display(stage: str) -> AbstractContextManager[Advance]:
        seen.append(stage)
        print(f"stage: {stage}", flush=True)  # for the row of a process that dies or takes too long
        if options.convert and stage == AFTER_PARITY:
            raise _ProvedError
        return silent(stage)

    try:
        # Accepted below the gate, too: the table is to say how far below.
        recipe = replace(load(options.recipe), ceiling=True)
        with nullcontext() if options.remedies else patch("edgeqwt.judgement.tried", return_value=()):
            result = edgeqwt.build(
                module, calibration=data, target="tflite", recipe=recipe, accept=True, display=display
            )
    except _ProvedError:
        return {"status": CONVERTED}
    except EdgeqwtError as error:
        failures = [text[:500] for text in getattr(error, "failures", ())]
        status = UNCONVERTED if isinstance(error, ConversionError | ParityError) else REFUSED
        tail = getattr(error, "log_tail", "").splitlines()[-3:]
        return {
            "status": status, "kind": type(error).__name__, "message": error.message[:400], "hint": error.hint[:400],
            "op": error.op, "failures": failures, "tail": tail, "stage": seen[-1] if seen else "",
        }  # fmt: skip
    except Exception as error:
        places = traceback.extract_tb(error.__traceback__)
        ours = [place for place in places if "/edgeqwt/" in place.filename] or places
        return {
            "status": "bug", "message": f"{type(error).__name__}: {error}"[:400], "stage": seen[-1] if seen else "",
            "place": f"{ours[-1].filename.rpartition('edgeqwt/')[2]}:{ours[-1].lineno}",
        }  # fmt: skip
    return _measured(result)


def _measured(result: Any) -> Row:
    """The figures of what was kept."""
    graph, quality = result.graph, result.quality[result.choice.name]
    floats = [op.kind for op in graph.ops if any(t >= 0 and graph.tensors[t].is_float for t in op.tensors)]
    below = [found.sentence for found in result.shortfalls if found.below]
    return {
        "status": BELOW if below else BUILT,
        "message": " ".join(below)[:300],
        "converter": result.model.converter,
        "attempts": [attempt.sentence[:300] for attempt in result.model.attempts],
        "parity": max((output.used for output in result.parity.outputs), default=0.0),
        "varying_db": quality.worst_db,
        "ceiling_db": None if result.ceiling is None else result.ceiling.db,
        "wider": [] if result.ceiling is None else [[*wide.tensors, wide.db] for wide in result.ceiling.wider],
        "whole_db": min(place.closeness.sqnr_db for place in quality.decisive),
        "agreement": min(place.closeness.top1 or 0.0 for place in quality.outputs),
        "kept": result.choice.name,
        "ops": len(graph.ops),
        "float_ops": len(floats),
        "bytes": result.sizes[result.choice.name],
    }


def build(name: str, options: argparse.Namespace, log: Path, found: Path) -> None:
    """One network in a process of its own: its row goes to `found`, what it prints to `log`.

    Args:
        name: of the network.
        options: recipe, samples, small, and the GiB of memory that it may take.
        log: file to write.
        found: likewise; missing where the process dies.
    """
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    warnings.simplefilter("ignore")
    # Of data, not of address space: torch and LiteRT reserve much more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (options.memory << 30, options.memory << 30))
    row = row_of(name, options)
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found.write_text(json.dumps({**row, "peak_mib": max(peaks) >> 10}), "utf-8")
