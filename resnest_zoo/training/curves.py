"""The curves of a run: losses, learning rate and metrics over the iterations."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from resnest_zoo.errors import ConfigError, DataError
from resnest_zoo.extras import load_extra
from resnest_zoo.training.recorder import METRICS, read_metrics

_MAIN = ("panoptic_seg/PQ", "segm/AP", "bbox/AP", "bbox/AP50")


def draw_curves(folder: Path, form: str = "png") -> bytes:
    """Draw what a run has recorded.

    Args:
        folder: of the run.
        form: of the picture, one of matplotlib's, such as "svg".

    Returns:
        What its file holds.

    Raises:
        ConfigError: matplotlib does not know the format.
        DataError: the folder has no records, or none yet.
        ZooError: matplotlib is missing.
    """
    file = folder / METRICS
    rows = read_metrics(file) if file.is_file() else []
    losses = [row for row in rows if "loss" in row]
    measured = [row for row in rows if any(name.endswith(_MAIN) for name in row)]
    if not losses:
        raise DataError(f"{folder}: no run is recorded there: {METRICS} is missing or empty")
    load_extra("matplotlib", "train", where="curves")
    from matplotlib.backend_bases import FigureCanvasBase
    from matplotlib.figure import Figure

    if form not in (known := FigureCanvasBase.get_supported_filetypes()):
        raise ConfigError(
            f"curves are drawn in one of the formats {', '.join(sorted(known))}, not in {form!r}"
        )
    figure = Figure(figsize=(9, 9 if measured else 6), layout="constrained")
    above, *below = figure.subplots(3 if measured else 2, sharex=True)
    names = [name for name in losses[0] if name.startswith("loss")]
    for name in names:
        _line(above, losses, name, width=2.0 if name == "loss" else 1.0)
    above.set(ylabel="loss", yscale="log", title=str(folder))
    _line(below[0], losses, "lr")
    below[0].set(ylabel="learning rate")
    if measured:
        for name in measured[0]:
            if name.endswith(_MAIN):  # of several sets their names come first
                _line(below[1], measured, name, marker="o")
        below[1].set(ylabel="percent", ylim=(0, None))
    for axes in (above, *below):
        axes.grid(alpha=0.3)
        if len(axes.lines) > 1:
            axes.legend(fontsize="small")
    below[-1].set(xlabel="iteration")
    content = io.BytesIO()
    figure.savefig(content, format=form, dpi=130)
    return content.getvalue()


def _line(axes: Any, rows: list[dict[str, Any]], name: str, width: float = 1.5, marker: str = "") -> None:
    values = ((row["iteration"], row.get(name)) for row in rows)
    points = [point for point in values if point[1] is not None and math.isfinite(point[1])]
    across, up = zip(*points, strict=True) if points else ((), ())
    axes.plot(across, up, label=name, linewidth=width, marker=marker, markersize=4)
