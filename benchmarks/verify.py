"""Check what the zoo claims.

    python -m benchmarks.verify --level golden --all
    python -m benchmarks.verify --level golden 'mask_*' --golden-dir DIR

Level `golden`: every stored output of the reference, recomputed in float64 (`golden` has the format and the
tolerances). One line for each file with the largest difference of every kind; the exit code is 1 if any file
fails or a named model has none.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from benchmarks import golden
from resnest_zoo.errors import ZooError
from resnest_zoo.registry import PUBLISHED, info, list_models

_GOLDEN_DIR = Path(__file__).parents[1] / "tests" / "golden"


def main(argv: list[str] | None = None) -> int:
    args = _parse(argv)
    # On a GPU float32 would otherwise mean TF32 in convolutions, ten bits of mantissa instead of 23.
    torch.backends.cudnn.allow_tf32 = False
    files, problems = _select(args.golden_dir, args.names)
    failed = len(problems)
    for problem in problems:
        print(f"FAIL  {problem}")
    for path in files:
        start = time.perf_counter()
        try:
            outcome = golden.check(path, getattr(torch, args.dtype), args.device)
        except Exception as error:  # one broken file must not hide what the others show
            outcome = golden.Outcome(path, failures=[f"cannot be checked: {type(error).__name__}: {error}"])
        print(f"{outcome.line()}  {time.perf_counter() - start:.0f} s", flush=True)
        for failure in outcome.failures:
            print(f"      {failure}")
        failed += not outcome.passed
    print(f"{len(files)} golden files, {args.dtype} on {args.device}: {failed} failed")
    return 1 if failed else 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="models, or patterns such as 'mask_*'")
    parser.add_argument("--all", action="store_true", help="every file of the folder")
    parser.add_argument("--level", choices=["golden"], default="golden")
    parser.add_argument("--golden-dir", type=Path, default=_GOLDEN_DIR, metavar="DIR")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=sorted(golden.TOLERANCES), default="float64")
    args = parser.parse_args(argv)
    if bool(args.names) == args.all:
        parser.error("name some models, or say --all")
    if not args.golden_dir.is_dir():
        parser.error(f"--golden-dir: {args.golden_dir} is no folder")
    return args


def _select(folder: Path, names: list[str]) -> tuple[list[Path], list[str]]:
    """The files to check, and a sentence for each model without a file and each file without a model.

    Without `names` every file is checked, and our own folder must have one for each published model.
    """
    problems: list[str] = []
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.npz")):
        try:
            files.setdefault(info(path.name.partition(".")[0]).name, []).append(path)
        except ZooError as error:
            problems.append(f"{path.name}: {error}")
    if names:
        problems = []
        wanted = [model for name in names for model in _models(name, files, problems)]
    else:
        wanted = [*files, *(PUBLISHED if folder == _GOLDEN_DIR else ())]
    wanted = list(dict.fromkeys(wanted))
    problems += [f"{model}: no golden file in {folder}" for model in wanted if model not in files]
    if not wanted and not problems:
        problems.append(f"{folder}: no golden files")
    return [path for model in wanted for path in files.get(model, [])], problems


def _models(name: str, files: dict[str, list[Path]], problems: list[str]) -> list[str]:
    """The model of a name or an alias; of a pattern those that have files."""
    if matches := [model for model in list_models(name) if model in files]:
        return matches
    try:
        return [info(name).name]
    except ZooError as error:
        pattern = set("*?[") & set(name)
        problems.append(f"{name}: no golden file matches" if pattern else str(error))
        return []


if __name__ == "__main__":
    sys.exit(main())
