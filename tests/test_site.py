"""The site: its pages are complete, its links lead somewhere, and nothing comes from another host."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import resnest_zoo
from benchmarks import site
from resnest_zoo import errors, registry
from resnest_zoo.config.schema import FIXED, IGNORED, KEYS
from resnest_zoo.errors import DataError

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "site" / "tables.js"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    site.write_pages(folder)
    return folder


def test_every_page_is_in_the_menu_and_the_menu_in_the_pages(pages: Path) -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"([\w-]+\.md)$", text.partition("\nnav:")[2], re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in pages.glob("*.md"))


def test_links_are_those_of_the_repository(pages: Path) -> None:
    home = (pages / "index.md").read_text(encoding="utf-8")
    assert "](demo.png)" in home
    assert "](model_zoo.md)" in home
    for page in pages.glob("*.md"):
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)#\s]+)", prose):
            assert "://" in link or (pages / link).is_file(), f"{page.name}: {link}"


def test_a_link_to_nothing_is_an_error_and_code_is_left_alone() -> None:
    code = "```python\ncalls[0](missing.md)\n```\n"
    assert site.mend_links(code, "docs/a.md") == (code, set())
    text, files = site.mend_links("[a](../MODEL_ZOO.md#x) [b](../NOTICE) [c](https://a.b/c)", "docs/a.md")
    assert text == "[a](model_zoo.md#x) [b](files/NOTICE) [c](https://a.b/c)"
    assert files == {"NOTICE"}
    with pytest.raises(DataError, match=r"docs/a.md: a link to missing.md, which is no file"):
        site.mend_links("[a](missing.md)", "docs/a.md")


def test_all_models_are_in_one_table(pages: Path) -> None:
    text = (pages / "model_zoo.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    header, *models = [row.split(" | ") for row in rows]
    assert header[:3] == ["| group", "name", "method"]
    assert {len(row) for row in models} == {len(header)}
    listed = [row[1].strip("`") for row in models]
    assert set(listed) == set(registry.PUBLISHED + registry.MMDETECTION + registry.SHIPPED)
    augmented = next(row for row in models if row[5] == "test-dev2019, TTA")
    assert augmented[1:3] == ["`mask_cascade_resnest200_dcn_3x`", "Cascade Mask R-CNN"]
    assert "## Conditions" in text


def test_every_config_key_is_on_its_page(pages: Path) -> None:
    text = (pages / "config-keys.md").read_text(encoding="utf-8")
    for key in (*KEYS.typed, *FIXED, *IGNORED):
        assert f"`{key}`" in text
    assert "| `MODEL.BACKBONE.FREEZE_AT` | `2` | an integer from 0 to 5 | stages frozen: 1 the stem" in text
    notes = site._notes()
    assert len(notes) > 20
    assert set(notes) <= set(KEYS.typed)


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    here = [
        path for path in named if ".integrations.sahi." not in path
    ]  # which imports a package of an extra
    lacking = [
        name
        for name in resnest_zoo.__all__
        if getattr(resnest_zoo, name) not in (resolve(path) for path in here) and not hasattr(errors, name)
    ]
    assert lacking == []
    assert len(named) == len(set(named))


def resolve(path: str) -> object:
    import importlib

    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node to run the script in")
def test_tables_are_sorted_and_filtered_as_the_script_says() -> None:
    program = f"""
const t = require({json.dumps(str(SCRIPT))});
const sorted = (cells, way) => [...cells].sort((a, b) => t.compareCells(a, b, way));
console.log(JSON.stringify([
  sorted(["9.5", "", "1,052,474", "43.10", "none"], 1),
  sorted(["9.5", "", "1,052,474", "43.10", "none"], -1),
  sorted(["ResNeSt-200", "ResNeSt-50", "resnest-101"], 1),
  ["resnest", "ResNeSt -dcn", "cascade|mask 50", "absent", "", "- |"].map(
    (query) => t.matches("mask_rcnn_resnest50 Mask R-CNN", query)),
  ["resnest -mask"].map((query) => t.matches("mask_rcnn_resnest50", query)),
]));
"""
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        ["9.5", "43.10", "1,052,474", "none", ""],
        ["none", "1,052,474", "43.10", "9.5", ""],
        ["ResNeSt-50", "resnest-101", "ResNeSt-200"],
        [True, True, True, False, True, True],
        [False],
    ]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(pages: Path, tmp_path: Path) -> None:
    pytest.importorskip("material", reason='needs `pip install -e ".[docs]"`')
    pytest.importorskip("mkdocstrings")
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    extension = ROOT / "docs" / "site" / "doctests.py"
    for here, elsewhere in (
        ("docs_dir: build/pages", f"docs_dir: {pages}"),
        ("paths: [.]", f"paths: [{ROOT}]"),
        ("docs/site/doctests.py", str(extension)),
    ):
        assert here in text
        text = text.replace(here, elsewhere)
    (tmp_path / "mkdocs.yml").write_text(text, encoding="utf-8")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # of the theme, on the future of the generator
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    built = sorted((tmp_path / "site").glob("*.html"))
    assert {path.stem for path in built} - {"404"} == {path.stem for path in pages.glob("*.md")}
    for page in built:
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]* src=\"?([^\" >]+)", html)
        loaded += re.findall(r"<link[^>]* rel=\"?(?:stylesheet|preconnect|icon)\"?[^>]*", html)
        assert [what for what in loaded if "//" in what.replace("<!--", "")] == [], page.name
    zoo = (tmp_path / "site" / "model_zoo.html").read_text(encoding="utf-8")
    assert '<div class="sortable">' in zoo
    assert "site/tables.js" in zoo
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    for name in ("api.get", "api.Predictor.__call__", "structures.Instances.__getitem__"):
        assert f'id="resnest_zoo.{name}"' in reference
    assert "<blockquote>" not in reference  # which sessions would be without their fences


def test_the_config_of_the_site_is_strict_and_takes_nothing_from_other_hosts() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    assert config["strict"] is True
    assert config["theme"]["font"] is False
    assert "offline" not in config["plugins"]  # which loads a script from elsewhere
    assert [*config["extra_javascript"], *config["extra_css"]] == ["site/tables.js", "site/style.css"]
