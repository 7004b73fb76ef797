"""The picture of all models as SVG: reported box AP against parameters and against measured time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.speed import REFERENCE
from resnest_zoo.registry import Entry

_TOP, _HEIGHT, _BOTTOM = 56, 470, 48
_AP = (38.0, 52.0)
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44")
_LEGEND_WIDTH = 150
_LETTER = 6  # of a label, at most


@dataclass(frozen=True)
class _Panel:
    """One diagram: where it stands and what its x axis means."""

    title: str
    left: float
    width: float
    values: Mapping[str, float]
    ticks: Sequence[float]
    unit: str

    def x(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.left + (value - low) / (high - low) * self.width

    def lines(self, entries: Sequence[Entry], colours: Mapping[str, str]) -> list[str]:
        right = self.left + self.width
        lines = [f'<text x="{self.left}" y="44" font-size="12" fill="#333">{self.title}</text>']
        for ap in range(int(_AP[0]), int(_AP[1]) + 1, 2):
            y = _y(ap)
            lines.append(f'<line x1="{self.left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            lines.append(f'<text x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{ap}</text>')
        for value in self.ticks:
            at = f'x="{self.x(value):.1f}" y="{_y(_AP[0]) + 20:.1f}"'
            lines.append(f'<text {at} text-anchor="middle">{value:g}{self.unit}</text>')
        for entry in entries:
            lines += self._mark(entry, colours[entry.method])
        return lines

    def _mark(self, entry: Entry, colour: str) -> list[str]:
        box = entry.reported[0].box
        if box is None or entry.name not in self.values:
            return []
        x, y = self.x(self.values[entry.name]), _y(box)
        # ResNeSt filled, ResNet open.
        fill = colour if entry.backbone.startswith("ResNeSt") else "white"
        label = entry.backbone.replace("ResNeSt-", "S").replace("ResNet-", "R").replace("-DCNv2", " dcn")
        # To the left where there is no room, and of the panoptic model, which is close to its neighbour.
        is_late = x + 9 + _LETTER * len(label) > self.left + self.width
        anchor, label_x = ("end", x - 9) if entry.reported[0].pq or is_late else ("start", x + 9)
        text = f'text-anchor="{anchor}" font-size="10" fill="#555">{label}</text>'
        return [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2">'
            f"<title>{entry.name}: {box:.2f}</title></circle>",
            f'<text x="{label_x:.1f}" y="{y + 4:.1f}" {text}',
        ]


def _y(ap: float) -> float:
    return _HEIGHT - _BOTTOM - (ap - _AP[0]) / (_AP[1] - _AP[0]) * (_HEIGHT - _TOP - _BOTTOM)


def chart(entries: Sequence[Entry], times: Mapping[str, float]) -> str:
    """One diagram, or two where times were measured.

    Args:
        entries: the models.
        times: by name, as a multiple of the reference model's.
    """
    millions = {entry.name: (entry.parameters or 0) / 1e6 for entry in entries}
    wide = 674 if not times else 440
    panels = [_Panel("parameters", 56, wide, millions, range(40, 141, 20), " M")]
    if times:
        step = max(1, -(-int(max(times.values())) // 5))
        ticks = range(0, int(max(times.values())) + step + 1, step)
        left = 56 + wide + 60
        title = f"time for one picture, {REFERENCE} = 1"
        panels.append(_Panel(title, left, wide, times, ticks, ""))
    legend = panels[-1].left + panels[-1].width + 8
    width = legend + _LEGEND_WIDTH - 8
    methods = dict.fromkeys(entry.method for entry in entries)
    colours = dict(zip(methods, _COLOURS, strict=True))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{_HEIGHT}" fill="white"/>',
        '<text x="56" y="22" font-size="15">Reported box AP on COCO val2017</text>',
    ]
    for panel in panels:
        lines += panel.lines(entries, colours)
    for index, (method, colour) in enumerate(colours.items()):
        y = _TOP + 30 + 22 * index
        lines.append(f'<circle cx="{legend}" cy="{y}" r="5" fill="{colour}"/>')
        lines.append(f'<text x="{legend + 10}" y="{y + 4}" font-size="11">{method}</text>')
    y = _TOP + 40 + 22 * len(colours)
    lines.append(f'<text x="{legend - 6}" y="{y}" font-size="10" fill="#555">R ResNet, S ResNeSt</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
