"""The packages of the extra `ray`, imported when they are asked for."""

from __future__ import annotations

from typing import Any

from resnest_zoo.extras import load_extra


def imported(name: str) -> Any:
    """One of them: ray, ray.data, pyarrow, fsspec.

    Raises:
        ZooError: it is not installed, or cannot be loaded.
    """
    return load_extra(name, "ray")
