"""The script in docs/finetune.md turns VOC's XML into what the trainer reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from resnest_zoo.categories import Categories
from resnest_zoo.data.coco import read_dataset
from resnest_zoo.errors import DataError

PAGE = (Path(__file__).parents[1] / "docs" / "finetune.md").read_text(encoding="utf-8")
THING = (
    "<object><name>{}</name><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def write_voc(root: Path, pictures: dict[str, str], split: list[str]) -> None:
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for name, things in pictures.items():
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}.jpg")
        size = "<size><width>40</width><height>30</height></size>"
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{things}</annotation>")
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(split))


def convert(folder: Path) -> None:
    script = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "ElementTree" in block
    )
    (folder / "voc_to_coco.py").write_text(script)
    words = [sys.executable, "voc_to_coco.py", "voc", "train", "train.json"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


def test_boxes_and_classes_are_those_of_the_xml(tmp_path: Path) -> None:
    pictures = {
        "a": THING.format("cell", 1, 1, 40, 30) + THING.format("blob", 11, 6, 20, 10),
        "b": THING.format("axon", 2, 3, 4, 5),
    }
    write_voc(tmp_path / "voc", pictures, ["a"])
    convert(tmp_path)
    data = read_dataset(tmp_path / "train.json", tmp_path / "voc" / "JPEGImages")
    assert data.categories == Categories(("axon", "blob", "cell"), (1, 2, 3))  # also those of other splits
    (record,) = data
    assert record.boxes == [[0, 0, 40, 30], [10, 5, 10, 5]]
    assert record.classes == [2, 1]


def test_a_box_that_is_none_is_found_before_training(tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", {"a": THING.format("cell", 21, 5, 20, 9)}, ["a"])
    convert(tmp_path)
    with pytest.raises(DataError, match="1 × boxes without width or height: 1 "):
        read_dataset(tmp_path / "train.json", tmp_path / "voc" / "JPEGImages")
