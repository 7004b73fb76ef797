"""What `exports` has recorded, as the table of docs/export.md: rows are models, columns are formats."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.records import Rows, read
from resnest_zoo.registry import PUBLISHED

_FORMATS = ("onnx", "pt2", "openvino")
_HEADER = ("model", *_FORMATS)


def tables() -> str:
    """One table for each file and size, the models in the order of the zoo."""
    parts = []
    for stem, rows in read("exports").items():
        for size in dict.fromkeys(row["size"] for row in rows):
            of_size = [row for row in rows if row["size"] == size]
            parts += [f"Input of {size}:", _table(of_size, whole="any" not in size)]
        parts.append(_origin(stem, rows))
    return "\n\n".join(parts) or "Nothing is recorded."


def _table(rows: Rows, *, whole: bool) -> str:
    """With `whole`, models that were not measured have a row, too."""
    cells = {(row["model"], row["format"]): _cell(row) for row in rows}
    known = {row["model"] for row in rows}
    lines: list[Sequence[str]] = [_HEADER, ["---"] * len(_HEADER)]
    for name in PUBLISHED:
        if whole or name in known:
            lines.append([f"`{name}`", *(cells.get((name, f), "not measured") for f in _FORMATS)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: dict[str, str]) -> str:
    if row["outcome"] != "equal":
        return row["outcome"].replace("|", "\\|")
    equal = f"{row['detections']} equal, {row['box_pixels']} px, {row['score']}"
    return f"{equal}; x {row['ratio']}, {row['ratio_optimized']}"


def _origin(stem: str, rows: Rows) -> str:
    dates = sorted({row["date"] for row in rows})
    versions = "; ".join(sorted({row["versions"] for row in rows}))
    period = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"`{stem}.csv`: {versions}; {period}."
