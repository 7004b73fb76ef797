"""Optimised copies give what the reference gave, within what float32 is allowed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import golden
from tests.models.test_golden import FILES, QUICK_FLOAT32


def of_inference() -> list[Any]:
    """The golden files of all models; a step of training is not computed by a copy for inference.

    mmdetection's models are made of the same parts, and several scales are several pictures.
    """
    paths = [path for path in FILES if ".losses." not in path.name and ".tta." not in path.name]
    marks = [() if path.name == QUICK_FLOAT32 else pytest.mark.slow for path in paths]
    return [pytest.param(path, id=path.stem, marks=m) for path, m in zip(paths, marks, strict=True)]


@pytest.mark.usefixtures("all_threads")
@pytest.mark.parametrize("path", of_inference())
def test_the_optimised_copy_gives_what_the_reference_gave(path):
    outcome = golden.check(path, torch.float32, optimized=True)
    if outcome.failures:
        # Of one model, scores tie so nearly that float32 orders them otherwise: in the original, too.
        assert outcome.failures == golden.check(path, torch.float32).failures
    else:
        assert outcome.differences["boxes"] < 1e-3
        assert outcome.differences["scores"] < 1e-4
    assert outcome.differences.get("features", 0.0) < 2e-5  # none of augmentation
