"""What the zoo knows about a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from resnest_zoo.categories import Categories
from resnest_zoo.errors import RegistryError, shown
from resnest_zoo.hub import Artifact

Task = Literal["object detection", "instance segmentation", "panoptic segmentation", "backbone"]
TASKS: tuple[str, ...] = get_args(Task)


@dataclass(frozen=True)
class Reported:
    """One published row of results. Measured results are kept elsewhere, see `benchmarks`.

    Attributes:
        dataset: such as "COCO".
        split: part of the data set, such as "val2017".
        tta: whether test-time augmentation (several scales, flips) was used; None if the source does not say.
        box: box AP, averaged over IoU 0.50:0.95, in percent.
        mask: mask AP, likewise.
        pq: panoptic quality in percent.
        decimals: with how many the numbers were published.

    Raises:
        RegistryError: no number, or one outside 0 to 100.
    """

    dataset: str
    split: str
    tta: bool | None
    box: float | None = None
    mask: float | None = None
    pq: float | None = None
    decimals: int = 2

    def __post_init__(self) -> None:
        numbers = [number for number in (self.box, self.mask, self.pq) if number is not None]
        if not numbers or not all(0 <= number <= 100 for number in numbers):
            raise RegistryError(f"reported results: expected percents for box, mask or pq, got {numbers}")

    def __str__(self) -> str:
        """Such as "COCO val2017: box AP 42.33, mask AP 38.14"."""
        metrics = {"box AP": self.box, "mask AP": self.mask, "PQ": self.pq}
        shown = {name: self.show(value) for name, value in metrics.items()}
        numbers = ", ".join(f"{name} {value}" for name, value in shown.items() if value)
        tta = {True: ", with test-time augmentation", False: "", None: ", test-time augmentation not stated"}
        return f"{self.dataset} {self.split}: {numbers}{tta[self.tta]}"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The row as tables show it: split and augmentation, box AP, mask AP, PQ; empty if not reported."""
        tta = {True: ", TTA", False: "", None: ", TTA not stated"}[self.tta]
        return f"{self.split}{tta}", self.show(self.box), self.show(self.mask), self.show(self.pq)

    def show(self, value: float | None) -> str:
        """One of the numbers with its decimals; nothing for None."""
        return "" if value is None else f"{value:.{self.decimals}f}"


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        name: what users ask for.
        task: one of `TASKS`.
        artifact: the file of weights.
        config: YAML file; relative to the packaged configs, or absolute. None for a backbone.
        aliases: further names, without file extension: the published stems of config and checkpoint.
        method: such as "Faster R-CNN".
        backbone: such as "ResNeSt-50-DCNv2".
        parameters: number of parameters, frozen ones included; None if unknown.
        categories: meaning of the classes; None if not stated, and for a backbone.
        expects: keys of the config, and the values that a backbone was trained with.
        pretrained_from: name of the backbone entry that training started from.
        reported: published results.
        log_url: training log.
        licence: SPDX identifier as far as one is stated, and what it covers.
        source: page on which the model was published.

    Raises:
        RegistryError: the name or an alias cannot be one, the task is unknown, or a detector has no config.
    """

    name: str
    task: Task
    artifact: Artifact
    config: str | None = None
    aliases: tuple[str, ...] = ()
    method: str = ""
    backbone: str = ""
    parameters: int | None = None
    categories: Categories | None = None
    expects: tuple[tuple[str, object], ...] = ()
    pretrained_from: str | None = None
    reported: tuple[Reported, ...] = ()
    log_url: str | None = None
    licence: str = "not stated"
    source: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", self.name, re.ASCII):
            raise RegistryError(
                f"{shown(self.name)} cannot name a model; "
                "expected up to 100 letters, digits and '_', '-', '.'"
            )
        for alias in self.aliases:
            if not re.fullmatch(r"[^\s\x00-\x1f\x7f]+", alias):
                raise RegistryError(f"{self.name}: the alias {shown(alias)} is empty or contains blanks")
        if self.task not in TASKS:
            raise RegistryError(f"{self.name}: unknown task {shown(self.task)}.{suggest(self.task, TASKS)}")
        if self.config is None and self.task != "backbone":
            raise RegistryError(f"{self.name}: an entry for {self.task} needs a config")


def suggest(name: str, candidates: Collection[str], shown: Mapping[str, str] | None = None) -> str:
    """The sentence, with a blank before it, that helps whoever wrote an unknown name.

    Args:
        name: what was written.
        candidates: what is known.
        shown: what to show for each candidate, if not the candidate itself.

    Returns:
        The closest three candidates, else all if they are few, else nothing.
    """
    from difflib import get_close_matches

    close = get_close_matches(name, candidates, n=9, cutoff=0.5)
    names = list(dict.fromkeys(shown[match] if shown else match for match in close))[:3]
    if names:
        return f" Did you mean {' or '.join(map(repr, names))}?"
    return f" Known: {', '.join(candidates)}." if len(candidates) < 20 else ""
