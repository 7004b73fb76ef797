"""The levels that need no pictures: bytes, load, golden."""

from __future__ import annotations

from pathlib import Path

import torch

import resnest_zoo
from benchmarks import golden
from benchmarks.verify.outcome import Finding, Status
from resnest_zoo import hub
from resnest_zoo.errors import CheckpointError, ConfigError, DownloadError, IntegrityError
from resnest_zoo.registry import Entry, fetch_weights


def check_bytes(entry: Entry) -> tuple[Finding, Path | None]:
    """Fetch the weights and hash all of them again; the path where they can be used."""
    try:
        path = fetch_weights(entry)
    except IntegrityError as error:
        return Finding(Status.FAIL, *_first_line(error)), None
    except DownloadError as error:
        return Finding(Status.NO_WEIGHTS, *_first_line(error)), None  # which says how to get them
    artifact = hub.with_locked_hash(entry.artifact)
    content = hub.read_content(path)
    pin = hub.find_pin(entry.artifact.filename) if entry.artifact.path is None else None
    figures = {"sha256": content.sha256, "bytes": content.size}
    if fault := hub.content_fault(content, artifact, pin):
        return Finding(Status.FAIL, f"{path}: {fault}", figures=figures), None
    digits = artifact.expected_sha256
    start, size = f"SHA-256 {content.sha256[:8]}…", f"{content.size:,} bytes"
    if digits is None:
        summary = f"no hash was published; {start}, {size} as on first arrival"
        return Finding(Status.NOT_VERIFIABLE, summary, figures=figures), path
    return Finding(Status.PASS, f"{start} agrees in {len(digits)} digits; {size}", figures=figures), path


def check_load(entry: Entry, path: Path) -> Finding:
    """Load the file strictly: every tensor of the model, in its shape, and no other."""
    try:
        model = resnest_zoo.get(entry.name, weights=path)
    except (CheckpointError, ConfigError) as error:
        return Finding(Status.FAIL, *_first_line(error))
    parameters = sum(p.numel() for p in model.parameters())
    tensors = len(model.state_dict())
    if entry.parameters not in (None, parameters):
        return Finding(Status.FAIL, f"{parameters:,} parameters, but the registry says {entry.parameters:,}")
    return Finding(Status.PASS, f"{tensors} tensors, {parameters:,} parameters")


def check_golden(files: list[Path], dtype: torch.dtype, device: str, *, optimized: bool = False) -> Finding:
    """Recompute every stored output of a model, or of its optimised copy."""
    if not files:
        return Finding(Status.NOT_VERIFIABLE, "no output of the reference is stored for this model")
    failed, lines, figures = 0, [], {}
    for path in files:
        try:
            outcome = golden.check(path, dtype, device, optimized=optimized)
        except Exception as error:  # one broken file must not hide what the others show
            outcome = golden.Outcome(path, failures=[f"cannot be checked: {type(error).__name__}: {error}"])
        failed += not outcome.passed
        lines += [outcome.line(), *(f"      {failure}" for failure in outcome.failures)]
        figures[path.name] = outcome.differences
    status = Status.FAIL if failed else Status.PASS
    summary = f"{len(files)} stored file{'s' if len(files) > 1 else ''}, {failed} differ"
    return Finding(status, summary, tuple(lines), figures=figures)


def _first_line(error: Exception) -> tuple[str, tuple[str, ...]]:
    first, *rest = str(error).splitlines() or [type(error).__name__]
    return first, tuple(line.strip() for line in rest)
