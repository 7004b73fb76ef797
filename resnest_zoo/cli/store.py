"""The commands on files: `download`, `import`, `convert`, `mirror`, `cache`.

With `--json` each prints a list of rows, one for each file or model, also when it fails: `ok` says whether
all went well, and where it did not, `error` says why.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from resnest_zoo import hub
from resnest_zoo.cli.arguments import positive
from resnest_zoo.cli.common import processors, report, show_warnings
from resnest_zoo.errors import ConfigError, IntegrityError, RegistryError, UnknownModelError, ZooError
from resnest_zoo.registry import Entry, fetch_weights, info, list_models

Row = dict[str, Any]
_T = TypeVar("_T")
# Files of the cache that are no checkpoints.
_OWN_FILES = ("pins.json", "pins.json.damaged", "revisions.json", "manifest.json")


def add_commands(commands: Any) -> None:
    """Add the parsers of this module's commands."""
    download = commands.add_parser("download", help="bring checkpoints into the cache and verify them")
    _add_names(download)
    download.add_argument(
        "-j", "--jobs", type=positive, default=1, metavar="N", help="files at once; default 1"
    )
    download.set_defaults(run=_guarded(_download))

    bring = commands.add_parser("import", help="bring a file you have into the cache and verify it")
    bring.add_argument("file", type=Path, metavar="FILE")
    bring.add_argument("name", metavar="NAME", help="the model it belongs to, or the file's published name")
    bring.set_defaults(run=_guarded(_import))

    convert = commands.add_parser(
        "convert",
        help="write checkpoints as safetensors",
        description="Write checkpoints as safetensors: those of the zoo, and files of your own in any format "
        "and layout that is read here, such as mmdetection's; of a file, config and classes too.",
    )
    _add_names(convert, also=" of the zoo, or a file")
    convert.add_argument("-m", "--model", metavar="NAME", help="what the files are of, if they do not tell")
    convert.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write there, not into the cache or beside FILE"
    )
    convert.set_defaults(run=_guarded(_convert))

    mirror = commands.add_parser("mirror", help="fill a folder or a Hugging Face repository with checkpoints")
    mirror.add_argument("target", metavar="TARGET", help="a folder, or hf://organisation/repository")
    _add_names(mirror)
    mirror.set_defaults(run=_guarded(_mirror))

    actions = _add_cache_commands(commands)
    for parser in (download, bring, convert, mirror, *actions.choices.values()):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_cache_commands(commands: Any) -> Any:
    cache = commands.add_parser("cache", help="look at the downloaded files and keep them right")
    actions = cache.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("dir", _cache_dir, "print the folder"),
        ("list", _cache_list, "list the files"),
        ("verify", _cache_verify, "hash every file and compare"),
    ):
        action = actions.add_parser(name, help=text)
        action.set_defaults(run=_guarded(run))
    actions.choices["verify"].add_argument("-j", "--jobs", type=positive, default=None, metavar="N")
    lock = actions.add_parser(
        "lock", help="write the full hashes of the verified files, beside those it holds"
    )
    lock.add_argument("file", type=Path, metavar="FILE", help="such as zoo.lock.json")
    lock.set_defaults(run=_guarded(_cache_lock))
    clean = actions.add_parser("clean", help="remove unfinished transfers, or files")
    which = clean.add_mutually_exclusive_group()
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="models or files to remove")
    which.add_argument("--all", action="store_true", help="remove every file")
    clean.add_argument(
        "--pins", action="store_true", help="also forget what the removed files were, to accept others"
    )
    clean.set_defaults(run=_guarded(_cache_clean))
    return actions


def _add_names(parser: argparse.ArgumentParser, also: str = "") -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help=f"name or alias{also}")
    which.add_argument("--all", action="store_true", help="all detectors")


def _guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Print JSON also for a command that fails as a whole."""

    def guarded(args: argparse.Namespace) -> int:
        show_warnings()
        try:
            return run(args)
        except BrokenPipeError:
            raise
        except (ZooError, OSError) as error:
            if args.json:
                print(json.dumps([{"ok": False, "error": str(error)}], indent=2))
            return report(error)

    return guarded


def _entries(args: argparse.Namespace) -> list[Entry]:
    chosen = [_entry(name) for name in (list_models() if args.all else args.names)]
    return list({entry.name: entry for entry in chosen}.values())


def _entry(name: str) -> Entry:
    """The entry of a name, or of a file's name, which is all that the hub's messages know."""
    try:
        return info(name)
    except UnknownModelError:
        owner = _owners().get(name)
        if owner is None:
            raise
        return owner


def _owners() -> dict[str, Entry]:
    """File name to the entry it belongs to."""
    return {(entry := info(name)).artifact.filename: entry for name in list_models(backbones=True)}


def _run_each(args: argparse.Namespace, items: Sequence[_T], work: Callable[[_T], Row], jobs: int = 1) -> int:
    """Do `work` for each item, go on after a failure, and print a row for each as it is done."""

    def guarded(item: _T) -> Row:
        name = item.name if isinstance(item, Entry) else str(item)
        try:
            return {"name": name, "ok": True, **work(item)}
        except (ZooError, OSError) as error:
            return {"name": name, "ok": False, "error": str(error)}

    rows: dict[int, Row] = {}
    try:
        for index, row in _in_threads(guarded, items, jobs):
            rows[index] = row
            _show(args, row)
    finally:  # also when interrupted
        code = _finish(args, [rows[index] for index in sorted(rows)])
    return code


def _in_threads(work: Callable[[_T], Row], items: Sequence[_T], jobs: int) -> Iterator[tuple[int, Row]]:
    """Index and result of each item, as they are done."""
    if jobs == 1 or len(items) < 2:  # Ctrl-C ends it in order
        for index, item in enumerate(items):
            yield index, work(item)
        return
    from queue import SimpleQueue
    from threading import Thread

    waiting, done = list(enumerate(items))[::-1], SimpleQueue[tuple[int, Row] | BaseException]()

    def run() -> None:
        while waiting:
            try:
                index, item = waiting.pop()
            except IndexError:
                return  # another thread was faster
            try:
                done.put((index, work(item)))
            except BaseException as error:
                done.put(error)
                raise

    try:
        for _ in range(min(jobs, len(items))):
            Thread(target=run, daemon=True).start()  # no pool: Python waits for a pool's threads at its end
        for _ in items:
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        waiting.clear()  # Ctrl-C starts no further file


def _show(args: argparse.Namespace, row: Row) -> None:
    if not row["ok"]:
        print(f"error: {row['name']}: {row['error']}", file=sys.stderr, flush=True)
    elif not args.json:
        print("  ".join(str(value) for key, value in row.items() if key != "ok"), flush=True)


def _finish(args: argparse.Namespace, rows: list[Row]) -> int:
    if args.json:
        print(json.dumps(rows, indent=2), flush=True)
    return 0 if all(row["ok"] for row in rows) else 1


def _download(args: argparse.Namespace) -> int:
    def work(entry: Entry) -> Row:
        return {"path": str(fetch_weights(entry))}

    return _run_each(args, _entries(args), work, args.jobs)


def _import(args: argparse.Namespace) -> int:
    file = Path(os.path.expanduser(args.file))

    def work(name: str) -> Row:
        artifact = _artifact(name)
        if artifact.path is not None:
            raise ConfigError(
                f"its file is {artifact.path}, wherever a copy lies: there is nothing to import"
            )
        target = hub.cached_path(artifact)
        if hub.is_pinned(target):  # it would be used as it is, whatever `file` holds
            pin = hub.find_pin(artifact.filename)
            if fault := hub.find_fault(file, hub.with_locked_hash(artifact), pin):
                raise IntegrityError(f"{file}: {fault}; the file in the cache is right and stays")
        return {"path": str(hub.fetch(artifact, file=file))}

    return _run_each(args, [args.name], work)


def _artifact(name: str) -> hub.Artifact:
    """The artifact of an entry, or of a file that came from a bare address and has no entry.

    The name of such a file ends in the first digits of its hash or begins with a digest of its address.
    """
    from dataclasses import replace
    from urllib.parse import quote

    try:
        return _entry(name).artifact
    except UnknownModelError:
        with suppress(RegistryError):
            published = hub.Artifact.from_url(f"https://host/{quote(name)}")
            if published.filename == name:
                return replace(published, urls=())
            if re.match("[0-9a-f]{12}-", name):
                return hub.Artifact(name)
        raise


def _convert(args: argparse.Namespace) -> int:
    from resnest_zoo.api import convert
    from resnest_zoo.api.conversion import convert_file

    folder = args.output and Path(os.path.expanduser(args.output))
    if folder:
        folder.mkdir(parents=True, exist_ok=True)

    def work(item: Entry | Path) -> Row:
        stem = Path(item.artifact.filename).stem if isinstance(item, Entry) else item.stem
        output = folder and folder / f"{stem}.safetensors"
        if isinstance(item, Entry):
            return {"path": str(convert(item.name, output))}
        return {"path": str(convert_file(item, args.model, output))}

    return _run_each(args, _entries_and_files(args), work)


def _entries_and_files(args: argparse.Namespace) -> Sequence[Entry | Path]:
    """What to convert; with --model, all are files."""
    if args.all and args.model:
        raise ConfigError("--model says what files are of; --all names none")
    if args.all:
        return _entries(args)
    items: list[Entry | Path] = []
    for name in args.names:
        path = Path(os.path.expanduser(name))
        try:
            items.append(path if args.model else _entry(name))
        except UnknownModelError:
            if not path.is_file():
                raise
            items.append(path)
    return list(dict.fromkeys(items))


def _mirror(args: argparse.Namespace) -> int:
    entries = _entries(args)
    if args.target.startswith("hf://"):
        return _publish(args, entries, args.target.removeprefix("hf://").rstrip("/"))
    if "://" in args.target:
        raise ConfigError(f"{args.target}: expected a folder or hf://organisation/repository")
    from resnest_zoo.integrations.mirror import fill_folder

    def work(entry: Entry) -> Row:
        (done,) = fill_folder([entry], Path(os.path.expanduser(args.target)))
        return {"path": str(done.path), "sha256": done.sha256, "copied": done.copied}

    return _run_each(args, entries, work)


def _publish(args: argparse.Namespace, entries: list[Entry], repository: str) -> int:
    from resnest_zoo.integrations import huggingface

    api = huggingface.open_repository(repository)

    def work(item: Entry | str) -> Row:
        if isinstance(item, Entry):
            return {"uploaded": huggingface.publish_entry(api, repository, item)}
        return {"uploaded": huggingface.publish_card(api, repository)}

    items: list[Entry | str] = [*entries, "model card"]
    return _run_each(args, items, work)


def _cache_dir(args: argparse.Namespace) -> int:
    folder = str(hub.cache_dir())
    print(json.dumps([{"ok": True, "path": folder}]) if args.json else folder)
    return 0


def _cached_files() -> list[Path]:
    folder = hub.cache_dir()
    if not folder.is_dir():
        return []
    return sorted(
        p for p in folder.iterdir() if p.is_file() and p.name[0] != "." and p.name not in _OWN_FILES
    )


def _cache_list(args: argparse.Namespace) -> int:
    owners, pins = _owners(), hub.read_pins(hub.cache_dir())
    rows: list[Row] = []
    for path in _cached_files():
        entry, pin = owners.get(path.name), pins.get(path.name)
        row = {"file": path.name, "size": path.stat().st_size, "name": entry.name if entry else None}
        rows.append({**row, "ok": True, "sha256": pin and pin.sha256, "source": pin and pin.source})
        if not args.json:
            digits = pin.sha256[:12] if pin else "not pinned"
            print(f"{row['size']:>13,}  {digits:<12}  {row['name'] or '-'}  {path.name}")
    return _finish(args, rows)


def _cache_verify(args: argparse.Namespace) -> int:
    owners, pins = _owners(), hub.read_pins(hub.cache_dir())
    files = {path.name: path for path in _cached_files()}

    def work(name: str) -> Row:
        entry, pin = owners.get(name), pins.get(name)
        artifact = entry.artifact if entry and entry.artifact.path is None else hub.Artifact(name)
        artifact = hub.with_locked_hash(artifact)
        if fault := hub.find_fault(files[name], artifact, pin):
            raise IntegrityError(fault)
        if pin or artifact.sha256:
            return {"checked": "full hash"}
        return {"checked": "first digits" if artifact.sha256_prefix else "nothing is known of it"}

    return _run_each(args, list(files), work, args.jobs or processors())


def _cache_lock(args: argparse.Namespace) -> int:
    pins, owners = hub.read_pins(hub.cache_dir()), _owners()
    file = Path(os.path.expanduser(args.file))
    locked = hub.read_lock(file) if file.exists() else {}
    found: dict[str, tuple[str, int]] = {}

    published = [path.name for path in _cached_files() if path.name in owners]

    def check(filename: str) -> Row:
        entry, pin = owners[filename], pins.get(filename)
        if pin is None:
            raise ConfigError(f"it was never verified; `resnest-zoo download {entry.name}` does it")
        if fault := hub.find_fault(hub.cache_dir() / filename, hub.with_locked_hash(entry.artifact), pin):
            raise IntegrityError(fault)
        if locked.get(filename, (pin.sha256, pin.size)) != (pin.sha256, pin.size):
            raise IntegrityError(f"{file} says {locked[filename][0]}, the cache {pin.sha256}")
        found[filename] = (pin.sha256, pin.size)
        return {"sha256": pin.sha256, "size": pin.size}

    def work(item: str | Path) -> Row:
        if isinstance(item, str):
            return check(item)
        if len(found) < len(published):
            raise ConfigError("not written, because of the files above")
        try:
            hub.write_lock(item, {**locked, **found})
        except OSError as error:
            raise ConfigError(f"cannot be written: {error.strerror or error}") from error
        return {"files": len({**locked, **found})}

    items: list[str | Path] = [*published, file]
    return _run_each(args, items, work)


def _cache_clean(args: argparse.Namespace) -> int:
    folder = hub.cache_dir()
    if args.pins and not (args.all or args.names):
        raise ConfigError("--pins: name the models whose pins to forget, or say --all")
    cached, pins = {path.name: path for path in _cached_files()}, hub.read_pins(folder)
    wanted = sorted({*cached, *pins}) if args.all else _files_of(args.names, {*cached, *pins})
    rows = [{"name": path.name, "ok": True, "done": "removed"} for path in hub.remove_unfinished(folder)]
    for filename in wanted:
        done = []
        if filename in cached:  # a pin may bear any name
            cached[filename].unlink(missing_ok=True)
            done.append("removed")
        if args.pins and filename in pins:
            hub.write_pin(folder, filename, None)
            done.append("pin forgotten")
        if done:
            rows.append({"name": filename, "ok": True, "done": ", ".join(done)})
    for row in rows:
        _show(args, row)
    return _finish(args, rows)


def _files_of(names: list[str], known: set[str]) -> list[str]:
    """The files of models, converted ones included, or files by their own names."""
    files: list[str] = []
    for name in names:
        filename = name if name in known else _artifact(name).filename
        files += [filename, f"{Path(filename).stem}.safetensors"]
    return list(dict.fromkeys(files))
