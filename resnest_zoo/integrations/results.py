"""Results of a model as Hugging Face's hub reads them: what was measured, and what somebody only reports.

The two are different types, stand in different files and are never joined: `Measured` says under which
conditions, `Reported` (of the registry) comes with a source. The hub has two formats, and both are written:
files in `.eval_results`, by huggingface_hub's own records, and the older `model-index` in the card.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from resnest_zoo.errors import ConfigError, shown
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.registry import Reported

MEASURED_FILE, REPORTED_FILE = ".eval_results/measured.yaml", ".eval_results/reported.yaml"
CONDITIONS = ("device", "dtype", "resolution", "versions")
_KNOWN_DATASETS = {"COCO": "detection-datasets/coco"}
_METRICS = {"box": ("box_ap", "box AP"), "mask": ("mask_ap", "mask AP"), "pq": ("pq", "PQ")}
_BY_EVALUATION = {"box": "bbox/AP", "mask": "segm/AP", "pq": "panoptic_seg/PQ"}


@dataclass(frozen=True)
class Measured:
    """One row of results that was measured with the very weights it stands beside.

    Attributes:
        dataset: such as "COCO".
        split: part of it, such as "val2017".
        date: of the measurement, ISO 8601, such as "2026-11-27".
        conditions: at least `device`, `dtype`, `resolution` and `versions`, as texts.
        box: box AP, averaged over IoU 0.50:0.95, in percent.
        mask: mask AP, likewise.
        pq: panoptic quality in percent.

    Raises:
        ConfigError: no number, or one that is not in 0 to 100, such as NaN; a condition is missing; the date
            is none.
    """

    dataset: str
    split: str
    date: str
    conditions: Mapping[str, str]
    box: float | None = None
    mask: float | None = None
    pq: float | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in _METRICS if getattr(self, name) is not None}
        if not given:
            raise ConfigError(f"measured results on {self.dataset}: expected a number for box, mask or pq")
        for name, value in given.items():
            object.__setattr__(self, name, _percent(f"measured results on {self.dataset}: {name}", value))
        missing = [name for name in CONDITIONS if not str(self.conditions.get(name, "")).strip()]
        if missing:
            raise ConfigError(
                f"measured results on {self.dataset}: a number carries its conditions; missing: "
                f"{', '.join(missing)}. What was only read somewhere is `Reported`"
            )
        try:
            datetime.fromisoformat(self.date)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"date: expected one such as 2026-11-27, got {shown(self.date)}") from error

    @classmethod
    def of(
        cls, model: GeneralizedRCNN, metrics: Mapping[str, float | None], dataset: str, split: str
    ) -> Measured:
        """What was just measured here with a model: the conditions are those of this process, today.

        Args:
            model: the one measured.
            metrics: as evaluation gives them, with "bbox/AP", "segm/AP" or "panoptic_seg/PQ" in percent.
            dataset: on what, such as "COCO".
            split: such as "val2017".

        Raises:
            ConfigError: none of these metrics is there, or one is NaN; the model has no config.
        """
        import torch

        from resnest_zoo import __version__

        if model.config is None:
            raise ConfigError("a model that was put together by hand does not know its resolution")
        low, high = model.config.input.min_size_test, model.config.input.max_size_test
        conditions = {
            "device": model.device.type,
            "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            "resolution": f"shorter side {low}, longer at most {high}",
            "versions": f"resnest_zoo {__version__}, torch {torch.__version__}",
        }
        numbers = {name: metrics.get(key) for name, key in _BY_EVALUATION.items()}
        return cls(dataset, split, datetime.now(UTC).date().isoformat(), conditions, **numbers)


class Row(NamedTuple):
    """One number: its metric's identifier and name, and the value in percent."""

    metric: str
    name: str
    value: float


def rows(result: Measured | Reported) -> Iterator[Row]:
    """The numbers of a result.

    Raises:
        ConfigError: one is no percentage.
    """
    for key, (metric, name) in _METRICS.items():
        value = getattr(result, key)
        if value is not None:
            yield Row(metric, name, _percent(f"results on {result.dataset}: {key}", value))


def condition_words(result: Measured | Reported) -> str:
    """Under which conditions a number holds; of a reported one, that nobody measured it again."""
    if isinstance(result, Reported):
        tta = {True: "with test-time augmentation", False: "", None: "test-time augmentation not stated"}
        return ", ".join(filter(None, ["reported by the source, not measured again", tta[result.tta]]))
    return "; ".join(["measured", *(f"{name} {value}" for name, value in result.conditions.items())])


@dataclass(frozen=True)
class Place:
    """Where results lead to.

    Attributes:
        datasets: hub identifiers by the names of data sets.
        repository_url: page of the model; "" for a folder.
        reported_source: page that reports numbers.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    repository_url: str = ""
    reported_source: str = ""

    def dataset_id(self, dataset: str) -> str | None:
        """The hub's identifier of a data set, if it has one."""
        return {**_KNOWN_DATASETS, **self.datasets}.get(dataset)

    def source(self, result: Measured | Reported) -> dict[str, str]:
        """Page and name behind a number."""
        if isinstance(result, Reported):
            return {"url": self.reported_source, "name": "Reported by its authors"}
        return {"url": self.repository_url, "name": "Measured"} if self.repository_url else {}


def eval_entries(results: Iterable[Measured | Reported], place: Place) -> list[dict[str, Any]]:
    """The rows of a file in `.eval_results`; only of data sets that have an identifier on the hub."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = []
    for result in results:
        dataset_id, source = place.dataset_id(result.dataset), place.source(result)
        if dataset_id is None:
            continue
        entries += [
            EvalResultEntry(
                dataset_id=dataset_id,
                task_id=row.metric,
                value=row.value,
                date=result.date if isinstance(result, Measured) else None,
                source_url=source.get("url"),
                source_name=source.get("name"),
                notes=f"{row.name} in percent on {result.split}; {condition_words(result)}",
            )
            for row in rows(result)
        ]
    return eval_result_entries_to_yaml(entries)


def model_index(name: str, results: Iterable[Measured | Reported], place: Place) -> list[dict[str, Any]]:
    """The older record of results, for the head of a card; each number for itself, with its own source.

    huggingface_hub's `EvalResult` would join measured and reported numbers of one data set under one source.
    """
    found = []
    for result in results:
        kind = "measured" if isinstance(result, Measured) else "reported"
        dataset_type = place.dataset_id(result.dataset) or result.dataset.lower().replace(" ", "-")
        for row in rows(result):
            args = dict(result.conditions) if isinstance(result, Measured) else {"tta": result.tta}
            metric = {"type": row.metric, "name": f"{row.name} ({kind})", "value": row.value, "args": args}
            record: dict[str, Any] = {
                "task": {"type": "object-detection" if row.metric == "box_ap" else "image-segmentation"},
                "dataset": {"type": dataset_type, "name": result.dataset, "split": result.split},
                "metrics": [metric],
            }
            if source := place.source(result):
                record["source"] = source
            found.append(record)
    return [{"name": name, "results": found}] if found else []


def _percent(what: str, value: object) -> float:
    """A number as a plain float: numpy's would be written as Python objects, and NaN as a result."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: expected percent, got {shown(value)}") from error
    if not (math.isfinite(number) and 0 <= number <= 100):
        raise ConfigError(f"{what}: expected percent from 0 to 100, got {number}")
    return number
