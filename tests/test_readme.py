"""The code blocks of README.md do what they say; CI runs the shell ones. `test_pages` has the other pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from benchmarks.fill import write_checkpoint
from resnest_zoo import registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_to_files(page: str) -> None:
    file = ROOT / page
    for link in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
        assert "://" in link or (file.parent / link).exists(), link


def test_the_first_screen_shows_install_predict_train_and_verify() -> None:
    first = README.partition("\n## ")[0].splitlines()[:50]
    for part in (
        "](docs/demo.png)",
        "pip install .",
        "https://download.pytorch.org/whl/cpu",
        "resnest-zoo predict photo.jpg",
        'channel_order="BGR"',
        "resnest-zoo train ",
        "python -m benchmarks.verify ",
    ):
        assert any(part in line for line in first), part


@pytest.mark.usefixtures("own_registry")
def test_the_zoo_file_is_one(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "zoo.yaml").write_text(block)
    (tmp_path / "my_detector.yaml").write_text("_BASE_: Base-RCNN-FPN.yaml\n")
    (entry,) = registry.load_zoo(tmp_path / "zoo.yaml")
    assert entry.name == "my_detector"
    assert entry.categories is not None
    assert entry.categories.things == ("helmet", "vest")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint("faster_rcnn_resnest50_dcn", tmp_path / "mirror")
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(skimage.data.coffee()).save("photo.jpg")
    exec(compile(blocks("python")[number], "README.md", "exec"), {})
