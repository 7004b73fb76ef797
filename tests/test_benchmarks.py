"""The harness: weights and pictures defined by names and seeds, files to serve, and exit codes to trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import resnest_zoo
from benchmarks import fill, golden, verify
from resnest_zoo.registry import Artifact, Entry, info, register

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
    values = golden.values(key, shape)
    assert values.shape == shape
    assert values.dtype == np.float64
    assert values.flat[0] == pytest.approx(first, rel=1e-14)
    assert values.flat[-1] == pytest.approx(last, rel=1e-14)


def test_pictures_follow_from_their_seeds() -> None:
    picture = golden.image(24, 32, 3)
    assert picture.shape == (3, 24, 32)
    assert picture.dtype == np.uint8
    assert picture[:, 0, 0].tolist() == [82, 93, 155]
    assert picture[:, 12, 16].tolist() == [84, 36, 0]
    assert int(picture.sum()) == 249_243
    assert int(golden.image(24, 32, 0).sum()) == 338_292


def test_samples_are_spread_over_the_whole_and_end_with_mean_and_deviation() -> None:
    squares = np.arange(1000.0).reshape(10, 100) ** 2
    got = golden.samples(squares)
    at = [k * 999 // 63 for k in range(64)]
    assert got[:64].tolist() == [float(k) ** 2 for k in at]
    assert got[64] == pytest.approx(sum(k**2 for k in range(1000)) / 1000)
    mean_square = sum((k**2 - got[64]) ** 2 for k in range(1000)) / 1000
    assert got[65] == pytest.approx(mean_square**0.5)
    assert len(golden.samples(np.arange(3.0))) == 66


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
            expected = torch.from_numpy(golden.values(key, tuple(value.shape))).float()
            assert torch.equal(value, expected), key
    resnest_zoo.get("tiny_mask", weights=path)


@pytest.mark.parametrize("name", ["no_such_model", "resnet50_msra"])
def test_fill_refuses_what_is_no_detector(name: str, tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        fill.main([name, "--output", str(tmp_path)])
    assert caught.value.code == 2
    assert name in capsys.readouterr().err


# --- verify --------------------------------------------------------------------------------------------


def write_golden(folder: Path, kind: str, **changes: Any) -> Path:
    """A golden file of a tiny model, its outputs taken from the model by other code than the checker's."""
    name = f"tiny_{kind}"
    model = golden.filled_model(name).double()
    seen: dict[str, Any] = {}
    model.backbone.register_forward_hook(lambda *call: seen.update(call[2]))
    model.proposal_generator.register_forward_hook(lambda *call: seen.update(proposals=call[2][0]))
    picture = torch.from_numpy(golden.image(64, 96, 0))
    with torch.inference_mode():
        (found,) = model([picture], output_sizes=[(80, 120)])
    stored: dict[str, Any] = {"size": [64, 96], "seed": 0, "out_size": [80, 120]}
    for level in ("p2", "p6"):
        flat = seen[level].flatten().numpy()
        chosen = [flat[k * (flat.size - 1) // 63] for k in range(64)]
        stored[f"feature_{level}"] = np.array([*chosen, flat.mean(), flat.std()])
    stored["proposals"] = seen["proposals"].boxes[:20].numpy()
    stored["objectness"] = seen["proposals"].objectness_logits[:20].numpy()
    stored |= {"boxes": found.boxes.numpy(), "scores": found.scores.numpy(), "classes": found.classes.numpy()}
    if found.masks is not None:
        first = found.masks[:4].numpy()
        stored |= {"mask_area": found.masks.sum((1, 2)).numpy(), "mask_bits": np.packbits(first)}
        stored["mask_shape"] = first.shape
    if found.panoptic is not None:
        stored |= {
            "sem_seg": found.panoptic.semantic.numpy(),
            "panoptic_seg": found.panoptic.segment_map.numpy(),
        }
        rows = []
        for s in found.panoptic.segments:
            row: dict[str, Any] = {"id": s.id, "isthing": s.is_thing, "category_id": s.class_index}
            rows.append(row | ({"instance_id": s.instance} if s.is_thing else {"area": s.area}))
        stored["segments"] = json.dumps(rows)
    path = folder / f"{name}.npz"
    np.savez(path, **(stored | changes))
    return path


def run(*argv: str | Path) -> int:
    return verify.main(["--level", "golden", *map(str, argv)])


@pytest.mark.usefixtures("tiny")
def test_true_outputs_pass_with_one_line_for_each_file(tmp_path: Path, capsys: Capture) -> None:
    for kind in ("detection", "panoptic"):
        write_golden(tmp_path, kind)
    assert run("--golden-dir", tmp_path, "--all") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("pass  tiny_detection.npz ")
    for kind in ("features", "proposals", "objectness", "boxes", "scores", "classes"):
        assert f"  {kind} " in lines[0]
    for kind in ("mask_area", "mask_bits", "sem_seg", "panoptic_seg", "segments"):
        assert f"  {kind} 0.0e+00" in lines[1]
        assert kind not in lines[0]
    assert lines[2] == "2 golden files, float64 on cpu: 0 failed"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("feature_p6", lambda a: a + 1e-4 * a.std()),
        ("proposals", lambda a: a + np.array([0, 0, 0, 2e-4])),
        ("objectness", lambda a: a * (1 + 1e-5)),
        ("boxes", lambda a: a + 2e-4),
        ("scores", lambda a: a + 2e-7),
        ("scores", lambda a: a * np.nan),
        ("classes", lambda a: np.append(a[:-1], a[-1] + 1)),
        ("boxes", lambda a: a[:-1]),
        ("mask_area", lambda a: a + 3),
        ("mask_bits", lambda a: a ^ 255),
    ],
)
def test_a_planted_difference_fails_by_name(key: str, change: Any, tmp_path: Path, capsys: Capture) -> None:
    path = write_golden(tmp_path, "mask")
    with np.load(path) as stored:
        content = dict(stored)
    np.savez(path, **(content | {key: change(content[key])}))
    assert run("--golden-dir", tmp_path, "tiny_*") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAIL  tiny_mask.npz")
    assert lines[1].startswith(f"      {key}: ")
    assert lines[-1].endswith(": 1 failed")


@pytest.mark.usefixtures("tiny")
def test_one_broken_file_does_not_hide_the_others(tmp_path: Path, capsys: Capture) -> None:
    whole = write_golden(tmp_path, "mask").read_bytes()
    (tmp_path / "tiny_cascade.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tiny_detection.npz").write_bytes(b"")
    np.savez(tmp_path / "tiny_panoptic.npz", seed=0)
    assert run("--golden-dir", tmp_path, "--all") == 1
    out = capsys.readouterr().out
    assert out.count("FAIL  ") == out.count("cannot be checked: ") == 3
    assert "pass  tiny_mask.npz" in out
    assert "Traceback" not in out


@pytest.mark.usefixtures("tiny")
def test_a_file_of_an_unknown_model_fails(tmp_path: Path, capsys: Capture) -> None:
    write_golden(tmp_path, "mask").rename(tmp_path / "tiny_msk.npz")
    assert run("--golden-dir", tmp_path, "--all") == 1
    assert (
        "FAIL  tiny_msk.npz: No model is called 'tiny_msk'. Did you mean 'tiny_mask'"
        in capsys.readouterr().out
    )


@pytest.mark.usefixtures("tiny")
def test_two_fills_are_the_same_to_the_byte() -> None:
    first, second = (golden.filled_model("tiny_mask").state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(int(first[key]) == 0 for key in first if key.endswith("num_batches_tracked"))


@pytest.mark.usefixtures("tiny")
def test_every_name_needs_a_file(tmp_path: Path, capsys: Capture) -> None:
    write_golden(tmp_path, "mask")
    assert run("--golden-dir", tmp_path, "tiny_mask", "yolo*") == 1
    out = capsys.readouterr().out
    assert "FAIL  yolo*: no golden file matches" in out
    assert "pass  tiny_mask.npz" in out


def test_an_empty_folder_is_no_success(tmp_path: Path, capsys: Capture) -> None:
    assert run("--golden-dir", tmp_path, "--all") == 1
    assert "no golden files" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--all", "faster_rcnn_resnet50"],
        ["--all", "--golden-dir", "no/such/folder"],
        ["--all", "--dtype", "int8"],
    ],
)
def test_wrong_usage_is_2(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*argv)
    assert caught.value.code == 2
    assert "usage: python -m benchmarks.verify" in capsys.readouterr().err


@pytest.mark.usefixtures("own_registry")
def test_opts_of_a_file_reach_the_model(tiny: Path, tmp_path: Path, capsys: Capture) -> None:
    path = write_golden(tmp_path, "detection")
    with np.load(path) as stored:
        content = dict(stored)
    opts = json.dumps(["TEST.DETECTIONS_PER_IMAGE", "2"])
    kept = {key: content[key][:2] for key in ("boxes", "scores", "classes")}
    np.savez(path, **(content | kept | {"opts": opts}))
    assert run("--golden-dir", tmp_path, "--all") == 0, capsys.readouterr().out


@pytest.mark.usefixtures("own_registry")
def test_a_backbone_has_no_golden(tmp_path: Path, capsys: Capture) -> None:
    register(Entry("bone", "backbone", Artifact("bone.pth")))
    np.savez(tmp_path / "bone.npz", seed=0, size=[8, 8])
    assert run("--golden-dir", tmp_path, "--all") == 1
    assert "FAIL  bone.npz" in capsys.readouterr().out
