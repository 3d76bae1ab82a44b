"""PyTorch models as sources: running them, and exporting them to ONNX."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.converters.from_torch import pt2e
from edgeqwt.converters.from_torch.float32 import Types, casts, holds, in_float32, types_of
from edgeqwt.converters.from_torch.forms import exportable
from edgeqwt.converters.from_torch.inputs import example_types, given_inputs, spec
from edgeqwt.converters.from_torch.surroundings import computed_weights, plain_attention, quiet
from edgeqwt.converters.from_torch.untrusted import TRUST, check_program, plain_pickles
from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import EdgeqwtError, InputError
from edgeqwt.graph.graph import Array
from edgeqwt.loading import is_trusted, user_code, user_place
from edgeqwt.runtime.threads import torch_threads

OPSET = 17  # the highest that the exporter which names nodes after modules writes well
DYNAMO_OPSET = 20  # has GELU as one op; onnx2tf does not recognize the newer exporter's spelling of its formula
THREADS = 2
REWRITE = "Rewrite that part of forward, or give an .onnx file that you exported yourself. --work FOLDER keeps the log."
GRADIENTS = (
    "forward computes gradients, which are no part of a file: write them out as layers (transposed weights times the "
    "slopes of the activations), or return what they are of."
)


@dataclass(frozen=True, eq=False)
class TorchModel:
    """A PyTorch model and what it is called with.

    Attributes:
        what: how the user named it, for messages.
        module: in evaluation mode.
        program: the exported program that the module was unpacked from, if it was.
        inputs: forward's parameters that are given, in forward's order.
        positional: how many of the inputs are given by position, the others by name.
        types: float types that are float32 in what it computes.
        notes: sentences on what was done to the module.
    """

    what: str
    module: torch.nn.Module
    program: torch.export.ExportedProgram | None
    inputs: tuple[InputSpec, ...]
    positional: int = 0
    types: Types = field(default_factory=Types)
    notes: tuple[str, ...] = ()

    @property
    def scripted(self) -> bool:
        """Whether it is TorchScript."""
        return isinstance(self.module, torch.jit.ScriptModule)

    def run(self, sample: Sample) -> dict[str, Array]:
        """Runs the model on one sample; nested outputs come out flat, by name (see `flattened`).

        An output that has an input's name, as states do that go in and come out, is called by it and "_out": a graph
        has one tensor of a name.

        Raises:
            InputError: forward raises, or returns something that holds no tensors.
        """
        tensors = list(self.tensors(sample).values())
        with torch.no_grad(), torch_threads(THREADS, at_most=True), user_code(f"{self.what}: forward", self.module):
            result = self.call(tensors)
        values, taken = flattened(result, self.what), {one.name for one in self.inputs}
        return {f"{name}_out" if name in taken else name: np.array(v.numpy()) for name, v in values.items()}

    def retyped(self, sample: Sample) -> TorchModel:
        """The model with inputs of a sample's shapes and types."""
        return replace(self, inputs=tuple(spec(s.name, np.asarray(sample[s.name]), None) for s in self.inputs))

    def call(self, tensors: Sequence[torch.Tensor]) -> object:
        """What forward returns for its inputs, given in order."""
        named = dict(zip((s.name for s in self.inputs), tensors, strict=True))
        named = {name: value for i, (name, value) in enumerate(named.items()) if i >= self.positional}
        with casts(self.types):
            return self.module(*tensors[: self.positional], **named)

    def tensors(self, sample: Sample) -> dict[str, torch.Tensor]:
        """A sample as tensors, in forward's order. Copies: a model may work in place."""
        return {s.name: torch.from_numpy(np.array(sample[s.name], np.dtype(s.dtype))) for s in self.inputs}


def from_module(what: str, module: torch.nn.Module, sample: Sample, examples: object = None) -> TorchModel:
    """A module as a source; it is put into evaluation mode.

    Args:
        what: how the user named it.
        module: on the CPU; one in half precision or float64 stays as it is, and a copy is used.
        sample: a calibration sample; it says which of forward's parameters are given.
        examples: example inputs that came with the module: a tensor, a sequence or a mapping; they
            say the inputs' types.

    Raises:
        InputError: parameters that are not finite float32 on the CPU, or samples that do not fit forward.
    """
    with contextlib.suppress(NotImplementedError):  # what torch.export made has no modes
        module.eval()
    pt2e.refuse_dynamic(what, module)
    module = pt2e.as_fake_quantized(what, module) if pt2e.is_quantized(module) else module
    types = types_of(module)
    module, notes = in_float32(what, module, types)
    check_parameters(what, module)
    given, by_position = given_inputs(what, module, sample)
    named = {name: types.name(kind) for name, kind in example_types(what, examples, list(given)).items()}
    inputs = tuple(spec(name, np.asarray(array), named.get(name)) for name, array in given.items())
    return TorchModel(what, module, None, inputs, len(inputs) if by_position else 0, types, notes)


def from_program(path: Path, sample: Sample, log: Path) -> TorchModel:
    """An exported program (.pt2) as a source.

    Raises:
        InputError: the file is none, or its program does not fit the sample.
    """
    program, module = _program(path, log)
    args, kwargs = program.example_inputs or ((), {})
    if pt2e.is_quantized(module):
        return from_module(str(path), module, sample)
    if holds(module, types_of(module)):  # the program's own code says the types
        return from_module(str(path), module, sample, [*args, *kwargs.values()])
    check_parameters(str(path), module)
    given, _ = given_inputs(str(path), module, sample)
    types = example_types(str(path), [*args, *kwargs.values()], list(given))
    inputs = tuple(spec(name, np.asarray(array), types.get(name)) for name, array in given.items())
    return TorchModel(str(path), module, program, inputs, len(args))


def program_inputs(path: Path) -> tuple[InputSpec, ...]:
    """What an exported program (.pt2) says of its inputs; None for dimensions that it leaves open.

    Raises:
        InputError: the file is none.
    """
    with TemporaryFolder() as folder:
        program, _ = _program(path, folder / "log")
    taken = set(program.graph_signature.user_inputs)
    nodes = {node.name: node.meta["val"] for node in program.graph.nodes if node.name in taken and "val" in node.meta}
    return tuple(
        InputSpec(
            name,
            tuple(size if isinstance(size, int) else None for size in value.shape),
            Types().name(str(value.dtype).removeprefix("torch.")),
        )
        for name, value in nodes.items()
    )


def _program(path: Path, log: Path) -> tuple[torch.export.ExportedProgram, torch.nn.Module]:
    check_program(path)
    try:
        with quiet(log), plain_pickles():
            pt2e.register_ops()
            program = torch.export.load(path)
            return program, program.module()
    except Exception as error:  # zipfile, json, pickle and torch each raise their own
        reason = _reason(error)
        if isinstance(error, pickle.UnpicklingError) and not is_trusted():
            raise InputError(f"{path} is not loaded: it holds Python objects, not only tensors", TRUST) from error
        raise InputError(
            f"{path} is not a readable exported program: {reason}", "Save it with torch.export.save, same version."
        ) from error


def check_parameters(what: str, module: torch.nn.Module) -> None:
    """Refuses parameters that cannot be converted.

    Raises:
        InputError: naming the first parameter that has no values, is not finite, not float32 or not on the CPU.
    """
    parameters = dict(module.named_parameters())
    for name, value in [*parameters.items(), *module.named_buffers()]:
        if torch.nn.parameter.is_lazy(value):
            raise InputError(
                f"{what}: {name} of a lazy layer has no shape and no values yet",
                "Call the module once on an example and load its weights, before you return it.",
            )
        if value.device.type != "cpu":
            raise InputError(f"{what}: {name} is on device {value.device}", "Move the module with .cpu().")
        if not value.is_floating_point():
            continue
        if value.dtype != torch.float32:
            raise InputError(f"{what}: {name} is of type {value.dtype}", "Convert the module with .float().")
        # Masks among the buffers hold infinities on purpose.
        if bool(torch.isnan(value).any()) or (name in parameters and not bool(torch.isfinite(value).all())):
            kind = "parameter" if name in parameters else "buffer"
            raise InputError(f"{what}: {kind} {name} has NaN or infinite values", "Load other weights, or train again.")


def flattened(result: object, what: str) -> dict[str, torch.Tensor]:
    """A model's result as tensors by name, in order.

    One tensor is "output", sequences are "output_0", "output_1", ..., mappings give their
    keys and dataclasses their fields; nested ones are joined with "_". None is left out.

    Raises:
        InputError: it holds something else, or nothing.
    """

    def walk(value: object, name: str) -> Iterator[tuple[str, torch.Tensor]]:
        if isinstance(value, torch.Tensor):
            yield name or "output", value.detach()
        elif isinstance(value, Mapping):
            for key, item in value.items():
                yield from walk(item, f"{name}_{key}" if name else str(key))
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                yield from walk(item, f"{name or 'output'}_{i}")
        elif dataclasses.is_dataclass(value):
            yield from walk({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, name)
        elif value is not None:
            raise InputError(
                f"{what}: forward returns {type(value).__name__}, which is no tensor",
                "Return tensors, or tuples, lists, dicts or dataclasses of tensors.",
            )

    values = dict(walk(result, ""))
    if not values:
        raise InputError(f"{what}: forward returns no tensors", "Return at least one tensor.")
    return values


def export(model: TorchModel, sample: Sample, path: Path, log: Path) -> tuple[str, ...]:
    """Writes the model as ONNX, traced on one sample.

    Modules go through the TorchScript exporter, which names nodes after modules; where that
    fails, and for exported programs, the torch.export one is used.

    Args:
        model: what to export.
        sample: gives the shapes, and the branches that are taken.
        path: the ONNX file.
        log: what torch says meanwhile is appended to it.

    Returns:
        Sentences for the report.

    Raises:
        InputError: torch cannot export the model.
    """
    outputs = list(model.run(sample))
    example = tuple(model.tensors(sample).values())
    inputs = [one.name for one in model.inputs]
    failures = []
    for dynamo in [True] if model.program is not None else [False, True]:
        exported: Any = flat_module(model) if model.program is None else model.program
        options: dict[str, Any] = {"dynamo": dynamo, "opset_version": DYNAMO_OPSET if dynamo else OPSET}
        try:
            forms, weights = contextlib.nullcontext() if dynamo else exportable(OPSET), computed_weights(model.module)
            with quiet(log), torch.no_grad(), torch_threads(THREADS, at_most=True), plain_attention(), weights, forms:
                torch.onnx.export(
                    exported, example, str(path), input_names=inputs, output_names=outputs, verbose=False, **options
                )
        except EdgeqwtError:  # of a form, which says what to do
            raise
        except Exception as error:  # torch raises anything here, the model's own exceptions included
            failures.append(_reason(error))
        else:
            return tuple(f"torch.onnx.export fell back on torch.export: {reason}" for reason in failures)
    raise InputError(
        f"{model.what}: torch.onnx.export fails: {'; by way of torch.export: '.join(dict.fromkeys(failures))}",
        GRADIENTS if any("requires grad" in failure for failure in failures) else REWRITE,
    )


def program_of(model: TorchModel, sample: Sample, log: Path) -> torch.export.ExportedProgram:
    """The model as an exported program with positional inputs and a flat tuple of outputs, traced on one sample.

    Args:
        model: what to export.
        sample: gives the shapes.
        log: what torch says meanwhile is appended to it.

    Raises:
        InputError: torch cannot export the model.
    """
    example = tuple(model.tensors(sample).values())
    try:
        weights = computed_weights(model.module)
        with quiet(log), torch.no_grad(), torch_threads(THREADS, at_most=True), plain_attention(), weights:
            return torch.export.export(flat_module(model), example, strict=False)
    except Exception as error:  # torch raises anything here, the model's own exceptions included
        raise InputError(
            f"{model.what}: torch.export fails: {_reason(error)}",
            "Rewrite that part of forward. --work FOLDER keeps the log.",
        ) from error


def _reason(error: BaseException) -> str:
    """A line of what torch or a model raised first, and where: the exporter says around it what it tried."""
    place = user_place(error)
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{said} ({place})" if place else said


def save(program: torch.export.ExportedProgram, path: Path, log: Path) -> None:
    """Writes an exported program, with its example inputs."""
    with quiet(log):
        torch.export.save(program, path)


def every_value(module: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> dict[str, Array]:
    """Every tensor that an exported program's module computes for its inputs, by the node's name."""
    values: dict[str, Array] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, torch.Tensor) and n.op == "call_function":
                values[n.name] = np.array(result.detach().numpy())
            return result

    with torch.no_grad(), torch_threads(THREADS, at_most=True):
        Recorder(module).run(*inputs)
    return values


def version() -> Mapping[str, str]:
    """Of torch."""
    return {"torch": torch.__version__}


# -- torch's surroundings ------------------------------------------------------------


def flat_module(model: TorchModel) -> torch.nn.Module:
    """The model with positional inputs and a flat tuple of outputs, which every exporter takes."""
    if model.scripted:  # cannot be traced as a part of another module
        return model.module

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = model.module

        def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(flattened(model.call(args), model.what).values())

    return Flat().eval()
