"""The command `export`: a detector as a file that other runtimes run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.arguments import add_overrides, positive
from resnest_zoo.cli.common import show_warnings
from resnest_zoo.cli.predict import model_name
from resnest_zoo.errors import ConfigError
from resnest_zoo.recognition import EXPORTED

if TYPE_CHECKING:
    from resnest_zoo.exporting import Exported


def add_commands(commands: Any) -> None:
    """Add the parser of `export`."""
    export = commands.add_parser(
        "export",
        help="write a detector for onnxruntime, torch.export or OpenVINO",
        description="Write a detector as a file that other runtimes run, `resnest-zoo predict --model FILE` "
        "among them. It is written once it has found in two drawn pictures what the model finds.",
    )
    export.add_argument("model", metavar="NAME", help="of the zoo; also a config, a checkpoint or hf://…")
    export.add_argument(
        "-f", "--format", choices=tuple(EXPORTED), help="by default what --output ends in, or onnx"
    )
    shape = export.add_mutually_exclusive_group()
    shape.add_argument(
        "--size",
        type=positive,
        nargs=2,
        metavar=("H", "W"),
        help="of the input, multiples of 32; by default what the config makes of landscape pictures",
    )
    shape.add_argument("--dynamic", action="store_true", help="take an input of any size")
    export.add_argument("--half", action="store_true", help="keep the weights in float16: half as large")
    export.add_argument(
        "--with-masks-pasted", action="store_true", help="give masks in pixels of the input, too"
    )
    export.add_argument("--opset", type=positive, default=20, metavar="N", help="of ONNX; default 20")
    export.add_argument("-w", "--weights", metavar="PATH|URL", help="another checkpoint")
    export.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the file; default NAME.onnx, NAME.pt2, NAME.xml"
    )
    add_overrides(export)
    export.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    name = model_name(args.model)
    output = args.output or Path(_stem(name) + EXPORTED[args.format or "onnx"])
    show_warnings()
    from resnest_zoo.exporting import export

    done = export(
        name,
        output,
        format=args.format,
        size=args.size,
        dynamic=args.dynamic,
        half=args.half,
        masks_pasted=args.with_masks_pasted,
        opset=args.opset,
        weights=args.weights,
        overrides=args.overrides,
    )
    _tell(done)
    return 0


def _stem(name: str) -> str:
    """What a file of a model is called: its name, without folders, addresses and endings."""
    last = name.rstrip("/").rpartition("/")[2].partition("@")[0]
    stem = last if "." not in last else last.rpartition(".")[0]
    if not stem:
        raise ConfigError(f"{name}: what the file is to be called is open; name it by --output")
    return stem


def _tell(done: Exported) -> None:
    from resnest_zoo.runtimes import files_of

    size = sum(path.stat().st_size for path in files_of(done.path, done.format))
    taken = "any size" if done.size is None else f"{done.size[0]} x {done.size[1]}"
    print(f"{done.path}: {size / 1e6:.1f} MB, input of {taken}")
    found = done.difference
    if not found.detections:
        print("compared with the model on two drawn pictures, in which neither finds anything")
        return
    print(
        f"compared with the model on two drawn pictures: {found.detections} detections, boxes "
        f"within {found.boxes:.1g} pixels, scores within {found.scores:.1g}"
    )
