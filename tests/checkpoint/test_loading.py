"""Checkpoints of every format load, and nothing in a hostile one runs."""

from __future__ import annotations

import io
import logging
import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from resnest_zoo.categories import Categories
from resnest_zoo.checkpoint import (
    Checkpoint,
    load_checkpoint,
    model_metadata,
    read_safetensors_metadata,
    read_state_dict,
    write_safetensors,
)
from resnest_zoo.errors import CheckpointError


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.cls_score = nn.Linear(4, classes + 1)
        self.bbox_pred = nn.Linear(4, 4 * classes)


def fresh(classes: int = 3, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(classes)


def same(model: nn.Module, state: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[key], state[key]) for key in own)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


# Writers of each format. The numpy pickles mimic what numpy 1.x wrote under Python 2 and 3.


def torch_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def torch_stream(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def numpy_pickle(content: Any, path: Path, core: str = "numpy.core") -> None:
    plain = _numpy(content)
    raw = pickle.dumps(plain, protocol=2)
    path.write_bytes(raw.replace(b"cnumpy._core.multiarray\n", f"c{core}.multiarray\n".encode()))


def _numpy(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _numpy(value) for key, value in content.items()}
    return content.detach().numpy() if isinstance(content, Tensor) else content


TORCH: list[Callable[[Any, Path], None]] = [torch_zip, torch_stream]
ALL = [*TORCH, numpy_pickle]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.bin"


# Reading


@pytest.mark.parametrize("write", ALL)
def test_the_published_layout_gives_the_models_tensors_alone(path, write):
    """detectron2 stores the model beside what training needs."""
    state = fresh().state_dict()
    write(
        {
            "model": state,
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.02}]},
            "scheduler": {"milestones": (60000, 80000), "last_epoch": 90000},
            "iteration": 89999,
        },
        path,
    )
    got = read_state_dict(path)
    assert got.keys() == state.keys()
    assert all(torch.equal(got[key], state[key]) for key in state)


@pytest.mark.parametrize("write", ALL)
def test_bare_tensors_are_read_as_they_are(path, write):
    state = fresh().state_dict()
    write(dict(state), path)
    assert read_state_dict(path).keys() == state.keys()


def test_safetensors_are_read_whatever_the_files_name(path):
    state = fresh().state_dict()
    save_file(state, path)
    got = read_state_dict(path)
    assert all(torch.equal(got[key], state[key]) for key in state)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state", "model_state_dict", "blobs"])
def test_tensors_are_found_below_what_trainers_put_them_in(path, wrapper):
    torch_zip({wrapper: {"a": torch.ones(2)}, "epoch": 3}, path)
    assert list(read_state_dict(path)) == ["a"]
    torch_zip({"state_dict": {wrapper: {"a": torch.ones(2)}}}, path)
    assert list(read_state_dict(path)) == ["a"]


def test_a_file_that_holds_itself_ends(path):
    content: dict[str, Any] = {}
    content["model"] = content
    numpy_pickle_of_itself = pickle.dumps(content, 2)
    path.write_bytes(numpy_pickle_of_itself)
    with pytest.raises(CheckpointError, match="entry 'model' is a "):
        read_state_dict(path)


def test_momenta_of_detectrons_files_are_left_out(path):
    blobs = {"res2_0_branch2a_w": np.ones(3, "f4"), "res2_0_branch2a_w_momentum": np.ones(3, "f4")}
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": "…"}, 2))
    assert list(read_state_dict(path)) == ["res2.0.conv1.weight"]


def test_a_note_beside_the_tensors_is_left_out(path):
    torch_zip({"a": torch.ones(2), "__author__": "somebody"}, path)
    assert list(read_state_dict(path)) == ["a"]


@pytest.mark.parametrize("write", TORCH)
def test_parameters_are_as_good_as_tensors(path, write):
    write({"a": nn.Parameter(torch.ones(2))}, path)
    assert torch.equal(read_state_dict(path)["a"], torch.ones(2))


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="f4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype="f8").reshape(2, 3)),
        np.arange(6, dtype=">f4").reshape(3, 2),
        np.array(1.5, "f4"),
        np.zeros((0, 3), "f4"),
        np.arange(8, dtype="i8")[::2],
        np.array([True, False]),
        np.arange(3, dtype="f2"),
    ],
    ids=["f4", "by columns", "big-endian", "scalar", "empty", "strided", "bool", "half"],
)
def test_numpy_pickles_give_the_arrays(path, array, core):
    numpy_pickle({"model": {"w": array}}, path, core)
    if core == "numpy.core":
        names = [op[1] for op in pickletools.genops(path.read_bytes()) if op[0].name == "GLOBAL"]
        assert "numpy.core.multiarray _reconstruct" in names
        assert "_codecs encode" in names or array.size == 0
    got = read_state_dict(path)["w"]
    assert got.shape == array.shape
    assert np.array_equal(got.numpy(), array)
    got.zero_()  # owns its memory


def test_python_2_pickles_hold_text_for_bytes(path):
    """As the MSRA backbones were written: the array's bytes as a plain string."""
    values = np.array([1.5, -2.0], "<f4")
    path.write_bytes(
        b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + values.tobytes() + b"tbs."
    )
    assert read_state_dict(path)["w"].tolist() == [1.5, -2.0]


# Hostile files. Each would leave a file behind, were any of it run.


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class State:
    """Pickles as a call, then a state set on what it returned."""

    def __init__(self, function: Any, args: tuple[Any, ...], state: Any) -> None:
        self.parts = function, args, state

    def __reduce__(self) -> Any:
        return self.parts


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def traps(canary: Path) -> dict[str, Any]:
    code = f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, f"touch {canary}"),
        "builtins.eval": Call(eval, code),
        "builtins.exec": Call(exec, code),
        "builtins.open": Call(open, str(canary), "w"),
        "builtins.getattr": Call(getattr, {}, "keys"),
        "pathlib": Call(Path.touch, Path(canary)),
        "numpy.load": Call(np.load, str(canary)),
        "numpy.fromfile": Call(np.fromfile, str(canary)),
        "torch.load": Call(torch.load, str(canary)),
        "class of our own": nn.Linear(1, 1),
        "ndarray subclass": np.ma.masked_array([1.0]),
        "state on a class": State(Net, (), {"__dict__": {}}),
    }


TRAPS = list(traps(Path("x")))


# What each names, as far as every Python and numpy agree.
NAMED = {"os.system": "system", "builtins.open": "open", "class of our own": "Linear"}


@pytest.mark.parametrize("name", TRAPS)
@pytest.mark.parametrize("write", [torch_zip, torch_stream, numpy_pickle])
def test_a_booby_trap_among_the_weights_is_refused_and_nothing_runs(path, canary, name, write):
    write({"model": {"w": traps(canary)[name]}}, path)
    with pytest.raises(CheckpointError, match=r"refused: |entry 'w' is an object of ") as caught:
        read_state_dict(path)
    assert NAMED.get(name, "") in str(caught.value)
    assert str(path) in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("name", TRAPS)
@pytest.mark.parametrize("write", [torch_zip, torch_stream, numpy_pickle])
def test_a_booby_trap_beside_the_weights_is_left_out_and_named_and_nothing_runs(
    path, canary, name, write, caplog
):
    write({"model": {"w": torch.ones(2)}, "optimizer": traps(canary)[name]}, path)
    assert torch.equal(read_state_dict(path)["w"], torch.ones(2))
    assert "only tensors are read; left out: " in caplog.text
    assert NAMED.get(name, "") in caplog.text
    assert not canary.exists()


def test_the_traps_do_spring_elsewhere(path, canary):
    """Else the tests above would prove nothing."""
    numpy_pickle(traps(canary)["os.system"], path)
    pickle.loads(path.read_bytes())
    assert canary.exists()


def test_the_refusal_names_the_global_and_gives_no_dangerous_advice(path, canary):
    for write in ALL:
        write({"w": Call(os.system, f"touch {canary}")}, path)
        with pytest.raises(CheckpointError, match="system") as caught:
            read_state_dict(path)
        assert "weights_only" not in str(caught.value)
        assert "\n" not in str(caught.value)


def build(module: str, name: str, args: bytes, state: bytes) -> bytes:
    """A pickle that calls an admitted global and sets a state on the result."""
    return b"\x80\x02}U\x01wc" + f"{module}\n{name}\n".encode() + args + b"R" + state + b"bs."


RECONSTRUCT = b"cnumpy\nndarray\nK\x00\x85U\x01b\x87"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(pickle.dumps({"w": np.array([os.getcwd, None])}, 2), id="objects"),
        pytest.param(pickle.dumps({"w": np.array([1, "a"], dtype=object)}, 2), id="harmless objects"),
        pytest.param(pickle.dumps({"w": np.zeros(2, [("a", "f4"), ("b", "O")])}, 2), id="objects in fields"),
        pytest.param(pickle.dumps({"w": np.zeros(2, [("a", "f4")])}, 2), id="fields"),
        pytest.param(pickle.dumps({"w": np.array(["2020"], "M8[Y]")}, 2), id="dates"),
        pytest.param(pickle.dumps({"w": np.array(["ab"])}, 2), id="text"),
        # A dtype told that it holds no objects: bytes would become pointers.
        pytest.param(
            build("numpy", "dtype", b"U\x02O8K\x00K\x01\x87", b"(K\x03U\x01|NNNJ\xff\xff\xff\xffK\x01K\x00t"),
            id="flags of a dtype",
        ),
        # Attributes set on the globals themselves.
        pytest.param(b"\x80\x02}U\x01wc_codecs\nencode\n}U\x08__call__U\x01xsbs.", id="state on a function"),
        pytest.param(
            b"\x80\x02}U\x01wc_codecs\nencode\nN}U\x09_functionU\x01xs\x86bs.", id="slots of a function"
        ),
        pytest.param(b"\x80\x02}U\x01wcnumpy\ndtype\nN}U\x08__call__U\x01xs\x86bs.", id="slots of the dtype"),
        pytest.param(b"\x80\x02}U\x01wcnumpy\nndarray\n)\x81s.", id="a new object of a global"),
        pytest.param(b"\x80\x02}U\x01wcnumpy\ndtype\n)\x81s.", id="a new object of the dtype"),
        pytest.param(b"\x80\x02}U\x01wcnumpy\nndarray\nU\x01x\x85Rs.", id="an array called directly"),
        pytest.param(
            b"\x80\x02}U\x01wc_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86Rs.", id="codec"
        ),
        pytest.param(b"\x80\x02}U\x01wU\x01xQs.", id="persistent id"),
        pytest.param(b"\x80\x02}U\x01wPsomething\ns.", id="persistent id as text"),
        pytest.param(b"\x80\x02}U\x01w\x82\x01s.", id="extension code"),
        pytest.param(b"\x80\x02}U\x01w(ios\nsystem\nU\x01xos.", id="INST"),
        pytest.param(b"\x80\x04}\x8c\x01w\x8c\x02os\x8c\x06system\x93s.", id="STACK_GLOBAL"),
        pytest.param(b"\x80\x04}\x8c\x01w\x8c\x05numpy\x8c\x0edtype.__init__\x93s.", id="dotted name"),
        # States that do not fit together.
        pytest.param(
            build(
                "numpy.core.multiarray",
                "_reconstruct",
                RECONSTRUCT,
                b"(K\x01J\xff\xff\xff\x7f\x85K\x00\x89U\x01xt",
            ),
            id="no dtype",
        ),
        pytest.param(
            build(
                "numpy.core.multiarray",
                "_reconstruct",
                RECONSTRUCT,
                b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R\x89U\x04xxxxt",
            ),
            id="a shape beyond the bytes",
        ),
        pytest.param(
            build(
                "numpy.core.multiarray",
                "_reconstruct",
                RECONSTRUCT,
                b"(K\x01J\xfe\xff\xff\xff\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R\x89U\x04xxxxt",
            ),
            id="a negative shape",
        ),
    ],
)
def test_a_numpy_pickle_holds_arrays_of_numbers_and_nothing_else(path, raw):
    path.write_bytes(raw.replace(b"cnumpy._core", b"cnumpy.core"))
    with pytest.raises(CheckpointError, match=r"refused: |damaged or|entry 'w' is .*, not a plain tensor"):
        read_state_dict(path)


# Damaged files


def good_files() -> dict[str, bytes]:
    files = {}
    for write in ALL:
        stream = io.BytesIO()
        state = {"model": fresh().state_dict()}
        if write is numpy_pickle:
            stream.write(pickle.dumps(_numpy(state), 2))
        else:
            torch.save(state, stream, _use_new_zipfile_serialization=write is torch_zip)
        files[write.__name__] = stream.getvalue()
    return files


@pytest.mark.parametrize("part", [0.01, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["torch_zip", "torch_stream", "numpy_pickle"])
def test_a_truncated_file_is_damaged(path, kind, part):
    whole = good_files()[kind]
    path.write_bytes(whole[: max(1, int(part * len(whole)))])
    with pytest.raises(CheckpointError):
        read_state_dict(path)


@pytest.mark.parametrize("part", [9, 100, -1])
def test_a_truncated_safetensors_file_is_damaged(path, part):
    save_file(fresh().state_dict(), path)
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is no checkpoint, but an empty file"),
        (b"<!DOCTYPE html><html>404</html>", "is no checkpoint, but a page of HTML or XML"),
        (bytes(range(7, 200)), "is no checkpoint: expected"),
        (struct.pack("<Q", 2**60) + b"{}", "damaged or truncated"),
        (b"PK\x03\x04" + bytes(100), "damaged or truncated"),
        (b"\x80\x02" + bytes(range(200)), "refused|damaged"),
        (pickle.dumps([1, 2], 2), "expected named tensors, got a list"),
        (pickle.dumps({}, 2), "expected named tensors, got none"),
        (pickle.dumps({"lr": 0.1}, 2), "expected named tensors, got none"),
        (pickle.dumps({"model": {"w": [1.0]}}, 2), "entry 'w' is a list, not a plain tensor"),
        (pickle.dumps({5: 0.1}, 2), "entry 5 is a float"),
        (
            pickle.dumps({"net": {"w": 1.0}}, 2),
            "'net' is a dictionary, .*; weights are looked for at the top",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(path, content, complaint):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        read_state_dict(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pth: cannot be read: No such file"):
        read_state_dict(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="is no checkpoint, but a folder: name the file"):
        read_state_dict(tmp_path)


# Loading


@pytest.mark.parametrize("write", ALL)
def test_a_checkpoint_fills_the_model(path, write):
    state = fresh(seed=1).state_dict()
    write({"model": state, "iteration": 7}, path)
    model = fresh(seed=2)
    assert load_checkpoint(model, path) == ()
    assert same(model, state)


def test_constants_that_some_versions_stored_are_no_weights(path):
    state = dict(fresh(seed=1).state_dict())
    strays = {
        "proposal_generator.anchor_generator.cell_anchors.0": torch.ones(3, 4),
        "anchor_generator.cell_anchors.4": torch.ones(3, 4),
        "pixel_mean": torch.ones(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
    }
    torch_zip({"model": state | strays}, path)
    model = fresh(seed=2)
    load_checkpoint(model, path)
    assert same(model, state)


def test_another_models_checkpoint_is_refused_with_every_difference_and_changes_nothing(path):
    state = dict(fresh(seed=1).state_dict())
    del state["norm.bias"], state["body.bias"]
    state |= {"zebra.weight": torch.ones(1), "apple.weight": torch.ones(1)}
    state |= {"norm.weight": torch.ones(5), "body.weight": torch.ones(4, 2, 1, 1)}
    state |= {"norm.running_mean": torch.zeros(4, dtype=torch.int64)}
    torch_zip(state, path)
    model = fresh(seed=2)
    before = snapshot(model)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(model, path)
    assert str(caught.value) == (
        f"{path}: belongs to another model:\n"
        "  2 missing keys:\n    body.bias\n    norm.bias\n"
        "  2 unexpected keys:\n    apple.weight\n    zebra.weight\n"
        "  3 shape clashes:\n"
        "    body.weight: expected (4, 2, 3, 3) float32, got (4, 2, 1, 1) float32\n"
        "    norm.running_mean: expected (4,) float32, got (4,) int64\n"
        "    norm.weight: expected (4,) float32, got (5,) float32"
    )
    assert same(model, before)


def test_a_long_list_of_differences_is_cut(path):
    torch_zip(dict(fresh().state_dict()) | {f"extra.{k:03}": torch.ones(1) for k in range(100)}, path)
    with pytest.raises(
        CheckpointError, match=r"100 unexpected keys:\n    extra\.000\n(.*\n)+    … and 60 more"
    ):
        load_checkpoint(fresh(), path)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("file_counts", [True, False])
def test_how_many_batches_a_norm_has_seen_may_be_missing_or_extra(path, frozen, file_counts):
    state = dict(fresh(seed=1).state_dict())
    state["norm.num_batches_tracked"] = torch.tensor(9)
    if not file_counts:
        del state["norm.num_batches_tracked"]
    torch_zip(state, path)
    model = fresh(seed=2)
    model.norm.num_batches_tracked.fill_(12345)  # as in memory that nobody has written yet
    if frozen:
        model.norm = FrozenBatchNorm2d(4)
    load_checkpoint(model, path)
    assert torch.equal(model.norm.weight, state["norm.weight"])
    if not frozen:
        assert int(model.norm.num_batches_tracked) == (9 if file_counts else 0)


def test_a_count_of_batches_in_another_shape_is_none(path):
    state = dict(fresh(seed=1).state_dict())
    state["norm.num_batches_tracked"] = torch.tensor([9, 9])
    torch_zip(state, path)
    model = fresh(seed=2)
    load_checkpoint(model, path)
    assert torch.equal(model.body.weight, state["body.weight"])
    assert int(model.norm.num_batches_tracked) == 0


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.float8_e5m2])
def test_weights_that_are_no_plain_floats_are_refused(path, dtype):
    state = dict(fresh(seed=1).state_dict())
    state["body.weight"] = state["body.weight"].to(dtype)
    torch_zip(state, path)
    model = fresh(seed=2)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=f"got \\(4, 2, 3, 3\\) {str(dtype)[6:]}"):
        load_checkpoint(model, path)
    assert same(model, before)


def test_numbers_of_a_kind_that_pytorch_has_not_are_named(path):
    header = b'{"w":{"dtype":"F6_E2M3","shape":[8],"data_offsets":[0,6]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(6))
    with pytest.raises(CheckpointError, match=r"entry 'w' cannot be read: .*F6_E2M3|damaged"):
        read_state_dict(path)


def test_two_tensors_of_one_name_are_refused(path):
    torch_zip({"res2_0_branch2a_w": torch.ones(1), "res2.0.conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"holds several tensors for each of: res2\.0\.conv1\.weight"):
        read_state_dict(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_float_type_are_converted(path, dtype):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in fresh(seed=1).state_dict().items()}
    torch_zip(state, path)
    model = fresh(seed=2)
    load_checkpoint(model, path)
    assert model.body.weight.dtype == torch.float32
    assert torch.equal(model.body.weight, state["body.weight"].float())


LAYERS = ("cls_score", "bbox_pred")


def test_class_layers_of_other_classes_start_fresh_and_are_named(path, caplog):
    state = dict(fresh(3, seed=1).state_dict())
    torch_zip({"model": state}, path)
    model = fresh(7, seed=2)
    before = snapshot(model)
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(model, path, replaceable=LAYERS) == ("bbox_pred", "cls_score")
    assert "class layers start fresh: bbox_pred, cls_score" in caplog.text
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith(LAYERS) else state[key])


def test_class_layers_that_fit_are_loaded(path):
    state = dict(fresh(3, seed=1).state_dict())
    torch_zip(state, path)
    model = fresh(3, seed=2)
    assert load_checkpoint(model, path, replaceable=LAYERS) == ()
    assert same(model, state)


def test_replaceable_layers_excuse_no_other_difference(path):
    state = dict(fresh(3, seed=1).state_dict())
    del state["body.bias"]
    torch_zip(state, path)
    model = fresh(7, seed=2)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=r"1 missing keys:\n    body\.bias$"):
        load_checkpoint(model, path, replaceable=LAYERS)
    assert same(model, before)


def test_a_layer_whose_name_only_begins_alike_is_not_replaceable(path):
    state = dict(fresh(3).state_dict())
    torch_zip(state, path)
    with pytest.raises(CheckpointError, match=r"cls_score\.weight"):
        load_checkpoint(fresh(7), path, replaceable=("cls", "bbox_pred"))


def test_the_file_may_be_replaced_after_loading(path):
    """Weights are copied, not mapped."""
    state = dict(fresh(seed=1).state_dict())
    torch_zip(state, path)
    model = fresh(seed=2)
    load_checkpoint(model, path)
    path.write_bytes(b"\0" * 10)
    assert same(model, state)


# Writing


def test_written_tensors_and_metadata_come_back(path):
    state = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.ones(2, dtype=torch.float16)}
    metadata = {"name": "model é\n\"'\\", "a": "", "z": "ü" * 100}
    write_safetensors(state, path, metadata)
    assert read_safetensors_metadata(path) == metadata
    got = read_state_dict(path)
    assert all(torch.equal(got[key], state[key]) for key in state)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_equal_tensors_give_equal_files(path):
    metadata = {letter: letter for letter in "abcdefgh"}
    files = set()
    for _ in range(5):
        write_safetensors({"w": torch.ones(3)}, path, metadata)
        files.add(path.read_bytes())
    assert len(files) == 1


def test_a_written_file_has_the_permissions_of_any_other(path, tmp_path):
    write_safetensors({"a": torch.ones(2)}, path, {})
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_has_no_metadata_is_told(path, tmp_path):
    path.write_bytes(b"\x80\x02 no safetensors")
    for other in (path, tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match=r"refused|damaged|cannot be read|a folder"):
            read_safetensors_metadata(other)
    save_file({"w": torch.ones(1)}, path)
    assert read_safetensors_metadata(path) == {}


def test_config_and_categories_come_back_from_the_metadata(path):
    categories = Categories(("cube", "b\u00e4ll"), (7, 2), ("things", "grass"), (0, 91))
    write_safetensors({"a": torch.zeros(1)}, path, model_metadata("MODEL: {}\n", categories))
    checkpoint = Checkpoint.open(path)
    assert (checkpoint.config, checkpoint.categories) == ("MODEL: {}\n", categories)


def test_a_file_that_does_not_tell_its_model_gives_none(path):
    write_safetensors({"a": torch.zeros(1)}, path, {"config": "x"})
    checkpoint = Checkpoint.open(path)
    assert (checkpoint.config, checkpoint.categories) == (None, None)


@pytest.mark.parametrize(
    "categories", ["{", "[]", '{"things": ["a"]}', '{"things": ["a"], "thing_ids": [1, 2]}']
)
def test_damaged_categories_are_told(path, categories):
    write_safetensors({"a": torch.zeros(1)}, path, {"config": "x", "categories": categories})
    checkpoint = Checkpoint.open(path)
    with pytest.raises(CheckpointError, match="its metadata are damaged: categories"):
        assert checkpoint.categories
