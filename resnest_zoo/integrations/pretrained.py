"""A model as a folder of files: to keep, to hand on, to push to Hugging Face's hub.

model.safetensors             weights; in its header the config and the classes, all that loading needs
config.yaml                   a copy of that config, for readers and for detectron2
README.md                     the card, see `model_card`
example.jpg, example_found.jpg   a picture, and what the model finds in it
.eval_results/*.yaml          results in the hub's current format, measured and reported ones apart
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from resnest_zoo.api import Predictor, get
from resnest_zoo.api.origin import CONFIG, WEIGHTS
from resnest_zoo.checkpoint import Checkpoint, model_metadata, require_finite, write_safetensors
from resnest_zoo.errors import CheckpointError, ConfigError, UnknownModelError, ZooError, shown
from resnest_zoo.integrations.model_card import EXAMPLE, FOUND, ModelCard, card_text, draws_picture, is_card
from resnest_zoo.integrations.results import MEASURED_FILE, REPORTED_FILE, eval_entries
from resnest_zoo.models import GeneralizedRCNN

CARD = "README.md"
OWN_FILES = (WEIGHTS, CONFIG, CARD, EXAMPLE, FOUND, MEASURED_FILE, REPORTED_FILE)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def from_pretrained(source: str | Path, *, revision: str | None = None, **options: Any) -> GeneralizedRCNN:
    """Build a model from a folder of `save_pretrained` or a repository of `push_to_hub`.

    Args:
        source: a folder; "org/name" or "hf://org/name[@revision]" of Hugging Face's hub. A folder that is
            there goes first.
        revision: branch, tag or full commit hash of a repository; its main branch by default. Only a commit
            hash means the same weights tomorrow, and makes no request for what is in the cache.
        **options: of `get`, such as `device`, `num_classes` or `overrides`.

    Returns:
        The model, in evaluation mode. Loading is strict: the file's tensors are the model's, all of them.

    Raises:
        UnknownModelError: `source` is neither a folder nor the name of a repository.
        ConfigError: a revision of a folder.
        DownloadError, CheckpointError: as `get`.
    """
    text = str(source)
    folder = Path(os.path.expanduser(text))
    if text and os.path.isdir(folder):  # noqa: PTH112 - False also for what is too long
        if revision is not None:
            raise ConfigError(f"{folder} is a folder, which has no revision {shown(revision)}")
        if not (folder / WEIGHTS).is_file():
            raise CheckpointError(
                f"{folder}: this folder has no {WEIGHTS}, which save_pretrained writes; for a repository of "
                "that name write hf://org/name"
            )
        return get(folder, **options)
    name = text.removeprefix("hf://").rstrip("/")
    if isinstance(source, Path) or not (text.startswith("hf://") or _REPOSITORY.fullmatch(name)):
        raise UnknownModelError(
            f"{shown(text)}: expected a folder of save_pretrained, or a repository as org/name; get() builds "
            "the models of the zoo"
        )
    if revision is not None:
        if "@" in name:
            raise ConfigError(
                f"{shown(text)} names a revision already; revision={shown(revision)} is another"
            )
        name += f"@{revision.replace('/', '%2F')}"
    return get(f"hf://{name}", **options)


def save_pretrained(model: GeneralizedRCNN, folder: str | Path, card: ModelCard | None = None) -> Path:
    """Write a model into a folder, from which `from_pretrained` and `get` build it again.

    All files are made first and then moved in, so that what fails leaves the folder as it was. Files of an
    earlier call are replaced, also those that are not written any more, such as results; others stay.

    Args:
        model: built by `get`, `from_pretrained` or training, on any device.
        folder: made if it is missing.
        card: what the README.md says of it.

    Returns:
        The folder.

    Raises:
        ConfigError: the model was put together by hand; the folder holds a README.md or a model.safetensors
            of something else; a result is no percentage.
        CheckpointError: weights are NaN or infinite, or the folder cannot be written.
        ImageError: the card's picture cannot be used.
    """
    target = Path(os.path.expanduser(folder))
    with writing(target):
        _refuse_others_files(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name[:60]}.", suffix=".tmp", dir=target.parent
        ) as made:
            written = write_files(model, Path(made), card or ModelCard(), target.name)
            _move(Path(made), target, written)
    return target


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Failures of the disk as errors of ours.

    Raises:
        CheckpointError: `place` cannot be written.
    """
    try:
        yield
    except ZooError:
        raise
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be written: {error.strerror or error}") from error


def write_files(
    model: GeneralizedRCNN, folder: Path, card: ModelCard, name: str, *, repository: str = "", url: str = ""
) -> list[str]:
    """Write all files of a model into an empty folder.

    Args:
        model: built from a config.
        folder: empty.
        card: of the model.
        name: title where the card has none.
        repository: "hf://org/name", if they go there.
        url: of its page.

    Returns:
        Their names.

    Raises:
        As `save_pretrained`; OSError: the folder cannot be written.
    """
    if model.config is None:
        raise ConfigError("a model that was put together by hand has no config from which it could be built")
    place = card.place(url)
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    require_finite(f"the model {name}", state)
    config = model.config.dump()
    texts = {CONFIG: config, CARD: card_text(model, card, name, repository, place)}
    for file, results in ((MEASURED_FILE, card.measured), (REPORTED_FILE, card.reported)):
        if entries := eval_entries(results, place):
            texts[file] = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    for file, text in texts.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8", newline="\n")
    pictures = _draw_pictures(model, folder, card) if draws_picture(model, card) else []
    write_safetensors(state, folder / WEIGHTS, {"format": "pt", **model_metadata(config, model.categories)})
    return [*texts, *pictures, WEIGHTS]


def _draw_pictures(model: GeneralizedRCNN, folder: Path, card: ModelCard) -> list[str]:
    """The example, without what its file said of camera and place, and what the model finds in it."""
    from PIL import Image

    picture = card.picture
    if picture is None:
        from resnest_zoo.data import shapes

        picture = shapes.draw(seed=1, index=3, size=(256, 320)).image
    modes = [(module, module.training) for module in model.modules()]
    try:
        found = Predictor(model.eval())(picture)
    finally:
        for module, training in modes:
            module.training = training
    plain = Image.fromarray(found.image.permute(1, 2, 0).contiguous().numpy())
    plain.save(folder / EXAMPLE, quality=92, subsampling=0)
    found.save(folder / FOUND)
    return [EXAMPLE, FOUND]


def _refuse_others_files(folder: Path) -> None:
    """Never write over a file that is not of this package.

    Raises:
        ConfigError: there is one, or `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; expected a folder")
    readme, weights = folder / CARD, folder / WEIGHTS
    if readme.is_file() and not is_card(readme.read_text(encoding="utf-8", errors="replace")):
        raise ConfigError(f"{readme}: is there already and no card of this package; choose another folder")
    if weights.is_file() and not readme.is_file() and Checkpoint.open(weights).config is None:
        raise ConfigError(f"{weights}: is there already and of another library; choose another folder")


def _move(made: Path, target: Path, written: list[str]) -> None:
    """Move finished files in, the weights last, and take away those of an earlier call."""
    target.mkdir(exist_ok=True)
    for stale in set(OWN_FILES) - set(written):
        (target / stale).unlink(missing_ok=True)
    for name in written:
        (target / name).parent.mkdir(exist_ok=True)
        shutil.move(made / name, target / name)
    results = (target / MEASURED_FILE).parent
    if results.is_dir() and not any(results.iterdir()):
        results.rmdir()
