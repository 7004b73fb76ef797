from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnest_zoo.errors import RegistryError
from resnest_zoo.hub import Artifact

FULL = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../model.pth",
        "/etc/passwd",
        "a/b.pth",
        "a\\b.pth",
        "C:model.pth",
        "model\0.pth",
        "model\n.pth",
        "model.pth ",
        " model.pth",
        ".model.pth.lock",
        "pins.json",
        "PINS.json.damaged",
        "m" * 256,
        "é" * 125,
    ],
)
def test_a_file_name_that_is_not_plain_is_refused(name: str) -> None:
    with pytest.raises(RegistryError, match="plain name"):
        Artifact(name)


@pytest.mark.parametrize(
    "name", ["model-1a2b3c4d.pth", "R-50.pkl", "a..b", "mit Leerzeichen é.pth", "m" * 240]
)
def test_plain_file_names_are_accepted(name: str) -> None:
    assert Artifact(name).filename == name


@pytest.mark.parametrize(
    "url",
    [
        "https://host/model.pth ",
        "https://host/my model.pth",
        "ftp://host/m.pth",
        "hf://organisation/m.pth",
        "hf://a/b c/m.pth",
        "file:///m.pth",
        "https://host",
        "https:///m.pth",
        "m.pth",
        "",
    ],
)
def test_an_unclean_url_is_refused(url: str) -> None:
    with pytest.raises(RegistryError, match="no clean address"):
        Artifact("m.pth", (url,))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sha256": "1a2b3c4d"}, "64 to 64 lower-case hex"),
        ({"sha256": FULL.upper()}, "lower-case"),
        ({"sha256_prefix": "1a2b3c4"}, "8 to 64"),
        ({"sha256_prefix": "g" * 8}, "hex"),
        ({"sha256": FULL, "sha256_prefix": "ffffffff"}, "begin with its own prefix"),
        ({"size": 0}, "size"),
        ({"size": -1}, "size"),
    ],
)
def test_malformed_hash_or_size_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        Artifact("m.pth", **fields)


def test_the_expected_hash_is_the_longest_known() -> None:
    assert Artifact("m.pth", sha256=FULL, sha256_prefix=FULL[:8]).expected_sha256 == FULL
    assert Artifact("m.pth", sha256_prefix=FULL[:8]).expected_sha256 == FULL[:8]
    assert Artifact("m.pth", path=Path("m.pth")).expected_sha256 is None


@pytest.mark.parametrize("url", ["hf://timm/resnest50d.in1k/model.safetensors", "hf://me/a@v1.0/sub/m.pth"])
def test_a_file_of_a_hugging_face_repository_has_an_address(url: str) -> None:
    artifact = Artifact.from_url(url)
    assert artifact.urls == (url,)
    assert artifact.host == "huggingface.co"
    assert artifact.filename.endswith(f"-{url.rpartition('/')[2]}")


def test_from_url_reads_the_published_hash_prefix() -> None:
    artifact = Artifact.from_url("https://host/zoo/model-1a2b3c4d.pth?download=true")
    assert (artifact.filename, artifact.sha256_prefix) == ("model-1a2b3c4d.pth", "1a2b3c4d")


def test_from_url_takes_no_date_for_a_hash() -> None:
    assert Artifact.from_url("https://host/model-20240131.pth").sha256_prefix is None
    assert Artifact.from_url("https://host/model-02644020.pth").sha256_prefix == "02644020"


def test_from_url_keeps_files_of_one_name_apart() -> None:
    first, second = (Artifact.from_url(f"https://host/{run}/model_final.pth") for run in "ab")
    assert first.filename != second.filename
    assert first.filename.endswith("-model_final.pth")
    assert first.sha256_prefix is None


@pytest.mark.parametrize(
    "url", ["https://host/folder/", "https://host/a/..", "https://host/a%2F..", "model.pth"]
)
def test_from_url_refuses_what_names_no_file(url: str) -> None:
    with pytest.raises(RegistryError):
        Artifact.from_url(url)


def test_from_url_never_leaves_the_folder_by_escapes() -> None:
    assert Artifact.from_url("https://host/a/%2e%2e%2fmodel-1a2b3c4d.pth").filename == "model-1a2b3c4d.pth"
