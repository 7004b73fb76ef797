from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from resnest_zoo import registry
from resnest_zoo.config import resolve_path
from resnest_zoo.registry import MMDETECTION, PUBLISHED, SHIPPED, Reported, info, list_models

BACKBONES = [
    "resnest50_imagenet",
    "resnest101_imagenet",
    "resnest200_imagenet",
    "resnet50_msra",
    "resnet101_msra",
    "resnest50_authors",
    "resnest101_authors",
    "resnest200_authors",
    "resnest269_authors",
    "resnest50_timm",
    "resnest101_timm",
    "resnest200_timm",
    "resnest269_timm",
    "resnet50_torchvision",
    "resnet101_torchvision",
]


def test_there_are_21_detectors_and_the_backbones_of_five_trainings() -> None:
    assert len(PUBLISHED) == 21
    assert tuple(list_models()) == (*PUBLISHED, *MMDETECTION, *SHIPPED)
    assert list_models(backbones=True) == [*PUBLISHED, *BACKBONES, *MMDETECTION, *SHIPPED]
    assert list_models(task="backbone") == BACKBONES


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_detector_has_every_fact(name: str) -> None:
    entry = info(name)
    assert entry.name == name
    assert entry.config is not None
    assert entry.log_url is not None
    assert resolve_path(entry.config).is_file()
    assert resolve_path(entry.config).stem in entry.aliases
    assert entry.artifact.filename.removesuffix(".pth") in entry.aliases
    assert entry.log_url.endswith(f"/{resolve_path(entry.config).stem}.txt")
    assert entry.method
    assert entry.source
    assert "Apache-2.0" in entry.licence
    assert entry.categories is not None
    assert len(entry.categories.things) == 80
    assert (len(entry.categories.stuff) == 54) is (entry.task == "panoptic segmentation")
    row = entry.reported[0]
    assert (row.dataset, row.split) == ("COCO", "val2017")
    assert (row.mask is None) is (entry.task == "object detection")
    assert (row.pq is None) is (entry.task != "panoptic segmentation")
    assert entry.pretrained_from in BACKBONES
    trained_from = info(entry.pretrained_from)
    assert entry.backbone.removesuffix("-DCNv2") == trained_from.backbone


@pytest.mark.parametrize("name", [*PUBLISHED, *BACKBONES])
def test_addresses_are_clean_and_carry_the_published_hash(name: str) -> None:
    artifact = info(name).artifact
    for url in artifact.urls:
        assert url == url.strip()
        if urlsplit(url).scheme == "hf":
            assert re.fullmatch(r"hf://timm/resnest\d+[de]\.in1k/model\.safetensors", url)
            continue
        assert urlsplit(url).scheme == "https"
        assert url.endswith(f"/{artifact.filename}")
        published = re.search(r"-([0-9a-f]{8})\.pth$", url)
        assert artifact.sha256_prefix == (published and published[1])


def test_files_without_a_published_hash_are_known() -> None:
    unverified = [name for name in list_models(backbones=True) if not info(name).artifact.expected_sha256]
    assert unverified == [
        "faster_rcnn_resnest50_dcn",
        "mask_cascade_resnest200_3x",
        "resnet50_msra",
        "resnet101_msra",
        *(f"resnest{depth}_timm" for depth in (50, 101, 200, 269)),
    ]


def test_parameter_counts_are_those_of_the_original_models() -> None:
    golden = Path(__file__).parents[1] / "golden" / "state_dicts.json.gz"
    counts = json.loads(gzip.decompress(golden.read_bytes()))["params"]
    assert {name: info(name).parameters for name in PUBLISHED} == {
        name: count["params"] for name, count in counts.items()
    }


def test_results_carry_their_conditions() -> None:
    assert info("mask_cascade_resnest200_dcn_3x").reported == (
        Reported("COCO", "val2017", tta=False, box=50.91, mask=44.50),
        Reported("COCO", "test-dev2019", tta=True, box=53.30, mask=47.10),
    )
    assert info("panoptic_resnest200_3x").reported == (
        Reported("COCO", "val2017", tta=None, box=51.00, mask=43.68, pq=47.90),
    )
    assert info("faster_rcnn_resnest50_dcn").reported == (Reported("COCO", "val2017", tta=False, box=44.11),)


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", "resnet50_msra"),
        ("https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-101.pkl", "resnet101_msra"),
        (
            "https://s3.us-west-1.wasabisys.com/resnest/detectron/resnest200_detectron-02644020.pth",
            "resnest200_imagenet",
        ),
        ("resnest101_detectron-486f69a8.pth", "resnest101_imagenet"),
    ],
)
def test_the_weights_that_configs_start_from_are_entries(weights: str, name: str) -> None:
    assert info(weights).name == name


def test_listing_imports_neither_torch_nor_the_network() -> None:
    code = (
        "import sys; from resnest_zoo.registry import list_models; assert len(list_models()) == 31;"
        "print([name for name in ('torch', 'requests', 'tqdm', 'yaml', 'filelock') if name in sys.modules])"
    )
    root = Path(registry.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
