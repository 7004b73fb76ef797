"""The command line of `verify`, and the order of the work.

    python -m benchmarks.verify --all --coco DIR
    python -m benchmarks.verify 'mask_*' --level golden
    torchrun --nproc-per-node 8 -m benchmarks.verify --all --coco DIR --device cuda

Cheap levels come first for all models, so that what is missing is known at once. Exit codes: 0 everything
that can be verified passed, 1 something failed, 2 wrong usage, 3 nothing failed but something could not be
checked: weights or data are missing, or only some of the pictures were used, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks import golden
from benchmarks.verify import levels as checks
from benchmarks.verify.coco import Settings, check_metrics, versions
from benchmarks.verify.live import Watcher, watch
from benchmarks.verify.outcome import LEVELS, Finding, ModelOutcome, Status, exit_code, junit, report_lines
from benchmarks.verify.results import record
from resnest_zoo.cli.common import guarded, sole_run
from resnest_zoo.distributed import World, join
from resnest_zoo.errors import ConfigError, LockedError, RegistryError, UnknownModelError, ZooError, shown
from resnest_zoo.hub.staging import staged
from resnest_zoo.registry import MMDETECTION, PUBLISHED, Entry, info, list_models

_GOLDEN_DIR = Path(__file__).parents[2] / "tests" / "golden"


def main(argv: Sequence[str] | None = None) -> int:
    return guarded(lambda: _start(_parse(argv)))


def _start(args: argparse.Namespace) -> int:
    # On a GPU float32 would otherwise mean TF32 in convolutions, ten bits of mantissa instead of 23.
    torch.backends.cudnn.allow_tf32 = False
    try:
        return _verify(args)
    except KeyboardInterrupt:
        kept = f": {args.output} keeps what was measured; the same command with --resume goes on"
        print(f"interrupted{kept if 'coco' in args.level else ''}", file=sys.stderr)
        return 130
    # Of the settings, a zoo file, how processes started, or of another run in the folder.
    except (ConfigError, LockedError, RegistryError) as error:
        print(f"python -m benchmarks.verify: error: {error}", file=sys.stderr)
        return 2


def _verify(args: argparse.Namespace) -> int:
    files, problems = _golden_files(args.golden_dir)
    names, unknown = _select(args, files)
    problems = [*(problems if args.all and "golden" in args.level else ()), *unknown]
    with join() as world, ExitStack() as stack:
        _check_device(world.device(args.device))
        run = _Run(args, files, world, stack)
        with watch(names, args.level, silent=not world.is_main or args.json == "-") as watcher:
            for level in args.level:
                for name in names:
                    run.check(name, level, watcher)
        if not world.is_main:
            return 0
        outcomes = [run.outcomes[name] for name in names]
        _write(args, outcomes, problems)
    return exit_code(outcomes, problems)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verify", description="Check what the zoo claims; see docs/verify.md."
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="models, or patterns such as 'mask_*'")
    add("--all", action="store_true", help="every published model")
    add("--level", action="append", choices=LEVELS, help="only this level; may be repeated")
    add("--coco", type=Path, metavar="DIR", help="COCO's folder: annotations/, val2017/, panoptic_val2017/")
    add("--device", default="cpu", help="such as cuda")
    add("--dtype", choices=sorted(golden.TOLERANCES), help="of golden (default float64) and coco (float32)")
    add("--batch-size", type=_positive, default=1, metavar="N", help="pictures that run together; default 1")
    add(
        "--workers",
        type=_not_negative,
        default=2,
        metavar="N",
        help="processes reading pictures; by default 2, never more than processors",
    )
    add("--optimize", action="store_true", help="of the optimised copies, golden by default in float32")
    add("--model-file", type=Path, metavar="FILE", help="of an exported file of the one model; coco alone")
    add("--limit", type=_positive, default=0, metavar="N", help="only N random pictures; gives no verdict")
    add("--output", type=Path, default=Path("verify_results"), metavar="DIR", help="keep all results there")
    add("--resume", action="store_true", help="go on where an interrupted run was")
    add("--submission", action="store_true", help="also write the zip for COCO's test-dev server")
    add("--json", metavar="FILE", help="write the report as JSON; - prints it")
    add("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML")
    add("--record", action="store_true", help="keep what passed or failed in benchmarks/results")
    add("--golden-dir", type=Path, default=_GOLDEN_DIR, metavar="DIR", help="other stored outputs")
    args = parser.parse_args(argv)
    if bool(args.names) == args.all:
        parser.error("name some models, or say --all")
    if not args.golden_dir.is_dir():
        parser.error(f"--golden-dir: {args.golden_dir} is no folder")
    if args.coco is not None and not args.coco.is_dir():
        parser.error(f"--coco: {args.coco} is no folder")
    for option, file in (("--json", args.json), ("--junit", args.junit)):
        if file not in (None, "-") and not Path(file).parent.is_dir():  # better now than at the end
            parser.error(f"{option}: {Path(file).parent} is no folder")
    if problem := _file_problem(args):
        parser.error(f"--model-file: {problem}")
    args.level = [level for level in LEVELS if level in (args.level or LEVELS)]
    return args


def _file_problem(args: argparse.Namespace) -> str:
    """What is wrong with how an exported file is to be measured."""
    if args.model_file is None:
        return ""
    if args.level != ["coco"]:
        return "its AP is what can be measured: add --level coco"
    if len(args.names) != 1:
        return "name the one model that it is of"
    if args.optimize or args.record or args.device != "cpu" or args.dtype not in (None, "float32"):
        return (
            "a file runs as it was exported, and proves nothing of the model: no --optimize, --record, "
            "--device, --dtype"
        )
    return "" if args.model_file.is_file() else f"there is no file {args.model_file}"


def _check_device(name: str) -> None:
    """Refuse a device before every model fails on it.

    Raises:
        ConfigError: there is no such device here.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name} cannot be used here: {str(error).splitlines()[0]}") from error


def _positive(text: str) -> int:
    return _whole(text, 1)


def _not_negative(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {shown(text)}")
    return int(text)


def _golden_files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The stored outputs of each model, and a sentence for each file without a model."""
    files: dict[str, list[Path]] = {}
    problems = []
    for path in sorted([*folder.glob("*.npz"), *(folder / "mmdet").glob("*.npz")]):
        try:
            files.setdefault(golden.entry_name(path), []).append(path)
        except ZooError as error:
            problems.append(f"{path.name}: {error}")
    return files, problems


def _select(args: argparse.Namespace, files: dict[str, list[Path]]) -> tuple[list[str], list[str]]:
    """The models to check, and a sentence for each name that none has."""
    if args.all:
        own = args.golden_dir == _GOLDEN_DIR
        none = [] if own or files else [f"{args.golden_dir}: no golden files"]
        return list((*PUBLISHED, *MMDETECTION) if own else files), none
    names: list[str] = []
    problems = []
    for name in args.names:
        try:
            found = list_models(name) or [info(name).name]
        except UnknownModelError as error:
            problems.append(str(error))
        else:
            names += found
    return list(dict.fromkeys(names)), problems


@dataclass
class _Run:
    """The checks of one invocation."""

    args: argparse.Namespace
    files: dict[str, list[Path]]
    world: World
    stack: ExitStack
    outcomes: dict[str, ModelOutcome] = field(default_factory=dict)
    fetched: dict[str, tuple[Finding, Path | None]] = field(default_factory=dict)
    has_begun: bool = False

    def _begin(self) -> None:
        """Let no other run into the output folder, from the first number that is measured to the end."""
        if not self.has_begun:
            self.stack.enter_context(sole_run(self.args.output, self.world))
            self.has_begun = True

    def check(self, name: str, level: str, watcher: Watcher) -> None:
        """One level of one model, unless a lower one forbids it."""
        outcome = self.outcomes.setdefault(name, ModelOutcome(name))
        watcher.begin(name, level)
        finding = self._blocked(outcome, level)
        if finding is None and level == "coco":
            finding = self._check_metrics(name, watcher)
        elif finding is None:
            # One process checks; the others need its verdict to know what comes next.
            finding = self.world.broadcast(self._check(name, level) if self.world.is_main else None)
        assert finding is not None
        outcome.findings[level] = finding
        watcher.end(name, level, finding)

    def _blocked(self, outcome: ModelOutcome, level: str) -> Finding | None:
        """Why a level cannot stand on those below it."""
        if level == "golden":
            return None  # its weights follow from their names
        for lower in LEVELS[: LEVELS.index(level)]:
            below = outcome.findings.get(lower)
            if below is not None and below.status is Status.FAIL:
                return Finding(Status.NOT_RUN, f"{lower} failed")
        below = outcome.findings.get("bytes")
        if below is not None and below.status is Status.NO_WEIGHTS and level == "load":
            return Finding(Status.NOT_RUN, "weights unavailable")
        return None

    def _check(self, name: str, level: str) -> Finding:
        entry = info(name)
        if entry.config is None:
            return Finding(Status.NOT_VERIFIABLE, "a backbone, not a detector")
        if level == "golden":
            dtype = getattr(torch, _golden_dtype(self.args))
            files, optimized = self.files.get(name, []), self.args.optimize
            return checks.check_golden(files, dtype, self.args.device, optimized=optimized)
        finding, path = self._fetch(entry)
        return finding if level == "bytes" or path is None else checks.check_load(entry, path)

    def _fetch(self, entry: Entry) -> tuple[Finding, Path | None]:
        """The weights and their verdict, once for all levels."""
        if entry.name not in self.fetched:
            self.fetched[entry.name] = checks.check_bytes(entry)
        return self.fetched[entry.name]

    def _check_metrics(self, name: str, watcher: Watcher) -> Finding:
        entry = info(name)
        settings = Settings(
            coco=self.args.coco,
            output=self.args.output,
            device=self.args.device,
            dtype=self.args.dtype or "float32",
            batch_size=self.args.batch_size,
            workers=self.args.workers,
            limit=self.args.limit,
            resume=self.args.resume,
            submission=self.args.submission,
            optimize=self.args.optimize,
            model_file=self.args.model_file,
        )
        if settings.model_file is not None:
            found = check_metrics(
                entry, settings.model_file, settings, self.world, watcher.advance, self._begin
            )
            return self.world.broadcast(found)
        finding, path = self._fetch(entry)
        if path is None and "bytes" in self.args.level:
            finding = Finding(finding.status, finding.summary)  # its details stand there
        found = check_metrics(entry, path or finding, settings, self.world, watcher.advance, self._begin)
        return self.world.broadcast(found)


def _golden_dtype(args: argparse.Namespace) -> str:
    """Optimised copies of models in float64 compute as the models themselves do."""
    return str(args.dtype or ("float32" if args.optimize else "float64"))


def _write(args: argparse.Namespace, outcomes: list[ModelOutcome], problems: list[str]) -> None:
    """The report in every form asked for."""
    document = {
        "levels": args.level,
        "device": args.device,
        "optimized": args.optimize,
        "versions": versions(),
        "problems": problems,
        "models": [outcome.to_dict() for outcome in outcomes],
    }
    if args.json == "-":
        print(json.dumps(document, indent=1))
    else:
        lines = report_lines(outcomes, args.level)
        print("\n".join([*lines, *(f"FAIL  {problem}" for problem in problems)]))
        if args.json:
            with staged(Path(args.json)) as part:
                part.write_text(json.dumps(document, indent=1), encoding="utf-8")
    if args.junit:
        with staged(args.junit) as part:
            part.write_text(junit(outcomes, problems), encoding="utf-8")
    if args.record:
        dtypes = {"golden": _golden_dtype(args), "coco": args.dtype or "float32"}
        record(outcomes, args.device, dtypes, versions(), optimized=args.optimize)
