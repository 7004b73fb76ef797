"""Configs and checkpoints by name in detectron2's PathManager.

resnest-zoo://mask_rcnn_resnest50.yaml      a whole config, as `get_cfg` gives it
resnest-zoo://mask_rcnn_resnest50           verified weights, as detectron2 reads them
resnest-zoo://out/best.safetensors          a checkpoint of a training here, a folder, an address, likewise
"""

from __future__ import annotations

import io
from typing import IO, Any

from iopath.common.file_io import PathHandler

from resnest_zoo.errors import ConfigError
from resnest_zoo.integrations.detectron2 import PREFIX, get_cfg
from resnest_zoo.integrations.detectron2.weights import convert_cached

_CONFIG = ".yaml"


class ZooHandler(PathHandler):  # type: ignore[misc]
    """Reads what stands behind `resnest-zoo://`; writes nothing there."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        return str(convert_cached(_name(path)))

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        self._check_kwargs(kwargs)
        if set(mode) - set("rbt"):
            raise ConfigError(f"{path}: is read only, write to a file instead")
        name = _name(path)
        if not name.endswith(_CONFIG):
            return convert_cached(name).open(mode)
        text: str = get_cfg(name.removesuffix(_CONFIG)).dump()
        return io.BytesIO(text.encode()) if "b" in mode else io.StringIO(text)

    # What a wrong name is called instead, `_open` says better than "does not exist".
    def _isfile(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return True

    _exists = _isfile


def _name(path: str) -> str:
    """What follows the prefix; urllib drops the slashes in front of an absolute path."""
    return path.removeprefix(PREFIX).removeprefix("//")
