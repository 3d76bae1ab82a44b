from __future__ import annotations

import configparser
import tomllib
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest

from edgeqwt.errors import InputError, ToolError
from edgeqwt.graph import flatbuffer
from edgeqwt.profile import Npu
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.runtime.vela import compile_model
from edgeqwt.target.constraints import CONSTRAINTS
from edgeqwt.target.load import FOLDER, load, names, schema
from tests.one_op import lowered
from tests.one_op_specs import case

PROMISED = """
tflite tflm tflm-cortex-m4 tflm-cortex-m55 tflm-esp32s3 ethos-u55-32 ethos-u55-64 ethos-u55-128 ethos-u55-256
ethos-u65-256 ethos-u65-512 ethos-u85-128 ethos-u85-256 ethos-u85-512 ethos-u85-1024 ethos-u85-2048 edgetpu
qualcomm-sm8550 qualcomm-sm8650 qualcomm-sm8750 himax-we2 alif-ensemble-hp alif-ensemble-he stm32n6
"""


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_every_target_that_is_promised_is_there() -> None:
    assert set(names()) == set(PROMISED.split())


@pytest.mark.parametrize("name", names())
def test_every_profile_is_whole(name: str) -> None:
    profile = load(name)
    assert profile.name == name
    assert profile.title
    assert profile.runtimes
    assert set(profile.runtimes) <= set(RUNNERS)
    assert profile.notes
    assert all(note.endswith(".") for note in profile.notes)
    assert set(profile.limits) <= set(CONSTRAINTS)
    assert (profile.npu is not None) == (profile.package == "ethos-u")


def test_what_was_not_verified_is_said() -> None:
    assert all(any("ot verified" in note for note in load(name).notes) for name in names())


@pytest.mark.requires("ethosu")
@pytest.mark.parametrize("name", [name for name in names() if name.startswith("ethos-u")])
def test_the_npus_names_are_velas(name: str) -> None:
    spec, npu = find_spec("ethosu.config_files"), load(name).npu
    places = spec.submodule_search_locations if spec is not None else None
    assert places is not None
    assert npu is not None
    config = configparser.ConfigParser()
    config.read(Path(next(iter(places))) / "Arm" / "vela.ini")
    assert f"System_Config.{npu.system_config}" in config
    assert f"Memory_Mode.{npu.memory_mode}" in config
    assert npu.accelerator == name
    assert npu.system_config.startswith(f"Ethos_{name.split('-')[1].upper()}")


@pytest.mark.requires("ethosu")
def test_a_profile_describes_its_memories_to_vela(tmp_path: Path) -> None:
    half = '[npu]\nsystem_config = "Half"\n[npu.system]\ncore_clock = 2e8\n'
    mine = must(load(written(tmp_path, 'extends = "himax-we2"\ntitle = "At half the clock"\n' + half)).npu)
    full = must(load("himax-we2").npu)
    assert dict(mine.system)["axi1_port"] == "OffChipFlash"  # as in the profile below
    model = flatbuffer.to_bytes(lowered(case("CONV_2D/3x3-RELU").graph, case("CONV_2D/3x3-RELU").samples).graph)
    fast, slow = compile_model(model, full), compile_model(model, mine)
    assert (fast.clock, slow.clock) == (4e8, 2e8)
    assert (slow.cycles["total"], slow.seconds) == (fast.cycles["total"], 2 * fast.seconds)
    arms = '[npu]\nsystem_config = "Ethos_U55_Deep_Embedded"\n'
    assert must(load(written(tmp_path, 'extends = "himax-we2"\ntitle = "Arm\'s"\n' + arms)).npu).system == ()
    wrong = '[npu.system]\naxi0_port = "Nowhere"\n'
    with pytest.raises(ToolError, match="vela"):
        compile_model(model, must(load(written(tmp_path, 'extends = "himax-we2"\ntitle = "Wrong"\n' + wrong)).npu))


def must(npu: Npu | None) -> Npu:
    """The NPU of a profile that has one."""
    assert npu is not None
    return npu


@pytest.mark.parametrize("name", ["toaster", "", "../profiles/tflite", "TFLITE"])
def test_an_unknown_target_names_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match="there is no target") as caught:
        load(name)
    assert all(known in caught.value.hint for known in names())


def test_a_profile_of_the_users_extends_one_that_is_there(tmp_path: Path) -> None:
    text = 'extends = "tflm-cortex-m4"\ntitle = "My board"\n[limits]\nram = 65536\nfloat_tensors = false\n'
    mine, base = load(written(tmp_path, text)), load("tflm-cortex-m4")
    assert mine.name == "mine"
    assert mine.title == "My board"
    assert mine.runtimes == base.runtimes
    assert mine.notes == base.notes
    assert mine.limits["ram"] == 65536
    assert mine.limits["flash"] == base.limits["flash"]
    assert "float_tensors" in base.limits
    assert "float_tensors" not in mine.limits


def test_a_base_may_lie_beside_the_file(tmp_path: Path) -> None:
    written(tmp_path, 'extends = "ethos-u55-128"\n[npu]\nmemory_mode = "Sram_Only"\n', "base.toml")
    npu = load(written(tmp_path, 'extends = "base.toml"\ntitle = "Mine"')).npu
    assert npu is not None
    assert (npu.accelerator, npu.memory_mode) == ("ethos-u55-128", "Sram_Only")


WHOLE = 'title = "Mine"\nruntimes = ["reference"]\nnotes = ["None."]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("titel = 'x'", r"mine\.toml: unknown key 'titel'"),
        ("title = 3", r"mine\.toml: title = 3"),
        ("title = 'x'", r"mine\.toml: runtimes is missing"),
        ("extends = 'toaster'", r"mine\.toml: extends = 'toaster' names no target"),
        ("extends = 'other.toml'", r"other\.toml does not exist"),
        ("extends = 'mine.toml'", r"mine\.toml extends itself"),
        (WHOLE.replace("reference", "gpu"), r"mine\.toml: there is no runtime 'gpu'"),
        (WHOLE + "package = 'zip'", r"mine\.toml: package = 'zip'"),
        (WHOLE + "package = 'ethos-u'", r"mine\.toml: \[npu\] is missing"),
        (WHOLE + "[npu]\nclock = 'fast'", r"mine\.toml \[npu\]: unknown key 'clock'"),
        (WHOLE + "[npu]\naccelerator = 'ethos-u55-128'", r"mine\.toml \[npu\]: system_config is missing"),
        (WHOLE + "[limits]\nrom = 5", r"mine\.toml \[limits\]: unknown key 'rom'"),
        (WHOLE + "[limits]\nram = '5K'", r"mine\.toml \[limits\]: ram = '5K'"),
        (WHOLE + "[limits]\nram = 0", r"mine\.toml \[limits\]: ram = 0"),
        (WHOLE + "[limits]\nram = true", r"mine\.toml \[limits\]: ram = True"),
        (WHOLE + "[limits]\nno_int4 = 1", r"mine\.toml \[limits\]: no_int4 = 1"),
        (WHOLE + "[limits]\nnpu_aborts = [1]", r"mine\.toml \[limits\]: npu_aborts\.0 = 1"),
        (WHOLE + "[limits]\nnpu_ops = ['ADD']", r"mine\.toml \[limits\]: npu_ops"),
        (WHOLE + "[limits.npu_ops]\nint8 = 'ADD'", r"mine\.toml \[limits\]: npu_ops\.int8 = 'ADD'"),
        ("[limits", r"mine\.toml: "),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load(written(tmp_path, text))
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_key_that_is_nearly_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(written(tmp_path, WHOLE + "[limits]\nno_int = true"))
    assert caught.value.hint.startswith("Did you mean 'no_int4'?")


@pytest.mark.parametrize("name", names())
def test_the_schema_takes_every_profile(name: str) -> None:
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    jsonschema.validate(table, schema())


def test_an_npu_that_vela_does_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "ethos-u55-128"\n[npu]\naccelerator = "ethos-u55-999"\n')
    with pytest.raises(InputError, match="accelerator = 'ethos-u55-999'") as error:
        load(str(path))
    assert "ethos-u85-2048" in error.value.hint


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load(str(tmp_path / "folder.toml"))
