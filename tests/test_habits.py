"""docs/habits.md: each cell of ours names a test that exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "habits.md").read_text(encoding="utf-8")
COLUMNS = ["habit", "here", "ultralytics", "supervision", "torchvision", "detectron2"]


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("|") and "---" not in line]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "habit"]


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"}


def test_every_table_has_the_same_columns() -> None:
    headers = [line for line in PAGE.splitlines() if line.startswith("| habit")]
    assert len(headers) == PAGE.count("\n## ") == 4
    assert {tuple(line.strip("| ").split(" | ")) for line in headers} == {tuple(COLUMNS)}


def test_every_habit_of_each_table_is_another() -> None:
    habits = [row[0] for row in rows()]
    assert len(habits) == len(set(habits)) == 71


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_works_here_is_tested(row: list[str]) -> None:
    assert len(row) == len(COLUMNS)
    assert all(row)
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[1])
    assert row[1].startswith("yes") == bool(named), "say yes and name the test, or no"
    assert row[1].startswith(("yes", "no"))
    for file, name in named:
        assert name in functions_of(file), f"{file} has no {name}"
