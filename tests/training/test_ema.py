from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resnest_zoo.training.ema import EMA
from tests.training.small_run import small_config, small_data, small_model


def test_the_average_follows_the_plain_formula_and_counts_are_copied(pictures: Path) -> None:
    config = small_config()
    model = small_model(config, small_data(pictures, config)).double().train()
    ema = EMA(model, 0.75)
    name, count = "roi_heads.box_head.fc1.weight", "backbone.fpn_output2.norm.num_batches_tracked"
    expected = model.state_dict()[name].clone()
    for iteration in range(40):
        with torch.no_grad():
            for value in model.state_dict().values():
                value += 1
        ema.update(model, iteration)
        decay = min(0.75, (1 + iteration) / (10 + iteration))
        expected = decay * expected + (1 - decay) * model.state_dict()[name]
    torch.testing.assert_close(ema.model.state_dict()[name], expected, rtol=1e-12, atol=0)
    assert int(ema.model.state_dict()[count]) == 40
    assert not ema.model.training
    assert model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert ema.model.config == model.config


def test_early_on_the_first_weights_are_soon_forgotten(pictures: Path) -> None:
    config = small_config()
    model = small_model(config, small_data(pictures, config))
    ema = EMA(model, 0.9998)
    name = "roi_heads.box_head.fc1.bias"
    with torch.no_grad():
        model.state_dict()[name].fill_(1.0)
    ema.update(model, 0)
    assert ema.model.state_dict()[name].tolist() == pytest.approx([0.9] * 16)
