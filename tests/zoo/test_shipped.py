"""The packaged models: there, whole, small, and as good as they say."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch

import resnest_zoo
from benchmarks.verify.command import main as verify
from resnest_zoo.checkpoint import read_safetensors_metadata
from resnest_zoo.config import load_config
from resnest_zoo.data import shapes
from resnest_zoo.registry import SHIPPED, info

MAX_BYTES = 6_000_000  # of all together


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_is_the_one_that_the_registry_means(name: str) -> None:
    artifact = info(name).artifact
    assert artifact.path is not None
    content = artifact.path.read_bytes()
    assert len(content) == artifact.size
    assert sha256(content).hexdigest() == artifact.sha256
    assert resnest_zoo.fetch(name) == artifact.path


def test_together_they_are_small() -> None:
    assert sum(info(name).artifact.size or 0 for name in SHIPPED) <= MAX_BYTES


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("name", SHIPPED)
def test_it_loads_without_a_network_and_sees_a_shape(name: str) -> None:
    model = resnest_zoo.get(name)
    entry = info(name)
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    assert model.categories == entry.categories
    scene = shapes.draw(seed=3, index=2)
    (found,) = model([torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()])
    sure = found.above(0.5)
    there = {shapes.CATEGORIES.things[s.class_index] for s in scene.things}
    assert sure.names
    assert set(sure.names) & there


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_holds_its_own_config(name: str) -> None:
    entry = info(name)
    assert entry.artifact.path is not None
    assert entry.config is not None
    metadata = read_safetensors_metadata(entry.artifact.path)
    assert metadata["name"] == name
    assert metadata["config"] == load_config(entry.config).dump()


def test_the_twins_share_their_weights() -> None:
    mask, panoptic = (resnest_zoo.get(name).state_dict() for name in SHIPPED)
    assert {key.split(".")[0] for key in panoptic.keys() - mask.keys()} == {"sem_seg_head"}
    assert all(torch.equal(value, panoptic[key]) for key, value in mask.items())


@pytest.mark.slow
def test_the_reported_numbers_can_be_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = ("--level", "bytes", "--level", "load", "--level", "coco")
    code = verify([*SHIPPED, *levels, "--output", str(tmp_path)])
    assert code == 0, capsys.readouterr().out
