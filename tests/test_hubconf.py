"""hubconf.py through torch.hub itself, which finds the repository in its cache and asks nobody."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch.hub
import torchvision
from PIL import Image

import resnest_zoo
from benchmarks.fill import write_checkpoint
from resnest_zoo import registry
from resnest_zoo.config import load_config
from resnest_zoo.data import shapes
from resnest_zoo.registry import MMDETECTION, PUBLISHED, SHIPPED, info
from tests.servers import FileServer

ROOT = Path(__file__).parents[1]
REPOSITORY = "owner/resnest_zoo:v1"


@pytest.fixture(autouse=True)
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torch.hub folder that holds this repository."""
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "owner_resnest_zoo_v1").symlink_to(ROOT)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(folder))
    return folder


def test_published_and_packaged_models_are_listed_and_nothing_else() -> None:
    listed = torch.hub.list(REPOSITORY, trust_repo=True, verbose=False)
    assert sorted(listed) == sorted((*PUBLISHED, *MMDETECTION, *SHIPPED))


@pytest.mark.parametrize("name", [*PUBLISHED, *MMDETECTION, *SHIPPED])
def test_help_states_results_and_the_preprocessing_of_the_config(name: str) -> None:
    text = torch.hub.help(REPOSITORY, name, trust_repo=True)
    entry = info(name)
    data = "drawn shapes" if name in SHIPPED else "COCO"
    assert text.startswith(f"{entry.method} with {entry.backbone}, trained on {data}: {entry.task}.")
    assert f"box AP {entry.reported[0].cells[1]}" in text
    assert f"({entry.source or 'docs/shapes.md'}):" in text
    assert f'"{name}"' in text
    assert entry.config is not None
    config = load_config(entry.config)
    assert f"{config.input.format} order" in text
    assert f"mean ({', '.join(map(str, config.model.pixel_mean))})" in text
    std = "1" if set(config.model.pixel_std) == {1.0} else f"({', '.join(map(str, config.model.pixel_std))})"
    assert f"std {std}" in text
    sides = config.input.min_size_test, config.input.max_size_test
    assert "shorter side {}, longer side at most {}) and".format(*sides) in " ".join(text.split())


def test_the_dependencies_are_those_of_the_package() -> None:
    tree = ast.parse((ROOT / "hubconf.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    modules = ast.literal_eval(values["dependencies"])
    distributions = importlib.metadata.packages_distributions()
    named = {distributions[module][0].lower().replace("_", "-") for module in modules}
    lines = (
        (ROOT / "pyproject.toml")
        .read_text(encoding="utf-8")
        .partition("\ndependencies = [\n")[2]
        .splitlines()
    )
    required = {
        line.strip().split('"')[1].partition(">=")[0].replace("_", "-")
        for line in lines[: lines.index("]")]
        if line.strip().startswith('"')
    }
    assert named == required


def test_entries_work_where_the_package_is_not_installed(hub_folder: Path) -> None:
    code = f"""
import sys
sys.path = [path for path in sys.path if path != {str(ROOT)!r}]  # an editable install puts it there
import torch
torch.hub.set_dir({str(hub_folder)!r})
torch.hub.list({REPOSITORY!r}, trust_repo=True)
assert {str(ROOT)!r} not in sys.path
import resnest_zoo, resnest_zoo.config.loading
print(resnest_zoo.__file__)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=hub_folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve() == ROOT / "resnest_zoo" / "__init__.py"


# --- from a repository to what is in a photo -----------------------------------------------------------


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1).contiguous()


def load(name: str, **options: Any) -> Any:
    return torch.hub.load(str(ROOT), name, source="local", **options)


@pytest.mark.parametrize("kind", ["detection", "panoptic"])
def test_a_served_model_finds_what_its_file_finds(
    kind: str,
    tiny: Path,
    server: FileServer,
    photo: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    name = f"tiny_{kind}"
    monkeypatch.setattr(registry, "PUBLISHED", (name,))  # which is what hubconf.py makes its entries of
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", server.url)
    server.folder = tiny
    filename = info(name).artifact.filename
    (found,) = load(name)([photo])
    assert server.paths == [f"/{filename}"]
    request.getfixturevalue("no_sockets")
    (again,) = load(name, device="cpu")([photo])
    (expected,) = load(name, pretrained=False, weights=str(tiny / filename))([photo])
    for other in (again, expected):
        assert len(found) > 0
        assert torch.equal(found.boxes, other.boxes)
        assert torch.equal(found.scores, other.scores)
        assert found.names == other.names
    limited = load(name, overrides=["TEST.DETECTIONS_PER_IMAGE", "2"])
    assert len(limited([photo])[0]) == 2


def test_without_weights_the_model_is_fresh_and_has_the_classes_asked_for(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, no_sockets: None
) -> None:
    monkeypatch.setattr(registry, "PUBLISHED", ("tiny_mask",))
    model = load("tiny_mask", pretrained=False, num_classes=2)
    assert not model.training
    assert len(model.categories.things) == 2


@pytest.mark.parametrize("name", SHIPPED)
def test_a_packaged_model_does_what_its_help_says_without_a_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_sockets: None
) -> None:
    picture = shapes.draw(2, 0).image
    Image.fromarray(picture).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    text = torch.hub.help(REPOSITORY, name, trust_repo=True)
    lines = re.findall(r"^ *>>> (.*)$", text, re.MULTILINE)
    code = "\n".join(lines).replace("path/to/clone", str(ROOT)).replace("photo.jpg", "photo.png")
    names: dict[str, Any] = {"torch": torch, "torchvision": torchvision, "Image": Image}
    exec(code, names)
    (expected,) = resnest_zoo.get(name)([torch.from_numpy(picture).permute(2, 0, 1)])
    assert len(expected) > 0
    assert torch.equal(names["result"].boxes, expected.boxes)
    assert names["result"].names == expected.names


@pytest.mark.slow
def test_a_published_model_runs_from_its_name_to_a_photo(
    tmp_path: Path, server: FileServer, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "faster_rcnn_resnest50_dcn"
    assert server.folder is not None
    file = write_checkpoint(name, server.folder)
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", server.url)
    (found,) = load(name)([photo])
    assert server.paths == [f"/{file.name}"]
    (expected,) = resnest_zoo.get(name, weights=file)([photo])
    assert len(found) > 0
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.scores, expected.scores)
    assert found.names == expected.names
    load(name)
    assert len(server.paths) == 1
