"""The one public door: what it offers, and that looking through it is instant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import resnest_zoo

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "numpy", "PIL", "pycocotools", "requests", "yaml")


def test_the_door_is_exactly_this() -> None:
    assert resnest_zoo.__all__ == [
        "TTA",
        "Artifact",
        "Categories",
        "Entry",
        "Measured",
        "ModelCard",
        "Predictor",
        "Reported",
        "Video",
        "VideoWriter",
        "ZooError",
        "build_model",
        "export",
        "fetch",
        "from_pretrained",
        "get",
        "info",
        "list_models",
        "load_checkpoint",
        "load_config",
        "load_zoo",
        "optimize",
        "push_to_hub",
        "register",
        "save_pretrained",
    ]


@pytest.mark.parametrize("name", resnest_zoo.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(resnest_zoo, name)
    assert callable(value)
    assert value.__doc__
    assert getattr(resnest_zoo, name) is value
    assert name in dir(resnest_zoo)


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from resnest_zoo import *", names)
    assert set(names) - {"__builtins__"} == set(resnest_zoo.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'resnest_zoo' has no attribute 'get_modle'"):
        resnest_zoo.get_modle  # noqa: B018


def loaded_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after running `code`."""
    program = f"import sys\n{code}\nprint('LOADED', *(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "code",
    [
        "import resnest_zoo; resnest_zoo.list_models('mask_*'); resnest_zoo.info('faster_rcnn_resnest50')",
        "import resnest_zoo; dir(resnest_zoo); hasattr(resnest_zoo, 'nothing')",
        "from resnest_zoo.cli import main; main(['list'])",
        "from resnest_zoo.cli import main; main(['list', '--json'])",
        "from resnest_zoo.cli import main; main(['info', 'mask_cascade_resnest200_dcn_3x'])",
        "from resnest_zoo.cli import main; assert main(['info', 'nothing_like_it']) == 1",
        "from resnest_zoo.cli import main; assert main(['predict', 'a.jpg', '--model', 'nothing']) == 1",
        "import runpy; sys.argv[1:] = ['list']\n"
        "try: runpy.run_module('resnest_zoo', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0",
    ],
)
def test_listing_loads_no_heavy_package(code: str) -> None:
    assert loaded_after(code) == set()


def test_the_check_above_would_notice() -> None:
    assert {"torch", "numpy"} <= loaded_after("import resnest_zoo; resnest_zoo.build_model")


def test_a_tilde_is_expanded_as_shells_do_where_nobody_has_that_name() -> None:
    """`Path.expanduser` raises RuntimeError for `~nobody/x`; `os.path.expanduser` leaves it as it is."""
    sources = [*(ROOT / "resnest_zoo").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert len(sources) > 100
    assert not [path for path in sources if ".expanduser()" in path.read_text(encoding="utf-8")]


def test_every_requirement_has_a_lowest_release() -> None:
    """On which CI tests, see `.ci/floors.py`."""
    path = ROOT / ".ci" / "floors.py"
    if not path.exists():
        pytest.skip("not in an sdist")
    command = [sys.executable, str(path), "train", "verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = done.stdout.split()
    assert "numpy==1.26" in rows
    assert [row for row in rows if "==" not in row] == []
