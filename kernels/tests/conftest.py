"""Each test runs at every level of instructions that this processor has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import resnest_zoo_kernels as kernels


@pytest.fixture(params=kernels.levels(), autouse=True)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    before = kernels.level()
    kernels.use_level(request.param)
    yield request.param
    kernels.use_level(before)
