"""The fastest implementation that can is taken, or the one asked for; nothing falls back unsaid."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from resnest_zoo.errors import ConfigError, ZooError
from resnest_zoo.ops import choice


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """One operation, whose fast implementation takes even numbers and is slow for those above 10."""
    fast = SimpleNamespace(
        refuse_op=lambda n: "it is odd" if n % 2 else None,
        slow_op=lambda n: "it is large" if n > 10 else None,
    )
    broken = SimpleNamespace(available=lambda: "there is no such processor")
    exact = SimpleNamespace(refuse_op=lambda n: None)
    modules = {"broken": broken, "fast": fast, "exact": exact}
    monkeypatch.setattr(choice, "TABLE", {"op": ("broken", "fast", "exact"), "other": ("exact",)})
    monkeypatch.setattr(choice, "_NAMES", ("broken", "fast", "exact"))
    monkeypatch.setattr(choice, "load", modules.__getitem__)
    monkeypatch.setattr(choice, "_told", set())
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    choice.unavailable.cache_clear()
    choice._parse.cache_clear()
    yield
    choice.unavailable.cache_clear()
    choice._parse.cache_clear()


def chosen(*args: int, **options: str) -> str:
    module = choice.choose("op", *args, **options)
    return next(name for name in ("fast", "exact") if choice.load(name) is module)


def test_the_fastest_that_can_is_taken():
    assert [chosen(n) for n in (2, 3, 12)] == ["fast", "exact", "exact"]


def test_why_another_is_taken_is_logged_once(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        for n in (3, 5, 12, 3):
            chosen(n)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "op: not by broken: there is no such processor"),
        ("INFO", "op: not by fast: it is odd"),
        ("INFO", "op: not by fast: it is large"),
    ]


@pytest.mark.parametrize("value", ["fast", "op=fast", " op = fast , other=exact"])
def test_one_that_is_asked_for_is_taken_even_where_it_is_slow(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv(choice.VARIABLE, value)
    assert chosen(12) == "fast"


def test_the_variable_may_change_at_any_time(monkeypatch: pytest.MonkeyPatch):
    assert chosen(2) == "fast"
    monkeypatch.setenv(choice.VARIABLE, "exact")
    assert chosen(2) == "exact"
    monkeypatch.setenv(choice.VARIABLE, "other=exact")
    assert chosen(2) == "fast"


def test_one_that_is_asked_for_and_cannot_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(choice.VARIABLE, "fast")
    with pytest.raises(
        ZooError, match=r"op: fast is asked for, but cannot be used: it is odd; leave .* exact"
    ):
        chosen(3)
    with pytest.raises(ZooError, match="there is no such processor"):
        chosen(2, implementation="broken")


def test_an_argument_goes_before_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(choice.VARIABLE, "fast")
    assert chosen(3, implementation="exact") == "exact"
    with pytest.raises(ConfigError, match="op: expected one of broken, fast, exact, got 'quick'"):
        chosen(3, implementation="quick")


@pytest.mark.parametrize(
    "value", ["quick", "op", "op=quick", "op=fast,", "other=fast", "op=fast;other=exact"]
)
def test_a_wrong_value_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv(choice.VARIABLE, value)
    with pytest.raises(
        ConfigError, match=r"RESNEST_ZOO_KERNELS: expected one of broken, fast, exact, or .*got"
    ):
        chosen(2)
