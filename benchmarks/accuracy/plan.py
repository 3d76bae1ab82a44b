"""Who is compared, by which methods: data only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE, SIMULATED, ONNXRUNTIME = "real file", "simulated", "onnxruntime"
PRECISIONS = ("w8a8", "w4a8", "w8a16")
"""Bits of weights and activations, in the order of the table."""


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        peer: name of the tool.
        script: of `peers/`, without run_ and .py.
        name: of the method; with the precision, the key in the script.
        precision: of `PRECISIONS`.
        runs: what computes the test logits: the real .tflite file in LiteRT, the tool's simulation, or onnxruntime.
        long: takes more than some minutes on two cores; run only where asked for.
    """

    peer: str
    script: str
    name: str
    precision: str
    runs: str
    long: bool = False

    @property
    def key(self) -> str:
        """What the peer's script knows it by."""
        return f"{self.name} {self.precision}"

    @property
    def label(self) -> str:
        """What the user knows it by."""
        return f"{self.script}/{self.name}/{self.precision}"

    @property
    def requirements(self) -> Path | None:
        """What its environment holds; None for the project's own."""
        return None if self.script == "edgeqwt" else HERE / "requirements" / f"{self.script}.txt"

    @property
    def program(self) -> Path:
        """The script."""
        return HERE / "peers" / f"run_{self.script}.py"


def _rows(
    peer: str, script: str, runs: str, names: tuple[str, ...], precisions: tuple[str, ...], long: bool = False
) -> tuple[Method, ...]:
    return tuple(Method(peer, script, name, precision, runs, long) for name in names for precision in precisions)


METHODS = (
    *_rows("edgeqwt", "edgeqwt", FILE, ("fast", "balanced", "best"), PRECISIONS),
    *_rows("TFLiteConverter", "tflite_converter", FILE, ("int8", "int8, from the float file"), ("w8a8",)),
    *_rows("TFLiteConverter", "tflite_converter", FILE, ("16x8",), ("w8a16",)),
    *_rows("ai-edge-quantizer", "ai_edge_quantizer", FILE, ("min-max", "MSE", "OCTAV", "GPTQ"), ("w8a8", "w4a8")),
    *_rows(
        "ai-edge-quantizer",
        "ai_edge_quantizer",
        FILE,
        ("min-max, true ranges", "MSE, true ranges", "OCTAV, true ranges"),
        ("w8a8", "w4a8"),
    ),
    *_rows("ai-edge-quantizer", "ai_edge_quantizer", FILE, ("min-max", "min-max, true ranges"), ("w8a16",)),
    *_rows("litert-torch", "litert_torch", FILE, ("PT2E",), ("w8a8",)),
    *_rows("onnxruntime", "onnxruntime", ONNXRUNTIME, ("min-max", "percentile", "entropy"), PRECISIONS),
    *_rows("torchao", "torchao_xnnpack", SIMULATED, ("XNNPACK quantizer",), ("w8a8",)),
    *_rows("Sony MCT", "sony_mct", SIMULATED, ("PTQ, power-of-two", "PTQ, uniform"), ("w8a8", "w4a8")),
    *_rows("Sony MCT", "sony_mct", SIMULATED, ("GPTQ, no Hessian, uniform", "GPTQ, uniform"), ("w8a8", "w4a8"), True),
    *_rows("AIMET", "aimet", SIMULATED, ("PTQ, min-max", "PTQ, SQNR", "CLE, min-max", "CLE, SQNR"), ("w8a8", "w4a8")),
    *_rows("AIMET", "aimet", SIMULATED, ("SeqMSE, SQNR", "AdaRound, SQNR"), ("w8a8", "w4a8"), True),
)


def chosen(methods: tuple[Method, ...], only: list[str], long: bool) -> tuple[Method, ...]:
    """The methods whose label begins with one of `only` (all, where it is empty); long ones where asked for or named.

    Raises:
        ValueError: one of `only` fits nothing.
    """
    for prefix in only:
        if not any(method.label.startswith(prefix) for method in methods):
            raise ValueError(f"nothing is called {prefix}; there are {', '.join(sorted({m.script for m in methods}))}")
    if only:
        return tuple(m for m in methods if any(m.label.startswith(prefix) for prefix in only))
    return tuple(m for m in methods if long or not m.long)
