"""Arrays for the kernels: guarded on both sides, so that a stray write is seen."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_GUARD = 64


class Buffer:
    """A writable array with sentinels before and behind it, itself full of them."""

    def __init__(self, *shape: int, dtype: Any = np.float32) -> None:
        count = int(np.prod(shape))
        self._all = np.full(count + 2 * _GUARD, 77, dtype)
        self.array: Array = self._all[_GUARD : _GUARD + count].reshape(shape)
        self.size = count

    @property
    def address(self) -> int:
        return self._all.ctypes.data + _GUARD * self._all.itemsize

    def check(self) -> None:
        """No sentinel around it was touched."""
        assert (self._all[:_GUARD] == 77).all()
        assert (self._all[_GUARD + self.size :] == 77).all()


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def panels(matrices: Array) -> Array:
    """(..., K, columns) to (..., panels, K, 16), filled with zeros."""
    *lead, k, columns = matrices.shape
    count = -(-columns // 16)
    filled = np.zeros((*lead, k, count * 16), np.float32)
    filled[..., :columns] = matrices
    return np.ascontiguousarray(np.moveaxis(filled.reshape(*lead, k, count, 16), -2, -3))


def address(array: Array | None) -> int | None:
    return None if array is None else array.ctypes.data


def close(got: Array, expected: Array, tolerance: float = 5e-6) -> None:
    assert got.shape == expected.shape
    if got.size:
        largest = max(float(np.abs(expected).max()), 1e-3)
        assert float(np.abs(got - expected).max()) <= tolerance * largest
