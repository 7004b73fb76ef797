"""One dialect of arguments for all commands: errors with the command's own usage, short options, overrides.

A key of the config is changed by `--set KEY=VALUE`, as often as wanted, or by `KEY VALUE` pairs at the end of
the line, as detectron2 has it. The pairs win.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from resnest_zoo.errors import shown

# What a key of a config looks like among names of files.
_KEY = re.compile(r"(MODEL|INPUT|DATASETS|DATALOADER|SOLVER|TEST)(\.[A-Z0-9_]+)+")

# What detectron2's and ultralytics' commands call options of ours that are spelt otherwise.
_ELSEWHERE = {
    "--batch": "--batch-size",
    "--conf": "--score-threshold",
    "--confidence-threshold": "--score-threshold",
    "--config-file": "--model",
    "--data": "--train-json",
    "--epochs": "--iterations",
    "--imgsz": "--set INPUT.MIN_SIZE_TEST=N",
    "--input": "INPUT",
    "--max-det": "--max-detections",
    "--opts": "--set KEY=VALUE",
    "--project": "--output",
    "--source": "INPUT",
    "--vid-stride": "--every",
}


class CommandParser(argparse.ArgumentParser):
    """A parser that tells of wrong arguments by its own usage, not by that of the whole program.

    Attributes:
        mixed: let positional arguments and options stand in any order.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mixed = False
        self._in_passes = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but nothing unknown is left, and `overrides` are whole pairs."""
        if self._in_passes:  # one of the two passes of the call below
            return super().parse_known_args(args, namespace)
        words = sys.argv[1:] if args is None else list(args)
        if self.mixed and "--" not in words:  # of which the two passes would lose the second's meaning
            self._in_passes = True
            try:
                found, rest = super().parse_known_intermixed_args(args, namespace)
            finally:
                self._in_passes = False
        else:
            found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}{self._hint(rest)}")
        if hasattr(found, "set"):
            self._gather_overrides(found)
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong, below this command's usage, and what was probably meant; exit code 2."""
        if wrong := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            import difflib

            close = difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), n=1)
            message += f"; did you mean {close[0]}?" if close else ""
        super().error(message)

    def _hint(self, rest: Sequence[str]) -> str:
        import difflib

        known = [option for option in self._option_string_actions if option.startswith("--")]
        named = {*known, *(str(action.metavar) for action in self._get_positional_actions())}
        close: list[str] = []
        for word in (word.partition("=")[0] for word in rest if word.startswith("--")):
            meant = _ELSEWHERE.get(word, "")
            there = bool(meant) and meant.split()[0] in named
            close += [meant] if there else difflib.get_close_matches(word, known, n=1)
        return f"; did you mean {', '.join(close)}?" if close else ""

    def _gather_overrides(self, found: argparse.Namespace) -> None:
        """Make one list of keys and values of `--set` and of the pairs at the end."""
        if inputs := getattr(found, "inputs", None):  # words of one kind for argparse
            place = next((k for k, word in enumerate(inputs) if _is_key(word)), len(inputs))
            found.inputs, found.overrides = inputs[:place], [*inputs[place:], *found.overrides]
            if not found.inputs:
                self.error("the following arguments are required: INPUT")
        if len(found.overrides) % 2:
            pairs = " ".join(found.overrides)
            self.error(f"expected KEY VALUE pairs at the end, got an odd number of words: {shown(pairs)}")
        given = [word for pair in found.set for word in pair]
        found.overrides = [*given, *found.overrides]
        del found.set


def add_exact(parser: argparse.ArgumentParser) -> None:
    """Add `--exact`."""
    parser.add_argument(
        "--exact",
        action="store_true",
        help="compute as the reference does, to the last bit; by default, on the CPU, the optimised copy is "
        "used, whose boxes may differ by 1e-3 pixels",
    )


def add_overrides(parser: CommandParser, *, rest: bool = False, pairs: bool = True) -> None:
    """Let a command change keys of the config; its `overrides` become keys and values in turn.

    Args:
        parser: to which other positional arguments are added before.
        rest: everything from the first pair on belongs to the pairs, options too, as in detectron2's scripts.
        pairs: take pairs at the end at all.
    """
    parser.add_argument(
        "-s",
        "--set",
        type=_pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the config, such as TEST.DETECTIONS_PER_IMAGE=300; also as KEY VALUE pairs "
        "at the end of the line"
        if pairs
        else "override a key of the config",
    )
    if not pairs:
        parser.set_defaults(overrides=[])
        return
    parser.add_argument(
        "overrides",
        nargs=argparse.REMAINDER if rest else "*",
        default=[],
        metavar="KEY VALUE",
        help="keys of the config and values",
    )
    parser.mixed = not rest


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise argparse.ArgumentTypeError(
            f"expected KEY=VALUE, got {shown(text)}; pairs of KEY VALUE stand at the end, without --set"
        )
    return key.strip(), value.strip()


def _is_key(word: str) -> bool:
    """Whether a word among names of pictures begins the overrides: no file is called so."""
    return _KEY.fullmatch(word) is not None and not os.path.lexists(word)


def add_model(parser: argparse.ArgumentParser, text: str, weights: str, *, required: bool = True) -> None:
    """Add `--model`, `--weights` and `--device`.

    Args:
        parser: of a command.
        text: help on `--model`.
        weights: help on `--weights`.
        required: whether there has to be a model.
    """
    parser.add_argument("-m", "--model", required=required, metavar="NAME", help=text)
    parser.add_argument("-w", "--weights", metavar="PATH|URL", help=weights)
    parser.add_argument("-d", "--device", help="such as cpu or cuda:1; by default a GPU if there is one")


def positive(text: str) -> int:
    """A whole number above 0, as an argument."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {shown(text)}")
    return int(text)


def natural(text: str) -> int:
    """A whole number from 0 on, as an argument."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {shown(text)}")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1, as an argument."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN neither
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {shown(text)}")
    return value


def names(text: str) -> list[str]:
    """Names with commas between them, as an argument."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {shown(text)}")
    return found
