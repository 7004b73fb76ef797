"""Config files: safe YAML, `_BASE_` chains, and the configs that come with the package.

YAML is read as inert data. The three tags that detectron2 itself writes into a dumped config are
understood (a CfgNode is a mapping, a tuple a tuple); every other Python tag is refused and nothing runs.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from resnest_zoo.config import keys
from resnest_zoo.config.schema import KEYS, Config
from resnest_zoo.errors import ConfigError, shown

logger = logging.getLogger(__name__)

_PACKAGED = Path(__file__).parent.parent / "configs"
_CFG_NODES = ("detectron2.config.config.CfgNode", "fvcore.common.config.CfgNode", "yacs.config.CfgNode")


def load_config(path: str | Path, overrides: Sequence[str] | Mapping[str, object] = ()) -> Config:
    """Read a YAML file, the files it builds on, and overrides.

    Args:
        path: a packaged config, such as "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_syncbn_1x.yaml", or a
            file. The packaged one wins, so that a model does not depend on the working directory; an
            absolute path, or one with "..", always means the file.
        overrides: `["KEY", "VALUE", ...]` or a mapping, see `Config.override`.

    Raises:
        ConfigError: a file is missing, unreadable or not YAML, a key is unknown, a value is refused, or no
            detector can be built from the result. The message names the file and the key.
    """
    file = Path(path)
    packaged = _find_packaged(file)
    if packaged:
        if file.is_file() and not file.samefile(packaged):
            logger.warning("%s: reading the packaged config; write an absolute path for the file here", path)
        file = packaged
    elif not file.is_file():
        raise ConfigError(f"{path}: no such file, and no packaged config of that name{_nearest(file)}")
    flat = {**_load_chain(file, ()), **KEYS.accept_options(overrides)}
    config = keys.apply(Config(), flat)
    config.check(str(path))
    return config


def parse_config(text: str, source: str) -> Config:
    """Read a whole config from YAML, such as `Config.dump` gives; without `_BASE_`.

    Args:
        text: the YAML.
        source: where it comes from, for messages.

    Raises:
        ConfigError: as `load_config`.
    """
    tree = _parse(text.encode(), source)
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected sections such as MODEL, found a {type(tree).__name__}")
    config = keys.apply(Config(), KEYS.accept_tree(tree, source))
    config.check(source)
    return config


def resolve_path(name: str | Path) -> Path:
    """The file of a packaged config, from its name relative to the package's folder of configs.

    Raises:
        ConfigError: there is none of that name; the message suggests the closest.
    """
    file = _find_packaged(Path(name))
    if file is None:
        raise ConfigError(f"{name}: no packaged config of that name{_nearest(Path(name))}")
    return file


def _find_packaged(name: Path) -> Path | None:
    file = _PACKAGED / name
    return file if not name.is_absolute() and ".." not in name.parts and file.is_file() else None


def _nearest(name: Path) -> str:
    known = [file.relative_to(_PACKAGED).as_posix() for file in _PACKAGED.rglob("*.yaml")]
    close = difflib.get_close_matches(name.as_posix(), known, n=1)
    return f"; the nearest is {close[0]}" if close else ""


def _load_chain(file: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The flat config of a file on top of its bases; `above` are the files that led here."""
    chain = (*above, file.resolve())
    if file.resolve() in above:
        raise ConfigError("_BASE_ runs in a circle: " + " -> ".join(map(str, chain)))
    tree = read_yaml(file)
    if not isinstance(tree, dict):
        found = "nothing" if tree is None else f"a {type(tree).__name__}"
        raise ConfigError(f"{file}: expected sections such as MODEL, the file holds {found}")
    base = tree.pop("_BASE_", None)
    flat: dict[str, Any] = {}
    if base is not None:
        if not isinstance(base, str):
            raise ConfigError(f"{file}: _BASE_: expected the path of one file, got {shown(base)}")
        base_file = file.parent / os.path.expanduser(base)
        if not base_file.is_file():
            raise ConfigError(f"{file}: _BASE_: no such file: {base_file}")
        flat = _load_chain(base_file, chain)
    return {**flat, **KEYS.accept_tree(tree, str(file))}


def read_yaml(file: Path) -> object:
    """The data in a YAML file; merge keys (`<<`) are resolved.

    Raises:
        ConfigError: the file cannot be read, is not YAML, repeats a key or holds an unknown tag.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    return _parse(text, str(file))


def _parse(text: bytes, source: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (derives from SafeLoader)
    except keys.YAML_ERRORS as error:
        raise ConfigError(f"{source}: not YAML: {error}") from error


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys and reads the tags of detectron2's dumps as plain data.

    Not CSafeLoader, though faster: a file of 100,000 opening brackets crashes the interpreter in there.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not in construct_mapping: merging writes the merged keys into the nodes before that.
        node = super().compose_mapping_node(anchor)
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        repeated = [name for name, count in names.items() if count > 1]
        if repeated:
            raise yaml.composer.ComposerError(None, None, f"repeated keys {repeated}", node.start_mark)
        return node


def _construct_tuple(loader: _Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


def _construct_cfg_node(loader: _Loader, node: yaml.MappingNode) -> object:
    # `state` holds yacs' own flags (immutable, deprecated keys, ...).
    return loader.construct_mapping(node, deep=True).get("dictitems", {})


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _construct_tuple)
for _name in _CFG_NODES:
    _Loader.add_constructor(f"tag:yaml.org,2002:python/object/new:{_name}", _construct_cfg_node)
