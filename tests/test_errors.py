from __future__ import annotations

import inspect

import pytest

from resnest_zoo import errors

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]


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
        (errors.DataError, ValueError),
        (errors.ImageError, ValueError),
        (errors.ShapeError, ValueError),
    ],
)
def test_callers_that_do_not_know_this_package_catch_the_builtin(error, builtin):
    assert issubclass(error, builtin)
