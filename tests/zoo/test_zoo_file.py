from __future__ import annotations

from pathlib import Path

import pytest

from resnest_zoo.errors import RegistryError
from resnest_zoo.registry import Reported, info, list_models, load_zoo

pytestmark = pytest.mark.usefixtures("own_registry")

CONFIG = "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x.yaml"


def write_zoo(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text("MODEL: {}")
    path = folder / "zoo.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_entry_needs_task_config_and_weights(tmp_path: Path) -> None:
    path = write_zoo(tmp_path, "helmets: {task: object detection, config: mine.yaml, weights: runs/best.pth}")
    (entry,) = load_zoo(path)
    assert info("helmets") is entry
    assert entry.config == str(tmp_path / "mine.yaml")
    assert entry.artifact.path == tmp_path / "runs" / "best.pth"
    assert entry.categories is None


def test_every_key_is_read(tmp_path: Path) -> None:
    path = write_zoo(
        tmp_path,
        f"""
- name: helmets
  task: instance segmentation
  config: {CONFIG}
  weights: [https://host/best-1A2b.pth, https://other/best.pth]
  sha256: "1A2B3C4D"
  filename: helmets.pth
  size: 123
  classes: [helmet, vest, "no"]
  aliases: helmets-v1
  method: Mask R-CNN
  backbone: ResNeSt-50
  parameters: 1000
  pretrained_from: resnest50_imagenet
  reported: {{dataset: site, split: val, tta: false, box: 61, mask: 50.5}}
  log_url: https://host/log.txt
  licence: CC-BY-4.0
  source: https://host
""",
    )
    (entry,) = load_zoo(path)
    assert entry.config == CONFIG
    assert entry.artifact.filename == "helmets.pth"
    assert entry.artifact.urls == ("https://host/best-1A2b.pth", "https://other/best.pth")
    assert (entry.artifact.sha256_prefix, entry.artifact.size) == ("1a2b3c4d", 123)
    assert entry.categories is not None
    assert entry.categories.things == ("helmet", "vest", "no")
    assert entry.reported == (Reported("site", "val", tta=False, box=61.0, mask=50.5),)
    assert (entry.licence, entry.parameters) == ("CC-BY-4.0", 1000)
    assert info("helmets_V1") is entry


def test_entries_may_share_keys_by_merging(tmp_path: Path) -> None:
    path = write_zoo(
        tmp_path,
        "a: &a {task: backbone, weights: a.pth, licence: MIT, method: m}\n"
        "b: &b {<<: *a, weights: b.pth}\n"
        "c: {<<: *b, weights: c.pth, licence: none}\n",
    )
    entries = load_zoo(path)
    assert [entry.artifact.filename for entry in entries] == ["a.pth", "b.pth", "c.pth"]
    assert [entry.licence for entry in entries] == ["MIT", "MIT", "none"]


def test_a_full_hash_is_a_full_hash(tmp_path: Path) -> None:
    path = write_zoo(tmp_path, f"x: {{task: backbone, weights: https://host/x.pth, sha256: {'ab' * 32}}}")
    (entry,) = load_zoo(path)
    assert entry.artifact.sha256 == "ab" * 32


def test_unhashed_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    path = write_zoo(
        tmp_path,
        "a: {task: backbone, weights: https://host/a/model_final.pth}\n"
        "b: {task: backbone, weights: https://host/b/model_final.pth}\n",
    )
    first, second = load_zoo(path)
    assert first.artifact.filename != second.artifact.filename


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: {config: mine.yaml, weights: x.pth}", "the key 'task' is missing"),
        ("x: {task: object detection, config: mine.yaml}", "the key 'weights' is missing"),
        ("x: {task: object detection, weights: x.pth}", "needs a config"),
        ("x: {task: detection, config: mine.yaml, weights: x.pth}", "Did you mean 'object detection'"),
        ("x: {task: backbone, wieghts: x.pth}", "unknown key 'wieghts'. Did you mean 'weights'"),
        ("x: {task: backbone, weights: x.pth, license: MIT}", "Did you mean 'licence'"),
        (
            "x: {task: backbone, weights: x.pth, sha256: 12345678}",
            "sha256: expected text, got 12345678; digits need",
        ),
        ("x: {task: backbone, weights: x.pth, sha256: '123'}", "'123' is no SHA-256"),
        (
            "x: {task: backbone, weights: x.pth, size: big}",
            "size: expected a whole number above 0, got 'big'",
        ),
        ("x: {task: backbone, weights: x.pth, size: true}", "size: expected a whole number"),
        ("x: {task: backbone, weights: []}", "weights: expected text or a list of texts"),
        ("x: {task: backbone, weights: [a.pth, b.pth]}", "expected one path, or only URLs"),
        ("x: {task: backbone, weights: [https://host/a.pth, b.pth]}", "'b.pth' is no clean address"),
        ("x: {task: backbone, weights: ftp://host/a.pth}", "no clean address"),
        ("x: {task: backbone, weights: https://host/a.pth, filename: ../../a.pth}", "plain name"),
        ("x: {task: backbone, weights: x.pth, classes: [1, 2]}", "classes: expected text, got 1"),
        ("x: {task: backbone, weights: x.pth, reported: {box: 1}}", "reported: the key 'dataset' is missing"),
        (
            "x: {task: backbone, weights: x.pth, reported: {dataset: a, split: b, tta: maybe}}",
            "reported: tta: expected true, false or null",
        ),
        (
            "x: {task: backbone, weights: x.pth, reported: {dataset: a, split: b, tta: null, box: high}}",
            "reported: box: expected a number",
        ),
        (
            "x: {task: object detection, config: none.yaml, weights: x.pth}",
            "does not exist, nor does a packaged one",
        ),
        ("x: just text", "expected a mapping of keys"),
        ("1: {task: backbone, weights: x.pth}", "expected text, got 1"),
        ("- {task: backbone, weights: x.pth}", "entry None: expected text"),
        ("x y: {task: backbone, weights: x.pth}", "cannot name a model"),
        ("- 1", "expected a mapping of names to entries, or a list"),
        ("", "expected a mapping of names"),
        ("x: {task: backbone", "not YAML"),
        ("x: {task: backbone, weights: a}\nx: {task: backbone, weights: b}", "repeated keys ['x']"),
        ("x: {task: backbone, task: backbone, weights: a}", "repeated keys ['task']"),
        ("x: 2020-99-99", "not YAML"),
        ("x: {size: !!bool maybe}", "not YAML"),
        ("x: {size: !!int ''}", "not YAML"),
        ("x: {size: !!timestamp soon}", "not YAML"),
        ("x: " + "[" * 10_000, "not YAML"),
        ("x: {? [1] : 2}", "not YAML"),
        ("x: {<<: 1}", "not YAML"),
        ("x: &a {task: *a}", "task: expected text"),
        ("x: !!python/object/apply:os.system [exit]", "not YAML"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    path = write_zoo(tmp_path, text)
    with pytest.raises(RegistryError) as caught:
        load_zoo(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    ["bad: {task: nonsense, weights: x.pth}", "faster_rcnn_resnet50: {task: backbone, weights: x.pth}"],
)
def test_one_wrong_entry_keeps_the_others_out(tmp_path: Path, bad: str) -> None:
    before = list_models(backbones=True)
    path = write_zoo(tmp_path, f"good: {{task: backbone, weights: good.pth}}\n{bad}\n")
    with pytest.raises(RegistryError):
        load_zoo(path)
    assert list_models(backbones=True) == before


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"none\.yaml: cannot be read: No such file"):
        load_zoo(tmp_path / "none.yaml")
