"""hubconf.py through torch.hub itself, which finds the repository in its cache and asks nobody."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import torch.hub

from resnest_zoo.config import load_config
from resnest_zoo.registry import PUBLISHED, get_entry

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


def test_the_21_models_are_listed_and_nothing_else() -> None:
    assert sorted(torch.hub.list(REPOSITORY, trust_repo=True, verbose=False)) == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_help_states_results_and_the_preprocessing_of_the_config(name: str) -> None:
    text = torch.hub.help(REPOSITORY, name, trust_repo=True)
    entry = get_entry(name)
    assert text.startswith(f"{entry.method} with {entry.backbone}, trained on COCO: {entry.task}.")
    assert f"box AP {entry.reported[0].box:.2f}" in text
    assert f'"{name}"' in text
    assert entry.config is not None
    config = load_config(entry.config)
    assert f"{config.input.format} order" in text
    assert f"mean ({', '.join(map(str, config.model.pixel_mean))})" in text
    std = "1" if set(config.model.pixel_std) == {1.0} else f"({', '.join(map(str, config.model.pixel_std))})"
    assert f"std {std}" in text


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
    required = {line.strip(' "').partition(">=")[0].replace("_", "-") for line in lines[: lines.index("]")]}
    assert named == required


def test_entries_work_where_the_package_is_not_installed(hub_folder: Path) -> None:
    code = f"""
import sys, torch
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
