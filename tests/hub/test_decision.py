"""The whole table: every combination of what can lie on the disk and what is allowed."""

from __future__ import annotations

from itertools import product

import pytest

from resnest_zoo.hub.decision import Action, DiskState, decide

MISSING = "it does not exist"
USE, ADOPT, RESUME, DOWNLOAD, REFUSE = (
    Action.USE,
    Action.ADOPT,
    Action.RESUME,
    Action.DOWNLOAD,
    Action.REFUSE,
)


@pytest.mark.parametrize(
    ("fault", "writable", "copies", "sources", "partial", "action"),
    [
        (None, True, 0, 0, 0, USE),
        (None, True, 1, 2, 9, USE),
        (None, False, 0, 0, 0, USE),
        (None, False, 1, 2, 9, USE),
        (MISSING, False, 0, 0, 0, REFUSE),
        (MISSING, False, 0, 2, 0, REFUSE),
        (MISSING, False, 1, 2, 9, REFUSE),
        (MISSING, True, 1, 0, 0, ADOPT),
        (MISSING, True, 1, 2, 0, ADOPT),
        (MISSING, True, 1, 2, 9, ADOPT),
        (MISSING, True, 0, 0, 0, REFUSE),
        (MISSING, True, 0, 0, 9, REFUSE),
        (MISSING, True, 0, 1, 0, DOWNLOAD),
        (MISSING, True, 0, 1, 9, RESUME),
    ],
)
def test_the_table(
    fault: str | None, writable: bool, copies: int, sources: int, partial: int, action: Action
) -> None:
    for offline in (False, True):
        for reason in [fault] if fault is None else [MISSING, "expected SHA-256 0…, got 1"]:
            state = DiskState(reason, copies, partial, writable, sources, offline)
            assert decide(state).action is action
            assert bool(decide(state).reason) is (action is REFUSE)


def test_a_faulty_file_is_never_used_and_nothing_is_written_into_a_read_only_cache() -> None:
    for fault, copies, partial, writable, sources, offline in product(
        (None, MISSING), (0, 1), (0, 9), (False, True), (0, 1), (False, True)
    ):
        action = decide(DiskState(fault, copies, partial, writable, sources, offline)).action
        assert (action is USE) is (fault is None)
        if not writable:
            assert action in (USE, REFUSE)
        if not sources:
            assert action not in (RESUME, DOWNLOAD)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (DiskState(MISSING, writable=False), f"the cache cannot be written, .*: {MISSING}"),
        (DiskState(MISSING, sources=0, offline=True), "RESNEST_ZOO_OFFLINE.*no request was made"),
        (DiskState(MISSING, sources=0), "no address and no mirror"),
    ],
)
def test_a_refusal_says_why(state: DiskState, reason: str) -> None:
    import re

    assert re.search(reason, decide(state).reason)
