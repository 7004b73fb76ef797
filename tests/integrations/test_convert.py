"""Converted checkpoints: what is written, when `get` prefers them, and what is never believed."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import resnest_zoo
from resnest_zoo import api, hub
from resnest_zoo.api import convert
from resnest_zoo.checkpoint import Checkpoint, read_safetensors_metadata, write_safetensors
from resnest_zoo.config import load_config
from resnest_zoo.errors import CheckpointError, ConfigError, DownloadError, IntegrityError, UnknownModelError
from resnest_zoo.hub import Artifact, cache_dir
from resnest_zoo.registry import info, register
from tests.checkpoint.test_loading import TRAPS, Call, torch_stream, torch_zip, traps
from tests.servers import FileServer

NAME = "tiny_detection"


def original() -> Path:
    return cache_dir() / info(NAME).artifact.filename


def twin() -> Path:
    return original().with_suffix(".safetensors")


def used(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that `get` loads."""
    loaded: list[Path] = []
    load = api.load_checkpoint

    def note(model: Any, checkpoint: Checkpoint, **options: Any) -> Any:
        loaded.append(checkpoint.path)
        return load(model, checkpoint, **options)

    with monkeypatch.context() as patch:
        patch.setattr(api, "load_checkpoint", note)
        resnest_zoo.get(NAME)
    return loaded[0]


# --- what is written -----------------------------------------------------------------------------------


def test_the_metadata_say_what_it_was_made_from(mirror: FileServer) -> None:
    path = convert(NAME)
    entry = info(NAME)
    assert path == twin()
    assert entry.config is not None
    assert read_safetensors_metadata(path) == {
        "format": "pt",
        "name": NAME,
        "source": entry.artifact.filename,
        "original_sha256": hashlib.sha256(original().read_bytes()).hexdigest(),
        "config_sha256": hashlib.sha256(load_config(entry.config).dump().encode()).hexdigest(),
    }


def test_the_source_is_the_address_where_there_is_one(mirror: FileServer) -> None:
    entry = info(NAME)
    artifact = replace(entry.artifact, urls=("https://weights.invalid/a.pth",))
    register(replace(entry, artifact=artifact), replace=True)
    assert read_safetensors_metadata(convert(NAME))["source"] == "https://weights.invalid/a.pth"


def test_the_tensors_are_the_models_and_no_others(mirror: FileServer, tiny: Path) -> None:
    written = load_file(convert(NAME))
    stored = torch.load(tiny / info(NAME).artifact.filename, weights_only=True)["model"]
    strays = {key for key in stored if "cell_anchors" in key}
    assert strays
    assert written.keys() == stored.keys() - strays
    assert all(torch.equal(written[key], stored[key]) for key in written)


def test_equal_originals_give_equal_files(mirror: FileServer, tmp_path: Path) -> None:
    bodies = {convert(NAME, tmp_path / f"{number}.safetensors").read_bytes() for number in range(6)}
    assert len(bodies) == 1


def test_an_output_of_ones_own_is_no_twin(mirror: FileServer, tmp_path: Path, monkeypatch: Any) -> None:
    path = convert(NAME, tmp_path / "out.safetensors")
    assert path == tmp_path / "out.safetensors"
    assert not twin().exists()
    assert used(monkeypatch) == original()
    assert resnest_zoo.get(NAME, weights=path).state_dict()


def test_a_backbone_is_refused_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(UnknownModelError, match="resnet50_msra is an ImageNet backbone"):
        convert("resnet50_msra")


@pytest.mark.parametrize("where", ["a file/x.safetensors", "missing/x.safetensors", "a folder", "n" * 300])
def test_what_cannot_be_written_is_one_error_and_leaves_nothing(
    mirror: FileServer, tmp_path: Path, where: str
) -> None:
    (tmp_path / "a file").write_text("in the way")
    (tmp_path / "a folder").mkdir()
    before = sorted(tmp_path.rglob("*.part"))
    with pytest.raises(CheckpointError, match="cannot be written"):
        convert(NAME, tmp_path / where)
    assert sorted(tmp_path.rglob("*.part")) == before


def test_an_interrupted_conversion_leaves_the_older_file(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(NAME)
    before = twin().read_bytes()

    def break_off(_tensors: Any, path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", break_off)
        with pytest.raises(KeyboardInterrupt):
            convert(NAME)
    assert twin().read_bytes() == before
    assert not list(cache_dir().glob(".*.part"))
    assert used(monkeypatch) == twin()


def test_two_at_once_do_not_meet(mirror: FileServer) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            convert(NAME)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert hub.is_pinned(twin())


def test_an_original_is_never_written_over(mirror: FileServer, tmp_path: Path, tiny: Path) -> None:
    hub.fetch(info(NAME).artifact)
    before = original().read_bytes()
    with pytest.raises(ConfigError, match="is an original"):
        convert(NAME, original())
    assert original().read_bytes() == before
    register(replace(info(NAME), name="other", artifact=Artifact(twin().name, sha256="a" * 64), aliases=()))
    with pytest.raises(ConfigError, match="is an original"):
        convert(NAME)
    assert not twin().exists()


def test_an_entry_of_safetensors_has_no_twin(mirror: FileServer, tiny: Path, tmp_path: Path) -> None:
    source = convert(NAME, tmp_path / "own.safetensors")
    artifact = Artifact(source.name, sha256=hashlib.sha256(source.read_bytes()).hexdigest())
    register(replace(info(NAME), name="own", artifact=artifact, aliases=()))
    hub.fetch(artifact, file=source)
    with pytest.raises(ConfigError, match="is an original"):
        convert("own")
    assert resnest_zoo.get("own").state_dict()


def test_an_original_damaged_since_it_came_is_not_converted(mirror: FileServer) -> None:
    path = hub.fetch(info(NAME).artifact)
    stamp = path.stat()
    body = bytearray(path.read_bytes())
    body[-50] ^= 1
    path.write_bytes(body)
    import os

    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as a failing disk would do it
    with pytest.raises(IntegrityError, match="expected SHA-256"):
        convert(NAME)
    assert not twin().exists()


# --- when it is used -----------------------------------------------------------------------------------


def test_get_loads_the_twin_and_never_reads_the_original(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = resnest_zoo.get(NAME).state_dict()
    convert(NAME)
    original().unlink()
    asked = len(mirror.paths)
    assert used(monkeypatch) == twin()
    state = resnest_zoo.get(NAME).state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert len(mirror.paths) == asked
    assert not original().exists()


@pytest.mark.parametrize("same_time", [False, True])
def test_a_damaged_twin_is_not_used(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch, same_time: bool
) -> None:
    convert(NAME)
    body = bytearray(twin().read_bytes())
    body[-50] ^= 1
    twin().write_bytes(body if not same_time else body + b"longer")
    assert used(monkeypatch) == original()


def forge(**changes: str) -> None:
    """A twin that is intact and pinned, but not made from what `get` wants."""
    metadata = {**read_safetensors_metadata(twin()), **changes}
    write_safetensors(load_file(twin()), twin(), metadata)
    hub.pin_file(twin(), "forged")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "tiny_mask"},
        {"original_sha256": "a" * 64},
        {"original_sha256": ""},
        {"config_sha256": "a" * 64},
    ],
    ids=str,
)
def test_a_twin_of_something_else_is_not_used(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    convert(NAME)
    forge()
    assert used(monkeypatch) == twin()
    forge(**changes)
    assert used(monkeypatch) == original()


def test_a_twin_that_nobody_pinned_is_not_used(mirror: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(NAME)
    hub.write_pin(cache_dir(), twin().name, None)
    assert used(monkeypatch) == original()


@pytest.mark.parametrize("body", [b"\x80 no safetensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_pinned_file_that_is_no_twin_is_not_used(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    cache_dir().mkdir()
    twin().write_bytes(body)
    hub.pin_file(twin(), "another program")
    assert used(monkeypatch) == original()


def test_another_config_makes_another_twin(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    convert(NAME)
    entry = info(NAME)
    other = tmp_path / "other.yaml"
    other.write_text(f"_BASE_: {entry.config}\nTEST: {{DETECTIONS_PER_IMAGE: 7}}\n")
    register(replace(entry, config=str(other)), replace=True)
    assert used(monkeypatch) == original()
    convert(NAME)
    assert used(monkeypatch) == twin()


def test_without_published_hash_the_pin_decides(
    mirror: FileServer, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = info(NAME)
    register(replace(entry, artifact=Artifact(entry.artifact.filename)), replace=True)
    convert(NAME)
    assert used(monkeypatch) == twin()
    hub.write_pin(cache_dir(), entry.artifact.filename, None)  # another original may come
    assert used(monkeypatch) == original()


def test_a_local_original_may_change_and_its_twin_is_not_used(
    mirror: FileServer, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes((tiny / info(NAME).artifact.filename).read_bytes())
    register(replace(info(NAME), artifact=Artifact("own.pth", path=path)), replace=True)
    convert(NAME)  # makes the cache, too
    assert used(monkeypatch) == path


# --- nothing is unpickled freely -----------------------------------------------------------------------


def numpy_like(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, 2))


@pytest.mark.parametrize("write", [torch_zip, torch_stream, numpy_like], ids=["zip", "stream", "pickle"])
@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("action", [resnest_zoo.get, convert])
def test_a_booby_trap_is_refused_by_get_and_convert(
    tiny: Path, tmp_path: Path, write: Callable[[Any, Path], None], trap: str, action: Callable[[str], object]
) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "mirror" / "trap.pth"
    path.parent.mkdir()
    write({"model": {"w": traps(canary)[trap]}}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    register(replace(info(NAME), name="trap", artifact=Artifact("trap.pth", sha256=sha256), aliases=()))
    hub.fetch(info("trap").artifact, file=path)  # the bytes are those expected: hashes do not help
    with pytest.raises(CheckpointError, match=r"refused: |entry 'w' is an object of "):
        action("trap")
    assert not canary.exists()
    assert sorted(p.name for p in cache_dir().iterdir() if p.name[0] != ".") == ["pins.json", "trap.pth"]


def test_a_pickle_in_the_twins_place_is_not_read(
    mirror: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    cache_dir().mkdir()
    torch_zip({"model": Call(Path.touch, canary)}, twin())
    hub.pin_file(twin(), "somebody")
    assert used(monkeypatch) == original()
    assert not canary.exists()


def test_a_safetensors_file_may_hold_a_pickle_only_as_numbers(tiny: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    raw = pickle.dumps(Call(Path.touch, canary), 2)
    save_file({"w": torch.frombuffer(bytearray(raw), dtype=torch.uint8)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="belongs to another model"):
        resnest_zoo.get(NAME, weights=tmp_path / "x.safetensors")
    assert not canary.exists()


def test_an_original_that_cannot_be_had_is_told(tiny: Path) -> None:
    with pytest.raises(DownloadError):
        convert(NAME)
