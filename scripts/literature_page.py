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
    System("QwT-v2", ("cwac",), ("cwac", "cwac_ratio"), "free in files; see below"),
    System("QwT (Fu et al. 2024)", (), ("qwt",), "costs ops: simulated, and as real int8 ops of a benchmark, below"),
    System(
        "ZeroQuant (2022)",
        ("gptq", "cwac"),
        ("zeroquant",),
        "token-wise ranges: files of `--precision w8-dynamic` and `w4-dynamic`, see below; group-wise weights were "
        "measured, and are not written; distillation without data is `reconstruction` by layers, which gains nothing",
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
    System("NoisyQuant (2023)", (), ("noisyquant",), "an ADD before each layer in a file: not built"),
    System(
        "MREM (2022)",
        ("reconstruction", "mrem"),
        (),
        "blocks learn one after the other, or all at the same time in processes of their own; see below",
    ),
    System("GPTQ (2022)", ("gptq",), ("gptq",)),
    System("AIQViT (2025)", (), ("aiqvit", "low_rank"), "low-rank layers cost ops; the focused interval is one scale"),
    System("DopQ-ViT (2024)", (), ("dopq_vit",), "kernels know equal steps alone"),
    System(
        "ADFQ-ViT (2024)",
        (),
        ("adfq_vit", "positions"),
        "ranges per position would be a MUL, and give 0.1 dB at most, see below",
    ),
    System("FIMA-Q (2025)", ("fima_q",), (), "loses to the diagonal on what was tried; see below"),
    System(
        "aespa (2024)",
        ("aespa",),
        (),
        "its objectives within GPTQ, kept where held-out samples say so; gains 0.2 dB on what was tried, see below",
    ),
    System(
        "VQ4DiT (2024)",
        ("codebook", "codebook_calibration"),
        ("vq4dit",),
        "a byte for each sub-vector, which LiteRT's GATHER looks up at each run; assignments in closed form, see below",
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
        'activations\' ranges; its mixed precision in files: `sensitivity = "nuclear_norm"` of `[mixed]`, see below',
    ),
    System(
        "Q-HyViT, Trio-ViT",
        ("regions16",),
        (),
        "hybrids build with what there is; linear attention's divisions as regions of 16 bits "
        "([transformers.md](transformers.md))",
    ),
    System("EfficientLLMs study (2024)", (), (), "a small training of our own, rounded part by part: below"),
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
images, at 41102bb; `python benchmarks/literature_files.py --write`); of methods, what the study of the ViT at w4a4
leaves, those of corrections on top of `mse`. `make benchmark-literature` measures studies and prints the same rows;
`python benchmarks/literature.py --table` only prints them.

"""

TRIED = """\
## Activations rounded at run time

ZeroQuant's token-wise ranges as files: `--precision w8-dynamic`, `w4-dynamic` ([recipes.md](recipes.md)). The decoder
of `benchmarks/train.py decoder` (1.85 million parameters, bytes of the standard library's docstrings, 1400 steps), 64
windows of 128 bytes of modules that it was not trained on; share of positions at which the next byte is the float
model's; real files in XNNPACK (`python benchmarks/decoder.py`):

| | perplexity, uncompensated | compensated | same next byte | bytes |
|---|---|---|---|---|
| float | 4.452 | | | 7,509,360 |
| w8a8, `plain` | 4.468 | | 0.958 | 2,003,344 |
| w8a8, `fast` | 4.457 | 4.457 | 0.976 | 2,062,528 |
| w8a8, `balanced` | 4.455 | 4.454 | 0.978 | 2,070,096 |
| w4a8, `balanced` | 4.474 | 4.471 | 0.955 | 1,106,288 |
| w8-dynamic, `fast` | 4.454 | 4.453 | 0.992 | 2,091,216 |
| w8-dynamic, `balanced` | 4.453 | 4.453 | 0.993 | 2,091,216 |
| w4-dynamic, `fast` | 4.500 | 4.492 | 0.927 | 1,194,192 |
| w4-dynamic, `balanced` | 4.462 | 4.462 | 0.972 | 1,194,192 |

Compensation gains where weights are rounded to nearest at 4 bits, and next to nothing behind GPTQ with float targets.
all-MiniLM-L6-v2 is in [results.md](results.md).

Blocks of 32 weights with a scale each (FULLY_CONNECTED by hand, int4, 64 rows, 384 inputs, 1536 outputs, LiteRT 2.1.2):
XNNPACK computes them, in 0.26 ms against 0.18 ms with a scale per channel; LiteRT's own kernels do in 123 ms; its
reference kernels ignore the scales, and what they compute has nothing of the right values (0.0 dB). Blocks of int8
XNNPACK refuses. A build proves every file in the reference kernels, so that such files are not written.

## Distillation without training data

ZeroQuant's layer by layer, as `reconstruction` with `scope = "layer"` does it: each layer of the decoder learns to
compute what it computes in float, on 48 windows of text, of what the model says by itself (`language.generated`), or
of random bytes. w4a8, `fast`, compensated, perplexity of 64 other windows (`python benchmarks/distillation.py`; the
float network has 4.452):

| windows | rounded to nearest | distilled, 60 steps | `gptq`, as in `balanced` |
|---|---|---|---|
| text | 4.498 | 4.499 | 4.474 |
| what the model says | 4.506 | 4.513 | 4.478 |
| random bytes | 4.537 | 4.551 | 4.512 |

Learning layer by layer gains nothing here. What the model says by itself stands in for text almost wholly: to
calibrate with it costs 0.004 of perplexity behind `gptq`.

## Sub-vectors from codebooks

VQ4DiT's weights as files: `codebook` gives each dense layer 256 codewords of int8, and the file has a byte for each
sub-vector, which CAST and GATHER look up at each run, with the same integers for LiteRT's reference kernels. The
diffusion transformer, calibrated on 13 of its own trajectories, techniques of `fast`; 50 images from the same noise as
the float network's (`python benchmarks/codebooks.py`). Equal steps are rounded by `gptq` and stored as int4; `fast`
gives wide activations 16 bits. Its dense layers have 128 or 256 terms, so that codewords count, too: 2.5 bits a weight
for sub-vectors of 4 in a layer of 128 by 128, 3.1 for those of 3.

| weights | bytes | after DEFLATE | velocity, dB | worst step, dB | images, dB | Fréchet distance |
|---|---|---|---|---|---|---|
| equal steps of 8 bits | 1,608,560 | 1,368,014 | 24.2 | 12.4 | 29.7 | 0.028 |
| equal steps of 4 bits | 1,002,336 | 754,947 | 17.7 | 11.2 | 20.5 | 0.296 |
| equal steps of 3 bits | 1,002,336 | 626,036 | 11.9 | 8.6 | 13.1 | 4.147 |
| equal steps of 2 bits | 948,384 | 442,513 | 3.2 | 1.0 | 1.3 | 38.383 |
| sub-vectors of 2 | 1,068,656 | 846,586 | 22.3 | 12.1 | 25.3 | 0.079 |
| sub-vectors of 3 | 905,456 | 675,271 | 18.4 | 11.1 | 19.1 | 0.365 |
| sub-vectors of 4 | 798,336 | 581,505 | 15.4 | 9.6 | 15.5 | 0.757 |
| sub-vectors of 6 | 755,056 | 521,538 | 12.1 | 7.7 | 11.8 | 1.829 |

At 3 bits a weight sub-vectors do nearly what `gptq` does at 4 in equal steps, at 2.5 more than it does at 3.
Assignments are chosen in closed form, by second moments of the layer's inputs: one after the other as GPTQ does, then
in turn with codewords, which conjugate gradients move; where `gptq` in equal steps is better on held-out samples, there
is no codebook. `codebook_calibration` learns both by gradients through the whole network, as the paper does: calibrated
on 4 trajectories, sub-vectors of 4 have 14.3 dB with and without, the images 12.2 with and 13.1 without, while held-out
samples of the same trajectories say +0.9 dB (`--images 10 --trajectories 4 --precisions --lengths 4 --calibrated 4`).

XNNPACK takes constant weights alone: LiteRT's own kernels run these layers. With sub-vectors of 4 a run takes 1.2 times
as long as with int8 weights (9.1 and 11.2 ms, least of 60 runs in turn on loaded cores; the same command).

## QwT's linear layers in files

ResNet-20, w4a8, rounded to nearest, 2000 test images (`python benchmarks/ablation.py --network resnet20 --precision
w4a8 "rounding: nearest" "corrections: *"`); QwT's layers as int8 ops:

| | held-out dB | same top-1 | accuracy | bytes |
|---|---|---|---|---|
| nothing | 10.0 | 0.867 | 0.7810 | 165,648 |
| offset | 14.6 | 0.912 | 0.8085 | 165,648 |
| CWAC | 15.1 | 0.915 | 0.8050 | 165,648 |
| linear layers (QwT) | 17.9 | 0.941 | 0.8155 | 212,224 |

A linear layer for each block gains 2.8 dB over CWAC for 28 % more bytes, and its ops at each run.

## CWAC in files: what was tried

Recipe `fast`, held-out dB of ResNet-20, a ViT (3 epochs of train.py) and MobileNetV2; 128, 64 and 64 samples decide.

| | w4a8 | w8a8 |
|---|---|---|
| uncompensated | 10.0, 21.8, 14.4 | 29.1, 36.0, 33.0 |
| a gain must add 5 % to the offset (the default) | 15.1, 25.3, 19.6 | 29.8, 36.5, 32.5 |
| 2 % | 15.3, 25.7, 20.0 | 29.5, 37.2, 33.0 |
| nothing | 15.4, 25.8, 20.1 | 29.7, 36.7, 32.8 |
| 5 %; before a residual sum the shortcut's error is aimed at, too | 15.2, 25.4, 19.7 | 29.6, 36.9, 32.1 |
| nothing, and that | 15.4, 26.0, 19.8 | 29.8, 36.5, 32.9 |

Smaller margins pay at 4-bit weights (`{ name = "cwac", gain_margin = 0.0 }`) and not at 8: the tests' separable network
loses 0.84 dB of 23.8 at 2 %. Aiming at the residual stream pays nowhere beyond chance, and is not built in. The margins
are rows of `python benchmarks/ablation.py "corrections: *"` for ResNet-20.

What else corrections can be fitted to: the ViT (3 epochs) at w4a8, recipe `fast`, 64 samples to fit on, gains and
offsets of linear ops alone, dB of what varies on 1000 test images (`python benchmarks/cwac_targets.py --networks vit`):

| target | dB |
|---|---|
| uncompensated | 20.95 |
| the float layer's output in the float network (the default) | 23.47 |
| the same, gains without a margin | 23.64 |
| the float layer's output of the integer layer's own input | 21.71 |
| the default; before a residual sum the shortcut's error is aimed at, too | 23.47 |
| the default; attention's P·V is corrected, too, through the weights and the bias of V | 23.57 |

With the integer layer's input as its own a layer makes up for the rounding of its weights alone, not for errors of
layers before it, and two thirds of the gain are gone. Rows of P sum to 1, so that a gain and an offset of V's channels
are those of P·V; they add 0.1 dB, on this one network. ResNet-20, with CWAC as at 41102bb, has 10.13 dB uncompensated,
14.70 with the default, 14.83 without a margin and 13.49 with the layer's own input. Neither is built in.

## Ranges per position

ADFQ-ViT's ranges per position, which a MUL by a constant would give a file, for every operand of the ViT's layers and
products at once: what they would give at best (`python benchmarks/literature.py --networks vit --precisions w8a8 w6a6
w4a4 --methods mse positions --corrections none cwac`, 1000 test images, in simulation):

| | w8a8, alone and with CWAC | w6a6 | w4a4 |
|---|---|---|---|
| one range for a tensor | 38.2, 39.9 dB | 24.4, 29.4 | 12.1, 18.4 |
| one for each of 64 positions | 36.6, 37.5 dB | 25.6, 29.4 | 12.6, 18.3 |

With CWAC, which is free, they gain nothing. The same with every activation rounded to 8 bits, where an op computes it,
and float weights (`python benchmarks/positions.py`; 256 images to fit on, 1000 test images):

| a scale for each position | tensors | dB |
|---|---|---|
| none | 0 of 154 | 33.3 |
| what linear layers read | 18 | 33.3 |
| residual sums | 12 | 33.4 |
| all that are as wide as the residual stream, each its own | 82 | 33.8 |
| all that have positions | 138 | 33.4 |

Where one MUL could do it, before or behind a linear layer or for the sums, they give 0.1 dB at most; 0.5 dB would take
a MUL at each of 82 tensors. No technique was made of it.

## FIMA-Q and aespa in files: what was tried

w4a8, ranges by `mse_ranges`, dB of what varies at the output, of 500 test images where nothing else is said.

Learned rounding block by block (`reconstruction` with `scope = "block"`, `rounding = "soft"`, `batch = 16`), errors
weighed by Fisher information:

| | rounded to nearest | diagonal (`brecq`) | and 15 factors (`fima_q`) |
|---|---|---|---|
| ResNet-20, 48 samples, 100 steps | 11.9 | 17.5 | 14.6 |
| ViT (3 epochs of train.py), 36 samples, 80 steps | 22.9 | 29.5 | 28.4 |

With so few samples the diagonal is better by 1 and 3 dB. Both with 1000 steps:
`python benchmarks/ablation.py --learned "rounding: learned, block*"`.

With `rounding = "straight"` and 60 steps ResNet-20 has 13.9 and 13.4 dB.

Second-order rounding of the ViT, 64 samples, dB of what varies on 1000 test images:

| | `gptq` | `aespa` | without mixing values | and keys' covariance over all keys alike | and their second moment |
|---|---|---|---|---|---|
| as it is | 31.0 | 31.1 | 31.1 | 31.2 | 31.5 |
| float targets, 8 scales, refinement: as in `balanced` | 31.7 | 31.7 | 31.9 | 32.1 | 32.0 |

The last three are not built. 22 held-out samples say +0.5 dB of `aespa` in the first row and -0.5 dB in the second one,
where `gptq` therefore stays: the technique rounds both ways and keeps what they prefer.

In `balanced` in place of `gptq`, float targets, 8 scales and refinement as there, at 41102bb: the ViT's file, 512
calibration images, 2000 test images, has 33.3 dB of SQNR for 33.1, the float network's class on 0.9790 for 0.9785 of
them, and an accuracy of 0.5765 for 0.5805 (`python benchmarks/transformers.py --networks vit --images 2000 --variants
"w4a8, 16-bit regions" "w4a8, aespa"`). all-MiniLM-L6-v2, 64 calibration sentences, 300 others, files before
compensation (`python benchmarks/minilm.py --uncompensated --variants "w4a8, 16-bit regions" "w4a8, aespa" "w4a8,
queries, keys and values w8"`):

| | cosine | Spearman | same nearest neighbour |
|---|---|---|---|
| `gptq` | 0.9736 | 0.9705 | 0.777 |
| `aespa` | 0.9747 | 0.9728 | 0.837 |
| `gptq`, weights of queries, keys and values in 8 bits | 0.9765 | 0.9748 | 0.800 |

All six attentions are found, and 16 held-out sentences say +0.7 dB of `aespa`. With nearly no rounding error in these
three layers Spearman is 0.975: 0.980 is out of reach for what weighs their errors alone.

## Blocks that learn at the same time

MREM's parallel training: each block of ResNet-20 learns in a process of its own from what the graph hands on before
any block has learned, half of the elements the float graph's. w4a8, 100 steps, 2000 test images (`python
benchmarks/ablation.py --learned --network resnet20 --precision w4a8 "rounding: learned, block*"`):

| | held-out dB | same top-1 | accuracy |
|---|---|---|---|
| rounded to nearest | 10.0 | 0.867 | 0.7810 |
| block after block | 14.2 | 0.908 | 0.8085 |
| blocks at once, 1 process | 12.6 | 0.901 | 0.8065 |
| blocks at once, 2 processes | 12.6 | 0.901 | 0.8065 |

Any number of processes gives the same bytes. A block that does not see what those before it learned makes up for less.
Times were taken on loaded cores and say nothing of the gain in time.

## Mixed widths by nuclear norm: what was tried

Files of the ViT (3 epochs of train.py) within 430,000 bytes, recipe `fast`, 86 calibration samples, dB of what varies
on 500 test images (`python benchmarks/mixed_sensitivity.py --sizes 430000`):

| `sensitivity` | bytes | layers at 8 bits | dB | same class |
|---|---|---|---|---|
| `outputs` (the default) | 428,448 | 16 of 38 | 31.3 | 0.986 |
| `nuclear_norm` | 428,448 | 13 of 38 | 27.7 | 0.974 |

One network and one limit. The norm weighs a layer's own error, and does not see what the layers behind make of it. Here
each linear layer's output stands for the maps of attention and of the MLP that the paper takes.

"""

FIGURES = """\
dB of what varies at the output, and the share of images with the float network's class, in simulation
(`benchmarks/literature.py --write`, with `--every 20` for images; the ViT has 3 epochs of train.py). CWAC is below no
method without a correction, QwT below one, by 0.1 dB. QwT's layers, which cost operations, have beside CWAC 1.0 dB less
to 1.6 dB more at w4a4, 0.5 dB less to 2.2 dB more at w6a6. The network with linear attention (`linear_attention`) is of
convolutions, too; the hybrid has no rows: its weights were not at hand."""


def page() -> str:
    """The page."""
    return HEAD + "\n".join([*_systems(), "", TRIED, *_trainings(), "", *_methods(), "", *_measured()]) + "\n"


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
            there = table["balanced"] - row["without"] if "without" in row else row["added"] - table["balanced"]
            yield name, ", ".join(f"{round(gain, 1) + 0.0:+.1f}" for gain in (row["alone"] - table["nothing"], there))


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
