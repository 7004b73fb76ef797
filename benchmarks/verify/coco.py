"""The fourth level for one model: find the data, detect, evaluate, compare; and the zip for COCO's server."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import resnest_zoo
from benchmarks.verify.datasets import (
    DataMissingError,
    DataSet,
    Picture,
    find_coco,
    find_shapes,
    find_test_dev,
)
from benchmarks.verify.grading import THRESHOLDS, Measured, compare, measure, write_results
from benchmarks.verify.outcome import Finding, Status
from benchmarks.verify.prediction import Detector, predict_all
from resnest_zoo import hub
from resnest_zoo.categories import Categories
from resnest_zoo.distributed import World
from resnest_zoo.errors import ConfigError, ZooError
from resnest_zoo.hub.staging import staged
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.ops import choice
from resnest_zoo.registry import Entry
from resnest_zoo.runtimes import open_file

_SEED = 0  # of the pictures that --limit draws


def versions() -> dict[str, str]:
    """Of everything that can move the last digit."""
    others = {name: version(name) for name in ("torch", "torchvision", "pillow", "numpy")}
    return {"resnest_zoo": resnest_zoo.__version__, **others}


@dataclass(frozen=True)
class Settings:
    """How the fourth level runs.

    Attributes:
        coco: the folder of COCO, if there is one.
        output: where results are kept; each run has a folder of its own.
        device: such as "cpu" or "cuda".
        dtype: "float32" or "float64".
        batch_size: pictures that go through the model together.
        workers: processes that read pictures.
        limit: only so many pictures, drawn at random; 0 takes all.
        resume: go on where an earlier run with the same settings was interrupted.
        submission: also detect on test-dev and write the zip for COCO's server.
        optimize: measure the optimised copies of the models.
        model_file: measure this exported file of the model instead.
    """

    coco: Path | None
    output: Path
    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int = 1
    workers: int = 2
    limit: int = 0
    resume: bool = False
    submission: bool = False
    optimize: bool = False
    model_file: Path | None = None


Advance = Callable[
    [str, int, int], None
]  # what is being done, pictures done since the last call, of how many


def check_metrics(
    entry: Entry,
    weights: Path | Finding,
    settings: Settings,
    world: World,
    advance: Advance,
    begin: Callable[[], object],
) -> Finding:
    """Measure every reported number that can be measured here; the finding is complete in process 0.

    Args:
        entry: the model.
        weights: its file, or why there is none.
        settings: how to run.
        world: the processes that share the pictures.
        advance: told of progress.
        begin: called by every process before anything is written to the output folder.
    """
    entry = _of_file(entry) if settings.model_file else entry
    own = [row for row in entry.reported if "test" not in row.split]
    if not own:
        return Finding(Status.NOT_VERIFIABLE, "no number is reported on a data set with public labels")
    problem, data, test_dev = _find_all(entry, settings)
    if isinstance(weights, Finding):
        lines = (problem.summary, *problem.details) if problem else ()
        problem = replace(weights, details=(*weights.details, *lines))
    if problem := world.first(problem):
        return problem
    assert data is not None
    assert isinstance(weights, Path)
    begin()
    pictures = _sample(data.pictures, settings.limit)
    ways = sorted({False, *(True for row in own if row.tta is not False)})
    try:
        # All that needs every process comes first; then process 0 goes on alone.
        runs = {
            tta: _Run(entry, weights, data, pictures, tta, settings).predict(world, advance) for tta in ways
        }
        submission = None
        if test_dev is not None:
            run = _Run(entry, weights, test_dev, test_dev.pictures, True, settings)
            submission = run.predict(world, advance)
        if not world.is_main:
            return Finding(Status.NOT_RUN)
        measured = {tta: _measure(predicted, data) for tta, predicted in runs.items()}
        details = () if submission is None else (_write_submission(entry, submission),)
    except ZooError as error:
        first, *rest = str(error).splitlines()
        return Finding(Status.FAIL, first, tuple(rest))
    finding = compare(entry.reported, measured, data, len(pictures))
    return replace(finding, details=(*finding.details, *details))


def _of_file(entry: Entry) -> Entry:
    """The entry with the claims that an exported file can be held to: it knows no augmentation."""
    return replace(entry, reported=tuple(replace(r, tta=False) for r in entry.reported if r.tta is not True))


def _find_all(entry: Entry, settings: Settings) -> tuple[Finding | None, DataSet | None, DataSet | None]:
    """What is missing, or the data that the claims are about and, for a submission, test-dev."""
    submits = settings.submission and any("test" in row.split for row in entry.reported)
    try:
        return None, _find_data(entry, settings), find_test_dev(settings.coco) if submits else None
    except DataMissingError as error:
        first, *rest = str(error).splitlines()
        return Finding(Status.NO_DATA, first, tuple(rest)), None, None


def _find_data(entry: Entry, settings: Settings) -> DataSet:
    row = next(row for row in entry.reported if "test" not in row.split)
    if (row.dataset, row.split) == ("COCO", "val2017"):
        return find_coco(settings.coco, panoptic=entry.task == "panoptic segmentation")
    if row.dataset == "shapes":
        return find_shapes(settings.output, row.split)
    raise DataMissingError(
        f"numbers are reported on {row.dataset} {row.split}, which this program does not know"
    )


def _sample(pictures: Sequence[Picture], limit: int) -> tuple[Picture, ...]:
    """All pictures, or `limit` random ones: always the same, so that models are compared on equal ones."""
    if not 0 < limit < len(pictures):
        return tuple(pictures)
    chosen = random.Random(_SEED).sample(list(pictures), limit)  # noqa: S311
    return tuple(sorted(chosen, key=lambda picture: picture.id))


@dataclass(frozen=True)
class _Predicted:
    """What one run found: the record of each picture, and what its evaluation needs to know of the model."""

    folder: Path
    records: Mapping[int, str]
    categories: Categories
    has_masks: bool


def _measure(predicted: _Predicted, data: DataSet) -> Measured:
    write_results(predicted.records, predicted.folder)
    return measure(predicted.records, predicted.folder, data, predicted.categories, masks=predicted.has_masks)


def _write_submission(entry: Entry, predicted: _Predicted) -> str:
    """Zip the results on test-dev as COCO's server takes them."""
    write_results(predicted.records, predicted.folder)
    name = f"detections_test-dev2017_{entry.name}_results"
    target = predicted.folder / f"{name}.zip"
    with staged(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(predicted.folder / "detections.json", f"{name}.json")
    return f"for COCO's server: {target}, {len(predicted.records):,} pictures"


@dataclass(frozen=True)
class _Run:
    """One model over one data set, in a folder named by its conditions."""

    entry: Entry
    weights: Path
    data: DataSet
    pictures: tuple[Picture, ...]
    tta: bool
    settings: Settings

    def predict(self, world: World, advance: Advance) -> _Predicted:
        """Detect in all pictures; complete in process 0."""
        model = self._build(world)
        folder = Path(world.broadcast(str(self._folder(model)) if world.is_main else ""))
        folder.mkdir(parents=True, exist_ok=True)  # every machine has a disk of its own
        what = f"{self.data.split}{' with TTA' if self.tta else ''}"
        records = predict_all(
            Detector(model, self.data, self.tta, folder / "panoptic"),
            self.pictures,
            folder,
            world,
            batch_size=self.settings.batch_size,
            workers=self.settings.workers,
            advance=lambda count: advance(what, count, len(self.pictures)),
        )
        return _Predicted(folder, records, model.categories, model.has_masks)

    def _build(self, world: World) -> GeneralizedRCNN:
        """The model of this process; an error in one is an error in all, which would wait for it."""
        model = problem = None
        try:
            if self.settings.model_file is not None:
                model = self._open(self.settings.model_file)
            else:
                model = resnest_zoo.get(
                    self.entry.name,
                    weights=self.weights,
                    device=world.device(self.settings.device),
                    overrides={**THRESHOLDS, **self.data.sizes},
                    optimize=self.settings.optimize,
                ).to(getattr(torch, self.settings.dtype))
            self._check_categories(model)
        except ZooError as error:
            problem = str(error)
        if problem := world.first(problem):
            raise ZooError(problem)
        assert model is not None
        return model

    def _open(self, path: Path) -> GeneralizedRCNN:
        """The exported file, whose thresholds and sizes are those of this evaluation."""
        file = open_file(path)
        own = file.description.parsed()
        rules = {**THRESHOLDS, **self.data.sizes}
        if own.override(rules) != own:
            words = " ".join(f"--set {key}={value}" for key, value in rules.items())
            raise ConfigError(f"{path}: was exported with other limits than this evaluation has: {words}")
        return file

    def _check_categories(self, model: GeneralizedRCNN) -> None:
        strange = sorted(set(model.categories.thing_ids) - self.data.category_ids)
        if strange and self.data.instances is not None:
            raise ConfigError(
                f"{self.data.instances}: lacks {len(strange)} of the {len(model.categories.things)} category "
                f"ids that {self.entry.name} detects, such as {strange[0]}; expected its own data set"
            )
        named = (model.categories.thing_ids, model.categories.things)
        stuff = (model.categories.stuff_ids[1:], model.categories.stuff[1:])
        own = dict(zip(*named, strict=True)) | dict(zip(*stuff, strict=True))
        other = sorted((k, name) for k, name in self.data.categories if own.get(k, name) != name)
        if other and self.data.instances is not None:
            rows = "; ".join(f"{k} is {name!r} there and {own[k]!r} of the model" for k, name in other[:5])
            raise ConfigError(
                f"{self.data.instances}: {len(other)} category ids have other names than those that "
                f"{self.entry.name} detects: {rows}"
            )

    def _folder(self, model: GeneralizedRCNN) -> Path:
        """The folder of this run: the latest with these conditions to resume, else a new one."""
        conditions = self._conditions(model)
        digest = sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:8]
        sample = f"-{len(self.pictures)}" if len(self.pictures) < len(self.data.pictures) else ""
        name = f"{self.data.split}{'-tta' if self.tta else ''}{sample}-{digest}"
        parent = self.settings.output / self.entry.name
        earlier = sorted(parent.glob(f"{name}-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        if self.settings.resume and earlier:
            return earlier[-1]
        number = int(earlier[-1].name.rpartition("-")[2]) + 1 if earlier else 1
        folder = parent / f"{name}-{number}"
        folder.mkdir(parents=True)
        started = datetime.now(UTC).date().isoformat()
        with staged(folder / "conditions.json") as part:
            part.write_text(json.dumps({**conditions, "started": started}, indent=1), encoding="utf-8")
        return folder

    def _conditions(self, model: GeneralizedRCNN) -> dict[str, Any]:
        """Everything that decides the numbers, down to the last digit."""
        assert model.config is not None
        device = torch.device(self.settings.device)
        ids = json.dumps([picture.id for picture in self.pictures])
        return {
            "model": self.entry.name,
            "weights": hub.read_content(self.weights).sha256,
            "config": sha256(model.config.dump().encode()).hexdigest(),
            "data": f"{self.data.name} {self.data.split}",
            "annotations": self.data.digest,
            "pictures": len(self.pictures),
            "picture_ids": sha256(ids.encode()).hexdigest(),
            "tta": self.tta,
            "thresholds": THRESHOLDS,
            "sizes": dict(self.data.sizes),
            "batch_size": self.settings.batch_size,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "dtype": self.settings.dtype,
            "versions": versions(),
            # Of the exact models as ever, lest what was measured before could not be resumed.
            **({"optimized": True, "kernels": choice.setting()} if self.settings.optimize else {}),
        }
