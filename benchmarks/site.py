"""Write the pages of the site, of which `mkdocs.yml` makes HTML: `make docs` does both.

README.md is the first page; MODEL_ZOO.md becomes one table of all models; the keys of a config are read off
their schema. Links work on the site as they do in the repository: a file that is no page, such as a config,
is copied to `files/`. No generator is needed here, so that another one may follow.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from resnest_zoo.config import schema
from resnest_zoo.config.differences import OWN
from resnest_zoo.config.keys import describe
from resnest_zoo.errors import DataError

ROOT = Path(__file__).parents[1]
# Files outside docs/ that are pages, by their address on the site.
OUTSIDE = {
    "README.md": "index.md",
    "MODEL_ZOO.md": "model_zoo.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
_LINK = re.compile(r"(\]\()(?!\w+:)([^)#\s]+)((?:#[^)\s]*)?\))")
# A field, on one line or with a default in brackets on several, and the comment behind it.
_COMMENTED = re.compile(r"^    (\w+): .*?(?:\(\n(?:     .*\n)+    \))?  # (.*)$", re.MULTILINE)
_FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.site", description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", default=ROOT / "build" / "pages", help="default: build/pages"
    )
    folder = parser.parse_args(argv).folder
    write_pages(folder)
    print(f"written: {folder}")
    return 0


def write_pages(folder: Path) -> None:
    """Write every page, and every file that one of them needs, into a folder, which is emptied before.

    Raises:
        DataError: a link leads to nothing in the repository.
    """
    sources = {f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))} | OUTSIDE
    pages, copies = {"config-keys.md": keys_page()}, set()
    for name, address in sources.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = zoo_page(text) if name == "MODEL_ZOO.md" else text
        pages[address], needed = mend_links(text, name)
        copies |= needed
    copies |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "site").glob("*.[cj]s*")}
    shutil.rmtree(folder, ignore_errors=True)
    for address, text in pages.items():
        _written(folder / address).write_text(text, encoding="utf-8")
    for name in copies:
        shutil.copyfile(ROOT / name, _written(folder / _address(name)))


def _written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _address(name: str) -> str:
    """Where a file of the repository is on the site."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    return name.removeprefix("docs/") if name.startswith("docs/") else f"files/{name}"


def mend_links(text: str, name: str) -> tuple[str, set[str]]:
    """A page with links to where things are on the site, and the files of the repository that it links to.

    Args:
        text: Markdown; what stands in code blocks is left alone.
        name: of the page in the repository. On the site all pages lie in one folder.

    Raises:
        DataError: a link leads to nothing in the repository.
    """
    files = set()

    def mend(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link[2]))
        if not (ROOT / target).is_file():
            raise DataError(f"{name}: a link to {link[2]}, which is no file of the repository")
        if not target.endswith(".md"):
            files.add(target)
        return link[1] + _address(target) + link[3]

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(mend, part) for part in parts), files


def zoo_page(text: str) -> str:
    """MODEL_ZOO.md with one table in place of one for each group, for sorting and filtering by a script."""
    header, rows, notes, rest = "", [], [], []
    before, *groups = re.split(r"^## ", text, flags=re.MULTILINE)
    for group in groups:
        title, _, body = group.partition("\n")
        lines = body.splitlines()
        table = [line for line in lines if line.startswith("|")]
        if not table:
            rest.append(f"## {group}")
            continue
        header = table[0]
        rows += [f"| {title.partition(':')[0]} {line}" for line in _named(table[2:])]
        notes.append("\n".join(line for line in lines if not line.startswith("|")).strip())
    table = [f"| group {header}", "| --- " * header.count("|") + "|", *rows]
    parts = ["---\nhide: [toc]\n---", before, _sortable(table), *filter(None, notes), *rest]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _sortable(table: list[str]) -> str:
    """A table in the element that the script looks for."""
    return "\n".join(['<div class="sortable" markdown="1">\n', *table, "\n</div>"])


def _named(rows: list[str]) -> Iterator[str]:
    """Rows with the model's first cells, which a further row of the same model leaves out, filled in."""
    above: list[str] = []
    for row in rows:
        cells = row.split("|")
        if not cells[1].strip():
            cells[1:5] = above[1:5]
        above = cells
        yield "|".join(cells)


def keys_page() -> str:
    """Every key of a config: its default, what it may be, and what the schema says about it."""
    notes = _notes()
    rows = []
    for key, hint in schema.KEYS.typed.items():
        default = functools.reduce(getattr, key.lower().split("."), schema.Config())
        own = "not in detectron2; " if key in OWN else ""
        rows.append(f"| `{key}` | `{default!r}` | {describe(hint)} | {own}{notes.get(key, '')} |")
    table = _sortable(["| key | default | what it may be | note |", "| --- | --- | --- | --- |", *rows])
    fixed = "\n".join(f"| `{key}` | {describe(hint)} |" for key, hint in schema.FIXED.items())
    ignored = ", ".join(f"`{key}`" for key in sorted(schema.IGNORED))
    return (
        "# Config keys\n\nThe schema is detectron2's, and so are the defaults; the packaged YAML files set "
        "what differs. A key is changed by `--set KEY=VALUE` or `KEY VALUE` at the end of a command, by "
        '`get(name, overrides=["KEY", "VALUE"])`, or in a YAML file. An unknown key, and a value that is not '
        f"allowed, is an error.\n\n{table}\n\n"
        "## Of one value\n\nKeys of detectron2 that this package takes with one value alone, since it builds "
        f"no other variant:\n\n| key | the value |\n| --- | --- |\n{fixed}\n\n"
        f"## Without effect\n\nTaken and ignored, sections whole: {ignored}.\n"
    )


def _notes() -> dict[str, str]:
    """The comment behind each field of the schema, by the full key."""
    found = {}
    for section in vars(schema).values():
        if not inspect.isclass(section) or section.__module__ != schema.__name__ or not section.__doc__:
            continue
        prefix = re.match(r"([A-Z][A-Z_.0-9]+)\b", section.__doc__)
        for name, note in _COMMENTED.findall(inspect.getsource(section)):
            key = f"{prefix[1].rstrip('.')}.{name.upper()}" if prefix else name.upper()
            found[key] = note
    return found


if __name__ == "__main__":
    sys.exit(main())
