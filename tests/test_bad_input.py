"""Whatever a user gets wrong: one line and a hint on standard error, the documented exit code, nothing written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeqwt.disk import write_whole
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array
from tests import reports, small
from tests.small import Command, Small, images

CODE = """
import numpy as np

def samples():
    for _ in range(8):
        yield {"image": np.zeros((1, 8, 8, 3), np.float32)}

def breaks():
    yield {"image": np.zeros((1, 8, 8, 3), np.float32)}
    raise OSError("the camera is gone")

def nothing():
    pass

def leaves():
    raise SystemExit(3)

class Own(BaseException):
    def __str__(self):
        raise RuntimeError("no text")

def own_class():
    raise Own

def keys():
    yield {Own(): np.zeros((1, 8, 8, 3), np.float32)}

def ends():
    import os
    os._exit(0)

def text(outputs, extras):
    return "good"

def angry(outputs, extras):
    raise KeyError("labels")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small.write(tmp_path_factory.mktemp("small"))


@pytest.fixture
def edgeqwt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return small.command(tmp_path, monkeypatch, capsys)


# -- the model -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.tflite", "there is no file missing.tflite"),
        ("missing.onnx", "there is no file missing.onnx"),
        ("missing.py:create", "there is no file missing.py"),
        ("missing_package:create", "there is no module 'missing_package'"),
        ("folder", "folder is a folder, not a model"),
        ("folder.tflite", "folder.tflite is a folder"),
        ("weights.pth", "holds weights, not the model"),
        ("code.py", "does not say which function makes the model"),
        ("code.py:missing", "has no function 'missing'"),
        ("broken.py:create", "syntax error at broken.py:1"),
        ("notes.txt", "no source model that edgeqwt knows"),
    ],
)
def test_what_is_no_model(edgeqwt: Command, files: Small, source: str, said: str) -> None:
    (edgeqwt.folder / "folder").mkdir()
    (edgeqwt.folder / "folder.tflite").mkdir()
    (edgeqwt.folder / "weights.pth").write_bytes(b"weights")
    (edgeqwt.folder / "notes.txt").write_text("notes")
    (edgeqwt.folder / "code.py").write_text(CODE)
    (edgeqwt.folder / "broken.py").write_text("def create(:\n")
    assert said in edgeqwt.refused(2, "build", source, "-c", files.samples, "-o", "out")


@pytest.mark.parametrize("size", [0, 3, 4, 8, 100, 0.5, -4])
def test_truncated_tflite(edgeqwt: Command, files: Small, size: float) -> None:
    whole = files.model.read_bytes()
    (edgeqwt.folder / "cut.tflite").write_bytes(whole[: int(size * len(whole)) if 0 < size < 1 else int(size)])
    for command in (
        ("build", "cut.tflite", "-c", files.samples, "-o", "out"),
        ("inspect", "cut.tflite"),
        ("compare", files.model, "cut.tflite", "-c", files.samples),
        ("compensate", "cut.tflite", "--reference", files.model, "-c", files.samples, "-o", "out.tflite"),
    ):
        assert "cut.tflite" in edgeqwt.refused(2, *command)


@pytest.mark.parametrize("name", ["random.tflite", "tagged.tflite"])
def test_random_tflite(edgeqwt: Command, files: Small, name: str) -> None:
    noise = np.random.default_rng(0).bytes(4000)
    (edgeqwt.folder / "random.tflite").write_bytes(noise)
    (edgeqwt.folder / "tagged.tflite").write_bytes(noise[:4] + b"TFL3" + noise[8:])
    assert name in edgeqwt.refused(2, "build", name, "-c", files.samples, "-o", "out")


@pytest.mark.requires("onnx")
@pytest.mark.parametrize("content", [b"", b"an onnx file\n", np.random.default_rng(0).bytes(4000)])
def test_random_onnx(edgeqwt: Command, files: Small, content: bytes) -> None:
    (edgeqwt.folder / "random.onnx").write_bytes(content)
    assert "random.onnx" in edgeqwt.refused(2, "build", "random.onnx", "-c", files.samples, "-o", "out")


def test_a_quantized_file_is_not_built_again(edgeqwt: Command, files: Small) -> None:
    assert edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast")[0] == 0
    said = edgeqwt.refused(2, "build", "out/model.tflite", "-c", files.samples, "-o", "other")
    assert "quantized already" in said
    assert "edgeqwt compensate" in said


def test_a_custom_op_is_named(edgeqwt: Command, files: Small) -> None:
    flatbuffer.write(small.with_custom_op(small.graph()), edgeqwt.folder / "custom.tflite")
    said = edgeqwt.refused(4, "build", "custom.tflite", "-c", files.samples, "-o", "out")
    assert "CUSTOM #3 -> 'classes' cannot be integer on target tflite: it is the custom op 'MyOp'" in said


def test_weights_that_are_quantized_already(edgeqwt: Command, mlperf_tiny: Path) -> None:
    # MLPerf's "float" keyword spotting: float activations, int8 weights.
    np.savez("features.npz", input_1=np.zeros((2, 49, 10, 1), np.float32))
    model = mlperf_tiny / "keyword_spotting_float32.tflite"
    assert "the weights are quantized already" in edgeqwt.refused(2, "build", model, "-c", "features.npz", "-o", "out")


@pytest.mark.requires("onnx", "onnx2tf")
def test_an_op_without_integer_form_is_named_with_its_place(edgeqwt: Command) -> None:
    import onnx
    from onnx import helper

    convolution = helper.make_node("Conv", ["image", "filter"], ["features"], name="stem")
    size = helper.make_node("Abs", ["features"], ["sizes"], name="size")
    power = helper.make_node("Pow", ["sizes", "sizes"], ["powers"], name="own_power")
    ends = [helper.make_tensor_value_info(n, 1, s) for n, s in (("image", (1, 3, 8, 8)), ("powers", (1, 4, 6, 6)))]
    constants = [onnx.numpy_helper.from_array(np.full((4, 3, 3, 3), 0.01, np.float32), "filter")]
    graph = helper.make_graph([convolution, size, power], "powers", ends[:1], ends[1:], constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), edgeqwt.folder / "powers.onnx")
    np.savez("nchw.npz", image=images(4).transpose(0, 3, 1, 2))
    said = edgeqwt.refused(4, "build", "powers.onnx", "-c", "nchw.npz", "-o", "out")
    assert "POW" in said
    assert "own_power" in said


MODULES = """
from torch import nn

def raises():
    raise RuntimeError("no weights\\nhere")

class Angry(nn.Module):
    def forward(self, image):
        raise ValueError("too small")

def text():
    return "model"
"""


@pytest.mark.requires("torch")
@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", "raised RuntimeError: no weights here (modules.py:5)"),
        ("Angry", "raised ValueError: too small (modules.py:9)"),
        ("text", "gives str, not a torch.nn.Module"),
    ],
)
def test_modules_that_cannot_be_used(edgeqwt: Command, files: Small, function: str, said: str) -> None:
    (edgeqwt.folder / "modules.py").write_text(MODULES)
    assert said in edgeqwt.refused(2, "build", f"modules.py:{function}", "-c", files.samples, "-o", "out")


def test_nan_weights_are_named(edgeqwt: Command, files: Small) -> None:
    def edit(constants: dict[str, Array]) -> None:
        constants["filter"][1, 0, 0, 0] = np.nan

    flatbuffer.write(small.graph(edit), edgeqwt.folder / "nan.tflite")
    said = edgeqwt.refused(2, "build", "nan.tflite", "-c", files.samples, "-o", "out")
    assert "'filter' has NaN" in said


def zero_channels(constants: dict[str, Array]) -> None:
    """One channel of each layer gives zero whatever goes in; of the first one, the bias too."""
    constants["filter"][2] = constants["bias"][2] = constants["weights"][1] = 0


def all_zero(constants: dict[str, Array]) -> None:
    """Nothing depends on the input."""
    for array in constants.values():
        array[...] = 0


@pytest.mark.parametrize("precision", ["w4a8", "w8a8"])
@pytest.mark.parametrize("edit", [zero_channels, all_zero])
def test_zero_channels_are_built(edgeqwt: Command, files: Small, edit: Any, precision: str) -> None:
    flatbuffer.write(small.graph(edit), edgeqwt.folder / "zero.tflite")
    code, _, err = edgeqwt("build", "zero.tflite", "-c", files.samples, "-o", "out", "--precision", precision)
    assert (code, err) == (0, "")
    assert reports.read(edgeqwt.folder / "out")["runtimes"]["tflite_micro"]["ok"]


@pytest.mark.parametrize("value", [0.0, 7.0, -1e-30, 1e30])
def test_constant_activations_are_built_or_refused(edgeqwt: Command, files: Small, value: float) -> None:
    np.savez("constant.npz", image=np.full((8, 8, 8, 3), value, np.float32))
    if value > 1e16:  # a scale that no integer kernel takes
        assert "tensor 'image', an input of the model" in edgeqwt.refused(
            2, "build", files.model, "-c", "constant.npz", "-o", "out"
        )
        return
    code, _, err = edgeqwt("build", files.model, "-c", "constant.npz", "-o", "out")
    assert code == 0, err
    assert reports.read(edgeqwt.folder / "out")["samples"]["calibration"] == 8


# -- samples ---------------------------------------------------------------------


SAMPLES: dict[str, tuple[dict[str, Any], str]] = {
    "other name": ({"picture": images(4), "more": images(4)}, "lacks 'image' and has unknown 'picture', 'more'"),
    "further array": ({"image": images(4), "more": np.arange(4)}, "unknown 'more'"),
    "other layout": ({"image": images(4).transpose(0, 3, 1, 2)}, "has shape (1, 3, 8, 8), expected (1, 8, 8, 3)"),
    "pixels": ({"image": np.zeros((4, 8, 8, 3), np.uint8)}, "is uint8, expected float32"),
    "text": ({"image": np.array(["a", "b"])}, "'image' has dtype <U1"),
    "objects": ({"image": np.array([{}, 1])}, "pickled Python objects"),
    "no samples": ({"image": images(4)[:0]}, "'image' has no samples"),
    "no arrays": ({}, "holds no arrays"),
    "NaN": ({"image": np.where(np.arange(4)[:, None, None, None] == 2, np.nan, images(4))}, "sample 2 has 192 NaN"),
    "infinity": ({"image": np.where(np.arange(4)[:, None, None, None] == 3, np.inf, images(4))}, "sample 3 has 192"),
}


@pytest.mark.parametrize(("arrays", "said"), SAMPLES.values(), ids=SAMPLES)
def test_samples_that_do_not_fit(edgeqwt: Command, files: Small, arrays: dict[str, Any], said: str) -> None:
    np.savez("bad.npz", **arrays)
    for command in (("build", files.model, "-o", "out"), ("compare", files.model, files.model)):
        assert said in edgeqwt.refused(2, *command, "-c", "bad.npz")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.npz", "there is no file missing.npz"),
        ("cut.npz", "cut.npz is truncated, corrupt"),
        ("random.npz", "random.npz is truncated, corrupt"),
        ("random.npy", "random.npy is truncated, corrupt"),
        ("folder", "folder is a folder: it is not said how its images become samples"),
        ("code.py", "does not say which function"),
        ("code.py:breaks", "raised OSError: the camera is gone (code.py:10)"),
        ("code.py:nothing", "returned None"),
        ("code.py:leaves", "raised SystemExit: 3"),
        ("code.py:own_class", "raised Own: Own without a text (code.py:"),
        ("code.py:keys", "has the key Own without a text"),
        ("pipe.npz", "pipe.npz is no regular file"),
        ("pipe.npy", "pipe.npy is no regular file"),
        ("pipe.toml", "pipe.toml is no regular file"),
        ("pipe.py:samples", "pipe.py is no regular file"),
        ("code.py:missing", "has no function 'missing'"),
    ],
)
def test_what_is_no_set_of_samples(
    edgeqwt: Command, files: Small, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    (edgeqwt.folder / "folder").mkdir()
    (edgeqwt.folder / "code.py").write_text(CODE)
    for kind in ("npz", "npy", "toml", "py"):
        if source.startswith(f"pipe.{kind}"):  # `tree` would wait for what others give
            monkeypatch.setattr(small, "tree", lambda folder: {})
            os.mkfifo(edgeqwt.folder / f"pipe.{kind}")
    whole = files.samples.read_bytes()
    (edgeqwt.folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("random.npz", "random.npy"):
        (edgeqwt.folder / name).write_bytes(np.random.default_rng(0).bytes(4000))
    assert said in edgeqwt.refused(2, "build", files.model, "-c", source, "-o", "out")


@pytest.mark.parametrize("place", ["loop.toml", "output", "work"])
def test_links_that_lead_to_themselves(edgeqwt: Command, files: Small, place: str) -> None:
    loop = edgeqwt.folder / "loop.toml"
    loop.symlink_to(loop)
    target = ("--target", "loop.toml") if place == "loop.toml" else ()
    work = ("--work", "loop.toml/work") if place == "work" else ()
    output = "loop.toml/out" if place == "output" else "out"
    call = ("build", files.model, "-c", files.samples, "-o", output, *target, *work)
    code, out, err = edgeqwt(*call)
    assert (code, out) == (2, "")
    assert re.search("(?i)symlink loop|symbolic links", err), err


def test_the_root_folder_is_no_output(edgeqwt: Command, files: Small) -> None:
    call = ("build", files.model, "-c", files.samples, "-o", "/")
    assert re.search("/ is (a mount point|the working folder)|the folder / cannot", edgeqwt.refused(2, *call))
    assert "/ is a folder" in edgeqwt.refused(2, "export", files.model, "-o", "/")
    with pytest.raises(InputError, match="/ is a folder"):
        write_whole(Path("/"), b"")


def test_code_that_ends_the_process_is_told(tmp_path: Path, files: Small) -> None:
    (tmp_path / "code.py").write_text(CODE)
    command = small.process(["build", files.model, "-c", "code.py:ends", "-o", "out"], tmp_path)
    _, err = command.communicate()
    assert command.returncode == 2
    assert "something that the command ran ended its process, with exit code 0" in err
    assert "os._exit" in err
    assert not (tmp_path / "out").exists()


def test_numbers_beyond_all_counting(edgeqwt: Command, files: Small) -> None:
    """They reached Python's and LiteRT's own limits, as bugs of ours."""
    huge = str(10**30)
    build = ("build", files.model, "-c", files.samples, "-o", "out", "--recipe")
    assert edgeqwt(*build, "plain", "--samples", huge)[0] == 0
    (edgeqwt.folder / "huge.toml").write_text(f'techniques = ["mse_ranges"]\n[verify]\nruntime_samples = {huge}\n')
    assert "runtime_samples" in edgeqwt.refused(3, *build, "huge.toml", "--overwrite")
    for options in (("--seed", "-1"), ("--threads", huge), ("--threads", "100000")):
        assert "256 threads" in edgeqwt.refused(2, "bench", files.model, "--on", "host", *options)
    assert "no method is named" in edgeqwt.refused(3, "study", files.model, "-c", files.samples, "--methods", ",")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_samples_are_enough(edgeqwt: Command, files: Small, count: int) -> None:
    code, _, err = edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--samples", count)
    assert (code, err) == (0, "")
    assert reports.read(edgeqwt.folder / "out")["samples"]["calibration"] == count


# -- options ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "options", "said"),
    [
        (2, ["--target", "toaster"], "there is no target 'toaster'"),
        (3, ["--recipe", "secret"], "there is no recipe 'secret'"),
        (3, ["--ranges", "guess"], "there is no range rule 'guess'"),
        (3, ["--precision", "w9a8"], "w9a8"),
        (3, ["--precision", "w8a4"], "w8a4"),
        (3, ["--precision", "many"], "many"),
        (2, ["--samples", "0"], "--samples"),
        (2, ["--groups", f"image={10**30}"], "says of no groups what they are"),
        (2, ["--image", "size=8x8"], "image options were given"),
        (2, ["--colour", "red"], "No such option: --colour"),
        (2, ["further"], "unexpected extra argument"),
        (2, ["--metric", "top1"], "a metric needs evaluation data"),
        (2, ["--evaluation", "missing.npz"], "there is no file missing.npz"),
        (2, ["--evaluation", "SAMPLES"], "needs an array 'labels'"),
        (2, ["--evaluation", "LABELLED", "--metric", "f1"], "there is no metric 'f1'"),
        (2, ["--evaluation", "LABELLED", "--metric", "code.py:missing"], "has no function 'missing'"),
        (2, ["--evaluation", "LABELLED", "--metric", "code.py:text"], "returned a str"),
        (2, ["--evaluation", "LABELLED", "--metric", "code.py:angry"], "raised KeyError: 'labels' (code.py:36)"),
        (2, ["--work", "code.py"], "code.py is a file"),
    ],
)
def test_options_that_do_not_fit(edgeqwt: Command, files: Small, code: int, options: list[str], said: str) -> None:
    (edgeqwt.folder / "code.py").write_text(CODE)
    named = {"SAMPLES": str(files.samples), "LABELLED": str(files.labelled)}
    options = [named.get(option, option) for option in options]
    command = ("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast", *options)
    assert said in edgeqwt.refused(code, *command)


def test_a_recipe_is_named_with_its_wrong_key(edgeqwt: Command, files: Small) -> None:
    (edgeqwt.folder / "mine.toml").write_text("techniques = [{ name = 'mse_ranges', candidate = 3 }]\n")
    said = edgeqwt.refused(3, "build", files.model, "-c", files.samples, "-o", "out", "--recipe", "mine.toml")
    assert "mine.toml: techniques mse_ranges: unknown key 'candidate'" in said
