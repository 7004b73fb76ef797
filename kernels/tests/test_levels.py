"""Which instructions are used."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import resnest_zoo_kernels as kernels

ASK = """
import resnest_zoo_kernels as k
try:
    print(k.level())
except k.KernelError as error:
    print("KernelError", error)
"""


def test_a_level_that_is_asked_for_is_used(level):
    assert kernels.level() == level
    widths = {"portable": {1, 4}, "neon": {4}, "avx2": {8}, "avx512": {16}}
    assert kernels.vector_width() in widths[level]


def test_an_unknown_level_is_refused_by_name():
    with pytest.raises(kernels.KernelError, match=r"expected one of .*, got 'mmx'"):
        kernels.use_level("mmx")


@pytest.mark.parametrize(
    ("asked", "said"), [(kernels.levels()[0], kernels.levels()[0]), ("mmx", "KernelError")]
)
def test_the_environment_chooses(asked, said):
    environment = {**os.environ, "RESNEST_ZOO_KERNELS_LEVEL": asked}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(said)


def test_an_unknown_function_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no function 'nothing'"):
        kernels.library().nothing  # noqa: B018
