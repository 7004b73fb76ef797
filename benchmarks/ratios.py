"""Two sides of a comparison measured in turns, their ratio, and the floor it must reach.

Both sides take turns within one run; a ratio is that of two neighbours. A table shows the median of the
ratios, the worst tenth, and each side's own times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        ours: seconds of each round.
        theirs: likewise; None compares with a number of seconds alone.
        floor: the ratio that must be reached: how many times as fast as theirs, or the seconds allowed.
    """

    name: str
    ours: list[float]
    theirs: list[float] | None
    floor: float

    @property
    def ratios(self) -> list[float]:
        """How many times as fast, each round."""
        pairs = zip(self.ours, self.theirs or [], strict=True)
        return [theirs / ours for ours, theirs in pairs]

    @property
    def low(self) -> float:
        """The worst tenth of the ratios."""
        return _percentile(self.ratios, 0.1)

    @property
    def passed(self) -> bool:
        if self.theirs is None:
            return statistics.median(self.ours) <= self.floor
        return statistics.median(self.ratios) >= self.floor

    def line(self, name_width: int) -> str:
        cells = [
            f"{self.name:<{name_width}}",
            _times(self.ours),
            _times(self.theirs) if self.theirs else " " * 19,
        ]
        if self.theirs is None:
            cells.append(f"{'':>15}{'≤ ' + _seconds(self.floor):>10}")
        else:
            cells.append(
                f"{statistics.median(self.ratios):7.2f} {self.low:7.2f}{'≥ ' + f'{self.floor:.2f}':>10}"
            )
        return "  ".join([*cells, "met" if self.passed else "MISSED"])


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms"


def _times(values: list[float]) -> str:
    return f"{_seconds(statistics.median(values)):>9} {_seconds(_percentile(values, 0.9)):>9}"


def turns(rounds: int, ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[list[float], ...]:
    """Seconds of both, in turns; the first round warms up and does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for seconds, act in zip(times, (ours, theirs), strict=True):
            start = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - start)
    return times[0][1:], times[1][1:]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=9, help="default 9")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a floor is missed")
    parser.add_argument("--json", action="store_true", help="print the times as JSON")


def report(rows: Sequence[Row], options: argparse.Namespace) -> int:
    """Print the rows as `options` asks and return the exit status."""
    if options.json:
        print(json.dumps([vars(row) for row in rows]))
    else:
        width = max(14, *(len(row.name) for row in rows))
        print(f"{'':<{width}}  {'ours':>9} {'p90':>9}  {'theirs':>9} {'p90':>9}    ratio     p10     floor")
        print("\n".join(row.line(width) for row in rows))
    return int(options.check and not all(row.passed for row in rows))
