"""Packages of extras, imported where they are needed and nowhere else."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from resnest_zoo.errors import ZooError, cut, first_line


def load_extra(
    module: str, extra: str, *, where: str = "", called: str = "", kind: type[ZooError] = ZooError
) -> Any:
    """Import a module of an extra.

    Args:
        module: such as "onnx" or "ray.data".
        extra: that brings it, for the message.
        where: what the message begins with, such as a path.
        called: what people call the package, where that is not its module's name.
        kind: of the error.

    Raises:
        ZooError: of that kind: it is not installed, or its own import fails.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except Exception as error:  # beside packages that do not fit it, it may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            what = f"is not installed: pip install 'resnest-zoo[{extra}]'"
        else:
            reason = cut(first_line(error), 300)
            what = f"is installed but cannot be loaded ({reason}); `pip check` tells what does not fit"
        raise kind(f"{where}{': ' if where else ''}{called or package} {what}") from error
