"""The command `resnest-zoo`.

Exit codes: 0 all went well, 1 something failed and was reported, 2 wrong usage, 130 interrupted.
torch is loaded by the commands that need a model alone.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from resnest_zoo import __version__
from resnest_zoo.cli import demo, evaluate, predict, show, store, train
from resnest_zoo.cli.common import memory_problem, report
from resnest_zoo.errors import ZooError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ZooError, OSError) as error:
        return report(error)
    except (MemoryError, RuntimeError) as error:
        if problem := memory_problem(error):
            return report(problem)
        raise
    return code


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
    return parser
