"""Writes docs/targets.md from the profiles and the constraints: python scripts/targets_table.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

from edgeqwt.profile import TargetProfile
from edgeqwt.target.constraints import CONSTRAINTS
from edgeqwt.target.fix import FIXES
from edgeqwt.target.load import load, names
from edgeqwt.target.memory import mebibytes

PAGE = Path(__file__).resolve().parents[1] / "docs" / "targets.md"

HEAD = """\
<!-- Written by scripts/targets_table.py from targets/: edit the profiles and the constraints' docstrings there. -->

# Targets

A target is a profile in `targets/profiles/`: what runs the model, what it does not take, and what package a build
makes for it. `edgeqwt check FILE --target T` lists what stands in a model's way, before conversion (a float file) and
after it; a build says the same. An *error* means that the target refuses the model, a *warning* that it runs, at a
price. Where TFLite Micro is to run it, `check` loads an integer file in its interpreter, in a process of its own: what
it runs has its kernels, whatever the tables say, and what it refuses is an error, in its own words. Where a vendor's
compiler plugin of LiteRT is installed (`edgeqwt tools install qualcomm`), `check` and builds run it, and every op that
it leaves to the CPU is a warning.

{targets}
{notes}
## Constraints

Each constraint is a function of `targets/*_rules.py`; a profile says which apply, and with which limit. What the
tables say of TFLite Micro, XNNPACK and Vela is measured by the tests: every case of the op table's tests goes through
the real interpreter, delegate or compiler, and lands where the findings say. The Edge TPU's are its documentation's.

| Constraint | Severity | Rule | Remedy | Targets |
|---|---|---|---|---|
{constraints}
## 4-bit weights

`--precision w4a8` stores the integers of 4 bits two to a byte where a target's kernels take that. TFLite Micro and
CMSIS-NN take it in convolutions. LiteRT takes it in dense layers too, with a scale for each channel; XNNPACK runs those
as fast as int8 ones where the number of inputs is even, and leaves int4 convolutions to kernels that unpack them at
every run. So on `tflite` a 1×1 convolution of stride 1 is written as FULLY_CONNECTED (XNNPACK's bytes are the same,
the reference kernels' differ by up to two steps), and any other convolution is packed only where it has at least 1 % of
the model's weights, a depthwise one 5 %. A build judges the file in these forms.

What it saves depends on what else a file holds. Of the 152,560 bytes of the MobileNetV2-style network of train.py at
w8a8 (7eafaf4, `fast`) 92,960 are weights, 12,000 biases, 23,900 scales of channels, 23,700 names, ops and shapes: w4a8
has 111,840, 0.733 of them; with every weight in 4 bits, depthwise ones included, it would be 0.695. Networks of larger
layers come closer to a half.

## Weights behind lookup tables

`--compress`, for the targets `tflm…`, puts weights of few distinct values into the firmware's model as indices of 1 to
7 bits and a table (TFLite Micro's op `TFLM_DECODE`), where that takes fewer bytes: clustered weights, which builds keep
clustered (`--preserve clusters`), and 4-bit weights of dense layers, which TFLite Micro does not take packed. The
kernels see the same integers: the build compares the outputs' bytes in TFLite Micro. `model.tflite` beside the firmware
stays as it is for LiteRT, which has no such op. `--flash` and `--ram` judge the model without the tables.

Random images, recipe `fast`, weights clustered to 16 values per layer without training (`make
benchmark-lookup_weights`; what clustering does to a network's accuracy is its author's to measure):

| network | flash | with tables | arena | with tables |
|---|---|---|---|---|
| image classification, clustered | 85,408 | 48,672 (−43 %) | 56,112 | 61,664 |
| visual wake words, clustered | 243,024 | 137,344 (−43 %) | 103,728 | 107,472 |
| visual wake words as it is | 243,024 | 212,064 (−13 %: five layers have at most 128 values) | 103,728 | 104,768 |
| image classification as it is | 85,408 | 85,408 (no layer gains) | 56,112 | 56,112 |

Each run unpacks the weights: how much longer it takes was not measured on a device. tflite-micro's wheel runs it; a
firmware needs a TFLite Micro that has `AddDecode` (2025 or later).

## Fixes

`--fix` applies these to an integer file, where a finding names them.

| Fix | What it does | How far results may move |
|---|---|---|
{fixes}
## What runs where

Kinds of ops by the type of their activations. What is not listed runs on the CPU, with LiteRT's built-in kernels or
in TFLite Micro; docs/ops.md says which ops TFLite Micro has.

{kinds}
"""

OWN = """\
## A profile of your own

`--target mine.toml` reads a file like this one; unknown keys are refused. What it does not say is as in the profile
that it extends; a limit set to `false` is lifted. [target.schema.json](target.schema.json) is its JSON Schema, for
editors.

```toml
extends = "tflm-cortex-m4"
title = "Sensor board, revision C"

[limits]
ram = 98304     # bytes for activations
flash = 524288  # bytes for the model
```

Keys: `extends`, `title`, `runtimes` (what must load and run the file: `reference`, `xnnpack`, `tflm`), `notes`,
`package` (`tflite`, `tflm`, `ethos-u`, `npu`), `[npu]` with `accelerator`, `system_config`, `memory_mode` and `system`
as Vela calls them, `[plugin]` with `vendor` and `soc` as a compiler plugin of LiteRT calls them, and `[limits]` with
the constraints above. The RAM figure of a check is a lower bound, the activations that exist at the same time; the
package measures the arena.
"""


def targets() -> str:
    """The table of profiles."""
    lines = [
        "| Target | What it is | Runs in | RAM, flash | Vela's system config, memory mode; or the chip |",
        "|---|---|---|---|---|",
    ]
    for profile in map(load, names()):
        sizes = ", ".join(mebibytes(int(str(profile.limits[key]))) for key in ("ram", "flash") if key in profile.limits)
        npu = f"{profile.npu.system_config}, {profile.npu.memory_mode}" if profile.npu else ""
        npu = profile.plugin.soc if profile.plugin else npu
        lines.append(f"| `{profile.name}` | {profile.title} | {', '.join(profile.runtimes)} | {sizes} | {npu} |")
    return "\n".join(lines) + "\n"


def notes() -> str:
    """What was verified, once for all profiles that say the same."""
    by_note: dict[tuple[str, ...], list[str]] = {}
    for name in names():
        by_note.setdefault(load(name).notes, []).append(f"`{name}`")
    return "".join(f"{fill(f'{", ".join(who)}: {" ".join(what)}', 118)}\n\n" for what, who in by_note.items())


def constraints() -> str:
    """One row per constraint."""
    rows = []
    for name, row in CONSTRAINTS.items():
        using = {profile.name: profile.limits[name] for profile in map(load, names()) if name in profile.limits}
        every = "every target" if name == "integer_form" else _who(using)
        rule, remedy = (text.replace("{limit}", "N") for text in (row.rule, row.remedy))
        rows.append(f"| `{name}` | {row.severity} | {rule} | {remedy} | {every or 'profiles of your own'} |\n")
    return "".join(rows)


def _who(using: Mapping[str, object]) -> str:
    """Targets by their limits, families in one."""
    groups: dict[str, list[str]] = {}
    for name, limit in using.items():
        shown = "" if limit is True or isinstance(limit, Mapping) else f" ({_limit(limit)})"
        family = name.rpartition("-")[0] + "-*" if name.startswith(("ethos", "qualcomm")) else name
        if family not in groups.setdefault(shown, []):
            groups[shown].append(family)
    return "; ".join(", ".join(f"`{family}`" for family in found) + shown for shown, found in groups.items())


def _limit(limit: object) -> str:
    return ", ".join(limit) if isinstance(limit, list) else f"N = {limit}"


def kinds() -> str:
    """The lists of kinds."""
    blocks: dict[str, list[TargetProfile]] = {}
    for profile in map(load, names()):
        for name in ("delegated_ops", "npu_ops", "plugin_ops", "accelerated_ops"):
            listed = profile.limits.get(name)
            if isinstance(listed, Mapping):
                text = "".join(f"\n{fill(f'- {dtype}: {", ".join(found)}', 118)}" for dtype, found in listed.items())
                blocks.setdefault(text, []).append(profile)
    return "\n".join(f"{fill(', '.join(f'`{p.name}`' for p in who), 118)}:\n{text}\n" for text, who in blocks.items())


def document() -> str:
    """The whole file."""
    fixes = "".join(f"| `{name}` | {fixing.sentence} | {fixing.bound} |\n" for name, fixing in FIXES.items())
    parts = {"targets": targets(), "notes": notes(), "constraints": constraints(), "fixes": fixes, "kinds": kinds()}
    return HEAD.format(**parts) + OWN


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
