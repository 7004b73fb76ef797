"""A name becomes verified bytes, the bytes a detector, the detector a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from resnest_zoo import hub
from resnest_zoo.categories import Categories
from resnest_zoo.checkpoint import load_checkpoint, read_safetensors_metadata, write_safetensors
from resnest_zoo.config import Config, load_config
from resnest_zoo.errors import CheckpointError, ConfigError, UnknownModelError
from resnest_zoo.inference.predictor import PicturePredictor, check_score_threshold
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.registry import Entry, info

_NUM_CLASSES = "MODEL.ROI_HEADS.NUM_CLASSES"


def fetch(name: str, *, progress: bool | None = None) -> Path:
    """The verified file of an entry's weights, downloaded on first use.

    Args:
        name: name, alias or checkpoint URL of an entry, backbones included.
        progress: show a progress bar; None shows one if stderr is a terminal.

    Raises:
        UnknownModelError: no such entry.
        DownloadError: no source delivered the right bytes; see `resnest_zoo.hub.fetch`.
    """
    return hub.fetch(info(name).artifact, progress=progress)


def get(
    name: str,
    *,
    pretrained: bool = True,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    categories: Categories | Sequence[str] | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
    overrides: Sequence[str] = (),
) -> GeneralizedRCNN:
    """Build a detector of the zoo, in evaluation mode.

    Args:
        name: name or alias of an entry, such as "mask_rcnn_resnest50".
        pretrained: load the entry's published checkpoint; False leaves fresh random weights.
        weights: load this checkpoint instead, whatever `pretrained` says: a path, or an http(s) URL.
        num_classes: build heads for this many classes. Where that differs from the checkpoint, all but the
            class layers are loaded, and a warning names those.
        categories: what the classes mean: `Categories`, or names in class order; sets `num_classes` too.
            Names alone leave the stuff of a panoptic model as it is.
        device: where to put the model; the CPU by default.
        progress: show a progress bar on download; None shows one if stderr is a terminal.
        overrides: config keys and values in turn, such as ["TEST.DETECTIONS_PER_IMAGE", "300"].

    Returns:
        The model. Call it with a list of RGB uint8 tensors (3, H, W); see `GeneralizedRCNN.forward`.

    Raises:
        UnknownModelError: no entry of that name, or it is a backbone, which detects nothing.
        ConfigError: an override is wrong, `categories` and `num_classes` contradict each other, or there is
            no such device here.
        RegistryError: `weights` is an address, but not a clean http(s) one.
        DownloadError: the checkpoint cannot be had.
        CheckpointError: the checkpoint is unsafe, damaged or of another model.
    """
    entry = info(name)
    chosen = _device(device)
    if entry.config is None:
        raise UnknownModelError(
            f"{entry.name} is an ImageNet backbone that training starts from, not a detector; "
            f"resnest_zoo.fetch({entry.name!r}) gives its file"
        )
    cfg, named = _with_classes(entry, overrides, num_classes, categories)
    path = _checkpoint_path(entry, pretrained, weights, progress)
    if path is None:
        return build_model(cfg, named).to(chosen)
    # Where classes change, the checkpoint leaves layers to their fresh values; else it fills everything.
    changes_classes = num_classes is not None or named != entry.categories
    with torch.device("cpu" if changes_classes else "meta"):
        model = build_model(cfg, named)
    if not changes_classes:
        model = model.to_empty(device="cpu")
    try:
        load_checkpoint(model, path, replaceable=model.class_layers if changes_classes else ())
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_class_hint(error)}", error.clashes) from error
    return model.to(chosen)


def _with_classes(
    entry: Entry,
    overrides: Sequence[str],
    num_classes: int | None,
    categories: Categories | Sequence[str] | None,
) -> tuple[Config, Categories | None]:
    """The entry's config with the right number of classes, and their names as far as anyone gave them."""
    assert entry.config is not None
    named = entry.categories
    own = [_NUM_CLASSES, str(len(named.things))] if named else []
    cfg = load_config(entry.config, [*own, *overrides])
    if categories is not None:
        named = _named(categories, named)
        if num_classes not in (None, len(named.things)):
            raise ConfigError(f"num_classes is {num_classes}, but {len(named.things)} categories are named")
        num_classes = len(named.things)
    if num_classes is not None:
        cfg = cfg.override({_NUM_CLASSES: num_classes})
    count = cfg.model.roi_heads.num_classes
    if named is not None and len(named.things) != count:
        named = _with_stuff(Categories.numbered(count), named)
    return cfg, named


def _named(categories: Categories | Sequence[str], entrys: Categories | None) -> Categories:
    """The categories a caller gave; names alone are those of things, and stuff stays the entry's."""
    if isinstance(categories, Categories):
        return categories
    if isinstance(categories, str):
        raise ConfigError(f"categories: expected a list of names, got the text {categories!r}")
    return _with_stuff(Categories.named(tuple(categories)), entrys)


def _with_stuff(things: Categories, of: Categories | None) -> Categories:
    return things if of is None else replace(things, stuff=of.stuff, stuff_ids=of.stuff_ids)


def _class_hint(error: CheckpointError) -> str:
    """What to pass when the file's classes differ in number; else nothing."""
    sizes = [shape[0] for key, shape in error.clashes.items() if key.endswith("cls_score.bias")]
    if not sizes:
        return ""
    count = sizes[0] - 1  # one is the background
    return f"\n  A file of {count} classes: pass num_classes={count}, or categories= with their names."


def _checkpoint_path(
    entry: Entry, pretrained: bool, weights: str | Path | None, progress: bool | None
) -> Path | None:
    if weights is None:
        return (_find_twin(entry) or hub.fetch(entry.artifact, progress=progress)) if pretrained else None
    if isinstance(weights, str) and "://" in weights:
        return hub.fetch(hub.Artifact.from_url(weights), progress=progress)
    return Path(weights).expanduser()


def _device(device: torch.device | str | None) -> torch.device:
    """A usable device.

    Raises:
        ConfigError: there is no such device here.
    """
    try:
        chosen = torch.device("cpu" if device is None else device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {str(device)!r} cannot be used here: {reason}") from error
    return chosen


def convert(name: str, output: str | Path | None = None, *, progress: bool | None = None) -> Path:
    """Write an entry's checkpoint as safetensors, a format that cannot hold code.

    The original is fetched, verified and loaded strictly; what is written are the model's tensors. The
    metadata say what they were made from: `name`, `source`, `original_sha256`, `config_sha256`.

    Args:
        name: name or alias of a detector.
        output: the file to write; by default beside the original in the cache, where `get` prefers it.
        progress: show a progress bar on download; None shows one if stderr is a terminal.

    Raises:
        UnknownModelError: no such detector.
        DownloadError, CheckpointError: the original cannot be had or is not this entry's.
    """
    entry = info(name)
    model = get(entry.name, weights=hub.fetch(entry.artifact, progress=progress))
    original = hub.fetch(entry.artifact)
    metadata = {
        "format": "pt",
        "name": entry.name,
        "source": entry.artifact.urls[0] if entry.artifact.urls else str(original),
        "original_sha256": hub.read_content(original).sha256,
        "config_sha256": _config_digest(entry),
    }
    target = Path(output).expanduser() if output else _twin_path(entry)
    write_safetensors(model.state_dict(), target, metadata)
    if output is None:
        hub.pin_file(target, f"converted from {original.name}")
    return target


def _twin_path(entry: Entry) -> Path:
    return hub.cache_dir() / f"{Path(entry.artifact.filename).stem}.safetensors"


def _config_digest(entry: Entry) -> str:
    assert entry.config is not None
    return sha256(load_config(entry.config).dump().encode()).hexdigest()


def _find_twin(entry: Entry) -> Path | None:
    """The entry's safetensors file, if it was made on this machine from the original and is still intact."""
    path = _twin_path(entry)
    if not hub.is_pinned(path):
        return None
    metadata = read_safetensors_metadata(path)
    made_from = {"name": entry.name, "config_sha256": _config_digest(entry)}
    pin = hub.read_pins(path.parent).get(entry.artifact.filename)
    expected = hub.with_locked_hash(entry.artifact).expected_sha256 or (pin.sha256 if pin else "")
    original_is_right = metadata.get("original_sha256", "").startswith(expected)
    return path if original_is_right and made_from.items() <= metadata.items() else None


class Predictor(PicturePredictor):
    """A detector that takes photographs and gives results that draw themselves.

    >>> predict = Predictor("mask_rcnn_resnest50")
    >>> predict("photo.jpg").plot().save("found.jpg")
    """

    def __init__(
        self,
        model: str | GeneralizedRCNN,
        *,
        score_threshold: float = 0.5,
        tta: bool = False,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> None:
        """Build the model where a name is given.

        Args:
            model: name or alias of an entry, or a model already built, which stays on its device.
            score_threshold: detections below it are left out, 0-1.
            tta: use the config's test-time augmentation; slow.
            device: by default a GPU if there is one.
            **options: further arguments of `get`, such as `weights` or `num_classes`.

        Raises:
            ConfigError: the threshold is outside 0-1, or a model already built is given more arguments.
            ZooError: as `get` does.
        """
        check_score_threshold(score_threshold)
        if isinstance(model, str):
            if device is None:
                device = "cuda" if torch.cuda.is_available() else "cpu"
            model = get(model, device=device, **options)
        elif given := [*options, *(["device"] if device is not None else [])]:
            raise ConfigError(f"a model already built takes no more arguments of `get`: {', '.join(given)}")
        super().__init__(model, score_threshold=score_threshold, tta=tta)
