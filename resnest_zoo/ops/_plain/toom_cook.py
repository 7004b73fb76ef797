"""The matrices of Winograd's minimal filtering F(m, 3), by the method of Toom and Cook.

Y = A [(G g) * (B d)]: m outputs of a filter g of 3 taps over m + 2 inputs d, by m + 2 products, each of which
belongs to a point. F(3, 3) takes the first five of the six points of F(4, 3), so both share filters.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016. The points 0, ±√½, ±√2 and
infinity, in place of 0, ±1, ±2, leave a third of the rounding error.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, math.inf, -(2.0**0.5))


@cache
def filter_matrix() -> Tensor:
    """G (6, 3) float64, a row for each point."""
    return _powers(_POINTS, 3) * _scale()[:, None]


@cache
def input_matrix(outputs: int) -> Tensor:
    """B (m + 2, m + 2) float64, a row for each point; m is 3 or 4."""
    return _unscaled(outputs) / _scale()[: outputs + 2, None]


@cache
def output_matrix(outputs: int) -> Tensor:
    """A (m, m + 2) float64, a column for each point; m is 3 or 4."""
    return _powers(_POINTS[: outputs + 2], outputs).T.contiguous()


def _powers(points: tuple[float, ...], count: int) -> Tensor:
    """(points, count): 1, p, p^2 …; of infinity only the last counts."""
    rows = [[0.0] * (count - 1) + [1.0] if p == math.inf else [p**k for k in range(count)] for p in points]
    return torch.tensor(rows, dtype=torch.float64)


def _scale() -> Tensor:
    """(6,): moves from B to G what makes the rows of B unlike in size, so that no input is blown up."""
    return _unscaled(4).abs().sum(dim=1)


def _unscaled(outputs: int) -> Tensor:
    """Each point's row holds the coefficients of Lagrange's polynomial; infinity's those of all factors."""
    points = _POINTS[: outputs + 2]
    finite = [point for point in points if point != math.inf]
    rows = torch.zeros(len(points), len(points), dtype=torch.float64)
    for row, point in zip(rows, points, strict=True):
        if point == math.inf:
            row[:] = _polynomial(finite)
            continue
        others = [other for other in finite if other != point]
        row[:-1] = _polynomial(others) / math.prod(point - other for other in others)
    return rows


def _polynomial(roots: list[float]) -> Tensor:
    """Coefficients of the product of all x - root, the constant first."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        longer = torch.zeros(len(coefficients) + 1, dtype=torch.float64)
        longer[1:] += coefficients
        longer[:-1] -= root * coefficients
        coefficients = longer
    return coefficients
