"""A source model, opened once, for whichever converter takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.calibration.samples import InputSpec, Sample, Samples
from edgeqwt.calibration.validate import validated
from edgeqwt.converters import tools
from edgeqwt.converters.from_keras.source import KerasModel
from edgeqwt.converters.resolve import TorchObject
from edgeqwt.graph.graph import Array

if TYPE_CHECKING:
    import onnx

    from edgeqwt.converters.from_torch.source import TorchModel

TORCH, ONNX, KERAS = "torch", "onnx", "keras"
"""Kinds of sources that are converted; .tflite files are used as they are."""
EXPORT_TOLERANCE = 2**-10
"""Largest difference between torch and its ONNX export, relative to the largest output. Both compute in
float32 and differ in the order of sums: sqrt(n)·2^-24 for n terms, which allows for n = 2^20 and
a factor of 16 of cancellation; a wrong export differs by the size of the output itself."""


@dataclass(frozen=True, eq=False)
class Source:
    """A source model, checked and run once.

    Attributes:
        kind: TORCH, ONNX or KERAS.
        what: how messages name it.
        inputs: the source's, in its order.
        samples: calibration samples, as the model takes them.
        sample: the first one.
        outputs: what the source computes on it, in its order, by name.
        run: runs the source.
        torch: the model, where the source is one of torch's.
        proto: the model with static shapes, where the source is ONNX.
        keras: the model, where the source is Keras or a SavedModel.
        notes: on what was done so far.
        versions: of the packages that took part.
    """

    kind: str
    what: str
    inputs: tuple[InputSpec, ...]
    samples: Samples
    sample: Sample
    outputs: Mapping[str, Array]
    run: Callable[[Sample], Mapping[str, Array]]
    torch: TorchModel | None = None
    proto: onnx.ModelProto | None = None
    keras: KerasModel | None = None
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] | None = None


def open_torch(found: TorchObject | Path, samples: Samples, log: Path) -> Source:
    """A torch module, or an exported program.

    Args:
        found: the module, or the .pt2 file.
        samples: calibration samples; the first one is run.
        log: what torch says.

    Raises:
        InputError: the model or the samples cannot be used.
    """
    from edgeqwt.converters.from_torch import source as torch_source
    from edgeqwt.converters.from_torch import states as torch_states
    from edgeqwt.converters.from_torch.diagnose import first_run

    first = samples.first()
    if isinstance(found, Path):
        model = torch_source.from_program(found, first, log)
    else:
        model = torch_source.from_module(found.what, found.module, first, found.examples)
    samples = validated(samples, model.inputs)
    sample = samples.first()
    outputs = first_run(model, sample)
    torch_states.require_none(model.what, model.module, lambda: model.run(sample))
    versions = torch_source.version()
    given = model.inputs, samples, sample, outputs, model.run
    notes = (*(() if isinstance(found, Path) else found.notes), *model.notes)
    return Source(TORCH, model.what, *given, torch=model, notes=notes, versions=versions)


def open_onnx(path: Path, samples: Samples) -> Source:
    """An ONNX file, its shapes fixed to those of the first sample.

    Raises:
        InputError: the file or the samples cannot be used.
    """
    from edgeqwt.converters.from_onnx import learning as onnx_learning
    from edgeqwt.converters.from_onnx import loadable as onnx_loadable
    from edgeqwt.converters.from_onnx import old as onnx_old
    from edgeqwt.converters.from_onnx import source as onnx_source
    from edgeqwt.converters.from_onnx import spectra as onnx_spectra

    proto, left_out = onnx_learning.of_numbers(onnx_loadable.loadable(onnx_source.load(path)))
    samples = validated(samples, onnx_source.input_specs(proto))
    sample = samples.first()
    proto, notes = onnx_source.with_static_shapes(proto, sample)
    proto = onnx_spectra.in_sums(proto, sample)
    runner = onnx_source.OnnxRunner(proto)
    outputs = runner.run(sample)
    proto, renewed = onnx_old.renewed(proto, lambda other: _agree(outputs, onnx_source.OnnxRunner(other).run(sample)))
    given = runner.specs, samples, sample, outputs, runner.run
    return Source(ONNX, str(path), *given, proto=proto, notes=(*left_out, *notes, *renewed))


def _agree(outputs: Mapping[str, Array], others: Mapping[str, Array]) -> bool:
    """Whether two spellings of a model compute the same."""
    reach = {name: EXPORT_TOLERANCE * np.abs(value).max(initial=0) for name, value in outputs.items()}
    return all(np.allclose(others[name], value, 0, reach[name], True) for name, value in outputs.items())


def open_keras(path: Path, samples: Samples, log: Path) -> Source:
    """A Keras file or a SavedModel, in TensorFlow's environment.

    Raises:
        InputError: the file or the samples cannot be used.
        ToolError: TensorFlow is not there.
    """
    found = tools.find("tensorflow")
    if found.version is None:
        raise tools.missing(found)
    model = KerasModel.open(path, found.python, log)
    samples = validated(samples, model.inputs)
    sample = samples.first()
    inputs = tuple(replace(spec, shape=np.shape(sample[spec.name])) for spec in model.inputs)
    fixed = [
        f"input {spec.name!r}: its open dimensions {tuple(spec.shape)} are those of the first sample, {now.shape}"
        for spec, now in zip(model.inputs, inputs, strict=True)
        if None in spec.shape[1:]
    ]
    outputs = model.run(sample)
    return Source(KERAS, str(path), inputs, samples, sample, outputs, model.run, keras=model, notes=tuple(fixed))
