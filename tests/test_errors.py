from __future__ import annotations

import inspect

import pytest

from resnest_zoo import errors

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_a_zoo_error_and_stands_in_the_tree(error):
    assert issubclass(error, errors.ZooError)
    assert error.__doc__
    assert error.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.UnknownModelError, LookupError),
        (errors.RegistryError, ValueError),
        (errors.ConfigError, ValueError),
        (errors.DownloadError, OSError),
        (errors.IntegrityError, errors.DownloadError),
        (errors.CheckpointError, ValueError),
        (errors.ExportError, ValueError),
        (errors.DataError, ValueError),
        (errors.ImageError, ValueError),
        (errors.ShapeError, ValueError),
        (errors.SelectionError, IndexError),
        (errors.NonFiniteError, ArithmeticError),
        (errors.WorkerError, RuntimeError),
    ],
)
def test_callers_that_do_not_know_this_package_catch_the_builtin(error, builtin):
    assert issubclass(error, builtin)


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, ["x" * 10**6] * 100, {"x" * 10**6: 1}, 16**5000, [16**5000], b"x" * 10**6, nested(10**5)],
    ids=["text", "texts", "key", "number", "numbers", "bytes", "nested"],
)
def test_what_a_user_wrote_is_quoted_on_one_line_of_a_sensible_length(value):
    for quoted in (errors.shown(value), errors.some([value, value])):
        assert 0 < len(quoted) < 500
        assert "\n" not in quoted


def test_the_first_few_of_many_are_quoted_and_the_others_counted():
    assert errors.some(["a", 1, None]) == "a, 1, None"
    assert errors.some(range(8)) == "0, 1, 2, 3, 4 and 3 more"
    assert errors.shown("it's\nhere") == repr("it's\nhere")
