"""Statuses, exit codes and the forms of a report."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from benchmarks.verify.outcome import (
    Comparison,
    Finding,
    ModelOutcome,
    Status,
    exit_code,
    junit,
    report_lines,
)

PASS, FAIL = Finding(Status.PASS), Finding(Status.FAIL, "box AP: 3 apart", ("mask AP: 2 apart",))


def outcome(*findings: Finding, name: str = "one") -> ModelOutcome:
    return ModelOutcome(name, dict(zip(("bytes", "load", "golden", "coco"), findings, strict=False)))


@pytest.mark.parametrize(
    ("statuses", "problems", "code"),
    [
        ([], [], 0),
        ([Status.PASS], [], 0),
        ([Status.PASS, Status.NOT_VERIFIABLE], [], 0),
        ([Status.PASS, Status.FAIL], [], 1),
        ([Status.PASS, Status.PARTIAL], [], 3),
        ([Status.PASS, Status.NO_WEIGHTS], [], 3),
        ([Status.PASS, Status.NO_DATA], [], 3),
        ([Status.PASS, Status.NOT_RUN], [], 3),
        ([Status.NO_DATA, Status.FAIL, Status.NOT_RUN], [], 1),
        ([Status.PASS], ["No model is called 'x'"], 1),
        ([Status.NO_DATA], ["No model is called 'x'"], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst(statuses: list[Status], problems: list[str], code: int) -> None:
    together = [outcome(*map(Finding, statuses))]
    apart = [outcome(Finding(status), name=str(status)) for status in statuses]
    assert exit_code(together, problems) == exit_code(apart, problems) == code


def test_the_report_shows_statuses_then_claims_then_what_was_said() -> None:
    claims = (
        Comparison("box AP", "COCO val2017", 42.81, 0.05, Status.PASS, 42.8249),
        Comparison("mask AP", "COCO val2017", 38.1, 0.05, Status.FAIL, 36.0, "a note"),
        Comparison("box AP", "COCO test-dev2019, TTA", 53.3, 0.05, Status.NOT_VERIFIABLE),
    )
    measured = Finding(Status.FAIL, "mask AP is apart", comparisons=claims)
    first = outcome(PASS, PASS, Finding(Status.NOT_VERIFIABLE, "nothing stored", ("a", "b")), measured)
    second = outcome(PASS, PASS, PASS, PASS, name="another_model")
    assert report_lines([first, second], ("bytes", "load", "golden", "coco")) == [
        "model          bytes  load  golden          coco",
        "one            pass   pass  not verifiable  fail",
        "another_model  pass   pass  pass            pass",
        "",
        "model  metric   on                      reported  measured  difference  tolerance  status",
        "one    box AP   COCO val2017            42.81     42.82     +0.01       0.05       pass",
        "one    mask AP  COCO val2017            38.10     36.00     -2.10       0.05       fail"
        "            a note",
        "one    box AP   COCO test-dev2019, TTA  53.30                           0.05       not verifiable",
        "",
        "one",
        "  golden: nothing stored",
        "    a",
        "    b",
        "  coco: mask AP is apart",
    ]


def test_junit_has_a_case_for_each_level_and_problem() -> None:
    skipped = Finding(Status.NO_DATA, "no pictures", ("pass --coco <DIR>",))
    text = junit([outcome(PASS, FAIL, skipped)], ["No model is called 'x' & <y>"])
    suite = ElementTree.fromstring(text)
    counts = {key: suite.get(key) for key in ("tests", "failures", "skipped")}
    assert counts == {"tests": "4", "failures": "2", "skipped": "1"}
    passed, failed, missing, problem = suite
    assert (passed.get("classname"), passed.get("name"), len(passed)) == ("one", "bytes", 0)
    assert failed[0].get("message") == "box AP: 3 apart"
    assert failed[0].text == "box AP: 3 apart\nmask AP: 2 apart"
    assert missing[0].get("message") == "data missing: no pictures\npass --coco <DIR>"
    assert problem[0].get("message") == "No model is called 'x' & <y>"


def test_the_document_holds_everything() -> None:
    comparison = Comparison("PQ", "COCO val2017", 47.9, 0.05, Status.PASS, 47.91)
    finding = Finding(Status.PASS, "5,000 pictures", ("d",), (comparison,), {"plain": {"box": {"ap": 0.5}}})
    document = json.loads(json.dumps(outcome(PASS, FAIL, PASS, finding).to_dict()))
    assert document["passed"] == ["bytes", "golden", "coco"]
    level = document["levels"]["coco"]
    assert level["status"] == "pass"
    assert level["figures"] == {"plain": {"box": {"ap": 0.5}}}
    (row,) = level["comparisons"]
    assert row["difference"] == pytest.approx(0.01)
    assert (row["metric"], row["conditions"], row["status"]) == ("PQ", "COCO val2017", "pass")


def test_what_json_cannot_say_is_null() -> None:
    figures = {"a.npz": {"boxes": float("nan"), "scores": float("inf"), "classes": 0.0}, "ranges": (1.0, 2.0)}
    document = ModelOutcome("one", {"golden": Finding(Status.FAIL, figures=figures)}).to_dict()
    shown = json.loads(json.dumps(document, allow_nan=False))["levels"]["golden"]["figures"]
    assert shown == {"a.npz": {"boxes": None, "scores": None, "classes": 0.0}, "ranges": [1.0, 2.0]}


@pytest.mark.parametrize("status", Status)
def test_a_status_reads_as_its_words(status: Status) -> None:
    assert f"{status:<20}|" == status.value.ljust(20) + "|"
    assert str(status) == status.value
