"""Which of a picture's detections are wanted, by score, class and number; for a predictor or for one call."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, shown, some
from resnest_zoo.structures import Instances


@dataclass(frozen=True)
class Wanted:
    """What of the detections is kept.

    Attributes:
        score_threshold: those of at least this score, 0-1.
        classes: those of these classes, in 0 … K-1; None for all.
        max_detections: no more than so many, the best; None for all.
    """

    score_threshold: float = 0.5
    classes: tuple[int, ...] | None = None
    max_detections: int | None = None

    def but(
        self,
        categories: Categories,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
    ) -> Wanted:
        """The same with what is not None instead.

        Raises:
            ConfigError: a threshold outside 0-1, a class that the model does not know, a maximum below 1.
        """
        changed = self
        if score_threshold is not None:
            check_score_threshold(score_threshold)
            changed = replace(changed, score_threshold=score_threshold)
        if classes is not None:
            changed = replace(changed, classes=_find_classes(classes, categories))
        if max_detections is not None:
            changed = replace(changed, max_detections=_checked_maximum(max_detections))
        return changed

    def of(self, found: Instances) -> Instances:
        """What of `found`, by falling score, is wanted; a panoptic map stays whole."""
        found = found.above(self.score_threshold)
        if self.classes is not None:
            classes = torch.tensor(self.classes, device=found.classes.device)
            found = found[torch.isin(found.classes, classes)]
        if self.max_detections is not None and len(found) > self.max_detections:
            found = found[: self.max_detections]
        return found


def check_score_threshold(threshold: float) -> None:
    """Refuse a threshold outside 0-1, NaN included.

    Raises:
        ConfigError: it is.
    """
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ConfigError(f"score_threshold: expected a number from 0 to 1, got {shown(threshold)}")


def _checked_maximum(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"max_detections: expected a whole number above 0, got {shown(count)}")
    return count


def _find_classes(names: Sequence[str], categories: Categories) -> tuple[int, ...]:
    """The classes of these names, or of these names with ids where two classes have one name.

    Raises:
        ConfigError: no such class; the message names close ones.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"classes: expected a list of class names, got {shown(names)}")
    if not names:
        raise ConfigError("classes: expected one name or more, or None for all classes")
    known = list(enumerate(zip(categories.things, categories.thing_labels, strict=True)))
    found: list[int] = []
    for name in names:
        meant = [k for k, known_names in known if name in known_names]
        if not meant:
            raise ConfigError(_no_class(name, categories))
        found += meant
    return tuple(sorted(set(found)))


def _no_class(name: str, categories: Categories) -> str:
    if name in categories.stuff:
        return (
            f"classes: {shown(name)} is stuff, of which there are no instances; its segments are in .panoptic"
        )
    by_small_letters = {label.lower(): label for label in categories.thing_labels}
    close = difflib.get_close_matches(name.strip().lower(), by_small_letters, n=3)
    meant = f"did you mean {some(by_small_letters[label] for label in close)}?"
    known = f"it knows {some(categories.thing_labels, 10)}"
    return f"classes: the model has no {shown(name)}; {meant if close else known}"
