"""The shared library, its functions with their types, and which level of instructions it uses."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from ctypes import POINTER, c_double, c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

VARIABLE = "RESNEST_ZOO_KERNELS_LEVEL"
# By their numbers in `kernels.h`. On 64-bit ARM the portable level is NEON.
LEVELS = ("portable", "avx2", "avx512")

_MEANINGS = {
    1: "an address is null",
    2: "a size, a stride or a count is not possible",
    3: "the range to compute lies outside the work",
    4: "a buffer holds fewer elements than the sizes need",
    5: "a value is not finite or too large, or an index points outside",
    6: "this processor lacks these instructions",
}


class KernelError(ValueError):
    """A kernel refused its arguments; nothing was written."""


class Conv(ctypes.Structure):
    """Channels, weights and what comes after a convolution: `struct rzk_conv`."""

    _fields_ = [
        *((name, c_int64) for name in ("c", "out_c", "groups")),
        ("weights", c_void_p),
        ("weights_size", c_int64),
        ("bias", c_void_p),
        ("relu", c_int64),
    ]


class Grid(ctypes.Structure):
    """Tiles over the output of a 3 x 3 convolution: `struct rzk_grid`."""

    _fields_ = [(name, c_int64) for name in ("n", "h", "w", "y0", "ny", "ey", "x0", "nx", "ex")]


class Deform(ctypes.Structure):
    """Sizes and strides of a deformable convolution: `struct rzk_deform`."""

    _fields_ = [
        *((name, c_int64) for name in ("n", "h", "w", "out_h", "out_w")),
        *((name, c_int64) for name in ("kernel", "stride", "padding", "dilation", "deform_groups")),
        ("offset_strides", c_int64 * 4),
        ("mask_strides", c_int64 * 4),
    ]


_P, _I = c_void_p, c_int64
# Name without its prefix: types of the arguments. All of these return a status.
_SIGNATURES: dict[str, list[Any]] = {
    "conv3x3_filters": [_P, _I, _I, _I, _I, _I, _I, _P, _I],
    "conv3x3": [_P, _I, POINTER(Grid), POINTER(Conv), _I, _I, _P, _I, _P, _I],
    "deform_conv": [_P, _I, _P, _I, _P, _I, POINTER(Deform), POINTER(Conv), _I, _I, _P, _I, _P, _I],
    "roi_align": [_P, _I, _I, _I, _I, _I, _P, _I, _I, c_float, _I, _I, _I, _P, _I, _P, _I],
    "attention_sums": [_P, _I, _I, _I, _I, _I, _I, _P],
    "attention_mix": [_P, _I, _I, _I, _I, _P, _I, _I, _P, _I],
    "resample_table": [_I, _I, _P, _I],
    "resample_across": [_P, _I, POINTER(_I), _I, _I, _I, _I, _P, _I, _I, _I, _P, _I, _P, _I],
    "resample_down": [_P, _I, _I, _I, _I, _I, _P, _I, _I, _I, _P, _I],
    "mask_columns": [_P, _I, _I, _I, _P, _P],
    "mask_crossings": [_P, _I, _P, _I, _I, _I, _I, c_double, _P, _P, _P, _P, _I, _P, _I],
    "mask_runs": [_I, _I, _I, _P, _P, _P, _I, _P, _I, _P, _I, _P, _I, _P, _I, _P, _I, _P],
}
# Those that return something else.
_QUESTIONS: dict[str, tuple[list[Any], Any]] = {
    "best_level": ([], c_int),
    "level": ([], c_int),
    "set_level": ([c_int], c_int),
    "vector_width": ([], c_int),
    "conv3x3_work": ([POINTER(Grid), POINTER(Conv), _I], c_int64),
    "deform_conv_work": ([POINTER(Deform), POINTER(Conv), _I], c_int64),
    "resample_taps": ([_I, _I], c_int64),
    "resample_work": ([_I, _I, _I], c_int64),
    "roi_align_work": ([_I, _I, _I, _I], c_int64),
}


class Library:
    """The functions of `kernels.h` as attributes, without their prefix."""

    def __init__(self, path: Path) -> None:
        handle = ctypes.CDLL(str(path))
        for name, types in _SIGNATURES.items():
            function = handle[f"rzk_{name}"]
            function.argtypes, function.restype, function.errcheck = types, c_int, _check(name)
            setattr(self, name, function)
        for name, (types, result) in _QUESTIONS.items():
            function = handle[f"rzk_{name}"]
            function.argtypes, function.restype = types, result
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the kernels have no function {name!r}")


def _check(name: str) -> Any:
    def check(status: int, _function: object, _arguments: object) -> int:
        if status:
            raise KernelError(f"{name}: {_MEANINGS.get(status, f'status {status}')}")
        return status

    return check


@cache
def library() -> Library:
    """The library, loaded once, at the level that `RESNEST_ZOO_KERNELS_LEVEL` asks for.

    Raises:
        OSError: there is no library for this platform beside this file.
        KernelError: the level is unknown, or this processor lacks it.
    """
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    found = Library(Path(__file__).with_name(f"_kernels{suffix}"))
    if asked := os.environ.get(VARIABLE, "").strip():
        _use(found, asked, f"{VARIABLE}: ")
    return found


def use_level(name: str) -> None:
    """Use these instructions from now on, in all threads.

    Raises:
        KernelError: the name is unknown, or this processor lacks them.
    """
    _use(library(), name, "")


def _use(found: Library, name: str, where: str) -> None:
    known = _names()
    if name not in known or found.set_level(known.index(name)):
        here = ", ".join(known[: found.best_level() + 1])
        raise KernelError(f"{where}expected one of the levels of this processor ({here}), got {name!r}")


def level() -> str:
    """The instructions in use."""
    return _names()[library().level()]


def levels() -> tuple[str, ...]:
    """All that this processor has, the slowest first."""
    return _names()[: library().best_level() + 1]


def vector_width() -> int:
    """How many float32 are computed at once."""
    width: int = library().vector_width()
    return width


def _names() -> tuple[str, ...]:
    return ("neon",) if platform.machine().lower() in ("arm64", "aarch64") else LEVELS
