"""The server of the browser's tests: the packaged models, and a tiny one that comes slowly from a mirror.

python -m tests.serve.browser.served FOLDER PORT
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from resnest_zoo.cli import main
from resnest_zoo.registry import register
from tests.servers import Fault, FileServer
from tests.tiny_zoo import write_tiny

MODELS = ("mask_rcnn_resnest14_dcn_shapes", "panoptic_resnest14_dcn_shapes")
SLOW = "tiny_detection"


def serve(folder: Path, port: str) -> int:
    """Serve until a signal ends it."""
    register(replace(write_tiny("detection", folder), reported=()))  # it has no place in the chart
    with FileServer(folder) as mirror:
        mirror.always = Fault(pace=0.15)
        os.environ["RESNEST_ZOO_MIRROR"] = mirror.url
        os.environ["RESNEST_ZOO_CACHE"] = str(folder / "cache")
        return main(["serve", *MODELS, "--port", port])


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1]), sys.argv[2]))
