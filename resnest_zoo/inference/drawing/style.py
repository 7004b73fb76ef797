"""What a caller may choose of a drawing, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resnest_zoo.errors import ConfigError, shown

COLOUR_BY = ("class", "instance")
BACKENDS = ("pillow", "supervision")


@dataclass(frozen=True)
class Style:
    """The choices of `Prediction.plot`, which describes them.

    Raises:
        ConfigError: `colour_by` or `backend` is none of those there are.
    """

    boxes: bool = True
    masks: bool = True
    labels: bool = True
    scores: bool = True
    colour_by: str = "class"
    ids: Sequence[int] | None = None
    font: str | None = None
    panoptic: bool = True
    backend: str = "pillow"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("colour_by", self.colour_by, COLOUR_BY),
            ("backend", self.backend, BACKENDS),
        ):
            if value not in known:
                raise ConfigError(f"{name}: expected {' or '.join(known)}, got {shown(value)}")

    def keys(self, classes: Sequence[int]) -> list[int]:
        """Of each instance the number that decides its colour: its id, its class, or its place.

        Raises:
            ConfigError: there are not as many ids as instances.
        """
        if self.ids is not None:
            if len(self.ids) != len(classes):
                raise ConfigError(
                    f"ids: expected one for each of the {len(classes)} instances, got {len(self.ids)}"
                )
            return [int(number) for number in self.ids]
        return list(classes) if self.colour_by == "class" else list(range(len(classes)))

    def label(self, name: str, score: float | None, number: int | None = None) -> tuple[str, ...]:
        """A label's text, then shorter ones for where there is no room: "#3 cat 98%", "#3 cat"."""
        text = name if number is None else f"#{number} {name}"
        text = " ".join(text.split())
        if not self.scores or score is None:
            return (text,)
        return f"{text} {score:.0%}".strip(), text
