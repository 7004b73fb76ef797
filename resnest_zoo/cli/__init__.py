"""The command `resnest-zoo`.

Exit codes: 0 all went well, 1 something failed and was reported, 2 wrong usage, 130 interrupted, 141 the
reader of standard output went away and work was left undone.
torch is loaded by the commands that need a model alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from resnest_zoo import __version__
from resnest_zoo.cli import demo, doctor, evaluate, predict, show, store, train
from resnest_zoo.cli.common import guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = argparse.Namespace(run=None)

    def run() -> int:
        _parser().parse_args(argv, args)
        code: int = args.run(args)
        return code

    # Who has read enough of a list has missed nothing.
    return guarded(run, cut_off=lambda: 0 if args.run in (None, *show.RUNS) else 141)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resnest-zoo", description="ResNeSt and ResNet COCO detectors by name."
    )
    parser.add_argument("--version", action="version", version=f"resnest-zoo {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show.add_commands(commands)
    store.add_commands(commands)
    predict.add_command(commands)
    train.add_commands(commands)
    evaluate.add_command(commands)
    demo.add_command(commands)
    doctor.add_command(commands)
    return parser
