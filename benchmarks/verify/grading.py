"""The fourth level: metrics on the pictures of a data set, beside what was reported.

The evaluation owns its thresholds: detections score above 0.05, a picture has at most 100 of them, and COCO's
pictures enter the model at 800 / 1333 pixels. They are set here, whatever a config says.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.verify.datasets import DataSet
from benchmarks.verify.outcome import Comparison, Finding, Status
from resnest_zoo.categories import Categories
from resnest_zoo.evaluation.coco_json import load_truth
from resnest_zoo.evaluation.detection import DetectionMetrics, evaluate_detections, expected_range
from resnest_zoo.evaluation.panoptic import PanopticMetrics, panoptic_quality
from resnest_zoo.evaluation.semantic import SemanticMetrics, semantic_metrics
from resnest_zoo.hub.staging import staged
from resnest_zoo.registry import Reported

THRESHOLDS = {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05, "TEST.DETECTIONS_PER_IMAGE": 100}

# Percent, for claims of two decimals; the same weights, pictures and rules on another machine and another
# version of PyTorch leave rounding, which moves AP by some hundredths.
TOLERANCE = 0.05

_DRAWS, _LEVEL = 200, 0.95  # of the expected range


@dataclass(frozen=True)
class Measured:
    """All metrics of one run over a data set.

    Attributes:
        box: box AP.
        mask: mask AP; None for models without masks.
        panoptic: None without a panoptic map.
        semantic: likewise.
        ranges: for a sample of the pictures, the low and high end in percent of "box AP", "mask AP", "PQ".
    """

    box: DetectionMetrics
    mask: DetectionMetrics | None = None
    panoptic: PanopticMetrics | None = None
    semantic: SemanticMetrics | None = None
    ranges: Mapping[str, tuple[float, float]] | None = None

    def percent(self, metric: str) -> float | None:
        """ "box AP", "mask AP" or "PQ", or None if it was not measured."""
        if metric == "PQ":
            return None if self.panoptic is None else 100 * self.panoptic.all.pq
        part = self.box if metric == "box AP" else self.mask
        return None if part is None or part.ap is None else 100 * part.ap

    def figures(self) -> dict[str, Any]:
        """Everything as plain data, fractions."""
        parts = {"box": self.box, "mask": self.mask, "panoptic": self.panoptic, "semantic": self.semantic}
        figures = {name: _plain(part) for name, part in parts.items() if part is not None}
        return {**figures, "ranges": dict(self.ranges)} if self.ranges else figures


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def write_results(records: Mapping[int, str], folder: Path) -> None:
    """Write COCO's result files, `detections.json` and, for panoptic models, `panoptic.json`."""
    parsed = (json.loads(line) for line in records.values())
    segments = []
    with staged(folder / "detections.json") as part, part.open("w", encoding="utf-8") as file:
        file.write("[")
        comma = ""
        for record in parsed:  # one picture after the other, since all rows of COCO take gigabytes
            for row in record["detections"]:
                file.write(comma + json.dumps(row, separators=(",", ":")))
                comma = ",\n"
            if "panoptic" in record:
                segments.append(record["panoptic"])
        file.write("]\n")
    if segments:
        with staged(folder / "panoptic.json") as part:
            part.write_text(json.dumps({"annotations": segments}), encoding="utf-8")


def measure(
    records: Mapping[int, str], folder: Path, data: DataSet, categories: Categories, *, masks: bool
) -> Measured:
    """Evaluate the results that `write_results` wrote for these records."""
    assert data.instances is not None
    rows, image_ids = json.loads((folder / "detections.json").read_bytes()), list(records)
    truth = load_truth(data.instances)
    box = evaluate_detections(truth, rows, "bbox", image_ids=image_ids)
    mask = evaluate_detections(truth, rows, "segm", image_ids=image_ids) if masks else None
    measured = Measured(box, mask)
    parts = [json.loads(line) for line in records.values() if '"matches":' in line]
    matches = [part["matches"] for part in parts]
    if parts:
        confusion = [part["confusion"] for part in parts]
        panoptic = panoptic_quality(matches, categories)
        measured = Measured(box, mask, panoptic, semantic_metrics(confusion, categories))
    if len(records) == len(data.pictures):
        return measured
    ranges: dict[str, tuple[float, float]] = {}
    if len(records) == 1:
        return replace(measured, ranges=ranges)  # one picture says nothing of how much others vary
    for metric, kind in (("box AP", "bbox"), ("mask AP", "segm")):
        if measured.percent(metric) is not None:
            low, high = expected_range(
                truth, rows, kind, image_ids, draws=_DRAWS, population=len(data.pictures), level=_LEVEL
            )
            ranges[metric] = (100 * low, 100 * high)
    if parts:
        ranges["PQ"] = _range_of(
            lambda sample: panoptic_quality(sample, categories).all.pq, matches, len(data.pictures)
        )
    return replace(measured, ranges=ranges)


def _range_of(
    metric: Callable[[Iterable[Any]], float], records: list[Any], population: int
) -> tuple[float, float]:
    """How far a metric of as many random pictures strays, in percent: bootstrap over the pictures."""
    rng = random.Random(0)  # noqa: S311
    centre = metric(records)
    spread = (1 - len(records) / population) ** 0.5
    draws = sorted(
        metric([{**record, "image_id": i} for i, record in enumerate(rng.choices(records, k=len(records)))])
        for _ in range(_DRAWS)
    )
    cut = round(_DRAWS * (1 - _LEVEL) / 2)
    low, high = draws[cut], draws[-1 - cut]
    return 100 * (centre + spread * (low - centre)), 100 * (centre + spread * (high - centre))


def compare(
    reported: Iterable[Reported], measured: Mapping[bool, Measured], data: DataSet, pictures: int
) -> Finding:
    """Put claims beside measurements.

    Args:
        reported: the rows of an entry.
        measured: without and with test-time augmentation, as far as each was run.
        data: what was measured on.
        pictures: how many of its pictures.
    """
    comparisons: list[Comparison] = []
    for row in reported:
        if (row.dataset, row.split) != (data.name, data.split):
            comparisons += _unverifiable(row)
        elif row.tta is None:
            comparisons += _either(row, measured, data, pictures)
        else:
            comparisons += _grade(_claims(row), row.tta, measured[row.tta], data, pictures, _tolerance(row))
    statuses = [comparison.status for comparison in comparisons]
    order = (Status.FAIL, Status.PARTIAL, Status.PASS, Status.NOT_VERIFIABLE)
    status = next((status for status in order if status in statuses), Status.NOT_VERIFIABLE)
    apart = [_complaint(c) for c in comparisons if c.status is Status.FAIL]
    summary = apart[0] if apart else (data.deviation or f"{pictures:,} pictures")
    figures = {("with TTA" if tta else "plain"): m.figures() for tta, m in measured.items()}
    return Finding(status, summary, tuple(apart[1:]), tuple(comparisons), figures)


def _complaint(c: Comparison) -> str:
    where = f"{c.metric} on {c.conditions}"
    if c.measured is None or c.difference is None:
        return f"{where}: {c.note}"
    return (
        f"{where}: measured {c.measured:.2f}, reported {c.reported:.2f}, "
        f"{abs(c.difference):.2f} apart, tolerance {c.tolerance:.2f}"
    )


def _claims(row: Reported) -> dict[str, float]:
    claims = {"box AP": row.box, "mask AP": row.mask, "PQ": row.pq}
    return {metric: value for metric, value in claims.items() if value is not None}


def _tolerance(row: Reported) -> float:
    """`TOLERANCE`, and what rounding to fewer than two decimals may have moved a claim."""
    return TOLERANCE + max(0.0, 0.5 * 10.0**-row.decimals - 0.005)


def _unverifiable(row: Reported) -> list[Comparison]:
    """Claims on another data set than the one at hand: of COCO's test sets only the server has the truth."""
    where = f"{row.dataset} {row.split}{', TTA' if row.tta else ''}"
    note = "no public labels; --submission writes what the server takes" if "test" in row.split else ""
    return [
        Comparison(metric, where, claim, _tolerance(row), Status.NOT_VERIFIABLE, note=note)
        for metric, claim in _claims(row).items()
    ]


def _grade(
    claims: Mapping[str, float],
    tta: bool,
    measured: Measured,
    data: DataSet,
    pictures: int,
    tolerance: float,
) -> list[Comparison]:
    graded = []
    where = f"{data.name} {data.split}{', TTA' if tta else ''}"
    outputs = {"box AP": measured.box, "mask AP": measured.mask, "PQ": measured.panoptic}
    for metric, claim in claims.items():
        value = measured.percent(metric)
        status, note = Status.FAIL, ""
        if outputs[metric] is None:
            note = "the model has no such output"
        elif value is None:
            status, note = Status.PARTIAL, "these pictures have no object that counts"
        elif measured.ranges is not None:
            status, note = Status.PARTIAL, f"{pictures:,} of {len(data.pictures):,} pictures"
            if metric in measured.ranges:
                low, high = measured.ranges[metric]
                note += f"; over all of them {low:.2f} to {high:.2f} ({_LEVEL:.0%})"
        elif data.deviation:
            status, note = Status.PARTIAL, data.deviation
        elif abs(value - claim) <= tolerance:
            status = Status.PASS
        graded.append(Comparison(metric, where, claim, tolerance, status, value, note))
    return graded


def _either(
    row: Reported, measured: Mapping[bool, Measured], data: DataSet, pictures: int
) -> list[Comparison]:
    """A row that does not say whether boxes and masks were augmented: both are shown, one must agree."""
    claims = _claims(row)
    plain = _grade(claims, False, measured[False], data, pictures, _tolerance(row))
    augmented = {metric: claim for metric, claim in claims.items() if metric != "PQ"}
    with_tta = _grade(augmented, True, measured[True], data, pictures, _tolerance(row))
    of_plain = [c for c in plain if c.metric != "PQ"]
    for one, other in ((of_plain, with_tta), (with_tta, of_plain)):
        if all(c.status is Status.PASS for c in one) and any(c.status is Status.FAIL for c in other):
            note = "the page does not say which; the other one agrees"
            excused = {id(c) for c in other}
            return [
                replace(c, status=Status.NOT_VERIFIABLE, note=note) if id(c) in excused else c
                for c in (*plain, *with_tta)
            ]
    return [*plain, *with_tta]
