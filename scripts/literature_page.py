"""Writes docs/literature.md from the code and docs/literature.json: python scripts/literature_page.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeqwt.simulation.corrections import CORRECTIONS
from edgeqwt.simulation.methods import METHODS
from edgeqwt.techniques.registry import registered

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, MEASURED = DOCS / "literature.md", DOCS / "literature.json"
TRAININGS = DOCS / "quantized_training.json"
FILES = DOCS / "literature_files.json"
SHOWN = ("vit", "w4a4")  # the study that the table of systems shows; without a correction `mse` has the base


@dataclass(frozen=True)
class System:
    """One paper's system.

    Attributes:
        name: of the system, with the year.
        techniques: what of it works in files, by the names of techniques.
        methods: what of it is simulated, by the names of methods or corrections of studies.
        note: what integer kernels allow, or what is missing.
    """

    name: str
    techniques: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    note: str = ""


SYSTEMS = (
    System("QwT-v2", ("cwac",), ("cwac", "cwac_ratio"), "free in files: [what was tried](literature-in-files.md#cwac)"),
    System(
        "QwT (Fu et al. 2024)",
        (),
        ("qwt",),
        "costs ops: simulated, and [as int8 ops of a benchmark](literature-in-files.md#qwts-linear-layers)",
    ),
    System(
        "ZeroQuant (2022)",
        ("gptq", "cwac"),
        ("zeroquant",),
        "token-wise ranges: [files](literature-in-files.md#activations-rounded-at-run-time) of `w8-dynamic` "
        "and `w4-dynamic`; group-wise weights were measured, and are not written; [distillation without data]"
        "(literature-in-files.md#distillation-without-training-data) is `reconstruction` by layers, gaining nothing",
    ),
    System(
        "RepQ-ViT (2023)",
        ("equalization",),
        ("repq_vit",),
        "factors of channels work in files; logarithmic steps do not",
    ),
    System("RepQuant (2024)", ("equalization",), ("repquant",), "likewise"),
    System(
        "PTQ4ViT (2022)", ("hessian_guided", "weighted_ranges"), ("ptq4vit",), "two ranges in one tensor do not exist"
    ),
    System("EasyQuant (2020)", ("easyquant",), ("easyquant",)),
    System("LAPQ (2021)", ("lapq", "lp_ranges")),
    System(
        "HPTQ (2021)",
        ("power_of_two_ranges", "power_of_two_weight_scales"),
        (),
        "all scales are powers of two where nothing behind chooses others: see "
        "[`power_of_two_weight_scales`](techniques.md#power_of_two_weight_scales)",
    ),
    System("ERQ (2024)", ("erq",), ("erq",)),
    System(
        "SmoothQuant (2023)", ("equalization",), ("smoothquant",), "with factors that are optimized, not an exponent"
    ),
    System(
        "Outlier Suppression+ (2023)",
        ("channel_shift",),
        (),
        "shifts of channels; its factors are those of `equalization`. [+0.9 dB in the hybrid, nothing to shift or to "
        "gain elsewhere](literature-in-files.md#shifts-of-channels)",
    ),
    System("NoisyQuant (2023)", (), ("noisyquant",), "an ADD before each layer in a file: not built"),
    System(
        "MREM (2022)",
        ("reconstruction", "mrem"),
        (),
        "blocks learn one after the other, or [at the same time in processes of their "
        "own](literature-in-files.md#blocks-that-learn-at-the-same-time)",
    ),
    System("GPTQ (2022)", ("gptq",), ("gptq",)),
    System("AIQViT (2025)", (), ("aiqvit", "low_rank"), "low-rank layers cost ops; the focused interval is one scale"),
    System("DopQ-ViT (2024)", (), ("dopq_vit",), "kernels know equal steps alone"),
    System(
        "ADFQ-ViT (2024)",
        (),
        ("adfq_vit", "positions"),
        "ranges per position would be a MUL, and give [0.1 dB at most](literature-in-files.md#ranges-per-position)",
    ),
    System(
        "FIMA-Q (2025)",
        ("fima_q",),
        (),
        "[loses to the diagonal](literature-in-files.md#fima-q-and-aespa) on what was tried",
    ),
    System(
        "aespa (2024)",
        ("aespa",),
        (),
        "its objectives within GPTQ, kept where held-out samples say so; gains [0.2 dB on what was "
        "tried](literature-in-files.md#fima-q-and-aespa)",
    ),
    System(
        "VQ4DiT (2024)",
        ("codebook", "codebook_calibration"),
        ("vq4dit",),
        "a byte for each sub-vector, which LiteRT's GATHER looks up at each run; [assignments in closed "
        "form](literature-in-files.md#sub-vectors-from-codebooks)",
    ),
    System(
        "PTQ4DiT (2024)", ("equalization",), ("ptq4dit",), "a sample stands for its time step; factors work in files"
    ),
    System(
        "Q-DiT (2024)",
        (),
        ("q_dit",),
        "ranges of groups in each token exist in no kernel; sizes are searched layer by layer, not by evolution",
    ),
    System(
        "LRQ-DiT (2025)",
        (),
        ("lrq_dit",),
        "kernels know equal steps alone; a rotation behind a modulated norm is a layer of its own",
    ),
    System(
        "Static scales per time step",
        (),
        (),
        "in files: `build --groups t=4`, measured in [scales per group](how-to/scales-per-group.md)",
    ),
    System(
        "PTQ for ViT (Liu et al. 2021)",
        (),
        ("liu2021",),
        'activations\' ranges; its mixed precision in files: `sensitivity = "nuclear_norm"` of `[mixed]`, '
        "[measured](literature-in-files.md#mixed-widths-by-nuclear-norm)",
    ),
    System(
        "Q-HyViT, Trio-ViT",
        ("regions16", "channel_shift"),
        (),
        "hybrids build with what there is ([31 dB in 8 bits alone](literature-in-files.md#a-hybrid-in-8-bits-alone), "
        "[32 with shifts of channels](literature-in-files.md#shifts-of-channels)); "
        "linear attention's divisions as regions of 16 bits "
        "([transformers.md](transformers.md))",
    ),
    System(
        "EfficientLLMs study (2024)",
        (),
        (),
        "a small training of our own, [rounded part by part](#rounding-in-training)",
    ),
)

HEAD = """\
<!-- Written by scripts/literature_page.py: edit the table there, or docstrings; figures: make benchmark-literature. -->

# Literature

What of the papers that this project stands on works here. *Files*: techniques of recipes, whose figures are those of
integer files in the real interpreter ([techniques.md](techniques.md)). *Simulation*: what no kernel of TFLite runs,
such as activations of 4 bits or logarithmic steps; `edgeqwt study` computes it in floats, on the graph, the samples
and the layers that a build has. **A simulated figure says nothing of a file**, and no file comes out of a study.

```sh
edgeqwt study my_model.py:create -c samples.npz --precision w4a4 --methods mse,repq_vit --corrections none,cwac,qwt
```

A study quantizes the operands of linear layers and of both products of attention, as the papers do; norms, softmax,
GELU and residual sums stay in float, the first and the last layer have 8 bits. Each layer is fitted to what the
simulated layers before it hand on. A correction stays where one in four samples, which it was not fitted on, bears it
out. `added numbers` is what a correction would add to a file: none for an offset and for CWAC.

The table's dB: of techniques, what each gains in files of ResNet-20 at w4a8 on 2000 test images, beside ranges of
`mse_ranges` with weights to nearest, and on top of `balanced`, or what `balanced` loses without it (512 calibration
images, at 41102bb, learned rounding at 0b2b87c; `python benchmarks/literature_files.py --write`); of methods, what the
study of the ViT at w4a4 leaves, those of corrections on top of `mse`. `make benchmark-literature` measures studies and
prints the same rows; `python benchmarks/literature.py --table` only prints them. [Literature in
files](literature-in-files.md) has what else was measured of files.

"""

FIGURES = """\
dB of what varies at the output, and the share of images with the float network's class, in simulation
(`benchmarks/literature.py --write`, with `--every 20` for images; the ViT has 3 epochs of train.py). CWAC is below no
method without a correction, QwT below two, by 0.1 dB. QwT's layers, which cost operations, have beside CWAC 2.0 dB less
to 1.6 dB more at w4a4, 0.6 dB less to 2.2 dB more at w6a6, but in the hybrid: a shortcut leads around its whole
transformer, so that one block alone is found for QwT, which has 2.0 to 7.1 dB less there. The network with linear
attention (`linear_attention`) is of convolutions, too; MobileNetV2 and the hybrid are as train.py trains them."""


def page() -> str:
    """The page."""
    return HEAD + "\n".join([*_systems(), "", *_trainings(), "", *_methods(), "", *_measured()]) + "\n"


def _systems() -> Iterator[str]:
    known = {*registered(), *METHODS, *CORRECTIONS}
    yield "| system | in files | alone, and in `balanced` | in simulation | |"
    yield "|---|---|---|---|---|"
    for system in SYSTEMS:
        assert {*system.techniques} <= {*registered()}, system.name
        assert {*system.methods} <= known, system.name
        files = ", ".join(f"[`{name}`](techniques.md#{name})" for name in system.techniques) or "—"
        simulated = ", ".join(f"`{name}`{figure}" for name, figure in in_simulation(system)) or "—"
        gains = "; ".join(f"{figure} dB" for _, figure in in_files(system)) or "—"
        yield f"| {system.name} | {files} | {gains} | {simulated} | {system.note} |"


def in_files(system: System) -> Iterator[tuple[str, str]]:
    """A system's techniques with what each gains in files, alone and within or on top of `balanced`, in dB."""
    table = next(iter(_read(FILES)), {"rows": []})
    rows = {row["technique"]: row for row in table["rows"]}
    for name in system.techniques:
        row = rows.get(name)
        if row is not None:
            base = {**table, **row}  # rows have bases of their own where they were measured at another commit
            there = base["balanced"] - row["without"] if "without" in row else row["added"] - base["balanced"]
            yield name, ", ".join(f"{round(gain, 1) + 0.0:+.1f}" for gain in (row["alone"] - base["nothing"], there))


def in_simulation(system: System) -> Iterator[tuple[str, str]]:
    """A system's methods and corrections with what they leave in the study of the ViT at 4 bits."""
    table = next((t for t in _read(MEASURED) if (t["network"], t["precision"]) == SHOWN), {"rows": []})
    db = {(row["method"], row["correction"]): row["varying_db"] for row in table["rows"]}
    for name in system.methods:
        key = (name, "none") if name in METHODS else ("mse", name)
        yield name, f" {db[key]:.1f} dB" if key in db else ""


def _read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _trainings() -> Iterator[str]:
    found = json.loads(TRAININGS.read_text(encoding="utf-8"))
    plain = [row["loss"] for row in found["rows"] if not row["part"]]
    yield "## Rounding in training"
    yield ""
    yield f"A decoder of {found['parameters']:,} parameters, {found['steps']} steps on the standard library's"
    yield "docstrings, one part rounded; nats a byte of held-out modules, in simulation. Without rounding, three seeds:"
    yield f"{', '.join(f'{loss:.3f}' for loss in plain)}; the table's rows have the first seed. Per row: a scale for"
    yield "each output channel of weights and of their moments, for each token of activations and gradients. Weights,"
    yield "activations and gradients are those of all linear layers but the last; moments are AdamW's, of all matrices."
    yield f"`python benchmarks/quantized_training.py --steps {found['steps']} --write`"
    yield ""
    yield "| rounded | 8 bits, per tensor | 8 bits, per row | 4 bits, per tensor | 4 bits, per row |"
    yield "|---|---|---|---|---|"
    losses = {(row["part"], row["bits"], row["rows"]): row["loss"] for row in found["rows"] if row["part"]}
    for part in dict.fromkeys(part for part, _, _ in losses):
        cells = (losses[part, bits, rows] for bits in (8, 4) for rows in (False, True))
        yield f"| {part} | {' | '.join('diverged' if loss is None else f'{loss:.3f}' for loss in cells)} |"


def _methods() -> Iterator[str]:
    yield "## Methods of studies"
    yield ""
    yield "| method | made from | what it does |"
    yield "|---|---|---|"
    for name, method in METHODS.items():
        yield f"| `{name}` | {method.paper or '—'} | {method.what} |"
    yield ""
    yield "| correction | made from |"
    yield "|---|---|"
    for name, rule in CORRECTIONS.items():
        yield f"| `{name}` | {rule.paper if rule is not None else '—'} |"


def _measured() -> Iterator[str]:
    yield "## Measured"
    yield ""
    if not MEASURED.exists():
        yield "Nothing yet: `make benchmark-literature`."
        return
    yield FIGURES
    for found in json.loads(MEASURED.read_text(encoding="utf-8")):
        yield ""
        accuracy = "" if found["accuracy"] is None else f", float accuracy {found['accuracy']:.3f}"
        yield f"### {found['network']}, {found['precision']}{accuracy}"
        yield ""
        judged = {
            "dit": "of the sampler's questions: noisy images with a time step and a class each.",
            "decoder": "windows of 128 bytes of modules that it was not trained on.",
        }
        yield f"{found['images']} {judged.get(found['network'], 'test images.')}"
        yield ""
        yield from _table(found["rows"])


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    cells = {(row["method"], row["correction"]): row for row in rows}
    columns = [name for name in CORRECTIONS if any(name == correction for _, correction in cells)]
    yield f"| method | {' | '.join(columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for method in (name for name in METHODS if any(name == method for method, _ in cells)):
        found = [cells.get((method, column)) for column in columns]
        yield f"| `{method}` | {' | '.join(_cell(row) if row else '—' for row in found)} |"


def _cell(row: dict[str, Any]) -> str:
    """Classes mean nothing where there are no labels."""
    agreement = "" if row["accuracy"] is None else f", {row['agreement']:.3f}"
    return f"{row['varying_db']:.1f} dB{agreement}"


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
