"""The packages of the extra `ray`, imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from resnest_zoo.errors import ZooError


def imported(name: str) -> Any:
    """One of them: ray, ray.data, pyarrow, fsspec.

    Raises:
        ZooError: it is not installed.
    """
    top = name.partition(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != top:  # it is there, but broken
            raise
        raise ZooError(f"{top} is not installed: pip install 'resnest-zoo[ray]'") from error
