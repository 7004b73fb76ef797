"""The command `resnest-zoo`.

Exit codes: 0 all went well, 1 something failed and was reported, 2 wrong usage, 130 interrupted, 141 the
reader of standard output went away and work was left undone.
torch is loaded by the commands that need a model alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from resnest_zoo import __version__
from resnest_zoo.cli import show
from resnest_zoo.cli.arguments import CommandParser
from resnest_zoo.cli.common import guarded

# The modules of this room, in the order of the help, and their commands.
_COMMANDS = {
    "show": ("list", "info"),
    "store": ("download", "import", "convert", "mirror", "cache"),
    "predict": ("predict",),
    "serve": ("serve",),
    "predict_dataset": ("predict-dataset",),
    "export": ("export",),
    "train": ("train", "plot"),
    "evaluate": ("evaluate",),
    "demo": ("demo",),
    "doctor": ("doctor",),
    "completion": ("completion",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = argparse.Namespace(run=None)
    words = sys.argv[1:] if argv is None else argv

    def run() -> int:
        _parser(words[0] if words else None).parse_args(words, args)
        code: int = args.run(args)
        return code

    # Who has read enough of a list has missed nothing.
    return guarded(run, cut_off=lambda: 0 if args.run in (None, *show.RUNS) else 141)


def _parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; where `command` is one of them, it knows only those of its module."""
    parser = CommandParser(prog="resnest-zoo", description="ResNeSt and ResNet COCO detectors by name.")
    parser.add_argument("--version", action="version", version=f"resnest-zoo {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", prog=parser.prog)
    own = [module for module, names in _COMMANDS.items() if command in names]
    for module in own or _COMMANDS:
        import_module(f"resnest_zoo.cli.{module}").add_commands(commands)
    return parser
