"""A name becomes verified bytes, the bytes a detector, the detector a predictor."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch

from resnest_zoo import hub
from resnest_zoo.api.mmdetection import is_theirs
from resnest_zoo.api.origin import (
    NUM_THINGS,
    Origin,
    class_counts,
    find_origin,
    find_weights,
    trained_as,
)
from resnest_zoo.categories import Categories
from resnest_zoo.checkpoint import Checkpoint, load_checkpoint, write_safetensors
from resnest_zoo.config import Config, load_config
from resnest_zoo.errors import (
    CheckpointError,
    ConfigError,
    IntegrityError,
    UnknownModelError,
    first_line,
    shown,
)
from resnest_zoo.inference.predictor import PicturePredictor
from resnest_zoo.inference.wanted import check_score_threshold
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.optimization import optimize as _optimize
from resnest_zoo.registry import Entry, fetch_weights, info, list_models
from resnest_zoo.runtimes import FileDetector, is_exported, open_file

_BY_ARGUMENT = {"MODEL.WEIGHTS": "weights", "MODEL.DEVICE": "device"}  # keys that no model is built from
_UNNAMED = Categories((), ())
_MASK_HEAD = "roi_heads.mask_head"


def fetch(name: str, *, progress: bool | None = None) -> Path:
    """The verified file of an entry's weights, downloaded on first use.

    Args:
        name: name, alias or checkpoint URL of an entry, backbones included.
        progress: show a progress bar; None shows one if stderr is a terminal.

    Raises:
        UnknownModelError: no such entry.
        DownloadError: no source delivered the right bytes; see `resnest_zoo.hub.fetch`.
    """
    return fetch_weights(info(name), progress=progress)


def get(
    name: str | Path,
    *,
    pretrained: bool = True,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    categories: Categories | Sequence[str] | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
    overrides: Sequence[str] | Mapping[str, object] = (),
    rename: bool = True,
    optimize: bool = False,
) -> GeneralizedRCNN:
    """Build a detector of the zoo, of a config file or of a training run, in evaluation mode.

    Args:
        name: name or alias of an entry, such as "mask_rcnn_resnest50"; a config file (.yaml) in detectron2's
            schema, whose `weights` must be given; or a checkpoint that training here has written, such as
            "out/best.safetensors" or its address, which holds its own config and classes, or one of
            mmdetection's. What a file is, its bytes tell, whatever it is called. Also a folder that
            `save_pretrained` has written, or a repository of `push_to_hub`, "hf://org/name[@revision]".
        pretrained: load the entry's published checkpoint; False leaves fresh random weights.
        weights: load this checkpoint instead, whatever `pretrained` says: a path, an http(s) URL, or
            `hf://org/name[@revision][/file]`. One that training here has written is built as its own config
            and classes say, unless you give others. One of mmdetection's is recognised by its tensors, its
            classes by the notes beside them; it is built as `name` says where that fits it, else as what a
            warning says that it is taken for.
        num_classes: build heads for this many classes. Where that differs from the checkpoint, all but the
            class layers are loaded, and a warning names those.
        categories: what the classes mean: `Categories`, or names in class order; sets `num_classes` too.
            Names alone leave the stuff of a panoptic model as it is; stuff of another number starts fresh.
        device: where to put the model; the CPU by default.
        progress: show a progress bar on download; None shows one if stderr is a terminal.
        overrides: config keys and values in turn, such as ["TEST.DETECTIONS_PER_IMAGE", "300"], or a mapping
            from keys to values. With "MODEL.MASK_ON": False, a checkpoint's mask head is left out.
        rename: what `categories` of which some are new to the checkpoint mean where they are as many: new
            names for its classes, in order. Else, as for training on other data, classes keep what the
            checkpoint has under their names, and the others start fresh. The same names in another order are
            taken by name in any case.
        optimize: return what `resnest_zoo.optimize` makes of the model, for inference on the CPU.

    Returns:
        The model. Call it with a list of RGB uint8 tensors (3, H, W); see `GeneralizedRCNN.forward`.

    Raises:
        UnknownModelError: no entry of that name, or it is a backbone, which detects nothing.
        ConfigError: the config file or an override is wrong, a config file comes without weights,
            `categories` and `num_classes` contradict each other, or there is no such device here.
        RegistryError: `weights` is an address, but not a clean http(s) or hf one.
        DownloadError: the checkpoint cannot be had.
        CheckpointError: the checkpoint is unsafe, damaged or of another model.
    """
    origin = find_origin(name, progress)
    chosen, changes = usable_device(device), _by_key(overrides)
    cfg, named = _with_classes(origin, changes, num_classes, categories)
    checkpoint = _open_checkpoint(origin, pretrained, weights, progress)
    if checkpoint is None:
        return _finished(build_model(cfg, named), chosen, optimize)
    if weights is not None and (is_theirs(checkpoint) or (num_classes is None and categories is None)):
        origin = trained_as(checkpoint, origin) or origin
        cfg, named = _with_classes(origin, changes, num_classes, categories)
    # Where classes change, the checkpoint leaves layers to their fresh values; else it fills everything.
    before, after = origin.categories or _UNNAMED, named or _UNNAMED
    changes_things = num_classes is not None or before.things != after.things
    changes_stuff = before.stuff != after.stuff
    in_file = checkpoint.categories or (origin.categories if weights is None else None)
    changes_rows = in_file is not None and (in_file.things, in_file.stuff) != (after.things, after.stuff)
    with torch.device("cpu" if changes_things or changes_stuff or changes_rows else "meta"):
        model = build_model(cfg, named)
    if not (changes_things or changes_stuff or changes_rows):
        # As `to_empty` does, which goes by a rule of torch's compiler and loads that.
        empty = model._apply(lambda t: torch.empty(t.shape, dtype=t.dtype))  # type: ignore[no-untyped-call]
        model = cast("GeneralizedRCNN", empty)
    fresh = [
        layer
        for layer in model.class_layers
        if (changes_stuff if layer.startswith("sem_seg_head.") else changes_things)
    ]
    without_masks = model.roi_heads.mask_head is None and origin.load({}).model.mask_on
    names = {} if in_file is None else model.changed_classes(in_file, rename=rename)
    removable = [_MASK_HEAD] if without_masks else []
    try:
        model.fresh_layers = load_checkpoint(
            model, checkpoint, replaceable=fresh, removable=removable, class_names=names
        )
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_class_hint(error)}", error.clashes) from error
    return _finished(model, chosen, optimize)


def _finished(model: GeneralizedRCNN, device: torch.device, optimize: bool) -> GeneralizedRCNN:
    return _optimize(model.to(device), share=True) if optimize else model.to(device)


def find_config(name: str | Path, overrides: Sequence[str] | Mapping[str, object] = ()) -> Config:
    """The config that `get` would build a model from, without building it.

    Raises:
        UnknownModelError: `name` is none that `get` takes.
        ConfigError: the config file or an override is wrong.
        CheckpointError: `name` is a checkpoint that does not tell its config.
    """
    return find_origin(name).load(_by_key(overrides))


def _by_key(overrides: Sequence[str] | Mapping[str, object]) -> dict[str, object]:
    """Overrides as a mapping.

    Raises:
        ConfigError: they are no pairs, or say what is an argument of `get`.
    """
    if isinstance(overrides, Mapping):
        changes = dict(overrides)
    elif isinstance(overrides, list | tuple) and len(overrides) % 2 == 0:
        changes = dict(zip(map(str, overrides[::2]), overrides[1::2], strict=True))
    else:
        raise ConfigError(
            'overrides: expected ["KEY", "VALUE", …] or a mapping from keys to values, '
            f"got {shown(overrides)}"
        )
    for key, argument in _BY_ARGUMENT.items():
        if key in changes:
            raise ConfigError(f"overrides: {key}: use {argument}= (--{argument}) for this")
    return changes


def _with_classes(
    origin: Origin,
    overrides: Mapping[str, object],
    num_classes: int | None,
    categories: Categories | Sequence[str] | None,
) -> tuple[Config, Categories | None]:
    """The config with the right numbers of classes, and their names as far as anyone gave them."""
    named = published = origin.categories
    cfg = origin.load(overrides)
    if categories is not None:
        given = _named(categories)
        if num_classes not in (None, len(given.things)):
            raise ConfigError(f"num_classes is {num_classes}, but {len(given.things)} categories are named")
        cfg = cfg.override(class_counts(given))
        named = _with_stuff(given, published)
    elif num_classes is not None:
        cfg = cfg.override({NUM_THINGS: num_classes})
    if named is None:
        return cfg, None
    # Names that do not fit are left to `build_model`, which numbers what has none.
    things, stuff = cfg.model.roi_heads.num_classes, cfg.model.sem_seg_head.num_classes
    if len(named.things) != things:
        named = _with_stuff(Categories.numbered(things), named)
    if len(named.stuff) not in (0, stuff):
        named = replace(named, stuff=(), stuff_ids=())
    return cfg, named


def _named(categories: Categories | Sequence[str]) -> Categories:
    """The categories a caller gave; names alone are those of things."""
    if isinstance(categories, Categories):
        return categories
    if isinstance(categories, str):
        raise ConfigError(f"categories: expected a list of names, got the text {shown(categories)}")
    return Categories.named(tuple(categories))


def _with_stuff(categories: Categories, of: Categories | None) -> Categories:
    """The categories with the stuff `of` others where they have none."""
    if of is None or categories.stuff or not of.stuff:
        return categories
    return replace(categories, stuff=of.stuff, stuff_ids=of.stuff_ids)


def _class_hint(error: CheckpointError) -> str:
    """What to pass when the file's classes differ in number; else nothing."""
    sizes = [shape[0] for key, shape in error.clashes.items() if key.endswith("cls_score.bias")]
    if not sizes:
        return ""
    count = sizes[0] - 1  # one is the background
    return f"\n  A file of {count} classes: pass num_classes={count}, or categories= with their names."


def _open_checkpoint(
    origin: Origin, pretrained: bool, weights: str | Path | None, progress: bool | None
) -> Checkpoint | None:
    """The weights to load: those given, else those of the origin; None for random ones."""
    if weights is not None:
        return Checkpoint.open(find_weights(weights, progress))
    if not pretrained:
        return None
    if origin.checkpoint is not None:
        return origin.checkpoint
    if origin.entry is None:
        raise ConfigError(
            f"{origin.source}: a config file has no checkpoint; pass weights= (--weights), or "
            "pretrained=False (train: --from-scratch) for random ones"
        )
    return _find_twin(origin.entry) or Checkpoint.open(fetch_weights(origin.entry, progress=progress))


def usable_device(device: torch.device | str | None) -> torch.device:
    """A usable device.

    Raises:
        ConfigError: there is no such device here.
    """
    try:
        chosen = torch.device("cpu" if device is None else device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ConfigError(f"device {shown(str(device))} cannot be used here: {first_line(error)}") from error
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
        DownloadError: the original cannot be had.
        CheckpointError: the original is not this entry's, or `output` cannot be written.
        ConfigError: the file to write is the original itself or has the name of another entry's file.
    """
    entry = info(name)
    if entry.config is None:
        raise UnknownModelError(
            f"{entry.name} is an ImageNet backbone, not a detector that could be converted"
        )
    target = Path(os.path.expanduser(output)) if output else _twin_path(entry)
    original = fetch_weights(entry, progress=progress)
    _check_target(target, original, in_cache=output is None)
    metadata = {
        "format": "pt",
        "name": entry.name,
        "source": entry.artifact.urls[0] if entry.artifact.urls else original.name,
        "original_sha256": _hash_again(entry, original),
        "config_sha256": _config_digest(entry),
    }
    model = get(entry.name, weights=original)
    if output is not None:
        write_safetensors(model.state_dict(), target, metadata)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)  # an original elsewhere makes no cache
        with hub.locked(target):
            write_safetensors(model.state_dict(), target, metadata)
            hub.pin_file(target, f"converted from {original.name}")
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def _check_target(target: Path, original: Path, *, in_cache: bool) -> None:
    """Never write over a file that is not ours."""
    names = {info(name).artifact.filename for name in list_models(backbones=True)}
    if target.absolute() == original.absolute() or (in_cache and target.name in names):
        raise ConfigError(f"{target} is an original, not to be written over; choose another output")


def _hash_again(entry: Entry, original: Path) -> str:
    """The SHA-256 of the original, whose bytes are checked once more: what is made of them will last."""
    content = hub.read_content(original)
    if fault := hub.content_fault(content, hub.with_locked_hash(entry.artifact), _pin_of_original(entry)):
        raise IntegrityError(f"{original}: {fault}; remove it to have it fetched again")
    return content.sha256


def _pin_of_original(entry: Entry) -> hub.Pin | None:
    if entry.artifact.path is not None:
        return None  # it is not in the cache
    return hub.read_pins(hub.cache_dir()).get(entry.artifact.filename)


def _twin_path(entry: Entry) -> Path:
    return hub.cache_dir() / f"{Path(entry.artifact.filename).stem}.safetensors"


def _config_digest(entry: Entry) -> str:
    assert entry.config is not None
    return sha256(load_config(entry.config).dump().encode()).hexdigest()


def _find_twin(entry: Entry) -> Checkpoint | None:
    """The entry's safetensors file, if it was made on this machine from the right original and is intact.

    Which original is right must be known in full, from a published hash or a pin.
    """
    path = _twin_path(entry)
    if not hub.is_pinned(path):
        return None
    try:
        twin = Checkpoint.open(path)
    except CheckpointError:
        return None  # pinned, but no checkpoint: another file of this name
    pin = _pin_of_original(entry)
    known = (hub.with_locked_hash(entry.artifact).expected_sha256 or "", pin.sha256 if pin else "")
    original = twin.metadata.get("original_sha256", "")
    if original not in known or not all(map(original.startswith, known)):
        return None
    made_from = {"name": entry.name, "config_sha256": _config_digest(entry)}
    return twin if made_from.items() <= twin.metadata.items() else None


def _open_exported(path: str | Path, device: torch.device | str | None, given: Sequence[str]) -> FileDetector:
    """An exported file, about which nothing is left to choose.

    Raises:
        ConfigError: another device than the CPU, or more is asked for.
        ExportError: it cannot be run.
    """
    if given:
        raise ConfigError(
            f"{path}: an exported file runs as it was exported; it takes no {', '.join(given)}: give these "
            "to the model it was made from"
        )
    if device is not None and usable_device(device).type != "cpu":
        raise ConfigError(f"{path}: an exported file runs on the cpu here, not on {device}")
    return open_file(path)


class Predictor(PicturePredictor):
    """A detector that takes photographs and gives results that draw themselves.

    >>> predict = Predictor("mask_rcnn_resnest50")
    >>> predict("photo.jpg").plot().save("found.jpg")
    """

    def __init__(
        self,
        model: str | Path | GeneralizedRCNN,
        *,
        score_threshold: float = 0.5,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        tta: bool = False,
        device: torch.device | str | None = None,
        exact: bool = False,
        **options: Any,
    ) -> None:
        """Build the model where a name is given.

        Args:
            model: what `get` takes, or a model already built, which is taken as it is, where it is; or a file
                that `export` has written, such as "model.onnx", which is run on the CPU by its own runtime.
            score_threshold: detections below it are left out, 0-1.
            classes: names of the classes whose detections are kept; None for all.
            max_detections: no more detections of a picture than so many, the best.
            tta: use the config's test-time augmentation; slow.
            device: by default a GPU if there is one.
            exact: compute as the reference does, to the last bit. By default, on the CPU, the model that is
                built is what `resnest_zoo.optimize` makes of it.
            **options: further arguments of `get`, such as `weights` or `num_classes`.

        Raises:
            ConfigError: the threshold is outside 0-1, the model has no such class, a model already built is
                given more arguments, or `model` is neither a model nor a name.
            ZooError: as `get` does.
        """
        check_score_threshold(score_threshold)
        if is_exported(model):
            asked = {"tta": tta, "exact": exact, **options}
            model = _open_exported(cast("str | Path", model), device, [key for key in asked if asked[key]])
        elif isinstance(model, str | Path):
            if device is None:
                device = "cuda" if torch.cuda.is_available() else "cpu"
            options.setdefault("optimize", not exact and str(device).startswith("cpu"))
            model = get(model, device=device, **options)
        elif given := [*options, *(["device"] if device is not None else [])]:
            raise ConfigError(f"a model already built takes no more arguments of `get`: {', '.join(given)}")
        super().__init__(
            model,
            score_threshold=score_threshold,
            classes=classes,
            max_detections=max_detections,
            tta=tta,
        )
