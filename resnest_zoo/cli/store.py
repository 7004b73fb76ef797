"""The command `download`: files into the cache."""

from __future__ import annotations

import argparse
from typing import Any

from resnest_zoo.cli.common import report, show_warnings
from resnest_zoo.errors import ZooError
from resnest_zoo.registry import info, list_models


def add_commands(commands: Any) -> None:
    """Add the parsers of this module's commands."""
    download = commands.add_parser("download", help="bring checkpoints into the cache and verify them")
    which = download.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="name or alias")
    which.add_argument("--all", action="store_true", help="all detectors")
    download.set_defaults(run=_download)


def _download(args: argparse.Namespace) -> int:
    from resnest_zoo.hub import fetch

    show_warnings()
    failed = 0
    entries = [info(name) for name in (list_models() if args.all else args.names)]
    for entry in entries:
        try:
            print(f"{entry.name}  {fetch(entry.artifact, progress=None)}", flush=True)
        except ZooError as error:
            failed += report(error)
    return min(failed, 1)
