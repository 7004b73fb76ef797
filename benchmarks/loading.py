"""What looking for numbers that are not finite costs when a checkpoint is loaded.

    python -m benchmarks.loading            # a table
    python -m benchmarks.loading --check    # exit status 1 if it costs more than a twentieth

`get` of a file of random weights in each format, as it is ("ours") and without the check ("theirs"). How
times and ratios are taken: `benchmarks/ratios.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch

import resnest_zoo
from benchmarks.ratios import Row, add_options, report, turns
from resnest_zoo.checkpoint import loading, write_safetensors

FLOOR = 0.95


def measure(name: str, rounds: int, folder: Path) -> list[Row]:
    state = resnest_zoo.get(name, pretrained=False).state_dict()
    files = {form: folder / form for form in ("safetensors", "zip", "stream")}
    write_safetensors(state, files["safetensors"], {})
    torch.save({"model": state}, files["zip"])
    torch.save({"model": state}, files["stream"], _use_new_zipfile_serialization=False)
    rows = []
    for form, file in files.items():

        def load(file: Path = file) -> None:
            resnest_zoo.get(name, weights=file)

        def load_unchecked(file: Path = file) -> None:
            with mock.patch.object(loading, "require_finite"):
                resnest_zoo.get(name, weights=file)

        ours, theirs = turns(rounds, load, load_unchecked)
        rows.append(Row(f"{form}, {file.stat().st_size / 1e6:.0f} MB", ours, theirs, FLOOR))
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mask_rcnn_resnest50", help="default mask_rcnn_resnest50")
    add_options(parser)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        return report(measure(args.model, args.rounds, Path(folder)), args)


if __name__ == "__main__":
    sys.exit(main())
