"""Compiled kernels for resnest-zoo, called on addresses: no array library, no PyTorch, no ABI of Python.

Every function takes addresses as `int` (`tensor.data_ptr()`, `array.ctypes.data`) and how many elements lie
behind them, checks its arguments before memory is touched, and raises `KernelError`. Sizes and layouts stand
in `csrc/kernels.h`. The interpreter's lock is not held meanwhile, so ranges of one call's work may run in
several threads.

The fastest instructions of the processor are used. The environment variable `RESNEST_ZOO_KERNELS_LEVEL`, or
`use_level`, asks for others.
"""

from __future__ import annotations

from resnest_zoo_kernels.library import (
    LEVELS,
    Conv,
    Deform,
    Grid,
    KernelError,
    level,
    levels,
    library,
    use_level,
    vector_width,
)

__version__ = "0.1.0"
__all__ = [
    "LEVELS",
    "Conv",
    "Deform",
    "Grid",
    "KernelError",
    "level",
    "levels",
    "library",
    "use_level",
    "vector_width",
]
