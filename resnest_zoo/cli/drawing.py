"""Options of how results are drawn, for the commands that draw them."""

from __future__ import annotations

import argparse
from typing import Any

_LEFT_OUT = ("boxes", "masks", "labels", "scores")


def add_drawing(parser: Any) -> None:
    """Add `--colour-by`, `--font`, and `--no-boxes` and its kin."""
    group = parser.add_argument_group("drawing")
    group.add_argument(
        "--colour-by",
        "--color-by",
        choices=("class", "instance"),
        default="class",
        help="one colour for each class, or for each thing found; default: class",
    )
    for part in _LEFT_OUT:
        group.add_argument(f"--no-{part}", action="store_true", help=f"leave out {part}")
    group.add_argument("--font", metavar="FILE", help="of the labels; by default one that has their letters")


def drawing_of(args: argparse.Namespace) -> dict[str, Any]:
    """What was chosen, as arguments of `Prediction.plot`; nothing where all is by default.

    Raises:
        ConfigError: the font is no file of one.
    """
    chosen: dict[str, Any] = {part: False for part in _LEFT_OUT if getattr(args, f"no_{part}")}
    if args.colour_by != "class":
        chosen["colour_by"] = args.colour_by
    if args.font is not None:
        from resnest_zoo.inference.drawing.letters import Letters

        Letters(10, args.font)  # now, not at the first picture
        chosen["font"] = args.font
    return chosen
