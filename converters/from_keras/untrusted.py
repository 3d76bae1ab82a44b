"""What a Keras file or SavedModel of a stranger's may hold so that loading and running it executes a model alone.

It runs in TensorFlow's environment, as a part of `child`, and imports nothing of edgeqwt's. Keras deserializes
whatever class or function a configuration names, in some versions any of any module; layers that wrap TensorFlow's
functions name them; a graph has ops that read and write files or call Python. All of it is looked for before anything
is loaded.
"""

from __future__ import annotations

import builtins
import json
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any

LARGEST_TEXT = 1 << 28  # bytes of a text inside an archive
SLACK, RATIO = 1 << 28, 100
"""Bytes that any archive may hold, and how much more than its own size beyond: weights hardly compress."""

_BEYOND = r"(?!(?:utils|config|saving|export|callbacks|datasets|distribution|visualization|testing|backend)\b)"
_CLASSES = re.compile(
    rf"(tf_)?keras(\.{_BEYOND}\w+)*|tensorflow_model_optimization(\.python\.core)?"
    rf"(\.(quantization|sparsity|clustering)(\.{_BEYOND}\w+)*)?"
)
"""Modules whose classes a model may name: those that hold layers and what belongs to them."""
_FUNCTIONS = re.compile(
    rf"(tf_)?keras\.({_BEYOND}\w+\.)*(activations|constraints|initializers|losses|metrics|ops|random|regularizers)"
    rf"(\.{_BEYOND}\w+)*|tensorflow\.python\.ops\.(gen_)?(array|clip|image|linalg|math|nn)_(ops|impl)"
)
"""Modules whose functions, which Keras calls with tensors, a model may name."""
_CODE = frozenset({"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
_OF_OBJECTS = frozenset({"ClassMethod", "InstanceMethod", "InstanceProperty"})  # attributes of TensorFlow's classes
_FILES = ("vocabulary", "vocabulary_file")
"""Names of options that are texts where a layer reads them from a file."""
_SYMBOL = re.compile(
    r"(compat\.v[12]\.)?((math|nn|linalg|image|signal|strings|bitwise|sparse|ragged|quantization|random|dtypes|sets|"
    r"experimental\.numpy|__operators__|keras\.(activations|backend|losses|metrics|ops))\.)?"
    r"(?!py_func|numpy_func|print\b|load_|import_|read_file|write_file|matching_files|register_|enable_|disable_|"
    r"wrap_function|fixed_unigram|function\b)[a-z_]\w*"
)
"""What layers that wrap functions of TensorFlow's may wrap."""
_OUTSIDE = re.compile(
    r"\w*PyFunc\w*|ReadFile|Write\w*|Create\w*Writer|\w*SummaryWriter|ImportEvent|PrintV2|Debug\w*|Dump\w*|"
    r"\w*Dataset\w*|\w*Reader\w*|MatchingFiles|GenerateVocabRemapping|LoadAndRemapMatrix|RecordInput|Skipgram|"
    r"FixedUnigramCandidateSampler|InitializeTableFromTextFile(V2)?|CalibrationStatisticsSaver|DistributedSave|"
    r"DTensorRestoreV2|(En|De)codeProto(V2)?|FileSystemSetConfiguration|Rpc\w*|RegisterDataset\w*|Remote\w*|_?Send|"
    r"_?Recv|TRT\w*|CreateTRT\w*|InitializeTRT\w*"
)
"""Ops that reach beyond the model: files, networks, Python, programs inside constants."""
_SAVING = re.compile(r"Save|SaveV2|SaveSlices|MergeV2Checkpoints")
_RESTORING = re.compile(r"Restore|RestoreV2|RestoreSlice")
"""Ops that only the parts of a SavedModel may have that save it again, which nothing here runs, and load it."""


def check_plain(path: str) -> None:
    """Refuses a model that holds Python code, names what is no part of a model, or reaches beyond itself.

    Args:
        path: of a .keras or .h5 file, or a SavedModel's folder.

    Raises:
        ValueError: naming what it holds.
    """
    if os.path.isdir(path):
        _check_saved_model(path)
    elif path.endswith(".keras"):
        _check_archive(path)
    else:
        _check_config(hdf5_config(path))
        _check_hdf5(path)


def hdf5_config(path: str) -> Any:
    """What a .h5 file says of its model; empty where it holds weights alone."""
    import h5py

    with h5py.File(path) as file:
        text = file.attrs.get("model_config", "{}")
    return json.loads(text.decode() if isinstance(text, bytes) else text)


def text_of(archive: zipfile.ZipFile, name: str) -> bytes:
    """A text in an archive.

    Raises:
        ValueError: it is larger than any that belongs to a model.
    """
    if archive.getinfo(name).file_size > LARGEST_TEXT:
        raise ValueError(f"not loaded: {name} is larger than {LARGEST_TEXT >> 20} MiB")
    return archive.read(name)


def _check_archive(path: str) -> None:
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
        if size > SLACK + RATIO * os.path.getsize(path):
            raise ValueError(f"not loaded: its parts take {size >> 20} MiB unpacked")
        _check_config(config_of(archive))
        for name in archive.namelist():
            if name.endswith(".h5"):
                with archive.open(name) as weights:
                    _check_hdf5(weights)


def config_of(archive: zipfile.ZipFile) -> Any:
    """What a .keras file says of its model; without its losses and metrics, of anybody's, as nothing here compiles it.

    Raises:
        ValueError: as `text_of`, or it is no JSON.
    """
    config = json.loads(text_of(archive, "config.json"))
    if isinstance(config, dict):
        config.pop("compile_config", None)
    return config


def objects_in(config: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a configuration, at any depth."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check_config(config: Any) -> None:
    for part in objects_in(config):
        _check_object(part)


def _check_object(part: dict[str, Any]) -> None:
    for key, value in part.items():
        if key.endswith("_type") and value == "lambda":
            raise ValueError("not loaded: it has a lambda, which is Python code")
        if key in _FILES and isinstance(value, str):
            raise ValueError(f"not loaded: it reads the file {value!r}")
    kind, config, module = part.get("class_name"), part.get("config"), part.get("module")
    if not isinstance(kind, str):
        return
    function = kind == "function" or (isinstance(module, str) and isinstance(config, str))
    given = (kind, part.get("registered_name"), part.get("spec_name"), config if function else None)
    names = [name.rpartition(">")[2] for name in given if isinstance(name, str)]
    for name in names:
        if name in _CODE:
            raise ValueError(f"not loaded: it has a {name} layer, which is Python code")
        if name in _OF_OBJECTS or "." in name:
            raise ValueError(f"not loaded: it has a {name}, which is no layer")
    if isinstance(module, str):
        own = function and module == "builtins" and not any(hasattr(builtins, name) for name in names)
        if not own and not (_FUNCTIONS if function else _CLASSES).fullmatch(module):
            raise ValueError(f"not loaded: it imports the module {module!r}")
    if "TFOpLambda" in names or "SlicingOpLambda" in names:
        symbol = config.get("function") if isinstance(config, dict) else None
        if not _SYMBOL.fullmatch(str(symbol)):
            raise ValueError(f"not loaded: it calls {symbol!r}, which is no function of a model")
    if "TensorFlowOpLayer" in names and isinstance(config, dict):
        _check_op(_op(config.get("node_def")), _SAVING, _RESTORING)


def _op(node: Any) -> str:
    """The op that an old layer holds, as JSON or as tf_keras' text of a protocol buffer."""
    from tensorflow.core.framework.node_def_pb2 import NodeDef

    return str(node.get("op") if isinstance(node, dict) else NodeDef.FromString(str(node).encode()).op)


def _check_hdf5(file: Any) -> None:
    """Refuses weights that lie in other files."""
    import h5py

    with h5py.File(file) as opened:
        groups, seen = [opened], set()
        while groups:
            group = groups.pop()
            address = h5py.h5o.get_info(group.id).addr
            if address in seen:  # a link may lead back to a group that it is in
                continue
            seen.add(address)
            for name in group:
                if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                    raise ValueError(f"not loaded: {name!r} lies in another file")
                found = group.get(name)  # None where a link leads nowhere
                if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
                    raise ValueError(f"not loaded: {name!r} lies in another file")
                if isinstance(found, h5py.Group):
                    groups.append(found)


def _check_nodes(nodes: Any, *also: re.Pattern[str]) -> None:
    for node in nodes:
        _check_op(node.op, *also)


def _check_op(op: str, *also: re.Pattern[str]) -> None:
    if any(pattern.fullmatch(op) for pattern in (_OUTSIDE, *also)):
        raise ValueError(f"not loaded: it has the op {op}, which reaches beyond the model")


def _check_saved_model(folder: str) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        model.ParseFromString(file.read())
    for graph in model.meta_graphs:
        for asset in graph.asset_file_def:
            if os.path.isabs(asset.filename) or ".." in asset.filename.replace("\\", "/").split("/"):
                raise ValueError(f"not loaded: its asset {asset.filename!r} lies elsewhere")
        _check_nodes(graph.graph_def.node)
        functions = {f.signature.name: f.node_def for f in graph.graph_def.library.function}
        for nodes in functions.values():
            _check_nodes(nodes)
        _check_saving(graph, functions)


def _check_saving(graph: Any, functions: dict[str, Any]) -> None:
    """Refuses ops that save or restore where more than the model's own saving and loading runs them."""
    loading = [graph.saver_def.restore_op_name, graph.saver_def.filename_tensor_name]
    _check_nodes(_behind(graph, loading, [], functions), _SAVING)
    running = [tensor.name for s in graph.signature_def.values() for tensor in s.outputs.values()]
    for collection in graph.collection_def.values():  # what TensorFlow 1 runs first is in some of them
        running += collection.node_list.value
    called = [f.signature.name for f in graph.graph_def.library.function if "api_implements" in f.attr]
    for node in graph.object_graph_def.nodes:  # functions that create, initialize and restore objects among them
        called += [*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name]
    _check_nodes(_behind(graph, running, called, functions), _SAVING, _RESTORING)


def _behind(graph: Any, tensors: list[str], called: list[str], functions: dict[str, Any]) -> Iterator[Any]:
    """All nodes that tensors or nodes of these names, and functions, are computed by, those of functions included."""
    nodes, waiting, seen = {node.name: node for node in graph.graph_def.node}, [*tensors], set()
    called = [*called]
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name in nodes and name not in seen:
            seen.add(name)
            waiting += nodes[name].input
            called += _calls(nodes[name])
            yield nodes[name]
    seen = set()
    while called:
        name = called.pop()
        if name in functions and name not in seen:
            seen.add(name)
            called += [other for node in functions[name] for other in _calls(node)]
            yield from functions[name]


def _calls(node: Any) -> list[str]:
    """Functions that a node of a graph may call."""
    return [node.op, *(f.name for v in node.attr.values() for f in (v.func, *v.list.func) if f.name)]
