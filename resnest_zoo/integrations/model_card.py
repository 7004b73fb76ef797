"""The card of a model: README.md of its folder or repository, with what readers and the hub want to know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from resnest_zoo.config import Config
from resnest_zoo.errors import ConfigError, shown
from resnest_zoo.integrations.results import (
    Measured,
    Place,
    condition_words,
    model_index,
    rows,
)
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.registry import Reported

LIBRARY = "resnest_zoo"
EXAMPLE, FOUND = "example.jpg", "example_found.jpg"
_HEAD = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)


@dataclass(frozen=True)
class ModelCard:
    """What nobody can read off a model, for the card beside it.

    Attributes:
        name: title; by default that of the repository or folder.
        summary: a few sentences of Markdown: what it detects, on what it was trained.
        licence: of the weights, an identifier of the hub such as "apache-2.0"; None where none is stated.
        picture: the example, with what the model finds in it; anything a `Predictor` takes. None: a drawn one
            for a model of the shapes that come with the package, else no picture.
        datasets: hub identifiers of data sets by their names, such as {"COCO": "detection-datasets/coco"}.
        measured: results measured with these weights.
        reported: results that somebody reports of these weights.
        reported_source: address of the page that reports them.

    Raises:
        ConfigError: the licence is no identifier, or reported results come without their source.
    """

    name: str = ""
    summary: str = ""
    licence: str | None = None
    picture: Any = None
    datasets: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[Measured, ...] = ()
    reported: tuple[Reported, ...] = ()
    reported_source: str = ""

    def __post_init__(self) -> None:
        if self.licence is not None and not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", self.licence, re.ASCII):
            raise ConfigError(
                f"licence: expected an identifier such as apache-2.0 or other, got {shown(self.licence)}"
            )
        for kind, expected in (("measured", Measured), ("reported", Reported)):
            given = tuple(getattr(self, kind))
            if not all(isinstance(result, expected) for result in given):
                raise ConfigError(f"{kind}: expected {expected.__name__} results alone; they are not mixed")
            object.__setattr__(self, kind, given)
        if self.reported and not re.match(r"https?://\S+$", self.reported_source):
            raise ConfigError(
                "reported results need their source: reported_source='https://…', got "
                f"{shown(self.reported_source)}"
            )

    def place(self, repository_url: str = "") -> Place:
        """Where the results lead to."""
        return Place(self.datasets, repository_url, self.reported_source)


def card_text(model: GeneralizedRCNN, card: ModelCard, name: str, address: str, place: Place) -> str:
    """README.md of a model.

    Args:
        model: built from a config.
        card: what its owner says of it.
        name: title where the card has none.
        address: what `resnest_zoo.from_pretrained` takes; "" for a folder that may be moved.
        place: where results lead to.

    Raises:
        ConfigError: a result is no percentage.
    """
    assert model.config is not None
    title = " ".join((card.name or name).split())
    head = yaml.safe_dump(_head(model, card, title, place), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{head}---",
        f"# {title}",
        card.summary.strip(),
        _USE.format(address=address or "path/to/this/folder"),
        _picture_part(model, card),
        f"## Model\n\n{_describe(model)}",
        f"## Classes\n\n{_classes(model)}",
        *_result_parts(card),
        f"## Licence\n\n{card.licence or 'Not stated.'}",
        _FILES,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


_USE = """\
```python
import resnest_zoo

predict = resnest_zoo.Predictor(resnest_zoo.from_pretrained("{address}"))
predict("photo.jpg").plot().save("found.jpg")
```"""
_FILES = """\
## Files

`model.safetensors` holds the weights, and in its header the config and the classes: it is all that
[resnest_zoo](https://pypi.org/project/resnest-zoo/) reads. `config.yaml` is a copy of that config."""


def draws_picture(model: GeneralizedRCNN, card: ModelCard) -> bool:
    """Whether the card has a picture: its owner's, or a drawn one for a model of drawn shapes."""
    from resnest_zoo.categories import SHAPES

    return card.picture is not None or model.categories.things == SHAPES.things


def is_card(text: str) -> bool:
    """Whether a README.md is a card of this package, which may be written over."""
    found = _HEAD.match(text.replace("\r\n", "\n"))
    try:
        head = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return False
    return isinstance(head, dict) and head.get("library_name") == LIBRARY


def _head(model: GeneralizedRCNN, card: ModelCard, title: str, place: Place) -> dict[str, Any]:
    assert model.config is not None
    kind, pipeline = _task(model.config)
    head: dict[str, Any] = {"library_name": LIBRARY, "pipeline_tag": pipeline}
    if card.licence:
        head["license"] = card.licence.lower()
    head["tags"] = [kind, "pytorch", _backbone(model.config).lower()]
    if card.datasets:
        head["datasets"] = list(dict.fromkeys(card.datasets.values()))
    if draws_picture(model, card):
        head["widget"] = [{"src": EXAMPLE, "example_title": "Example"}]
    if index := model_index(title, (*card.measured, *card.reported), place):
        head["model-index"] = index
    return head


def _task(config: Config) -> tuple[str, str]:
    """A tag for the kind of output, and the hub's name of the task."""
    if config.model.meta_architecture == "PanopticFPN":
        return "panoptic-segmentation", "image-segmentation"
    if config.model.mask_on:
        return "instance-segmentation", "image-segmentation"
    return "object-detection", "object-detection"


def _backbone(config: Config) -> str:
    resnets = config.model.resnets
    return f"{'ResNeSt' if resnets.radix > 1 else 'ResNet'}-{resnets.depth}"


def _describe(model: GeneralizedRCNN) -> str:
    config = model.config
    assert config is not None
    method = "Mask R-CNN" if config.model.mask_on else "Faster R-CNN"
    if config.model.roi_heads.name == "CascadeROIHeads":
        method = "Cascade Mask R-CNN" if config.model.mask_on else "Cascade R-CNN"
    if config.model.meta_architecture == "PanopticFPN":
        method = f"Panoptic FPN with {method}"
    deformable = ", deformable convolutions" if any(config.model.resnets.deform_on_per_stage) else ""
    count = sum(parameter.numel() for parameter in model.parameters())
    low, high = config.input.min_size_test, config.input.max_size_test
    return (
        f"{method} on {_backbone(config)}-FPN{deformable}; {count:,} parameters. Pictures are resized to a "
        f"shorter side of {low} pixels, the longer one at most {high}."
    )


def _classes(model: GeneralizedRCNN) -> str:
    categories = model.categories
    text = f"{len(categories.things)}: {', '.join(map(_code, categories.things))}."
    if categories.stuff:
        text += f"\n\nStuff: {', '.join(map(_code, categories.stuff[1:]))}."
    return text


def _code(text: str) -> str:
    """A name that users chose, as Markdown shows it whatever is in it."""
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "/") + "`"


def _picture_part(model: GeneralizedRCNN, card: ModelCard) -> str:
    return f"![what the model finds in an example]({FOUND})" if draws_picture(model, card) else ""


def _result_parts(card: ModelCard) -> list[str]:
    measured = [[r.dataset, r.split, r.date, *_numbers(r), condition_words(r)] for r in card.measured]
    reported = [[r.dataset, r.split, *_numbers(r), condition_words(r)] for r in card.reported]
    parts = []
    if measured:
        head = ["data set", "split", "date", "result, percent", "conditions"]
        parts.append(f"## Results, measured with these weights\n\n{_table(head, measured)}")
    if reported:
        head = ["data set", "split", "result, percent", "note"]
        parts.append(
            f"## Results, reported elsewhere\n\nSource: <{card.reported_source}>\n\n{_table(head, reported)}"
        )
    return parts


def _numbers(result: Measured | Reported) -> list[str]:
    show = result.show if isinstance(result, Reported) else "{:.2f}".format
    return [", ".join(f"{row.name} {show(row.value)}" for row in rows(result))]


def _table(head: list[str], lines: list[list[str]]) -> str:
    plain = [[" ".join(cell.split()).replace("|", "/") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *plain])
