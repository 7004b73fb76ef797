"""Weights and pictures defined by names and seeds, and checkpoints of them to serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import resnest_zoo
from benchmarks import fill, golden, golden_values
from resnest_zoo.registry import info

Capture = pytest.CaptureFixture[str]


# --- definitions ---------------------------------------------------------------------------------------

# Computed by the script that made the stored outputs, not by this package.
VALUES = [
    ("backbone.bottom_up.stem.conv1.weight", (8, 3, 7, 7), 0.0027402572045848853, -0.005393100216076489),
    ("backbone.bottom_up.stem.conv1_1.weight", (8, 3, 3, 3), -0.8604652696933168, -0.15645171574091551),
    ("backbone.bottom_up.res2.0.conv3.norm.weight", (4,), 0.1478413764585575, 0.1363345346711542),
    ("backbone.bottom_up.res2.0.conv1.norm.weight", (4,), 0.8885552050214183, 1.1165146350807909),
    ("backbone.bottom_up.res2.0.conv2.bn0.weight", (4,), 0.9311000655056185, 1.142324400226049),
    ("backbone.bottom_up.res2.0.conv1.norm.running_var", (4,), 1.4089866463752956, 1.154341794917197),
    ("backbone.bottom_up.res2.0.conv1.norm.running_mean", (4,), -0.11292202371051552, -0.008619357641306008),
    ("roi_heads.box_predictor.cls_score.weight", (5, 16), -0.005876912397379133, -0.7171495127618721),
    ("roi_heads.box_predictor.cls_score.bias", (5,), 0.16831019204746542, -0.1488012132807461),
    ("backbone.fpn_lateral2.weight", (4, 4, 1, 1), 0.13533122502849257, -0.7675081693025566),
    (
        "backbone.bottom_up.res3.0.conv2_offset.weight",
        (4, 4, 3, 3),
        -0.0643911767582287,
        -0.07559963589023495,
    ),
    (
        "proposal_generator.rpn_head.anchor_deltas.weight",
        (4, 4, 1, 1),
        0.05135037954686522,
        0.07798014894239393,
    ),
    (
        "proposal_generator.rpn_head.objectness_logits.weight",
        (4, 4, 1, 1),
        2.842609995430638,
        2.555796074111892,
    ),
    ("roi_heads.box_predictor.bbox_pred.weight", (4, 4), 0.030456759985295633, 0.08346142714322047),
    ("roi_heads.mask_head.predictor.weight", (4, 4, 1, 1), 0.4299374363017719, -0.6513931497283219),
    ("sem_seg_head.predictor.weight", (4, 4, 1, 1), -0.9585060927884372, 3.151359102853017),
]


@pytest.mark.parametrize(("key", "shape", "first", "last"), VALUES)
def test_weights_follow_from_their_names(key: str, shape: tuple[int, ...], first: float, last: float) -> None:
    values = golden_values.values(key, shape)
    assert values.shape == shape
    assert values.dtype == np.float64
    assert values.flat[0] == pytest.approx(first, rel=1e-14)
    assert values.flat[-1] == pytest.approx(last, rel=1e-14)


def test_pictures_follow_from_their_seeds() -> None:
    picture = golden_values.image(24, 32, 3)
    assert picture.shape == (3, 24, 32)
    assert picture.dtype == np.uint8
    assert picture[:, 0, 0].tolist() == [82, 93, 155]
    assert picture[:, 12, 16].tolist() == [84, 36, 0]
    assert int(picture.sum()) == 249_243
    assert int(golden_values.image(24, 32, 0).sum()) == 338_292


def test_samples_are_spread_over_the_whole_and_end_with_mean_and_deviation() -> None:
    squares = np.arange(1000.0).reshape(10, 100) ** 2
    got = golden_values.samples(squares)
    at = [k * 999 // 63 for k in range(64)]
    assert got[:64].tolist() == [float(k) ** 2 for k in at]
    assert got[64] == pytest.approx(sum(k**2 for k in range(1000)) / 1000)
    mean_square = sum((k**2 - got[64]) ** 2 for k in range(1000)) / 1000
    assert got[65] == pytest.approx(mean_square**0.5)
    assert len(golden_values.samples(np.arange(3.0))) == 66


# --- checkpoints to serve ------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_registry")
def test_a_filled_checkpoint_has_the_published_layout(tiny: Path, tmp_path: Path, capsys: Capture) -> None:
    assert fill.main(["tiny_mask", "tiny_detection", "--output", str(tmp_path / "mirror")]) == 0
    names = [info(name).artifact.filename for name in ("tiny_mask", "tiny_detection")]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "mirror" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "mirror").iterdir()) == sorted(names)
    path = tmp_path / "mirror" / names[0]
    assert path.read_bytes()[:2] == b"\x80\x02"  # a stream of pickles, as of 2020, no zip
    content = torch.load(path, weights_only=True)
    assert set(content) == {"model", "optimizer", "scheduler", "iteration"}
    model = resnest_zoo.get("tiny_mask", pretrained=False)
    anchors = {f"proposal_generator.anchor_generator.cell_anchors.{level}" for level in range(5)}
    assert set(content["model"]) == set(model.state_dict()) | anchors
    for key, value in content["model"].items():
        if key not in anchors and not key.endswith("num_batches_tracked"):
            expected = torch.from_numpy(golden_values.values(key, tuple(value.shape))).float()
            assert torch.equal(value, expected), key
    resnest_zoo.get("tiny_mask", weights=path)


@pytest.mark.slow
def test_fill_writes_mmdetections_layout_for_its_entries(tmp_path: Path) -> None:
    name = "faster_rcnn_resnest50_mmdet"
    fill.main(
        ["faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco", "--output", str(tmp_path / "mirror")]
    )
    path = tmp_path / "mirror" / info(name).artifact.filename
    content = torch.load(path, weights_only=True)
    assert set(content) == {"meta", "state_dict"}
    assert "backbone.stem.0.weight" in content["state_dict"]
    model = resnest_zoo.get(name, weights=path)
    key = "backbone.bottom_up.stem.conv1_1.weight"
    expected = torch.from_numpy(golden_values.values(key, (32, 3, 3, 3))).float()
    assert torch.equal(model.state_dict()[key], expected)


@pytest.mark.parametrize("name", ["no_such_model", "resnet50_msra"])
def test_fill_refuses_what_is_no_detector(name: str, tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        fill.main([name, "--output", str(tmp_path)])
    assert caught.value.code == 2
    assert name in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_two_fills_are_the_same_to_the_byte() -> None:
    first, second = (golden.filled_model("tiny_mask").state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(int(first[key]) == 0 for key in first if key.endswith("num_batches_tracked"))
