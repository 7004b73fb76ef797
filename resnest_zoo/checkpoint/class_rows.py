"""The rows of class layers, which belong to classes: taken from a file by the classes' names.

A layer of K classes has, for each class in turn, one row or several (four of box deltas), and some end with
the row of the background. Legend: K classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Names = Sequence[str]


def take_rows(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Mapping[str, tuple[Names, Names]]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of class layers with their rows in the model's order.

    Args:
        state: the file's tensors.
        own: the model's, of the same shapes; classes whose name the file lacks keep its rows.
        names: of each layer the K class names in the file and the K of the model. Those that occur several
            times are taken in turn. Where they have nothing in common, the background is the model's too.

    Returns:
        The layers' tensors by key, and the names that the file lacks, in the model's order.
    """
    rows: dict[str, Tensor] = {}
    lacking: dict[str, None] = {}
    for layer, (before, after) in names.items():
        places = _places(before, after)
        lacking |= dict.fromkeys(name for name, place in zip(after, places, strict=True) if place is None)
        for key in own:
            if key.startswith(f"{layer}."):
                rows[key] = _arranged(state[key], own[key], places)
    return rows, list(lacking)


def _places(before: Names, after: Names) -> list[int | None]:
    """Where each name of `after` stands in `before`."""
    places = defaultdict(list)
    for place, name in reversed(list(enumerate(before))):
        places[name].append(place)
    return [places[name].pop() if places[name] else None for name in after]


def _arranged(loaded: Tensor, fresh: Tensor, places: list[int | None]) -> Tensor:
    if all(place is None for place in places):
        return fresh
    if len(places) == 1:  # its rows and the background's could not be told apart, and stay as they are
        return loaded
    background = len(loaded) % len(places)  # 0 or 1 row
    loaded = loaded.to(fresh)
    classes = loaded[: len(loaded) - background].unflatten(0, (len(places), -1))  # (K, rows of each, …)
    untouched = fresh[: len(fresh) - background].unflatten(0, (len(places), -1))
    parts = [untouched[k] if place is None else classes[place] for k, place in enumerate(places)]
    return torch.cat([*parts, loaded[len(loaded) - background :]])
