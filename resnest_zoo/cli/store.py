"""The commands on files: `download`, `import`, `convert`, `mirror`, `cache`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resnest_zoo import hub
from resnest_zoo.cli.common import show_warnings
from resnest_zoo.errors import ConfigError, UnknownModelError, ZooError
from resnest_zoo.registry import Entry, info, list_models

Row = dict[str, Any]


def add_commands(commands: Any) -> None:
    """Add the parsers of this module's commands."""
    download = commands.add_parser("download", help="bring checkpoints into the cache and verify them")
    _add_names(download)
    download.add_argument(
        "-j", "--jobs", type=_count, default=1, metavar="N", help="files at once; default 1"
    )
    download.set_defaults(run=_download)

    bring = commands.add_parser("import", help="bring a file you have into the cache and verify it")
    bring.add_argument("file", type=Path, metavar="FILE")
    bring.add_argument("name", metavar="NAME", help="the model it belongs to")
    bring.set_defaults(run=_import)

    convert = commands.add_parser("convert", help="write checkpoints as safetensors")
    _add_names(convert)
    convert.add_argument("--output", type=Path, metavar="DIR", help="write there instead of into the cache")
    convert.set_defaults(run=_convert)

    mirror = commands.add_parser("mirror", help="fill a folder or a Hugging Face repository with checkpoints")
    mirror.add_argument("target", metavar="TARGET", help="a folder, or hf://organisation/repository")
    _add_names(mirror)
    mirror.set_defaults(run=_mirror)

    cache = commands.add_parser("cache", help="look at the downloaded files and keep them right")
    actions = cache.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("dir", _cache_dir, "print the folder"),
        ("list", _cache_list, "list the files"),
        ("verify", _cache_verify, "hash every file and compare"),
    ):
        action = actions.add_parser(name, help=text)
        action.set_defaults(run=run)
    actions.choices["verify"].add_argument("-j", "--jobs", type=_count, default=None, metavar="N")
    lock = actions.add_parser("lock", help="write the full hashes of the verified files")
    lock.add_argument("file", type=Path, metavar="FILE", help="such as zoo.lock.json")
    lock.set_defaults(run=_cache_lock)
    clean = actions.add_parser("clean", help="remove unfinished transfers, or files")
    which = clean.add_mutually_exclusive_group()
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="models or files to remove")
    which.add_argument("--all", action="store_true", help="remove every file")
    clean.add_argument(
        "--pins", action="store_true", help="also forget what the removed files were, to accept others"
    )
    clean.set_defaults(run=_cache_clean)
    for parser in (download, bring, convert, mirror, *actions.choices.values()):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_names(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="name or alias")
    which.add_argument("--all", action="store_true", help="all detectors")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _entries(args: argparse.Namespace) -> list[Entry]:
    return [_entry(name) for name in (list_models() if args.all else args.names)]


def _entry(name: str) -> Entry:
    """The entry of a name, or of a file's name, which is all that the hub's messages know."""
    try:
        return info(name)
    except UnknownModelError:
        owner = _owners().get(name)
        if owner is None:
            raise
        return owner


def _run_each(
    args: argparse.Namespace, entries: Iterable[Entry], work: Callable[[Entry], Row], jobs: int = 1
) -> int:
    """Do `work` for each entry, go on after a failure, and print a row for each as it is done."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    show_warnings()

    def guarded(entry: Entry) -> Row:
        try:
            return {"name": entry.name, "ok": True, **work(entry)}
        except ZooError as error:
            return {"name": entry.name, "ok": False, "error": str(error)}

    rows = []
    pool = ThreadPoolExecutor(jobs)
    try:
        for future in as_completed([pool.submit(guarded, entry) for entry in entries]):
            rows.append(future.result())
            _show(args, rows[-1])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C starts no further file
    return _finish(args, rows)


def _show(args: argparse.Namespace, row: Row) -> None:
    if not row["ok"]:
        print(f"error: {row['name']}: {row['error']}", file=sys.stderr, flush=True)
    elif not args.json:
        print("  ".join(str(value) for key, value in row.items() if key != "ok"), flush=True)


def _finish(args: argparse.Namespace, rows: list[Row]) -> int:
    if args.json:
        print(json.dumps(rows, indent=2))
    return 0 if all(row["ok"] for row in rows) else 1


def _download(args: argparse.Namespace) -> int:
    def work(entry: Entry) -> Row:
        return {"path": str(hub.fetch(entry.artifact, progress=None))}

    return _run_each(args, _entries(args), work, args.jobs)


def _import(args: argparse.Namespace) -> int:
    def work(entry: Entry) -> Row:
        return {"path": str(hub.fetch(entry.artifact, file=args.file.expanduser()))}

    return _run_each(args, [_entry(args.name)], work)


def _convert(args: argparse.Namespace) -> int:
    from resnest_zoo.api import convert

    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)

    def work(entry: Entry) -> Row:
        name = f"{Path(entry.artifact.filename).stem}.safetensors"
        return {"path": str(convert(entry.name, args.output and args.output / name))}

    return _run_each(args, _entries(args), work)


def _mirror(args: argparse.Namespace) -> int:
    if args.target.startswith("hf://"):
        from resnest_zoo.integrations.huggingface import publish

        def work(entry: Entry) -> Row:
            return {
                "uploaded": ", ".join(publish([entry], args.target.removeprefix("hf://"))) or "nothing new"
            }
    else:
        from resnest_zoo.integrations.mirror import fill_folder

        def work(entry: Entry) -> Row:
            (done,) = fill_folder([entry], Path(args.target).expanduser())
            return {"path": str(done.path), "sha256": done.sha256, "copied": done.copied}

    return _run_each(args, _entries(args), work)


def _cache_dir(args: argparse.Namespace) -> int:
    folder = str(hub.cache_dir())
    print(json.dumps(folder) if args.json else folder)
    return 0


def _cached_files() -> list[Path]:
    folder = hub.cache_dir()
    if not folder.is_dir():
        return []
    skip = ("pins.json", "pins.json.damaged")
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != "." and p.name not in skip)


def _owners() -> dict[str, Entry]:
    """File name to the entry it belongs to."""
    return {(entry := info(name)).artifact.filename: entry for name in list_models(backbones=True)}


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
    from concurrent.futures import ThreadPoolExecutor

    owners, pins = _owners(), hub.read_pins(hub.cache_dir())

    def verify(path: Path) -> Row:
        artifact = owners[path.name].artifact if path.name in owners else hub.Artifact(path.name)
        pin = pins.get(path.name)
        fault = hub.find_fault(path, hub.with_locked_hash(artifact), pin)
        known = (
            "full hash" if pin or artifact.sha256 else "first digits" if artifact.sha256_prefix else "nothing"
        )
        return {
            "name": path.name,
            "ok": fault is None,
            "checked": known,
            **({"error": fault} if fault else {}),
        }

    rows = []
    with ThreadPoolExecutor(args.jobs or os.cpu_count() or 1) as pool:
        for row in pool.map(verify, _cached_files()):
            rows.append(row)
            _show(args, row)
    return _finish(args, rows)


def _cache_lock(args: argparse.Namespace) -> int:
    pins, owners = hub.read_pins(hub.cache_dir()), _owners()
    files = {}
    for path in _cached_files():
        pin, entry = pins.get(path.name), owners.get(path.name)
        if pin is None or entry is None:
            continue
        if fault := hub.find_fault(path, entry.artifact, pin):
            raise ConfigError(f"{path}: {fault}; `resnest-zoo download {entry.name}` replaces it")
        files[path.name] = (pin.sha256, pin.size)
    hub.write_lock(args.file, files)
    print(json.dumps(sorted(files)) if args.json else f"{args.file}: {len(files)} files")
    return 0


def _cache_clean(args: argparse.Namespace) -> int:
    folder = hub.cache_dir()
    if args.pins and not (args.all or args.names):
        raise ConfigError("--pins: name the models whose pins to forget, or say --all")
    removed = hub.remove_unfinished(folder)
    cached = [path.name for path in _cached_files()]
    filenames = [name if name in cached else _entry(name).artifact.filename for name in args.names]
    if args.all:
        filenames = sorted({*cached, *hub.read_pins(folder)})
    for filename in filenames:
        path = folder / filename
        if path.exists():
            path.unlink()
            removed.append(path)
        if args.pins:
            hub.write_pin(folder, filename, None)
    rows = [{"name": path.name, "ok": True} for path in removed]
    for row in rows:
        _show(args, row)
    return _finish(args, rows)
