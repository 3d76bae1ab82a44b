"""torch → ONNX → onnx2tf → float TFLite."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeqwt.converted import ConvertedModel
from edgeqwt.converters import onnx2tf_child, onnx2tf_tool, tools
from edgeqwt.converters.converter import NothingElseError, Work
from edgeqwt.converters.source import ONNX, TORCH, Source
from edgeqwt.converters.tools import Found

THREE_AXES = "Ops on maps with as many channels as rows and columns are over three axes: onnx2tf mistook their layout"


@dataclass(frozen=True)
class Onnx2tf:
    """onnx2tf with one of its backends.

    Attributes:
        name: as users write it.
        tool: whose environment it runs in.
        backend: onnx2tf's name of it.
        three_axes: whether ops on maps whose layout it cannot tell are written over three axes, which costs moves.
    """

    name: str = "onnx2tf"
    tool: str = "onnx2tf"
    backend: str = onnx2tf_child.FLATBUFFER
    three_axes: bool = False

    def takes(self, source: Source) -> bool:
        """Torch and ONNX."""
        return source.kind in (TORCH, ONNX)

    def find(self, work: Work) -> Found:
        """See `Converter`; the backend that needs TensorFlow needs onnx2tf beside it."""
        if self.tool == "onnx2tf":
            return tools.find("onnx2tf", work.onnx2tf_python)
        found = tools.find(self.tool)
        return found if found.version is None else tools.find("onnx2tf", found.python)

    def convert(self, source: Source, work: Work) -> ConvertedModel:
        """See `Converter`.

        Raises:
            ParityError: torch's own ONNX export computes something else than the module.
            ToolError: onnx2tf is missing or fails.
            NothingElseError: there are no such maps, or the try before this did not get as far as them.
            InputError, UnsupportedError: torch cannot export the module, or the file cannot be used.
        """
        if self.three_axes and ONNX not in work.kept:
            raise NothingElseError
        import onnx

        from edgeqwt.converters.exported import as_onnx, read_back
        from edgeqwt.converters.from_onnx.equal_axes import over_three_axes
        from edgeqwt.converters.from_onnx.rewrites import rewritten

        exported = as_onnx(source, work)
        work.progress("converting to TFLite")
        path = work.folder / "source.onnx"
        exported = replace(exported, proto=rewritten(exported.proto))
        if self.three_axes:
            apart = over_three_axes(exported.proto)
            if apart is exported.proto:
                raise NothingElseError
            exported = replace(exported, proto=apart, notes=(*exported.notes, THREE_AXES))
        onnx.save(exported.proto, path)
        python = self.find(work).python
        conversion = onnx2tf_tool.run_onnx2tf(path, work.folder, python, backend=self.backend, cache=work.cache)
        return read_back(exported, conversion)
