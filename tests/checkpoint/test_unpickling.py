"""What libraries store beside weights is read past, and no name in a file leads to what it names."""

from __future__ import annotations

import argparse
import contextlib
import copyreg
import io
import logging
import pickle
import sys
import tracemalloc
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from resnest_zoo.checkpoint import Checkpoint
from resnest_zoo.checkpoint.unpickling import Record, Unpickler
from resnest_zoo.errors import CheckpointError

CALLED: list[object] = []


def note(*args: object) -> dict[str, object]:
    """A harmless function, for files to name."""
    CALLED.append(args)
    return {}


class Calls:
    """Pickles as whatever `parts` say."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


@pytest.fixture(autouse=True)
def called() -> Iterator[list[object]]:
    CALLED.clear()
    yield CALLED
    CALLED.clear()


def zipped(content: Any, path: Path) -> None:
    torch.save(content, path)


def stream(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


WAYS: dict[str, Callable[[], Any]] = {
    "called": lambda: Calls(note, (1,)),
    "called with the weights": lambda: Calls(note, (torch.ones(2),)),
    "items set on what it returns": lambda: Calls(note, (), None, None, iter([("a", note)])),
    "state set on what it returns": lambda: Calls(note, (), {"x": note}),
    "a method of what it returns": lambda: Calls(getattr, (Calls(note, ()), "update")),
    "as the factory of a dictionary": lambda: defaultdict(note, {"a": 1}),
    "as the class of a tensor": lambda: Calls(torch._tensor._rebuild_from_type_v2, (note, note, (), {})),
    "as the maker of a tensor": lambda: Calls(
        torch._tensor._rebuild_from_type_v2, (note, torch.Tensor, (), {})
    ),
    "as a hook": lambda: Calls(torch._utils._rebuild_parameter, (torch.ones(1), False, OrderedDict(h=note))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("write", [zipped, stream])
def test_a_function_that_a_file_names_is_never_called(
    tmp_path: Path, way: str, write: Callable[..., None], called: list[object]
) -> None:
    path = tmp_path / "file.pth"
    write({"model": {"w": torch.ones(2)}, "beside": WAYS[way]()}, path)
    assert torch.equal(Checkpoint.open(path)["w"], torch.ones(2))
    assert called == []


def test_the_function_is_called_elsewhere(tmp_path: Path, called: list[object]) -> None:
    """Else the test above would prove nothing."""
    zipped({"beside": WAYS["called"]()}, tmp_path / "file.pth")
    torch.load(tmp_path / "file.pth", weights_only=False)
    assert called == [(1,)]


def test_a_function_that_a_process_registered_by_a_number_is_never_called(
    tmp_path: Path, called: list[object]
) -> None:
    """Python keeps such functions at hand for every unpickler, which then looks up no name."""
    copyreg.add_extension(__name__, "note", 240)
    try:
        assert pickle.loads(pickle.dumps(note, 2)) is note  # from now on it is at hand
        zipped({"model": {"w": torch.ones(2)}, "beside": Calls(note, (1,))}, tmp_path / "file.pth")
        with pytest.raises(CheckpointError, match=r"refused: .*extension 240"):
            Checkpoint.open(tmp_path / "file.pth")
    finally:
        copyreg.remove_extension(__name__, "note", 240)
        copyreg.clear_extension_cache()
    assert called == []


@pytest.mark.parametrize(
    "raw",
    [
        b"N" + pickle.LONG_BINPUT + (1 << 22).to_bytes(4, "little") + b".",  # a far place in the memo
        pickle.BYTEARRAY8 + (1 << 25).to_bytes(8, "little") + b".",  # bytes that do not follow
    ],
)
def test_a_number_in_a_file_takes_no_memory_by_itself(raw: bytes) -> None:
    """The least of three readings: what else this process allocates meanwhile is not in all of them."""
    most = []
    for _ in range(3):
        reader = Unpickler(io.BytesIO(pickle.PROTO + b"\5" + raw))
        tracemalloc.start()
        try:
            with contextlib.suppress(EOFError):
                reader.load()
            most.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert min(most) < 1e6


# What libraries write, made with stand-ins under the real names, which are gone when the file is read.


@contextmanager
def standing_in(*names: str) -> Iterator[dict[str, type]]:
    """Classes under full names, importable for as long as this lasts."""
    made: dict[str, type] = {}
    with pytest.MonkeyPatch.context() as patch:
        for full in names:
            module, _, name = full.rpartition(".")
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                parent = ".".join(parts[:end])
                if parent not in sys.modules:
                    patch.setitem(sys.modules, parent, ModuleType(parent))
            base = dict if name == "CfgNode" else object
            made[name] = type(name, (base,), {"__module__": module, "update": lambda *_: None})
            patch.setattr(sys.modules[module], name, made[name], raising=False)
        yield made


def mmengine_file(path: Path, write: Callable[..., None]) -> None:
    with standing_in("mmengine.logging.history_buffer.HistoryBuffer") as made:
        buffer = made["HistoryBuffer"]()
        buffer.__dict__.update(
            _log_history=np.arange(3.0),
            _statistics_methods=OrderedDict(update=buffer.update, min=buffer.__init__),
        )
        content = {
            "meta": {
                "cfg": "model = dict(type='MaskRCNN')",
                "epoch": np.int64(12),
                "dataset_meta": {"classes": ("helmet", "vest"), "palette": [(1, 2, 3)]},
            },
            "message_hub": {"log_scalars": {"train/loss": buffer}, "runtime_info": {"iter": np.float32(2)}},
            "state_dict": OrderedDict(w=torch.arange(6.0).reshape(2, 3).T, b=torch.ones(2)),
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.02}]},
        }
        write(content, path)


@pytest.mark.parametrize("write", [zipped, stream])
def test_a_file_of_mmengines_is_read_past_its_loggers(
    tmp_path: Path, write: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "epoch_12.pth"
    mmengine_file(path, write)
    assert "mmengine" not in sys.modules
    checkpoint = Checkpoint.open(path)
    assert torch.equal(checkpoint["w"], torch.arange(6.0).reshape(2, 3).T)
    assert sorted(checkpoint) == ["b", "w"]
    assert "left out: mmengine.logging.history_buffer.HistoryBuffer" in caplog.text
    assert "mmengine" not in sys.modules
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        torch.load(path, weights_only=True)  # what the fuss is about


@pytest.mark.parametrize("write", [zipped, stream])
def test_configs_and_arguments_beside_the_weights_are_left_out_and_named(
    tmp_path: Path, write: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.pth"
    with standing_in("yacs.config.CfgNode", "fvcore.common.config.CfgNode") as made:
        node = made["CfgNode"](MODEL=made["CfgNode"](WEIGHTS="x"))
        beside = {"cfg": node, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "seen": {1, 2}}
        write({"model": {"w": torch.ones(2)}, **beside}, path)
    assert list(Checkpoint.open(path)) == ["w"]
    assert caplog.text.count("left out: ") == 1
    assert "fvcore.common.config.CfgNode" in caplog.text
    assert "argparse.Namespace" in caplog.text


def test_a_whole_module_is_refused_by_its_class(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match=r"an object of torch\.nn\.modules\.linear\.Linear; save its"):
        Checkpoint.open(path)


# Tensors of every making.


@pytest.mark.parametrize("write", [zipped, stream])
def test_tensors_come_back_whatever_they_share_and_however_they_lie(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    base = torch.arange(24, dtype=torch.float32)
    attributed = torch.ones(2)
    attributed.origin = "somewhere"  # type: ignore[attr-defined]
    tensors = {
        "view": base[3:9],
        "strided": base.reshape(4, 6)[::2, 1::2],
        "transposed": base.reshape(4, 6).T,
        "expanded": torch.ones(1).expand(4),
        "scalar": torch.tensor(5),
        "empty": torch.empty(0, 3),
        "parameter": nn.Parameter(torch.ones(2)),
        "attributed": attributed,
        "bytes": torch.arange(3, dtype=torch.uint8),  # what follows lies at an odd address in a stream
        **{str(dtype): torch.ones(3).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64)},
        **{str(dtype): torch.ones(3).to(dtype) for dtype in (torch.int64, torch.bool, torch.float8_e4m3fn)},
    }
    path = tmp_path / "all.pth"
    write(tensors, path)
    checkpoint = Checkpoint.open(path)
    assert checkpoint.keys() == tensors.keys()
    for key, value in tensors.items():
        got = checkpoint[key]
        assert got.dtype == value.dtype
        assert got.shape == value.shape
        assert torch.equal(got.float(), value.detach().float()), key


@pytest.mark.parametrize("write", [zipped, stream])
def test_what_is_not_asked_for_is_not_read(
    tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from resnest_zoo.checkpoint import torch_files

    read: list[int] = []
    real = torch_files._read

    def note_size(memory: Any, start: int, numel: int, *rest: Any) -> torch.Tensor:
        read.append(numel)
        return real(memory, start, numel, *rest)

    monkeypatch.setattr(torch_files, "_read", note_size)
    path = tmp_path / "run.pth"
    write({"model": {"a": torch.ones(2), "b": torch.ones(3)}, "optimizer": {0: torch.ones(100)}}, path)
    checkpoint = Checkpoint.open(path)
    assert list(checkpoint) == ["a", "b"]
    assert read == []
    assert torch.equal(checkpoint["b"], torch.ones(3))
    assert read == [3]


def test_a_file_of_another_byte_order_is_turned(tmp_path: Path) -> None:
    from zipfile import ZipFile

    torch.save({"w": torch.tensor([1.5, -2.0])}, tmp_path / "little.pth")
    with ZipFile(tmp_path / "little.pth") as old, ZipFile(tmp_path / "big.pth", "w") as new:
        for info in old.infolist():
            body = old.read(info)
            if info.filename.endswith("/byteorder"):
                body = b"big"
            elif "/data/" in info.filename:
                body = np.frombuffer(body, "<f4").astype(">f4").tobytes()
            new.writestr(info.filename, body)
    assert Checkpoint.open(tmp_path / "big.pth")["w"].tolist() == [1.5, -2.0]


def test_a_file_that_was_packed_again_is_named(tmp_path: Path) -> None:
    from zipfile import ZIP_DEFLATED, ZipFile

    torch.save({"w": torch.ones(2)}, tmp_path / "plain.pth")
    with ZipFile(tmp_path / "plain.pth") as old, ZipFile(tmp_path / "packed.pth", "w", ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    with pytest.raises(CheckpointError, match="another program compressed it; save it again"):
        Checkpoint.open(tmp_path / "packed.pth")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_pickles_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    """Python 3.14 writes protocol 5, in which an array is a buffer of its own."""
    arrays = {
        "w": np.arange(6, dtype="f4").reshape(2, 3),
        "by columns": np.asfortranarray(np.arange(6, dtype="f8").reshape(2, 3)),
        "frozen": np.arange(3, dtype="f4"),
        "count": np.int64(7),
        "array of one": np.array(2.5, "f4"),
    }
    arrays["frozen"].flags.writeable = False
    path = tmp_path / "R-50.pkl"
    content = {"model": OrderedDict(arrays), "__author__": "somebody", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content, protocol))
    checkpoint = Checkpoint.open(path)
    for key, value in arrays.items():
        assert np.array_equal(checkpoint[key].numpy(), value), key


@pytest.mark.parametrize(
    "sizes",
    [
        (0, (5,), (1,)),  # beyond its storage
        (2, (2,), (1,)),
        (0, (2,), (-1,)),
        (-1, (1,), (1,)),
        (0, (2, 1), (1,)),
        (0, [2], (1,)),
        (True, (1,), (1,)),
        (0, (1,), (2**64,)),  # no number of PyTorch's
    ],
)
def test_a_tensor_that_does_not_fit_its_storage_is_refused(tmp_path: Path, sizes: Any) -> None:
    storage = torch.arange(3.0).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    offset, size, stride = sizes
    path = tmp_path / "wrong.pth"
    forged = Calls(torch._utils._rebuild_tensor_v2, (typed, offset, size, stride, False, OrderedDict()))
    torch.save({"w": forged}, path)
    with pytest.raises(CheckpointError, match=r"refused.*does not fit its storage"):
        Checkpoint.open(path)


def test_what_is_refused_is_quoted_at_a_sensible_length() -> None:
    """A file of some bytes can name itself so often that writing it out never ends."""
    nested: object = "x"
    for _ in range(12):
        nested = (nested, nested)

    class Writer(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return nested if value == "tensor" else None

    file = io.BytesIO()
    Writer(file, 2).dump("tensor")
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="refused persistent object") as caught:
        Unpickler(file).load()
    assert len(str(caught.value)) < 1000


def test_a_record_takes_everything_and_keeps_nothing() -> None:
    with standing_in("lib.Thing") as made:
        thing = made["Thing"]()
        thing.inside = [1, 2]
        raw = pickle.dumps(thing)
    reader = Unpickler(io.BytesIO(raw))
    record = reader.load()
    assert isinstance(record, Record)
    assert record.name == "lib.Thing"
    assert not hasattr(record, "__dict__")
    assert record("any", "thing") is record
    record["a"] = 1
    record.append(2)
    with pytest.raises(AttributeError):
        record.state = 1
    with pytest.raises(pickle.UnpicklingError, match="refused to set state"):
        type(record).state = 1
    assert list(reader.left_out) == ["lib.Thing"]


def test_nothing_is_logged_of_what_every_file_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(2, 2)).sum().backward()
    optimizer.step()
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "seen": {1, 2},
        "iteration": 3,
    }
    with caplog.at_level(logging.INFO):
        for write in (zipped, stream):
            write(content, tmp_path / "model.pth")
            assert Checkpoint.open(tmp_path / "model.pth").keys() == model.state_dict().keys()
    assert caplog.text == ""
