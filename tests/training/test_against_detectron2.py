"""Twenty steps of our loop and of detectron2's own, from the same weights on the same batches in float32.

Runs where detectron2 is installed, on the CPU, where both give the same bits: `python -m pytest -m oracle`.
Only the sums that make a loss of its terms may have another order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_zoo.config import load_config
from resnest_zoo.data.loading import build_training_loader
from resnest_zoo.data.samples import Sample
from tests.training.small_run import MASKS, PANOPTIC, SMALL, run, small_data, small_model

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]  # of detectron2's own code

CONFIG_FILE = Path(__file__).parents[2] / "resnest_zoo" / "configs" / "Base-RCNN-FPN.yaml"
STEPS = 20
# detectron2 itself knows neither ResNeSt nor 14 layers; it has them from here in the last two kinds.
NARROW = {key: "BN" if value == "SyncBN" else value for key, value in SMALL.items() if "RADIX" not in key} | {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.BACKBONE.FREEZE_AT": 2,
    # Every anchor and proposal takes part: two programs never draw the same ones at random.
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 4_000,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 500,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 1.0,
    "SOLVER.WARMUP_ITERS": 5,
    "SOLVER.MAX_ITER": STEPS,
    "SOLVER.STEPS": (12, 17),
    "SOLVER.WEIGHT_DECAY_NORM": 0.001,
    "SOLVER.BIAS_LR_FACTOR": 2.0,
    "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
}
CLIPPED = {
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.5,
}
FROZEN = {"MODEL.RESNETS.NORM": "FrozenBN", "MODEL.FPN.NORM": "", "MODEL.ROI_BOX_HEAD.NORM": ""}
CASCADE = {"MODEL.ROI_HEADS.NAME": "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}
SEMANTIC = PANOPTIC | {"MODEL.SEM_SEG_HEAD.NORM": "GN", "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32}
RESNEST = {
    "MODEL.RESNETS.RADIX": 2,
    "MODEL.RESNETS.DEPTH": 14,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": (False, False, True, True),
    "MODEL.RESNETS.DEFORM_MODULATED": True,
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": 2,
}
KINDS: dict[str, dict[str, Any]] = {
    "faster": {},
    "mask": MASKS | FROZEN | CLIPPED,
    "cascade": MASKS | CASCADE,
    "panoptic": SEMANTIC | {"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR"},
    "resnest": RESNEST,
    "resnest panoptic": RESNEST | SEMANTIC | {"MODEL.SEM_SEG_HEAD.NORM": "SyncBN"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_steps_have_the_losses_and_end_in_the_weights_of_detectron2(
    kind: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("detectron2")
    # detectron2 shuffles also those that it takes all of, and another order of sums is another rounding.
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
    settings = NARROW | KINDS[kind]
    config = load_config(CONFIG_FILE.name, settings)
    data = small_data(pictures, config)
    start = small_model(config, data).state_dict()
    batches = build_training_loader(config, data, config.seed)
    expected, reference = train_with_detectron2(settings, start, map(detectron2_batch, batches))
    model, _ = run(pictures, tmp_path, config, log_period=1)

    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == STEPS
    assert expected.keys() == {name for name in rows[0] if name.startswith("loss_")}
    for name, values in expected.items():
        assert [row[name] for row in rows] == pytest.approx(values, rel=1e-4, abs=1e-6), name
    for name, weight in model.state_dict().items():
        assert torch.allclose(weight, reference[name], rtol=0, atol=1e-4), name
    learned = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert not any(torch.equal(reference[name], start[name]) for name in learned)


def train_with_detectron2(
    settings: dict[str, Any], weights: dict[str, Tensor], batches: Iterable[list[dict[str, Any]]]
) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Each loss at every step, and the state afterwards."""
    from detectron2.config import get_cfg
    from detectron2.engine import SimpleTrainer, hooks
    from detectron2.modeling import build_model
    from detectron2.solver import build_lr_scheduler, build_optimizer

    from resnest_zoo.integrations.detectron2 import FPN_BACKBONE, SEMANTIC_HEAD, register

    register()
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIG_FILE))
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    if cfg.MODEL.RESNETS.RADIX > 1:
        cfg.MODEL.BACKBONE.NAME = FPN_BACKBONE
        cfg.MODEL.SEM_SEG_HEAD.NAME = SEMANTIC_HEAD
    model = build_model(cfg).train()
    loaded = model.load_state_dict(weights, strict=False)
    assert not loaded.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in loaded.missing_keys)  # of frozen norms
    optimizer = build_optimizer(cfg, model)
    trainer = SimpleTrainer(model, batches, optimizer)
    schedule = hooks.LRScheduler(optimizer=optimizer, scheduler=build_lr_scheduler(cfg, optimizer))
    trainer.register_hooks([schedule])
    trainer.train(0, STEPS)
    histories = trainer.storage.histories()
    losses = {k: [value for value, _ in h.values()] for k, h in histories.items() if k.startswith("loss_")}
    return losses, model.state_dict()


def detectron2_batch(samples: list[Sample]) -> list[dict[str, Any]]:
    from detectron2.structures import Boxes, Instances, PolygonMasks

    batch = []
    for image, targets, *_ in samples:
        fields = {"gt_boxes": Boxes(targets.boxes), "gt_classes": targets.classes}
        if targets.masks is not None:
            polygons = [[np.array(polygon) for polygon in instance] for instance in targets.masks]
            fields["gt_masks"] = PolygonMasks(polygons)
        instances = Instances((image.shape[1], image.shape[2]), **fields)
        batch.append({"image": image, "instances": instances, "sem_seg": targets.semantic})
    return batch
