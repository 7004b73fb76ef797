"""Small damage to the files that users hand in: seeded, so that a failure is found again, and bounded.

A tree is what JSON or YAML holds. Damage to a tree replaces, removes, repeats or renames one part of it;
damage to bytes cuts, changes or inserts some.
"""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resnest_zoo.errors import ZooError

_LONGEST_MESSAGE = 5000

# What may stand where something else is expected.
_STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 0.5, -0.0, 1e300, math.nan, math.inf, -math.inf, 2**31, 2**53, 2**63,
    2**64, 10**400, "", " ", "1", "nan", "x" * 10_000, "../up", "/", "~", "~nobody/x", "a\0b", "\n", "\ud800",
    [], [[]], [None], [0], {}, {"": 0}, [[[[[]]]]], list(range(1000)),
)  # fmt: skip
_NAMES = ("", "id", "x" * 1000, "\0", "../..", "__class__")


def mutated_trees(tree: Any, count: int, seed: int = 0) -> Iterator[Any]:
    """The tree, then copies, each with one or two parts damaged."""
    rng = random.Random(seed)
    yield copy.deepcopy(tree)
    for _ in range(count):
        holder = [copy.deepcopy(tree)]  # so that the root has a parent too
        for _ in range(rng.choice((1, 1, 1, 2))):
            _damage(holder, rng)
        yield holder[0] if holder else None


def mutated_json(tree: Any, count: int, seed: int = 0, depth: int = 20_000) -> Iterator[bytes]:
    """A file of JSON, then damaged ones; every fourth has damaged bytes."""
    whole = json.dumps(tree).encode()
    trees = mutated_trees(tree, count - count // 4, seed)
    yield from (json.dumps(damaged).encode() for damaged in trees)
    yield from mutated_bytes(whole, count // 4, seed)
    yield from (b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth)
    yield from (b"1" * 5000, b"null", b"\xff\xfe[\0]\0")


def mutated_bytes(whole: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """The file, then copies, each cut, or with a few bytes changed, left out, repeated or inserted."""
    rng = random.Random(seed)
    yield whole
    yield from (b"", b"\0" * len(whole[:4096]), whole[:1], b"\xef\xbb\xbf" + whole, whole + b"\0", whole * 2)
    for _ in range(count):
        start = rng.randrange(len(whole))
        stop = min(len(whole), start + rng.choice((1, 1, 2, 8, 64)))
        noise = bytes(rng.randrange(256) for _ in range(stop - start))
        new = rng.choice((noise, b"", whole[start:stop] * 2, b"\0" * (stop - start), b"-", b"9", None))
        yield whole[:start] if new is None else whole[:start] + new + whole[stop:]


def check_each(cases: Iterator[Any], use: Callable[[Any], object]) -> None:
    """Let `use` take each case: the first, which is whole, and any other or none.

    Others may end in a `ZooError` whose message can be read. Who works on a failure gets the case's number,
    what it looked like and the exception.
    """
    use(next(cases))
    refused = 0
    for number, case in enumerate(cases, start=1):
        try:
            use(case)
        except ZooError as error:
            refused += 1
            if len(str(error)) > _LONGEST_MESSAGE:
                pytest.fail(f"case {number}: a message of {len(str(error))} letters: {str(error)[:300]}")
        except Exception as error:
            pytest.fail(f"case {number}, {case!r:.600}: {type(error).__name__}: {str(error)[:300]}")
    assert refused, "no damage was seen"


def _damage(holder: list[Any], rng: random.Random) -> None:
    parent, key = rng.choice(list(_places(holder)))
    value = parent[key]
    kind = rng.choice(("replace", "replace", "replace", "remove", "repeat", "rename", "wrap"))
    if kind == "remove":
        del parent[key]
    elif kind == "repeat" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(value))
    elif kind == "rename" and isinstance(parent, dict):
        parent[rng.choice(_NAMES)] = parent.pop(key)
    elif kind == "wrap":
        parent[key] = rng.choice(([value], {"a": value}, str(value), [value, value]))
    else:
        parent[key] = copy.deepcopy(rng.choice(_STRANGE))


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key of it."""
    items = list(enumerate(node)) if isinstance(node, list) else list(node.items())
    for key, value in items:
        yield node, key
        if isinstance(value, (list, dict)) and value:
            yield from _places(value)
