"""What came in a checkpoint's place is named, with what to do, wherever a file enters."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

import resnest_zoo
from resnest_zoo import hub
from resnest_zoo.checkpoint import Checkpoint
from resnest_zoo.cli import main
from resnest_zoo.errors import CheckpointError, IntegrityError
from resnest_zoo.recognition import HEAD, Format, find_format, find_stranger
from tests.servers import FileServer


def saved(old: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save({"w": torch.ones(3)}, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("model.pth")
        info.size = len(saved())
        archive.addfile(info, io.BytesIO(saved()))
    return stream.getvalue()


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, w=np.ones(3))
    return stream.getvalue()


INDEX = {"metadata": {"total_size": 12}, "weight_map": {"w": "model-00001-of-00002.safetensors"}}
STRANGERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "an empty file"),
    "html": (b"\xef\xbb\xbf <!DOCTYPE html><html>Sign in</html>", "a page of HTML or XML"),
    "xml": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a page of HTML or XML"),
    "json": (b'\n {"error": "not found"}', "JSON, which hosts send"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        r"a Git LFS pointer.*git lfs pull",
    ),
    "index": (json.dumps(INDEX, indent=2).encode(), "the index of a checkpoint in several files: join them"),
    "gzip": (gzip.compress(saved()), "a gzip archive: unpack it"),
    "bzip2": (bz2.compress(saved()), "a bzip2 archive: unpack it"),
    "xz": (lzma.compress(saved()), "an xz archive: unpack it"),
    "tar": (tar(), "a tar archive: unpack it"),
    "zip": (zipped(**{"model.pth": saved()}), r"a zip archive of model\.pth: unpack it"),
    "npz": (arrays(), "an archive of numpy arrays"),
    # What TorchScript and torch.export write, by the names inside; the contents play no part.
    "script": (
        zipped(**{"m/data.pkl": b"", "m/code/net.py": b"", "m/constants.pkl": b""}),
        r"a TorchScript archive.*state_dict\(\)",
    ),
    "pt2": (zipped(**{"m/archive_format": b"pt2"}), "an exported program"),
}
GOOD = {
    Format.SAFETENSORS: save({"w": torch.ones(3)}),
    Format.TORCH_ZIP: saved(),
    Format.TORCH_STREAM: saved(old=True),
    Format.PICKLE: pickle.dumps({"w": np.ones(3)}, 2),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, kind: str) -> None:
    body, name = STRANGERS[kind]
    path = tmp_path / "model.pth"
    path.write_bytes(body)
    assert find_stranger(body[:HEAD], path)
    with pytest.raises(CheckpointError, match=f"is no checkpoint, but {name}") as caught:
        Checkpoint.open(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", GOOD)
def test_checkpoints_are_no_strangers(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / "model"
    path.write_bytes(GOOD[kind])
    assert find_format(GOOD[kind][:HEAD]) is kind
    assert find_stranger(GOOD[kind][:HEAD], path) is None


def test_a_safetensors_file_may_begin_with_any_letter() -> None:
    head = b'<\x21\0\0\0\0\0\0{"a":'
    assert find_format(head) is Format.SAFETENSORS
    assert find_stranger(head) is None


def test_one_part_of_a_checkpoint_in_several_files_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00003.safetensors"
    path.write_bytes(GOOD[Format.SAFETENSORS])
    with pytest.raises(CheckpointError, match="part 1 of 3 of a checkpoint: join them"):
        Checkpoint.open(path)
    whole = path.rename(tmp_path / "model-00001-of-00001.safetensors")
    assert list(Checkpoint.open(whole)) == ["w"]


def test_a_folder_is_named_with_the_checkpoints_in_it(tmp_path: Path) -> None:
    (tmp_path / "last.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"a folder: name the file itself, of last\.safetensors in it"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("kind", ["html", "lfs", "gzip", "zip", "script", "index"])
def test_downloads_and_imports_ask_the_same_recogniser(
    server: FileServer, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    body, name = STRANGERS[kind]
    assert server.folder is not None
    (server.folder / "model.pth").write_bytes(body)
    url = f"{server.url}/model.pth"
    with pytest.raises(IntegrityError, match=f"expected a checkpoint, got {name}"):
        resnest_zoo.get("faster_rcnn_resnet50", weights=url)
    file = tmp_path / "own.pth"
    file.write_bytes(body)
    assert main(["import", str(file), hub.Artifact.from_url(url).filename]) == 1
    assert "expected a checkpoint, got " in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=f"is no checkpoint, but {name}"):
        resnest_zoo.get("faster_rcnn_resnet50", weights=file)
