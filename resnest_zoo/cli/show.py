"""The commands `list` and `info`: what the registry knows."""

from __future__ import annotations

import argparse
import json
from typing import Any

from resnest_zoo import hub
from resnest_zoo.errors import ZooError, shown
from resnest_zoo.registry import TASKS, Entry, info, list_models


def add_commands(commands: Any) -> None:
    """Add the parsers of this module's commands."""
    listing = commands.add_parser("list", help="list the models")
    listing.add_argument(
        "pattern", nargs="?", default="*", help="part of a name, or a pattern such as 'mask_*'"
    )
    listing.add_argument("--task", choices=TASKS, help="only models of this task")
    listing.add_argument("--backbones", action="store_true", help="also the ImageNet backbones")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)

    describe = commands.add_parser("info", help="show what is known about a model")
    describe.add_argument("name", help="name, alias or published file name")
    describe.add_argument("--json", action="store_true", help="print JSON")
    describe.set_defaults(run=_info)


def _list(args: argparse.Namespace) -> int:
    pattern = args.pattern if set(args.pattern) & set("*?[") else f"*{args.pattern.replace('-', '_')}*"
    entries = [info(name) for name in list_models(pattern, task=args.task, backbones=args.backbones)]
    if not entries:
        raise ZooError(f"no model matches {shown(args.pattern)}; `resnest-zoo list` shows all")
    if args.json:
        print(json.dumps([_describe(entry) for entry in entries], indent=2))
        return 0
    header = ("name", "method", "backbone", "box AP", "mask AP", "PQ", "params", "known SHA-256")
    rows = [header, *map(_row, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nAP and PQ as reported on COCO val2017, in percent.")
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    # As the line below the table says; other results are for `info`.
    rows = (row for row in entry.reported if (row.dataset, row.split) == ("COCO", "val2017") and not row.tta)
    reported = next(rows, None)
    percents = reported.cells[1:] if reported else ("", "", "")
    millions = f"{entry.parameters / 1e6:.0f} M" if entry.parameters else ""
    return (
        entry.name,
        entry.method or entry.task,
        entry.backbone,
        *percents,
        millions,
        _known_hash(entry),
    )


def _known_hash(entry: Entry) -> str:
    digits = hub.with_locked_hash(entry.artifact).expected_sha256
    if digits is None:
        return "none, pinned" if hub.find_pin(entry.artifact.filename) else "none"
    return "full" if len(digits) == 64 else f"{digits}…"


def _hash_in_words(entry: Entry) -> str:
    digits = hub.with_locked_hash(entry.artifact).expected_sha256
    if digits is None:
        pin = hub.find_pin(entry.artifact.filename)
        if pin is not None:
            return f"{pin.sha256}, pinned when it first came ({pin.time}); none published"
        return "none published: the bytes cannot be verified"
    return digits if len(digits) == 64 else f"begins with {digits}, which is all that is published of it"


def _info(args: argparse.Namespace) -> int:
    entry = info(args.name)
    if args.json:
        print(json.dumps(_describe(entry), indent=2))
        return 0
    artifact = entry.artifact
    fields = {
        "name": entry.name,
        "task": entry.task,
        "method": entry.method,
        "backbone": entry.backbone,
        "parameters": f"{entry.parameters:,}" if entry.parameters else "",
        "classes": len(entry.categories.things) if entry.categories else "",
        "config": entry.config or "",
        "file": artifact.path or artifact.filename,
        "SHA-256": _hash_in_words(entry),
        "size": f"{artifact.size:,} bytes" if artifact.size else "",
        "URL": "\n".join(artifact.urls),
        "reported": "\n".join(map(str, entry.reported)),
        "log": entry.log_url or "",
        "starts from": entry.pretrained_from or "",
        "expects": "\n".join(f"{key} {value}" for key, value in entry.expects),
        "licence": entry.licence,
        "source": entry.source or "",
        "also called": "\n".join(entry.aliases),
    }
    for label, value in fields.items():
        for index, line in enumerate(str(value).splitlines()):
            print(f"{label if index == 0 else '':<12} {line}")
    return 0


def _describe(entry: Entry) -> dict[str, Any]:
    from dataclasses import asdict

    described = asdict(entry)
    if entry.artifact.path is not None:
        described["artifact"]["path"] = str(entry.artifact.path)
    return described


RUNS = (_list, _info)  # which print and change nothing
