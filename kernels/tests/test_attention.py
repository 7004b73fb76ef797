"""The sums and the mix of split attention."""

from __future__ import annotations

import numpy as np
import pytest
import resnest_zoo_kernels as kernels
from arrays import Buffer, address, close, random


@pytest.mark.parametrize("splits", [1, 2, 4])
@pytest.mark.parametrize("channels", [3, 8, 17, 54, 64])
@pytest.mark.parametrize("pixels", [0, 1, 15, 16, 133])
def test_sums_and_mix_are_those_of_numpy(pixels, channels, splits):
    library = kernels.library()
    x, attention = random(pixels, splits, channels), random(splits, channels, seed=1)
    sums, y = Buffer(channels, dtype=np.float64), Buffer(pixels, channels)
    given = (address(x), x.size, pixels, splits, channels)
    library.attention_sums(*given, 0, pixels, sums.address)
    for first in range(0, pixels, 50):
        last = min(first + 50, pixels)
        library.attention_mix(*given, address(attention), first, last, y.address, y.size)
    sums.check()
    y.check()
    close(sums.array, x.astype(float).sum(axis=(0, 1)), 1e-6)
    close(y.array, (x.astype(float) * attention).sum(axis=1), 1e-6)


def test_short_buffers_are_refused():
    x, attention, y = Buffer(4, 16), Buffer(2, 8), Buffer(4, 8)
    for size, out, last in ((x.size - 1, y.size, 4), (x.size, y.size - 1, 4), (x.size, y.size, 5)):
        with pytest.raises(kernels.KernelError):
            kernels.library().attention_mix(
                x.address, size, 4, 2, 8, attention.address, 0, last, y.address, out
            )
    assert (y.array == 77).all()
