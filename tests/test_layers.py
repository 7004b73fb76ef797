"""Rooms import only what the layer table allows, and the light rooms stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "resnest_zoo"

# What each room may import besides itself. `errors`, `extras` and `categories` hold no code of a layer and
# are open to all; `_DOOR` is the package's `__init__`, which offers everything.
_OPEN = {"errors", "extras", "categories"}
_DOOR = "__init__"
_ANYTHING = "anything"
TABLE: dict[str, set[str] | str] = {
    "errors": set(),
    "extras": set(),
    "categories": set(),
    "recognition": set(),
    "config": set(),
    "hub": {"recognition"},
    "annotations": set(),
    "structures": set(),
    "ops": set(),
    "distributed": set(),
    "checkpoint": {"recognition"},
    "zoo": {"config", "hub"},
    "registry": {"config", "hub", "zoo"},
    "models": {"config", "structures", "ops"},
    "data": {"config", "hub", "annotations", "structures", "ops", "distributed"},
    "evaluation": {"annotations", "structures", "distributed", "ops"},
    "inference": {"models", "data", "evaluation", "annotations", "structures", "ops", "config", "hub"},
    "optimization": {"models", "structures", "ops", "config"},
    "runtimes": {"recognition", "models", "structures", "config"},
    "training": {
        "annotations",
        "models",
        "data",
        "evaluation",
        "checkpoint",
        "distributed",
        "structures",
        "config",
    },
    "api": {
        "recognition",
        "registry",
        "hub",
        "config",
        "checkpoint",
        "models",
        "inference",
        "optimization",
        "runtimes",
        "structures",
    },
    "exporting": {
        "api",
        "registry",
        "hub",
        "config",
        "models",
        "runtimes",
        "structures",
        "ops",
        "checkpoint",
    },
    "integrations": {
        "api",
        "registry",
        "hub",
        "checkpoint",
        "inference",
        "models",
        "evaluation",
        "data",
        "annotations",
        "structures",
        "ops",
        "config",
    },
    "serve": {
        "api",
        "registry",
        "hub",
        "config",
        "inference",
        "data",
        "structures",
        "evaluation",
    },
    "cli": _ANYTHING,
    "__main__": {"cli"},
    _DOOR: _ANYTHING,
}
LIGHT = ("errors", "categories", "recognition", "config", "hub", "registry")
HEAVY = ("torch", "torchvision", "numpy", "PIL", "requests", "tqdm", "huggingface_hub", "pycocotools")


def room_of(path: Path, package: Path) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


def imported_modules(source: str, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, also those inside functions; relative ones made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from resnest_zoo import hub` names a room, `from resnest_zoo.hub import fetch` does not.
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def violations(package: Path) -> list[str]:
    """A sentence for each import that the table does not allow."""
    found = []
    for path in sorted(package.rglob("*.py")):
        where, room = path.relative_to(package), room_of(path, package)
        if room not in TABLE:
            found.append(f"{where}: the room {room!r} is not in the table")
            continue
        allowed = TABLE[room]
        parts = (package.name, *where.parent.parts)
        for line, name in imported_modules(path.read_text(encoding="utf-8"), parts):
            top, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if top == "detectron2" and room != "integrations":
                found.append(f"{where}:{line}: imports detectron2")
            if top != package.name or allowed == _ANYTHING or target in {room, "__version__"}:
                continue
            if target not in TABLE:
                found.append(f"{where}:{line}: {room} goes through the package's own door for {target}")
            elif target not in _OPEN | set(allowed):
                found.append(f"{where}:{line}: {room} imports {target}")
    return found


def test_every_room_imports_only_what_the_table_allows():
    assert violations(PACKAGE) == []


def test_the_table_has_no_circle():
    """So that "lower layer" has a meaning: rooms can be put in an order."""
    waiting = {room: set(allowed) for room, allowed in TABLE.items() if allowed != _ANYTHING}
    while waiting:
        ready = {room for room, allowed in waiting.items() if not allowed & set(waiting)}
        assert ready, f"these import each other in a circle: {sorted(waiting)}"
        waiting = {room: allowed for room, allowed in waiting.items() if room not in ready}


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("ops/x.py", "from resnest_zoo.models import build_model", "ops imports models"),
        ("ops/x.py", "import resnest_zoo.config.schema", "ops imports config"),
        ("ops/x.py", "from resnest_zoo import hub", "ops imports hub"),
        ("ops/x.py", "from ..training import trainer", "ops imports training"),
        ("ops/x.py", "from .. import registry", "ops imports registry"),
        ("ops/x.py", "def f():\n    from resnest_zoo.api import get", "ops/x.py:2: ops imports api"),
        ("errors.py", "from resnest_zoo.hub import fetch", "errors imports hub"),
        ("models/x.py", "from resnest_zoo.data.coco import load", "models imports data"),
        ("models/x.py", "from resnest_zoo import get", "own door for get"),
        ("inference/x.py", "from detectron2.config import get_cfg", "imports detectron2"),
        ("utils/x.py", "", "the room 'utils' is not in the table"),
    ],
)
def test_the_checker_sees_a_violation(tmp_path, path, source, complaint):
    file = tmp_path / "resnest_zoo" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    (found,) = violations(tmp_path / "resnest_zoo")
    assert complaint in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ops/x.py", "from resnest_zoo.errors import ShapeError\nfrom resnest_zoo.ops.boxes import nonempty"),
        ("ops/x.py", "from .boxes import nonempty\nfrom ..errors import ShapeError\nimport torch"),
        ("models/x.py", "from resnest_zoo.categories import COCO\nfrom resnest_zoo import structures"),
        ("cli.py", "from resnest_zoo import get\nfrom resnest_zoo.training import trainer"),
        ("integrations/x.py", "def f():\n    import detectron2"),
    ],
)
def test_the_checker_lets_allowed_imports_pass(tmp_path, path, source):
    file = tmp_path / "resnest_zoo" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert violations(tmp_path / "resnest_zoo") == []


@pytest.mark.parametrize("room", LIGHT)
def test_a_light_room_loads_no_heavy_package(room):
    """In a fresh interpreter, since this one has loaded torch long ago."""
    code = f"import sys, resnest_zoo.{room}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
