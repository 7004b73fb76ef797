"""A package that is not there and one that is broken are told apart."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from resnest_zoo.errors import ExportError, ImageError, ZooError
from resnest_zoo.extras import load_extra


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages can be written."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_module_is_imported(folder: Path) -> None:
    (folder / "pack_a").mkdir()
    (folder / "pack_a" / "__init__.py").touch()
    (folder / "pack_a" / "inner.py").write_text("VALUE = 7")
    assert isinstance(load_extra("pack_a", "some"), ModuleType)
    assert load_extra("pack_a.inner", "some").VALUE == 7


@pytest.mark.parametrize("module", ["no_such_pack", "no_such_pack.inner"])
def test_what_is_not_installed_is_named_with_its_extra(module: str) -> None:
    with pytest.raises(ZooError, match=r"^no_such_pack is not installed: pip install 'resnest-zoo\[some\]'$"):
        load_extra(module, "some")
    with pytest.raises(ImageError, match=r"^a\.mp4: PyAV is not installed"):
        load_extra(module, "some", where="a.mp4", called="PyAV", kind=ImageError)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import no_such_pack", "No module named 'no_such_pack'"),
        ("raise ImportError('libfoo.so.3: cannot open shared object file')", "libfoo.so.3: cannot open"),
        (
            "class VersionError(Exception): ...\nraise VersionError('made for 6.31\\nsee')",
            "made for 6.31",
        ),
        ("import pack_b.inner", "No module named 'pack_b.inner'"),
        ("raise ValueError", "ValueError"),
    ],
)
def test_what_cannot_be_loaded_is_not_to_be_installed(folder: Path, content: str, reason: str) -> None:
    (folder / "pack_b.py").write_text(content)
    with pytest.raises(ExportError) as caught:
        load_extra("pack_b", "some", where="onnx", kind=ExportError)
    told = str(caught.value)
    assert told.startswith(f"onnx: pack_b is installed but cannot be loaded ({reason}")
    assert told.endswith("); `pip check` tells what does not fit")
    assert len(told.splitlines()) == 1
