"""The keys of a config seen flat, and the conversion of what a user wrote into typed values.

A flat config maps full keys ("MODEL.RPN.NMS_THRESH") to values: files and overrides merge as plain
dictionaries. A *hint* is the annotation of a dataclass field; it decides how a value is read, whether it
is accepted, and what the message says was expected. This file knows no particular key: see `schema`.
"""

from __future__ import annotations

import ast
import difflib
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import cached_property
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import yaml

from resnest_zoo.errors import ConfigError, cut, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Section = TypeVar("Section", bound=DataclassInstance)

logger = logging.getLogger(__name__)

# PyYAML lets the built-in ones escape when an explicit tag does not fit, as in `!!bool maybe`.
YAML_ERRORS = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
)

_NAMES = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}


@dataclass(frozen=True)
class Bounds:
    """The range of a number, both ends included."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        return f"of at least {self.low}" if self.high == math.inf else f"from {self.low} to {self.high}"


@dataclass(frozen=True)
class KeySet:
    """All keys a config may hold.

    Attributes:
        typed: hint of each key that has a field.
        fixed: hint of each key that has no field because one value only is supported.
        ignored: keys, or sections, whose values have no effect.
    """

    typed: dict[str, Any]
    fixed: dict[str, Any]
    ignored: frozenset[str]

    def accept_tree(self, tree: Mapping[Any, object], source: str, prefix: str = "") -> dict[str, Any]:
        """Read nested sections, as a YAML file holds them, into a flat config.

        Args:
            tree: sections and keys in upper case.
            source: the file, for messages.
            prefix: full key of the section `tree`, with a trailing dot.

        Raises:
            ConfigError: an unknown key, or a value of the wrong type or range.
        """
        flat: dict[str, Any] = {}
        for name, value in tree.items():
            key = f"{prefix}{name}"
            if key not in self._sections:
                flat.update(self._accept(key, value, source))
            elif isinstance(value, Mapping):
                flat.update(self.accept_tree(value, source, f"{key}."))
            else:
                raise ConfigError(
                    f"{source}: {key}: expected a section with keys below it, got {shown(value)}"
                )
        return flat

    def accept_options(self, opts: Sequence[str] | Mapping[str, object]) -> dict[str, Any]:
        """Read overrides into a flat config; see `Config.override`."""
        source = "overrides"
        if not isinstance(opts, Mapping):
            if not isinstance(opts, (list, tuple)) or len(opts) % 2:
                raise ConfigError(
                    f"{source}: expected pairs KEY VALUE in a list, or a mapping, got {shown(opts)}"
                )
            opts = dict(zip(opts[::2], opts[1::2], strict=True))
        flat: dict[str, Any] = {}
        for name, value in opts.items():
            key = str(name)
            if self._is_ignored(key):
                logger.warning("%s: %s has no effect in this package", source, key)
            flat.update(self._accept(key, value, source))
        return flat

    def _accept(self, key: str, value: object, source: str) -> dict[str, Any]:
        """The flat config of one key: empty where the key has no field."""
        if self._is_ignored(key):
            return {}
        hint = self.typed.get(key, self.fixed.get(key))
        if key in self._sections:
            example = next(name for name in self.typed if name.startswith(f"{key}."))
            raise ConfigError(f"{source}: {key} is a section: name one of its keys, such as {example}")
        if hint is None:
            raise ConfigError(f"{source}: unknown key {cut(key)}{self._nearest(key)}")
        try:
            typed = convert(value, hint)
        except (TypeError, ValueError):
            only = "; this package builds no other variant" if key in self.fixed else ""
            raise ConfigError(
                f"{source}: {key}: expected {describe(hint)}, got {shown(value)}{only}"
            ) from None
        return {key: typed} if key in self.typed else {}

    @cached_property
    def _sections(self) -> frozenset[str]:
        paths = [key.split(".") for key in self.typed]
        return frozenset(".".join(path[:depth]) for path in paths for depth in range(1, len(path)))

    def _is_ignored(self, key: str) -> bool:
        return any(key == name or key.startswith(f"{name}.") for name in self.ignored)

    def _nearest(self, key: str) -> str:
        known = [*self.typed, *self.fixed, *sorted(self._sections)]
        close = difflib.get_close_matches(key.upper(), known, n=1)
        return f"; the nearest known key is {close[0]}" if close else ""


def convert(value: object, hint: Any) -> Any:
    """Read a value as its hint says.

    Lists and tuples are interchangeable, an integer serves as a float, a bool as neither. Text where no
    text is expected is a literal: detectron2 writes tuples as "(640, 800)", and YAML 1.1 reads 1e-4 as text.

    Raises:
        TypeError: the value is of another type.
        ValueError: it is of the right type and not allowed.
    """
    if isinstance(value, str) and not _is_text(hint):
        value = _read_literal(value)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        number, bounds = convert(value, args[0]), args[1]
        if not bounds.low <= number <= bounds.high:
            raise ValueError(number)
        return number
    if origin is Literal:
        return _convert_choice(value, args)
    if origin is tuple:
        return _convert_tuple(value, args)
    if origin in (Union, UnionType):  # X | None
        return None if value is None else convert(value, args[0])
    return _convert_scalar(value, hint)


def _convert_choice(value: object, choices: tuple[Any, ...]) -> object:
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ValueError(value)
    return value


def _convert_tuple(value: object, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(value)
    if args[-1] is Ellipsis:
        args = (args[0],) * len(value)
    return tuple(convert(item, hint) for item, hint in zip(value, args, strict=True))


def _convert_scalar(value: object, hint: type) -> object:
    if hint is float and type(value) is int:
        value = float(value) if abs(value) < 2**53 else math.inf
    if type(value) is not hint:
        raise TypeError(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    return value


def _is_text(hint: Any) -> bool:
    return hint is str or (get_origin(hint) is Literal and isinstance(get_args(hint)[0], str))


def _read_literal(text: str) -> object:
    """A Python literal, else a YAML one (`true`, `[a, b]`), else the text itself."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    try:
        return yaml.safe_load(text)
    except YAML_ERRORS:
        return text


def describe(hint: Any) -> str:
    """What a hint accepts, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{describe(args[0])} {args[1]}"
    if origin is Literal:
        return " or ".join(repr(choice) for choice in args)
    if origin is tuple and args[-1] is Ellipsis:
        return f"a list, each item {describe(args[0])}"
    if origin is tuple:
        return f"a list of length {len(args)}, each item {describe(args[0])}"
    if origin in (Union, UnionType):
        return f"{describe(args[0])} or None"
    return _NAMES[hint]


def _is_section(value: Any) -> bool:
    return is_dataclass(value)


def leaf_hints(section: Any, prefix: str = "") -> dict[str, Any]:
    """Hint of every key below a section's class, by full key."""
    flat: dict[str, Any] = {}
    for name, hint in get_type_hints(section, include_extras=True).items():
        key = f"{prefix}{name.upper()}"
        flat.update(leaf_hints(hint, f"{key}.") if _is_section(hint) else {key: hint})
    return flat


def apply(section: Section, flat: Mapping[str, Any], prefix: str = "") -> Section:
    """A copy of a section with the values of a flat config."""
    changes: dict[str, Any] = {}
    for name, value in vars(section).items():
        key = f"{prefix}{name.upper()}"
        if _is_section(value):
            changes[name] = apply(value, flat, f"{key}.")
        elif key in flat:
            changes[name] = flat[key]
    return replace(section, **changes)


def without_defaults(section: Any, names: Collection[str], prefix: str = "") -> dict[str, Any]:
    """`to_tree` of a section, without those keys among `names` that have their default."""
    tree: dict[str, Any] = {}
    for name, value in vars(section).items():
        key = f"{prefix}{name.upper()}"
        if _is_section(value):
            tree[name.upper()] = without_defaults(value, names, f"{key}.")
        elif key not in names or value != getattr(type(section), name):
            tree[name.upper()] = to_tree(value)
    return tree


def to_tree(value: Any) -> Any:
    """A section as nested plain data under upper-case names; sequences become lists."""
    if isinstance(value, tuple):
        return [to_tree(item) for item in value]
    if _is_section(value):
        return {name.upper(): to_tree(item) for name, item in vars(value).items()}
    return value
