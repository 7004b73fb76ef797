"""What a check found: for one level of one model, and for all of them; as text, JSON and JUnit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree

LEVELS = ("bytes", "load", "golden", "coco")


class Status(StrEnum):
    """How a level ended."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    PARTIAL = "partial"  # measured on other pictures or on some of them: a figure, no verdict
    NO_WEIGHTS = "weights unavailable"
    NO_DATA = "data missing"
    NOT_VERIFIABLE = "not verifiable"  # nobody could check this here
    NOT_RUN = "not run"

    def __str__(self) -> str:
        return self.value


# What leaves a run incomplete without anything being wrong.
_INCOMPLETE = (Status.NO_WEIGHTS, Status.NO_DATA, Status.NOT_RUN, Status.PARTIAL)


@dataclass(frozen=True)
class Comparison:
    """One reported number and what was measured of it, in percent.

    Attributes:
        metric: "box AP", "mask AP" or "PQ".
        conditions: of the claim, such as "COCO val2017, TTA".
        reported: the claim.
        tolerance: the largest difference that passes.
        status: pass, fail, or why there is no verdict.
        measured: None where nothing was measured.
        note: what to know beside the numbers.
    """

    metric: str
    conditions: str
    reported: float
    tolerance: float
    status: Status
    measured: float | None = None
    note: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus reported."""
        return None if self.measured is None else self.measured - self.reported

    def cells(self) -> tuple[str, ...]:
        """Metric, conditions, reported, measured, difference, tolerance, status and note."""
        measured = "" if self.measured is None else f"{self.measured:.2f}"
        difference = "" if self.difference is None else f"{self.difference:+.2f}"
        numbers = (f"{self.reported:.2f}", measured, difference, f"{self.tolerance:.2f}")
        return (self.metric, self.conditions, *numbers, str(self.status), self.note)


@dataclass(frozen=True)
class Finding:
    """How one level of one model ended.

    Attributes:
        status: the verdict.
        summary: one line.
        details: further lines: every difference, or what is missing and how to get it.
        comparisons: claims beside measurements.
        figures: everything measured, for the JSON.
    """

    status: Status
    summary: str = ""
    details: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class ModelOutcome:
    """All levels of one model."""

    name: str
    findings: dict[str, Finding] = field(default_factory=dict)

    @property
    def passed(self) -> list[str]:
        """The levels passed, lowest first."""
        return [level for level, finding in self.findings.items() if finding.status is Status.PASS]

    def to_dict(self) -> dict[str, Any]:
        levels = {}
        for level, finding in self.findings.items():
            comparisons = [
                {**vars(c), "status": str(c.status), "difference": c.difference} for c in finding.comparisons
            ]
            levels[level] = {
                "status": str(finding.status),
                "summary": finding.summary,
                "details": list(finding.details),
                "comparisons": comparisons,
                "figures": _finite(finding.figures),
            }
        return {"name": self.name, "passed": self.passed, "levels": levels}


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def exit_code(outcomes: Iterable[ModelOutcome], problems: Sequence[str] = ()) -> int:
    """0 everything that can be verified passed, 1 something failed, 3 something could not be checked."""
    statuses = {finding.status for outcome in outcomes for finding in outcome.findings.values()}
    if problems or Status.FAIL in statuses:
        return 1
    return 3 if statuses.intersection(_INCOMPLETE) else 0


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a plain table."""
    table = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


def report_lines(outcomes: Sequence[ModelOutcome], levels: Sequence[str]) -> list[str]:
    """The whole report: statuses, claims beside measurements, then what each level had to say."""
    rows = [[o.name, *(str(o.findings[level].status) for level in levels)] for o in outcomes]
    lines = aligned(["model", *levels], rows)
    claims = [
        [o.name, *c.cells()] for o in outcomes for finding in o.findings.values() for c in finding.comparisons
    ]
    if claims:
        header = ["model", "metric", "on", "reported", "measured", "difference", "tolerance", "status", ""]
        lines += ["", *aligned(header, claims)]
    for outcome in outcomes:
        said = [
            line
            for level, finding in outcome.findings.items()
            if finding.status is not Status.PASS
            for line in (f"  {level}: {finding.summary}", *(f"    {detail}" for detail in finding.details))
        ]
        lines += ["", outcome.name, *said] if said else []
    return lines


def junit(outcomes: Sequence[ModelOutcome], problems: Sequence[str] = ()) -> str:
    """The findings as JUnit XML: a test case for each level of each model."""
    suite = ElementTree.Element("testsuite", name="benchmarks.verify")
    for outcome in outcomes:
        for level, finding in outcome.findings.items():
            case = ElementTree.SubElement(suite, "testcase", classname=outcome.name, name=level)
            text = "\n".join((finding.summary, *finding.details))
            if finding.status is Status.FAIL:
                ElementTree.SubElement(case, "failure", message=finding.summary).text = text
            elif finding.status is not Status.PASS:
                ElementTree.SubElement(case, "skipped", message=f"{finding.status}: {text}")
    for problem in problems:
        case = ElementTree.SubElement(suite, "testcase", classname="verify", name="selection")
        ElementTree.SubElement(case, "failure", message=problem)
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for kind, attribute in (("failure", "failures"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(kind) is not None for case in cases)))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
