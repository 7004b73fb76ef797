"""What `speed --peers` and `kernels` have recorded, as the tables and the picture of docs/speed.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.records import Rows, read

_BAR, _GAP, _LEFT, _SCALE = 18, 14, 300, 150
_COLOURS = {
    "exact": "#bbbbbb",
    "optimized": "#66ccee",
    "optimized, kernels": "#228833",
    "onnxruntime": "#ccbb44",
    "torchvision": "#aa3377",
    "detectron2": "#555555",
}


def tables() -> str:
    """Whole detectors, then single operations."""
    parts = []
    for stem, rows in read("peers").items():
        header = ("model", "detections", "threads", "who", "x", "seconds", "memory", "matched", "difference")
        parts += [_table(header, map(_detector, _sorted(rows))), _origin(stem, rows)]
    for stem, rows in read("kernels").items():
        header = ("operation", "threads", "who", "x", "ms", "difference")
        parts += [_table(header, map(_operation, rows)), _origin(stem, rows)]
    return "\n\n".join(parts)


def _sorted(rows: Rows) -> Rows:
    """By model and conditions, the slowest first; peers that ran with and without kernels once."""

    def place(row: dict[str, str]) -> tuple[str, int, int, float]:
        return row["model"], int(row["threads"]), -int(row["detections"]), float(row["ratio"])

    found: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        found.setdefault((row["model"], row["threads"], row["detections"], _who(row)), row)
    return sorted(found.values(), key=place)


def _who(row: dict[str, str]) -> str:
    return (
        f"{row['contender']}, kernels"
        if row["kernels"] and row["contender"] == "optimized"
        else row["contender"]
    )


def _detector(row: dict[str, str]) -> list[str]:
    difference = f"{row['box_pixels']} px, {row['score']}" if row["matched"] else "other weights"
    cells = [f"`{row['model']}`", row["detections"], row["threads"], _who(row), f"{float(row['ratio']):.2f}"]
    memory = f"{row['memory_mb']} MB, {float(row['memory_ratio']):.2f}"
    return [*cells, f"{float(row['seconds']):.2f}", memory, row["matched"], difference]


def _operation(row: dict[str, str]) -> list[str]:
    cells = [row["case"], row["threads"], row["contender"], f"{float(row['ratio']):.2f}"]
    return [*cells, row["milliseconds"], row["difference"]]


def _origin(stem: str, rows: Rows) -> str:
    dates = sorted({row["date"] for row in rows})
    versions = "; ".join(sorted({row["versions"] for row in rows}))
    against = rows[0].get("against", "exact") if rows else ""
    period = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"x: times as fast as {against}. `{stem}.csv`: {versions}; {period}."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bars() -> str:
    """How many times as fast as the first peer, as SVG; one group for each model and its conditions."""
    groups: dict[str, Rows] = {}
    for rows in read("peers").values():
        for row in _sorted(rows):
            title = f"{row['model']}, {row['detections']} detections, {row['threads']} thread(s)"
            groups.setdefault(title, []).append(row)
    lines, y = [], 40
    for title, rows in groups.items():
        lines.append(f'<text x="8" y="{y + 12}" font-weight="bold">{title}</text>')
        y += _BAR + 4
        for row in rows:
            ratio, who = float(row["ratio"]), _who(row)
            lines.append(f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{who}</text>')
            box = f'x="{_LEFT}" y="{y}" width="{ratio * _SCALE:.0f}" height="{_BAR - 3}"'
            lines.append(f'<rect {box} fill="{_COLOURS.get(who, "#4477aa")}"/>')
            lines.append(f'<text x="{_LEFT + ratio * _SCALE + 6:.0f}" y="{y + 13}">{ratio:.2f}</text>')
            y += _BAR
        y += _GAP
    shape = f'viewBox="0 0 820 {y}" font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {shape}>'
    title = '<text x="8" y="22" font-size="15">Times as fast as detectron2, CPU, float32, 800 x 1088</text>'
    return "\n".join([head, f'<rect width="820" height="{y}" fill="white"/>', title, *lines, "</svg>"]) + "\n"
