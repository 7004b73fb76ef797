#!/usr/bin/env bash
# supervision 0.31.2: `process_video` writes a film of variable rate with constant times, without a word.
#
# Expected: each frame keeps its time, or an error or a warning says that it cannot.
# Seen: frames at 0, 40, 80, 400, 800, 840 ms come out at 0, 87, 173, 260, 347, 433 ms: the film is half as long.
# Who is hurt: whoever draws detections into films of telephones, most of which vary their rate: events move in time.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check supervision==0.31.2 opencv-python-headless==5.0.0.93 av==18.1.0
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys
import warnings
from fractions import Fraction

import av
import numpy as np
import supervision

TIMES = [0, 40, 80, 400, 800, 840]  # milliseconds

with av.open("in.mp4", "w") as film:
    stream = film.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    stream.codec_context.time_base = Fraction(1, 1000)
    for index, time in enumerate(TIMES):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * index, np.uint8), format="rgb24")
        frame.pts, frame.time_base = time, Fraction(1, 1000)
        film.mux(stream.encode(frame))
    film.mux(stream.encode(None))


def times(path):
    with av.open(path) as film:
        return [round(1000 * float(frame.time)) for frame in film.decode(video=0)]


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    supervision.process_video("in.mp4", "out.mp4", lambda frame, index: frame)
before, after = times("in.mp4"), times("out.mp4")
steps = set(np.diff(after).tolist())
print(before, "became", after, "; warnings:", [str(w.message)[:80] for w in told])
sys.exit(before != TIMES or len(after) != len(TIMES) or max(steps) - min(steps) > 1)
PYTHON
