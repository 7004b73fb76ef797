from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.small_set import SmallSet


@pytest.fixture
def small_set(tmp_path: Path) -> SmallSet:
    """Four pictures: two wide, one high, one square."""
    folder = tmp_path / "set"
    folder.mkdir()
    return SmallSet(folder, [(40, 60), (50, 30), (30, 64), (44, 44)])
