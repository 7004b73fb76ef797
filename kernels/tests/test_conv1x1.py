"""Products with packed panels."""

from __future__ import annotations

import numpy as np
import pytest
import resnest_zoo_kernels as kernels
from arrays import Buffer, address, close, panels, random


@pytest.mark.parametrize(("c", "out_c"), [(1, 1), (3, 17), (8, 54), (17, 33), (64, 64), (1024, 48)])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 13, 14, 15, 31])
@pytest.mark.parametrize("finished", [False, True])
def test_a_product_with_panels_is_that_of_numpy(rows, c, out_c, finished):
    x, weight, bias = random(rows, c), random(c, out_c, seed=1), random(out_c, seed=2)
    packed, y = panels(weight), Buffer(rows, out_c)
    conv = kernels.Conv(
        c, out_c, 1, address(packed), packed.size, address(bias) if finished else None, finished
    )
    for first in range(0, rows, 20):
        last = min(first + 20, rows)
        kernels.library().conv1x1(address(x), x.size, rows, conv, first, last, y.address, y.size)
    y.check()
    expected = x.astype(float) @ weight.astype(float)
    close(y.array, np.maximum(expected + bias, 0) if finished else expected)


def test_groups_and_short_buffers_are_refused():
    packed, x, y = Buffer(1, 8, 16), Buffer(4, 8), Buffer(4, 8)
    conv = kernels.Conv(8, 8, 2, packed.address, packed.size, None, 0)
    with pytest.raises(kernels.KernelError, match="not possible"):
        kernels.library().conv1x1(x.address, x.size, 4, conv, 0, 4, y.address, y.size)
    conv.groups = 1
    with pytest.raises(kernels.KernelError, match="fewer elements"):
        kernels.library().conv1x1(x.address, x.size, 5, conv, 0, 4, y.address, y.size)
